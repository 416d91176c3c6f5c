//! The counters of one cgroup as independent fields: each comes from the walk or from its file, or is absent.

use waggle_agent_ebpf::{Record, group};

use super::Memory;

/// A counter that is resolved, read and trusted independently of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `usage_usec` of `cpu.stat`.
    Cpu,
    /// `memory.current`.
    Usage,
    /// `inactive_file` of `memory.stat`.
    InactiveFile,
    /// `memory.swap.current`.
    Swap,
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields(u32);

/// The counters of one cgroup. Memory is in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// CPU time in ns.
    pub cpu_ns: Option<u64>,
    /// `memory.current`.
    pub usage_pages: Option<u64>,
    /// `inactive_file`, floored at 0.
    pub inactive_file_pages: Option<u64>,
    /// `memory.swap.current`.
    pub swap_pages: Option<u64>,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Usage, Self::InactiveFile, Self::Swap];

    /// The name that metrics and log lines use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Usage => "memory-usage",
            Self::InactiveFile => "inactive-file",
            Self::Swap => "swap",
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Cpu => group::CPU,
            Self::Usage => group::USAGE,
            Self::InactiveFile => group::INACTIVE_FILE,
            Self::Swap => group::SWAP,
        }
    }
}

impl Fields {
    /// No field.
    pub const NONE: Self = Self(0);
    /// Every field.
    pub const ALL: Self = Self(group::CPU | group::MEMORY);

    /// The same as bits of [`group`].
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether the field is in the set.
    pub const fn contains(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }

    /// Whether no field is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with the field.
    #[must_use]
    pub const fn with(self, field: Field) -> Self {
        Self(self.0 | field.bit())
    }

    /// The set without the field.
    #[must_use]
    pub const fn without(self, field: Field) -> Self {
        Self(self.0 & !field.bit())
    }

    /// The fields in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The fields that are not in the set.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(Self::ALL.0 & !self.0)
    }

    /// The fields in order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |field| self.contains(*field))
    }
}

impl Counters {
    /// Every field zero.
    pub(crate) const ZERO: Self =
        Self { cpu_ns: Some(0), usage_pages: Some(0), inactive_file_pages: Some(0), swap_pages: Some(0) };

    /// What the program recorded; a group that it did not read is absent.
    pub fn of(record: &Record) -> Self {
        let valid = |group: u32, value: u64| (record.valid & group != 0).then_some(value);
        Self {
            cpu_ns: valid(group::CPU, record.cpu_ns),
            usage_pages: valid(group::USAGE, record.usage),
            // The kernel clamps a negative sum of per-CPU deltas as well (`memcg_page_state`).
            inactive_file_pages: valid(
                group::INACTIVE_FILE,
                u64::try_from(record.inactive_file).unwrap_or_default(),
            ),
            swap_pages: valid(group::SWAP, record.swap),
        }
    }

    /// One field.
    pub const fn get(&self, field: Field) -> Option<u64> {
        match field {
            Field::Cpu => self.cpu_ns,
            Field::Usage => self.usage_pages,
            Field::InactiveFile => self.inactive_file_pages,
            Field::Swap => self.swap_pages,
        }
    }

    /// Replaces the given fields by those of `other`.
    pub fn replace(&mut self, fields: Fields, other: &Self) {
        for field in fields.iter() {
            match field {
                Field::Cpu => self.cpu_ns = other.cpu_ns,
                Field::Usage => self.usage_pages = other.usage_pages,
                Field::InactiveFile => self.inactive_file_pages = other.inactive_file_pages,
                Field::Swap => self.swap_pages = other.swap_pages,
            }
        }
    }

    /// Whether memory is counted but `inactive_file` is absent, because the flush skipped the cgroup.
    pub(crate) const fn lacks_inactive_file(&self) -> bool {
        self.usage_pages.is_some() && self.inactive_file_pages.is_none()
    }

    /// Memory, if what the working set needs is there.
    pub fn memory(&self) -> Option<Memory> {
        Some(Memory {
            usage_pages: self.usage_pages?,
            inactive_file_pages: self.inactive_file_pages?,
            swap_pages: self.swap_pages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_was_not_read_is_absent() {
        let record =
            Record { cpu_ns: 7, usage: 9, inactive_file: -3, valid: group::CPU, ..Record::default() };
        let counters = Counters::of(&record);
        assert_eq!((counters.cpu_ns, counters.usage_pages, counters.memory()), (Some(7), None, None));
        let valid = group::USAGE | group::INACTIVE_FILE;
        let memory = Counters::of(&Record { valid, ..record }).memory().unwrap();
        assert_eq!((memory.usage_pages, memory.inactive_file_pages, memory.swap_pages), (9, 0, None));
    }

    #[test]
    fn one_field_is_replaced_alone() {
        let mut counters = Counters { cpu_ns: Some(1), usage_pages: Some(2), ..Counters::default() };
        let other = Counters { cpu_ns: Some(10), swap_pages: Some(4), ..Counters::default() };
        counters.replace(Fields::NONE.with(Field::Usage).with(Field::Swap), &other);
        let expected = Counters { cpu_ns: Some(1), swap_pages: Some(4), ..Counters::default() };
        assert_eq!(counters, expected);
        assert!(Field::ALL.into_iter().all(|field| expected.get(field) == counters.get(field)));
    }

    #[test]
    fn sets_of_fields() {
        let set = Fields::NONE.with(Field::Cpu).with(Field::Swap);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Field::Cpu, Field::Swap]);
        assert_eq!(set.complement().iter().collect::<Vec<_>>(), [Field::Usage, Field::InactiveFile]);
        assert!(set.without(Field::Cpu).without(Field::Swap).is_empty());
        assert_eq!(Fields::ALL.and(set), set);
    }
}
