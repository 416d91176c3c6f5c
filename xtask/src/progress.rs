//! Runs a program with its output in a file, and tells once in a while that it still runs: nobody watches a silent
//! terminal for minutes.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(50);
const SAY_EVERY: Duration = Duration::from_secs(15);

/// Runs `command` to its end; standard output and error go to `log`. Prints a line each 15 s with the log's last line.
pub fn run_logged(what: &str, command: &mut Command, log: &Path) -> Result<ExitStatus> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start {} ({what})", program.display()))?;
    let started = Instant::now();
    let mut said = started;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {what}"))? {
            return Ok(status);
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            println!("      … {what}: {} s, {}", started.elapsed().as_secs(), last_line(log));
        }
        thread::sleep(POLL);
    }
}

/// Like [`run_logged`], and an exit code other than 0 is an error that shows the log's end.
pub fn run_checked(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let started = Instant::now();
    let status = run_logged(what, command, log)?;
    if !status.success() {
        bail!("{what}: {status}\n{}\n(whole output: {})", tail(log, 30), log.display());
    }
    if started.elapsed() > Duration::from_secs(2) {
        println!("      {what}: done in {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The last `lines` lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = read(log);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// A log's text, whatever bytes are in it.
pub fn read(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn last_line(log: &Path) -> String {
    let line = tail(log, 1);
    line.trim().chars().take(90).collect()
}
