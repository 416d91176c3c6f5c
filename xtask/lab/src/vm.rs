//! One virtual machine: QEMU with a Debian kernel, an initial root file system made here, a console that is watched for
//! a kernel's last words, and no network but one address that leads to one port of the host's loopback.

mod disk;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    architecture::Architecture,
    control::{Act, FromNode},
    cpio::Archive,
    node::{Node, Obituary},
    paths::Paths,
};

const BOOT_LIMIT: Duration = Duration::from_mins(1);
/// How long a stock kernel may take with hardware acceleration before it is taken not to work.
const KVM_LIMIT: Duration = Duration::from_secs(10);
/// The emulated processor. Of the string instructions that these features announce, QEMU does one byte at a time: copying and
/// clearing memory would take eight times as long.
pub(crate) const EMULATED: &str = "max,erms=off,fsrm=off";
/// Debian's kernels clear every page when it is allocated, which is most of the time that page cache takes in emulation.
pub(crate) const NO_CLEARING: &str = "init_on_alloc=0";
/// The address and port inside the machine that lead to the host's port.
pub const GUEST_ADDRESS: &str = "10.0.2.100:8444";

/// What a machine is booted with.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// A name for its logs.
    pub label: String,
    /// What the kernel and the programs are built for.
    pub architecture: Architecture,
    /// The kernel's release line, such as `6.12`.
    pub kernel: String,
    /// Virtual processors; 0 stands for one.
    pub processors: u32,
    /// Further options on the kernel's command line, such as `lockdown=confidentiality`.
    pub options: &'static str,
    /// Loads no modules, so that there is no network: a kernel in lockdown refuses the unsigned modules.
    pub no_modules: bool,
    /// Files for the image: path without leading slash, permission bits, content.
    pub files: Vec<(String, u32, Vec<u8>)>,
    /// A second disk, with XFS, for [`Act::MountFiles`].
    pub file_system: bool,
    /// The port of the host's loopback that [`GUEST_ADDRESS`] leads to.
    pub port: Option<u16>,
    /// Connects the console to the terminal and opens a shell there.
    pub shell: bool,
}

/// A running machine. Dropping it kills it.
pub struct Vm {
    /// Its control channel.
    pub node: Node,
    /// `uname -r` of its kernel.
    pub kernel: String,
    /// Its processes' and kernel's last words.
    pub console: PathBuf,
    qemu: Child,
    watch: JoinHandle<()>,
    _dir: TempDir,
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.watch.abort();
        // The handle kills on drop, too; this way it is dead before its folder goes.
        let _ = self.qemu.start_kill();
    }
}

impl Vm {
    /// Boots a machine and waits until its first program answers.
    pub async fn boot(paths: &Paths, boot: Boot) -> Result<Self> {
        let acceleration = match boot.architecture {
            Architecture::Amd64 => acceleration(&paths.kernels, &paths.state, &boot.kernel).await?,
            Architecture::Arm64 => "tcg",
        };
        let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
        let logs = paths.state.join("vm").join(&boot.label);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let (image, disk, socket) =
            (dir.path().join("image"), dir.path().join("disk"), dir.path().join("control"));
        let console = logs.join("console.log");
        fs::write(&image, initial_files(paths, &boot)?)
            .with_context(|| format!("cannot write {}", image.display()))?;
        disk::make(&disk)?;
        fs::write(&console, "").with_context(|| format!("cannot write {}", console.display()))?;

        let mut command =
            qemu(&logs.join("qemu.log"), boot.architecture, acceleration, boot.processors.max(1))?;
        command
            .arg("-kernel")
            .arg(paths.kernels.join(&boot.kernel).join("vmlinuz"))
            .arg("-initrd")
            .arg(&image);
        let shell = if boot.shell { " waggle.shell" } else { "" };
        // On a busy host the emulated timer is late, and the kernel's check of it then ends in a panic.
        let options = format!(
            "console={} quiet mitigations=off no_timer_check {NO_CLEARING} oops=panic panic=-1 psi=1{shell} {}",
            console_device(boot.architecture),
            boot.options
        );
        command.args(["-append", &options]);
        if boot.shell {
            command.args(["-serial", "mon:stdio"]).stdin(Stdio::inherit()).stdout(Stdio::inherit());
        } else {
            command.arg("-serial").arg(format!("file:{}", console.display()));
        }
        command
            .arg("-chardev")
            .arg(format!("socket,id=control,path={},server=on,wait=off", socket.display()));
        match boot.architecture {
            Architecture::Amd64 => command.args(["-serial", "chardev:control"]),
            // The machine has one serial port; this one is a card.
            Architecture::Arm64 => command.args(["-device", "pci-serial,chardev=control"]),
        };
        disk::add(&mut command, "nvme,serial=waggle", "disk", &disk);
        if boot.file_system {
            let files = dir.path().join("files");
            disk::make(&files)?;
            disk::format(&files).await?;
            // Under this load QEMU 7.2 loses an interrupt of its NVMe controller now and then, and the reader waits 30 s.
            disk::add(&mut command, "virtio-blk-pci", "files", &files);
        }
        command.arg("-netdev").arg(network(paths, boot.port));
        command.args(["-device", "virtio-net-pci,netdev=net"]);
        let qemu = command.spawn().context("cannot start QEMU: run cargo xtask setup")?;

        let node = Node::connect(&socket).await?;
        let watch = tokio::spawn(watch_console(console.clone(), node.obituary()));
        let ready = node.event(BOOT_LIMIT, |event| match &event.what {
            FromNode::Ready { kernel } => Some(kernel.clone()),
            _ => None,
        });
        let kernel = ready.await.with_context(|| {
            format!(
                "kernel {} did not boot to its first program; console: {}",
                boot.kernel,
                console.display()
            )
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the host's clock is before 1970")?;
        node.act(Act::SetClock(i64::try_from(now.as_nanos())?)).await?;
        Ok(Self { node, kernel, console, qemu, watch, _dir: dir })
    }

    /// Waits until the machine is switched off or QEMU ends.
    pub async fn wait(&mut self) -> Result<()> {
        self.qemu.wait().await.map(drop).context("cannot wait for QEMU")
    }
}

/// QEMU without any device but those that are added. It dies with the thread that started it, whatever happens to this
/// process, and is killed when its handle is dropped.
fn qemu(log: &Path, architecture: Architecture, acceleration: &str, processors: u32) -> Result<Command> {
    let errors = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (program, processor): (&str, &[&str]) = match architecture {
        Architecture::Amd64 if acceleration == "kvm" => ("qemu-system-x86_64", &["-cpu", "host"]),
        Architecture::Amd64 => ("qemu-system-x86_64", &["-cpu", EMULATED]),
        // A processor that has pages of 16 KiB; those with pointer authentication are emulated much more slowly.
        Architecture::Arm64 => ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "cortex-a76"]),
    };
    // QEMU 7.2 with one host thread per virtual processor now and then crashed a guest kernel.
    let accelerator = if acceleration == "tcg" { "tcg,thread=single" } else { acceleration };
    let processors = processors.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", program, "-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-accel", accelerator, "-smp", &processors, "-m", "1024"])
        .args(processor)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .kill_on_drop(true);
    Ok(command)
}

/// The first serial port, as kernels name it.
fn console_device(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "ttyS0",
        Architecture::Arm64 => "ttyAMA0",
    }
}

/// No way out (`restrict`) but through the relay, a process of its own for each connection: QEMU's other form connects
/// once, when it starts, and never again.
fn network(paths: &Paths, port: Option<u16>) -> String {
    let relay = paths.program("waggle-lab");
    let forward = port.map(|port| {
        format!(",guestfwd=tcp:{GUEST_ADDRESS}-cmd:'{}' relay 127.0.0.1:{port}", relay.display())
    });
    format!("user,id=net,restrict=on{}", forward.unwrap_or_default())
}

fn initial_files(paths: &Paths, boot: &Boot) -> Result<Vec<u8>> {
    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("cannot read {}: run cargo xtask setup", path.display()))
    };
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "run", "tmp", "bin", "modules", "etc", "etc/waggle"] {
        archive.directory(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    archive.file("init", 0o755, &read(&paths.program_for(boot.architecture, "waggle-node-init"))?);
    archive.file("bin/busybox", 0o755, &read(&paths.busybox(boot.architecture))?);
    archive.link("bin/sh", "busybox");
    let kernel = paths.kernels.join(&boot.kernel);
    for (list, name, wanted) in [
        ("modules", "modules/order", !boot.no_modules),
        ("file-system-modules", "modules/file-system-order", boot.file_system),
    ] {
        let order = if wanted { read(&kernel.join(list))? } else { Vec::new() };
        for module in String::from_utf8_lossy(&order).lines() {
            let module = format!("{module}.ko");
            archive.file(&format!("modules/{module}"), 0o644, &read(&kernel.join(&module))?);
        }
        archive.file(name, 0o644, &order);
    }
    for (path, mode, content) in &boot.files {
        archive.file(path, *mode, content);
    }
    Ok(archive.finish())
}

/// Reads the console as it grows. A kernel that stumbled is not waited for.
async fn watch_console(console: PathBuf, obituary: Obituary) {
    let mut seen = 0;
    loop {
        if let Ok(bytes) = tokio::fs::read(&console).await
            && bytes.len() > seen
        {
            let text = String::from_utf8_lossy(bytes.get(seen..).unwrap_or_default()).into_owned();
            if let Some(line) = last_words(&text) {
                obituary
                    .publish(format!("the node's kernel stumbled: {line} (console: {})", console.display()));
                return;
            }
            // The last line may be incomplete: it is read again.
            seen += text.rfind('\n').map_or(0, |end| end + 1);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn last_words(text: &str) -> Option<&str> {
    text.lines().find(|line| ["Kernel panic", "Oops: ", "BUG: "].iter().any(|mark| line.contains(mark)))
}

/// `kvm` where a stock kernel really boots with it, else `tcg`. A device node says little: the only proof is a boot,
/// whose outcome is remembered.
pub(crate) async fn acceleration(kernels: &Path, state: &Path, kernel: &str) -> Result<&'static str> {
    let memory = state.join("acceleration");
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok("tcg");
    }
    match fs::read_to_string(&memory).as_deref() {
        Ok("kvm") => return Ok("kvm"),
        Ok("tcg") => return Ok("tcg"),
        _ => {}
    }
    fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let works = kvm_boots(kernels, state, kernel).await?;
    let found = if works { "kvm" } else { "tcg" };
    fs::write(&memory, found).with_context(|| format!("cannot write {}", memory.display()))?;
    Ok(found)
}

/// Boots a kernel without any root file system: that it gets as far as to miss it is the proof.
async fn kvm_boots(kernels: &Path, state: &Path, kernel: &str) -> Result<bool> {
    let console = state.join("kvm-console.log");
    let mut command = qemu(&state.join("kvm-qemu.log"), Architecture::Amd64, "kvm", 1)?;
    command.arg("-kernel").arg(kernels.join(kernel).join("vmlinuz"));
    command.args(["-append", "console=ttyS0 panic=-1", "-serial"]).arg(format!("file:{}", console.display()));
    let mut qemu = command.spawn().context("cannot start QEMU: run cargo xtask setup")?;
    let begun = Instant::now();
    let mut ended = false;
    while begun.elapsed() < KVM_LIMIT && !ended {
        ended = qemu.try_wait().context("cannot wait for QEMU")?.is_some();
        sleep(Duration::from_millis(50)).await;
    }
    if !ended {
        qemu.kill().await.context("cannot end QEMU")?;
    }
    let text =
        fs::read(&console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    if text.is_empty() && !ended {
        tracing::info!("hardware acceleration is there and does not work: software emulation");
    }
    Ok(text.contains("Unable to mount root fs"))
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_kernels_last_words_are_found() {
        assert_eq!(
            last_words("Run /init\n[1.2] Kernel panic - not syncing: x\n"),
            Some("[1.2] Kernel panic - not syncing: x")
        );
        assert_eq!(last_words("[1.2] Oops: int3: 0000\n"), Some("[1.2] Oops: int3: 0000"));
        assert_eq!(last_words("Command line: oops=panic panic=-1\n"), None);
    }
}
