//! The node's main loop: one thread owns everything, others only bring it news (a request's line, an ended process, a
//! workload's first instruction, the next tick of the recorder).

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    io::Errno,
    process::{WaitOptions, wait},
    termios::{OptionalActions, tcgetattr, tcsetattr},
    time::{ClockId, Timespec, clock_settime},
};
use waggle_node_init::control::{Act, Answer, DEVICE, FromNode, Request};

use crate::{
    FIRSTS, boot, cgroups,
    processes::{Processes, log_path},
    recorder::{self, Recorder},
};

const RECORD_EVERY: Duration = Duration::from_millis(200);

enum News {
    Request(String),
    First(String),
    Ended { pid: u32, status: i32 },
}

/// Serves until the machine is switched off.
pub fn run() -> Result<()> {
    let port = File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .with_context(|| format!("cannot open {DEVICE}"))?;
    let mut settings = tcgetattr(&port).with_context(|| format!("cannot read the settings of {DEVICE}"))?;
    settings.make_raw();
    tcsetattr(&port, OptionalActions::Now, &settings).with_context(|| format!("cannot make {DEVICE} raw"))?;
    mknodat(CWD, FIRSTS, FileType::Fifo, Mode::from_raw_mode(0o622), 0)
        .with_context(|| format!("cannot make {FIRSTS}"))?;

    let (news, inbox) = mpsc::channel();
    let reader = port.try_clone().with_context(|| format!("cannot open {DEVICE} twice"))?;
    bring_lines(reader, news.clone(), News::Request);
    // Opened for writing too, so that it never ends.
    let firsts = File::options()
        .read(true)
        .write(true)
        .open(FIRSTS)
        .with_context(|| format!("cannot open {FIRSTS}"))?;
    bring_lines(firsts, news.clone(), News::First);
    thread::spawn(move || bring_ended(&news));

    let mut node = Node { port, processes: Processes::default(), recorder: Recorder::default() };
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    node.say(&FromNode::Ready { kernel: kernel.trim().to_owned() })?;
    let mut next = Instant::now();
    loop {
        match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(News::Request(line)) => node.request(&line)?,
            Ok(News::First(line)) => node.first(&line)?,
            Ok(News::Ended { pid, status }) => node.ended(pid, status)?,
            Err(RecvTimeoutError::Timeout) => {
                node.recorder.record()?;
                next = Instant::now() + RECORD_EVERY;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn bring_lines(from: File, news: Sender<News>, wrap: fn(String) -> News) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if news.send(wrap(line)).is_err() {
                return;
            }
        }
    });
}

/// Waits for any child, orphans included.
fn bring_ended(news: &Sender<News>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let status = status.exit_status().or(status.terminating_signal().map(|signal| -signal));
                let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
                if news.send(News::Ended { pid, status: status.unwrap_or_default() }).is_err() {
                    return;
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

struct Node {
    port: File,
    processes: Processes,
    recorder: Recorder,
}

impl Node {
    fn say(&mut self, message: &FromNode) -> Result<()> {
        let mut line = serde_json::to_vec(message).context("cannot write a message as JSON")?;
        line.push(b'\n');
        self.port.write_all(&line).with_context(|| format!("cannot write to {DEVICE}"))
    }

    fn reply(&mut self, id: u64, result: Result<Answer>) -> Result<()> {
        self.say(&FromNode::Reply { id, result: result.map_err(|error| format!("{error:#}")) })
    }

    fn request(&mut self, line: &str) -> Result<()> {
        let Request { id, act } = match serde_json::from_str(line) {
            Ok(request) => request,
            Err(error) => {
                eprintln!("not a request: {error}: {line}");
                return Ok(());
            }
        };
        match self.act(id, act) {
            Ok(Some(answer)) => self.reply(id, Ok(answer)),
            Ok(None) => Ok(()),
            Err(error) => self.reply(id, Err(error)),
        }
    }

    /// Does what is asked; `None` if the answer comes when a process ends.
    fn act(&mut self, id: u64, act: Act) -> Result<Option<Answer>> {
        Ok(Some(match act {
            Act::SetClock(unix_ns) => {
                let time = Timespec { tv_sec: unix_ns / 1_000_000_000, tv_nsec: unix_ns % 1_000_000_000 };
                clock_settime(ClockId::Realtime, time).context("cannot set the clock")?;
                self.recorder.clear();
                Answer::Done
            }
            Act::MakeCgroup { path, limits } => {
                cgroups::make(&path, &limits)?;
                Answer::Done
            }
            Act::RemoveCgroup(path) => {
                cgroups::remove(&path)?;
                Answer::Done
            }
            Act::EndCgroup(path) => {
                cgroups::end(&path)?;
                Answer::Done
            }
            Act::Notify { name, signal } => {
                self.processes.signal(&name, signal)?;
                Answer::Done
            }
            Act::MountFiles { mib } => {
                boot::mount_files(mib)?;
                Answer::Done
            }
            Act::Write { path, text } => {
                fs::write(&path, &text).with_context(|| format!("cannot write {text} to {path}"))?;
                Answer::Done
            }
            Act::Start { name, cgroup, work } => {
                Answer::Started { pid: self.processes.work(&name, &cgroup, work)? }
            }
            Act::Spawn { name, program } => {
                Answer::Started { pid: self.processes.program(&name, &program, false)? }
            }
            Act::Run(program) => {
                let pid = self.processes.program(&format!("run-{id}"), &program, true)?;
                self.processes.wait(pid, id);
                return Ok(None);
            }
            Act::Signal { name, signal } => {
                let pid = self.processes.signal(&name, signal)?;
                self.processes.wait(pid, id);
                return Ok(None);
            }
            Act::Read(paths) => Answer::Files {
                boot_ns: recorder::boot_ns(),
                texts: paths.iter().map(|path| fs::read_to_string(path).ok()).collect(),
            },
            Act::Totals => {
                self.recorder.record()?;
                Answer::Totals(self.recorder.readings())
            }
        }))
    }

    fn first(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(Ok(boot_ns))) = (words.next(), words.next().map(str::parse)) else {
            return Ok(());
        };
        self.say(&FromNode::FirstInstruction { name: name.to_owned(), boot_ns })
    }

    fn ended(&mut self, pid: u32, status: i32) -> Result<()> {
        let Some(process) = self.processes.ended(pid) else { return Ok(()) };
        let output = if process.output {
            let path = log_path(&process.name);
            let text = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
            fs::remove_file(&path).with_context(|| format!("cannot remove {path}"))?;
            String::from_utf8_lossy(&text).into_owned()
        } else {
            String::new()
        };
        for id in process.waiting {
            self.reply(id, Ok(Answer::Ended { status, output: output.clone() }))?;
        }
        self.say(&FromNode::Exited { name: process.name, status })
    }
}
