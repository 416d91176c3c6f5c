//! The steps of a test run: each runs one command, is counted, and the run goes on after a failure.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    cache, progress,
    tally::{self, Tally},
};

/// How a step's outcome is counted.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    /// By its exit code, as one.
    One,
    /// By the `test result:` lines.
    Tests,
}

struct Done {
    name: String,
    tally: Tally,
    took: Duration,
    note: String,
}

/// The steps so far.
pub struct Steps {
    logs: PathBuf,
    done: Vec<Done>,
}

impl Steps {
    pub fn new(root: &Path) -> Self {
        Self { logs: cache::state(root).join("logs"), done: Vec::new() }
    }

    /// Runs a step to its end and counts it. Returns its output.
    pub fn run(&mut self, name: &str, count: Count, command: Result<Command>) -> String {
        let (done, output) = run(&self.logs, name, count, command);
        self.done.push(done);
        output
    }

    /// Runs steps of tests at the same time, and counts each.
    pub fn run_together<const N: usize>(&mut self, steps: [(&str, Result<Command>); N]) -> [String; N] {
        let logs = &self.logs;
        let ended = thread::scope(|scope| {
            let running = steps
                .map(|(name, command)| (name, scope.spawn(move || run(logs, name, Count::Tests, command))));
            running.map(|(name, thread)| (name, thread.join()))
        });
        ended.map(|(name, ended)| {
            let Ok((done, output)) = ended else {
                self.fail(name, Duration::ZERO, "the thread that ran it panicked");
                return String::new();
            };
            self.done.push(done);
            output
        })
    }

    /// Counts a step that cannot run here.
    pub fn skip(&mut self, name: &str, took: Duration, reason: &str) {
        println!("==> {name}: skipped, {reason}");
        self.push(name, Tally::SKIPPED, took, reason.to_owned());
    }

    /// Counts a step that failed before it could run.
    pub fn fail(&mut self, name: &str, took: Duration, reason: &str) {
        println!("==> {name}: failed, {reason}");
        self.push(name, Tally::FAILED, took, reason.to_owned());
    }

    /// Counts a step that ran elsewhere.
    pub fn count(&mut self, name: &str, tally: Tally, took: Duration, note: String) {
        self.push(name, tally, took, note);
    }

    fn push(&mut self, name: &str, tally: Tally, took: Duration, note: String) {
        self.done.push(Done { name: name.to_owned(), tally, took, note });
    }

    /// Prints the table and the last line.
    pub fn finish(self) -> Tally {
        let mut total = Tally::default();
        println!("\n{:<34} {:>7} {:>7} {:>7} {:>8}", "step", "passed", "failed", "skipped", "time");
        for Done { name, tally, took, note } in self.done {
            let Tally { passed, failed, skipped } = tally;
            println!("{name:<34} {passed:>7} {failed:>7} {skipped:>7} {:>6.0} s", took.as_secs_f64());
            if !note.is_empty() {
                println!("    {}", note.lines().next().unwrap_or_default());
            }
            total += tally;
        }
        println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
        total
    }
}

/// Runs a step to its end: how it ended, and its output.
fn run(logs: &Path, name: &str, count: Count, command: Result<Command>) -> (Done, String) {
    println!("==> {name}");
    let started = Instant::now();
    let log = logs.join(format!("{}.log", name.replace([' ', ',', ':'], "-")));
    let status = command.and_then(|mut command| progress::run_logged(name, &mut command, &log));
    let (succeeded, note) = match &status {
        Ok(status) if status.success() => (true, String::new()),
        Ok(status) => (false, format!("{status}; whole output: {}", log.display())),
        Err(error) => (false, format!("{error:#}")),
    };
    let output = if status.is_ok() { progress::read(&log) } else { String::new() };
    let tally = match count {
        Count::One if succeeded => Tally::PASSED,
        Count::One => Tally::FAILED,
        Count::Tests => tally::of_cargo_test(&output, succeeded),
    };
    if tally.failed > 0 {
        println!("{name}:\n{}\n{note}", failure_text(&output));
    }
    (Done { name: name.to_owned(), tally, took: started.elapsed(), note }, output)
}

/// The part of an output that explains a failure: from the first failure on, bounded.
fn failure_text(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let tells = |line: &&str| -> bool {
        line.starts_with("error")
            || line.starts_with("failures:")
            || line.starts_with("Diff in")
            || line.starts_with("warning")
    };
    let first = lines.iter().position(tells).unwrap_or(lines.len().saturating_sub(30));
    let shown: Vec<&str> = lines.into_iter().skip(first).take(80).collect();
    shown.join("\n")
}
