//! Finds what this machine lacks and installs it by package name, saying so. What is there already is left alone: a
//! second run does nothing and takes milliseconds. The machine's own package sources are never changed.

mod apt;
pub mod arm64;
pub mod control_plane;
pub mod definitions;
mod deny;
mod go;
mod go_programs;
pub mod helm;
pub mod kernels;
mod kubectl;
pub mod metrics_server;
mod node_base;
pub mod nodes;
mod rust;

use std::{
    env,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Result;

pub use self::{
    deny::binary as cargo_deny,
    kubectl::binary as kubectl,
    rust::{BPF_TOOLCHAIN, bpf_linker_dir},
};
use crate::{architecture::Architecture, cache};

/// A package, and a file of it whose presence shows that it is installed.
struct Package {
    name: &'static str,
    evidence: Evidence,
    why: &'static str,
}

enum Evidence {
    /// A program on `PATH` (or in the system folders, which an ordinary user's `PATH` leaves out).
    Program(&'static str),
    /// Any of these files.
    File(&'static [&'static str]),
}

const PACKAGES: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        evidence: Evidence::Program("qemu-system-x86_64"),
        why: "virtual machines",
    },
    Package {
        name: "busybox-static",
        evidence: Evidence::File(&["/bin/busybox"]),
        why: "tools inside the virtual machines",
    },
    Package {
        name: "xfsprogs",
        evidence: Evidence::Program("mkfs.xfs"),
        why: "the virtual machines' file systems",
    },
    Package { name: "xz-utils", evidence: Evidence::Program("xz"), why: "kernel modules are compressed" },
];

/// What the BPF program needs where rustup has no nightly with `rust-src`, and bpf-linker always.
const BPF_PACKAGES: &[Package] = &[
    Package { name: "llvm-22-dev", evidence: Evidence::Program("llvm-config-22"), why: "bpf-linker" },
    Package { name: "libzstd-dev", evidence: Evidence::File(&["/usr/include/zstd.h"]), why: "bpf-linker" },
    Package { name: "zlib1g-dev", evidence: Evidence::File(&["/usr/include/zlib.h"]), why: "bpf-linker" },
    Package { name: "g++", evidence: Evidence::Program("g++"), why: "bpf-linker links LLVM's C++ libraries" },
    Package {
        name: "rustc-web",
        evidence: Evidence::File(&["/usr/bin/rustc"]),
        why: "compiling for the BPF target",
    },
    Package {
        name: "cargo-web",
        evidence: Evidence::File(&["/usr/bin/cargo"]),
        why: "compiling for the BPF target",
    },
    Package {
        name: "rust-web-src",
        evidence: Evidence::File(&["/usr/lib/rustlib/src/rust/library/core/Cargo.toml"]),
        why: "core for the BPF target",
    },
];

/// What compiles and links for 64-bit Arm, and runs what was built.
const ARM64_PACKAGES: &[Package] = &[
    Package {
        name: "gcc-aarch64-linux-gnu",
        evidence: Evidence::Program("aarch64-linux-gnu-gcc"),
        why: "the parts in C, and linking",
    },
    Package {
        name: "libc6-dev-arm64-cross",
        evidence: Evidence::File(&["/usr/aarch64-linux-gnu/lib/libc.a"]),
        why: "a static C library",
    },
    Package {
        name: "qemu-user-static",
        evidence: Evidence::Program("qemu-aarch64-static"),
        why: "running what was built",
    },
    Package {
        name: "qemu-system-arm",
        evidence: Evidence::Program("qemu-system-aarch64"),
        why: "virtual machines",
    },
];

impl Package {
    fn is_there(&self) -> bool {
        match self.evidence {
            Evidence::Program(name) => find_program(name).is_some(),
            Evidence::File(files) => files.iter().any(|file| Path::new(file).exists()),
        }
    }
}

/// Everything, for `cargo xtask setup`.
pub fn all(root: &Path) -> Result<()> {
    let started = Instant::now();
    for_quick(root)?;
    for_lab(root)?;
    control_plane::ensure(root)?;
    helm::ensure(root)?;
    definitions::ensure(root)?;
    nodes::ensure(root)?;
    println!("setup: everything is there ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(())
}

/// What tests without virtual machines need.
pub fn for_quick(root: &Path) -> Result<()> {
    for_build(root)?;
    rust::components()?;
    deny::ensure(root)
}

/// What building needs: the BPF toolchain and bpf-linker.
pub fn for_build(root: &Path) -> Result<()> {
    packages(root, BPF_PACKAGES)?;
    rust::bpf_toolchain()?;
    rust::bpf_linker(root)
}

/// What building for 64-bit Arm needs in addition to [`for_build`].
pub fn for_arm64(root: &Path) -> Result<()> {
    packages(root, ARM64_PACKAGES)?;
    arm64::ensure(root)
}

/// What arm64 virtual machines need in addition to [`for_lab`].
pub fn for_arm64_machines(root: &Path) -> Result<()> {
    for_arm64(root)?;
    kernels::ensure(root, Architecture::Arm64)
}

/// What the virtual machines and the demo need.
pub fn for_lab(root: &Path) -> Result<()> {
    packages(root, PACKAGES)?;
    kernels::ensure(root, Architecture::Amd64)?;
    kubectl::ensure(root)
}

fn packages(root: &Path, wanted: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = wanted.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("setup: package {} is missing ({}): installing it", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    apt::install(root, &names)
}

/// A program on `PATH` or in the system folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Where logs of the installation go.
fn log(root: &Path, name: &str) -> PathBuf {
    cache::state(root).join("logs").join(format!("setup-{name}.log"))
}
