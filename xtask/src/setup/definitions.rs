//! What the tests of the manifests need of other projects' manifests: the definitions of the custom resources of cert-manager and
//! the Prometheus operator, so that a real API server judges such objects by the real schemas, and metrics-server's chart. They are
//! files in Go modules, whose checksums are pinned here.

use std::{
    fs, io,
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
    /// Files, or folders.
    files: &'static [&'static str],
}

const SOURCES: [Source; 3] = [
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
    Source {
        module: "sigs.k8s.io/metrics-server",
        version: "v0.9.0",
        sum: "h1:nlqqZ2H0Xfko8eJC/1qaNVVT17hu4rxndkOi22KTZ4w=",
        folder: "charts",
        files: &["metrics-server"],
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
    if into.is_dir() {
        return Ok(());
    }
    println!("setup: manifests of other projects are missing: taking them out of Go modules (10 MB)");
    let go = go::ensure(root)?;
    let partial = into.with_file_name("definitions.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot empty {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for source in &SOURCES {
        let folder = download(root, &go, source)?.join(source.folder);
        for file in source.files {
            let (from, to) = (folder.join(file), partial.join(file));
            copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
    }
    fs::rename(&partial, &into).with_context(|| format!("cannot make {}", into.display()))
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
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
