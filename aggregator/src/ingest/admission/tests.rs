use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use tokio::{sync::watch, task::JoinHandle};
use tonic::Code;

use super::*;
use crate::{
    inventory::{Indexed, Labels},
    units::{Bytes, NanoCores},
};

#[test]
fn the_expiry_is_read_from_the_payload() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"aud":["x"],"exp":1700000000}"#);
    let at = expiry(&format!("e30.{payload}.sig"));
    assert_eq!(at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
    for opaque in ["", "opaque", "a.b.c", "e30.e30.sig"] {
        assert_eq!(expiry(opaque), None, "{opaque}");
    }
}

/// Answers never.
struct Silent;

impl TokenReviewer for Silent {
    fn review<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<Review, super::super::review::ReviewError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_storm_waits_in_a_queue_that_ends() {
    let admission = Admission::new(Arc::new(Silent), "a".into(), "n".into(), "s".into(), lists(true).1);
    let inventory = Inventory::default();
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", "Bearer x".parse().unwrap());
    let mut storm: Vec<_> =
        (0..REVIEWS + WAITING).map(|_| Box::pin(admission.admit(&metadata, &inventory))).collect();
    for (position, one) in storm.iter_mut().enumerate() {
        assert!(futures_util::poll!(one.as_mut()).is_pending(), "{position}");
    }
    assert_eq!(admission.in_flight.available_permits(), 0, "the first ones are being reviewed");
    let refusal = admission.admit(&metadata, &inventory).await.unwrap_err();
    assert_eq!(refusal, Refusal::QueueFull);
    let status = refusal.status();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    // Each one that leaves makes room.
    storm.pop();
    assert!(futures_util::poll!(Box::pin(admission.admit(&metadata, &inventory))).is_pending());
}

/// Finds every token good.
struct Good;

impl TokenReviewer for Good {
    fn review<'a>(
        &'a self,
        _: &'a str,
        audience: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<Review, super::super::review::ReviewError>> {
        let claims = [(POD_NAME, "p"), (POD_UID, "u"), (NODE_NAME, "n")];
        let extra = claims.map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
        let review = Review {
            authenticated: true,
            audiences: vec![audience.to_owned()],
            username: "system:serviceaccount:n:s".to_owned(),
            extra: extra.into(),
            ..Review::default()
        };
        Box::pin(async { Ok(review) })
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_a_stranger_before_pods_were_listed() {
    for (listed, refusal, code) in
        [(false, Refusal::NotListed, Code::Unavailable), (true, Refusal::PodMismatch, Code::PermissionDenied)]
    {
        let (_lists, listed) = lists(listed);
        let admission = Admission::new(Arc::new(Good), "a".into(), "n".into(), "s".into(), listed);
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Bearer x".parse().unwrap());
        let refused = admission.admit(&metadata, &Inventory::default()).await.unwrap_err();
        assert_eq!((refused, refused.status().code()), (refusal, code));
    }
}

#[test]
fn a_token_is_taken_from_a_bearer_header_only() {
    let with = |value: &str| {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        bearer(&metadata).map(str::to_owned)
    };
    assert_eq!(with("Bearer abc"), Ok("abc".to_owned()));
    assert_eq!(with("Basic abc"), Err(Refusal::TokenMissing));
    assert_eq!(with("Bearer "), Err(Refusal::TokenMissing));
    assert_eq!(with(&format!("Bearer {}", "x".repeat(MAX_TOKEN))), Err(Refusal::TokenTooLarge));
    assert_eq!(bearer(&MetadataMap::new()), Err(Refusal::TokenMissing));
}

/// The token is the name of the node, of its agent's pod, and the pod's UID.
struct PerNode;

impl TokenReviewer for PerNode {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audience: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<Review, super::super::review::ReviewError>> {
        let claims = [POD_NAME, POD_UID, NODE_NAME];
        let extra = claims.map(|key| (key.to_owned(), vec![token.to_owned()]));
        let review = Review {
            authenticated: true,
            audiences: vec![audience.to_owned()],
            username: "system:serviceaccount:n:s".to_owned(),
            extra: extra.into(),
            ..Review::default()
        };
        Box::pin(async { Ok(review) })
    }
}

/// Pods and Nodes, listed at the same time.
fn lists(listed: bool) -> (watch::Sender<bool>, Synced) {
    let (lists, listed) = watch::channel(listed);
    (lists, Synced::new(listed.clone(), listed))
}

/// Counts how often a future is polled.
struct Polled<F> {
    future: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.future.as_mut().poll(context)
    }
}

fn mk_node(name: &str) -> Node {
    Node {
        name: name.into(),
        uid: name.into(),
        labels: Labels::new(),
        cpu_capacity: NanoCores(0),
        memory_capacity: Bytes(0),
        pod_capacity: 0,
    }
}

fn mk_agent(name: &str) -> Pod {
    Pod {
        namespace: "n".into(),
        name: name.into(),
        uid: name.into(),
        static_uid: None,
        labels: Labels::new(),
        node: name.into(),
        service_account: "s".into(),
        running: true,
        terminating: false,
        containers: Vec::new(),
        indexed: Indexed::default(),
    }
}

/// Admissions of agents, and what they wait for.
struct Waiting {
    admission: Arc<Admission>,
    inventory: Inventory,
    listed: watch::Sender<bool>,
    polls: Arc<AtomicUsize>,
}

impl Waiting {
    fn new() -> Self {
        let (listed, is_listed) = lists(false);
        let admission = Admission::new(Arc::new(PerNode), "a".into(), "n".into(), "s".into(), is_listed);
        let (admission, inventory) = (Arc::new(admission), Inventory::default());
        // As `follow` does.
        let (followed, mut changes) = (Arc::clone(&admission), inventory.changes());
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
                followed.inventory_changed(&change.node);
            }
        });
        Self { admission, inventory, listed, polls: Arc::default() }
    }

    fn admit(&self, node: &str) -> JoinHandle<Result<Admitted, Refusal>> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {node}").parse().unwrap());
        let (admission, inventory) = (Arc::clone(&self.admission), self.inventory.clone());
        let future = Box::pin(async move { admission.admit(&metadata, &inventory).await });
        tokio::spawn(Polled { future, polls: Arc::clone(&self.polls) })
    }

    async fn announce(&self, name: &str) {
        self.inventory.apply_node(mk_node(name));
        self.inventory.apply_pod(mk_agent(name));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn polls(&self) -> usize {
        self.polls.swap(0, Ordering::Relaxed)
    }
}

/// Everything restarts at once: all agents connect before anything was listed.
#[tokio::test(start_paused = true)]
async fn a_herd_that_waits_for_the_lists_looks_up_once_each() {
    const NODES: usize = 300;
    let waiting = Waiting::new();
    let names: Vec<String> = (0..NODES).map(|number| format!("n{number}")).collect();
    let herd: Vec<_> = names.iter().map(|name| waiting.admit(name)).collect();
    for name in &names {
        waiting.announce(name).await;
    }
    waiting.listed.send_replace(true);
    for (one, name) in herd.into_iter().zip(&names) {
        assert_eq!(*one.await.unwrap().unwrap().node.name, **name);
    }
    let polls = waiting.polls();
    assert!(polls <= NODES * 4, "{NODES} admissions woke up {polls} times for {NODES} nodes and pods");
}

#[tokio::test(start_paused = true)]
async fn an_admission_wakes_up_for_the_node_that_it_claims_alone() {
    let waiting = Waiting::new();
    waiting.listed.send_replace(true);
    let admitted = [waiting.admit("n1"), waiting.admit("n1"), waiting.admit("n2")];
    waiting.announce("n2").await;
    waiting.polls();
    for number in 10..110 {
        waiting.announce(&format!("n{number}")).await;
    }
    assert_eq!((waiting.polls(), waiting.admission.waiters.nodes()), (0, 1));
    waiting.announce("n1").await;
    for (one, node) in admitted.into_iter().zip(["n1", "n1", "n2"]) {
        assert_eq!(*one.await.unwrap().unwrap().node.name, *node);
    }
    assert!((2..=4).contains(&waiting.polls()));
    assert_eq!(waiting.admission.waiters.nodes(), 0, "who waits no longer leaves nothing behind");
}
