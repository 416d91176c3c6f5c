//! Whether a program can be the only file of an image, and which processors run it: read from its ELF headers.

use anyhow::{Context, Result, bail, ensure};
use object::{
    Endianness,
    elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use crate::architecture::Architecture;

/// The architecture of a program that needs no other file to run.
pub fn of_static(program: &[u8]) -> Result<Architecture> {
    let header = FileHeader64::<Endianness>::parse(program).context("it is no 64-bit ELF program")?;
    let endian = header.endian().context("its ELF header is odd")?;
    let segments = header.program_headers(endian, program).context("its ELF program headers are odd")?;
    ensure!(!segments.is_empty(), "it is an ELF file, but no program: it has no segments");
    ensure!(
        segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP),
        "it needs a dynamic linker, which is not in the image: link it statically (-C target-feature=+crt-static)"
    );
    match header.e_machine(endian) {
        EM_X86_64 => Ok(Architecture::Amd64),
        EM_AARCH64 => Ok(Architecture::Arm64),
        other => bail!("ELF machine {other} is neither x86-64 nor 64-bit Arm"),
    }
}
