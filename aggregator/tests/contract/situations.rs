//! Section 6: what is served in which situation, on values that an agent reports while the cluster changes. One cluster, one
//! story: each step is a row of the table.

use serde_json::json;
use tokio::runtime::Runtime;
use waggle_stand_in::Kind;

use crate::{
    common::until,
    world::{BEFORE, Cluster, DB, Seen, WEB, pod, seen},
};

const MIB: u64 = 256;

async fn served(cluster: &Cluster, pod: &str) -> Option<Vec<(String, String)>> {
    let answer = cluster.get(&format!("namespaces/shop/pods/{pod}")).await;
    let usage = |container: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&container["name"]), text(&container["usage"]["cpu"]))
    };
    let object = answer.json();
    (answer.status == 200).then(|| object["containers"].as_array().unwrap().iter().map(usage).collect())
}

fn usages(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, cpu)| ((*name).to_owned(), (*cpu).to_owned())).collect()
}

#[test]
fn what_is_served_follows_the_situation() {
    Runtime::new().unwrap().block_on(story());
}

async fn story() {
    let cluster = Cluster::start(&["--max-age", "20s"]).await;
    let none = json!({});
    let web = |containers: &[(&str, char, &str)]| pod(("shop", "web-0", WEB), "Running", &none, containers);
    let two = [("web", 'a', "containers"), ("extra", 'b', "containers")];
    cluster.stand_in.apply(web(&two)).unwrap();

    // Before the store is filled: an empty list, 404 for one, never 503.
    for list in ["pods", "nodes", "namespaces/shop/pods"] {
        assert_eq!(cluster.names(list).await, [""; 0], "{list}");
    }
    assert_eq!(cluster.get("nodes/node-a").await.status, 404);
    assert_eq!(cluster.get("namespaces/shop/pods/web-0").await.status, 404);

    // Values; 0 is one. A container without values makes its pod wait.
    let both = [seen(WEB, 'a', 250_000_000, 64 * MIB), seen(WEB, 'b', 0, 0)];
    let one = [seen(WEB, 'a', 250_000_000, 64 * MIB)];
    cluster.walks(0..3, &one).await;
    until("the node", async || cluster.names("nodes").await == ["node-a"]).await;
    assert_eq!(cluster.names("pods").await, [""; 0], "an incomplete pod is not served");
    // Three walks; the second since boot of the last.
    let step = async |containers: &[Seen]| {
        let second = cluster.began.elapsed().as_secs() + 1;
        cluster.walks(second..second + 3, containers).await;
        BEFORE + second + 2
    };
    step(&both).await;
    let full = Some(usages(&[("web", "250m"), ("extra", "0")]));
    until("a complete pod", async || served(&cluster, "web-0").await == full).await;

    // A container without data: the last complete entry is held, with its own time.
    let held = cluster.get("namespaces/shop/pods/web-0").await.json();
    step(&one).await;
    until("later values of the node", async || {
        cluster.get("nodes/node-a").await.json()["timestamp"].as_str() > held["timestamp"].as_str()
    })
    .await;
    let still = cluster.get("namespaces/shop/pods/web-0").await.json();
    assert_eq!((&still["timestamp"], &still["containers"]), (&held["timestamp"], &held["containers"]));

    // Once its status says that it is gone, the remainder is served.
    cluster.stand_in.apply(web(&two[..1])).unwrap();
    step(&one).await;
    until("the remainder", async || served(&cluster, "web-0").await == Some(usages(&[("web", "250m")])))
        .await;

    // A restarted container: a new id and cgroup; held until the new one is known, then complete. Never half.
    let restarted = [("web", 'z', "containers")];
    cluster.stand_in.apply(web(&restarted)).unwrap();
    let last = step(&one).await;
    assert_eq!(served(&cluster, "web-0").await, Some(usages(&[("web", "250m")])), "held over a restart");
    let new = seen(WEB, 'z', 100_000_000, MIB).since(last);
    let last = step(std::slice::from_ref(&new)).await;
    until("the restarted container", async || {
        served(&cluster, "web-0").await == Some(usages(&[("web", "100m")]))
    })
    .await;

    // The node's own reading is missing: its entry is held, pods go on.
    let before = cluster.get("nodes/node-a").await.json();
    let second = cluster.began.elapsed().as_secs() + 1;
    let with_db = [new, seen(DB, 'e', 1_000_000, MIB).since(last)];
    cluster.walks_of(second..second + 3, 0, &with_db).await;
    until("another pod", async || served(&cluster, "db-0").await == Some(usages(&[("db", "1m")]))).await;
    let after = cluster.get("nodes/node-a").await.json();
    assert_eq!((&after["timestamp"], &after["usage"]), (&before["timestamp"], &before["usage"]));

    // A pod that is to be deleted is served while it runs, and no longer, though its status is not there yet.
    let mut leaving = web(&restarted);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    cluster.stand_in.apply(leaving).unwrap();
    let second = cluster.began.elapsed().as_secs() + 1;
    cluster.walks(second..second + 3, &with_db).await;
    let stamp =
        async |object: &str| cluster.get(object).await.json()["timestamp"].as_str().map(str::to_owned);
    until("later values of it", async || {
        stamp("namespaces/shop/pods/web-0").await == stamp("nodes/node-a").await
    })
    .await;
    step(&with_db[1..]).await;
    until("a pod of which nothing is left goes", async || served(&cluster, "web-0").await.is_none()).await;
    assert!(served(&cluster, "db-0").await.is_some());
    cluster.stand_in.apply(web(&restarted)).unwrap();
    step(&with_db).await;
    until("the pod is back", async || served(&cluster, "web-0").await.is_some()).await;

    // Only running pods; objects that are deleted go at once, whatever the age of their values.
    let done = pod(("shop", "db-0", DB), "Succeeded", &none, &[("db", 'e', "containers")]);
    cluster.stand_in.apply(done).unwrap();
    until("a finished pod goes", async || served(&cluster, "db-0").await.is_none()).await;
    assert!(cluster.stand_in.delete(Kind::Pod, "shop", "web-0"));
    until("a deleted pod goes", async || served(&cluster, "web-0").await.is_none()).await;
    assert_eq!(
        cluster.get("namespaces/shop/pods/web-0").await.json()["message"],
        r#"pods "web-0" not found"#
    );

    // The agent is silent: values are held with honest timestamps up to the maximum age, and then gone.
    assert_eq!(cluster.names("nodes").await, ["node-a"], "held while its agent is silent");
    step(&[]).await;
    let last = cluster.get("nodes/node-a").await.json();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(cluster.get("nodes/node-a").await.json()["timestamp"], last["timestamp"]);
    let gone = async || cluster.names("nodes").await.is_empty();
    until("values of a silent agent go", gone).await;
    let message = cluster.get("nodes/node-a").await.json()["message"].clone();
    assert_eq!(message, r#"nodemetrics.metrics.k8s.io "node-a" not found"#);

    // A node that is deleted.
    step(&[]).await;
    until("the node is back", async || cluster.names("nodes").await == ["node-a"]).await;
    assert!(cluster.stand_in.delete(Kind::Node, "", "node-a"));
    until("a deleted node goes", async || cluster.names("nodes").await.is_empty()).await;
    assert_eq!(cluster.get("nodes/node-a").await.json()["message"], r#"node "node-a" not found"#);
}
