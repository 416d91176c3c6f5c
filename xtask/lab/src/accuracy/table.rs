//! The table, and the goals that the figures are held against. Pure but for printing.

use super::{
    reading::{Old, Source, Verdict, quantile},
    truth::Seconds,
};

/// What two readers of the same kernel can differ by without either being wrong: they look at different instants of a use
/// that is not the same in every millisecond. A thousandth of a processor or 0.5 %, 256 KiB or 0.5 %.
const CPU_NOISE: f64 = 1.0;
const MEMORY_NOISE: f64 = 262_144.0;
const NOISE_SHARE: f64 = 0.005;

/// How many containers with old values are named.
const MOST_OLD: usize = 12;

/// The goal of the age.
pub const AGE_GOAL: Seconds = 2.0;
/// The goal of the first value.
const FIRST_GOAL: Seconds = 3.0;

/// A row with its figures.
#[derive(Debug)]
pub struct Line {
    /// What it is about.
    pub title: String,
    /// What is true, for people.
    pub truth: String,
    /// Whether it is memory: bytes are shown as MiB.
    pub memory: bool,
    /// The truth's size, for what is noise.
    pub size: f64,
    /// Whether the kernel's own counters confirmed the truth; if not, why.
    pub doubt: Option<String>,
    /// By source, in the order of [`Source::ALL`].
    pub verdicts: [Option<Verdict>; 3],
    /// metrics-server's and Waggle's, only of the moments at which metrics-server had a value, where it lacked some.
    pub both: Option<(Verdict, Verdict)>,
}

impl Line {
    fn of(&self, source: Source) -> Option<Verdict> {
        let position = Source::ALL.iter().position(|&one| one == source)?;
        self.verdicts.get(position).copied().flatten()
    }

    /// Whether Waggle's error is no larger than metrics-server's; `None` where the truth is in doubt.
    pub fn holds(&self) -> Option<bool> {
        if self.doubt.is_some() {
            return None;
        }
        let noise = if self.memory { MEMORY_NOISE } else { CPU_NOISE }.max(self.size * NOISE_SHARE);
        Some(match (self.of(Source::Waggle), self.of(Source::MetricsServer)) {
            (Some(waggle), Some(other)) => waggle.error <= other.error + noise,
            (Some(_), None) => true,
            (None, _) => false,
        })
    }
}

/// Prints the rows; whether Waggle's error is no larger on any.
pub fn print_lines(lines: &[Line]) -> bool {
    println!("\nvalue ± mean error, age p50/p95 in seconds (answers with a value, where some had none)");
    println!(
        "goal: Waggle's error no larger than metrics-server's, beyond 1 m or 256 KiB or 0.5 % of the truth"
    );
    println!(
        "{:<28} {:<24} {:>34} {:>38} {:>34}",
        "workload", "truth", "kubelet", "metrics-server", "Waggle"
    );
    let mut met = true;
    for line in lines {
        let cells = Source::ALL.map(|source| cell(line, line.of(source)));
        let [kubelet, other, waggle] = cells;
        let holds = match line.holds() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged",
        };
        println!("{:<28} {:<24} {kubelet:>34} {other:>38} {waggle:>34} {holds}", line.title, line.truth);
        if let Some((other, waggle)) = line.both {
            let (other, waggle) = (cell(line, Some(other)), cell(line, Some(waggle)));
            println!("    when metrics-server had a value: metrics-server {other}, Waggle {waggle}");
        }
        if let Some(doubt) = &line.doubt {
            println!("    {doubt}");
        }
        met &= line.holds() == Some(true);
    }
    met
}

fn cell(line: &Line, verdict: Option<Verdict>) -> String {
    let Some(Verdict { said, error, answers: (had, asked), age: (median, high) }) = verdict else {
        return "no value".to_owned();
    };
    let value = if line.memory {
        format!("{:.1} ± {:.2} MiB", said / 1_048_576.0, error / 1_048_576.0)
    } else {
        format!("{said:.1} ± {error:.1} m")
    };
    let missing = if had < asked { format!(" ({had}/{asked})") } else { String::new() };
    format!("{value}, {median:.1}/{high:.1}{missing}")
}

/// Durations of one kind, by source; the kubelet is not among those that are asked for them.
#[derive(Debug)]
pub struct Times {
    /// What begins and ends.
    pub title: &'static str,
    /// Each time that was seen; `None` is one that did not come while it was looked for.
    pub metrics_server: Vec<Option<Seconds>>,
    /// The same of Waggle.
    pub waggle: Vec<Option<Seconds>>,
    /// What is asked of Waggle.
    pub goal: Goal,
}

/// What is asked of Waggle's times.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Every one below this.
    Below(Seconds),
    /// The median below metrics-server's.
    Shorter,
}

impl Times {
    /// First values of new pods.
    pub fn first_values(metrics_server: Vec<Option<Seconds>>, waggle: Vec<Option<Seconds>>) -> Self {
        Self { title: "first value of a new pod", metrics_server, waggle, goal: Goal::Below(FIRST_GOAL) }
    }

    /// Whether the goal is met.
    pub fn holds(&self) -> bool {
        if self.waggle.is_empty() || self.waggle.iter().any(Option::is_none) {
            return false;
        }
        let waggle: Vec<Seconds> = self.waggle.iter().copied().flatten().collect();
        match self.goal {
            Goal::Below(limit) => waggle.iter().all(|&time| time < limit),
            Goal::Shorter => {
                // One that did not come was longer than any.
                let times = |all: &[Option<Seconds>]| {
                    let mut all: Vec<f64> = all.iter().map(|time| time.unwrap_or(f64::INFINITY)).collect();
                    quantile(&mut all, 0.5)
                };
                match (times(&self.waggle), times(&self.metrics_server)) {
                    (Some(waggle), Some(other)) => waggle < other,
                    _ => false,
                }
            }
        }
    }

    fn text(times: &[Option<Seconds>]) -> String {
        let mut seen: Vec<Seconds> = times.iter().copied().flatten().collect();
        let never = times.len() - seen.len();
        let never = if never > 0 { format!(", {never} never") } else { String::new() };
        match (quantile(&mut seen, 0.5), quantile(&mut seen, 1.0)) {
            (Some(median), Some(most)) => format!("{median:.1} s, at most {most:.1} s{never}"),
            _ => format!("none of {}", times.len()),
        }
    }
}

/// Prints times; whether all goals are met.
pub fn print_times(all: &[Times]) -> bool {
    println!("\n{:<52} {:>32} {:>32}", "median, longest", "metrics-server", "Waggle");
    let mut met = true;
    for times in all {
        let goal = match times.goal {
            Goal::Below(limit) => format!("goal < {limit} s"),
            Goal::Shorter => "goal: shorter".to_owned(),
        };
        let holds = if times.holds() { "met" } else { "MISSED" };
        println!(
            "{:<52} {:>32} {:>32} {goal}: {holds}",
            times.title,
            Times::text(&times.metrics_server),
            Times::text(&times.waggle)
        );
        met &= times.holds();
    }
    met
}

/// Prints the ages of all values, by source: while the workloads were looked at, and of the whole run, in which pods come and go. Whether Waggle's are as they shall be in both.
pub fn print_ages(steady: [Vec<Seconds>; 3], all: [Vec<Seconds>; 3]) -> bool {
    println!(
        "\n{:<52} {:>14} {:>14} {:>14}",
        "age of all values (now − timestamp)", "kubelet", "metrics-server", "Waggle"
    );
    let mut met = true;
    for (when, mut ages) in [("while the workloads run", steady), ("whole run", all)] {
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("longest", 1.0)] {
            let [kubelet, other, waggle] = ages.each_mut().map(|ages| {
                quantile(ages, share).map_or_else(|| "–".to_owned(), |age| format!("{age:.2} s"))
            });
            println!("{:<52} {kubelet:>14} {other:>14} {waggle:>14}", format!("{when}, {name}"));
        }
        let [_, _, waggle] = &mut ages;
        let holds = quantile(waggle, 0.95).is_some_and(|age| age < AGE_GOAL);
        println!("goal: Waggle's p95 < {AGE_GOAL} s: {}", if holds { "met" } else { "MISSED" });
        met &= holds;
    }
    met
}

/// Prints of which containers old values were said, and when: seconds since `begin`.
pub fn print_old(source: Source, old: &[Old], begin: Seconds) {
    let values: usize = old.iter().map(|old| old.values).sum();
    println!("\n{values} of {source}'s values were {AGE_GOAL} s old or older, of {} containers", old.len());
    for Old { key, values, of, span: (from, to), longest } in old.iter().take(MOST_OLD) {
        println!(
            "    {:<44} {values:>5} of {of:>5}, from {:>7.1} s to {:>7.1} s, at most {longest:.1} s old",
            format!("{}/{} {}", key.namespace, key.pod, key.container),
            from - begin,
            to - begin
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with these errors of metrics-server and Waggle.
    fn line(metrics_server: Option<f64>, waggle: Option<f64>) -> Line {
        let verdict = |error: f64| Verdict { said: 100.0, error, answers: (1, 1), age: (1.0, 1.0) };
        Line {
            title: "x".to_owned(),
            truth: "100 m".to_owned(),
            memory: false,
            size: 100.0,
            doubt: None,
            verdicts: [None, metrics_server.map(verdict), waggle.map(verdict)],
            both: None,
        }
    }

    #[test]
    fn an_error_may_not_be_larger_than_the_others_but_for_noise() {
        assert_eq!(line(Some(2.0), Some(1.0)).holds(), Some(true));
        assert_eq!(line(Some(1.0), Some(1.9)).holds(), Some(true));
        assert_eq!(line(Some(1.0), Some(2.1)).holds(), Some(false));
        assert_eq!(line(None, Some(5.0)).holds(), Some(true));
        assert_eq!(line(Some(1.0), None).holds(), Some(false));
        let doubted = Line { doubt: Some("y".to_owned()), ..line(Some(1.0), Some(1.0)) };
        assert_eq!(doubted.holds(), None);
        assert!(!print_lines(&[doubted]), "what is not judged is not met");
    }

    #[test]
    fn ages_shall_be_short_in_the_whole_run_too() {
        let ages = |waggle| [Vec::new(), Vec::new(), vec![waggle; 20]];
        assert!(print_ages(ages(1.9), ages(1.9)));
        assert!(!print_ages(ages(1.9), ages(2.0)));
        assert!(!print_ages(ages(2.0), ages(1.9)));
        assert!(!print_ages(ages(1.0), [const { Vec::new() }; 3]), "nothing was measured");
    }

    #[test]
    fn times_that_never_came_miss_the_goal() {
        let times = |waggle: Vec<Option<f64>>| Times::first_values(vec![Some(20.0)], waggle);
        assert!(times(vec![Some(1.0), Some(2.9)]).holds());
        assert!(!times(vec![Some(1.0), Some(3.1)]).holds());
        assert!(!times(vec![Some(1.0), None]).holds());
        assert!(!times(Vec::new()).holds(), "nothing was measured");
        let shorter = |waggle, other| Times { goal: Goal::Shorter, metrics_server: other, ..times(waggle) };
        assert!(shorter(vec![Some(5.0)], vec![Some(9.0)]).holds());
        assert!(shorter(vec![Some(5.0)], vec![None]).holds());
        assert!(!shorter(vec![Some(9.0)], vec![Some(5.0)]).holds());
        assert!(!shorter(vec![Some(9.0)], Vec::new()).holds());
    }
}
