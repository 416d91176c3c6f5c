//! The processes that were started here: by name and by pid. As pid 1 this program also inherits orphans.

use std::{
    collections::HashMap,
    env,
    fs::File,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use waggle_node_init::control::{Program, Work};

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Its name towards the host.
    pub name: String,
    /// Requests that wait for its end.
    pub waiting: Vec<u64>,
    /// Whether its output goes into the answer.
    pub output: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Process>,
}

impl Processes {
    /// Starts a workload.
    pub fn work(&mut self, name: &str, cgroup: &str, work: Work) -> Result<u32> {
        let mut command = own("work")?;
        command.arg(name).arg(cgroup).args(work.to_args()).env_clear();
        self.start(name, command, false)
    }

    /// Starts a program; the output goes to `/run/log/<name>`.
    pub fn program(&mut self, name: &str, program: &Program, output: bool) -> Result<u32> {
        let mut command = own("enter")?;
        command
            .arg(program.rights.name())
            .arg(&program.cgroup)
            .args(&program.argv)
            .env_clear()
            .envs(program.environment.iter().cloned());
        self.start(name, command, output)
    }

    fn start(&mut self, name: &str, mut command: Command, output: bool) -> Result<u32> {
        let path = log_path(name);
        let log = File::options()
            .create(true)
            .append(!output)
            .write(true)
            .truncate(output)
            .open(&path)
            .with_context(|| format!("cannot write {path}"))?;
        let errors = log.try_clone().with_context(|| format!("cannot write {path}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id();
        self.by_pid.insert(pid, Process { name: name.to_owned(), waiting: Vec::new(), output });
        Ok(pid)
    }

    /// Makes a request wait for the end of a process.
    pub fn wait(&mut self, pid: u32, request: u64) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.waiting.push(request);
        }
    }

    /// Sends a signal to a process by name; the pid it went to.
    pub fn signal(&self, name: &str, signal: i32) -> Result<u32> {
        let (&pid, _) = self
            .by_pid
            .iter()
            .find(|(_, process)| process.name == name)
            .with_context(|| format!("no process \"{name}\" is running"))?;
        let signal = Signal::from_named_raw(signal).with_context(|| format!("no signal {signal}"))?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid out of range")?;
        kill_process(raw, signal).with_context(|| format!("cannot signal {name}"))?;
        Ok(pid)
    }

    /// Forgets a process that has ended.
    pub fn ended(&mut self, pid: u32) -> Option<Process> {
        self.by_pid.remove(&pid)
    }
}

/// Where a process's output goes.
pub fn log_path(name: &str) -> String {
    format!("/run/log/{}", name.replace('/', "_"))
}

fn own(mode: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command.arg(mode);
    Ok(command)
}
