//! A machine to look around in: the scenario's pods run, and the terminal is a shell on its console.

use anyhow::Result;

use crate::{
    cluster::{start_container, start_sandbox},
    layout::Layout,
    paths::Paths,
    scenario,
    vm::{Boot, Vm},
};

/// Boots, starts the pods and stays until the machine is switched off.
pub async fn run(paths: &Paths, kernel: String, layout: Layout) -> Result<()> {
    println!("Ctrl-A X ends the machine; its cgroups are below /sys/fs/cgroup/{}", layout.kubepods());
    let agent = std::fs::read(paths.program("waggle-agent"))?;
    let files = vec![("bin/waggle-agent".to_owned(), 0o755, agent)];
    let boot = Boot { label: "shell".to_owned(), kernel, files, shell: true, ..Boot::default() };
    let mut machine = Vm::boot(paths, boot).await?;
    for pod in scenario::first_pods() {
        start_sandbox(&machine.node, layout, &pod).await?;
        for container in &pod.containers {
            start_container(&machine.node, layout, &pod, container).await?;
        }
    }
    machine.wait().await
}
