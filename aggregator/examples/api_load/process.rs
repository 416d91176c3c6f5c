//! What a process uses, by `/proc`.

use std::{fs, time::Duration};

/// A process.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// CPU time of all its threads so far, to the nanosecond (`schedstat`).
    pub fn cpu(self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the server lives");
        let of = |path: std::path::PathBuf| {
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        tasks.filter_map(|task| of(task.ok()?.path())).sum()
    }

    /// Resident memory, bytes.
    pub fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that was resident since [`Process::forget_peak`], bytes.
    pub fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Begins again with the peak (proc(5), `clear_refs`).
    pub fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").expect("the peak can be reset");
    }

    fn status(self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the server lives");
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("every process has it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }
}
