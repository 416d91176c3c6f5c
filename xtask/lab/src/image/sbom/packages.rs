//! What is known of a package: name, version, licence from its manifest, checksum from Cargo.lock.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use cargo_lock::Lockfile;
use cargo_metadata::{CargoOpt, MetadataCommand};

/// A package.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression, as its manifest has it.
    pub license: Option<String>,
    /// One paragraph.
    pub description: Option<String>,
    /// Where its source is kept.
    pub repository: Option<String>,
    /// SHA-256 of the archive that the registry has, in hexadecimal digits. `None` for our own.
    pub checksum: Option<String>,
    /// Whether it comes from a registry.
    pub published: bool,
}

/// All packages that Cargo.lock names, by package id.
pub struct Workspace(BTreeMap<String, Package>);

impl Workspace {
    /// Asks Cargo, which downloads what it has not seen yet.
    pub fn read(root: &Path) -> Result<Self> {
        let lock = root.join("Cargo.lock");
        let lock = Lockfile::load(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            // The eBPF program's dependencies are behind a feature.
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked".to_owned()])
            .exec()
            .context("cannot ask Cargo for the packages of this workspace")?;
        let mut packages = BTreeMap::new();
        for package in metadata.packages {
            let version = package.version.to_string();
            let entry = lock.packages.iter().find(|entry| {
                entry.name.as_str() == package.name.as_str()
                    && entry.version.to_string() == version
                    && entry.source.is_some() == package.source.is_some()
            });
            let checksum = entry.and_then(|entry| entry.checksum.as_ref()).map(ToString::to_string);
            packages.insert(
                package.id.repr.clone(),
                Package {
                    name: package.name.to_string(),
                    version,
                    license: package.license,
                    description: package.description,
                    repository: package.repository,
                    checksum,
                    published: package.source.is_some(),
                },
            );
        }
        Ok(Self(packages))
    }

    /// All of them.
    #[cfg(test)]
    pub fn ids(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.0.iter()
    }

    /// A package by its id.
    pub fn package(&self, id: &str) -> Result<&Package> {
        self.0.get(id).with_context(|| format!("Cargo.lock has no package {id}: it and the build differ"))
    }
}

/// The workspace of this source tree, where the tests run.
#[cfg(test)]
pub fn here() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
