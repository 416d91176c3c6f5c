//! The root file systems that the machines of a cluster boot from, one for each cgroup driver, as ext4 images: a base that differs
//! ([`busybox`], [`systemd`]), and the programs of a node, modules and images. They are read only to the machines: what a machine
//! writes is its own, and forgotten.

mod busybox;
mod systemd;

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
use crate::layout::Layout;

/// Larger than anything that is written: the file has holes.
const BYTES: u64 = 2 << 30;
const BUSYBOX: &str = "/bin/busybox";
const FOLDERS: [&str; 9] = [
    "etc/containerd",
    "etc/node",
    "modules",
    "opt/cni/bin",
    "usr/local/bin",
    "usr/local/lib/node",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/log",
];
/// Where the shell of a node looks for programs.
const PATH: [&str; 5] = ["usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin"];
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];

/// A root file system.
#[derive(Debug, Clone)]
pub struct Root {
    /// The cgroup driver of the kubelet and of containerd in it.
    pub driver: Layout,
    /// The image's file.
    pub image: PathBuf,
}

impl Root {
    /// The program that the kernel starts.
    pub const fn first_program(&self) -> &'static str {
        match self.driver {
            Layout::Systemd => "/sbin/init",
            Layout::Cgroupfs => "/init",
        }
    }
}

/// Makes the image of a driver in `folder`, with these images inside.
pub async fn make(places: &Places, folder: &Path, driver: Layout, archives: &[PathBuf]) -> Result<Root> {
    let name = driver.name();
    let tree = folder.join(format!("root-{name}"));
    folders(&tree, &FOLDERS)?;
    match driver {
        Layout::Systemd => systemd::lay_out(&places.node_base, &tree).await?,
        Layout::Cgroupfs => busybox::lay_out(&tree).await?,
    }
    programs(places, &tree)?;
    modules(&places.kernels.join(KERNEL), &tree)?;
    configuration(&tree, driver)?;
    content::import(&places.node_programs, &tree.join("var/lib/containerd"), archives).await?;
    let image = folder.join(format!("root-{name}.ext4"));
    pack(&tree, &image).await?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    Ok(Root { driver, image })
}

fn folders(tree: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = tree.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

fn programs(places: &Places, tree: &Path) -> Result<()> {
    let local = tree.join("usr/local/bin");
    for name in PROGRAMS {
        copy(&places.node_programs.join(name), &local.join(name))?;
    }
    copy(&places.control_plane.programs.join("kubelet"), &local.join("kubelet"))?;
    for name in PLUGINS {
        copy(&places.node_programs.join(name), &tree.join("opt/cni/bin").join(name))?;
    }
    Ok(())
}

/// Puts busybox into `folder`, and there a link for each of its programs that the tree does not have yet.
async fn applets(tree: &Path, folder: &str) -> Result<()> {
    copy(Path::new(BUSYBOX), &tree.join(folder).join("busybox"))?;
    let list = Command::new(BUSYBOX).arg("--list").output().await.context("cannot start busybox")?;
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        let is_there = |folder: &&str| tree.join(folder).join(name).symlink_metadata().is_ok();
        if !PATH.iter().any(is_there) {
            let link = tree.join(folder).join(name);
            symlink("busybox", &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
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

fn configuration(tree: &Path, driver: Layout) -> Result<()> {
    let systemd = matches!(driver, Layout::Systemd).to_string();
    for (path, text) in [
        ("etc/containerd/config.toml", include_str!("../guest/containerd.toml").replace("SYSTEMD", &systemd)),
        ("etc/kubelet.json", format!("{:#}", kubelet(driver))),
        ("etc/resolv.conf", String::new()),
        ("usr/local/lib/node/set-up", include_str!("../guest/set-up.sh").to_owned()),
        ("usr/local/lib/node/kubelet", include_str!("../guest/kubelet.sh").to_owned()),
    ] {
        write(&tree.join(path), &text)?;
    }
    let kubelet = tree.join("usr/local/lib/node/kubelet");
    fs::set_permissions(&kubelet, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", kubelet.display()))
}

/// The kubelet's configuration. There is no iptables in the machine, and its disk is larger than the space below it.
fn kubelet(driver: Layout) -> serde_json::Value {
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
        "cgroupDriver": driver.name(),
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
