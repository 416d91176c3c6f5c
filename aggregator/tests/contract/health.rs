//! Sections 14 and 15: health bodies byte for byte, `/version`, `/metrics`.

use crate::{
    common::Protocol,
    world::{World, header},
};

fn lines(names: &[&str], last: &str) -> String {
    let body = names.iter().fold(String::new(), |body, name| body + "[+]" + name + " ok\n");
    body + last + "\n"
}

const HOOKS: [&str; 4] =
    ["ping", "log", "poststarthook/max-in-flight-filter", "poststarthook/storage-object-count-tracker-hook"];

#[test]
fn health_bodies_are_these_bytes() {
    World::shared().table("section 14", async |rows, client| {
        let ready = ["metric-storage-ready", "metric-informer-sync", "metadata-informer-sync", "shutdown"];
        let live = ["metric-collection-timely", "metadata-informer-sync"];
        for (path, own) in
            [("readyz", &ready[..]), ("livez", &live), ("healthz", &["metadata-informer-sync"])]
        {
            let plain = client.get(&format!("/{path}")).await;
            rows.same(path, (plain.status.as_u16(), &*plain.body), (200, "ok"));
            rows.same(path, header(&plain, "content-type"), "text/plain; charset=utf-8");
            rows.same(path, header(&plain, "x-content-type-options"), "nosniff");
            let verbose = client.get(&format!("/{path}?verbose")).await;
            let expected = lines(&[&HOOKS, own].concat(), &format!("{path} check passed"));
            rows.same(path, &*verbose.body, &*expected);
            let excluding = client.get(&format!("/{path}?verbose&exclude=log")).await;
            rows.same("exclude", &*excluding.body, &*expected.replace("[+]log ok", "[+]log excluded: ok"));
            let unknown = client.get(&format!("/{path}?verbose&exclude=x")).await;
            let warning = "warn: some health checks cannot be excluded: no matches for \"x\"\n";
            let expected = expected.replace(&format!("{path} check"), &format!("{warning}{path} check"));
            rows.same("an unknown check", &*unknown.body, &*expected);
            for name in [&HOOKS, own].concat() {
                let one = client.get(&format!("/{path}/{name}")).await;
                rows.same(name, (one.status.as_u16(), &*one.body), (200, "ok"));
            }
        }
        for name in ["requestheader-config-sync", "agent-listener-ready", "serving-certificate-valid"] {
            let one = client.get(&format!("/readyz/{name}")).await;
            rows.same(name, (one.status.as_u16(), &*one.body), (200, "ok"));
        }
    });
}

#[test]
fn health_is_open_to_everybody_and_its_parts_are_not() {
    World::shared().table("section 14, access", async |rows, client| {
        let stranger = client.cluster.aggregator.caller(None, client.protocol);
        for path in ["/readyz", "/livez", "/healthz", "/readyz?verbose"] {
            rows.same(path, stranger.get(path, &[]).await.status.as_u16(), 200);
            let bad = stranger.get(path, &[("authorization", "Bearer unknown")]).await;
            rows.same("a bad credential", bad.status.as_u16(), 401);
        }
        // Not `/version`: Kubernetes' own ClusterRole `system:public-info-viewer` shows it to everybody.
        for path in ["/readyz/ping", "/metrics", "/apis", "/readyz/"] {
            rows.same(path, stranger.get(path, &[]).await.status.as_u16(), 403);
        }
    });
}

#[test]
fn version_and_metrics_answer() {
    World::shared().table("section 15", async |rows, client| {
        let version = client.get("/version").await.json();
        for key in [
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ] {
            rows.holds(key, version[key].is_string(), &version[key]);
        }
        let metrics = client.get("/metrics").await;
        rows.same("/metrics", metrics.status.as_u16(), 200);
        rows.holds("own families", metrics.body.contains("\nwaggle_api_requests_total{"), metrics.body.len());
        let http = if client.protocol == Protocol::Http1 { "HTTP/1.1" } else { "HTTP/2" };
        // Which node runs which collector is what these two families are for; nothing else grows with the cluster.
        let of_collectors = |line: &str| line.starts_with("waggle_ingest_collector_");
        let node = metrics
            .body
            .lines()
            .find(|line| !line.starts_with('#') && !of_collectors(line) && line.contains("node=\""));
        rows.same(http, node, None);
    });
}
