//! Cargo's own plan of a build (`--unit-graph`): what a program links. The resolution of a whole workspace, which
//! `cargo metadata` tells, has more in it: dependencies of tests, of build scripts, and what other members switch on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The version of the format that is read here; it is not stable.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Plan {
    version: u32,
    units: Vec<Unit>,
    roots: Vec<usize>,
}

#[derive(Deserialize)]
struct Unit {
    pkg_id: String,
    target: Target,
    mode: String,
    /// `None` is the machine that builds: build scripts and macros.
    platform: Option<String>,
    features: Vec<String>,
    #[serde(default)]
    is_std: bool,
    dependencies: Vec<Edge>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Edge {
    index: usize,
}

/// What a program links.
#[derive(Debug)]
pub struct Linked {
    /// The program's own package.
    pub root: String,
    /// By package id, the program's own among them.
    pub packages: BTreeMap<String, Use>,
    /// Where the standard library is built with the program: the published packages in it, as `name-version`. They are
    /// part of it, whoever builds it.
    pub in_std: BTreeSet<String>,
}

/// How a package is used.
#[derive(Debug, Default)]
pub struct Use {
    /// The features that it is compiled with.
    pub features: BTreeSet<String>,
    /// The ids of those that it uses itself.
    pub depends_on: BTreeSet<String>,
}

/// What the program of this name links, without the standard library.
pub fn linked(graph: &str, program: &str) -> Result<Linked> {
    let plan: Plan =
        serde_json::from_str(graph).context("Cargo's unit graph is no JSON of the known form")?;
    ensure!(plan.version == VERSION, "Cargo's unit graph has version {}, not {VERSION}", plan.version);
    let unit = |index: usize| plan.units.get(index).context("Cargo's unit graph points outside of itself");
    let mut root = None;
    for &index in &plan.roots {
        let Unit { target: Target { kind, name }, .. } = unit(index)?;
        if name == program && kind.iter().any(|kind| kind == "bin") {
            root = Some(index);
        }
    }
    let root = root.with_context(|| format!("Cargo's unit graph has no program {program}"))?;
    let mut packages: BTreeMap<String, Use> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut left = vec![root];
    while let Some(index) = left.pop() {
        if !seen.insert(index) {
            continue;
        }
        let one = unit(index)?;
        let package = packages.entry(one.pkg_id.clone()).or_default();
        package.features.extend(one.features.iter().cloned());
        for edge in &one.dependencies {
            let other = unit(edge.index)?;
            if !other.is_linked() {
                continue;
            }
            if other.pkg_id != one.pkg_id {
                package.depends_on.insert(other.pkg_id.clone());
            }
            left.push(edge.index);
        }
    }
    let in_std = plan.units.iter().filter(|unit| unit.is_std).filter_map(Unit::published).collect();
    Ok(Linked { root: unit(root)?.pkg_id.clone(), packages, in_std })
}

impl Unit {
    /// `name-version` of a package of a registry, whose id ends in `#name@version`.
    fn published(&self) -> Option<String> {
        let (name, version) = self.pkg_id.strip_prefix("registry+")?.rsplit_once('#')?.1.split_once('@')?;
        Some(format!("{name}-{version}"))
    }

    fn is_linked(&self) -> bool {
        let a_macro = self.target.kind.iter().any(|kind| kind == "proc-macro");
        self.mode == "build" && self.platform.is_some() && !a_macro && !self.is_std
    }
}
