//! The `CycloneDX` document.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr as _,
};

use anyhow::{Context, Result, anyhow, bail};
use cyclonedx_bom::{
    external_models::{
        normalized_string::NormalizedString,
        spdx::SpdxExpression,
        uri::{Purl, Uri},
    },
    models::{
        bom::{Bom, SpecVersion},
        component::{Classification, Component, Components},
        dependency::{Dependencies, Dependency},
        external_reference::{
            ExternalReference, ExternalReferenceType, ExternalReferences, Uri as Reference,
        },
        hash::{Hash, HashAlgorithm, HashValue, Hashes},
        license::{LicenseChoice, Licenses},
        metadata::Metadata,
        property::{Properties, Property},
        tool::{Tool, Tools},
    },
    prelude::Validate as _,
};

use super::{
    Sbom,
    packages::{Package, Workspace},
    system::Library,
    units::Linked,
};
use crate::image::Digest;

const VERSION: SpecVersion = SpecVersion::V1_5;

/// The document's text: valid by the standard's own rules, or an error.
pub fn write(
    sbom: &Sbom,
    binary: &[u8],
    linked: &[Linked],
    workspace: &Workspace,
    system: &[Library],
) -> Result<String> {
    let (first, beside) = linked.split_first().context("no unit graph")?;
    let mut components: BTreeMap<String, Component> = BTreeMap::new();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, used) in linked.iter().flat_map(|linked| &linked.packages) {
        let package = workspace.package(id)?;
        let component = component(package, &used.features)?;
        let name = reference(package)?;
        let uses = edges.entry(name.clone()).or_default();
        for other in &used.depends_on {
            uses.insert(reference(workspace.package(other)?)?);
        }
        components.insert(name, component);
    }
    let root = reference(workspace.package(&first.root)?)?;
    let uses = edges.entry(root.clone()).or_default();
    for other in beside {
        uses.insert(reference(workspace.package(&other.root)?)?);
    }
    for library in system {
        let purl = of_system(library)?;
        uses.insert(purl.to_string());
        components.insert(purl.to_string(), of_library(library, purl)?);
    }
    let program = components.remove(&root).context("the program is not among its own packages")?;
    let bom = Bom {
        version: 1,
        serial_number: None,
        metadata: Some(metadata(sbom, binary, program)),
        components: Some(Components(components.into_values().collect())),
        services: None,
        external_references: None,
        dependencies: Some(Dependencies(
            edges
                .into_iter()
                .map(|(dependency_ref, uses)| Dependency {
                    dependency_ref,
                    dependencies: uses.into_iter().collect(),
                })
                .collect(),
        )),
        compositions: None,
        properties: None,
        vulnerabilities: None,
        signature: None,
        annotations: None,
        formulation: None,
        spec_version: VERSION,
    };
    let validity = bom.validate_version(VERSION);
    if !validity.passed() {
        bail!("the document would not be valid: {validity:?}");
    }
    let mut text = Vec::new();
    bom.output_as_json(&mut text, VERSION).context("cannot write the document")?;
    text.push(b'\n');
    String::from_utf8(text).context("the document is no UTF-8")
}

/// The image's program itself. No time, no serial number: they would differ between two equal builds.
fn metadata(sbom: &Sbom, binary: &[u8], program: Component) -> Metadata {
    let property = |name: &str, value: &str| Property::new(format!("waggle:image:{name}"), value);
    let program = Component {
        component_type: Classification::Application,
        hashes: Some(sha256(format!("{:#}", Digest::of(binary)))),
        properties: Some(Properties(vec![
            property("name", &sbom.image.name),
            property("digest", &sbom.archive.digest.to_string()),
            property("architecture", sbom.archive.architecture.name()),
        ])),
        ..program
    };
    Metadata {
        timestamp: None,
        tools: Some(Tools::List(vec![Tool::new("Waggle", "cargo xtask image", env!("CARGO_PKG_VERSION"))])),
        authors: None,
        component: Some(program),
        manufacture: None,
        supplier: None,
        licenses: None,
        properties: None,
        lifecycles: None,
    }
}

fn component(package: &Package, features: &BTreeSet<String>) -> Result<Component> {
    let purl = of_package(package)?;
    let mut component =
        Component::new(Classification::Library, &package.name, &package.version, Some(purl.to_string()));
    component.purl = Some(purl);
    component.description = package.description.as_deref().map(|text| NormalizedString::new(text.trim()));
    component.licenses = package.license.as_deref().map(license).transpose()?;
    component.hashes = package.checksum.clone().map(sha256);
    component.external_references = package.repository.as_deref().map(|repository| {
        ExternalReferences(vec![ExternalReference {
            external_reference_type: ExternalReferenceType::Vcs,
            url: Reference::Url(Uri::new(repository)),
            comment: None,
            hashes: None,
        }])
    });
    if !features.is_empty() {
        let features: Vec<&str> = features.iter().map(String::as_str).collect();
        component.properties =
            Some(Properties(vec![Property::new("waggle:cargo:features", &features.join(","))]));
    }
    Ok(component)
}

fn of_library(library: &Library, purl: Purl) -> Result<Component> {
    let mut component =
        Component::new(Classification::Library, library.name, &library.version, Some(purl.to_string()));
    component.purl = Some(purl);
    component.licenses = Some(license(library.license)?);
    Ok(component)
}

fn of_system(library: &Library) -> Result<Purl> {
    let Library { name, version, .. } = library;
    match library.kind {
        // This type has the distribution before the name, which the constructor would escape.
        "deb" => Purl::from_str(&format!("pkg:deb/debian/{name}@{}", version.replace('+', "%2B")))
            .map_err(|()| anyhow!("{name} {version} makes no package URL")),
        kind => purl(kind, name, version),
    }
}

fn reference(package: &Package) -> Result<String> {
    Ok(of_package(package)?.to_string())
}

/// Our own packages are in no registry, where the type `cargo` would send a reader.
fn of_package(package: &Package) -> Result<Purl> {
    purl(if package.published { "cargo" } else { "generic" }, &package.name, &package.version)
}

fn purl(kind: &str, name: &str, version: &str) -> Result<Purl> {
    Purl::new(kind, name, version).with_context(|| format!("{name} {version} makes no package URL"))
}

fn license(expression: &str) -> Result<Licenses> {
    // Old manifests have a slash for `OR`.
    let expression = SpdxExpression::parse_lax(expression.to_owned())
        .with_context(|| format!("\"{expression}\" is no SPDX expression"))?;
    Ok(Licenses(vec![LicenseChoice::Expression(expression)]))
}

fn sha256(digits: String) -> Hashes {
    Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(digits) }])
}
