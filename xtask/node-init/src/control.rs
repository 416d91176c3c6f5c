//! What host and node say to each other over the virtual machine's second serial port: one JSON object per line, both
//! ways. Owns the words, not the wire.

use serde::{Deserialize, Serialize};

pub use crate::work::Order;

/// The device of the control channel inside the virtual machine: the second serial port, or the only one of its kind.
pub const DEVICE: &str = if cfg!(target_arch = "aarch64") { "/dev/ttyS0" } else { "/dev/ttyS1" };

/// A block device without a file system.
pub const DISK: &str = "/dev/nvme0n1";
/// A block device with XFS, where the machine was booted with it.
pub const FILES_DISK: &str = "/dev/vda";
/// A file that [`Act::MountFiles`] makes.
pub const FILES_CONTENT: &str = "/files/content";

/// Host to node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the reply.
    pub id: u64,
    /// What to do.
    pub act: Act,
}

/// What a node can be asked to do. All cgroup paths are relative to the cgroup root.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Sets the node's clock, ns since the Unix epoch: the machine's own starts with whole seconds.
    SetClock(i64),
    /// Makes a cgroup and those above it, with the controllers that its parent can give, and writes its limits.
    MakeCgroup {
        /// Its path.
        path: String,
        /// File name and text, such as `cpu.max`, `25000 100000`.
        limits: Vec<(String, String)>,
    },
    /// Removes a cgroup and those below it. They must be empty of processes.
    RemoveCgroup(String),
    /// Kills every process in a cgroup and below it, then removes the cgroups. One that does not exist is no error.
    EndCgroup(String),
    /// Starts a workload in a cgroup.
    Start {
        /// Under what name events and [`Act::Signal`] know it.
        name: String,
        /// Where it runs.
        cgroup: String,
        /// What it does.
        work: Work,
    },
    /// Starts a program of the image in a cgroup; its output goes to `/run/log/<name>`.
    Spawn {
        /// Under what name events and [`Act::Signal`] know it.
        name: String,
        /// Where and what.
        program: Program,
    },
    /// Runs a program of the image to its end and answers with its output.
    Run(Program),
    /// Sends a signal to a started process, and answers when it has ended.
    Signal {
        /// The name it was started under.
        name: String,
        /// The signal's number.
        signal: i32,
    },
    /// Sends a signal to a started process without waiting for its end.
    Notify {
        /// The name it was started under.
        name: String,
        /// The signal's number.
        signal: i32,
    },
    /// Mounts [`FILES_DISK`] and writes [`FILES_CONTENT`]. Done already is no error.
    MountFiles {
        /// Size of the file.
        mib: u64,
    },
    /// Writes a text to an existing file.
    Write {
        /// The file.
        path: String,
        /// The text.
        text: String,
    },
    /// Reads files.
    Read(Vec<String>),
    /// The totals of the root files that the node has recorded since it started, a few each second.
    Totals,
}

/// A program of the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    /// Path in the image and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// The cgroup that it runs in.
    pub cgroup: String,
    /// What the program may do.
    pub rights: Rights,
}

/// What a program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Everything.
    Root,
    /// `CAP_BPF` and `CAP_PERFMON` only, as the agent's pod.
    Agent,
    /// No capability.
    NoCapabilities,
    /// As [`Rights::Agent`], and a seccomp filter fails `bpf(2)` with EPERM.
    NoBpf,
}

impl Rights {
    /// As an argument of `waggle-node-init enter`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Agent => "agent",
            Self::NoCapabilities => "no-capabilities",
            Self::NoBpf => "no-bpf",
        }
    }

    /// The inverse of [`Rights::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Root, Self::Agent, Self::NoCapabilities, Self::NoBpf]
            .into_iter()
            .find(|rights| rights.name() == name)
    }
}

/// What a workload does after its first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Computes without end.
    Burn,
    /// Holds this many MiB of anonymous memory.
    Hold(u64),
    /// Fills the page cache with this many MiB, read once.
    Cache(u64),
    /// Holds [`CHURN_HELD_MIB`] of anonymous memory, reads a part of [`FILES_CONTENT`], or of [`DISK`] where nothing is
    /// mounted, into the page cache and drops it again, without end.
    Churn {
        /// How much it reads, in MiB.
        mib: u64,
        /// Where it begins, in MiB: processes that read the same part share its pages.
        from_mib: u64,
        /// In which order.
        order: Order,
    },
    /// Sleeps.
    Sleep,
}

/// The anonymous memory of [`Work::Churn`], in MiB.
pub const CHURN_HELD_MIB: u64 = 16;

impl Work {
    /// As arguments of `waggle-node-init work`.
    pub fn to_args(self) -> Vec<String> {
        match self {
            Self::Burn => vec!["burn".into()],
            Self::Hold(mib) => vec!["hold".into(), mib.to_string()],
            Self::Cache(mib) => vec!["cache".into(), mib.to_string()],
            Self::Churn { mib, from_mib, order } => {
                vec!["churn".into(), mib.to_string(), from_mib.to_string(), order.name().into()]
            }
            Self::Sleep => vec!["sleep".into()],
        }
    }

    /// The inverse of [`Work::to_args`].
    pub fn from_args(args: &[String]) -> Option<Self> {
        match args {
            [mode] if mode == "burn" => Some(Self::Burn),
            [mode] if mode == "sleep" => Some(Self::Sleep),
            [mode, mib] if mode == "hold" => mib.parse().ok().map(Self::Hold),
            [mode, mib] if mode == "cache" => mib.parse().ok().map(Self::Cache),
            [mode, mib, from, order] if mode == "churn" => Some(Self::Churn {
                mib: mib.parse().ok()?,
                from_mib: from.parse().ok()?,
                order: Order::ALL.into_iter().find(|known| known.name() == order)?,
            }),
            _ => None,
        }
    }
}

/// Node to host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNode {
    /// The node has booted.
    Ready {
        /// `uname -r`.
        kernel: String,
    },
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: u64,
        /// The answer, or what went wrong.
        result: Result<Answer, String>,
    },
    /// A workload has executed its first instruction in its cgroup.
    FirstInstruction {
        /// The workload's name.
        name: String,
        /// `CLOCK_BOOTTIME` of the node at that instant, ns.
        boot_ns: u64,
    },
    /// A started process has ended.
    Exited {
        /// The name it was started under.
        name: String,
        /// Its exit code, or minus the signal that ended it.
        status: i32,
    },
}

/// What a request yields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// A process was started.
    Started {
        /// Its process id in the node.
        pid: u32,
    },
    /// A process has ended.
    Ended {
        /// Its exit code, or minus the signal that ended it.
        status: i32,
        /// What it wrote (empty for processes that were not run for their output).
        output: String,
    },
    /// Texts of files in the order asked for; `None` for one that cannot be read.
    Files {
        /// `CLOCK_BOOTTIME` before the first was read, ns.
        boot_ns: u64,
        /// The texts.
        texts: Vec<Option<String>>,
    },
    /// The recorded totals, oldest first.
    Totals(Vec<Totals>),
}

/// The node's totals at one instant, from the kernel's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// `CLOCK_REALTIME`, ns since the Unix epoch.
    pub real_ns: i64,
    /// `usage_usec` of the root's `cpu.stat`.
    pub cpu_usec: u64,
    /// `anon + file − inactive_file` of the root's `memory.stat`, bytes.
    pub working_set_bytes: u64,
}
