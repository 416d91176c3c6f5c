//! The network of a cluster: a network namespace with a bridge, and a TAP device for each machine. The machine's own
//! network is not touched, and the namespace has no way out. Needs root.

use std::{
    fs::File,
    os::fd::AsFd as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::addresses;

const BRIDGE: &str = "cluster";

/// A network namespace.
#[derive(Debug)]
pub struct Network {
    name: String,
    namespace: File,
}

impl Network {
    /// Makes a namespace with devices for as many machines. One of that name that is left over is taken away, unless somebody is in it.
    pub fn create(name: &str, machines: u8) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("real nodes need a network namespace with TAP devices: run this as root");
        }
        if machines > addresses::MOST_NODES {
            bail!("at most {} nodes", addresses::MOST_NODES);
        }
        if exists(name)? {
            let inside = ip(&["netns", "pids", name])?;
            if !inside.trim().is_empty() {
                bail!(
                    "the network namespace {name} is in use (processes {}): end that cluster first",
                    inside.split_whitespace().collect::<Vec<_>>().join(", ")
                );
            }
            remove(name)?;
        }
        ip(&["netns", "add", name])?;
        let made = set_up(name, machines).and_then(|()| Self::open(name));
        if made.is_err() {
            // What was wrong is said; this can only add to it.
            let _ = remove(name);
        }
        made
    }

    /// One that is there.
    pub fn open(name: &str) -> Result<Self> {
        let path = format!("/run/netns/{name}");
        let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        Ok(Self { name: name.to_owned(), namespace })
    }

    /// Moves this thread into it, and so all threads and processes that it starts from now on.
    pub fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {}", self.name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes its name away: it ends with the last process in it.
    pub fn forget_name(&self) -> Result<()> {
        remove(&self.name)
    }
}

/// The device of a machine.
pub fn device(machine: u8) -> String {
    format!("node{machine}")
}

fn set_up(name: &str, machines: u8) -> Result<()> {
    let inside = |args: &[&str]| ip(&[&["-n", name], args].concat()).map(drop);
    inside(&["link", "set", "lo", "up"])?;
    inside(&["link", "add", BRIDGE, "type", "bridge"])?;
    let own = format!("{}/{}", addresses::CONTROL_PLANE, addresses::NETWORK.1);
    inside(&["addr", "add", &own, "dev", BRIDGE])?;
    for service in [addresses::KUBERNETES, addresses::DNS] {
        inside(&["addr", "add", &format!("{service}/32"), "dev", BRIDGE])?;
    }
    inside(&["link", "set", BRIDGE, "up"])?;
    for machine in 0..machines {
        let device = device(machine);
        inside(&["tuntap", "add", &device, "mode", "tap"])?;
        inside(&["link", "set", &device, "master", BRIDGE])?;
        inside(&["link", "set", &device, "up"])?;
    }
    Ok(())
}

fn exists(name: &str) -> Result<bool> {
    let list = ip(&["netns", "list"])?;
    Ok(list.lines().any(|line| line.split_whitespace().next() == Some(name)))
}

/// Removes a namespace and waits until it has no name.
pub fn remove(name: &str) -> Result<()> {
    let begun = Instant::now();
    while exists(name)? {
        if let Err(error) = ip(&["netns", "del", name])
            && begun.elapsed() > Duration::from_secs(2)
        {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("cannot start ip: run cargo xtask setup")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
