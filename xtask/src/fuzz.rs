//! The fuzz targets: builds the fuzzer with coverage counters in our own crates, on the stable compiler, and runs targets
//! for a time. Corpora grow in the target folder and are never committed.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{build, cache, progress, setup, steps::Steps, tally::Tally};

/// What may be fuzzed.
pub const TARGETS: [&str; 9] = [
    "label-selector",
    "field-selector",
    "path",
    "headers",
    "extra-keys",
    "ingest",
    "agent-btf",
    "agent-paths",
    "agent-stat-files",
];
/// How long each runs in `cargo xtask test`: with two at a time, under four minutes for all.
pub const SECONDS: u64 = 45;
/// How many run at a time.
const AT_ONCE: usize = 2;

/// Tells this program, called as a compiler's wrapper, that it is one.
const WRAPPER: &str = "WAGGLE_FUZZ_WRAPPER";
/// The crates whose coverage steers the fuzzer. Others, and build scripts, are compiled as ever and shared with other builds.
const STEERED: [&str; 4] = ["waggle_agent", "waggle_aggregator", "waggle_proto", "waggle_fuzz"];
/// What makes libFuzzer see which edges were taken and what was compared; and checked arithmetic at a useful speed.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Copt-level=2",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Where this process was started as cargo's wrapper around the compiler: the compiler's exit code.
pub fn as_wrapper() -> Option<ExitCode> {
    env::var_os(WRAPPER)?;
    let mut arguments = env::args_os().skip(1);
    let compiler = arguments.next()?;
    let arguments: Vec<_> = arguments.collect();
    let steered = arguments.windows(2).any(|pair| {
        pair.first().is_some_and(|flag| flag == "--crate-name")
            && pair.get(1).is_some_and(|name| STEERED.iter().any(|steered| name == steered))
    });
    let mut command = Command::new(&compiler);
    command.args(arguments).env_remove(WRAPPER);
    if steered {
        command.args(FLAGS);
    }
    match command.status() {
        Ok(status) => Some(code(status)),
        Err(error) => {
            eprintln!("error: cannot start {}: {error}", compiler.display());
            Some(ExitCode::FAILURE)
        }
    }
}

fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Runs one target or all, each for so long; or one input alone.
pub fn run(root: &Path, target: Option<&str>, seconds: u64, input: Option<&Path>) -> Result<ExitCode> {
    setup::for_build(root)?;
    let fuzzer = build_fuzzer(root)?;
    if let Some(input) = input {
        let Some(target) = target else { bail!("which target shall take {}? name it", input.display()) };
        let status = command(&fuzzer, target).arg(input).status().context("cannot start the fuzzer")?;
        return Ok(code(status));
    }
    let targets: Vec<&str> = target.map_or_else(|| TARGETS.to_vec(), |target| vec![target]);
    let mut steps = Steps::new(root);
    targets_into(root, &fuzzer, &targets, seconds, &mut steps)?;
    Ok(if steps.finish().is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all targets as steps of a test run.
pub fn steps(root: &Path, steps: &mut Steps) {
    let started = Instant::now();
    println!("==> fuzz targets, {SECONDS} s each");
    let ran = build_fuzzer(root).and_then(|fuzzer| targets_into(root, &fuzzer, &TARGETS, SECONDS, steps));
    if let Err(error) = ran {
        steps.fail("fuzz targets", started.elapsed(), &format!("{error:#}"));
    }
}

/// Compiles it. Only the steered crates are compiled again: cargo keeps what a wrapper made apart.
fn build_fuzzer(root: &Path) -> Result<PathBuf> {
    let mut command = build::cargo(root)?;
    command
        .args(["build", "-p", "waggle-fuzz", "--bins", "--features", "waggle-fuzz/libfuzzer"])
        .env("RUSTC_WORKSPACE_WRAPPER", env::current_exe().context("cannot find this program")?)
        .env(WRAPPER, "1");
    let log = cache::state(root).join("logs").join("fuzz-build.log");
    progress::run_checked("build of the fuzzer", &mut command, &log)?;
    Ok(cache::target(root).join("debug").join("waggle-fuzz"))
}

fn command(fuzzer: &Path, target: &str) -> Command {
    let mut command = Command::new(fuzzer);
    command.env("WAGGLE_FUZZ_TARGET", target);
    command
}

/// Runs the targets, some at a time, and counts each as one test.
fn targets_into(root: &Path, fuzzer: &Path, targets: &[&str], seconds: u64, steps: &mut Steps) -> Result<()> {
    for some in targets.chunks(AT_ONCE) {
        let running: Vec<Run> =
            some.iter().map(|target| Run::start(root, fuzzer, target, seconds)).collect::<Result<_>>()?;
        for run in running {
            run.finish(steps)?;
        }
    }
    Ok(())
}

/// A target that runs.
struct Run {
    name: String,
    corpus: PathBuf,
    crashes: PathBuf,
    log: PathBuf,
    started: Instant,
    thread: std::thread::JoinHandle<Result<ExitStatus>>,
}

impl Run {
    fn start(root: &Path, fuzzer: &Path, target: &str, seconds: u64) -> Result<Self> {
        let folder = cache::state(root).join("fuzz").join(target);
        let [corpus, seeds, crashes] = ["corpus", "seeds", "crashes"].map(|name| folder.join(name));
        for made in [&corpus, &seeds, &crashes] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let words = folder.join("words");
        fs::write(&words, "").with_context(|| format!("cannot write {}", words.display()))?;
        let mut command = command(fuzzer, target);
        command.env("WAGGLE_FUZZ_SEEDS", &seeds).env("WAGGLE_FUZZ_WORDS", &words);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-dict={}", words.display()))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            // A single input may take a second on a busy machine, never ten.
            .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"])
            .args([&corpus, &seeds]);
        let log = cache::state(root).join("logs").join(format!("fuzz-{target}.log"));
        let name = format!("fuzz {target}");
        let (what, file) = (name.clone(), log.clone());
        let thread = std::thread::spawn(move || progress::run_logged(&what, &mut command, &file));
        Ok(Self { name, corpus, crashes, log, started: Instant::now(), thread })
    }

    fn finish(self, steps: &mut Steps) -> Result<()> {
        let Ok(status) = self.thread.join() else { bail!("{}: the thread that ran it broke off", self.name) };
        let took = self.started.elapsed();
        let output = progress::read(&self.log);
        let executed = statistic(&output, "stat::number_of_executed_units:");
        if status?.success() && executed > 0 {
            let per_second = executed / took.as_secs().max(1);
            let corpus = fs::read_dir(&self.corpus).map_or(0, Iterator::count);
            let note = format!("{executed} inputs, {per_second} per second, corpus of {corpus}");
            println!("      {}: {note}", self.name);
            steps.count(&self.name, Tally::PASSED, took, note);
            return Ok(());
        }
        println!("{}", explanation(&self.name, &output, &self.crashes, self.started));
        let note = format!("failed; whole output: {}", self.log.display());
        steps.count(&self.name, Tally::FAILED, took, note);
        Ok(())
    }
}

fn statistic(output: &str, name: &str) -> u64 {
    let line = output.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// What failed, on which input, and how to see it again.
fn explanation(name: &str, output: &str, crashes: &Path, since: Instant) -> String {
    let tells = |line: &&str| !line.starts_with('#') && !line.starts_with("INFO:");
    let text: Vec<&str> = output.lines().filter(tells).take(25).collect();
    let mut told = format!("      {name} failed:\n{}\n", text.join("\n"));
    let fresh = |file: &PathBuf| {
        let modified = fs::metadata(file).and_then(|meta| meta.modified()).ok();
        modified
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age <= since.elapsed() + Duration::from_secs(2))
    };
    let files = fs::read_dir(crashes).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    for file in files.filter(fresh) {
        let input = fs::read(&file).unwrap_or_default();
        let target = name.trim_start_matches("fuzz ");
        // Writing into a String cannot fail.
        let _ = write!(
            told,
            "      input: b\"{}\"\n      again: cargo xtask fuzz {target} --input {}\n",
            input.escape_ascii(),
            file.display()
        );
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read() {
        let output = "#5 DONE\nstat::number_of_executed_units: 4711\nstat::average_exec_per_sec:     3\n";
        assert_eq!(statistic(output, "stat::number_of_executed_units:"), 4711);
        assert_eq!(statistic("", "stat::number_of_executed_units:"), 0);
    }

    #[test]
    fn a_failure_is_told_with_its_input_and_how_to_repeat_it() {
        let folder = env::temp_dir().join(format!("waggle-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("crash-1"), b"a\0\"").unwrap();
        let told = explanation("fuzz path", "INFO: x\npanicked at y\n", &folder, Instant::now());
        fs::remove_dir_all(&folder).unwrap();
        assert!(told.contains("panicked at y") && !told.contains("INFO"), "{told}");
        assert!(told.contains(r#"input: b"a\x00\"""#) && told.contains("fuzz path --input"), "{told}");
    }

    #[test]
    fn the_targets_are_those_of_the_fuzzer() {
        let root = cache::workspace_root().unwrap();
        for target in TARGETS {
            let file = root.join("aggregator/fuzz/src").join(format!("{}.rs", target.replace('-', "_")));
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(&format!("name: \"{target}\"")), "{target} in {}", file.display());
        }
    }
}
