//! Metrics as text: `OpenMetrics`, or for readers that do not ask for it the older form of Prometheus. Pure.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header::ACCEPT};

const OPENMETRICS: &str = "application/openmetrics-text";

/// The form in which a reader is answered, and its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which everything that scrapes can read.
    Text,
}

impl Exposition {
    /// What the header `Accept` asks for.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds = accepted.flat_map(|text| text.split(',')).map(|range| range.split(';').next());
        if kinds.flatten().any(|kind| kind.trim() == OPENMETRICS) { Self::OpenMetrics } else { Self::Text }
    }

    /// `Content-Type`
    pub const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// `OpenMetrics` as this form.
    pub fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => as_text(&openmetrics),
        }
    }
}

/// The older form names counters with their suffix, has no `info`, no units and no end mark.
fn as_text(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let help = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let kind = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '));
        let line: Cow<'_, str> = match (help, kind) {
            // The type of a family follows its help.
            (Some((name, help)), _) => {
                let kind = lines.peek().and_then(|next| next.rsplit(' ').next()).unwrap_or_default();
                format!("# HELP {name}{} {help}", suffix(kind)).into()
            }
            (_, Some((name, "info"))) => format!("# TYPE {name}_info gauge").into(),
            (_, Some((name, "unknown"))) => format!("# TYPE {name} untyped").into(),
            (_, Some((name, kind))) => format!("# TYPE {name}{} {kind}", suffix(kind)).into(),
            _ => line.into(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text,
        metrics::{counter::Counter, gauge::Gauge, info::Info},
        registry::Registry,
    };

    use super::*;

    #[test]
    fn who_asks_for_openmetrics_is_given_it() {
        use Exposition::{OpenMetrics, Text};
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            (None, Text),
            (Some("*/*"), Text),
            (Some("text/plain;version=0.0.4"), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some(prometheus), OpenMetrics),
        ] {
            let accept = accept.map(|text| (ACCEPT, HeaderValue::from_static(text)));
            assert_eq!(Exposition::negotiate(&HeaderMap::from_iter(accept)), expected);
        }
    }

    #[test]
    fn the_older_form_names_counters_in_full() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("a_reads", "Reads", counter);
        registry.register("b_open", "Open now", Gauge::<i64>::default());
        registry.register("c_build", "The version", Info::new([("version", "1")]));
        let mut openmetrics = String::new();
        text::encode(&mut openmetrics, &registry).unwrap();
        assert!(openmetrics.ends_with("# EOF\n"));
        assert_eq!(
            Exposition::Text.write(openmetrics.clone()),
            "# HELP a_reads_total Reads.\n# TYPE a_reads_total counter\na_reads_total 1\n\
             # HELP b_open Open now.\n# TYPE b_open gauge\nb_open 0\n\
             # HELP c_build_info The version.\n# TYPE c_build_info gauge\nc_build_info{version=\"1\"} 1\n"
        );
        assert_eq!(Exposition::OpenMetrics.write(openmetrics.clone()), openmetrics);
    }
}
