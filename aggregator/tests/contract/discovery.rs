//! Sections 2, 3 and 4: paths, discovery, OpenAPI.

use serde_json::{Value, json};

use crate::world::{BASE, World, header};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[test]
fn paths_lead_where_the_contract_says() {
    World::shared().table("section 2", async |rows, client| {
        for (path, status, kind) in [
            ("/apis", 200, "APIGroupList"),
            ("/apis/", 200, "APIGroupList"),
            ("/apis/metrics.k8s.io", 200, "APIGroup"),
            ("/apis/metrics.k8s.io/v1", 200, "APIResourceList"),
            ("/apis/metrics.k8s.io/v1/", 200, "APIResourceList"),
            ("/apis/metrics.k8s.io/v1beta1", 200, "APIResourceList"),
            ("/apis/metrics.k8s.io/v1beta1/", 200, "APIResourceList"),
            ("/apis/metrics.k8s.io/v1/nodes", 200, "NodeMetricsList"),
            ("/apis/metrics.k8s.io/v1beta1/nodes", 200, "NodeMetricsList"),
            ("/apis/metrics.k8s.io/v1/nodes/node-a", 200, "NodeMetrics"),
            ("/apis/metrics.k8s.io/v1beta1/pods", 200, "PodMetricsList"),
            ("/apis/metrics.k8s.io/v1/namespaces/shop/pods", 200, "PodMetricsList"),
            ("/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0", 200, "PodMetrics"),
            ("/apis/metrics.k8s.io/v1/pods/web-0", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/NODES", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/nodes/node-a/status", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/namespaces/shop/nodes", 404, "Status"),
            ("/apis/metrics.k8s.io/v1alpha1/nodes", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/watch/nodes", 404, "Status"),
            ("/apis/metrics.k8s.io/v1//nodes", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/nodes%2fnode-a", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/./nodes", 404, "Status"),
            ("/apis/metrics.k8s.io/v1/%2e%2e/v1/nodes", 404, "Status"),
            ("/apis/apps/v1/deployments", 404, "Status"),
        ] {
            let answer = client.get(path).await;
            rows.same(path, answer.status.as_u16(), status);
            rows.same(path, answer.json()["kind"].clone(), json!(kind));
        }
        for (path, status) in [("/", 200), ("/api", 404), ("/nope", 404), ("/debug/pprof/heap", 404)] {
            let answer = client.get(path).await;
            rows.same(path, answer.status.as_u16(), status);
            let paths = answer.json();
            let known =
                |path: &str| paths["paths"].as_array().is_some_and(|paths| paths.contains(&json!(path)));
            rows.holds(path, known("/apis/metrics.k8s.io/v1") && known("/healthz"), &answer.body);
        }
    });
}

#[test]
fn legacy_discovery_names_both_versions() {
    World::shared().table("section 3.1", async |rows, client| {
        let versions = json!([
            {"groupVersion": "metrics.k8s.io/v1", "version": "v1"},
            {"groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1"},
        ]);
        let groups = client.get("/apis").await.json();
        rows.same("/apis: apiVersion", groups.get("apiVersion"), None);
        rows.same("/apis: versions", groups["groups"][0]["versions"].clone(), versions.clone());
        let group = client.get(BASE).await.json();
        rows.same("group: apiVersion", group["apiVersion"].clone(), json!("v1"));
        rows.same("group: name", group["name"].clone(), json!("metrics.k8s.io"));
        rows.same("group: versions", group["versions"].clone(), versions);
        rows.same("group: preferred", group["preferredVersion"]["version"].clone(), json!("v1"));
        let address = group["serverAddressByClientCIDRs"][0]["serverAddress"].clone();
        let port = client.cluster.aggregator.api.port();
        rows.same("group: address", address, json!(format!(":{port}")));
        for version in ["v1", "v1beta1"] {
            let resource = |name: &str, namespaced: bool, kind: &str| {
                json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]})
            };
            let expected = json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("metrics.k8s.io/{version}"),
                "resources": [resource("nodes", false, "NodeMetrics"), resource("pods", true, "PodMetrics")],
            });
            rows.same(version, client.get(&format!("{BASE}/{version}")).await.json(), expected);
        }
    });
}

#[test]
fn aggregated_discovery_is_cached_by_its_etag() {
    World::shared().table("section 3.2", async |rows, client| {
        let answer = client.accepting("/apis", V2).await;
        rows.same("status", answer.status.as_u16(), 200);
        rows.same("content type", header(&answer, "content-type"), V2);
        rows.same("vary", header(&answer, "vary"), "Accept");
        rows.same("cache control", header(&answer, "cache-control"), "public");
        let etag = header(&answer, "etag");
        let inner = etag.trim_matches('"');
        let hex = inner.len() == 128 && inner.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c));
        rows.holds("etag", hex && etag.len() == 130, etag);
        let resource = |name: &str, kind: &str, scope: &str| {
            json!({"resource": name, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope,
                   "singularResource": "", "verbs": ["get", "list"]})
        };
        let resources = json!([resource("nodes", "NodeMetrics", "Cluster"), resource("pods", "PodMetrics", "Namespaced")]);
        let version = |name: &str| json!({"version": name, "freshness": "Current", "resources": resources});
        let expected = json!([{"metadata": {"name": "metrics.k8s.io"}, "versions": [version("v1"), version("v1beta1")]}]);
        rows.same("items", answer.json()["items"].clone(), expected);

        let master = crate::common::MASTER;
        let again = [master.as_slice(), &[("accept", V2), ("if-none-match", etag)]].concat();
        let unchanged = client.caller.get("/apis", &again).await;
        rows.same("if-none-match", (unchanged.status.as_u16(), unchanged.bytes.len()), (304, 0));
        let other = [master.as_slice(), &[("accept", V2), ("if-none-match", "\"x\"")]].concat();
        rows.same("another etag", client.caller.get("/apis", &other).await.status.as_u16(), 200);

        let beta = V2.replace("v=v2", "v=v2beta1");
        rows.same("v2beta1 alone", client.accepting("/apis", &beta).await.status.as_u16(), 406);
        let fallen = client.accepting("/apis", &format!("{beta},application/json")).await;
        rows.same("v2beta1, then JSON", fallen.json()["kind"].clone(), json!("APIGroupList"));
        let both = client.accepting("/apis", &format!("{V2},{beta},application/json")).await;
        rows.same("v2 first", both.json()["kind"].clone(), json!("APIGroupDiscoveryList"));
        let profile = format!("{V2};profile=nopeer");
        let profiled = client.accepting("/apis", &profile).await;
        rows.same("profile", (profiled.status.as_u16(), header(&profiled, "content-type")), (200, V2));
    });
}

#[test]
fn openapi_describes_what_is_served() {
    World::shared().table("section 4", async |rows, client| {
        let v2 = client.get("/openapi/v2").await;
        rows.same("/openapi/v2", v2.status.as_u16(), 200);
        let v2: Value = serde_json::from_str(&v2.body).unwrap_or_default();
        let mut operations = Vec::new();
        for (_, item) in v2["paths"].as_object().into_iter().flatten() {
            operations.extend(item["get"]["operationId"].as_str().map(ToOwned::to_owned));
        }
        operations.sort();
        let mut expected = vec!["getAPIVersions", "getMetricsAPIGroup", "getCodeVersion"];
        expected.extend([
            "getMetricsV1APIResources",
            "listMetricsV1NodeMetrics",
            "readMetricsV1NodeMetrics",
            "listMetricsV1NamespacedPodMetrics",
            "readMetricsV1NamespacedPodMetrics",
            "listMetricsV1PodMetricsForAllNamespaces",
            "getMetricsV1beta1APIResources",
            "listMetricsV1beta1NodeMetrics",
            "readMetricsV1beta1NodeMetrics",
            "listMetricsV1beta1NamespacedPodMetrics",
            "readMetricsV1beta1NamespacedPodMetrics",
            "listMetricsV1beta1PodMetricsForAllNamespaces",
        ]);
        expected.sort_unstable();
        rows.same("operations", operations, expected.into_iter().map(ToOwned::to_owned).collect());
        for version in ["v1", "v1beta1"] {
            for kind in ["NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList", "ContainerMetrics"]
            {
                let name = format!("io.k8s.metrics.pkg.apis.metrics.{version}.{kind}");
                let definition = &v2["definitions"][&name];
                rows.holds(&name, definition.is_object(), definition);
                if kind != "ContainerMetrics" {
                    let expected = json!([{"group": "metrics.k8s.io", "version": version, "kind": kind}]);
                    let kinds = definition["x-kubernetes-group-version-kind"].clone();
                    rows.same(&name, kinds, expected);
                }
            }
        }
        let index = client.get("/openapi/v3").await;
        rows.same("/openapi/v3", index.status.as_u16(), 200);
        let index: Value = serde_json::from_str(&index.body).unwrap_or_default();
        for version in ["v1", "v1beta1"] {
            let entry = &index["paths"][format!("apis/metrics.k8s.io/{version}")]["serverRelativeURL"];
            let url = entry.as_str().unwrap_or("/none");
            let prefix = format!("/openapi/v3/apis/metrics.k8s.io/{version}?hash=");
            rows.holds("the index's URL", url.starts_with(&prefix), url);
            let document = client.get(url).await;
            rows.same(url, document.status.as_u16(), 200);
            rows.holds("ETag", document.headers.contains_key("etag"), &document.headers);
            rows.holds("Last-Modified", document.headers.contains_key("last-modified"), &document.headers);
            let document: Value = serde_json::from_str(&document.body).unwrap_or_default();
            let name = format!("io.k8s.metrics.pkg.apis.metrics.{version}.PodMetrics");
            let schema = &document["components"]["schemas"][&name]["properties"]["containers"];
            rows.same("containers", schema["x-kubernetes-list-type"].clone(), json!("atomic"));
            let kind = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
            for accept in [kind.to_owned(), kind.replace(".v1.0", "@v1.0")] {
                let document = client.accepting(url, &accept).await;
                rows.same(
                    &accept,
                    (document.status.as_u16(), header(&document, "content-type")),
                    (200, kind),
                );
                rows.holds(&accept, document.bytes.starts_with(b"\x0a\x053.0.0"), document.bytes.len());
            }
        }
    });
}
