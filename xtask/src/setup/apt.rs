//! Debian packages through apt, with package lists and a download folder of our own: other suites than the machine's
//! can be read, and the machine's own configuration stays as it is. The mirror is the one that the machine's sources name.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{architecture::Architecture, cache, progress};

/// Whom the packages are signed by.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The release that packages are known for.
pub const RELEASE: &str = "bookworm";

/// A set of suites with its own lists and downloads.
pub struct Apt {
    dir: PathBuf,
    architecture: Architecture,
}

impl Apt {
    /// The machine's own release with its updates and security suites: what may be installed.
    fn own(root: &Path) -> Result<Self> {
        let release = codename()?;
        let suites = [release.clone(), format!("{release}-updates"), format!("{release}-security")];
        Self::open(root, &release, &suites, Architecture::Amd64)
    }

    /// Other releases: only for packages that are unpacked into the cache, never installed.
    pub fn of(root: &Path, architecture: Architecture, suites: &[&str]) -> Result<Self> {
        let suites: Vec<String> = suites.iter().map(|&suite| suite.to_owned()).collect();
        let name = suites.join("+");
        let name = match architecture {
            Architecture::Amd64 => name,
            Architecture::Arm64 => format!("{name}-{}", architecture.name()),
        };
        Self::open(root, &name, &suites, architecture)
    }

    fn open(root: &Path, name: &str, suites: &[String], architecture: Architecture) -> Result<Self> {
        let dir = cache::dir()?.join("apt").join(name);
        for sub in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(dir.join(sub))
                .with_context(|| format!("cannot make {}", dir.join(sub).display()))?;
        }
        let mirror = mirror()?;
        let mut lines = String::new();
        for suite in suites {
            let uri = if suite.ends_with("-security") { &mirror.security } else { &mirror.main };
            writeln!(lines, "deb [signed-by={KEYRING}] {uri} {suite} main")?;
        }
        let list = dir.join("sources.list");
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        let apt = Self { dir, architecture };
        println!("setup: reading the package lists of {name}");
        let mut command = apt.command("apt-get");
        command.args([
            "-o",
            "Acquire::Languages=none",
            "-o",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        progress::run_checked("apt-get update", command.arg("update"), &super::log(root, "apt-update"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = as_root(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            format!("Dir::Etc::sourceparts={dir}/parts"),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        if self.architecture != Architecture::Amd64 {
            for key in ["APT::Architecture", "APT::Architectures"] {
                command.arg("-o").arg(format!("{key}={}", self.architecture.name()));
            }
        }
        command
    }

    /// Names of packages that match a regular expression.
    pub fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["search", "--names-only", pattern])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Downloads a package and unpacks it into `into`, without installing it.
    pub fn unpack(&self, root: &Path, package: &str, into: &Path) -> Result<()> {
        let downloads = self.dir.join("downloads");
        if downloads.exists() {
            fs::remove_dir_all(&downloads)
                .with_context(|| format!("cannot empty {}", downloads.display()))?;
        }
        fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
        let mut command = self.command("apt-get");
        command.args(["download", package]).current_dir(&downloads);
        progress::run_checked(
            &format!("download {package}"),
            &mut command,
            &super::log(root, "apt-download"),
        )?;
        let file = fs::read_dir(&downloads)
            .with_context(|| format!("cannot read {}", downloads.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get download {package} left no .deb file"))?;
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&file).arg(into);
        progress::run_checked(&format!("unpack {package}"), &mut command, &super::log(root, "dpkg-deb"))?;
        fs::remove_dir_all(&downloads).with_context(|| format!("cannot empty {}", downloads.display()))
    }
}

/// Installs packages of the machine's own release.
pub fn install(root: &Path, packages: &[&str]) -> Result<()> {
    let apt = Apt::own(root)?;
    let mut command = apt.command("apt-get");
    command.args(["install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]);
    command.args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    progress::run_checked("apt-get install", &mut command, &super::log(root, "apt-install"))
}

/// A command as root: plain for root, else through sudo (which fails at once where it would ask for a password).
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

/// Whether this process runs as root, from the file system: no dependency for one number.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let release = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    let release = release.trim_matches('"');
    if release != RELEASE {
        bail!(
            "packages are known for Debian 12 ({RELEASE}) only, this is \"{release}\": \
             install what is missing by hand, or run this on Debian 12"
        );
    }
    Ok(release.to_owned())
}

/// Where the machine takes its packages from.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    main: String,
    security: String,
}

/// The mirror of the release itself.
pub fn main_mirror() -> Result<String> {
    Ok(mirror()?.main)
}

fn mirror() -> Result<Mirror> {
    let mut texts = Vec::new();
    texts.extend(fs::read_to_string("/etc/apt/sources.list"));
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        texts
            .extend(entries.filter_map(Result::ok).filter_map(|entry| fs::read_to_string(entry.path()).ok()));
    }
    mirror_in(&texts).with_context(|| {
        format!("/etc/apt names no Debian mirror (an entry with the suite {RELEASE} and component main)")
    })
}

/// Finds the mirror in the text of source files, in the one-line and in the deb822 form.
fn mirror_in(texts: &[String]) -> Option<Mirror> {
    let entries: Vec<(String, String)> = texts.iter().flat_map(|text| entries(text)).collect();
    let of = |wanted: &str| entries.iter().find(|(_, suite)| suite == wanted).map(|(uri, _)| uri.clone());
    let main = of(RELEASE)?;
    let security = of(&format!("{RELEASE}-security")).unwrap_or_else(|| format!("{main}-security"));
    Some(Mirror { main, security })
}

/// `(URI, suite)` of each source in one file.
fn entries(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut uri, mut suites) = (None, Vec::new());
    for line in text.lines().chain([""]).map(str::trim) {
        if let Some(rest) = line.strip_prefix("deb ") {
            let rest = rest.trim_start();
            let rest =
                if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
            let mut words = rest.split_whitespace();
            if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
                found.push((trimmed(uri), suite.to_owned()));
            }
        } else if let Some(rest) = line.strip_prefix("URIs:") {
            uri = rest.split_whitespace().next().map(trimmed);
        } else if let Some(rest) = line.strip_prefix("Suites:") {
            suites = rest.split_whitespace().map(str::to_owned).collect();
        } else if line.is_empty()
            && let Some(uri) = uri.take()
        {
            found.extend(suites.drain(..).map(|suite| (uri.clone(), suite)));
        }
    }
    found
}

fn trimmed(uri: &str) -> String {
    uri.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror_of(text: &str) -> Option<Mirror> {
        mirror_in(&[text.to_owned()])
    }

    #[test]
    fn the_mirror_is_found_in_both_forms() {
        let deb822 = "Types: deb\n# a remark\nURIs: http://m.test/debian\nSuites: bookworm bookworm-updates\n\n\
                      Types: deb\nURIs: http://s.test/sec/\nSuites: bookworm-security\nComponents: main\n";
        let expected = Mirror { main: "http://m.test/debian".into(), security: "http://s.test/sec".into() };
        assert_eq!(mirror_of(deb822), Some(expected));
        let line = "deb [arch=amd64 signed-by=/k] http://m.test/debian/ bookworm main\n";
        let expected =
            Mirror { main: "http://m.test/debian".into(), security: "http://m.test/debian-security".into() };
        assert_eq!(mirror_of(line), Some(expected));
        assert_eq!(
            mirror_of("deb http://other.test/x stable main\n# deb http://m.test/debian bookworm main\n"),
            None
        );
    }
}
