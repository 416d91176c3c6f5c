//! Reads what metrics.k8s.io answers: quantities, windows, timestamps. Pure.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

/// CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Thousandths of a processor.
    pub millicores: f64,
    /// Bytes.
    pub bytes: f64,
}

/// One item of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// `metadata.name`.
    pub name: String,
    /// The newest sample's instant, whole seconds.
    pub timestamp: jiff::Timestamp,
    /// The span of the CPU rate.
    pub window: Duration,
    /// By container; a node's own usage under the empty name.
    pub usage: BTreeMap<String, Usage>,
}

impl Item {
    /// Reads a `NodeMetrics` or `PodMetrics` object.
    pub fn read(object: &Value) -> Result<Self> {
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).with_context(|| format!("no {what} in {object}"))
        };
        let mut usage = BTreeMap::new();
        if object.get("usage").is_some() {
            usage.insert(String::new(), read_usage(&object["usage"])?);
        }
        for container in object["containers"].as_array().into_iter().flatten() {
            usage.insert(text(&container["name"], "container name")?, read_usage(&container["usage"])?);
        }
        anyhow::ensure!(!usage.is_empty(), "no usage in {object}");
        Ok(Self {
            name: text(&object["metadata"]["name"], "name")?,
            timestamp: text(&object["timestamp"], "timestamp")?.parse().context("an odd timestamp")?,
            window: duration(&text(&object["window"], "window")?)?,
            usage,
        })
    }

    /// The usage of a container.
    pub fn container(&self, name: &str) -> Result<Usage> {
        self.usage.get(name).copied().with_context(|| format!("{} has no container \"{name}\"", self.name))
    }
}

fn read_usage(usage: &Value) -> Result<Usage> {
    let of = |key: &str| {
        let text = usage[key].as_str().with_context(|| format!("no {key} in {usage}"))?;
        quantity(text)
    };
    Ok(Usage { millicores: of("cpu")? * 1000.0, bytes: of("memory")? })
}

/// The value of a quantity such as `250123456n`, `65536Ki` or `1`.
pub fn quantity(text: &str) -> Result<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => anyhow::bail!("\"{text}\" has an unknown suffix"),
    };
    let number: f64 = number.parse().with_context(|| format!("\"{text}\" is not a quantity"))?;
    Ok(number * factor)
}

/// A duration as Go prints it: `14.998s`, `500ms`, `1m0s`.
pub fn duration(text: &str) -> Result<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" => 1e-6,
            "ns" => 1e-9,
            _ => anyhow::bail!("\"{text}\" is not a duration"),
        };
        let number: f64 = number.parse().with_context(|| format!("\"{text}\" is not a duration"))?;
        seconds += number * factor;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds).with_context(|| format!("\"{text}\" is out of range"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_and_durations_are_read() {
        assert!((quantity("250000000n").unwrap() - 0.25).abs() < 1e-12);
        assert!((quantity("65536Ki").unwrap() - 67_108_864.0).abs() < 1e-3);
        assert!((quantity("2").unwrap() - 2.0).abs() < 1e-12);
        assert!(quantity("12Q").is_err() && quantity("").is_err());
        assert_eq!(duration("14.998s").unwrap(), Duration::from_millis(14_998));
        assert_eq!(duration("1m0s").unwrap(), Duration::from_mins(1));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert!(duration("5").is_err());
    }

    #[test]
    fn items_of_both_kinds_are_read() {
        let node = json!({"metadata": {"name": "a"}, "timestamp": "2026-05-04T10:00:01Z", "window": "15s",
            "usage": {"cpu": "100m", "memory": "1Mi"}});
        assert!((Item::read(&node).unwrap().container("").unwrap().millicores - 100.0).abs() < 1e-9);
        let pod = json!({"metadata": {"name": "p"}, "timestamp": "2026-05-04T10:00:01Z", "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": "1m", "memory": "2Ki"}}]});
        assert!((Item::read(&pod).unwrap().container("c").unwrap().bytes - 2048.0).abs() < 1e-9);
        assert!(
            Item::read(
                &json!({"metadata": {"name": "p"}, "timestamp": "2026-05-04T10:00:01Z", "window": "15s"})
            )
            .is_err()
        );
    }
}
