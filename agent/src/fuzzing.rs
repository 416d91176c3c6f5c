//! The parsers of files that the kernel or a runtime writes, for the fuzz targets of `waggle-fuzz` alone.

use crate::collect::{bpf::offsets::Offsets, files};

pub use crate::collect::bpf::btf::{Btf, Member, Shape, TypeId};

/// The number behind `key` in a stat file.
pub fn value(text: &[u8], key: &str) -> Option<u64> {
    files::value(text, key)
}

/// The first number of a file.
pub fn number(text: &[u8]) -> Option<u64> {
    files::number(text)
}

/// Whether the eBPF program's globals can be resolved.
pub fn resolves(btf: &Btf<'_>) -> bool {
    Offsets::resolve(btf).is_ok()
}
