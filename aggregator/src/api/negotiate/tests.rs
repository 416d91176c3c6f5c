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
fn the_first_type_that_is_accepted() {
    let first =
        |text| Accept::new(&accept(text), &Query::default()).first_of(&["application/json", "application/x"]);
    for (header, expected) in [
        ("", Some("application/json")),
        ("*/*", Some("application/json")),
        ("application/*", Some("application/json")),
        ("application/x", Some("application/x")),
        ("application/x, */*", Some("application/x")),
        ("application/x;q=0.1, application/json;q=0.2", Some("application/json")),
        ("application/yaml, application/x;q=0.1", Some("application/x")),
        ("application/yaml", None),
        ("application/json;q=0", None),
    ] {
        assert_eq!(first(header), expected, "{header}");
    }
}
