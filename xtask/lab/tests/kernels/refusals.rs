//! Refusals provoked for real: `waggle-agent check` names the reason, and the files are read instead.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use waggle_lab::{
    control::{Rights, Work},
    layout::Layout,
    matrix::{ROWS, Row},
    vm::Vm,
};

use crate::{
    machines::{Kind, Machines},
    pods::{run, start},
};

/// The kernel of these tests.
const LINE: &str = "6.12";
const MINUTE: Duration = Duration::from_mins(1);
const BTF: &str = "/sys/kernel/btf";

/// One test for each refusal.
pub fn trials(machines: &Arc<Machines>) -> Vec<Trial> {
    let Some(row) = ROWS.iter().find(|row| row.line == LINE) else { return Vec::new() };
    let usual = Kind { row, options: "" };
    let locked = Kind { row, options: "lockdown=confidentiality" };
    vec![
        machines.trial("refusals::no_btf".to_owned(), usual, no_btf),
        machines.trial("refusals::no_capability".to_owned(), usual, |vm, row| async move {
            names(&vm, row, Rights::NoCapabilities, &["map-refused", "load-refused", "no-capability"]).await
        }),
        machines.trial("refusals::seccomp".to_owned(), usual, |vm, row| async move {
            names(&vm, row, Rights::NoBpf, &["map-refused", "load-refused", "seccomp"]).await
        }),
        machines.trial("refusals::lockdown".to_owned(), locked, |vm, row| async move {
            let mode = vm.node.read("/sys/kernel/security/lockdown").await?;
            ensure!(mode.contains("[confidentiality]"), "the kernel is not locked down: {mode}");
            names(&vm, row, Rights::Agent, &["lockdown"]).await
        }),
    ]
}

/// An empty directory over the kernel's type information.
async fn no_btf(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let shell = |argv: &'static [&'static str]| {
        let vm = Arc::clone(&vm);
        async move {
            let (status, output) = run(&vm, Rights::Root, argv, MINUTE).await?;
            ensure!(status == 0, "{argv:?} ended with {status}: {output}");
            Ok(())
        }
    };
    shell(&["/bin/busybox", "mount", "-t", "tmpfs", "none", BTF]).await?;
    let outcome = names(&vm, row, Rights::Agent, &["no-btf"]).await;
    shell(&["/bin/busybox", "umount", BTF]).await?;
    outcome
}

/// `check` reads the files, and names one of these reasons and a remedy in one line.
async fn names(vm: &Vm, row: &Row, rights: Rights, reasons: &[&str]) -> Result<()> {
    let layout: Layout = row.layout.parse().map_err(anyhow::Error::msg)?;
    start(vm, layout, &[[Work::Hold(4), Work::Sleep]]).await?;
    let (status, output) = run(vm, rights, &["/bin/waggle-agent", "check"], MINUTE * 3).await?;
    println!("{output}");
    ensure!(status == 0, "check ended with {status}: {output}");
    ensure!(
        output.lines().any(|line| line.starts_with("collector") && line.ends_with(" cgroupfs")),
        "{output}"
    );
    let lines: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("not bpf")).collect();
    let [line] = lines.as_slice() else { anyhow::bail!("not one refusal: {output}") };
    let found = reasons.iter().find(|reason| line.trim_start().starts_with(&format!("{reason}: ")));
    ensure!(found.is_some(), "none of {reasons:?}: {line}");
    Ok(())
}
