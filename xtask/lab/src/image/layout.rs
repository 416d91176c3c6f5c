//! The OCI image layout (<https://github.com/opencontainers/image-spec>): blobs under their digests, an index that names
//! the manifest, all in one tar.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType};

use super::{Architecture, Image, layer};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Not compressed: a node unpacks it faster, and its digest depends on no version of a compressor.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// No file of an image has a time of its own, nor has the image.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// SHA-256 of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(sum)
    }
}

/// As `sha256:…`; the alternate form is the hexadecimal digits alone.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            f.write_str("sha256:")?;
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The manifest's digest and the bytes of the archive.
pub fn pack(image: &Image, architecture: Architecture, layer: Vec<u8>) -> Result<(Digest, Vec<u8>)> {
    let mut blobs = Blobs::default();
    // The layer's own digest is that of what it unpacks to.
    let difference = Digest::of(&layer).to_string();
    let layer = blobs.add(LAYER, layer)?;
    let config = blobs.add(CONFIG, serde_json::to_vec(&config(image, architecture, &difference))?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": image.labels,
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let digest = Digest::of(&manifest);
    let mut descriptor = blobs.add(MANIFEST, manifest)?;
    descriptor["platform"] = json!({"architecture": architecture.name(), "os": "linux"});
    descriptor["annotations"] = json!({
        // What containerd and Docker call the image after an import; others have the tag alone.
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.tag()?,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
    let archive = blobs.pack(&serde_json::to_vec(&index)?)?;
    Ok((digest, archive))
}

fn config(image: &Image, architecture: Architecture, difference: &str) -> Value {
    let mut run = json!({
        "User": image.user,
        "Entrypoint": image.entrypoint,
        "WorkingDir": "/",
        "Labels": image.labels,
    });
    if !image.command.is_empty() {
        run["Cmd"] = json!(image.command);
    }
    json!({
        "created": CREATED,
        "architecture": architecture.name(),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [difference]},
        "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
    })
}

/// Contents by digest.
#[derive(Default)]
struct Blobs(BTreeMap<Digest, Vec<u8>>);

impl Blobs {
    /// Keeps a blob; its descriptor.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Result<Value> {
        let digest = Digest::of(&content);
        let size = u64::try_from(content.len())?;
        self.0.insert(digest, content);
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": size}))
    }

    fn pack(self, index: &[u8]) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for folder in ["blobs/", "blobs/sha256/"] {
            layer::append(&mut tar, folder, EntryType::Directory, 0o755, &[])?;
        }
        for (digest, content) in self.0 {
            layer::append(
                &mut tar,
                &format!("blobs/sha256/{digest:#}"),
                EntryType::Regular,
                0o644,
                &content,
            )?;
        }
        layer::append(&mut tar, "index.json", EntryType::Regular, 0o644, index)?;
        let version = serde_json::to_vec(&json!({"imageLayoutVersion": "1.0.0"}))?;
        layer::append(&mut tar, "oci-layout", EntryType::Regular, 0o644, &version)?;
        tar.into_inner().context("cannot end a tar")
    }
}
