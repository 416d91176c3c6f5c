//! What is linked into a program, as a `CycloneDX` document beside its image: the packages that Cargo itself says its build links
//! (normal dependencies for the target, with the features of that very build), the standard library, and the C library
//! of a static program.

mod document;
mod evidence;
mod packages;
mod system;
#[cfg(test)]
mod tests;
mod units;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};

pub use self::packages::Workspace;
use self::units::Linked;
use super::{Archive, Image};

/// One document to be made.
pub struct Sbom<'a> {
    /// The image that the program is in.
    pub image: &'a Image,
    /// The image as it was written.
    pub archive: &'a Archive,
    /// The program's name, which is its package's too.
    pub program: &'a str,
    /// The program.
    pub binary: &'a Path,
    /// Cargo's unit graphs: the program's, and those of what is built beside it and packed into it.
    pub graphs: &'a [Graph],
}

/// A build as `cargo build --unit-graph` tells it.
pub struct Graph {
    /// The JSON.
    pub json: String,
    /// Which of its programs is meant.
    pub program: String,
}

impl Sbom<'_> {
    /// Writes the document. It depends on nothing but what it describes: the same build gives the same bytes. Returns how many
    /// packages the program itself names, all of which are in the document.
    pub fn write(&self, workspace: &Workspace, into: &Path) -> Result<usize> {
        let binary =
            fs::read(self.binary).with_context(|| format!("cannot read {}", self.binary.display()))?;
        let mut linked = Vec::new();
        for graph in self.graphs {
            linked.push(
                units::linked(&graph.json, &graph.program)
                    .with_context(|| format!("cannot tell what {} is linked of", graph.program))?,
            );
        }
        let confirmed = confirm(&binary, &linked, workspace)?;
        let system = system::components(&binary, self.archive.architecture)?;
        let text = document::write(self, &binary, &linked, workspace, &system)
            .with_context(|| format!("cannot describe {}", self.program))?;
        fs::write(into, text).with_context(|| format!("cannot write {}", into.display()))?;
        Ok(confirmed)
    }
}

/// Holds what the plan says against what the program says.
fn confirm(binary: &[u8], linked: &[Linked], workspace: &Workspace) -> Result<usize> {
    let mut known = BTreeSet::new();
    for id in linked.iter().flat_map(|linked| linked.packages.keys()) {
        let package = workspace.package(id)?;
        known.insert(format!("{}-{}", package.name, package.version));
    }
    known.extend(linked.iter().flat_map(|linked| linked.in_std.iter().cloned()));
    let named = evidence::packages(binary);
    ensure!(!named.is_empty(), "the program names no package of a registry: nothing could be compared");
    let missing: Vec<&String> = named.difference(&known).collect();
    ensure!(
        missing.is_empty(),
        "the program has code of packages that Cargo's plan does not link: {missing:?}"
    );
    Ok(named.len())
}
