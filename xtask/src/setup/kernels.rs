//! Debian's cloud kernels, one of each release line that the tests boot: the image and the modules for the network
//! card, unpacked into the cache and never installed.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use crate::{cache, progress};

/// The release lines, oldest first.
pub const LINES: [&str; 3] = ["5.10", "6.1", "6.12"];

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

/// Where the kernels are: `<line>/vmlinuz`, `<line>/<module>.ko`, `<line>/node-modules` of one line, and
/// `<line>/modules`. These list modules in the order of loading and are written last.
pub fn dir() -> Result<PathBuf> {
    Ok(cache::dir()?.join("kernels"))
}

/// Unpacks the kernels that are not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let dir = dir()?;
    let missing: Vec<&str> =
        LINES.into_iter().filter(|line| !dir.join(line).join(last_file(line)).exists()).collect();
    let mut opened: Option<(&str, Apt)> = None;
    for line in missing {
        let suites: &[&str] = if line == "5.10" { &["bullseye"] } else { &["bookworm", "bookworm-security"] };
        let name = suites.first().copied().unwrap_or_default();
        let apt = match opened.take() {
            Some((open, apt)) if open == name => apt,
            _ => Apt::of(root, suites)?,
        };
        unpack(root, &apt, line, &dir.join(line))?;
        opened = Some((name, apt));
    }
    Ok(())
}

/// The file that is written when everything else is there.
fn last_file(line: &str) -> &'static str {
    if line == NODE_LINE { "node-modules" } else { "modules" }
}

fn unpack(root: &Path, apt: &Apt, line: &str, into: &Path) -> Result<()> {
    let pattern =
        format!("^linux-image-{}\\.[^-]*(-[0-9]+)?-cloud-amd64-unsigned$", line.replace('.', "\\."));
    let names = apt.search(&pattern)?;
    let package = newest(&names)
        .with_context(|| format!("the mirror has no package {pattern}: no kernel {line} can be had"))?;
    println!("setup: kernel {line} is missing: unpacking {package} (it is not installed)");
    let unpacked = into.with_extension("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))?;
    }
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot make {}", unpacked.display()))?;
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    apt.unpack(root, package, &unpacked)?;
    let release = package.trim_start_matches("linux-image-").trim_end_matches("-unsigned");
    let image = unpacked.join("boot").join(format!("vmlinuz-{release}"));
    fs::copy(&image, into.join("vmlinuz"))
        .with_context(|| format!("{package} has no {}", image.display()))?;
    let modules = unpacked.join("lib/modules").join(release).join("kernel");
    let mut order = String::new();
    for (folder, module) in MODULES {
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
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))?;
    let write = |name: &str, text: &str| {
        fs::write(into.join(name), text).context("cannot write the kernel's list of modules")
    };
    write("modules", &order)?;
    if line == NODE_LINE { write(last_file(line), &format!("{node_order}{order}")) } else { Ok(()) }
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

/// The package with the highest version: compared number by number.
fn newest(names: &[String]) -> Option<&str> {
    names.iter().map(String::as_str).max_by_key(|name| {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect::<Vec<u64>>()
    })
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn versions_are_compared_as_numbers() {
        let names = ["linux-image-6.1.0-9-cloud-amd64-unsigned", "linux-image-6.1.0-56-cloud-amd64-unsigned"];
        assert_eq!(newest(&names.map(str::to_owned)), Some(names[1]));
        let names = [
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.94+deb12-cloud-amd64-unsigned",
        ];
        assert_eq!(newest(&names.map(str::to_owned)), Some(names[0]));
        assert_eq!(newest(&[]), None);
    }
}
