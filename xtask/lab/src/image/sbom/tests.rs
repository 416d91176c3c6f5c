//! On the packages of this workspace, with build plans that the tests write. That the whole is right for the real programs is
//! checked whenever one is made (`evidence`).

use std::collections::BTreeMap;

use cyclonedx_bom::{models::bom::Bom, prelude::Validate as _};
use serde_json::{Value, json};

use super::{system::Library, *};
use crate::image::{Architecture, Digest};

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A unit of a plan.
fn unit(package: &str, kind: &str, platform: Option<&str>, uses: &[usize]) -> Value {
    json!({
        "pkg_id": package,
        "target": {"kind": [kind], "name": package.rsplit(['#', '@']).nth(1).unwrap()},
        "mode": if kind == "custom-build" { "run-custom-build" } else { "build" },
        "platform": platform,
        "features": ["std"],
        "dependencies": uses.iter().map(|index| json!({"index": index})).collect::<Vec<_>>(),
    })
}

/// The package ids of this workspace, by name, as Cargo has them.
fn ids(workspace: &Workspace) -> BTreeMap<String, String> {
    workspace.ids().map(|(id, package)| (package.name.clone(), id.clone())).collect()
}

/// A plan in which the agent links bytes, which has a macro and a build script, and the standard library.
fn plan(ids: &BTreeMap<String, String>) -> Graph {
    let mut std = unit("path+file:///usr/src/core#core@0.0.0", "lib", Some(PLATFORM), &[]);
    std["is_std"] = json!(true);
    let mut another = unit(&ids["bytes"], "lib", Some(PLATFORM), &[]);
    another["features"] = json!(["default"]);
    let mut in_std = unit("registry+https://example.invalid/index#gimli@0.32.3", "lib", Some(PLATFORM), &[]);
    in_std["is_std"] = json!(true);
    let units = [
        unit(&ids["waggle-agent"], "bin", Some(PLATFORM), &[1, 2, 6]),
        unit(&ids["waggle-agent"], "lib", Some(PLATFORM), &[2, 3, 4, 5]),
        unit(&ids["bytes"], "lib", Some(PLATFORM), &[]),
        unit(&ids["serde_derive"], "proc-macro", None, &[7]),
        unit(&ids["waggle-agent"], "custom-build", Some(PLATFORM), &[7]),
        another,
        std,
        unit(&ids["syn"], "lib", None, &[]),
        in_std,
    ];
    let json = json!({"version": 1, "units": units, "roots": [0]}).to_string();
    Graph { json, program: "waggle-agent".to_owned() }
}

#[test]
fn macros_build_scripts_and_the_standard_library_are_not_linked_packages() {
    let workspace = Workspace::read(&packages::here()).unwrap();
    let ids = ids(&workspace);
    let graph = plan(&ids);
    let linked = units::linked(&graph.json, &graph.program).unwrap();
    assert_eq!(linked.root, ids["waggle-agent"]);
    let packages: Vec<&String> = linked.packages.keys().collect();
    assert_eq!(packages.len(), 2, "{packages:?}");
    assert_eq!(linked.in_std.iter().collect::<Vec<_>>(), ["gimli-0.32.3"]);
    let bytes = &linked.packages[&ids["bytes"]];
    assert_eq!(bytes.features.iter().collect::<Vec<_>>(), ["default", "std"]);
    let agent = &linked.packages[&ids["waggle-agent"]];
    assert_eq!(agent.depends_on.iter().collect::<Vec<_>>(), [&ids["bytes"]]);
}

#[test]
fn another_plan_is_refused_with_the_reason() {
    let error = |json: &str| format!("{:#}", units::linked(json, "x").unwrap_err());
    assert!(error("{}").contains("no JSON of the known form"));
    assert!(error(r#"{"version":2,"units":[],"roots":[]}"#).contains("has version 2"));
    assert!(error(r#"{"version":1,"units":[],"roots":[]}"#).contains("has no program x"));
    assert!(error(r#"{"version":1,"units":[],"roots":[3]}"#).contains("points outside"));
}

#[test]
fn the_document_is_valid_and_says_what_is_known() {
    let workspace = Workspace::read(&packages::here()).unwrap();
    let graph = plan(&ids(&workspace));
    let image = Image { name: "waggle.local/waggle-agent:0.1.0".to_owned(), ..Image::default() };
    let archive = Archive { digest: Digest::of(b"x"), architecture: Architecture::Amd64, layer_bytes: 0 };
    let sbom = Sbom {
        image: &image,
        archive: &archive,
        program: "waggle-agent",
        binary: Path::new("unused"),
        graphs: &[],
    };
    let linked = [units::linked(&graph.json, &graph.program).unwrap()];
    let c = Library {
        name: "libc6-dev",
        version: "2.36-9+deb12u14".to_owned(),
        license: "LGPL-2.1-or-later",
        kind: "deb",
    };
    let text = document::write(&sbom, b"binary", &linked, &workspace, &[c]).unwrap();
    assert!(Bom::parse_from_json_v1_5(text.as_bytes()).unwrap().validate().passed());
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));

    let program = &document["metadata"]["component"];
    assert_eq!((&program["type"], &program["name"]), (&json!("application"), &json!("waggle-agent")));
    assert_eq!(program["hashes"][0]["content"], format!("{:#}", Digest::of(b"binary")));
    let image = program["properties"].as_array().unwrap();
    assert!(image.contains(&json!({"name": "waggle:image:digest", "value": archive.digest.to_string()})));

    let components = document["components"].as_array().unwrap();
    assert_eq!(components.len(), 2, "bytes and the C library");
    let bytes = components.iter().find(|component| component["name"] == "bytes").unwrap();
    let version = bytes["version"].as_str().unwrap();
    assert_eq!(bytes["purl"], format!("pkg:cargo/bytes@{version}"));
    assert_eq!(bytes["licenses"], json!([{"expression": "MIT"}]));
    let lock = fs::read_to_string(packages::here().join("Cargo.lock")).unwrap();
    let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"bytes\"")).unwrap();
    let checksum = bytes["hashes"][0]["content"].as_str().unwrap();
    assert!(checksum.len() == 64 && entry.contains(checksum));
    let c = components.iter().find(|component| component["name"] == "libc6-dev").unwrap();
    assert_eq!(c["purl"], "pkg:deb/debian/libc6-dev@2.36-9%2Bdeb12u14");
    let uses = document["dependencies"].as_array().unwrap();
    let agent = uses.iter().find(|entry| entry["ref"] == program["bom-ref"]).unwrap();
    assert_eq!(agent["dependsOn"], json!([bytes["bom-ref"], c["bom-ref"]]));
}

#[test]
fn a_package_that_the_program_names_and_the_plan_does_not_is_an_error() {
    let workspace = Workspace::read(&packages::here()).unwrap();
    let graph = plan(&ids(&workspace));
    let linked = [units::linked(&graph.json, &graph.program).unwrap()];
    let bytes = workspace.ids().find(|(_, package)| package.name == "bytes").unwrap().1;
    let named = format!("/x/registry/src/i/bytes-{}/src/lib.rs", bytes.version);
    assert_eq!(confirm(named.as_bytes(), &linked, &workspace).unwrap(), 1);
    let std = format!("{named}\0/x/registry/src/i/gimli-0.32.3/src/lib.rs");
    assert_eq!(confirm(std.as_bytes(), &linked, &workspace).unwrap(), 2);
    let other = format!("{named}\0/x/registry/src/i/tokio-1.0.0/src/lib.rs");
    let error = format!("{:#}", confirm(other.as_bytes(), &linked, &workspace).unwrap_err());
    assert!(error.contains("tokio-1.0.0"), "{error}");
    assert!(confirm(b"nothing", &linked, &workspace).is_err(), "a comparison of nothing");
}
