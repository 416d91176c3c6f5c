//! One kubepods as the start of a walk: link, flush, iterate. Owns no policy: what fails comes out as an error.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use waggle_agent_ebpf::{Classes, Record};

use super::load::Loaded;
use super::sys;
use crate::collect::CollectError;
use crate::collect::files::{self, Kept, Reader};
use crate::collect::kubepods::Kubepods;

/// The program linked to a kubepods.
pub(super) struct Start {
    pub(super) kubepods: Kubepods,
    pub(super) classes: Classes,
    link: OwnedFd,
    cpu_stat: OwnedFd,
    memory_stat: Kept,
}

impl Start {
    /// Links the program. Works without any capability.
    pub(super) fn at(loaded: &Loaded, kubepods: Kubepods) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&kubepods.path, flags, Mode::empty())?;
        Ok(Self {
            link: sys::link_cgroups(loaded.program.as_fd(), directory.as_fd())?,
            cpu_stat: files::open(&kubepods.path.join("cpu.stat"))?,
            memory_stat: Kept::open(kubepods.path.join("memory.stat"), &mut 1)?,
            classes: Classes::default(),
            kubepods,
        })
    }

    /// Folds the per-CPU counters of the whole subtree into what the walk reads. Reading `cpu.stat` flushes CPU time
    /// (`css_rstat_flush(&cgrp->self)`), and up to 6.15 every other subsystem too. Where it leaves memory untouched,
    /// reading `memory.stat` flushes that, unless less is pending than [its threshold](crate::collect::parity).
    /// Returns whether the cgroup is still there.
    pub(super) fn flush(&self, memory: bool, reader: &mut Reader) -> Result<bool, CollectError> {
        let read = |name: &str, result: io::Result<()>| match result {
            Ok(()) => Ok(true),
            Err(error) if is_dead(&error) => Ok(false),
            Err(error) => Err(CollectError::read(self.kubepods.path.join(name).display().to_string(), error)),
        };
        if !read("cpu.stat", reader.read(&self.cpu_stat).map(drop))? {
            return Ok(false);
        }
        if memory { read("memory.stat", self.memory_stat.read(reader).map(drop)) } else { Ok(true) }
    }

    /// Walks the subtree and appends its records, the start's own first. It writes nothing to its reader: an answer of 0
    /// bytes means that it is over. Returns whether the start is still there.
    pub(super) fn iterate(&self, loaded: &Loaded, records: &mut Vec<Record>) -> Result<bool, CollectError> {
        loaded.classes.write(self.classes);
        let before = loaded.records.header().session;
        let iterator =
            sys::iterator(self.link.as_fd()).map_err(|error| CollectError::read("a new iterator", error))?;
        loop {
            match rustix::io::read(&iterator, &mut [0u8; 64]) {
                Ok(0) => break,
                Ok(_) => return Err(CollectError::Unpublished { why: "the program wrote text".to_owned() }),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(CollectError::read("the cgroup iterator", error)),
            }
        }
        drop(iterator);
        let header = loaded.records.header();
        if header.dropped != 0 && header.running_session != before {
            let slots = loaded.records.slots();
            return Err(CollectError::Truncated { slots, needed: u64::from(slots) + header.dropped });
        }
        if header.session == before {
            return Err(CollectError::Unpublished { why: "the session is the previous one".to_owned() });
        }
        let first = records.len();
        records.extend((1..=header.count).map_while(|slot| loaded.records.record(slot)));
        if records.len() - first != header.count as usize {
            return Err(CollectError::Unpublished { why: "it counts more cgroups than slots".to_owned() });
        }
        Ok(records.get(first).is_some_and(|record| record.id == self.kubepods.id.0))
    }
}

/// What a file of a removed cgroup answers.
fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}
