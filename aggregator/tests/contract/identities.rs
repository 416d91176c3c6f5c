//! Section 6: whose the values are: a counter that went back, a static pod under the hash of its manifest, a pod that two
//! nodes report.

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    common::until,
    world::{BEFORE, Cluster, WEB, pod, seen},
};

const MIB: u64 = 256;
const HASH: &str = "0123456789abcdef0123456789abcdef";
const MIRROR: &str = "4d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const ELSEWHERE: &str = "5d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

fn objects() -> [Value; 3] {
    let none = json!({});
    let two = [("web", 'a', "containers"), ("extra", 'b', "containers")];
    let web = pod(("shop", "web-0", WEB), "Running", &none, &two);
    let mut mirror = pod(("kube-system", "etcd-a", MIRROR), "Running", &none, &[("etcd", 'c', "containers")]);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": HASH});
    mirror["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "node-a-uid", "controller": true}]);
    let mut elsewhere = pod(("shop", "away", ELSEWHERE), "Running", &none, &[("c", 'd', "containers")]);
    elsewhere["spec"]["nodeName"] = json!("node-b");
    [web, mirror, elsewhere]
}

#[test]
fn values_belong_to_whom_the_api_says() {
    Runtime::new().unwrap().block_on(story());
}

async fn story() {
    let cluster = Cluster::start(&["--max-age", "60s"]).await;
    for object in objects() {
        cluster.stand_in.apply(object).unwrap();
    }
    let containers = [
        seen(WEB, 'a', 250_000_000, 64 * MIB),
        seen(WEB, 'b', 100_000_000, MIB),
        seen(HASH, 'c', 50_000_000, MIB),
        seen(ELSEWHERE, 'd', 1_000_000, MIB),
    ];
    cluster.walks(0..3, &containers).await;
    let web = "namespaces/shop/pods/web-0";
    until("values", async || cluster.get(web).await.status == 200).await;

    // A static pod is served under the name of its mirror.
    let mirror = cluster.get("namespaces/kube-system/pods/etcd-a").await.json();
    assert_eq!(mirror["containers"], json!([{"name": "etcd", "usage": {"cpu": "50m", "memory": "1Mi"}}]));
    // What node-a says of a pod of node-b is not taken.
    assert_eq!(cluster.names("namespaces/shop/pods").await, ["web-0"]);
    assert_eq!(cluster.get("namespaces/shop/pods/away").await.status, 404);

    // One counter goes back within its cgroup: the whole pod is held, with its own time; the others go on.
    let held = cluster.get(web).await.json();
    let second = cluster.began.elapsed().as_secs() + 2;
    let mut back = containers;
    back[0] = back[0].clone().since(BEFORE + second - 2);
    cluster.walks(second..second + 1, &back).await;
    until("later values of the others", async || {
        let mirror = cluster.get("namespaces/kube-system/pods/etcd-a").await.json();
        mirror["timestamp"].as_str() > held["timestamp"].as_str()
    })
    .await;
    let still = cluster.get(web).await.json();
    assert_eq!(
        (&still["timestamp"], &still["window"], &still["containers"]),
        (&held["timestamp"], &held["window"], &held["containers"]),
        "held, never partial and never null"
    );
    // From there on it counts again.
    cluster.walks(second + 1..second + 3, &back).await;
    until("new values", async || {
        cluster.get(web).await.json()["timestamp"].as_str() > held["timestamp"].as_str()
    })
    .await;
    let usages = cluster.get(web).await.json()["containers"].clone();
    assert_eq!((&usages[0]["usage"]["cpu"], &usages[1]["usage"]["cpu"]), (&json!("250m"), &json!("100m")));
}
