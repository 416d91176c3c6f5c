//! Section 12: too much at once, and what takes too long. The API server leaves reviews of access unanswered, so that
//! requests wait.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{runtime::Runtime, task::JoinSet};
use waggle_stand_in::Fault;

use crate::{
    common::{Caller, MASTER, Protocol, until, until_within},
    world::{BASE, Cluster, header},
};

/// Requests in flight that are taken, as upstream.
const PLACES: usize = 400;

#[test]
fn too_much_and_too_late_are_told_apart() {
    Runtime::new().unwrap().block_on(async {
        let cluster = Cluster::start(&[]).await;
        for protocol in Protocol::BOTH {
            both(&cluster, protocol).await;
        }
    });
}

async fn both(cluster: &Cluster, protocol: Protocol) {
    let nodes = format!("{BASE}/v1/nodes");
    // A user of this version's own: denials are remembered.
    let name = format!("{protocol:?}");
    let user = [("x-remote-user", &*name)];
    cluster.stand_in.fault("create subjectaccessreviews", Fault::Hang, 1000);
    let caller = cluster.proxied(protocol);
    let late = caller.get(&format!("{nodes}?timeout=1s"), &user).await;
    let message = "Timeout: request did not complete within the allotted timeout";
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "Timeout", "details": {}, "code": 504,
    });
    assert_eq!((late.status.as_u16(), late.json()), (504, expected), "{protocol:?}");

    // Places are taken over HTTP/2, on two connections (one has 250 streams): 400 handshakes would take longer than a review.
    let proxied = || cluster.proxied(Protocol::Http2);
    let waiting = [proxied(), proxied()].map(|caller| waiting(caller, &name, &nodes));
    // On a busy machine a review may be given up (500) before all places are taken: then it begins again.
    let mut refused = None;
    until_within(Duration::from_mins(1), "a refusal", async || {
        let answer = caller.get(&format!("{nodes}?timeout=100ms"), &user).await;
        refused = Some(answer).filter(|answer| answer.status.as_u16() == 429);
        refused.is_some()
    })
    .await;
    let refused = refused.unwrap();
    assert_eq!(refused.body, "Too many requests, please try again later.\n");
    assert_eq!(header(&refused, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(caller.get(&nodes, &MASTER).await.status.as_u16(), 200, "masters need no place");

    drop(waiting);
    cluster.stand_in.clear_faults();
    // Somebody else: that user's review still hangs.
    let other = format!("not {name}");
    let other = [("x-remote-user", &*other)];
    until("places", async || caller.get(&nodes, &other).await.status.as_u16() == 403).await;
}

/// Half of all places, taken again whenever they are lost.
fn waiting(caller: Caller, user: &str, path: &str) -> JoinSet<()> {
    let caller = Arc::new(caller);
    let wait = |_| {
        let (caller, user, path) = (Arc::clone(&caller), user.to_owned(), path.to_owned());
        async move {
            loop {
                caller.get(&path, &[("x-remote-user", &*user)]).await;
            }
        }
    };
    (0..PLACES / 2).map(wait).collect()
}
