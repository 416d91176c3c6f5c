//! Container images without a container engine: static programs, packed as an OCI image layout inside one tar file that
//! `ctr -n k8s.io images import` takes as it stands, under the image's own name. The same files give the same digests: nothing
//! of the time, the machine or the user that packs them goes in.

mod layer;
mod layout;
pub mod product;
mod program;
pub mod sbom;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

pub use self::layout::Digest;
pub use crate::architecture::Architecture;

/// One image: files, and what is run of them.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The full name with its tag, such as `waggle.local/waggle-agent:0.1.0`.
    pub name: String,
    /// What is in it. Folders are made as the paths need them.
    pub files: Vec<ImageFile>,
    /// The program and those of its arguments that cannot be replaced.
    pub entrypoint: Vec<String>,
    /// The arguments that a pod's `args` replace.
    pub command: Vec<String>,
    /// Numeric `uid:gid`: there is no `/etc/passwd` in the image, and `runAsNonRoot` can judge numbers alone.
    pub user: String,
    /// Labels of the configuration, and annotations of the manifest.
    pub labels: BTreeMap<String, String>,
}

/// A file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Absolute, in the image.
    pub path: String,
    /// On this machine.
    pub from: PathBuf,
    /// Permissions, such as `0o755`.
    pub mode: u32,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Of the manifest: the digest by which registries and nodes know the image.
    pub digest: Digest,
    /// Which processors run it.
    pub architecture: Architecture,
    /// Bytes of the layer, which is not compressed.
    pub layer_bytes: usize,
}

impl ImageFile {
    /// A program that everybody may run.
    pub fn program(path: &str, from: impl Into<PathBuf>) -> Self {
        Self { path: path.to_owned(), from: from.into(), mode: 0o755 }
    }
}

impl Image {
    /// Packs the image into `into`, whose folder is made if it is missing. The processor architecture is that of the entrypoint.
    pub fn write(&self, into: &Path) -> Result<Archive> {
        self.check()?;
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let content =
                fs::read(&file.from).with_context(|| format!("cannot read {}", file.from.display()))?;
            files.push(layer::Entry { path: file.path.clone(), mode: file.mode, content });
        }
        let program = self.entrypoint.first().map(String::as_str).unwrap_or_default();
        let entry = files.iter().find(|entry| entry.path == program);
        let entry = entry.with_context(|| {
            format!("{}: the entrypoint {program} is not among the image's files", self.name)
        })?;
        let architecture = program::of_static(&entry.content)
            .with_context(|| format!("{program} cannot be the program of {}", self.name))?;
        let layer = layer::pack(files).with_context(|| format!("cannot pack the layer of {}", self.name))?;
        let layer_bytes = layer.len();
        let (digest, archive) = layout::pack(self, architecture, layer)
            .with_context(|| format!("cannot pack the archive of {}", self.name))?;
        let dir = into.parent().context("an archive needs a folder")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(into, archive).with_context(|| format!("cannot write {}", into.display()))?;
        Ok(Archive { digest, architecture, layer_bytes })
    }

    /// The tag of the name.
    fn tag(&self) -> Result<&str> {
        let (repository, tag) = self
            .name
            .rsplit_once(':')
            .with_context(|| format!("the image name {} has no tag: write name:tag", self.name))?;
        // A colon before the last slash belongs to a port.
        ensure!(
            !repository.is_empty() && !tag.is_empty() && !tag.contains('/'),
            "the image name {} has no tag: write name:tag",
            self.name
        );
        Ok(tag)
    }

    fn check(&self) -> Result<()> {
        self.tag()?;
        let numeric = |part: &str| part.parse::<u32>().is_ok();
        ensure!(
            self.user.split_once(':').is_some_and(|(user, group)| numeric(user) && numeric(group)),
            "the user of {} is \"{}\": write numbers, uid:gid",
            self.name,
            self.user
        );
        Ok(())
    }
}
