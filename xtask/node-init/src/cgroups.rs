//! Makes and removes cgroups, with every controller that the one above can give.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::CGROUP_ROOT;

/// What a node's kubelet enables on the way down.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "io", "pids"];

/// The folder of a cgroup path that is relative to the root.
pub fn folder(path: &str) -> PathBuf {
    Path::new(CGROUP_ROOT).join(path.trim_start_matches('/'))
}

/// Enables, for the children of `folder`, every controller of the list that it has.
pub fn give_controllers(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.controllers");
    let has = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for controller in
        CONTROLLERS.into_iter().filter(|wanted| has.split_whitespace().any(|name| name == *wanted))
    {
        let file = folder.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("cannot enable {controller} in {}", file.display()))?;
    }
    Ok(())
}

/// Makes a cgroup and those above it, and writes its limits.
pub fn make(path: &str, limits: &[(String, String)]) -> Result<()> {
    let root = Path::new(CGROUP_ROOT);
    let mut at = root.to_path_buf();
    for part in Path::new(path.trim_start_matches('/')).components() {
        if at != root {
            give_controllers(&at)?;
        }
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make cgroup {}", at.display()));
            }
            _ => {}
        }
    }
    for (name, text) in limits {
        let file = at.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {text} to {}", file.display()))?;
    }
    Ok(())
}

/// Removes a cgroup and those below it, deepest first.
pub fn remove(path: &str) -> Result<()> {
    if path.trim_matches('/').is_empty() {
        bail!("the root cgroup cannot be removed");
    }
    remove_folder(&folder(path))
}

/// Kills the processes of a cgroup and of those below it, and removes them all.
pub fn end(path: &str) -> Result<()> {
    let folder = folder(path);
    if path.trim_matches('/').is_empty() {
        bail!("the root cgroup cannot be removed");
    }
    if !folder.exists() {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        kill(&folder)?;
        match remove_folder(&folder) {
            // A killed process leaves its cgroup a moment later.
            Err(_) if tries < 200 => tries += 1,
            done => return done,
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn kill(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        kill(&entry.path())?;
    }
    let file = folder.join("cgroup.procs");
    let pids = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for pid in pids.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folder(&entry.path())?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("cannot remove cgroup {}", folder.display()))
}

/// Moves the calling process into a cgroup.
pub fn join(path: &str) -> Result<()> {
    let file = folder(path).join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("cannot join {}", file.display()))
}
