//! Content negotiation: which of the types that a client accepts is answered. Pure.
//!
//! The rules are those of kubernetes/apiserver, `pkg/endpoints/handlers/negotiation`: ranges by quality, then in the
//! client's order; a range with a conversion (`as=`) counts only where that conversion is offered.

use http::{HeaderMap, header::ACCEPT};

/// The media types that this server writes, as its 406 texts list them.
pub const SUPPORTED: &str = "application/json, application/vnd.kubernetes.protobuf";

/// A media type that is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Format {
    /// As `Content-Type` has it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
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
    /// A Table, which comes in JSON alone.
    Table(MetaVersion),
}

impl Shape {
    /// What it is written in.
    pub fn format(self) -> Format {
        match self {
            Self::Object(format, _) => format,
            Self::Table(_) => Format::Json,
        }
    }
}

/// What `/apis` answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// APIGroupList.
    Legacy(Format),
    /// APIGroupDiscoveryList, and the content type to echo.
    Aggregated(String),
}

/// Why nothing can be answered: the two texts of 406 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAcceptable {
    /// None of the types is written here.
    Type,
    /// The type is, but not in that conversion.
    Conversion,
}

/// A range of an `Accept` header.
#[derive(Debug, Clone, PartialEq)]
struct Range<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
    /// The text, as aggregated discovery echoes it.
    text: &'a str,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let all =
            parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        let (quality, parameters): (Vec<_>, Vec<_>) = all.partition(|(key, _)| *key == "q");
        let quality = quality.first().and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        Self { kind, parameters, quality, text }
    }

    /// What the range stands for. All that is offered is offered in JSON too, and JSON comes first for a wildcard.
    fn format(&self) -> Option<Format> {
        match self.kind {
            "application/json" | "application/*" | "*/*" => Some(Format::Json),
            "application/vnd.kubernetes.protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// `(group, version, kind)` of the conversion asked for.
    fn conversion(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let kind = self.parameter("as")?;
        Some((self.parameter("g").unwrap_or_default(), self.parameter("v").unwrap_or_default(), kind))
    }
}

/// The ranges by quality, then order. No header, or an empty one, is `*/*`.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
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
    ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    ranges
}

/// Negotiates for `nodes` and `pods`; `list` says which metadata kind is offered.
pub fn resource(headers: &HeaderMap, list: bool) -> Result<Shape, NotAcceptable> {
    let metadata = if list { "PartialObjectMetadataList" } else { "PartialObjectMetadata" };
    choose(headers, |format, range| {
        let Some((group, version, kind)) = range.conversion() else {
            return Some(Shape::Object(format, Part::Whole));
        };
        let version = match (group, version) {
            ("meta.k8s.io", "v1") => MetaVersion::V1,
            ("meta.k8s.io", "v1beta1") => MetaVersion::V1beta1,
            _ => return None,
        };
        match kind {
            "Table" if format == Format::Json => Some(Shape::Table(version)),
            kind if kind == metadata => Some(Shape::Object(format, Part::Metadata(version))),
            _ => None,
        }
    })
}

/// Negotiates for documents that come in no conversion.
pub fn plain(headers: &HeaderMap) -> Result<Format, NotAcceptable> {
    choose(headers, |format, range| range.conversion().is_none().then_some(format))
}

/// Negotiates for a `Status`. A failure is told in any case: in JSON to a client that accepts nothing that is written
/// here, or no `Status`.
pub fn status(headers: &HeaderMap) -> Format {
    plain(headers).unwrap_or(Format::Json)
}

/// Negotiates for `/apis`. The aggregated document comes in JSON alone.
pub fn discovery(headers: &HeaderMap) -> Result<Groups, NotAcceptable> {
    let aggregated = Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList"));
    choose(headers, |format, range| match range.conversion() {
        None => Some(Groups::Legacy(format)),
        conversion if conversion == aggregated && format == Format::Json => {
            let json = format.media_type();
            Some(Groups::Aggregated(range.text.replace("*/*", json).replace("application/*", json)))
        }
        Some(_) => None,
    })
}

/// The first offer, in the client's order.
fn choose<T>(
    headers: &HeaderMap,
    offer: impl Fn(Format, &Range<'_>) -> Option<T>,
) -> Result<T, NotAcceptable> {
    let mut failed = NotAcceptable::Type;
    for range in ranges(headers) {
        let Some(format) = range.format() else { continue };
        if let Some(chosen) = offer(format, &range) {
            return Ok(chosen);
        }
        failed = NotAcceptable::Conversion;
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))])
    }

    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
    const PROTOBUF_TABLE: &str = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";

    #[test]
    fn resources() {
        use Format::{Json, Protobuf};
        use MetaVersion::{V1, V1beta1};
        let whole = |format| Ok(Shape::Object(format, Part::Whole));
        let metadata = |format, version| Ok(Shape::Object(format, Part::Metadata(version)));
        for (header, expected) in [
            ("", whole(Json)),
            ("*/*", whole(Json)),
            ("text/html,*/*", whole(Json)),
            ("application/*", whole(Json)),
            ("application/json", whole(Json)),
            ("application/json;q=0.9,application/cbor;q=1", whole(Json)),
            ("application/vnd.kubernetes.protobuf", whole(Protobuf)),
            ("application/vnd.kubernetes.protobuf, */*", whole(Protobuf)),
            ("application/vnd.kubernetes.protobuf,application/json", whole(Protobuf)),
            ("application/json, application/vnd.kubernetes.protobuf", whole(Json)),
            ("*/*;q=0.1, application/vnd.kubernetes.protobuf;q=0.2", whole(Protobuf)),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/json", whole(Json)),
            ("application/vnd.kubernetes.protobuf;q=0, */*", whole(Json)),
            ("application/cbor", Err(NotAcceptable::Type)),
            ("application/yaml", Err(NotAcceptable::Type)),
            ("application/json;q=0", Err(NotAcceptable::Type)),
            (TABLE, Ok(Shape::Table(V1))),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                Ok(Shape::Table(V1beta1)),
            ),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io,application/json", whole(Json)),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            (PROTOBUF_TABLE, Err(NotAcceptable::Conversion)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", whole(Json)),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", metadata(Json, V1)),
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
    }

    #[test]
    fn discovery_documents() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let aggregated = |text: &str| Ok(Groups::Aggregated(text.to_owned()));
        for (header, expected) in [
            (v2, aggregated(v2)),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer",
                aggregated(&format!("{v2};profile=nopeer")),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;\
                 g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                aggregated(v2),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Ok(Groups::Legacy(Format::Json)),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                Err(NotAcceptable::Conversion),
            ),
            ("application/json", Ok(Groups::Legacy(Format::Json))),
            ("application/vnd.kubernetes.protobuf, */*", Ok(Groups::Legacy(Format::Protobuf))),
            (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                Err(NotAcceptable::Conversion),
            ),
            ("application/cbor", Err(NotAcceptable::Type)),
        ] {
            assert_eq!(discovery(&accept(header)), expected, "{header}");
        }
    }

    #[test]
    fn plain_documents_have_no_conversion() {
        assert_eq!(plain(&accept(TABLE)), Err(NotAcceptable::Conversion));
        assert_eq!(plain(&accept("application/json")), Ok(Format::Json));
        assert_eq!(plain(&accept("application/vnd.kubernetes.protobuf,*/*")), Ok(Format::Protobuf));
    }

    #[test]
    fn failures_are_told_in_any_case() {
        assert_eq!(status(&accept("application/vnd.kubernetes.protobuf, */*")), Format::Protobuf);
        for json in ["", "*/*", "application/cbor", TABLE, PROTOBUF_TABLE] {
            assert_eq!(status(&accept(json)), Format::Json, "{json}");
        }
    }
}
