//! Renders kustomizations and the chart with the programs that people use, into objects.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value};

/// Objects by `Kind namespace/name`.
pub type Objects = BTreeMap<String, Value>;

pub const NAMESPACE: &str = "waggle-system";

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// Rewrites a file of the repository if `WAGGLE_UPDATE` is set.
pub fn update(path: &str, text: &str) -> bool {
    let wanted = env::var_os("WAGGLE_UPDATE").is_some();
    if wanted {
        fs::write(repository(path), text).unwrap();
    }
    wanted
}

/// A place that `cargo xtask test` names.
pub fn place(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run cargo xtask test")).into()
}

/// helm, with folders of its own instead of those of whoever runs the test.
pub fn helm() -> Command {
    waggle_lab::helm::command().unwrap()
}

/// What a program prints, or what it complains about.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The text of a kustomization below the repository.
pub fn kustomize(folder: &str) -> String {
    let kubectl = place("WAGGLE_CONTROL_PLANE").join("kubectl");
    output(Command::new(kubectl).arg("kustomize").arg(repository(folder))).unwrap()
}

/// The kustomization of `resource` with components, in a folder of the tests.
pub fn kustomize_with(resource: &str, components: &[&str]) -> String {
    let folder = place("WAGGLE_STATE").join("kustomize");
    fs::create_dir_all(&folder).unwrap();
    // kustomize takes other folders by relative paths only.
    let up: PathBuf = folder.canonicalize().unwrap().components().skip(1).map(|_| "..").collect();
    let path = |target: &str| up.join(repository(target).strip_prefix("/").unwrap());
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [path(resource)],
        "components": components.iter().map(|component| path(component)).collect::<Vec<_>>(),
    });
    fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    let kubectl = place("WAGGLE_CONTROL_PLANE").join("kubectl");
    output(Command::new(kubectl).arg("kustomize").arg(folder)).unwrap()
}

/// What the chart makes of these values (`path=JSON`), or why it refuses them.
pub fn chart(values: &[(&str, Value)]) -> Result<String, String> {
    let mut command = helm();
    command.args(["template", "waggle"]).arg(repository("deploy/chart/waggle")).args(["-n", NAMESPACE]);
    for (path, value) in values {
        // helm separates keys by dots; one within a key is escaped.
        let path = path.replace("kubernetes.io", "kubernetes\\.io");
        command.arg("--set-json").arg(format!("{path}={value}"));
    }
    output(&mut command)
}

/// The objects in a text of YAML documents.
pub fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|document| !document.is_null()) {
        let name = name(&object);
        assert!(objects.insert(name.clone(), object).is_none(), "{name} twice");
    }
    assert!(!objects.is_empty(), "nothing in {yaml:?}");
    objects
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let kind = object["kind"].as_str().unwrap();
    let name = metadata["name"].as_str().unwrap();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// A map within an object, if there is one.
pub fn map<'a>(object: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    object.pointer_mut(pointer).and_then(Value::as_object_mut)
}
