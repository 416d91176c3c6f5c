//! The snapshot from files: the fallback where the kernel refuses the eBPF walk.
//!
//! CPU is read for each snapshot. Memory is read together (usage and `inactive_file` of one moment) and less often:
//! formatting `memory.stat` is most of the cost. In steady state nothing is allocated: directories are listed again
//! only when one of them has gained or lost a subdirectory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::cgroup_files::{Budget, CgroupFiles, is_gone};
use super::files::Reader;
use super::kubepods::{self, Kubepods};
use super::node::NodeFiles;
use super::tree::{self, Directory, Listing, Role};
use super::{
    BootTime, CgroupId, CollectError, Collector, Costs, Counters, Field, Fields, Refusal, Sample, Snapshot,
    clock, page_size,
};
use crate::identify::Identity;

/// Age at which memory is read again.
pub const MEMORY_PACE: Duration = Duration::from_secs(5);
/// Time between searches for other kubepods.
const SEARCH_EVERY: u64 = 30_000_000_000;
/// Snapshots for which a cgroup whose files cannot be read is left alone, after it was logged.
const LOG_EVERY: u32 = 600;

/// Reads pod and container cgroups from their files.
#[derive(Debug)]
pub struct Cgroupfs {
    root: PathBuf,
    kubepods: Vec<Kubepods>,
    node: NodeFiles,
    reader: Reader,
    cgroups: BTreeMap<CgroupId, Cgroup>,
    watched: Vec<(PathBuf, (u64, u64))>,
    /// Containers outside kubepods.
    outside: Vec<Directory>,
    searched: Option<BootTime>,
    /// The listing does not show every directory, or not for certain.
    stale: bool,
    /// The last listing may have missed directories, so what the next one finds need not be new.
    uncertain: bool,
    budget: Budget,
    page: u64,
    memory_pace: Duration,
    refusals: Vec<Refusal>,
    costs: Costs,
}

/// One cgroup with its memory as of the last time it was read.
#[derive(Debug)]
struct Cgroup {
    identity: Arc<Identity>,
    files: CgroupFiles,
    late: bool,
    counters: Counters,
    memory_at: Option<BootTime>,
    /// Snapshots until a failure is logged again; `None`: there was none.
    failing: Option<u32>,
}

impl Cgroupfs {
    /// For the cgroup2 mount at `root`, where kubepods is looked for at the first snapshot. `refusals`: why files are
    /// read at all. Memory is read again when it is older than `memory_pace`.
    pub fn new(root: &Path, refusals: Vec<Refusal>, memory_pace: Duration) -> Self {
        Self {
            root: root.to_owned(),
            kubepods: Vec::new(),
            node: NodeFiles::open(root),
            reader: Reader::new(),
            cgroups: BTreeMap::new(),
            watched: Vec::new(),
            outside: Vec::new(),
            searched: None,
            stale: true,
            uncertain: false,
            budget: Budget::of_process(),
            page: page_size(),
            memory_pace,
            refusals,
            costs: Costs::default(),
        }
    }

    fn changed(&self) -> bool {
        self.stale || self.watched.iter().any(|(path, before)| tree::state(path).ok() != Some(*before))
    }

    /// Looks for kubepods that were made later, and for the present ones if they are gone.
    fn search(&mut self, now: BootTime) -> Result<(), CollectError> {
        let due = self.searched.is_none_or(|last| now.0.saturating_sub(last.0) >= SEARCH_EVERY);
        let lost = self.kubepods.is_empty() || !self.kubepods.iter().all(Kubepods::is_current);
        if !(due || lost || self.cgroups.is_empty()) {
            return Ok(());
        }
        let found = Kubepods::find(&self.root)?;
        if found != self.kubepods {
            self.kubepods = found;
            self.stale = true;
            self.uncertain = true;
        }
        self.searched = Some(now);
        self.costs.dying = kubepods::dying(&self.kubepods);
        Ok(())
    }

    fn list(&mut self) {
        let listing = Listing::of(&self.kubepods);
        self.outside.clear();
        if listing.has_pod_without_containers() {
            self.outside = kubepods::outside_kubepods(&self.root);
        }
        self.watched.clear();
        let watched = listing.directories.iter().filter_map(|d| Some((d.path.clone(), d.state?)));
        self.watched.extend(watched);
        // Children that are not read themselves (a container's monitor) can be exchanged for a container without a trace
        // in the number of links or in a dead descriptor. And nothing watches the containers outside kubepods.
        let unread = listing.directories.iter().any(|directory| directory.role == Role::Other);
        self.stale = unread || listing.unreadable > 0 || !self.outside.is_empty();
        self.costs.unreadable += listing.unreadable;
        let late = std::mem::replace(&mut self.uncertain, listing.unreadable > 0);
        let mut before = std::mem::take(&mut self.cgroups);
        let outside = self.outside.iter().cloned();
        for directory in listing.directories.into_iter().chain(outside) {
            let Directory { id, path, identity: Some(identity), .. } = directory else { continue };
            let kept = before.remove(&id).filter(|cgroup| !cgroup.files.lacks_memory());
            let opened = match kept {
                Some(cgroup) => Ok(cgroup),
                None => Cgroup::open(identity, path.clone(), late, &mut self.budget),
            };
            match opened {
                Ok(cgroup) => drop(self.cgroups.insert(id, cgroup)),
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(cgroup = %path.display(), %error, "cannot open a cgroup's files, it is left out");
                    self.costs.unreadable += 1;
                    (self.stale, self.uncertain) = (true, true);
                }
            }
        }
        self.budget.0 += before.values().map(|cgroup| cgroup.files.kept()).sum::<usize>();
    }

    /// Reads all cgroups that were not yet read for the snapshot of `now`. Returns whether one has gone away.
    fn read(&mut self, now: BootTime, into: &mut Snapshot) -> bool {
        let mut gone = false;
        for (id, cgroup) in &mut self.cgroups {
            match cgroup.read(now, self.memory_pace, &mut self.reader, self.page) {
                Ok(()) => into.samples.push(cgroup.sample(*id)),
                Err(CollectError::Read { source, .. }) if is_gone(&source) => gone = true,
                Err(error) => {
                    cgroup.fail(&error);
                    self.costs.unreadable += 1;
                    into.samples.push(cgroup.sample(*id));
                }
            }
        }
        gone
    }
}

impl Collector for Cgroupfs {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let start = clock::boot();
        into.node = self.node.read(&mut self.reader);
        self.search(start)?;
        self.costs.unreadable = 0;
        if self.changed() {
            self.list();
        }
        let listed = clock::boot();
        into.samples.clear();
        if self.read(listed, into) {
            // A container was exchanged for another since the listing: the new one is read within the same snapshot, so
            // that "not in the snapshot before" means that it did not exist then.
            self.list();
            into.samples.clear();
            self.stale |= self.read(listed, into);
        }
        (into.boot, into.real) = clock::middle_since(listed);
        self.costs.seen = self.cgroups.len();
        self.costs.identified = into.samples.len();
        self.costs.identify = clock::between(start, listed);
        self.costs.walk = clock::between(listed, clock::boot());
        Ok(())
    }

    fn name(&self) -> &'static str {
        "cgroupfs"
    }

    fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}

impl Cgroup {
    fn open(
        identity: Arc<Identity>,
        path: PathBuf,
        late: bool,
        budget: &mut Budget,
    ) -> std::io::Result<Self> {
        let files = CgroupFiles::open(path, Fields::ALL, budget)?;
        Ok(Self { identity, files, late, counters: Counters::default(), memory_at: None, failing: None })
    }

    fn read(
        &mut self,
        now: BootTime,
        memory_pace: Duration,
        reader: &mut Reader,
        page: u64,
    ) -> Result<(), CollectError> {
        let old = |at: BootTime| u128::from(now.0.saturating_sub(at.0)) >= memory_pace.as_nanos();
        let memory = self.memory_at.is_none_or(|at| at != now && old(at));
        let cpu = Fields::NONE.with(Field::Cpu);
        let fields = if memory { Fields::ALL } else { cpu };
        let read = self.files.read(fields, reader, page)?;
        self.counters.replace(fields, &read);
        if memory {
            self.memory_at = Some(now);
        }
        self.failing = None;
        Ok(())
    }

    fn sample(&self, id: CgroupId) -> Sample {
        Sample {
            cgroup: id,
            identity: Arc::clone(&self.identity),
            cpu_ns: self.counters.cpu_ns,
            memory: self.counters.memory(),
            late: self.late,
        }
    }

    /// An unreadable or unparsable file costs its cgroup only, which stays in the snapshot without counters.
    fn fail(&mut self, error: &CollectError) {
        match &mut self.failing {
            Some(quiet) if *quiet > 0 => *quiet -= 1,
            _ => {
                tracing::warn!(cgroup = %self.files.path().display(), %error, "a cgroup has no counters in this snapshot");
                self.failing = Some(LOG_EVERY);
            }
        }
        self.counters = Counters::default();
    }
}

#[cfg(test)]
mod tests;
