//! Brings the program into the kernel, in the order that keeps one parsed copy of the kernel's BTF at a time.
//!
//! A parsed copy is some 23 MB, and aya makes one unasked. So: own scan first and freed; aya's copy dropped before the
//! object is loaded; one copy for the program's target, dropped; then memory is given back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map, MapError};
use aya::programs::{Iter, ProgramError};
use aya::{Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use waggle_agent_ebpf::{CLASSES_MAP, LAYOUT_GLOBAL, PROGRAM_NAME, RECORDS_MAP};

use super::btf::Btf;
use super::diagnosis;
use super::messages::Messages;
use super::offsets::Offsets;
use super::sys::{self, MappedClasses, MappedRecords};
use crate::collect::{Field, Reason, Refusal, parity, processors};

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The iterator's name behind `bpf_iter_`.
const TARGET: &str = "cgroup";
/// Lines of the verifier's log that are kept.
const LOG_LINES: usize = 5;

/// The built program.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cgroups.o"));

/// What is left of loading: descriptors, two mappings, and what the kernel does not have.
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    pub(super) records: MappedRecords,
    pub(super) classes: MappedClasses,
    pub(super) messages: Messages,
    /// Fields that the walk cannot read.
    pub(super) missing: Vec<(Field, Refusal)>,
    /// Whether memory has to be flushed besides CPU time.
    pub(super) flush_memory: bool,
}

/// Loads the program with an array of `slots`.
pub(super) fn load(slots: u32) -> Result<Loaded, Refusal> {
    let mut offsets = resolve()?;
    let most = parity::pending_pages(processors());
    offsets.layout.most_updates = u32::try_from(most).unwrap_or(u32::MAX);
    let loaded = load_object(offsets, slots);
    sys::trim_memory();
    loaded
}

fn resolve() -> Result<Offsets, Refusal> {
    let no_btf = |why: String| {
        let remedy =
            "the kernel must be built with CONFIG_DEBUG_INFO_BTF and the container must see its /sys";
        Refusal::new(Reason::NoBtf, format!("cannot use {KERNEL_BTF}: {why}; {remedy}"))
    };
    let blob = std::fs::read(KERNEL_BTF).map_err(|error| no_btf(error.to_string()))?;
    let btf = Btf::parse(&blob).map_err(|error| no_btf(error.to_string()))?;
    Offsets::resolve(&btf)
}

fn load_object(offsets: Offsets, slots: u32) -> Result<Loaded, Refusal> {
    let mut object = create_maps(&offsets, slots)?;
    load_program(&mut object)?;
    let refused = |what: &str| Refusal::new(Reason::LoadRefused, what.to_owned());
    let program = object.program(PROGRAM_NAME).ok_or_else(|| refused("the object has no such program"))?;
    let program = program.fd().map_err(|error| refused(&error.to_string()))?.as_fd().try_clone_to_owned();
    let program = program.map_err(|error| refused(&error.to_string()))?;
    let messages = Messages::of(&mut object).map_err(|error| refused(&error.to_string()))?;
    let not_mapped =
        |error: io::Error| Refusal::new(Reason::MapRefused, format!("an array cannot be mapped: {error}"));
    let array = |name: &str| match object.map(name) {
        Some(Map::Array(map)) => Ok(map.fd().as_fd()),
        _ => Err(refused("the object lacks an array")),
    };
    let records = MappedRecords::map(array(RECORDS_MAP)?, slots).map_err(not_mapped)?;
    let classes = MappedClasses::map(array(CLASSES_MAP)?).map_err(not_mapped)?;
    let Offsets { missing, flush_memory, layout: _ } = offsets;
    Ok(Loaded { program, records, classes, messages, missing, flush_memory })
}

fn create_maps(offsets: &Offsets, slots: u32) -> Result<Ebpf, Refusal> {
    let layout = offsets.layout.words();
    let mut loader = EbpfLoader::new();
    loader.btf(None).map_max_entries(RECORDS_MAP, slots).override_global(LAYOUT_GLOBAL, &layout, true);
    loader.load(OBJECT).map_err(|error| {
        let (reason, what) = match &error {
            EbpfError::MapError(MapError::CreateError { .. } | MapError::SyscallError(_)) => {
                (Reason::MapRefused, "a map")
            }
            _ => (Reason::LoadRefused, "the program's type information"),
        };
        // Whichever call is the first that needs a right: BPF_BTF_LOAD on some kernels, BPF_MAP_CREATE on others.
        match cause(&error) {
            Some(io_error) => diagnosis::refused(reason, what, io_error),
            None => Refusal::new(reason, chain(&error)),
        }
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
    // The kernel hides the helpers that read its memory in confidentiality mode (`kernel/trace/bpf_trace.c`). aya then
    // takes the kernel for an old one and has the program call bpf_probe_read.
    let hidden = log.lines().any(|line| {
        line.contains("bpf_probe_read")
            && (line.contains("unknown func") || line.contains("cannot use helper"))
    });
    if hidden {
        let detail = "the kernel is locked down in confidentiality mode, so that no program may read its memory: boot \
                      with lockdown=integrity or none";
        return Refusal::new(Reason::Lockdown, detail);
    }
    if error.kind() == io::ErrorKind::PermissionDenied && log.trim().is_empty() {
        return diagnosis::refused(Reason::LoadRefused, "the program", error);
    }
    let first: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).take(LOG_LINES).collect();
    let detail = format!("{error}; {}; report the kernel version with this line", first.join(" | "));
    Refusal::new(Reason::VerifierRefused, detail)
}

/// The system call's own error behind an error of aya.
fn cause<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
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
