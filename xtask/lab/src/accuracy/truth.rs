//! What a workload uses, known beforehand: a share of a processor that the kernel limits it to, during known spans. Pure.

/// Seconds since the Unix epoch, by the node's clock.
pub type Seconds = f64;

/// CPU that is used at a constant rate during some spans, and none between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The rate, thousandths of a processor.
    pub millicores: f64,
    /// Begin and end, in order. The last may have no end.
    pub spans: Vec<(Seconds, Option<Seconds>)>,
}

impl Load {
    /// The mean rate between two instants.
    pub fn mean(&self, from: Seconds, to: Seconds) -> f64 {
        if to <= from {
            return 0.0;
        }
        let used: f64 = self
            .spans
            .iter()
            .map(|&(begin, end)| (end.unwrap_or(to).min(to) - begin.max(from)).max(0.0))
            .sum();
        self.millicores * used / (to - from)
    }

    /// From lines of a workload's log, `<time> on` and `<time> off`.
    pub fn from_log(millicores: f64, log: &str) -> Self {
        let mut spans: Vec<(Seconds, Option<Seconds>)> = Vec::new();
        for line in log.lines() {
            let Some((Ok(time), what)) =
                line.split_once(' ').map(|(time, what)| (time.parse::<jiff::Timestamp>(), what))
            else {
                continue;
            };
            let time = seconds(time);
            match (what, spans.last_mut()) {
                ("on", _) => spans.push((time, None)),
                ("off", Some((_, end @ None))) => *end = Some(time),
                _ => {}
            }
        }
        Self { millicores, spans }
    }
}

/// What the kernel counted, at some instants in order: the truth where a load was kept from what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Course(pub Vec<(Seconds, f64)>);

impl Course {
    /// The mean rate between two instants, millicores; `None` where it was not looked at.
    pub fn mean(&self, from: Seconds, to: Seconds) -> Option<f64> {
        (to > from).then_some(())?;
        Some((self.at(to)? - self.at(from)?) / (to - from) * 1000.0)
    }

    /// The counter at an instant, as if it grew evenly between two looks.
    fn at(&self, instant: Seconds) -> Option<f64> {
        let after = self.0.iter().position(|&(at, _)| at >= instant)?;
        let &(end, last) = self.0.get(after)?;
        let Some(&(begin, first)) = after.checked_sub(1).and_then(|before| self.0.get(before)) else {
            return (end <= instant).then_some(last);
        };
        Some(first + (last - first) * (instant - begin) / (end - begin))
    }
}

/// An instant.
pub fn seconds(time: jiff::Timestamp) -> Seconds {
    time.as_nanosecond() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn a_mean_counts_what_lies_in_the_span() {
        let load = Load { millicores: 200.0, spans: vec![(10.0, Some(20.0)), (30.0, None)] };
        assert!(near(load.mean(12.0, 18.0), 200.0));
        assert!(near(load.mean(0.0, 20.0), 100.0));
        assert!(near(load.mean(20.0, 30.0), 0.0));
        assert!(near(load.mean(15.0, 35.0), 100.0));
        assert!(near(load.mean(5.0, 5.0), 0.0));
    }

    #[test]
    fn a_course_is_even_between_looks_and_nothing_beyond_them() {
        let course = Course(vec![(10.0, 1.0), (20.0, 2.0), (30.0, 5.0)]);
        assert!(near(course.mean(10.0, 30.0).unwrap(), 200.0));
        assert!(near(course.mean(15.0, 25.0).unwrap(), 200.0));
        assert!(near(course.mean(20.0, 25.0).unwrap(), 300.0));
        assert_eq!(course.mean(5.0, 15.0), None);
        assert_eq!(course.mean(25.0, 31.0), None);
        assert_eq!(course.mean(25.0, 25.0), None);
    }

    #[test]
    fn a_log_tells_the_spans() {
        let log = "1970-01-01T00:00:01Z Burst begins\n1970-01-01T00:00:02.5Z on\n\
                   1970-01-01T00:00:04Z off\n1970-01-01T00:00:06Z on\nnonsense";
        assert_eq!(Load::from_log(1.0, log).spans, [(2.5, Some(4.0)), (6.0, None)]);
    }
}
