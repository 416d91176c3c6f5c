//! Brings the machine up: file systems, the network card's modules, the address, the controllers of the cgroup root.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{Advice, fadvise},
    mount::{MountFlags, mount},
};
use waggle_node_init::{
    control::{FILES_CONTENT, FILES_DISK},
    work,
};

use crate::{CGROUP_ROOT, cgroups};

const BUSYBOX: &str = "/bin/busybox";
/// Of [`FILES_DISK`]. Folios of XFS grow up to this size.
const READ_AHEAD: &str = "/sys/block/vda/queue/read_ahead_kb";
const READ_AHEAD_KIB: &str = "4096";
/// Where [`FILES_DISK`] is mounted.
const FILES: &str = "/files";
const SECURITYFS: &str = "/sys/kernel/security";

/// Does all of it. An error is fatal: the kernel panics when pid 1 ends, and the host shows the console.
pub fn run() -> Result<()> {
    for (kind, target) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        mount(kind, target, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    // Where the kernel has it: it shows the lockdown mode.
    if Path::new(SECURITYFS).is_dir() {
        mount("securityfs", SECURITYFS, "securityfs", MountFlags::empty(), None)
            .with_context(|| format!("cannot mount securityfs on {SECURITYFS}"))?;
    }
    mount("cgroup2", CGROUP_ROOT, "cgroup2", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount cgroup2 on {CGROUP_ROOT}"))?;
    cgroups::give_controllers(CGROUP_ROOT.as_ref())?;
    fs::create_dir_all("/run/log").context("cannot make /run/log")?;
    let order = load_all("/modules/order")?;
    ip(&["link", "set", "lo", "up"])?;
    if !order.is_empty() {
        ip(&["addr", "add", "10.0.2.15/24", "dev", "eth0"])?;
        ip(&["link", "set", "eth0", "up"])?;
    }
    let options = fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    if options.contains("waggle.shell") {
        shell()?;
    }
    Ok(())
}

/// Mounts the disk with a file system and writes a file of that size there.
pub fn mount_files(mib: u64) -> Result<()> {
    if Path::new(FILES_CONTENT).exists() {
        return Ok(());
    }
    load_all("/modules/file-system-order")?;
    fs::create_dir_all(FILES).with_context(|| format!("cannot make {FILES}"))?;
    mount(FILES_DISK, FILES, "xfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {FILES_DISK} on {FILES}"))?;
    fs::write(READ_AHEAD, READ_AHEAD_KIB).with_context(|| format!("cannot write {READ_AHEAD}"))?;
    let cannot_write = || format!("cannot write {FILES_CONTENT}");
    let mut file = File::create(FILES_CONTENT).with_context(cannot_write)?;
    work::write_once(&mut file, mib << 20).with_context(cannot_write)?;
    // Or its pages would stay charged to this process, and would be read from there.
    fadvise(&file, 0, None, Advice::DontNeed).with_context(cannot_write)
}

/// Loads the modules that a list names, and returns the list.
fn load_all(list: &str) -> Result<String> {
    let order = fs::read_to_string(list).with_context(|| format!("cannot read {list}"))?;
    order.lines().try_for_each(load)?;
    Ok(order)
}

fn load(module: &str) -> Result<()> {
    let path = format!("/modules/{module}.ko");
    let image = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    rustix::system::init_module(&image, c"").with_context(|| format!("cannot load {path}"))
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new(BUSYBOX).arg("ip").args(args).output().context("cannot start busybox ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A shell on the console, for `cargo xtask vm`.
fn shell() -> Result<()> {
    let script = "/bin/busybox --install -s /bin; export PATH=/bin; \
                  while :; do /bin/busybox setsid -c /bin/busybox sh -l; done";
    Command::new(BUSYBOX)
        .args(["sh", "-c", script])
        .env("PS1", "node# ")
        .spawn()
        .context("cannot start a shell")?;
    Ok(())
}
