//! What a static program has in it that is no package of Cargo's: the compiler's standard library and the C library.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::{
    Endianness,
    elf::FileHeader64,
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::super::Architecture;

/// A library that comes with the compilers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub license: &'static str,
    /// What kind of package it is, in the words of package URLs.
    pub kind: &'static str,
}

/// Both libraries. The compiler is the one that the program itself names; the C library is the installed one, which the linker takes.
pub fn components(program: &[u8], architecture: Architecture) -> Result<[Library; 2]> {
    let package = match architecture {
        Architecture::Amd64 => "libc6-dev",
        Architecture::Arm64 => "libc6-dev-arm64-cross",
    };
    let std = Library {
        name: "rust-std",
        version: compiler(program)?,
        license: "MIT OR Apache-2.0",
        kind: "generic",
    };
    let c =
        Library { name: package, version: installed(package)?, license: "LGPL-2.1-or-later", kind: "deb" };
    Ok([std, c])
}

/// The version in `rustc version 1.95.0 (…)`, which the compiler leaves in a program's `.comment`.
fn compiler(program: &[u8]) -> Result<String> {
    let header = FileHeader64::<Endianness>::parse(program).context("no 64-bit ELF program")?;
    let endian = header.endian().context("an odd ELF header")?;
    let sections = header.sections(endian, program).context("odd ELF section headers")?;
    let (_, section) = sections
        .section_by_name(endian, b".comment")
        .context("the program does not name its compiler: it has no section .comment (stripped of it?)")?;
    let comment = section.data(endian, program).context("an odd section .comment")?;
    let comment = String::from_utf8_lossy(comment);
    comment
        .split('\0')
        .find_map(|line| line.strip_prefix("rustc version ")?.split_whitespace().next().map(str::to_owned))
        .context("the program's section .comment names no rustc")
}

fn installed(package: &str) -> Result<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", package])
        .output()
        .with_context(|| format!("cannot start dpkg-query, which knows the version of {package}"))?;
    ensure!(
        output.status.success(),
        "{package}, whose libc.a is linked, is not installed as a package: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn a_program_names_its_compiler() {
        let own = fs::read(env::current_exe().unwrap()).unwrap();
        let version = compiler(&own).unwrap();
        assert!(version.starts_with("1.") && version.len() >= 6, "{version}");
        assert!(compiler(b"\x7fELF").is_err());
    }
}
