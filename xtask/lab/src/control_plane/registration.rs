//! Puts Waggle's objects into the API server: the base under `deploy/`, the overlay of the lab, and what only a running
//! lab knows. Owns a folder that kustomize reads.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The overlay that is always the same.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");

/// Writes a kustomization into `folder`: the overlay with the aggregator's port.
pub fn write(folder: &Path, port: u16) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let overlay = way(folder, Path::new(OVERLAY))?;
    let patch = |target: Value, path: &str| {
        let operations = json!([{"op": "replace", "path": path, "value": port}]);
        json!({"target": target, "patch": operations.to_string()})
    };
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [overlay],
        "patches": [
            patch(json!({"kind": "Service", "name": "waggle-aggregator"}), "/spec/ports/0/port"),
            patch(json!({"kind": "APIService"}), "/spec/service/port"),
        ],
    });
    let file = folder.join("kustomization.yaml");
    // JSON is YAML.
    fs::write(&file, format!("{kustomization:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The way from one folder to another: kustomize takes other folders by relative paths only.
pub fn way(from: &Path, to: &Path) -> Result<PathBuf> {
    let canonical = |path: &Path| {
        path.canonicalize().with_context(|| format!("cannot find the folder {}", path.display()))
    };
    Ok(relative(&canonical(from)?, &canonical(to)?))
}

/// The same for folders that are absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (mut from, mut to) = (from.components().peekable(), to.components().peekable());
    while let (Some(left), Some(right)) = (from.peek(), to.peek())
        && left == right
    {
        from.next();
        to.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_between_folders() {
        for (from, to, way) in [
            ("/a/b/c", "/a/d", "../../d"),
            ("/a", "/a/b/c", "b/c"),
            ("/a/b", "/a", ".."),
            ("/x", "/y/z", "../y/z"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }
}
