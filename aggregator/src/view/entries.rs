//! The entries of one node's pods, side by side in a few pieces of memory: a long list reads tens of thousands of them, and
//! a report makes all of its node's again. They are found by the slot that the inventory gave a pod; the UID decides.

use std::sync::Arc;

use super::{Measured, Usage};
use crate::inventory::{ContainerName, ContainerNames, Pod};

/// Looking further back for the same instant and window costs more than to keep it twice.
const LOOK_BACK: usize = 4;

/// Entries of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// The node's row, where it has entries.
    row: Option<usize>,
    /// By the pod's slot.
    slots: Vec<Option<Slot>>,
    /// Most pods of a node were measured together.
    measured: Vec<Measured>,
    usages: Vec<Usage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    uid: Arc<str>,
    names: ContainerNames,
    /// Index into `usages` of the first container's.
    first: u32,
    /// Index into `measured`.
    measured: u32,
}

/// A pod's entry: always complete, every container of the expected set that it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodEntry<'a> {
    /// `metadata.uid` of the pod.
    pub uid: &'a Arc<str>,
    /// When: the earliest of its containers.
    pub measured: &'a Measured,
    /// The containers in serving order (see [`Pod::containers`]); never empty.
    pub names: &'a ContainerNames,
    /// What each of them uses.
    pub usages: &'a [Usage],
}

/// An entry that outlives the view that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPodEntry {
    uid: Arc<str>,
    measured: Measured,
    names: ContainerNames,
    usages: Box<[Usage]>,
}

impl Entries {
    /// No entries, with room for this many pods and containers.
    pub fn with_capacity(pods: usize, containers: usize) -> Self {
        Self { slots: Vec::with_capacity(pods), usages: Vec::with_capacity(containers), ..Self::default() }
    }

    /// The entry of a pod.
    #[inline]
    pub fn get(&self, pod: &Pod) -> Option<PodEntry<'_>> {
        let slot = self.slots.get(pod.indexed.place?.slot())?.as_ref()?;
        // Nearly always the same memory: then the text is not even fetched.
        if Arc::ptr_eq(&slot.uid, &pod.uid) || slot.uid == pod.uid { self.entry(slot) } else { None }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = PodEntry<'_>> {
        self.slots.iter().flatten().filter_map(|slot| self.entry(slot))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row.is_none()
    }

    /// Sets the entry of a pod: its containers by name, each with its usage. A pod that has no place (it does not run)
    /// has no entry either, nor has one without containers or one of whose usages is missing.
    pub fn set(&mut self, pod: &Pod, measured: Measured, names: &ContainerNames, usages: &[Usage]) {
        let Some(place) = pod.indexed.place else { return };
        if names.is_empty() || usages.len() != names.len() {
            return;
        }
        let first = self.usages.len();
        self.usages.extend_from_slice(usages);
        let recent = self.measured.len().saturating_sub(LOOK_BACK);
        let known = self.measured.iter().skip(recent).position(|known| *known == measured);
        let at = known.map_or(self.measured.len(), |known| recent + known);
        if known.is_none() {
            self.measured.push(measured);
        }
        // A node has fewer containers than 2³² by far; more would only be left out.
        let (Ok(first), Ok(at)) = (u32::try_from(first), u32::try_from(at)) else { return };
        if self.slots.len() <= place.slot() {
            self.slots.resize(place.slot() + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(place.slot()) {
            *slot = Some(Slot { uid: Arc::clone(&pod.uid), names: names.clone(), first, measured: at });
        }
        self.row = Some(place.node());
    }

    /// The row that the inventory gave the node of these pods.
    pub(super) fn row(&self) -> Option<usize> {
        self.row
    }

    #[inline]
    fn entry<'a>(&'a self, slot: &'a Slot) -> Option<PodEntry<'a>> {
        let (first, count) = (slot.first as usize, slot.names.len());
        Some(PodEntry {
            uid: &slot.uid,
            measured: self.measured.get(slot.measured as usize)?,
            names: &slot.names,
            usages: self.usages.get(first..first + count)?,
        })
    }
}

impl<'a> PodEntry<'a> {
    /// The containers: name and usage.
    pub fn containers(&self) -> impl Iterator<Item = (&'a str, Usage)> + use<'a> {
        self.names.iter().map(ContainerName::text).zip(self.usages.iter().copied())
    }

    /// A copy of its own.
    pub fn to_owned(&self) -> OwnedPodEntry {
        OwnedPodEntry {
            uid: Arc::clone(self.uid),
            measured: *self.measured,
            names: self.names.clone(),
            usages: self.usages.into(),
        }
    }
}

impl OwnedPodEntry {
    /// The same, lent.
    pub fn entry(&self) -> PodEntry<'_> {
        PodEntry { uid: &self.uid, measured: &self.measured, names: &self.names, usages: &self.usages }
    }
}
