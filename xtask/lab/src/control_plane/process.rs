//! A server as a process of its own, with its output in a file. Owns how processes are started and how they end, knows
//! nothing of what they do.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::central::tail;

/// With what a process ends, if nobody ends it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// With the program that started it, however that ends.
    Tied,
    /// Not by itself.
    Detached,
}

/// A running server. Dropping it kills it with SIGKILL: a graceful end of kube-apiserver takes over a minute, and there
/// is nothing worth saving.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// A process that ends with its parent ends with the *thread* that started it. This one ends last.
static LAUNCHER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in inbox {
            // Nobody waits for the answer if the thread that asked is gone.
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

impl Process {
    /// Starts a program; its output is appended to `<folder>/<name>.log`. It is in the network namespace of the thread that
    /// starts the first one.
    pub fn start(
        name: &str,
        program: &Path,
        flags: &[String],
        folder: &Path,
        lifetime: Lifetime,
    ) -> Result<Self> {
        Self::start_with(name, program, flags, folder, lifetime, Stdio::null())
    }

    /// The same, with something at its standard input.
    pub fn start_with(
        name: &str,
        program: &Path,
        flags: &[String],
        folder: &Path,
        lifetime: Lifetime,
        input: Stdio,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = match lifetime {
            Lifetime::Tied => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]).arg(program);
                command
            }
            Lifetime::Detached => {
                let mut command = Command::new(program);
                // Ctrl-C in the terminal is not meant for it.
                command.process_group(0);
                command
            }
        };
        command.args(flags).current_dir(folder).stdin(input).stdout(output).stderr(errors);
        let (answer, answered) = mpsc::sync_channel(1);
        LAUNCHER.send((command, answer)).ok().context("the thread that starts processes is gone")?;
        let child = answered.recv().context("the thread that starts processes is gone")?;
        let child = child.with_context(|| format!("cannot start {} ({name})", program.display()))?;
        Ok(Self { name: name.to_owned(), child: Some(child), log })
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with its last words, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        let ended = match self.child.as_mut() {
            Some(child) => child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?,
            None => None,
        };
        match ended {
            Some(status) => bail!("{} ended: {status}\n{}", self.name, tail(&self.log)),
            None => Ok(()),
        }
    }

    /// Waits until it listens there.
    pub async fn listens(&mut self, address: SocketAddr, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            self.check()?;
            if begun.elapsed() > limit {
                bail!("{} does not listen on {address}\n{}", self.name, tail(&self.log));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends it as a crash would, and waits for its end.
    pub fn kill(mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Leaves it running when this program ends.
    pub fn leave(mut self) -> Option<Left> {
        let pid = self.child.take()?.id();
        Some(Left { name: self.name.clone(), pid, started: start_time(pid)? })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: nothing else can be wrong, and nobody could be told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process that was left running by another program.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Left {
    /// What it is.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// When it was started, in clock ticks since boot: a process id is given out again, both together are not.
    pub started: u64,
}

impl Left {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Ends it with SIGKILL if it still runs, and waits for that.
    pub fn kill(&self) -> Result<bool> {
        if !self.runs() {
            return Ok(false);
        }
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is no process id", self.pid))?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .with_context(|| format!("cannot kill {} (process {})", self.name, self.pid))?;
        for _ in 0..500 {
            if !self.runs() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("{} (process {}) does not end", self.name, self.pid)
    }
}

/// When a process was started, in clock ticks since boot; `None` if there is none or it is a zombie.
fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// From the text of `/proc/<pid>/stat`, whose second field, the name, may hold anything.
fn start_time_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // Field 22; the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_read_whatever_the_name() {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 999 8";
        assert_eq!(start_time_in(&format!("7 (a) b) {rest}")), Some(4711));
        assert_eq!(start_time_in(&format!("7 (x) Z{}", &rest[1..])), None);
        assert_eq!(start_time_in("nonsense"), None);
    }

    #[test]
    fn a_process_that_was_left_is_known_again_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("sleep", Path::new("sleep"), &["60".into()], folder.path(), Lifetime::Detached)
                .unwrap();
        let left = process.leave().unwrap();
        assert!(left.runs());
        let other = Left { started: left.started + 1, ..left.clone() };
        assert!(!other.runs() && !other.kill().unwrap());
        assert!(left.runs(), "another process of that id was ended");
        assert!(left.kill().unwrap() && !left.runs());
    }
}
