//! The images of a node, put into the content store of its containerd before it boots: an emulated machine takes a minute to
//! unpack what takes a second here. Owns a containerd of its own for that moment, which runs no container.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::central;

const START: Duration = Duration::from_secs(30);
/// The CRI plugin is left out: it would look for a network and for runc.
const CONFIGURATION: &str = "\
version = 3
disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri', \
'io.containerd.nri.v1.nri']
";

/// Imports archives into the store below `root`, which is that of a node's `/var/lib/containerd`.
pub async fn import(programs: &Path, root: &Path, archives: &[PathBuf]) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let store = Store::start(programs, root, folder.path()).await?;
    for archive in archives {
        let path = archive.display().to_string();
        store.ctr(&["images", "import", "--snapshotter", "overlayfs", &path]).await?;
    }
    let names = store.ctr(&["images", "list", "-q"]).await?;
    for name in names.lines() {
        // The kubelet's side of containerd takes an image for its own by this label.
        store.ctr(&["images", "label", name, "io.cri-containerd.image=managed"]).await?;
    }
    store.stop().await
}

struct Store {
    daemon: Child,
    ctr: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Store {
    async fn start(programs: &Path, root: &Path, folder: &Path) -> Result<Self> {
        let (socket, log) = (folder.join("socket"), folder.join("log"));
        let configuration = folder.join("config.toml");
        fs::write(&configuration, CONFIGURATION)
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(programs.join("containerd"))
            .arg("--config")
            .arg(&configuration)
            .arg("--address")
            .arg(&socket)
            .arg("--root")
            .arg(root)
            .arg("--state")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start containerd: run cargo xtask setup")?;
        let mut store = Self { daemon, ctr: programs.join("ctr"), socket, log };
        let begun = Instant::now();
        while let Err(error) = store.ctr(&["images", "list", "-q"]).await {
            let ended = store.daemon.try_wait().context("cannot wait for containerd")?;
            if ended.is_some() || begun.elapsed() > START {
                return Err(error.context(format!("containerd: {}", central::tail(&store.log))));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(store)
    }

    async fn ctr(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.ctr)
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", "k8s.io"])
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start ctr: run cargo xtask setup")?;
        if !output.status.success() {
            bail!("ctr {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends it in order: its database is in the store.
    async fn stop(mut self) -> Result<()> {
        let pid = self.daemon.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).context("containerd has ended")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("cannot end containerd")?;
        self.daemon.wait().await.context("cannot wait for containerd")?;
        Ok(())
    }
}
