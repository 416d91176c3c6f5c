//! Content negotiation: all pairs of a range and an offer, in order of preference, and the first that fits
//! (kubernetes/apiserver, `pkg/endpoints/handlers/negotiation`, and its parser of `Accept`).

use std::{cmp::Reverse, fmt::Write as _};

/// A range of an `Accept` header. Qualities are in hundredths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// `type/subtype`
    pub kind: &'static str,
    /// `(kind, version)` of a conversion in `meta.k8s.io`.
    pub conversion: Option<(&'static str, &'static str)>,
    /// `None` is 1 unsaid.
    pub quality: Option<u8>,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A media type, the kind of the document, and its `apiVersion`'s version where it was asked for.
    Answer(&'static str, &'static str, Option<&'static str>),
    /// 406: no such type.
    NoType,
    /// 406: the type, but not so.
    NoConversion,
}

/// Media types.
pub const KINDS: [&str; 7] = [JSON, YAML, PROTOBUF, "application/*", "*/*", "application/cbor", "text/html"];
/// Conversions.
pub const CONVERSIONS: [Option<(&str, &str)>; 7] = [
    None,
    Some(("Table", "v1")),
    Some(("Table", "v1beta1")),
    Some(("PartialObjectMetadataList", "v1")),
    Some(("PartialObjectMetadata", "v1")),
    Some(("Table", "v2")),
    Some(("Nope", "v1")),
];
/// Qualities, in hundredths.
pub const QUALITIES: [Option<u8>; 6] = [None, Some(100), Some(90), Some(50), Some(5), Some(1)];

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl Range {
    /// As a client writes it.
    pub fn text(&self) -> String {
        let mut text = self.kind.to_owned();
        if let Some((kind, version)) = self.conversion {
            // Writing into a String cannot fail.
            let _ = write!(text, ";as={kind};v={version};g=meta.k8s.io");
        }
        if let Some(quality) = self.quality {
            let _ = write!(text, "; q={}.{:02}", quality / 100, quality % 100);
        }
        text
    }

    fn quality(&self) -> u8 {
        self.quality.unwrap_or(100)
    }

    fn takes(&self, offer: &str) -> bool {
        match self.kind {
            "*/*" => true,
            "application/*" => offer.starts_with("application/"),
            kind => kind == offer,
        }
    }
}

/// Chooses for a list of nodes, or for one node.
pub fn choose(ranges: &[Range], list: bool) -> Choice {
    let everything = [Range { kind: "*/*", conversion: None, quality: None }];
    let ranges = if ranges.is_empty() { &everything } else { ranges };
    let mut pairs = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        for (server, offer) in [JSON, YAML, PROTOBUF].into_iter().enumerate() {
            if range.takes(offer) {
                let wild = (range.kind == "*/*", range.kind == "application/*");
                pairs.push(((Reverse(range.quality()), wild, at, server), range, offer));
            }
        }
    }
    pairs.sort_by_key(|(rank, ..)| *rank);
    let (whole, metadata) = if list {
        ("NodeMetricsList", "PartialObjectMetadataList")
    } else {
        ("NodeMetrics", "PartialObjectMetadata")
    };
    let answer = |range: &Range, offer: &'static str| match range.conversion {
        None => Some(Choice::Answer(offer, whole, None)),
        Some((_, version)) if version != "v1" && version != "v1beta1" => None,
        Some(("Table", version)) if offer != PROTOBUF => Some(Choice::Answer(offer, "Table", Some(version))),
        Some((kind, version)) if kind == metadata => Some(Choice::Answer(offer, metadata, Some(version))),
        Some(_) => None,
    };
    let fits = pairs.iter().find_map(|(_, range, offer)| answer(range, offer));
    fits.unwrap_or(if pairs.is_empty() { Choice::NoType } else { Choice::NoConversion })
}
