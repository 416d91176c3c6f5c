//! Brings the program into the kernel, in the order that keeps one parsed copy of the kernel's BTF at a time.
//!
//! A parsed copy is some 23 MB, and aya makes one unasked. So: own scan first and freed; aya's copy dropped before the
//! object is loaded; one copy for the program's target, dropped; then memory is given back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map, MapError};
use aya::programs::{Iter, ProgramError};
use aya::{Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use waggle_agent_ebpf::{MAP_NAME, PROGRAM_NAME};

use super::btf::Btf;
use super::offsets::Offsets;
use super::sys::{self, MappedArray};
use super::warnings::Warnings;
use crate::collect::tree::CONTAINER_DEPTH;
use crate::collect::{Reason, Refusal};

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The iterator's name behind `bpf_iter_`.
const TARGET: &str = "cgroup";
/// Lines of the verifier's log that are kept.
const LOG_LINES: usize = 5;

/// The built program.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cgroups.o"));

/// What is left of loading: three descriptors' worth.
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    pub(super) array: MappedArray,
    pub(super) warnings: Warnings,
}

/// Loads the program with an array of `slots`.
pub(super) fn load(slots: u32) -> Result<Loaded, Refusal> {
    let offsets = resolve()?;
    let loaded = load_object(&offsets, slots);
    sys::trim_memory();
    loaded
}

fn resolve() -> Result<Offsets, Refusal> {
    let no_btf = |why: String| Refusal::new(Reason::NoBtf, format!("{KERNEL_BTF}: {why}"));
    let blob = std::fs::read(KERNEL_BTF).map_err(|error| no_btf(error.to_string()))?;
    let btf = Btf::parse(&blob).map_err(|error| no_btf(error.to_string()))?;
    Offsets::resolve(&btf)
}

fn load_object(offsets: &Offsets, slots: u32) -> Result<Loaded, Refusal> {
    let mut object = create_maps(offsets, slots)?;
    load_program(&mut object)?;
    let refused = |what: &str| Refusal::new(Reason::LoadRefused, what.to_owned());
    let program = object.program(PROGRAM_NAME).ok_or_else(|| refused("the object has no such program"))?;
    let program = program.fd().map_err(|error| refused(&error.to_string()))?.as_fd().try_clone_to_owned();
    let program = program.map_err(|error| refused(&error.to_string()))?;
    let warnings = Warnings::of(&mut object).map_err(|error| refused(&error.to_string()))?;
    let Some(Map::Array(map)) = object.map(MAP_NAME) else {
        return Err(refused("the object has no such array"));
    };
    let array = MappedArray::map(map.fd().as_fd(), slots)
        .map_err(|error| Refusal::new(Reason::MapRefused, format!("the array cannot be mapped: {error}")))?;
    Ok(Loaded { program, array, warnings })
}

fn create_maps(offsets: &Offsets, slots: u32) -> Result<Ebpf, Refusal> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).map_max_entries(MAP_NAME, slots).override_global("MAX_DEPTH", &CONTAINER_DEPTH, true);
    for (name, value) in offsets.globals() {
        loader.override_global(name, value, true);
    }
    loader.load(OBJECT).map_err(|error| {
        let reason = match &error {
            EbpfError::MapError(MapError::CreateError { .. } | MapError::SyscallError(_)) => {
                Reason::MapRefused
            }
            _ => Reason::LoadRefused,
        };
        Refusal::new(reason, chain(&error))
    })
}

fn load_program(object: &mut Ebpf) -> Result<(), Refusal> {
    let refused = |error: &dyn std::error::Error| Refusal::new(Reason::LoadRefused, chain(error));
    let btf = AyaBtf::from_sys_fs().map_err(|error| Refusal::new(Reason::NoBtf, chain(&error)))?;
    let program = object
        .program_mut(PROGRAM_NAME)
        .ok_or_else(|| Refusal::new(Reason::LoadRefused, "the object has no such program"))?;
    let program: &mut Iter = program.try_into().map_err(|error: ProgramError| refused(&error))?;
    program.load(TARGET, &btf).map_err(|error| match &error {
        ProgramError::LoadError { io_error, verifier_log } => refusal_of(io_error, &verifier_log.to_string()),
        other => refused(other),
    })
}

/// What a refused `BPF_PROG_LOAD` means.
fn refusal_of(error: &io::Error, log: &str) -> Refusal {
    // The kernel hides the helper from programs in confidentiality mode (`kernel/trace/bpf_trace.c`).
    let hidden = log.lines().any(|line| {
        line.contains("bpf_probe_read_kernel")
            && (line.contains("unknown func") || line.contains("cannot use helper"))
    });
    if hidden {
        return Refusal::new(Reason::Lockdown, "the kernel is locked down (confidentiality)");
    }
    if error.kind() == io::ErrorKind::PermissionDenied && log.trim().is_empty() {
        let detail =
            format!("{error}: CAP_BPF and CAP_PERFMON are needed, and a seccomp profile that admits bpf()");
        return Refusal::new(Reason::LoadRefused, detail);
    }
    let first: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).take(LOG_LINES).collect();
    Refusal::new(Reason::VerifierRefused, format!("{error}; {}", first.join(" | ")))
}

/// An error and its sources in one line: aya's texts do not repeat theirs.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
