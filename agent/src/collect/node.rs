//! Totals of the node, from files: the root cgroup's CPU counter in the kernel is 0 and it has no `memory.current`.

use std::path::Path;

use super::files::{Kept, Reader, value};
use super::{CollectError, NodeTotals};

const MEMINFO: &str = "/proc/meminfo";

/// The root's `cpu.stat` and `memory.stat`, and `/proc/meminfo`, kept open.
#[derive(Debug)]
pub(crate) struct NodeFiles {
    cpu: Kept,
    memory: Kept,
    meminfo: Kept,
    root: String,
}

impl NodeFiles {
    /// Opens the files of the hierarchy mounted at `root`.
    pub(crate) fn open(root: &Path) -> Result<Self, CollectError> {
        let mut budget = 3;
        let mut open = |path: &Path| {
            Kept::open(path.to_owned(), &mut budget)
                .map_err(|error| CollectError::read(path.display().to_string(), error))
        };
        Ok(Self {
            cpu: open(&root.join("cpu.stat"))?,
            memory: open(&root.join("memory.stat"))?,
            meminfo: open(Path::new(MEMINFO))?,
            root: root.display().to_string(),
        })
    }

    /// Reads all three.
    pub(crate) fn read(&self, reader: &mut Reader) -> Result<NodeTotals, CollectError> {
        let cpu_path = || format!("{}/cpu.stat", self.root);
        let memory_path = || format!("{}/memory.stat", self.root);
        let cpu = self
            .cpu
            .read(reader)
            .map_err(|error| CollectError::read(cpu_path(), error))?
            .and_then(|text| value(text, "usage_usec"))
            .ok_or_else(|| CollectError::Parse { what: cpu_path(), why: "it has no usage_usec" })?;
        let by_cgroup = self.memory.read(reader).map_err(|error| CollectError::read(memory_path(), error))?;
        let working_set = match by_cgroup.map(root_working_set) {
            Some(None) => {
                return Err(CollectError::Parse {
                    what: memory_path(),
                    why: "it lacks anon, file or inactive_file",
                });
            }
            Some(known) => known,
            None => None,
        };
        let text = self.meminfo.read(reader).map_err(|error| CollectError::read(MEMINFO, error))?;
        let text =
            text.ok_or(CollectError::Parse { what: MEMINFO.to_owned(), why: "there is no such file" })?;
        let working_set_bytes = working_set
            .or_else(|| meminfo_working_set(text))
            .ok_or(CollectError::Parse { what: MEMINFO.to_owned(), why: "it lacks AnonPages or Cached" })?;
        Ok(NodeTotals {
            cpu_ns: Some(cpu.saturating_mul(1000)),
            working_set_bytes: Some(working_set_bytes),
            swap_bytes: swap(text),
        })
    }
}

/// `anon + file − inactive_file` of the root's `memory.stat`, as the kubelet (opencontainers/cgroups `fs2/memory.go`).
fn root_working_set(text: &[u8]) -> Option<u64> {
    let sum = value(text, "anon")?.saturating_add(value(text, "file")?);
    Some(sum.saturating_sub(value(text, "inactive_file")?))
}

/// The same sum where the memory controller is not on this hierarchy: `file` counts what meminfo splits into page
/// cache, buffers and swap cache (`fs/proc/meminfo.c`).
fn meminfo_working_set(text: &[u8]) -> Option<u64> {
    let sum = ["AnonPages", "Cached", "Buffers", "SwapCached"]
        .into_iter()
        .try_fold(0u64, |sum, key| Some(sum.saturating_add(value(text, key)?)))?;
    Some(sum.saturating_sub(value(text, "Inactive(file)")?).saturating_mul(1024))
}

/// `SwapTotal − SwapFree`; `None` without swap.
fn swap(text: &[u8]) -> Option<u64> {
    let total = value(text, "SwapTotal").filter(|total| *total > 0)?;
    Some(total.saturating_sub(value(text, "SwapFree")?).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(memory: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cpu.stat"), "usage_usec 1500\nuser_usec 1000\n").unwrap();
        if let Some(text) = memory {
            std::fs::write(root.path().join("memory.stat"), text).unwrap();
        }
        root
    }

    #[test]
    fn totals_come_from_the_root_files() {
        let root = tree(Some("anon 1000\nfile 500\nkernel 99\ninactive_file 200\n"));
        let totals = NodeFiles::open(root.path()).unwrap().read(&mut Reader::new()).unwrap();
        assert_eq!((totals.cpu_ns, totals.working_set_bytes), (Some(1_500_000), Some(1300)));
    }

    #[test]
    fn more_inactive_than_all_is_zero() {
        assert_eq!(root_working_set(b"anon 1\nfile 1\ninactive_file 9\n"), Some(0));
    }

    #[test]
    fn a_file_without_its_lines_is_an_error() {
        let root = tree(Some("anon 1000\n"));
        let error = NodeFiles::open(root.path()).unwrap().read(&mut Reader::new()).unwrap_err();
        assert!(error.to_string().contains("memory.stat: it lacks anon, file or inactive_file"), "{error}");
    }

    #[test]
    fn without_the_memory_controller_meminfo_has_the_same_sum() {
        let text = b"MemTotal: 9 kB\nBuffers: 2 kB\nCached: 30 kB\nSwapCached: 1 kB\nInactive(file): 13 kB\nAnonPages: 40 kB\nSwapTotal: 8 kB\nSwapFree: 3 kB\n";
        assert_eq!(meminfo_working_set(text), Some(60 * 1024));
        assert_eq!(swap(text), Some(5 * 1024));
        assert_eq!(swap(b"SwapTotal: 0 kB\nSwapFree: 0 kB\n"), None);
        let root = tree(None);
        assert!(
            NodeFiles::open(root.path()).unwrap().read(&mut Reader::new()).unwrap().working_set_bytes
                > Some(0)
        );
    }
}
