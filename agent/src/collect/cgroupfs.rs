//! The snapshot from files: one kept descriptor per file, read again and again.
//!
//! The fallback where the kernel refuses the eBPF walk, and what that walk is compared with. In steady state a
//! snapshot allocates nothing: directories are listed again only when one of them has gained or lost a subdirectory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::{Kept, Reader, number, value};
use super::node::NodeFiles;
use super::tree::{self, Directory, Kubepods};
use super::{CgroupId, CollectError, Collector, Memory, Refusal, Sample, Snapshot, clock, page_size};
use crate::identify::Identity;

/// Descriptors left for everything else in the process.
const SPARE_DESCRIPTORS: u64 = 128;

/// Reads pod and container cgroups from their files.
#[derive(Debug)]
pub struct Cgroupfs {
    root: PathBuf,
    kubepods: Kubepods,
    node: NodeFiles,
    reader: Reader,
    cgroups: BTreeMap<CgroupId, Cgroup>,
    watched: Vec<(PathBuf, (u64, u64))>,
    /// A cgroup went away during the last snapshot.
    stale: bool,
    budget: usize,
    pages: u64,
    refusals: Vec<Refusal>,
}

/// The files of one cgroup.
#[derive(Debug)]
struct Cgroup {
    identity: Arc<Identity>,
    path: PathBuf,
    cpu: Kept,
    current: Kept,
    stat: Kept,
    swap: Kept,
}

impl Cgroupfs {
    /// Finds kubepods below the cgroup2 mount at `root` and opens everything. `refusals`: why files are read at all.
    pub fn open(root: &Path, refusals: Vec<Refusal>) -> Result<Self, CollectError> {
        Ok(Self {
            root: root.to_owned(),
            kubepods: Kubepods::find(root)?,
            node: NodeFiles::open(root)?,
            reader: Reader::new(),
            cgroups: BTreeMap::new(),
            watched: Vec::new(),
            stale: true,
            budget: descriptors(),
            pages: page_size(),
            refusals,
        })
    }

    /// The kubepods whose cgroups are read.
    pub const fn kubepods(&self) -> &Kubepods {
        &self.kubepods
    }

    fn changed(&self) -> bool {
        self.stale || self.watched.iter().any(|(path, before)| tree::state(path).ok() != Some(*before))
    }

    fn list(&mut self) -> Result<(), CollectError> {
        if !self.kubepods.is_current() {
            self.kubepods = Kubepods::find(&self.root)?;
        }
        let directories = self.kubepods.directories();
        self.watched = directories.iter().filter_map(|d| Some((d.path.clone(), d.state?))).collect();
        let mut before = std::mem::take(&mut self.cgroups);
        for directory in directories {
            let Directory { id, path, identity: Some(identity), .. } = directory else { continue };
            // A controller may have been enabled since a file was found absent.
            let kept = before.remove(&id).filter(|cgroup| !matches!(cgroup.current, Kept::Absent));
            let cgroup = match kept {
                Some(cgroup) => Ok(cgroup),
                None => Cgroup::open(identity, path, &mut self.budget),
            };
            match cgroup {
                Ok(cgroup) => drop(self.cgroups.insert(id, cgroup)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(CollectError::read("a cgroup's files", error)),
            }
        }
        self.budget += before.values().map(Cgroup::kept).sum::<usize>();
        self.stale = false;
        Ok(())
    }
}

impl Collector for Cgroupfs {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        if self.changed() {
            self.list()?;
        }
        let start = clock::boot();
        into.samples.clear();
        for (id, cgroup) in &self.cgroups {
            match cgroup.read(&mut self.reader, self.pages) {
                Ok((cpu_ns, memory)) => into.samples.push(Sample {
                    cgroup: *id,
                    identity: Arc::clone(&cgroup.identity),
                    cpu_ns: Some(cpu_ns),
                    memory,
                    late: false,
                }),
                Err(CollectError::Read { source, .. }) if is_gone(&source) => self.stale = true,
                Err(error) => return Err(error),
            }
        }
        (into.boot, into.real) = clock::middle_since(start);
        into.node = self.node.read(&mut self.reader)?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "cgroupfs"
    }

    fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

impl Cgroup {
    fn open(identity: Arc<Identity>, path: PathBuf, budget: &mut usize) -> io::Result<Self> {
        let mut open = |name| Kept::open(path.join(name), budget);
        let (cpu, current, stat, swap) =
            (open("cpu.stat")?, open("memory.current")?, open("memory.stat")?, open("memory.swap.current")?);
        Ok(Self { identity, path, cpu, current, stat, swap })
    }

    fn kept(&self) -> usize {
        [&self.cpu, &self.current, &self.stat, &self.swap].into_iter().filter(|file| file.is_open()).count()
    }

    fn read(&self, reader: &mut Reader, page: u64) -> Result<(u64, Option<Memory>), CollectError> {
        let parse = |file, why| CollectError::Parse { what: self.path.join(file).display().to_string(), why };
        let read = |file, error| CollectError::read(self.path.join(file).display().to_string(), error);
        let cpu = self
            .cpu
            .read(reader)
            .map_err(|error| read("cpu.stat", error))?
            .and_then(|text| value(text, "usage_usec"))
            .ok_or_else(|| parse("cpu.stat", "it has no usage_usec"))?;
        let Some(current) = self.current.read(reader).map_err(|error| read("memory.current", error))? else {
            return Ok((cpu.saturating_mul(1000), None));
        };
        let usage = number(current).ok_or_else(|| parse("memory.current", "it is no number"))?;
        let inactive = self
            .stat
            .read(reader)
            .map_err(|error| read("memory.stat", error))?
            .and_then(|text| value(text, "inactive_file"))
            .ok_or_else(|| parse("memory.stat", "it has no inactive_file"))?;
        let swap = self.swap.read(reader).map_err(|error| read("memory.swap.current", error))?;
        let memory = Memory {
            usage_pages: usage / page,
            inactive_file_pages: inactive / page,
            swap_pages: swap.and_then(number).map(|bytes| bytes / page),
        };
        Ok((cpu.saturating_mul(1000), Some(memory)))
    }
}

/// What a file of a removed cgroup answers.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// How many descriptors may be kept, after raising the soft limit to the hard one.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
    usize::try_from(allowed.unwrap_or(u64::MAX).saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
