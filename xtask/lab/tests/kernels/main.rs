//! The kernel matrix: every test on every kernel of `waggle_lab::matrix`, one machine at a time. A test program with its
//! own `main`, because its tests come from a table: `<kernel>::<test>`. A kernel that does not boot fails all its tests.
//!
//! `WAGGLE_KERNELS_WHOLE=1` adds what is too slow for each CI run.

mod events;
mod layouts;
mod machines;
mod pods;
mod refusals;
mod rows;

use std::{env, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use crate::machines::Machines;

/// What `cargo xtask test --kernels` sets.
const WHOLE: &str = "WAGGLE_KERNELS_WHOLE";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One machine at a time, and tests of one kernel in a row share it.
    arguments.test_threads = Some(1);
    let whole = env::var_os(WHOLE).is_some_and(|value| value == "1");
    let machines = Arc::new(Machines::default());
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(rows::trials(&machines, whole));
    trials.extend(refusals::trials(&machines));
    if whole {
        trials.extend(layouts::trials(&machines));
        trials.extend(events::trials(&machines));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    machines.end();
    conclusion.exit_code()
}
