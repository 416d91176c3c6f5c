//! One snapshot by the program: flush, iterate, read the array.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use waggle_agent_ebpf::{Record, flag};

use super::load::{self, Loaded};
use super::sys;
use crate::collect::files::{self, Reader};
use crate::collect::node::NodeFiles;
use crate::collect::tree::Kubepods;
use crate::collect::{
    BootTime, CgroupId, CollectError, Collector, Memory, RealTime, Reason, Refusal, Sample, Snapshot, clock,
};
use crate::identify::Identity;

/// Fewest slots of the array that the agent runs with: 512 KiB.
pub const LEAST_SLOTS: usize = 8192;
/// Listings in which an id may be missing before it is taken for a cgroup that is none of ours.
const LISTINGS: u8 = 3;

/// The loaded program, its link to kubepods and its array. Works without any capability once opened.
pub struct BpfWalk {
    root: PathBuf,
    kubepods: Kubepods,
    loaded: Loaded,
    /// `None` while there is no kubepods.
    start: Option<Start>,
    node: NodeFiles,
    reader: Reader,
    records: Vec<Record>,
    /// One for each record, in the records' order.
    known: Vec<Known>,
    /// Positions of the records in ascending order of their ids.
    ascending: Vec<usize>,
}

/// The walk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The node is not ready, whatever the collector.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// What depends on the very cgroup that the walk starts at.
struct Start {
    link: OwnedFd,
    /// Reading it folds the CPU time of the whole subtree.
    cpu_stat: OwnedFd,
}

struct Known {
    id: u64,
    identity: Option<Arc<Identity>>,
    /// Listings that did not have it; 0: settled.
    missing: u8,
}

impl BpfWalk {
    /// Loads the program and links it to kubepods below the cgroup2 mount at `root`. The array has `least_slots`, or
    /// twice the cgroups found if that is more: it cannot grow once capabilities are dropped.
    pub fn open(root: &Path, least_slots: usize) -> Result<Self, OpenError> {
        let kubepods = Kubepods::find(root)?;
        let node = NodeFiles::open(root)?;
        let cgroups = kubepods.directories().len();
        let slots = u32::try_from((cgroups * 2).max(least_slots)).unwrap_or(u32::MAX);
        let loaded = load::load(slots)?;
        let start = Start::at(&loaded, &kubepods).map_err(|error| {
            let detail = format!("the program cannot be linked to {}: {error}", kubepods.path.display());
            Refusal::new(Reason::LinkRefused, detail)
        })?;
        let mut walk = Self {
            root: root.to_owned(),
            kubepods,
            loaded,
            start: Some(start),
            node,
            reader: Reader::new(),
            records: Vec::new(),
            known: Vec::new(),
            ascending: Vec::new(),
        };
        match walk.walk() {
            Ok(_) | Err(CollectError::NoKubepods { .. }) => Ok(walk),
            Err(error @ CollectError::Truncated { .. }) => {
                Err(Refusal::new(Reason::Truncated, error.to_string()).into())
            }
            Err(error) => Err(Refusal::new(Reason::IterRefused, error.to_string()).into()),
        }
    }

    /// What the last walk found: kubepods first, parents before children, down to the containers' level.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Flushes CPU time and walks, without identities and node totals; looks kubepods up again if it was replaced.
    /// Answers with the middle of the walk on both clocks.
    pub fn walk(&mut self) -> Result<(BootTime, RealTime), CollectError> {
        for attempt in 0..2 {
            if attempt > 0 || self.start.is_none() {
                self.relink()?;
            }
            let Some(start) = &self.start else { break };
            let begun = clock::boot();
            match self.reader.read(&start.cpu_stat) {
                Ok(_) => {}
                Err(error) if is_dead(&error) => continue,
                Err(error) => return Err(CollectError::read("cpu.stat of kubepods", error)),
            }
            iterate(&self.loaded, &start.link, &mut self.records)?;
            let instant = clock::middle_since(begun);
            if self.records.first().is_some_and(|first| first.id == self.kubepods.id.0) {
                return Ok(instant);
            }
        }
        self.start = None;
        Err(CollectError::NoKubepods { root: self.root.display().to_string() })
    }

    fn relink(&mut self) -> Result<(), CollectError> {
        self.start = None;
        self.kubepods = Kubepods::find(&self.root)?;
        self.known.clear();
        let start = Start::at(&self.loaded, &self.kubepods)
            .map_err(|error| CollectError::read("a link of the program to kubepods", error))?;
        tracing::info!(kubepods = %self.kubepods.path.display(), "kubepods was replaced, the walk starts there now");
        self.start = Some(start);
        Ok(())
    }

    /// Makes `known` fit the records: nothing but a comparison of ids while no cgroup comes or goes.
    fn identify(&mut self) {
        let same = self.known.len() == self.records.len()
            && self.known.iter().zip(&self.records).all(|(known, record)| known.id == record.id);
        if same && self.known.iter().all(Known::is_settled) {
            return;
        }
        let listed: HashMap<u64, Option<Arc<Identity>>> =
            self.kubepods.directories().into_iter().map(|found| (found.id.0, found.identity)).collect();
        let mut before: HashMap<u64, Known> = self.known.drain(..).map(|known| (known.id, known)).collect();
        self.known.extend(self.records.iter().map(|record| {
            let mut known =
                before.remove(&record.id).unwrap_or(Known { id: record.id, identity: None, missing: 1 });
            if known.missing > 0 {
                match listed.get(&record.id) {
                    Some(identity) => known = Known { identity: identity.clone(), missing: 0, ..known },
                    None => known.missing = known.missing.saturating_add(1),
                }
            }
            known
        }));
        self.ascending.clear();
        self.ascending.extend(0..self.records.len());
        self.ascending.sort_unstable_by_key(|at| self.records.get(*at).map(|record| record.id));
    }
}

impl Known {
    fn is_settled(&self) -> bool {
        self.missing == 0 || self.missing >= LISTINGS
    }
}

impl Start {
    fn at(loaded: &Loaded, kubepods: &Kubepods) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&kubepods.path, flags, Mode::empty())?;
        Ok(Self {
            link: sys::link_cgroups(loaded.program.as_fd(), directory.as_fd())?,
            cpu_stat: files::open(&kubepods.path.join("cpu.stat"))?,
        })
    }
}

/// One walk. It writes nothing to its reader: an answer of 0 bytes means that it is over.
fn iterate(loaded: &Loaded, link: &OwnedFd, records: &mut Vec<Record>) -> Result<(), CollectError> {
    let before = loaded.array.header().session;
    let iterator =
        sys::iterator(link.as_fd()).map_err(|error| CollectError::read("a new iterator", error))?;
    loop {
        match rustix::io::read(&iterator, &mut [0u8; 64]) {
            Ok(0) => break,
            Ok(_) => return Err(CollectError::Unpublished { why: "the program wrote text".to_owned() }),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(CollectError::read("the cgroup iterator", error)),
        }
    }
    drop(iterator);
    let header = loaded.array.header();
    if header.truncated != 0 {
        return Err(CollectError::Truncated { slots: loaded.array.slots() });
    }
    if header.session == before {
        return Err(CollectError::Unpublished { why: "the session is the one before".to_owned() });
    }
    if header.faulted != 0 {
        let why = format!("kernel memory could not be read for {} cgroups", header.faulted);
        return Err(CollectError::Unpublished { why });
    }
    records.clear();
    records.extend((1..=header.count).map_while(|slot| loaded.array.record(slot)));
    if records.len() != header.count as usize {
        return Err(CollectError::Unpublished { why: "it counts more cgroups than slots".to_owned() });
    }
    Ok(())
}

impl Collector for BpfWalk {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let walked = self.walk();
        self.loaded.warnings.pass_on();
        (into.boot, into.real) = walked?;
        self.identify();
        into.samples.clear();
        for at in &self.ascending {
            let (Some(record), Some(known)) = (self.records.get(*at), self.known.get(*at)) else { continue };
            if let Some(identity) = &known.identity {
                into.samples.push(sample(record, identity));
            }
        }
        into.node = self.node.read(&mut self.reader)?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "bpf"
    }
}

fn sample(record: &Record, identity: &Arc<Identity>) -> Sample {
    let memory = (record.flags & flag::MEMORY != 0).then(|| Memory {
        usage_pages: record.usage,
        inactive_file_pages: u64::try_from(record.inactive_file).unwrap_or_default(),
        swap_pages: (record.flags & flag::SWAP != 0).then_some(record.swap),
    });
    Sample {
        cgroup: CgroupId(record.id),
        identity: Arc::clone(identity),
        cpu_ns: Some(record.cpu_ns),
        memory,
        late: false,
    }
}

/// What a file of a removed cgroup answers.
fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}
