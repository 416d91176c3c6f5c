//! The API under load, end to end: `cargo xtask bench api`. An example, so that it is built as the product ships: a benchmark
//! of cargo's would be built to unwind.
//!
//! The server is a process of its own: the library's API port with real TLS, in front of a ring that takes a sample of each
//! node every second. This process asks it over loopback, and reads from `/proc` what the server uses. Before that,
//! the encoders are compared in process with derived ones. Every figure stands beside its target and what
//! metrics-server 0.9.0 was measured at (another machine, another day: for the order of magnitude). With the argument
//! `over-tls` or `in-process` only that part is run.
#![allow(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to say")]

mod client;
#[path = "../cluster/mod.rs"]
mod cluster;
mod in_process;
mod load;
#[path = "../naive/mod.rs"]
mod naive;
mod process;
mod report;
mod server;

use std::process::ExitCode;

/// With this in its environment the program is the server.
const SERVE: &str = "WAGGLE_BENCH_SERVE";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let Some(directory) = std::env::var_os(SERVE) {
        runtime.block_on(server::serve(directory.as_ref()));
        return ExitCode::SUCCESS;
    }
    let only = std::env::args().nth(1);
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut report = report::Report::default();
    report::machine();
    if wanted("over-tls") {
        runtime.block_on(load::run(&mut report));
    }
    if wanted("in-process") {
        runtime.block_on(in_process::run(&mut report));
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
