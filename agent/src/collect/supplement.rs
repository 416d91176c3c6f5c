//! Single fields from files, for cgroups whose other fields come from the walk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use super::cgroup_files::{Budget, CgroupFiles, is_gone};
use super::files::Reader;
use super::walked::Walked;
use super::{CgroupId, CollectError, Counters, Field, Fields};
use crate::identify::Identity;

/// Reads fields from files, with descriptors that are kept while the same fields are wanted.
#[derive(Debug)]
pub(crate) struct Supplement {
    reader: Reader,
    page: u64,
    fields: Fields,
    files: BTreeMap<CgroupId, CgroupFiles>,
    /// Those of kubepods.
    tops: BTreeMap<CgroupId, CgroupFiles>,
    budget: Budget,
    /// Cgroups whose files could not be read for the newest snapshot.
    unreadable: usize,
}

impl Supplement {
    /// Nothing open yet.
    pub(crate) fn new(page: u64) -> Self {
        Self {
            reader: Reader::new(),
            page,
            fields: Fields::NONE,
            files: BTreeMap::new(),
            tops: BTreeMap::new(),
            budget: Budget::of_process(),
            unreadable: 0,
        }
    }

    /// Cgroups whose files could not be read at the last call of [`Supplement::fill`].
    pub(crate) const fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Some fields of one cgroup, from files that are opened for this read alone.
    pub(crate) fn read_once(&mut self, path: &Path, fields: Fields) -> Result<Counters, CollectError> {
        let error = |error| CollectError::read(path.display().to_string(), error);
        let files = CgroupFiles::open(path.to_owned(), fields, &mut Budget(0)).map_err(error)?;
        files.read(fields, &mut self.reader, self.page)
    }

    /// Replaces `fields` of every pod and container by what the files say.
    ///
    /// All counters are hierarchical: if the file of kubepods itself has 0, so has every cgroup below, and no other file is read.
    pub(crate) fn fill(&mut self, walked: &mut Walked, fields: Fields) {
        self.unreadable = 0;
        if fields.is_empty() {
            self.forget();
            return;
        }
        let mut wanted = fields;
        for field in fields.iter() {
            let Some(everywhere) = self.same_everywhere(walked, field) else { continue };
            wanted = wanted.without(field);
            for cgroup in &mut walked.cgroups {
                cgroup.counters.replace(Fields::NONE.with(field), &everywhere);
            }
        }
        if wanted != self.fields {
            self.forget();
            self.fields = wanted;
        }
        if wanted.is_empty() {
            return;
        }
        let present: Vec<CgroupId> = walked.cgroups.iter().map(|cgroup| cgroup.id).collect();
        let budget = &mut self.budget;
        self.files.retain(|id, files| {
            let stays = present.binary_search(id).is_ok();
            if !stays {
                budget.0 += files.kept();
            }
            stays
        });
        for cgroup in walked.cgroups.iter_mut().filter(|cgroup| cgroup.identity.is_some()) {
            let found = self.read(cgroup.id, &cgroup.path, wanted);
            self.note(&found);
            cgroup.counters.replace(wanted, &found.unwrap_or_default());
        }
    }

    /// Reads `inactive_file` of the pods and containers that the flush skipped.
    ///
    /// Reading a container's `memory.stat` flushes only the container and leaves the change pending in its pod. A pod that
    /// was not skipped itself gets the change added, because a reader of its own file would not flush either.
    pub(crate) fn complete(&mut self, walked: &mut Walked) {
        let field = Fields::NONE.with(Field::InactiveFile);
        let mut changes = Vec::new();
        for cgroup in &mut walked.cgroups {
            let (Some(identity), Some(before)) = (&cgroup.identity, cgroup.skipped) else { continue };
            let found = self.read_once(&cgroup.path, field);
            self.note(&found);
            let pages = found.unwrap_or_default().inactive_file_pages;
            cgroup.counters.inactive_file_pages = pages;
            let change = pages.and_then(|pages| i64::try_from(pages).ok()).map(|pages| pages - before);
            if let (Some(change), true) = (change, identity.container.is_some()) {
                changes.push((Arc::clone(identity), change));
            }
        }
        for (container, change) in changes {
            let is_pod = |of: &Identity| of.container.is_none() && of.pod == container.pod;
            let mut pods = walked.cgroups.iter_mut().filter(|cgroup| cgroup.skipped.is_none());
            let pod = pods.find(|cgroup| cgroup.identity.as_deref().is_some_and(is_pod));
            if let Some(pages) = pod.and_then(|pod| pod.counters.inactive_file_pages.as_mut()) {
                *pages = pages.saturating_add_signed(change);
            }
        }
    }

    /// Counts an error of a cgroup that is still there.
    fn note(&mut self, found: &Result<Counters, CollectError>) {
        if let Err(error) = found
            && !matches!(error, CollectError::Read { source, .. } if is_gone(source))
        {
            self.unreadable += 1;
            tracing::debug!(%error, "a field of a cgroup is absent from this snapshot");
        }
    }

    /// What every cgroup has of a field, where kubepods' own files decide that: 0, or nothing if they do not exist (a
    /// controller that kubepods lacks is not there below it either).
    fn same_everywhere(&mut self, walked: &Walked, field: Field) -> Option<Counters> {
        let Self { tops, reader, page, .. } = self;
        let mut everywhere = None;
        for top in walked.cgroups.iter().filter(|cgroup| cgroup.identity.is_none()) {
            let files = match tops.entry(top.id) {
                Entry::Occupied(files) => files.into_mut(),
                // Few enough not to count against the budget.
                Entry::Vacant(free) => {
                    let opened = CgroupFiles::open(top.path.to_path_buf(), Fields::ALL, &mut Budget(4));
                    free.insert(opened.ok()?)
                }
            };
            let Ok(found) = files.read(Fields::NONE.with(field), reader, *page) else {
                // Kubepods was replaced: its files are opened again.
                tops.remove(&top.id);
                return None;
            };
            let value = match found.get(field) {
                Some(0) => Counters::ZERO,
                None => Counters::default(),
                Some(_) => return None,
            };
            if everywhere.is_some_and(|before| before != value) {
                return None;
            }
            everywhere = Some(value);
        }
        everywhere
    }

    fn read(&mut self, id: CgroupId, path: &Path, fields: Fields) -> Result<Counters, CollectError> {
        let files = match self.files.entry(id) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                let files = CgroupFiles::open(path.to_owned(), fields, &mut self.budget)
                    .map_err(|error| CollectError::read(path.display().to_string(), error))?;
                free.insert(files)
            }
        };
        files.read(fields, &mut self.reader, self.page)
    }

    fn forget(&mut self) {
        self.fields = Fields::NONE;
        self.budget.0 += self.files.values().map(CgroupFiles::kept).sum::<usize>();
        self.files.clear();
        self.tops.clear();
    }
}
