//! Who the processes of a control plane are to each other: two authorities that share nothing, as kubeadm makes them, and
//! the key that signs tokens. The aggregator's serving certificates are its own affair. Writes files, because the
//! processes read files.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::KeyPair;
use serde_json::json;
use waggle_stand_in::{Authority, Identity};

/// The front proxy's name: the only one that aggregated servers shall believe.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// Who kube-apiserver is to kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Authorities and files of one control plane.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    cluster: Authority,
}

impl Pki {
    /// Makes everything and writes what the processes read. The API server listens at these addresses beside loopback.
    pub fn create(folder: PathBuf, addresses: &[IpAddr]) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let cluster = Authority::new("waggle-lab-ca")?;
        let front_proxy = Authority::new("waggle-lab-front-proxy-ca")?;
        let pki = Self { folder, cluster };
        pki.write("ca.crt", pki.cluster.pem())?;
        pki.write("front-proxy-ca.crt", front_proxy.pem())?;
        pki.pair("front-proxy-client", &front_proxy.client::<&str>(FRONT_PROXY, &[])?)?;
        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let names = names.map(str::to_owned).into_iter().chain(addresses.iter().map(IpAddr::to_string));
        pki.pair("apiserver", &pki.cluster.serving(&names.collect::<Vec<_>>())?)?;
        pki.pair(KUBELET_CLIENT, &pki.cluster.client(KUBELET_CLIENT, &["system:masters"])?)?;
        let tokens = KeyPair::generate().context("cannot make the key that signs tokens")?;
        pki.write("sa.key", &tokens.serialize_pem())?;
        pki.write("sa.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// Where a file of it is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the kubeconfig of a user with a client certificate: `<user>.kubeconfig`, colons in the name as dashes.
    pub fn user(&self, server: SocketAddr, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let identity = self.cluster.client(user, groups)?;
        let credentials = json!({
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem),
        });
        self.kubeconfig(server, user, &credentials)
    }

    /// A serving certificate for these names and addresses.
    pub fn serving(&self, names: &[&str]) -> Result<Identity> {
        self.cluster.serving(names).with_context(|| format!("cannot make a certificate for {names:?}"))
    }

    /// Writes the kubeconfig of a user with a token.
    pub fn token_user(&self, server: SocketAddr, user: &str, token: &str) -> Result<PathBuf> {
        self.kubeconfig(server, user, &json!({ "token": token }))
    }

    /// JSON is YAML.
    fn kubeconfig(&self, server: SocketAddr, user: &str, credentials: &serde_json::Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "waggle-lab",
            "clusters": [{"name": "waggle-lab", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority-data": STANDARD.encode(self.cluster.pem()),
            }}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "waggle-lab", "context": {"cluster": "waggle-lab", "user": user}}],
        });
        self.write(&format!("{}.kubeconfig", user.replace(':', "-")), &format!("{config:#}\n"))
    }

    fn pair(&self, name: &str, identity: &Identity) -> Result<()> {
        self.write(&format!("{name}.crt"), &identity.certificate_pem)?;
        self.write(&format!("{name}.key"), &identity.key_pem).map(drop)
    }

    /// Writes a file. Most of these are secret, and it costs nothing to keep all of them from other users.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        write_private(&path, text)?;
        Ok(path)
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict {}", path.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
