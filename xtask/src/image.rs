//! `cargo xtask image`: builds the programs as they ship for one processor architecture, asks Cargo what that build links, and has the
//! lab pack both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{architecture::Architecture, build, cache, lab, setup};

/// Makes the archives of agent and aggregator, with the documents beside them.
pub fn run(root: &Path, target: Architecture) -> Result<ExitCode> {
    setup::for_build(root)?;
    println!("build: agent, aggregator and lab, as they ship");
    build::static_release(root)?;
    if target == Architecture::Arm64 {
        setup::for_arm64(root)?;
        println!("build: agent and aggregator for arm64 (some 10 minutes, once)");
        build::arm64(root)?;
        try_out(&build::dir(root, target))?;
    }
    let into = dir(root);
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let units = plan(build::command(root, target)?, &into.join(format!("{}.units.json", target.triple())))?;
    let ebpf_units = plan(build::ebpf(root), &into.join("ebpf.units.json"))?;
    let mut command = lab::program(root);
    command.arg("image").arg("--workspace").arg(root);
    command.arg("--binaries").arg(build::dir(root, target));
    command.arg("--units").arg(units).arg("--ebpf-units").arg(ebpf_units);
    lab::finish(command.arg("--into").arg(into))
}

/// Runs what was built for the other architecture, as far as a processor that is emulated for one program allows.
fn try_out(programs: &Path) -> Result<()> {
    let cases: [(&str, &[&str], Option<i32>); 4] = [
        ("waggle-agent", &["--version"], Some(0)),
        ("waggle-aggregator", &["--version"], Some(0)),
        ("waggle-aggregator", &["--no-such-flag"], Some(64)),
        // What the node offers decides about its exit code, and emulation has no eBPF.
        ("waggle-agent", &["check"], None),
    ];
    for (program, args, wanted) in cases {
        let path = programs.join(program);
        let output = Command::new("qemu-aarch64-static").arg(&path).args(args).output();
        let output = output.context("cannot start qemu-aarch64-static")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let as_wanted =
            wanted.map_or(output.status.code().is_some(), |code| output.status.code() == Some(code));
        if !as_wanted || said.trim().is_empty() {
            bail!("{program} {} for arm64: {}, it said: {said}", args.join(" "), output.status);
        }
        println!(
            "      {program} {}: {}, {}",
            args.join(" "),
            output.status,
            said.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}

/// Where the archives are.
pub fn dir(root: &Path) -> PathBuf {
    cache::state(root).join("images")
}

/// Writes what Cargo would do for this build. Nothing is built by it.
fn plan(mut build: Command, into: &Path) -> Result<PathBuf> {
    build.args(["-Z", "unstable-options", "--unit-graph"]).env("RUSTC_BOOTSTRAP", "1");
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build --unit-graph: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    fs::write(into, &output.stdout).with_context(|| format!("cannot write {}", into.display()))?;
    Ok(into.to_owned())
}
