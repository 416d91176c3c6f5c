//! Content negotiation: which of the types that a client accepts is answered, and whether for human eyes. Pure.
//!
//! The rules are those of kubernetes/apiserver, `pkg/endpoints/handlers/negotiation`: ranges by quality, specific ones
//! before wildcards, then in the client's order; a range with a conversion (`as=`) counts only where that conversion is
//! offered.

#[cfg(test)]
mod tests;

use http::{
    HeaderMap,
    header::{ACCEPT, USER_AGENT},
};

use super::query::Query;

/// The media types that this server writes, as its 406 texts list them.
pub const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// What is named behind them for lists, as Kubernetes names it whether lists can be watched or not.
pub const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// How data is encoded, before it is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON
    Json,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// How an answer is represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// `application/json`, in one line.
    Json,
    /// `application/json`, indented.
    PrettyJson,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Representation {
    /// As `Content-Type` has it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json | Self::PrettyJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// What data is encoded in first: YAML and indented JSON are made from JSON.
    pub const fn format(self) -> Format {
        match self {
            Self::Json | Self::PrettyJson | Self::Yaml => Format::Json,
            Self::Protobuf => Format::Protobuf,
        }
    }

    /// Indented where there is such a thing.
    fn pretty(self) -> Self {
        match self {
            Self::Json => Self::PrettyJson,
            other => other,
        }
    }
}

/// The version of `meta.k8s.io` that a conversion was asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    /// `meta.k8s.io/v1`
    V1,
    /// `meta.k8s.io/v1beta1`
    V1beta1,
}

impl MetaVersion {
    /// As `apiVersion` has it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How much of an object is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// PartialObjectMetadata, or its list.
    Metadata(MetaVersion),
}

/// The shape of a resource's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself, or only its metadata.
    Object(Format, Part),
    /// A Table, which is encoded in JSON alone.
    Table(MetaVersion),
}

/// What `/apis` answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// APIGroupList.
    Legacy(Representation),
    /// APIGroupDiscoveryList of `apidiscovery.k8s.io/v2`.
    Aggregated(Representation),
}

/// Why nothing can be answered: the texts of 406 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAcceptable {
    /// None of the types is written here.
    Type,
    /// None of the types, where a list was asked for.
    ListType,
    /// The type is, but not in that conversion.
    Conversion,
    /// None of the types of an OpenAPI document.
    OpenApi(&'static [&'static str]),
}

/// What a client accepts: its header `Accept`, read once, and whether it wants JSON indented.
#[derive(Debug, Clone, PartialEq)]
pub struct Accept<'a> {
    ranges: Vec<Range<'a>>,
    pretty: bool,
}

/// A range of an `Accept` header.
#[derive(Debug, Clone, PartialEq)]
struct Range<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let all =
            parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        let (quality, parameters): (Vec<_>, Vec<_>) = all.partition(|(key, _)| *key == "q");
        let quality = quality.first().and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        Self { kind, parameters, quality }
    }

    /// What the range stands for. All that is offered is offered in JSON too, and JSON comes first for a wildcard.
    fn representation(&self) -> Option<Representation> {
        match self.kind {
            "application/json" | "application/*" | "*/*" | "*" => Some(Representation::Json),
            "application/yaml" => Some(Representation::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Representation::Protobuf),
            _ => None,
        }
    }

    /// How much the range leaves open: of equal quality, the narrower one counts first.
    fn openness(&self) -> u8 {
        match self.kind {
            "*" | "*/*" => 2,
            kind => u8::from(kind.ends_with("/*")),
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// `(group, version, kind)` of the conversion asked for; any of the three asks for one.
    fn conversion(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let [group, version, kind] = ["g", "v", "as"].map(|name| self.parameter(name));
        (group.is_some() || version.is_some() || kind.is_some())
            .then(|| (group.unwrap_or_default(), version.unwrap_or_default(), kind.unwrap_or_default()))
    }

    /// Asks for a stream of another kind than Kubernetes has.
    fn is_foreign(&self) -> bool {
        self.parameter("stream").is_some_and(|value| !value.is_empty() && value != "watch")
    }
}

impl<'a> Accept<'a> {
    /// Reads the ranges and sorts them. No header, or an empty one, is `*/*`.
    pub fn new(headers: &'a HeaderMap, query: &Query) -> Self {
        let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges: Vec<_> = texts
            .flat_map(|text| text.split(','))
            .filter(|text| !text.trim().is_empty())
            .map(Range::parse)
            .collect();
        if ranges.is_empty() {
            ranges.push(Range::parse("*/*"));
        }
        ranges.retain(|range| range.quality > 0.0);
        ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.openness().cmp(&b.openness())));
        Self { ranges, pretty: is_pretty(headers, query) }
    }

    /// Negotiates for `nodes` and `pods`; `list` says which metadata kind is offered.
    pub fn resource(&self, list: bool) -> Result<(Shape, Representation), NotAcceptable> {
        let metadata = if list { "PartialObjectMetadataList" } else { "PartialObjectMetadata" };
        let chosen = self.choose(|representation, range| {
            let Some((group, version, kind)) = range.conversion() else {
                return Some(Shape::Object(representation.format(), Part::Whole));
            };
            let version = match (group, version) {
                ("meta.k8s.io", "v1") => MetaVersion::V1,
                ("meta.k8s.io", "v1beta1") => MetaVersion::V1beta1,
                _ => return None,
            };
            match kind {
                "Table" if representation.format() == Format::Json => Some(Shape::Table(version)),
                kind if kind == metadata => {
                    Some(Shape::Object(representation.format(), Part::Metadata(version)))
                }
                _ => None,
            }
        });
        chosen.map_err(|failed| match failed {
            NotAcceptable::Type if list => NotAcceptable::ListType,
            other => other,
        })
    }

    /// Negotiates for documents that come in no conversion.
    pub fn plain(&self) -> Result<Representation, NotAcceptable> {
        let chosen = self.choose(|_, range| range.conversion().is_none().then_some(()));
        chosen.map(|((), representation)| representation)
    }

    /// Negotiates for a `Status`. A failure is told in any case: in JSON to a client that accepts no `Status`, indented
    /// to one that accepts nothing that is written here.
    pub fn status(&self) -> Representation {
        self.plain().unwrap_or_else(|failed| match failed {
            NotAcceptable::Conversion => Representation::Json,
            _ => Representation::PrettyJson,
        })
    }

    /// Negotiates for `/apis`. A client that accepts the aggregated document at all is given that one.
    pub fn discovery(&self) -> Result<Groups, NotAcceptable> {
        let wanted = Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList"));
        let aggregated = self.choose(|_, range| (range.conversion() == wanted).then_some(()));
        match aggregated {
            Ok(((), representation)) => Ok(Groups::Aggregated(representation)),
            Err(_) => self.plain().map(Groups::Legacy),
        }
    }

    /// The first of these types that is accepted; a wildcard accepts the first.
    pub fn first_of(&self, offered: &[&'static str]) -> Option<&'static str> {
        self.ranges
            .iter()
            .find_map(|range| match range.kind {
                "*" | "*/*" | "application/*" => offered.first(),
                kind => offered.iter().find(|offer| **offer == kind),
            })
            .copied()
    }

    /// The first offer, in the order of the ranges.
    fn choose<T>(
        &self,
        offer: impl Fn(Representation, &Range<'_>) -> Option<T>,
    ) -> Result<(T, Representation), NotAcceptable> {
        let mut failed = NotAcceptable::Type;
        for range in &self.ranges {
            let Some(representation) = range.representation() else { continue };
            if let Some(chosen) = offer(representation, range).filter(|_| !range.is_foreign()) {
                let pretty = self.pretty || range.parameter("pretty") == Some("1");
                return Ok((chosen, if pretty { representation.pretty() } else { representation }));
            }
            failed = NotAcceptable::Conversion;
        }
        Err(failed)
    }
}

/// The parameter `pretty` decides, where it is given; without it those do that show answers to people.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(asked) = query.get("pretty").filter(|text| !text.is_empty()) {
        return matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix.as_bytes()))
}
