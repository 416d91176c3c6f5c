//! Content negotiation: which of the types that a client accepts is answered. Pure.
//!
//! The rules are those of kubernetes/apiserver, `pkg/endpoints/handlers/negotiation`: ranges by quality, then in the
//! client's order; a range with a conversion (`as=`) counts only where that conversion is offered.

use http::{HeaderMap, header::ACCEPT};

/// The media types that this server writes, as its 406 texts list them.
pub const SUPPORTED: &str = "application/json";

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

/// The shape of a resource's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The object or list itself.
    Object,
    /// A Table.
    Table(MetaVersion),
    /// PartialObjectMetadata, or its list.
    Metadata(MetaVersion),
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

    fn is_json(&self) -> bool {
        matches!(self.kind, "application/json" | "application/*" | "*/*")
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
    choose(headers, |conversion| {
        let Some((group, version, kind)) = conversion else { return Some(Shape::Object) };
        let version = match (group, version) {
            ("meta.k8s.io", "v1") => MetaVersion::V1,
            ("meta.k8s.io", "v1beta1") => MetaVersion::V1beta1,
            _ => return None,
        };
        match kind {
            "Table" => Some(Shape::Table(version)),
            kind if kind == metadata => Some(Shape::Metadata(version)),
            _ => None,
        }
    })
}

/// Negotiates for documents that come in JSON and no conversion.
pub fn plain(headers: &HeaderMap) -> Result<(), NotAcceptable> {
    choose(headers, |conversion| conversion.is_none().then_some(()))
}

/// Negotiates for `/apis`: the aggregated document with the content type to echo, or `None` for the legacy one.
pub fn discovery(headers: &HeaderMap) -> Result<Option<String>, NotAcceptable> {
    let mut failed = NotAcceptable::Type;
    for range in ranges(headers).into_iter().filter(Range::is_json) {
        match range.conversion() {
            None => return Ok(None),
            Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")) => {
                return Ok(Some(
                    range
                        .text
                        .replace("*/*", "application/json")
                        .replace("application/*", "application/json"),
                ));
            }
            Some(_) => failed = NotAcceptable::Conversion,
        }
    }
    Err(failed)
}

fn choose<T>(
    headers: &HeaderMap,
    offer: impl Fn(Option<(&str, &str, &str)>) -> Option<T>,
) -> Result<T, NotAcceptable> {
    let mut failed = NotAcceptable::Type;
    for range in ranges(headers).iter().filter(|range| range.is_json()) {
        if let Some(chosen) = offer(range.conversion()) {
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

    #[test]
    fn resources() {
        use MetaVersion::{V1, V1beta1};
        for (header, expected) in [
            ("", Ok(Shape::Object)),
            ("*/*", Ok(Shape::Object)),
            ("text/html,*/*", Ok(Shape::Object)),
            ("application/*", Ok(Shape::Object)),
            ("application/json", Ok(Shape::Object)),
            ("application/json;q=0.9,application/cbor;q=1", Ok(Shape::Object)),
            ("application/vnd.kubernetes.protobuf, */*", Ok(Shape::Object)),
            ("application/vnd.kubernetes.protobuf,application/json", Ok(Shape::Object)),
            ("application/cbor", Err(NotAcceptable::Type)),
            ("application/json;q=0", Err(NotAcceptable::Type)),
            (TABLE, Ok(Shape::Table(V1))),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                Ok(Shape::Table(V1beta1)),
            ),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io,application/json", Ok(Shape::Object)),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Err(NotAcceptable::Type)),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Ok(Shape::Metadata(V1))),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Err(NotAcceptable::Conversion)),
        ] {
            assert_eq!(resource(&accept(header), true), expected, "{header}");
        }
        let one = accept("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
        assert_eq!(resource(&one, false), Ok(Shape::Metadata(V1)));
        assert_eq!(resource(&HeaderMap::new(), false), Ok(Shape::Object));
    }

    #[test]
    fn discovery_documents() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        for (header, expected) in [
            (v2, Ok(Some(v2.to_owned()))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer",
                Ok(Some(format!("{v2};profile=nopeer"))),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;\
                 g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Ok(Some(v2.to_owned())),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Ok(None),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                Err(NotAcceptable::Conversion),
            ),
            ("application/json", Ok(None)),
            ("application/cbor", Err(NotAcceptable::Type)),
        ] {
            assert_eq!(discovery(&accept(header)), expected, "{header}");
        }
    }

    #[test]
    fn plain_documents_have_no_conversion() {
        assert_eq!(plain(&accept(TABLE)), Err(NotAcceptable::Conversion));
        assert_eq!(plain(&accept("application/json")), Ok(()));
    }
}
