//! The images that are made of this workspace: the two that are shipped, each with its document, and those of the lab.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Archive, Image, ImageFile,
    sbom::{Graph, Sbom, Workspace},
};

/// A name that no public registry answers: an image is there because it was imported, or not at all.
const REGISTRY: &str = "waggle.local";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SOURCE: &str = env!("CARGO_PKG_REPOSITORY");

/// A program that is shipped.
struct Product {
    program: &'static str,
    title: &'static str,
    description: &'static str,
    /// The agent is root without capabilities but those that it is given: Kubernetes gives none to other users.
    user: &'static str,
    licenses: &'static str,
    /// A program that is built apart and packed into it.
    beside: Option<&'static str>,
}

const PRODUCTS: [Product; 2] = [
    Product {
        program: "waggle-agent",
        title: "Waggle agent",
        description: "Walks the pod cgroups of a node with one eBPF program and streams what it saw to the aggregators",
        user: "0:0",
        licenses: "Apache-2.0 AND (MIT OR GPL-2.0-only)",
        beside: Some("waggle-agent-ebpf"),
    },
    Product {
        program: "waggle-aggregator",
        title: "Waggle aggregator",
        description: "Takes the agents' streams and serves metrics.k8s.io",
        user: "65532:65532",
        licenses: "Apache-2.0",
        beside: None,
    },
];

/// Where a build is, and what Cargo says of it.
#[derive(Debug)]
pub struct Build<'a> {
    /// The root of the source tree.
    pub workspace: &'a Path,
    /// The static programs.
    pub binaries: &'a Path,
    /// Cargo's unit graph of the programs.
    pub units: &'a Path,
    /// Cargo's unit graph of the eBPF program.
    pub ebpf_units: &'a Path,
}

/// An image with the files that were made of it.
#[derive(Debug)]
pub struct Made {
    /// Its full name.
    pub name: String,
    /// The image as it was written.
    pub archive: Archive,
    /// The archive's file.
    pub file: PathBuf,
    /// The document's file.
    pub sbom: PathBuf,
    /// How many packages the program names itself, all of which are in the document.
    pub confirmed: usize,
}

/// The images that are shipped, of static programs in this folder.
pub fn shipped(binaries: &Path) -> [Image; 2] {
    PRODUCTS.map(|product| product.image(&binaries.join(product.program)))
}

/// Makes the images that are shipped, as `waggle-agent-amd64.tar` and so on, and the documents beside them.
pub fn ship(build: &Build, into: &Path) -> Result<Vec<Made>> {
    let workspace = Workspace::read(build.workspace)?;
    PRODUCTS.iter().map(|product| one(product, build, &workspace, into)).collect()
}

fn one(product: &Product, build: &Build, workspace: &Workspace, into: &Path) -> Result<Made> {
    let binary = build.binaries.join(product.program);
    let image = product.image(&binary);
    let unnamed = into.join(format!("{}.partial", product.program));
    let archive = image.write(&unnamed)?;
    let stem = format!("{}-{}", product.program, archive.architecture.name());
    let (file, sbom) = (into.join(format!("{stem}.tar")), into.join(format!("{stem}.cdx.json")));
    fs::rename(&unnamed, &file).with_context(|| format!("cannot make {}", file.display()))?;
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let mut graphs = vec![Graph { json: read(build.units)?, program: product.program.to_owned() }];
    if let Some(beside) = product.beside {
        graphs.push(Graph { json: read(build.ebpf_units)?, program: beside.to_owned() });
    }
    let document =
        Sbom { image: &image, archive: &archive, program: product.program, binary: &binary, graphs: &graphs };
    let confirmed = document.write(workspace, &sbom)?;
    Ok(Made { name: image.name.clone(), archive, file, sbom, confirmed })
}

impl Product {
    /// No default arguments: neither program can run without some, and says which it misses.
    fn image(&self, binary: &Path) -> Image {
        let program = format!("/{}", self.program);
        let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
        Image {
            name: format!("{REGISTRY}/{}:{VERSION}", self.program),
            files: vec![ImageFile::program(&program, binary)],
            entrypoint: vec![program],
            command: Vec::new(),
            user: self.user.to_owned(),
            // Neither time nor revision: the same program shall have the same digest.
            labels: BTreeMap::from([
                label("title", self.title),
                label("description", self.description),
                label("version", VERSION),
                label("licenses", self.licenses),
                label("source", SOURCE),
                label("url", SOURCE),
                label("documentation", &format!("{SOURCE}/blob/main/README.md")),
                label("vendor", "The Waggle authors"),
            ]),
        }
    }
}

/// The lab's `pause` and its workloads: one program under two names.
pub fn lab(binaries: &Path) -> [Image; 2] {
    let image = |name: &str, command: &[&str]| Image {
        name: format!("{REGISTRY}/{name}:lab"),
        files: vec![ImageFile::program("/workload", binaries.join("workload"))],
        entrypoint: vec!["/workload".to_owned()],
        command: command.iter().map(|&argument| argument.to_owned()).collect(),
        user: "65532:65532".to_owned(),
        labels: BTreeMap::from([("org.opencontainers.image.title".to_owned(), format!("Waggle lab {name}"))]),
    };
    [image("pause", &["pause"]), image("workload", &["sleep"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_manifests() {
        let [agent, aggregator] = shipped(Path::new("x"));
        assert_eq!(agent.name, "waggle.local/waggle-agent:0.1.0");
        assert_eq!(agent.entrypoint, ["/waggle-agent"]);
        assert_eq!((agent.user.as_str(), aggregator.user.as_str()), ("0:0", "65532:65532"));
        assert_eq!(aggregator.name, "waggle.local/waggle-aggregator:0.1.0");
        assert_eq!(aggregator.labels["org.opencontainers.image.licenses"], "Apache-2.0");
        let names = lab(Path::new("x")).map(|image| image.name);
        assert_eq!(names, ["waggle.local/pause:lab", "waggle.local/workload:lab"]);
    }
}
