//! The figures, beside their targets.

use std::{fs, time::Duration};

/// Knows whether every goal was met.
#[derive(Debug, Default)]
pub struct Report {
    missed: Vec<String>,
}

/// What it runs on, and what else runs there.
pub fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    println!("{cores} cores; load average before the run: {}", load.join(" "));
}

/// Begins a table.
pub fn table(title: &str, columns: &str) {
    println!("\n{title}\n{:<50} {columns}", "");
}

/// A row of it.
pub fn row(what: &str, cells: &str) {
    println!("{what:<50} {cells}");
}

impl Report {
    /// Holds a figure against its target.
    pub fn goal(&mut self, what: &str, measured: f64, target: f64, unit: &str, metrics_server: &str) {
        let met = measured < target;
        let verdict = if met { "met" } else { "MISSED" };
        println!(
            "{what:<50} {measured:>9.2} {unit:<4} goal < {target} {unit}: {verdict:<7} {metrics_server}"
        );
        if !met {
            self.missed.push(what.to_owned());
        }
    }

    /// Whether every target was met.
    pub fn finish(self) -> bool {
        match &*self.missed {
            [] => println!("\nevery goal is met"),
            missed => println!("\nmissed: {}", missed.join("; ")),
        }
        self.missed.is_empty()
    }
}

/// Of some times, the one that this share is not above.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short list")]
    let place = (times.len() as f64 * share) as usize;
    times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
