//! The kernel matrix: one row per kernel line. `cargo xtask` includes this file to unpack the kernels and to print the
//! summary, the test program `kernels` includes it to boot them. Adding a kernel is adding one line to [`ROWS`].

use crate::architecture::Architecture::{self, Amd64, Arm64};

/// One kernel line and what the tests expect on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The kernel line, such as `6.12`; `7` is the newest of the 7.x series. Other architectures and page sizes are in the name.
    pub line: &'static str,
    /// The processor architecture. Those that are not this machine's are booted by `cargo xtask test --kernels` only.
    pub architecture: Architecture,
    /// Debian suites that have the package. Those of one row are read together.
    pub suites: &'static [&'static str],
    /// The packages' names as an apt regular expression. The newest version is taken; from 6.19 on, image and modules
    /// are two packages of one version.
    pub package: &'static str,
    /// Virtual processors. Two where software emulation is stable with two.
    pub processors: u32,
    /// The cgroup driver of the row's pods: `systemd` or `cgroupfs`.
    pub layout: &'static str,
    /// The collector that the agent must choose: `bpf` or `cgroupfs`.
    pub collector: &'static str,
    /// The reason that `waggle-agent check` must name, where the collector is not `bpf`.
    pub refusal: Option<&'static str>,
}

const BULLSEYE: &[&str] = &["bullseye", "bullseye-security"];
const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];
const BACKPORTS: &[&str] = &["trixie-backports"];

/// Oldest first. No Debian suite has 5.15: 5.10 stands for it, as both lack the cgroup iterator.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { line: "5.10",           architecture: Amd64, suites: BULLSEYE,  package: r"^linux-image-5\.10\.[^-]*-[0-9]+-cloud-amd64-unsigned$",         processors: 2, layout: "systemd",  collector: "cgroupfs", refusal: Some("no-cgroup-iter") },
    Row { line: "6.1",            architecture: Amd64, suites: BOOKWORM,  package: r"^linux-image-6\.1\.[^-]*-[0-9]+-cloud-amd64-unsigned$",          processors: 2, layout: "cgroupfs", collector: "bpf",      refusal: None },
    Row { line: "6.12",           architecture: Amd64, suites: BOOKWORM,  package: r"^linux-image-6\.12\.[^-]*-cloud-amd64-unsigned$",                processors: 2, layout: "systemd",  collector: "bpf",      refusal: None },
    Row { line: "6.18",           architecture: Amd64, suites: BACKPORTS, package: r"^linux-image-6\.18\.[^-]*-cloud-amd64$",                         processors: 2, layout: "cgroupfs", collector: "bpf",      refusal: None },
    Row { line: "7",              architecture: Amd64, suites: BACKPORTS, package: r"^linux-(binary-unsigned|modules)-7\.[^-]*-cloud-amd64$",         processors: 2, layout: "systemd",  collector: "bpf",      refusal: None },
    Row { line: "6.12-arm64",     architecture: Arm64, suites: BOOKWORM,  package: r"^linux-image-6\.12\.[^-]*-cloud-arm64-unsigned$",                processors: 2, layout: "systemd",  collector: "bpf",      refusal: None },
    Row { line: "6.12-arm64-16k", architecture: Arm64, suites: BOOKWORM,  package: r"^linux-image-6\.12\.[^-]*-arm64-16k-unsigned$",                  processors: 2, layout: "cgroupfs", collector: "bpf",      refusal: None },
];
