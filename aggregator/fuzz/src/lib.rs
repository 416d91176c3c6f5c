//! Fuzz targets for the parsers that handle untrusted input: requests and agents' streams in the aggregator, files of the
//! kernel and cgroup paths in the agent. A target is a function that takes any bytes and panics if an invariant does not
//! hold. The naive models that it compares with are written from the documentation of Kubernetes and the kernel, not from
//! our code; the property tests use the same models. Owns no product code.
#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "to panic is what a target is for")]

mod agent_btf;
mod agent_paths;
mod agent_stat_files;
mod extra_keys;
mod field_selector;
mod headers;
mod ingest;
mod label_selector;
pub mod model;
mod path;
mod world;

use std::fmt::Write as _;

/// A fuzz target.
#[derive(Debug)]
pub struct Target {
    /// As `cargo xtask fuzz` takes it.
    pub name: &'static str,
    /// Reads any bytes; panics where an invariant does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the language: a fuzzer that compares bytes would take long to find them.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    label_selector::TARGET,
    field_selector::TARGET,
    path::TARGET,
    headers::TARGET,
    extra_keys::TARGET,
    ingest::TARGET,
    agent_btf::TARGET,
    agent_paths::TARGET,
    agent_stat_files::TARGET,
];

/// A target's words in libFuzzer's form.
pub fn dictionary(target: &Target) -> String {
    let mut text = String::new();
    for word in target.words {
        text.push('"');
        for byte in word.bytes() {
            // Writing into a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
        text.push_str("\"\n");
    }
    text
}

fn owned(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_target_takes_its_own_seeds() {
        for target in &TARGETS {
            let seeds = (target.seeds)();
            assert!(seeds.len() > 3, "{} has hardly any seed", target.name);
            for seed in seeds {
                (target.run)(&seed);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_a_target(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for target in &TARGETS {
                (target.run)(&bytes);
            }
        }
    }
}
