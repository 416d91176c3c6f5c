//! The root file system that all machines of a cluster boot from, as an ext4 image: busybox, the programs of a node, modules,
//! images. It is read only to them: what a machine writes is its own, and forgotten.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::process::Command;

use super::{
    addresses, content,
    places::{KERNEL, Places},
};

/// Larger than anything that is written: the file has holes.
const BYTES: u64 = 2 << 30;
const BUSYBOX: &str = "/bin/busybox";
const FOLDERS: [&str; 15] = [
    "bin",
    "dev",
    "etc/containerd",
    "etc/node",
    "modules",
    "opt/cni/bin",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/local/bin",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/log",
];
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];

/// Makes the image in `folder`, with these images inside; its path.
pub async fn make(places: &Places, folder: &Path, archives: &[PathBuf]) -> Result<PathBuf> {
    let tree = folder.join("root");
    for name in FOLDERS {
        let path = tree.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    programs(places, &tree).await?;
    modules(&places.kernels.join(KERNEL), &tree)?;
    configuration(&tree)?;
    content::import(&places.node_programs, &tree.join("var/lib/containerd"), archives).await?;
    let image = folder.join("root.ext4");
    pack(&tree, &image).await?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    Ok(image)
}

async fn programs(places: &Places, tree: &Path) -> Result<()> {
    let local = tree.join("usr/local/bin");
    for name in PROGRAMS {
        copy(&places.node_programs.join(name), &local.join(name))?;
    }
    copy(&places.control_plane.programs.join("kubelet"), &local.join("kubelet"))?;
    for name in PLUGINS {
        copy(&places.node_programs.join(name), &tree.join("opt/cni/bin").join(name))?;
    }
    copy(Path::new(BUSYBOX), &tree.join("bin/busybox"))?;
    let list = Command::new(BUSYBOX).arg("--list").output().await.context("cannot start busybox")?;
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|&name| name != "busybox") {
        let link = tree.join("bin").join(name);
        symlink("busybox", &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}

fn modules(kernel: &Path, tree: &Path) -> Result<()> {
    let list = kernel.join("node-modules");
    let order = fs::read_to_string(&list)
        .with_context(|| format!("cannot read {}: run cargo xtask setup", list.display()))?;
    let into = tree.join("modules");
    for module in order.lines() {
        let file = format!("{module}.ko");
        copy(&kernel.join(&file), &into.join(&file))?;
    }
    write(&into.join("order"), &order)
}

fn configuration(tree: &Path) -> Result<()> {
    let init = tree.join("init");
    write(&init, include_str!("guest/init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("cannot make init executable")?;
    for (path, text) in [
        ("etc/containerd/config.toml", include_str!("guest/containerd.toml").to_owned()),
        ("etc/kubelet.json", format!("{:#}", kubelet())),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".to_owned()),
        ("etc/group", "root:x:0:\n".to_owned()),
        ("etc/resolv.conf", String::new()),
        ("etc/os-release", "PRETTY_NAME=\"Waggle's lab\"\n".to_owned()),
    ] {
        write(&tree.join(path), &text)?;
    }
    Ok(())
}

/// The kubelet's configuration. There is no iptables in the machine, and its disk is larger than the space below it.
fn kubelet() -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/node/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/node/serving.crt",
        "tlsPrivateKeyFile": "/etc/node/serving.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "kubeletCgroups": "/system.slice/kubelet.service",
        "staticPodPath": "/etc/node/static-pods",
        "resolvConf": "/etc/resolv.conf",
        "clusterDNS": [addresses::DNS],
        "clusterDomain": "cluster.local",
        "makeIPTablesUtilChains": false,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    })
}

async fn pack(tree: &Path, image: &Path) -> Result<()> {
    File::create(image)
        .and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("cannot make {}", image.display()))?;
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", "-d"])
        .arg(tree)
        .arg(image)
        // Where an ordinary user's PATH does not lead.
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start mkfs.ext4: run cargo xtask setup")?;
    if !output.status.success() {
        bail!("mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}: run cargo xtask setup", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
