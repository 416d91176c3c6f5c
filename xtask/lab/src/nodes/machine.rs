//! One node: QEMU with a Debian kernel, one virtual processor, and a disk whose changes are forgotten. Owns the machine's process and
//! reads its console, where a kernel that stumbles leaves its last words.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    addresses, network,
    places::{KERNEL, Places},
    root::Root,
};
use crate::{
    control_plane::{
        ControlPlane,
        process::{Left, Lifetime, Process},
    },
    cpio::Archive,
    layout::Layout,
    vm,
};

/// Enough for kubelet, containerd, Waggle and the workloads of the tests. Only what is touched is taken.
const MEBIBYTES: &str = "2048";
const SHELL_PORT: u16 = 2323;
const ANSWER: Duration = Duration::from_secs(20);

/// A running machine. Dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    number: u8,
    name: String,
    driver: Layout,
    console: PathBuf,
    process: Process,
}

/// The name of a node.
pub fn name(number: u8) -> String {
    format!("worker-{number}")
}

impl Machine {
    /// Starts a machine from `root`. It is a node when its kubelet says so.
    pub async fn start(
        places: &Places,
        plane: &ControlPlane,
        number: u8,
        root: &Root,
        lifetime: Lifetime,
        static_pods: &[Value],
    ) -> Result<Self> {
        let name = name(number);
        let (console, files) =
            (plane.folder().join(format!("{name}.console")), plane.folder().join(format!("{name}.files")));
        fs::write(&console, "").with_context(|| format!("cannot write {}", console.display()))?;
        fs::write(&files, own_files(plane, number, static_pods)?)
            .with_context(|| format!("cannot write {}", files.display()))?;
        let acceleration = vm::acceleration(&places.kernels, &places.state, KERNEL).await?;
        let kernel = places.kernels.join(KERNEL).join("vmlinuz");
        let flags = flags(number, acceleration, root, &[&kernel, &files, &console]);
        let process =
            Process::start(&name, Path::new("qemu-system-x86_64"), &flags, plane.folder(), lifetime)?;
        Ok(Self { number, name, driver: root.driver, console, process })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cgroup driver of its kubelet and its containerd.
    pub fn driver(&self) -> Layout {
        self.driver
    }

    /// The file with its console's output.
    pub fn console(&self) -> &Path {
        &self.console
    }

    /// An error with the kernel's last words if it stumbled, or with the machine's if it ended.
    pub fn check(&mut self) -> Result<()> {
        stumbled(&self.name, &self.console)?;
        self.process.check()
    }

    /// What a shell on the machine says to a command.
    pub async fn shell(&self, command: &str) -> Result<String> {
        let address = SocketAddr::new(addresses::node(self.number).into(), SHELL_PORT);
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(format!("{{ {command}\n}} 2>&1; exit\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(ANSWER, asked).await;
        let answer = answer.with_context(|| format!("{} does not answer within {ANSWER:?}", self.name))?;
        let answer = answer.with_context(|| format!("{} has no shell at {address}", self.name))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Kills it, as a failure of its power would.
    pub fn kill(self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Leaves it running when this program ends.
    pub fn leave(self) -> Option<Left> {
        self.process.leave()
    }
}

/// An error if a kernel's last words are on a console.
pub fn stumbled(name: &str, console: &Path) -> Result<()> {
    let text =
        fs::read(console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    match vm::last_words(&text) {
        Some(line) => bail!("the kernel of {name} stumbled: {line} (console: {})", console.display()),
        None => Ok(()),
    }
}

fn flags(number: u8, acceleration: &str, root: &Root, [kernel, files, console]: &[&Path; 3]) -> Vec<String> {
    let processor = if acceleration == "kvm" { "host" } else { vm::EMULATED };
    let pairs = [
        ("-accel", acceleration.to_owned()),
        ("-cpu", processor.to_owned()),
        // QEMU 7.2 that emulates two processors by two threads loses a kernel now and then, when it patches itself.
        ("-smp", "1".to_owned()),
        ("-m", MEBIBYTES.to_owned()),
        ("-display", "none".to_owned()),
        ("-serial", format!("file:{}", console.display())),
        ("-kernel", kernel.display().to_string()),
        (
            "-append",
            format!(
                "console=ttyS0 root=/dev/nvme0n1 rw init={} quiet mitigations=off oops=panic panic=-1 psi=1 \
                 systemd.show_status=error {}",
                root.first_program(),
                vm::NO_CLEARING
            ),
        ),
        // One disk only: two are found in any order, and the kernel takes the first for its root.
        ("-drive", format!("file={},if=none,id=root,format=raw,snapshot=on", root.image.display())),
        ("-device", "nvme,drive=root,serial=root".to_owned()),
        ("-fw_cfg", format!("name=opt/waggle/node,file={}", files.display())),
        ("-netdev", format!("tap,id=net,ifname={},script=no,downscript=no", network::device(number))),
        ("-device", format!("virtio-net-pci,netdev=net,mac=52:54:00:77:00:{:02x}", 10 + number)),
        ("-device", "virtio-rng-pci".to_owned()),
    ];
    let words = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    ["-nodefaults", "-no-reboot"].map(str::to_owned).into_iter().chain(words).collect()
}

/// What tells this node from others: who it is, its credentials, the network of its pods, its static pods.
fn own_files(plane: &ControlPlane, number: u8, static_pods: &[Value]) -> Result<Vec<u8>> {
    let (name, address) = (name(number), addresses::node(number));
    let mut archive = Archive::default();
    let identity = format!(
        "NAME={name}\nADDRESS={address}\nBITS={}\nGATEWAY={}\n",
        addresses::NETWORK.1,
        addresses::CONTROL_PLANE
    );
    archive.file("identity", 0o644, identity.as_bytes());
    let kubeconfig = plane.user(&format!("system:node:{name}"), &["system:nodes"])?;
    for (file, path) in [("kubeconfig", kubeconfig), ("ca.crt", plane.pki().file("ca.crt"))] {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(file, 0o600, &bytes);
    }
    let serving = plane.pki().serving(&[&name, &address.to_string()])?;
    archive.file("serving.crt", 0o644, serving.certificate_pem.as_bytes());
    archive.file("serving.key", 0o600, serving.key_pem.as_bytes());
    archive.directory("cni");
    archive.file("cni/10-pods.conflist", 0o644, pods_network(number).to_string().as_bytes());
    archive.directory("static-pods");
    for (position, pod) in static_pods.iter().enumerate() {
        archive.file(&format!("static-pods/{position}.json"), 0o644, pod.to_string().as_bytes());
    }
    Ok(archive.finish())
}

/// The configuration of CNI: pods are ports of the bridge that the machine's network card is a port of.
fn pods_network(number: u8) -> Value {
    let ((network, bits), (first, last)) = (addresses::NETWORK, addresses::pods(number));
    let range = serde_json::json!({
        "subnet": format!("{network}/{bits}"),
        "rangeStart": first,
        "rangeEnd": last,
        "gateway": addresses::CONTROL_PLANE,
    });
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "ipam": {"type": "host-local", "ranges": [[range]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_stumbles_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let console = folder.path().join("worker-0.console");
        fs::write(&console, "[node 3.1] init done\n").unwrap();
        assert!(stumbled("worker-0", &console).is_ok());
        fs::write(&console, "[node 3.1] init done\n[    9.7] Oops: int3: 0000 [#1]\n").unwrap();
        let error = stumbled("worker-0", &console).unwrap_err().to_string();
        assert!(
            error.contains("worker-0") && error.contains("Oops: int3") && error.contains(".console"),
            "{error}"
        );
    }

    #[test]
    fn a_machine_has_one_processor_and_one_disk() {
        let root = Root { driver: Layout::Systemd, image: "/r".into() };
        let flags = flags(1, "tcg", &root, &["/k", "/f", "/c"].map(Path::new));
        let after = |flag: &str| flags.iter().zip(&flags[1..]).filter(|(left, _)| *left == flag).count();
        assert_eq!(after("-drive"), 1);
        assert!(flags.windows(2).any(|pair| pair == ["-smp", "1"]), "{flags:?}");
        assert!(flags.iter().any(|flag| flag.ends_with("mac=52:54:00:77:00:0b")), "{flags:?}");
        assert!(flags.iter().any(|flag| flag.contains(" init=/sbin/init ")), "{flags:?}");
    }
}
