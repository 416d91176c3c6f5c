//! The files of one cgroup as [`Counters`], and the budget of descriptors that may be kept open for them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::{Kept, Reader, number, value};
use super::{CollectError, Counters, Field, Fields, page_size};

/// Kernel memory that kept descriptors may cost. After its first read each holds a page for the text, besides the
/// file and its `seq_file` (`fs/seq_file.c`): 4.6 KiB were measured with pages of 4 KiB.
const KERNEL_BYTES: u64 = 4 << 20;
/// What a descriptor costs besides its page.
const DESCRIPTOR_BYTES: u64 = 640;
/// Descriptors left for everything else in the process.
const SPARE_DESCRIPTORS: u64 = 128;

/// How many descriptors may still be kept. Beyond that files are opened for each read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget(pub(crate) usize);

impl Budget {
    /// What the kernel memory and the limit of the process allow, after raising the soft limit to the hard one.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
        let allowed = allowed.unwrap_or(u64::MAX).saturating_sub(SPARE_DESCRIPTORS);
        Self(usize::try_from(allowed.min(within(KERNEL_BYTES, page_size()))).unwrap_or(usize::MAX))
    }
}

const fn within(bytes: u64, page: u64) -> u64 {
    bytes / (page + DESCRIPTOR_BYTES)
}

/// The files of one cgroup.
#[derive(Debug)]
pub(crate) struct CgroupFiles {
    path: PathBuf,
    cpu: Kept,
    current: Kept,
    stat: Kept,
    swap: Kept,
}

impl CgroupFiles {
    /// Opens those of `fields`, as far as the budget goes. Fails if the cgroup is gone.
    pub(crate) fn open(path: PathBuf, fields: Fields, budget: &mut Budget) -> io::Result<Self> {
        let mut open = |field, name: &str| {
            if fields.contains(field) { Kept::open(path.join(name), &mut budget.0) } else { Ok(Kept::Absent) }
        };
        let (cpu, current, stat, swap) = (
            open(Field::Cpu, "cpu.stat")?,
            open(Field::Usage, "memory.current")?,
            open(Field::InactiveFile, "memory.stat")?,
            open(Field::Swap, "memory.swap.current")?,
        );
        if matches!((&cpu, &current, &stat, &swap), (Kept::Absent, Kept::Absent, Kept::Absent, Kept::Absent))
        {
            // No file at all: either the directory is gone or it never was a cgroup's.
            std::fs::metadata(&path)?;
        }
        Ok(Self { path, cpu, current, stat, swap })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Descriptors that are kept.
    pub(crate) fn kept(&self) -> usize {
        [&self.cpu, &self.current, &self.stat, &self.swap].into_iter().filter(|file| file.is_open()).count()
    }

    /// Whether a controller may have been enabled since a file was found absent.
    pub(crate) const fn lacks_memory(&self) -> bool {
        matches!(self.current, Kept::Absent)
    }

    /// Reads the given fields; one whose file does not exist is absent.
    pub(crate) fn read(
        &self,
        fields: Fields,
        reader: &mut Reader,
        page: u64,
    ) -> Result<Counters, CollectError> {
        let mut counters = Counters::default();
        for field in fields.iter() {
            let (kept, name) = match field {
                Field::Cpu => (&self.cpu, "cpu.stat"),
                Field::Usage => (&self.current, "memory.current"),
                Field::InactiveFile => (&self.stat, "memory.stat"),
                Field::Swap => (&self.swap, "memory.swap.current"),
            };
            let file = || self.path.join(name).display().to_string();
            let Some(text) = kept.read(reader).map_err(|error| CollectError::read(file(), error))? else {
                continue;
            };
            let parse = |why| CollectError::Parse { what: file(), why };
            match field {
                Field::Cpu => {
                    let usec = value(text, "usage_usec").ok_or_else(|| parse("it has no usage_usec"))?;
                    counters.cpu_ns = Some(usec.saturating_mul(1000));
                }
                Field::Usage => {
                    counters.usage_pages =
                        Some(number(text).ok_or_else(|| parse("it is not a number"))? / page);
                }
                Field::InactiveFile => {
                    let bytes =
                        value(text, "inactive_file").ok_or_else(|| parse("it has no inactive_file"))?;
                    counters.inactive_file_pages = Some(bytes / page);
                }
                Field::Swap => {
                    counters.swap_pages =
                        Some(number(text).ok_or_else(|| parse("it is not a number"))? / page);
                }
            }
        }
        Ok(counters)
    }
}

/// What a file of a removed cgroup answers.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_kernel_memory_whatever_the_page_size() {
        for page in [4096, 16_384, 65_536] {
            let descriptors = within(KERNEL_BYTES, page);
            assert!(descriptors * page <= KERNEL_BYTES, "{page}");
            assert!((descriptors + 1) * (page + DESCRIPTOR_BYTES) > KERNEL_BYTES, "{page}");
        }
        assert_eq!(within(KERNEL_BYTES, 65_536), 63);
        assert!(Budget::of_process().0 <= 885);
    }

    #[test]
    fn only_what_is_asked_for_is_opened_and_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cpu.stat"), "usage_usec 5\n").unwrap();
        std::fs::write(directory.path().join("memory.current"), "not a number\n").unwrap();
        let mut budget = Budget(9);
        let cpu = Fields::NONE.with(Field::Cpu);
        let files = CgroupFiles::open(directory.path().to_owned(), cpu, &mut budget).unwrap();
        assert_eq!((files.kept(), budget.0), (1, 8));
        let counters = files.read(Fields::ALL, &mut Reader::new(), 4096).unwrap();
        assert_eq!(counters, Counters { cpu_ns: Some(5000), ..Counters::default() });
        let all = CgroupFiles::open(directory.path().to_owned(), Fields::ALL, &mut budget).unwrap();
        let error = all.read(Fields::ALL, &mut Reader::new(), 4096).unwrap_err();
        assert!(error.to_string().contains("memory.current: it is not a number"), "{error}");
        let gone = CgroupFiles::open(directory.path().join("gone"), Fields::ALL, &mut budget).unwrap_err();
        assert!(is_gone(&gone));
    }
}
