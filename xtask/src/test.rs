//! Every test there is: format, lints, documentation, dependencies, cargo's tests, fuzz targets, and those that boot virtual
//! machines.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    build, cache, fuzz, lab, progress, setup,
    steps::{Count, Steps},
    summary, tally,
};

/// Runs everything, or with `quick` what needs no virtual machine. Goes on after a failure.
pub fn run(root: &Path, quick: bool) -> Result<ExitCode> {
    if quick {
        setup::for_quick(root)?;
    } else {
        setup::all(root)?;
    }
    let mut steps = Steps::new(root);
    steps.run("format", Count::One, cargo(root, &["fmt", "--all", "--check"]));
    steps.run(
        "clippy",
        Count::One,
        cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    let documentation = cargo(root, &["doc", "--workspace", "--no-deps"]).map(|mut command| {
        command.env("RUSTDOCFLAGS", "-D warnings");
        command
    });
    steps.run("rustdoc", Count::One, documentation);
    let check = ["--offline", "--workspace", "check", "bans", "licenses", "sources"];
    steps.run("cargo-deny bans licenses sources", Count::One, deny(root, &check));
    advisories(root, &mut steps);

    // Built first: two cargos wait for each other.
    let build = quick_tests(root, |_| true).map(|mut command| {
        command.arg("--no-run");
        command
    });
    steps.run("build of the tests", Count::One, build);
    let mut outputs = Vec::from(steps.run_together([
        ("tests", quick_tests(root, |program| !WAITING.contains(&program))),
        ("tests that mostly wait", waiting_tests(root)),
    ]));
    outputs.push(steps.run(
        "tests in documentation",
        Count::Tests,
        cargo(root, &["test", "--workspace", "--doc"]),
    ));
    outputs.extend(slow(root, &mut steps, quick));
    if !quick {
        fuzz::steps(root, &mut steps);
    }

    for output in &outputs {
        print!("\n{}", summary::table(output));
    }
    let skipped: Vec<&str> = outputs.iter().flat_map(|output| tally::ignored(output)).collect();
    if !skipped.is_empty() {
        println!("\nskipped:\n  {}", skipped.join("\n  "));
    }
    Ok(if steps.finish().is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cgroup driver of a real node that [`run`] has no time for.
const OTHER_DRIVER: &str = "systemd";

/// Runs the whole kernel matrix, the real node with the other cgroup driver, and nothing else.
pub fn kernels(root: &Path) -> Result<ExitCode> {
    setup::all(root)?;
    setup::for_arm64_machines(root)?;
    setup::nodes::ensure_driver(root, OTHER_DRIVER)?;
    let mut steps = Steps::new(root);
    println!("==> release build for virtual machines");
    build::static_release(root)?;
    build::arm64_machines(root)?;
    let command = |program: &str, more: &[String], (variable, value): (&str, &str)| {
        let args = ["test", "--workspace", "--test", program, "--", "--include-ignored", "--test-threads=1"];
        let mut command = cargo(root, &args)?;
        command.args(more).env(variable, value);
        lab::environment(root, &mut command)?;
        Ok(command)
    };
    // Two halves at a time: a machine is emulated on one core.
    let whole = ("WAGGLE_KERNELS_WHOLE", "1");
    let rows = without(["arm64", "layouts::", "events::"].map(str::to_owned));
    let others =
        without(setup::kernels::lines().map(|line| format!("{line}::")).chain(["refusals::".to_owned()]));
    let halves = steps.run_together([
        ("kernel matrix: amd64, refusals", command("kernels", &rows, whole)),
        ("kernel matrix: arm64, layouts, events", command("kernels", &others, whole)),
    ]);
    let node = ("WAGGLE_NODE_DRIVERS", OTHER_DRIVER);
    steps.run("real node with the systemd driver", Count::Tests, command("real_cluster", &[], node));
    print!("\n{}", summary::table(&halves.concat()));
    Ok(if steps.finish().is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Arguments that leave out the tests whose names contain any of these.
fn without(names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().flat_map(|name| ["--skip".to_owned(), name]).collect()
}

/// The crates with test programs that need nothing special. Those of the lab are run by [`slow`].
const QUICK: [&str; 4] = ["agent", "aggregator", "aggregator/fuzz", "aggregator/stand-in"];

/// Test programs of [`QUICK`] that mostly wait, together for as long as all others.
const WAITING: [&str; 3] = ["authentication", "authentication_faults", "rotation"];

fn waiting_tests(root: &Path) -> Result<Command> {
    let mut command = cargo(root, &["test", "--workspace", "--no-fail-fast"])?;
    command.args(WAITING.iter().flat_map(|program| ["--test", program]));
    command.env("RUST_TEST_THREADS", AT_ONCE);
    Ok(command)
}

/// All unit tests, and those of the test programs of [`QUICK`] that are chosen. Every step selects the whole workspace and filters by target: a
/// different package selection changes cargo's feature unification and recompiles shared dependencies.
fn quick_tests(root: &Path, chosen: impl Fn(&str) -> bool) -> Result<Command> {
    let mut command = cargo(root, &["test", "--workspace", "--no-fail-fast", "--lib", "--bins"])?;
    for package in QUICK {
        let programs = test_programs(&root.join(package).join("tests"))?;
        let programs = programs.iter().filter(|program| chosen(program));
        command.args(programs.flat_map(|program| ["--test", program]));
    }
    command.env("RUST_TEST_THREADS", AT_ONCE);
    Ok(command)
}

/// Tests of one program at once: most of them wait for a clock or a socket, so more than there are cores.
const AT_ONCE: &str = "6";

/// The test program that needs a real control plane and mostly waits for it: it runs beside the virtual machines, which are
/// emulated on one core.
const AUTOSCALER: &str = "hpa";
/// What the name of a test program begins with that needs a real control plane, and no virtual machine.
const CONTROL_PLANE: [&str; 2] = ["control_plane", "manifests"];
/// The same of one that needs a control plane and virtual machines as its nodes.
const REAL_NODES: &str = "real_";

/// The tests that boot virtual machines, one machine at a time, with that of the autoscaler beside them, those behind a real
/// control plane, and those on real nodes.
/// In a quick run cargo counts them as ignored.
fn slow(root: &Path, steps: &mut Steps, quick: bool) -> Vec<String> {
    let names = [
        "tests in virtual machines",
        "tests of the autoscaler",
        "tests behind a control plane",
        "tests on real nodes",
    ];
    let started = Instant::now();
    let ready = test_programs(&root.join("xtask/lab/tests")).and_then(|programs| {
        if !quick {
            println!("==> release build for virtual machines and control plane");
            build::static_release(root)?;
        }
        Ok(programs)
    });
    let programs = match ready {
        Ok(programs) => programs,
        Err(error) => {
            for name in names {
                steps.fail(name, started.elapsed(), &format!("{error:#}"));
            }
            return Vec::new();
        }
    };
    let (nodes, programs): (Vec<String>, Vec<String>) =
        programs.into_iter().partition(|program| program.starts_with(REAL_NODES));
    let (planes, machines): (Vec<String>, Vec<String>) = programs
        .into_iter()
        .partition(|program| CONTROL_PLANE.iter().any(|beginning| program.starts_with(beginning)));
    let (autoscaler, machines): (Vec<String>, Vec<String>) =
        machines.into_iter().partition(|program| program == AUTOSCALER);
    let command = |programs: &[String]| {
        cargo(root, &["test", "--workspace", "--no-fail-fast"]).and_then(|mut command| {
            command.args(programs.iter().flat_map(|program| ["--test", program]));
            if !quick {
                // Those that need nothing special are run here too: no other step does.
                command.args(["--", "--include-ignored", "--test-threads=1"]);
                lab::environment(root, &mut command)?;
            }
            Ok(command)
        })
    };
    let [machines, autoscaler] =
        steps.run_together([(names[0], command(&machines)), (names[1], command(&autoscaler))]);
    let planes = steps.run(names[2], Count::Tests, command(&planes));
    let nodes = steps.run(names[3], Count::Tests, command(&nodes));
    vec![machines, autoscaler, planes, nodes]
}

/// The names of the test programs in a folder, in order: a file, or a folder with a `main.rs`.
fn test_programs(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").is_file() {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Known advisories need a database from the network: without one the check is skipped, and said to be.
fn advisories(root: &Path, steps: &mut Steps) {
    const NAME: &str = "cargo-deny advisories";
    let log = cache::state(root).join("logs").join("advisories-fetch.log");
    let started = Instant::now();
    let fetched = deny(root, &["fetch", "db"]).and_then(|mut command| {
        command.env("GIT_TERMINAL_PROMPT", "0");
        progress::run_logged("fetch the advisory database", &mut command, &log)
    });
    match fetched {
        Ok(status) if status.success() => {
            steps.run(NAME, Count::One, deny(root, &["check", "--disable-fetch", "advisories"]));
        }
        _ => {
            let why = format!("the advisory database cannot be fetched here (see {})", log.display());
            steps.skip(NAME, started.elapsed().max(Duration::from_millis(1)), &why);
        }
    }
}

fn cargo(root: &Path, args: &[&str]) -> Result<Command> {
    let mut command = build::cargo(root)?;
    command.args(args);
    Ok(command)
}

fn deny(root: &Path, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(setup::cargo_deny()?);
    command.current_dir(root).args(args);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_crate_with_test_programs_is_left_out() {
        let root = cache::workspace_root().unwrap();
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
        let members = members.split('"').skip(1).step_by(2);
        let with_tests: Vec<&str> =
            members.filter(|member| root.join(member).join("tests").is_dir()).collect();
        assert!(with_tests.contains(&"xtask/lab"), "{with_tests:?}");
        for member in with_tests {
            assert!(member == "xtask/lab" || QUICK.contains(&member), "{member} has tests that no step runs");
        }
    }
}
