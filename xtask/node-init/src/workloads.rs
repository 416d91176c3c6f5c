//! The workloads: processes whose use of CPU and memory is known beforehand.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::Write as _,
    path::Path,
};

use anyhow::{Context, Result};
use waggle_node_init::{
    control::{CHURN_HELD_MIB, DISK, FILES_CONTENT, Work},
    work,
};

use crate::{FIRSTS, cgroups, recorder};

const MIB: u64 = 1 << 20;
/// What a program has at least that was executed in its cgroup, as container runtimes do. This process only moved in: what it
/// had before is charged elsewhere, and a cgroup that is charged nothing is taken for one that is not measured.
const LEAST_BYTES: usize = 256 << 10;

/// Joins the cgroup, tells that it has begun, and works until it is killed.
pub fn run(name: &str, cgroup: &str, what: Work) -> Result<()> {
    cgroups::join(cgroup)?;
    let first = format!("{name} {}\n", recorder::boot_ns());
    OpenOptions::new()
        .write(true)
        .open(FIRSTS)
        .and_then(|mut pipe| pipe.write_all(first.as_bytes()))
        .with_context(|| format!("cannot write to {FIRSTS}"))?;
    let least = work::hold(LEAST_BYTES);
    black_box(&least);
    match what {
        Work::Burn => work::burn(),
        Work::Hold(mib) => {
            drop(least);
            // Kept in a variable: what is held is given back when it goes.
            let held = work::hold(usize::try_from(mib * MIB)?);
            black_box(&held);
            work::sleep()
        }
        Work::Cache(mib) => {
            // The pages go when the last descriptor of the disk is closed, so it must be kept.
            let mut disk = File::open(DISK).with_context(|| format!("cannot open {DISK}"))?;
            work::read_once(&mut disk, mib * MIB).with_context(|| format!("cannot read {DISK}"))?;
            work::sleep()
        }
        Work::Churn { mib, from_mib, order } => {
            let held = work::hold(usize::try_from(CHURN_HELD_MIB * MIB)?);
            black_box(&held);
            let path = if Path::new(FILES_CONTENT).exists() { FILES_CONTENT } else { DISK };
            let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
            work::churn(&file, from_mib * MIB, mib * MIB, order)
                .with_context(|| format!("cannot read {path}"))
        }
        Work::Sleep => work::sleep(),
    }
}
