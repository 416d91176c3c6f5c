//! Work whose use of CPU and memory is known beforehand: what the workloads of virtual machines and of real pods do.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::{self, Read, Write as _},
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Advice, fadvise, sendfile},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

const PAGE: usize = 4096;
const CHUNK: usize = 64 * 1024;
/// Between the bytes that [`Order::Scattered`] reads.
const STRIDE: usize = 16 * 1024;
/// How often a share is kept to. CFS looks every 100 ms, too.
const PERIOD: Duration = Duration::from_millis(100);

/// How [`churn`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// From begin to end.
    Sequential,
    /// One byte in every 16 KiB.
    Scattered,
}

impl Order {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sequential, Self::Scattered];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Scattered => "scattered",
        }
    }
}

/// Uses a whole processor forever.
pub fn burn() -> ! {
    let mut x = 1;
    loop {
        x = step(x);
    }
}

/// Uses this share of a processor, at most a whole one, until it is time. The thread's own CPU clock says when enough was used, and
/// what one period used too much is left out of the next, so that the share is right however slow the machine is.
pub fn burn_share(millicores: u32, until: Option<Instant>) {
    let begun = Instant::now();
    let cpu_before = thread_cpu();
    let mut x = 1;
    loop {
        let now = Instant::now();
        if until.is_some_and(|until| now >= until) {
            break;
        }
        // The CPU time that shall have been used at the end of this period.
        let due = (begun.elapsed() + PERIOD) * millicores.min(1000) / 1000;
        while thread_cpu().saturating_sub(cpu_before) < due && now.elapsed() < PERIOD {
            for _ in 0..1000 {
                x = step(x);
            }
        }
        thread::sleep(PERIOD.saturating_sub(now.elapsed()));
    }
    black_box(x);
}

/// Uses so much CPU time, however long that takes.
pub fn burn_cpu(time: Duration) {
    let before = thread_cpu();
    let mut x = 1;
    while thread_cpu().saturating_sub(before) < time {
        for _ in 0..1000 {
            x = step(x);
        }
    }
    black_box(x);
}

fn step(x: u64) -> u64 {
    black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Memory of which every page was written. It is used as long as the result is kept.
pub fn hold(bytes: usize) -> Vec<u8> {
    let mut held = vec![0_u8; bytes];
    for page in held.chunks_mut(PAGE) {
        if let Some(byte) = page.first_mut() {
            *byte = 1;
        }
    }
    black_box(held)
}

/// Reads this many bytes once: their pages stay in the page cache, on the inactive list, charged to the reader's cgroup. An error
/// of the kind `UnexpectedEof` says that there are fewer.
pub fn read_once(file: &mut File, bytes: u64) -> io::Result<()> {
    let read = io::copy(&mut file.take(bytes), &mut io::sink())?;
    if read < bytes {
        return Err(ends_early(bytes - read));
    }
    Ok(())
}

/// Writes this many bytes and waits for the disk: clean pages on the inactive list, charged to the writer's cgroup.
pub fn write_once(file: &mut File, bytes: u64) -> io::Result<()> {
    let chunk = vec![0x5a_u8; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let (part, _) = chunk.split_at(part);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    file.sync_all()
}

/// Reads part of a file into the page cache and drops it, in a loop. Returns only on error.
pub fn churn(file: &File, from: u64, bytes: u64, order: Order) -> io::Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    let to = from + bytes;
    loop {
        match order {
            // Splicing avoids a copy to user space, which would dominate in an emulated machine.
            Order::Sequential => {
                let mut at = from;
                while at < to {
                    let left = usize::try_from(to - at).unwrap_or(usize::MAX);
                    if sendfile(&nowhere, file, Some(&mut at), left)? == 0 {
                        return Err(ends_early(to - at));
                    }
                }
            }
            Order::Scattered => {
                for at in (from..to).step_by(STRIDE) {
                    file.read_exact_at(&mut [0], at)?;
                }
            }
        }
        fadvise(file, from, NonZeroU64::new(bytes), Advice::DontNeed)?;
    }
}

fn ends_early(missing: u64) -> io::Error {
    let text = format!("it ends {missing} bytes before the wanted size");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// Uses nothing forever.
pub fn sleep() -> ! {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn a_share_is_kept_by_the_threads_own_clock() {
        let used = thread::spawn(|| {
            let (wall, cpu) = (Instant::now(), thread_cpu());
            burn_share(200, Some(wall + Duration::from_secs(2)));
            thread_cpu().saturating_sub(cpu).as_secs_f64() / wall.elapsed().as_secs_f64()
        });
        // A busy machine can keep a thread from its share, never give it more.
        let share = used.join().unwrap();
        assert!((0.01..0.23).contains(&share), "{share}");
    }

    #[test]
    fn files_are_written_and_read_to_the_byte() {
        let mut file = tempfile::tempfile().unwrap();
        write_once(&mut file, 200_001).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 200_001);
        file.rewind().unwrap();
        read_once(&mut file, 200_001).unwrap();
        let error = read_once(&mut file, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn every_page_that_is_held_was_written() {
        let held = hold(3 * PAGE + 1);
        assert!(held.chunks(PAGE).all(|page| page[0] == 1) && held.len() == 3 * PAGE + 1);
    }
}
