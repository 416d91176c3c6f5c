//! Debian's cloud kernels, one of each release line that the tests boot: the image and the modules for the network
//! card, unpacked into the cache and never installed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};

use super::apt::Apt;
use crate::{architecture::Architecture, cache, progress};

#[path = "../../lab/src/matrix.rs"]
pub mod matrix;

use self::matrix::{ROWS, Row};

/// The kernel lines of the architecture of this machine, oldest first.
pub fn lines() -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(|row| row.architecture == Architecture::Amd64).map(|row| row.line)
}

/// The disk, where its driver is a module at all.
const DISK_MODULES: [(&str, &str); 4] = [
    ("drivers/nvme/common", "nvme-keyring"),
    ("drivers/nvme/common", "nvme-auth"),
    ("drivers/nvme/host", "nvme-core"),
    ("drivers/nvme/host", "nvme"),
];

/// Modules for the network card with their folders, in the order in which they are loaded. The first five are built
/// into newer kernels.
const MODULES: [(&str, &str); 8] = [
    ("drivers/virtio", "virtio_ring"),
    ("drivers/virtio", "virtio"),
    ("drivers/virtio", "virtio_pci_legacy_dev"),
    ("drivers/virtio", "virtio_pci_modern_dev"),
    ("drivers/virtio", "virtio_pci"),
    ("net/core", "failover"),
    ("drivers/net", "net_failover"),
    ("drivers/net", "virtio_net"),
];

/// The release line that real nodes run.
pub const NODE_LINE: &str = "6.12";
/// Modules that a real node needs before those of the network card, in the order in which they are loaded: the file system and
/// the network of containers, and the files that QEMU hands over.
const NODE_MODULES: [(&str, &str); 6] = [
    ("fs/overlayfs", "overlay"),
    ("drivers/net", "veth"),
    ("net/llc", "llc"),
    ("net/802", "stp"),
    ("net/bridge", "bridge"),
    ("drivers/firmware", "qemu_fw_cfg"),
];

/// Modules of the machines' second disk and its file system, which has large folios since 5.18, in the order in which they
/// are loaded. Some kernels have all but the last built in.
const FILE_SYSTEM_MODULES: [(&str, &str); 4] =
    [("drivers/block", "virtio_blk"), ("crypto", "crc32c_generic"), ("lib", "libcrc32c"), ("fs/xfs", "xfs")];
/// Lists [`FILE_SYSTEM_MODULES`]. It is written when everything else is there.
const LAST_FILE: &str = "file-system-modules";

/// Where the kernels are: `<line>/vmlinuz`, `<line>/<module>.ko`, and the lists `<line>/modules`, `<line>/node-modules` of
/// one line, `<line>/file-system-modules`, each in the order of loading.
pub fn dir() -> Result<PathBuf> {
    Ok(cache::dir()?.join("kernels"))
}

/// Unpacks the kernels of an architecture that are not there yet.
pub fn ensure(root: &Path, architecture: Architecture) -> Result<()> {
    let dir = dir()?;
    let missing = ROWS
        .iter()
        .filter(|row| row.architecture == architecture && !dir.join(row.line).join(LAST_FILE).exists());
    let mut opened: Option<(&[&str], Apt)> = None;
    for row in missing {
        let apt = match opened.take() {
            Some((suites, apt)) if suites == row.suites => apt,
            _ => Apt::of(root, architecture, row.suites)?,
        };
        unpack(root, &apt, row, &dir.join(row.line))?;
        opened = Some((row.suites, apt));
    }
    Ok(())
}

fn unpack(root: &Path, apt: &Apt, row: &Row, into: &Path) -> Result<()> {
    let Row { line, package: pattern, .. } = row;
    let names = apt.search(pattern)?;
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let unpacked = into.with_extension("unpacked");
    let mut failure = None;
    for packages in newest_first(&names) {
        println!("setup: kernel {line} is missing: unpacking {} (not installed)", packages.join(" and "));
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))?;
        }
        fs::create_dir_all(&unpacked).with_context(|| format!("cannot make {}", unpacked.display()))?;
        match packages.iter().try_for_each(|package| apt.unpack(root, package, &unpacked)) {
            Ok(()) => return take(root, row, packages[0], &unpacked, into),
            // Old suites list packages that their mirrors have no more.
            Err(error) => {
                println!("setup: {} cannot be had, trying an older version", packages.join(" and "));
                failure.get_or_insert(error);
            }
        }
    }
    let failure = failure.unwrap_or_else(|| anyhow!("the mirror has no package {pattern}"));
    Err(failure.context(format!("kernel {line} is not available")))
}

/// Takes image and modules out of the unpacked packages of one version.
fn take(root: &Path, row: &Row, package: &str, unpacked: &Path, into: &Path) -> Result<()> {
    let line = row.line;
    let release = release(package);
    // Before 6.18 modules are below /lib; from 6.19 on the image is beside them.
    let modules = ["lib", "usr/lib"].map(|lib| unpacked.join(lib).join("modules").join(release));
    let modules = modules.iter().find(|dir| dir.is_dir());
    let modules = modules.with_context(|| format!("{package} has no modules of release {release}"))?;
    let images = [unpacked.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz.unsigned")];
    let image = images.iter().find(|image| image.is_file());
    let image = image.with_context(|| format!("{package} has no image of release {release}"))?;
    fs::copy(image, into.join("vmlinuz")).with_context(|| format!("cannot copy {}", image.display()))?;
    let modules = modules.join("kernel");
    let mut order = String::new();
    let disk = modules.join("drivers/nvme/host/nvme.ko.xz").is_file();
    for (folder, module) in DISK_MODULES.into_iter().filter(|_| disk).chain(MODULES) {
        if module_into(root, &modules.join(folder), module, into)? {
            writeln!(order, "{module}")?;
        }
    }
    if !order.ends_with("virtio_net\n") {
        bail!("{package} has no module virtio_net");
    }
    let mut node_order = String::new();
    if line == NODE_LINE {
        for (folder, module) in NODE_MODULES {
            if !module_into(root, &modules.join(folder), module, into)? {
                bail!("{package} has no module {module}");
            }
            writeln!(node_order, "{module}")?;
        }
    }
    let mut file_system_order = String::new();
    for (folder, module) in FILE_SYSTEM_MODULES {
        if module_into(root, &modules.join(folder), module, into)? {
            writeln!(file_system_order, "{module}")?;
        }
    }
    if !file_system_order.ends_with("xfs\n") {
        bail!("{package} has no module xfs");
    }
    fs::remove_dir_all(unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))?;
    let write = |name: &str, text: &str| {
        fs::write(into.join(name), text).context("cannot write the kernel's list of modules")
    };
    write("modules", &order)?;
    if line == NODE_LINE {
        write("node-modules", &format!("{node_order}{order}"))?;
    }
    write(LAST_FILE, &file_system_order)
}

/// Copies a module, decompressed where it is compressed; whether the kernel has it as a module.
fn module_into(root: &Path, from: &Path, module: &str, into: &Path) -> Result<bool> {
    let plain = from.join(format!("{module}.ko"));
    let packed = from.join(format!("{module}.ko.xz"));
    if packed.exists() {
        let mut command = Command::new("xz");
        command.arg("-d").arg("-k").arg("-f").arg(&packed);
        progress::run_checked(&format!("decompress {module}"), &mut command, &super::log(root, "xz"))?;
    }
    if !plain.exists() {
        return Ok(false);
    }
    fs::copy(&plain, into.join(format!("{module}.ko")))
        .with_context(|| format!("cannot copy {}", plain.display()))?;
    Ok(true)
}

/// The kernel release that a package is of, such as `6.12.118+deb13-cloud-amd64`.
fn release(package: &str) -> &str {
    let from = package.find(|c: char| c.is_ascii_digit()).unwrap_or_default();
    package.get(from..).unwrap_or_default().trim_end_matches("-unsigned")
}

/// The packages of each version, compared number by number, the highest first.
fn newest_first(names: &[String]) -> Vec<Vec<&str>> {
    let version = |name: &str| -> Vec<u64> {
        release(name).split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    let mut versions: BTreeMap<Vec<u64>, Vec<&str>> = BTreeMap::new();
    for name in names {
        versions.entry(version(name)).or_default().push(name);
    }
    versions.into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<Vec<String>> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let versions = newest_first(&names).into_iter();
        versions.map(|packages| packages.into_iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let names = ["linux-image-6.1.0-9-cloud-amd64-unsigned", "linux-image-6.1.0-56-cloud-amd64-unsigned"];
        assert_eq!(found(&names), [[names[1]], [names[0]]]);
        let names = [
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.94+deb12-cloud-amd64-unsigned",
        ];
        assert_eq!(found(&names), [[names[0]], [names[1]]]);
        let names =
            ["linux-image-6.12.117+deb12-arm64-16k-unsigned", "linux-image-6.12.94+deb12-arm64-16k-unsigned"];
        assert_eq!(found(&names), [[names[0]], [names[1]]]);
        assert_eq!(release(names[0]), "6.12.117+deb12-arm64-16k");
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn image_and_modules_of_one_version_belong_together() {
        let names = [
            "linux-binary-unsigned-7.2.12+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.2.12+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
        ];
        assert_eq!(found(&names), [[names[1], names[3]], [names[0], names[2]]]);
        assert_eq!(release(names[1]), "7.3.4+deb13-cloud-amd64");
        assert_eq!(release("linux-image-6.1.0-56-cloud-amd64-unsigned"), "6.1.0-56-cloud-amd64");
    }

    #[test]
    fn each_line_is_in_the_matrix_once_and_real_nodes_have_theirs() {
        let mut all: Vec<&str> = ROWS.iter().map(|row| row.line).collect();
        all.sort_unstable();
        let rows = all.len();
        all.dedup();
        assert_eq!(all.len(), rows);
        assert!(lines().any(|line| line == NODE_LINE));
    }
}
