//! A tree of pod cgroups of our own, below an existing cgroup2 directory, gone when the value is dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Pods with their containers in a kubepods of the systemd layout.
pub struct Tree {
    /// What takes the place of the cgroup2 mount.
    pub root: PathBuf,
    controllers: Vec<String>,
}

impl Tree {
    /// An empty kubepods in `below/name`. Of `controllers` those are enabled which the hierarchy has.
    pub fn make(below: &Path, name: &str, controllers: &[&str]) -> io::Result<Self> {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        let tree = Self { root: below.join(name), controllers };
        fs::create_dir(&tree.root)?;
        tree.enable(&tree.root);
        tree.make_kubepods()?;
        Ok(tree)
    }

    /// Makes kubepods and the class in it.
    pub fn make_kubepods(&self) -> io::Result<()> {
        let kubepods = self.kubepods();
        fs::create_dir(&kubepods)?;
        self.enable(&kubepods);
        self.make_class()
    }

    /// Makes the quality-of-service class in kubepods.
    pub fn make_class(&self) -> io::Result<()> {
        fs::create_dir(self.burstable())?;
        self.enable(&self.burstable());
        Ok(())
    }

    /// The kubepods directory.
    pub fn kubepods(&self) -> PathBuf {
        self.root.join("kubepods.slice")
    }

    /// The directory of the class.
    pub fn burstable(&self) -> PathBuf {
        self.kubepods().join("kubepods-burstable.slice")
    }

    /// Makes pod number `pod`; its directory.
    pub fn pod(&self, pod: u32) -> io::Result<PathBuf> {
        let name = format!("kubepods-burstable-pod{pod:08x}_1c2d_4e5f_8a9b_0c1d2e3f4a5b.slice");
        let path = self.burstable().join(name);
        fs::create_dir(&path)?;
        self.enable(&path);
        Ok(path)
    }

    /// Makes container number `container` in a pod's directory; its directory.
    pub fn container(pod: &Path, container: u32) -> io::Result<PathBuf> {
        let path = pod.join(format!("cri-containerd-{container:064x}.scope"));
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Controllers for the children, where the hierarchy has them: on a hybrid machine it has none.
    fn enable(&self, directory: &Path) {
        let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        for controller in
            available.split_whitespace().filter(|name| self.controllers.iter().any(|c| c == name))
        {
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.root) {
            eprintln!("{} could not be removed: {error}", self.root.display());
        }
    }
}

/// Removes a cgroup and all below it. A cgroup whose last process has just ended is busy for a moment.
pub fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    let mut left = 50;
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && left > 0 => left -= 1,
            done => return done,
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
