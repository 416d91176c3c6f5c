//! What real nodes need beside the kubelet: container runtime, CNI plugins and a root file system for the machines, and the cluster's
//! DNS beside them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    Evidence, Package,
    go_programs::{self, Module, Program},
    node_base,
};
use crate::cache;

const CONTAINERD: &str = "github.com/containerd/containerd/v2";
const RUNC: &str = "github.com/opencontainers/runc";
const PLUGINS: &str = "github.com/containernetworking/plugins";
const COREDNS: &str = "github.com/coredns/coredns";

const NODE: Module = Module { folder: "xtask/node", what: "the container runtime", takes: "takes 2 minutes" };
const DNS: Module = Module { folder: "xtask/dns", what: "the cluster's DNS", takes: "takes a minute" };

const PACKAGES: &[Package] = &[
    Package {
        name: "libseccomp-dev",
        evidence: Evidence::File(&["/usr/include/seccomp.h"]),
        why: "runc filters system calls",
    },
    Package { name: "pkg-config", evidence: Evidence::Program("pkg-config"), why: "runc finds libseccomp" },
    Package { name: "gcc", evidence: Evidence::Program("gcc"), why: "runc has a part in C" },
    Package { name: "e2fsprogs", evidence: Evidence::Program("mkfs.ext4"), why: "disks of the nodes" },
    Package { name: "iproute2", evidence: Evidence::Program("ip"), why: "the network of the nodes" },
];

/// The folder with the programs of the machines.
pub fn dir(root: &Path) -> Result<PathBuf> {
    let [containerd, runc, plugins] = go_programs::versions(root, &NODE, [CONTAINERD, RUNC, PLUGINS])?;
    Ok(cache::dir()?.join(format!("node-containerd-{containerd}-runc-{runc}-cni-{plugins}")))
}

/// The folder with `CoreDNS`.
pub fn dns_dir(root: &Path) -> Result<PathBuf> {
    let [version] = go_programs::versions(root, &DNS, [COREDNS])?;
    Ok(cache::dir()?.join(format!("coredns-{version}")))
}

/// The archive with the root file system of nodes that have systemd.
pub fn base() -> Result<PathBuf> {
    node_base::archive()
}

/// What nodes with this cgroup driver need beyond the rest.
pub fn ensure_driver(root: &Path, driver: &str) -> Result<()> {
    if driver == "systemd" { node_base::ensure(root) } else { Ok(()) }
}

/// Installs and builds what nodes of either cgroup driver need.
pub fn ensure(root: &Path) -> Result<()> {
    super::packages(root, PACKAGES)?;
    let [containerd] = go_programs::versions(root, &NODE, [CONTAINERD])?;
    go_programs::ensure(root, &NODE, &dir(root)?, &programs(&containerd))?;
    let dns = Program { name: "coredns", package: ".", tags: "", linker: String::new(), c: false };
    go_programs::ensure(root, &DNS, &dns_dir(root)?, &[dns])
}

fn programs(containerd: &str) -> Vec<Program> {
    let of_containerd = |name, package| Program {
        name,
        package,
        // File systems that the machines do not have.
        tags: "no_btrfs,no_zfs,no_devmapper",
        linker: format!("-X {CONTAINERD}/version.Version=v{containerd}"),
        c: false,
    };
    let plugin = |name, package| Program { name, package, tags: "", linker: String::new(), c: false };
    vec![
        of_containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        of_containerd(
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ),
        of_containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        plugin("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
        plugin("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
        plugin("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        Program {
            name: "runc",
            package: RUNC,
            tags: "seccomp,netgo,osusergo",
            // Static: the machines have no C library.
            linker: "-linkmode external -extldflags -static".to_owned(),
            c: true,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_named_by_what_is_in_it() {
        let root = cache::workspace_root().unwrap();
        let name = |dir: PathBuf| dir.file_name().unwrap().to_str().unwrap().to_owned();
        let node = name(dir(&root).unwrap());
        assert!(node.starts_with("node-containerd-2.") && node.contains("-runc-1."), "{node}");
        assert!(name(dns_dir(&root).unwrap()).starts_with("coredns-1."));
        assert_eq!(name(base().unwrap()), "node-base-bookworm-dbus-systemd-sysv.tar");
    }
}
