//! The workloads: processes whose use of CPU and memory is known beforehand.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use waggle_lab::control::{DISK, Work};

use crate::{FIRSTS, cgroups, recorder};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// Joins the cgroup, tells that it has begun, and works until it is killed.
pub fn run(name: &str, cgroup: &str, work: Work) -> Result<()> {
    cgroups::join(cgroup)?;
    let first = format!("{name} {}\n", recorder::boot_ns());
    OpenOptions::new()
        .write(true)
        .open(FIRSTS)
        .and_then(|mut pipe| pipe.write_all(first.as_bytes()))
        .with_context(|| format!("cannot write to {FIRSTS}"))?;
    match work {
        Work::Burn => burn(),
        Work::Hold(mib) => {
            let held = hold(usize::try_from(mib)? * MIB);
            sleep();
            black_box(held);
        }
        Work::Cache(mib) => {
            let disk = fill_cache(usize::try_from(mib)? * MIB)?;
            sleep();
            drop(disk);
        }
        Work::Sleep => sleep(),
    }
    Ok(())
}

fn burn() {
    let mut x = 1_u64;
    loop {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// Memory of which every page was written.
fn hold(bytes: usize) -> Vec<u8> {
    let mut held = vec![0_u8; bytes];
    for page in held.chunks_mut(PAGE) {
        if let Some(byte) = page.first_mut() {
            *byte = 1;
        }
    }
    held
}

/// Reads the disk once: its pages stay in the page cache, on the inactive list, charged to this cgroup. They go when
/// the last descriptor of the disk is closed, so it must be kept.
fn fill_cache(bytes: usize) -> Result<File> {
    let mut disk = File::open(DISK).with_context(|| format!("cannot open {DISK}"))?;
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let read = disk.read(&mut buffer).with_context(|| format!("cannot read {DISK}"))?;
        anyhow::ensure!(read > 0, "{DISK} ends {left} bytes before the wanted size");
        left = left.saturating_sub(read);
    }
    Ok(disk)
}

fn sleep() {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
