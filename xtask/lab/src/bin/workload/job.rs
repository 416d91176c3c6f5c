//! What a workload does.

use std::{
    fs::File,
    hint::black_box,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{Router, routing::get};
use clap::Subcommand;
use waggle_agent::args::duration;
use waggle_lab::{metrics::quantity, work};

/// One kind of work.
#[derive(Debug, Clone, Subcommand)]
pub enum Job {
    /// Compute without end.
    Burn {
        /// How many threads do.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// How much of a processor each thread uses, thousandths.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
        millicores: u32,
        /// For how long; without it, forever.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// Hold anonymous memory of which every page was written.
    Hold {
        /// How much, such as 64Mi.
        #[arg(value_parser = size)]
        size: u64,
    },
    /// Fill the page cache by a file that is written, and by default never read.
    Cache {
        /// How much, such as 64Mi.
        #[arg(value_parser = size)]
        size: u64,
        /// The file. It must not be in memory: pages of a tmpfs are no page cache.
        #[arg(long, default_value = "/cache")]
        file: PathBuf,
        /// Read it twice, too: its pages go to the active list, which is part of the working set.
        #[arg(long)]
        active: bool,
    },
    /// Compute and sleep in turns, and say when.
    Burst {
        /// How long it computes.
        #[arg(value_parser = duration)]
        on: Duration,
        /// How long it sleeps.
        #[arg(value_parser = duration)]
        off: Duration,
        /// How long it sleeps before the first time.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        after: Option<Duration>,
    },
    /// End, so that the kubelet starts it again.
    ExitAfter {
        /// After how long.
        #[arg(value_parser = duration)]
        time: Duration,
        /// The exit code.
        #[arg(long, default_value_t = 0)]
        code: u8,
        /// Compute until then.
        #[arg(long)]
        burn: bool,
    },
    /// Use nothing.
    #[command(alias = "pause")]
    Sleep,
    /// Answer HTTP requests, each of which costs CPU time.
    Serve {
        /// The address to listen on.
        #[arg(long, default_value = "0.0.0.0:8080")]
        bind: SocketAddr,
        /// What a request costs.
        #[arg(long, default_value = "20ms", value_parser = duration)]
        cpu: Duration,
    },
}

impl Job {
    /// Does it; the exit code, if it has an end.
    pub fn run(self) -> Result<u8> {
        match self {
            Self::Burn { threads, millicores, time } => {
                let until = time.map(|time| Instant::now() + time);
                thread::scope(|scope| {
                    for _ in 1..threads {
                        scope.spawn(|| burn(millicores, until));
                    }
                    burn(millicores, until);
                });
            }
            Self::Hold { size } => {
                let held = work::hold(usize::try_from(size)?);
                say(&format!("holds {} bytes", held.len()));
                black_box(&held);
                work::sleep();
            }
            Self::Cache { size, file, active } => {
                let _kept = cache(size, &file, active)
                    .with_context(|| format!("cannot fill the page cache by {}", file.display()))?;
                say(&format!("{size} bytes are in the page cache"));
                work::sleep();
            }
            Self::Burst { on, off, after } => {
                thread::sleep(after.unwrap_or_default());
                loop {
                    say("on");
                    work::burn_share(1000, Some(Instant::now() + on));
                    say("off");
                    thread::sleep(off);
                }
            }
            Self::ExitAfter { time, code, burn } => {
                if burn {
                    work::burn_share(1000, Some(Instant::now() + time));
                } else {
                    thread::sleep(time);
                }
                return Ok(code);
            }
            Self::Sleep => work::sleep(),
            Self::Serve { bind, cpu } => serve(bind, cpu)?,
        }
        Ok(0)
    }
}

fn burn(millicores: u32, until: Option<Instant>) {
    if millicores >= 1000 && until.is_none() {
        work::burn();
    }
    work::burn_share(millicores, until);
}

fn cache(size: u64, path: &PathBuf, active: bool) -> Result<File> {
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    work::write_once(&mut file, size)?;
    if active {
        for _ in 0..2 {
            work::read_once(&mut File::open(path)?, size)?;
        }
    }
    Ok(file)
}

fn serve(bind: SocketAddr, cpu: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
        let answer = move || async move {
            match tokio::task::spawn_blocking(move || work::burn_cpu(cpu)).await {
                Ok(()) => "done\n",
                Err(_) => "not done: the program ends\n",
            }
        };
        let app = Router::new().route("/", get(answer)).route("/healthz", get(async || "ok\n"));
        axum::serve(listener, app).await.context("cannot serve")
    })
}

/// One line with the time, for whoever reads the pod's log.
pub fn say(what: &str) {
    // A closed standard output is no reason to stop working.
    let _ = writeln!(io::stdout(), "{} {what}", jiff::Timestamp::now());
}

/// A whole number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let bytes = quantity(text).map_err(|error| format!("{error:#}: write for example 64Mi"))?;
    let whole = bytes.fract() == 0.0 && (1.0..1e15).contains(&bytes);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in the range above"
    )]
    if whole { Ok(bytes as u64) } else { Err(format!("{text:?} is no size: write for example 64Mi")) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        job: Job,
    }

    #[test]
    fn the_command_line_is_consistent_and_sizes_are_whole() {
        Line::command().debug_assert();
        assert_eq!(size("64Mi"), Ok(64 << 20));
        assert_eq!(size("1000"), Ok(1000));
        for wrong in ["", "0", "1m", "-1Mi", "64MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        let Job::Burst { on, off, after } = Line::parse_from(["x", "burst", "10s", "500ms"]).job else {
            panic!("no burst");
        };
        assert_eq!((on, off, after), (Duration::from_secs(10), Duration::from_millis(500), None));
    }

    #[test]
    fn what_has_an_end_ends_with_its_code() {
        let begun = Instant::now();
        let job = Job::ExitAfter { time: Duration::from_millis(50), code: 7, burn: false };
        assert_eq!(job.run().unwrap(), 7);
        let job = Job::Burn { threads: 2, millicores: 500, time: Some(Duration::from_millis(150)) };
        assert_eq!(job.run().unwrap(), 0);
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }
}
