//! Paths and queries: what is authorised is what is routed, nothing is normalised, and every answer is one that the
//! contract knows.

use http::{HeaderValue, Method, Request, Uri};
use waggle_aggregator::{
    api::{
        query::Query,
        request::{self, Route},
    },
    auth::Attributes,
};

use crate::{Target, model::percent, owned, world::World};

pub const TARGET: Target = Target {
    name: "path",
    run,
    seeds: || {
        owned(&[
            "GET /apis/metrics.k8s.io/v1beta1/nodes?limit=500",
            "GET /apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0?pretty=true",
            "GET /apis/metrics.k8s.io/v1/pods?labelSelector=app%3Dweb&fieldSelector=metadata.name%3Dx",
            "GET /apis/metrics.k8s.io/v1/nodes?watch=1&timeoutSeconds=3&sendInitialEvents=true",
            "DELETE /apis/metrics.k8s.io/v1/nodes/a",
            "GET /apis/metrics.k8s.io/v1/%2e%2e/nodes",
            "GET /apis//metrics.k8s.io/v1/nodes%2fa",
            "GET /readyz/ping?verbose&exclude=log",
            "GET /apis/",
            "GET /openapi/v3/apis/metrics.k8s.io/v1?hash=A",
        ])
    },
    words: &[
        "/apis",
        "/metrics.k8s.io",
        "/v1",
        "/v1beta1",
        "/nodes",
        "/pods",
        "/namespaces/shop",
        "/watch",
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi/v2",
        "/openapi/v3",
        "%2f",
        "%2e",
        "%25",
        "%00",
        "?watch=true",
        "&limit=",
        "&labelSelector=",
        "&fieldSelector=",
        "&timeout=",
        "&resourceVersionMatch=",
        "&sendInitialEvents=",
        "&includeObject=",
        "&pretty=",
        "metadata.name%3D",
    ],
};

thread_local! {
    static WORLD: World = World::new();
}

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((method, target)) = text.split_once(' ') else { return };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) else { return };
    let query_text = uri.query().unwrap_or_default();
    let query = Query::parse(query_text);
    check_query(&query, query_text);
    check_path(&method, uri.path(), &query);
    WORLD.with(|world| check_answer(world, &method, &uri));
}

fn check_query(query: &Query, text: &str) {
    let pairs = percent::query(text);
    for (key, _) in &pairs {
        let expected: Vec<&str> =
            pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect();
        assert_eq!(query.all(key).collect::<Vec<_>>(), expected, "{key:?} in {text:?}");
    }
    for part in text.split('&').filter_map(|part| part.split('=').next()) {
        let known = pairs.iter().any(|(name, _)| name == part);
        assert!(known || query.get(part).is_none(), "{part:?} is no key of {text:?}");
    }
}

fn check_path(method: &Method, path: &str, query: &Query) {
    let model = percent::segments(path);
    let Ok((route, attributes)) = request::parse(method, path, query) else {
        return assert!(model.is_none(), "{path:?} is canonical and was refused");
    };
    let Some(segments) = model else { panic!("{path:?} is not canonical and leads to {route:?}") };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Attributes::NonResource { path: authorised, .. } = &attributes {
        let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
        assert_eq!(*authorised, format!("/{}{slash}", segments.join("/")), "{path:?}");
    }
    let (resource, namespace, name) = match &route {
        Route::Nodes(_, name) => ("nodes", "", name.as_deref()),
        Route::Pods(_, namespace) => ("pods", namespace.as_deref().unwrap_or_default(), None),
        Route::Pod(_, namespace, name) => ("pods", namespace.as_str(), Some(name.as_str())),
        _ => return,
    };
    let version = segments.get(2).copied().unwrap_or_default();
    let mut expected = vec!["apis", "metrics.k8s.io", version];
    if !namespace.is_empty() {
        expected.extend(["namespaces", namespace]);
    }
    expected.push(resource);
    expected.extend(name);
    assert_eq!(segments, expected, "{path:?} leads to {route:?}");
    let Attributes::Resource {
        group,
        version: asked,
        namespace: of,
        resource: what,
        subresource,
        name: whom,
        ..
    } = &attributes
    else {
        panic!("{path:?} leads to {route:?}, authorised is {attributes:?}");
    };
    assert_eq!(
        (&**group, &**asked, &**of, &**what, &**subresource),
        ("metrics.k8s.io", version, namespace, resource, ""),
        "{path:?}"
    );
    assert!(name.is_none_or(|name| name == whom), "{path:?} is authorised for {whom:?}");
}

fn check_answer(world: &World, method: &Method, uri: &Uri) {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    request.headers_mut().insert("x-remote-user", HeaderValue::from_static("bob"));
    let (answer, asked) = world.answer(request);
    let status = answer.status.as_u16();
    assert!(
        matches!(status, 200 | 400 | 404 | 405 | 422),
        "{method} {uri} is {status}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    assert!(answer.headers.contains_key("content-type"), "{method} {uri} has no type");
    // Objects and discovery are read by GET alone.
    let reads = if ["/apis", "/version"].iter().any(|path| uri.path().starts_with(path)) {
        *method == Method::GET
    } else {
        [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
    };
    assert!(status != 200 || reads, "{method} {uri} is answered");
    let health = ["/healthz", "/livez", "/readyz"].contains(&uri.path());
    assert!(status != 200 || health || asked.is_some(), "{uri} is answered without having been authorised");
}
