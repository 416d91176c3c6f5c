//! The definitions of the custom resources that the manifests may contain (cert-manager's, the Prometheus operator's), so that
//! a real API server judges these objects by the real schemas. They are files in Go modules, whose checksums are pinned here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::go;
use crate::{cache, progress};

struct Source {
    module: &'static str,
    version: &'static str,
    /// As `go.sum` has it.
    sum: &'static str,
    folder: &'static str,
    files: &'static [&'static str],
}

const SOURCES: [Source; 2] = [
    Source {
        module: "github.com/cert-manager/cert-manager",
        version: "v1.21.2",
        sum: "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        folder: "deploy/crds",
        files: &["cert-manager.io_certificates.yaml", "cert-manager.io_issuers.yaml"],
    },
    Source {
        module: "github.com/prometheus-operator/prometheus-operator",
        version: "v0.85.0",
        sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        folder: "example/prometheus-operator-crd",
        files: &[
            "monitoring.coreos.com_podmonitors.yaml",
            "monitoring.coreos.com_prometheusrules.yaml",
            "monitoring.coreos.com_servicemonitors.yaml",
        ],
    },
];

/// The folder with the definitions, there or not.
pub fn dir() -> Result<PathBuf> {
    let versions = SOURCES.map(|source| source.version);
    Ok(cache::dir()?.join(format!("definitions-{}", versions.join("-"))))
}

/// Fetches what is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let into = dir()?;
    if SOURCES.iter().flat_map(|source| source.files).all(|file| into.join(file).is_file()) {
        return Ok(());
    }
    println!("setup: definitions of custom resources are missing: taking them out of Go modules (10 MB)");
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let go = go::ensure(root)?;
    for source in &SOURCES {
        let folder = download(root, &go, source)?.join(source.folder);
        for file in source.files {
            let (from, to) = (folder.join(file), into.join(file));
            fs::copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
    }
    Ok(())
}

/// The folder of the module's files, checked.
fn download(root: &Path, go: &Path, source: &Source) -> Result<PathBuf> {
    let Source { module, version, sum, .. } = source;
    let log = super::log(root, "definitions");
    let mut command = Command::new(go);
    command
        .current_dir(root.join("xtask/tools"))
        .args(["mod", "download", "-json"])
        .arg(format!("{module}@{version}"))
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS");
    progress::run_checked("go mod download", &mut command, &log)?;
    let answer = progress::read(&log);
    ensure!(field(&answer, "Sum") == Some(sum), "{module} {version} is not what was expected: {answer}");
    field(&answer, "Dir").map(PathBuf::from).with_context(|| format!("go says no folder: {answer}"))
}

/// The value of a text field in the JSON that go prints, one field a line.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(": ")?;
        (key.trim_matches('"') == name).then(|| value.trim_end_matches(',').trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let answer = "{\n\t\"Path\": \"a.test/b\",\n\t\"Dir\": \"/x/b@v1\",\n\t\"Sum\": \"h1:ab=\"\n}\n";
        assert_eq!(field(answer, "Dir"), Some("/x/b@v1"));
        assert_eq!(field(answer, "Sum"), Some("h1:ab="));
        assert_eq!(field(answer, "Info"), None);
    }
}
