//! A node with systemd as its first program, as kubeadm expects it: Debian's smallest root file system, containerd and kubelet as
//! units. Its driver is systemd.

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::{applets, folders, write};

/// Its units, by name.
const UNITS: [(&str, &str); 4] = [
    ("node-set-up.service", include_str!("../guest/systemd/node-set-up.service")),
    ("containerd.service", include_str!("../guest/systemd/containerd.service")),
    ("kubelet.service", include_str!("../guest/systemd/kubelet.service")),
    ("debug.service", include_str!("../guest/systemd/debug.service")),
];
/// Who wants a unit that says so.
const TARGET: &str = "multi-user.target";
const FOLDER: &str = "etc/systemd/system";
/// Units of Debian that a machine without users, packages, modules to find and a lasting disk can do without: each of them starts a
/// process or two, which an emulated machine takes its time for.
const MASKED: [&str; 33] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// Unpacks `base`, and adds the units.
pub async fn lay_out(base: &Path, tree: &Path) -> Result<()> {
    unpack(base, tree).await?;
    applets(tree, "usr/local/bin").await?;
    units(tree)
}

async fn unpack(base: &Path, tree: &Path) -> Result<()> {
    let output = Command::new("tar")
        .args(["--extract", "--numeric-owner", "--file"])
        .arg(base)
        .arg("--directory")
        .arg(tree)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start tar")?;
    if !output.status.success() {
        bail!(
            "cannot unpack {} (cargo xtask makes it for --driver systemd and test --kernels): {}",
            base.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn units(tree: &Path) -> Result<()> {
    let wants = format!("{FOLDER}/{TARGET}.wants");
    folders(tree, &[FOLDER, &wants])?;
    let link = |target: &str, name: &str| {
        let path = tree.join(name);
        // A unit of Debian's that is masked may have been enabled by a link of that name.
        let _ = fs::remove_file(&path);
        symlink(target, &path).with_context(|| format!("cannot make {}", path.display()))
    };
    for (name, text) in UNITS {
        write(&tree.join(FOLDER).join(name), text)?;
        if text.contains(&format!("WantedBy={TARGET}")) {
            link(&format!("../{name}"), &format!("{wants}/{name}"))?;
        }
    }
    link(&format!("/lib/systemd/system/{TARGET}"), &format!("{FOLDER}/default.target"))?;
    for name in MASKED {
        link("/dev/null", &format!("{FOLDER}/{name}"))?;
    }
    // Empty, and not missing: an id for this boot, and none of what happens on the first one.
    write(&tree.join("etc/machine-id"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_linked_and_reaches_every_other_unit() {
        let tree = tempfile::tempdir().unwrap();
        folders(tree.path(), &["etc"]).unwrap();
        units(tree.path()).unwrap();
        let wanted =
            |name: &str| tree.path().join(FOLDER).join(format!("{TARGET}.wants")).join(name).exists();
        assert!(wanted("kubelet.service") && wanted("debug.service"));
        for (name, _) in UNITS {
            let required = UNITS.iter().any(|(_, text)| text.contains(&format!("Requires={name}")));
            assert!(wanted(name) || required, "nothing starts {name}");
        }
        let masked = fs::read_link(tree.path().join(FOLDER).join("getty.target")).unwrap();
        assert_eq!(masked, Path::new("/dev/null"));
    }
}
