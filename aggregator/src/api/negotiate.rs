//! Content negotiation: which of the types that a client accepts is answered, and whether for human eyes. Pure.
//!
//! The rules are those of kubernetes/apiserver, `pkg/endpoints/handlers/negotiation`: ranges by quality, specific ones
//! before wildcards, then in the client's order; a range with a conversion (`as=`) counts only where that conversion is
//! offered.

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
    /// The document comes in JSON alone.
    NotJson,
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

    fn is_wildcard(&self) -> bool {
        self.kind.contains('*')
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
        ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.is_wildcard().cmp(&b.is_wildcard())));
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

    /// Whether a document that is written in JSON alone is accepted.
    pub fn json(&self) -> Result<(), NotAcceptable> {
        let accepted = self.ranges.iter().any(|range| range.representation() == Some(Representation::Json));
        if accepted { Ok(()) } else { Err(NotAcceptable::NotJson) }
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))])
    }

    fn resource(headers: &HeaderMap, list: bool) -> Result<(Shape, Representation), NotAcceptable> {
        Accept::new(headers, &Query::default()).resource(list)
    }

    fn discovery(headers: &HeaderMap) -> Result<Groups, NotAcceptable> {
        Accept::new(headers, &Query::default()).discovery()
    }

    fn plain(headers: &HeaderMap) -> Result<Representation, NotAcceptable> {
        Accept::new(headers, &Query::default()).plain()
    }

    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
    const PROTOBUF_TABLE: &str = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";

    #[test]
    fn resources() {
        use MetaVersion::{V1, V1beta1};
        use Representation::{Json, PrettyJson, Protobuf, Yaml};
        let whole = |to: Representation| Ok((Shape::Object(to.format(), Part::Whole), to));
        let metadata =
            |to: Representation, version| Ok((Shape::Object(to.format(), Part::Metadata(version)), to));
        let table = |to, version| Ok((Shape::Table(version), to));
        for (header, expected) in [
            ("", whole(Json)),
            ("*/*", whole(Json)),
            ("text/html,*/*", whole(Json)),
            ("application/*", whole(Json)),
            ("application/json", whole(Json)),
            ("application/json; pretty=1", whole(PrettyJson)),
            ("application/json;pretty=0", whole(Json)),
            ("application/yaml;pretty=1", whole(Yaml)),
            ("application/json;q=0.9,application/cbor;q=1", whole(Json)),
            ("application/vnd.kubernetes.protobuf", whole(Protobuf)),
            ("application/vnd.kubernetes.protobuf, */*", whole(Protobuf)),
            ("*/*, application/vnd.kubernetes.protobuf", whole(Protobuf)),
            ("application/*, application/yaml", whole(Yaml)),
            ("application/vnd.kubernetes.protobuf,application/json", whole(Protobuf)),
            ("application/json, application/vnd.kubernetes.protobuf", whole(Json)),
            ("application/yaml, application/json", whole(Yaml)),
            ("*/*;q=0.1, application/vnd.kubernetes.protobuf;q=0.2", whole(Protobuf)),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/yaml", whole(Yaml)),
            ("application/vnd.kubernetes.protobuf;q=0, */*", whole(Json)),
            ("application/json;stream=watch", whole(Json)),
            ("application/json;stream=other", Err(NotAcceptable::Conversion)),
            ("application/json;sv=v1", whole(Json)),
            ("application/cbor", Err(NotAcceptable::ListType)),
            ("text/html", Err(NotAcceptable::ListType)),
            ("application/json;q=0", Err(NotAcceptable::ListType)),
            (TABLE, table(Json, V1)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", table(Json, V1beta1)),
            ("application/yaml;as=Table;v=v1;g=meta.k8s.io", table(Yaml, V1)),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io,application/json", whole(Json)),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            ("application/json;as=Table;v=v1;g=meta", Err(NotAcceptable::Conversion)),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            ("application/json;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            (PROTOBUF_TABLE, Err(NotAcceptable::Conversion)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", whole(Json)),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", metadata(Json, V1)),
            ("application/yaml;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", metadata(Yaml, V1)),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1,\
                 application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1,application/json",
                metadata(Protobuf, V1beta1),
            ),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
        ] {
            assert_eq!(resource(&accept(header), true), expected, "{header}");
        }
        let one = accept("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
        assert_eq!(resource(&one, false), metadata(Json, V1));
        assert_eq!(resource(&HeaderMap::new(), false), whole(Json));
        assert_eq!(resource(&accept("application/cbor"), false), Err(NotAcceptable::Type));
    }

    #[test]
    fn people_are_answered_with_indented_json() {
        let answer = |agent: &'static str, accept: &'static str, query: &str| {
            let headers =
                [(USER_AGENT, HeaderValue::from_static(agent)), (ACCEPT, HeaderValue::from_static(accept))];
            Accept::new(&HeaderMap::from_iter(headers), &Query::parse(query)).plain().unwrap()
        };
        for (agent, accept, query, expected) in [
            ("curl/8.5", "*/*", "", Representation::PrettyJson),
            ("Wget/1.21", "*/*", "", Representation::PrettyJson),
            ("Mozilla/5.0 (X11)", "text/html,*/*", "", Representation::PrettyJson),
            ("Mozilla/4.0", "*/*", "", Representation::Json),
            ("kubectl/v1.37.2", "application/json", "", Representation::Json),
            ("curl/8.5", "*/*", "pretty=false", Representation::Json),
            ("curl/8.5", "*/*", "pretty=0", Representation::Json),
            ("curl/8.5", "*/*", "pretty=nonsense", Representation::Json),
            ("curl/8.5", "*/*", "pretty=", Representation::PrettyJson),
            ("kubectl", "*/*", "pretty=true", Representation::PrettyJson),
            ("kubectl", "*/*", "pretty=1", Representation::PrettyJson),
            ("curl", "application/yaml", "pretty=1", Representation::Yaml),
            ("curl", "application/vnd.kubernetes.protobuf", "", Representation::Protobuf),
        ] {
            assert_eq!(answer(agent, accept, query), expected, "{agent} {accept} {query}");
        }
    }

    #[test]
    fn discovery_documents() {
        use Representation::{Json, Protobuf, Yaml};
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let (legacy, aggregated) = (|to| Ok(Groups::Legacy(to)), |to| Ok(Groups::Aggregated(to)));
        for (header, expected) in [
            (v2, aggregated(Json)),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer",
                aggregated(Json),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;\
                 g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                aggregated(Json),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                legacy(Json),
            ),
            (
                "application/json, application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                aggregated(Yaml),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                Err(NotAcceptable::Conversion),
            ),
            ("application/json", legacy(Json)),
            ("application/vnd.kubernetes.protobuf, */*", legacy(Protobuf)),
            (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                aggregated(Protobuf),
            ),
            ("application/cbor", Err(NotAcceptable::Type)),
        ] {
            assert_eq!(discovery(&accept(header)), expected, "{header}");
        }
    }

    #[test]
    fn plain_documents_have_no_conversion() {
        assert_eq!(plain(&accept(TABLE)), Err(NotAcceptable::Conversion));
        assert_eq!(plain(&accept("application/json")), Ok(Representation::Json));
        assert_eq!(plain(&accept("application/vnd.kubernetes.protobuf,*/*")), Ok(Representation::Protobuf));
    }

    #[test]
    fn failures_are_told_in_any_case() {
        let status = |text| Accept::new(&accept(text), &Query::default()).status();
        assert_eq!(status("application/vnd.kubernetes.protobuf, */*"), Representation::Protobuf);
        assert_eq!(status("application/yaml"), Representation::Yaml);
        for json in ["", "*/*", TABLE, PROTOBUF_TABLE] {
            assert_eq!(status(json), Representation::Json, "{json}");
        }
        assert_eq!(status("application/cbor"), Representation::PrettyJson);
    }

    #[test]
    fn a_document_in_json_alone() {
        let json = |text| Accept::new(&accept(text), &Query::default()).json();
        for accepted in ["", "*/*", "application/json", "application/yaml, application/json;q=0.1"] {
            assert_eq!(json(accepted), Ok(()), "{accepted}");
        }
        for refused in ["application/yaml", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"] {
            assert_eq!(json(refused), Err(NotAcceptable::NotJson), "{refused}");
        }
    }
}
