//! The API server fails under a running replica: what goes on, what is refused, what comes back by itself (design.md, "Faults").
//! The real binary, the stand-in with faults, and the agent's own stream code; only the walks are invented.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands, helpers included")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Aggregator, MASTER, NODES, Protocol, until, until_within};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use waggle_agent::{
    collect::{self, CgroupId, Memory, NodeTotals, Sample, Snapshot},
    identify::{ContainerId, Identity},
    report::{Config, Metrics, Publisher, Reporter, Target},
};
use waggle_stand_in::{Authority, Fault, Kind, Rule, StandIn, TokenSpec};

const PODS: &str = "/apis/metrics.k8s.io/v1/pods";
const SERVER: &str = "waggle-ingest.waggle-system.svc";
const CONFIG: (Kind, &str, &str) = (Kind::ConfigMap, "kube-system", "extension-apiserver-authentication");

fn uid(number: usize) -> String {
    format!("0d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a{number:02}")
}

fn pod(namespace: &str, name: &str, uid: &str, account: &str, container: Option<usize>) -> Value {
    let status = container.map(|number| {
        json!({"name": "c", "containerID": format!("containerd://{}", format!("{number:02}").repeat(32)),
               "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    });
    json!({
        "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "spec": {"nodeName": "node-a", "serviceAccountName": account,
                 "containers": container.map(|_| json!({"name": "c"})).into_iter().collect::<Vec<_>>()},
        "status": {"phase": "Running", "containerStatuses": status.into_iter().collect::<Vec<_>>()},
    })
}

/// A pod whose container the walks know, among ten.
fn web(number: usize) -> Value {
    pod("shop", &format!("web-{number}"), &uid(number), "default", Some(number))
}

fn walk(began: Instant) -> Snapshot {
    let nanos = u64::try_from(began.elapsed().as_micros()).unwrap() * 1000;
    let (boot, real) = collect::clocks();
    let sample = |number: usize| Sample {
        cgroup: CgroupId(number as u64 + 100),
        identity: Arc::new(Identity {
            pod: uid(number).as_str().into(),
            container: ContainerId::from_hex(&format!("{number:02}").repeat(32)),
        }),
        cpu_ns: Some(5_000_000_000 + nanos / 100),
        late: false,
        memory: Some(Memory { usage_pages: 256, inactive_file_pages: 0, swap_pages: None }),
    };
    Snapshot {
        boot,
        real,
        node: NodeTotals {
            cpu_ns: Some(70_000_000_000 + nanos / 4),
            working_set_bytes: Some(1 << 28),
            swap_bytes: None,
        },
        samples: (0..10).map(sample).collect(),
    }
}

/// A stand-in with a node, an agent's pod and `web-0`, and a replica in front of it.
struct World {
    stand_in: StandIn,
    aggregator: Aggregator,
    files: tempfile::TempDir,
}

/// An agent that walks and streams until it is dropped.
struct Agent {
    publisher: Publisher,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    /// `before` prepares the stand-in before the replica starts.
    async fn new(before: impl FnOnce(&StandIn)) -> Self {
        let stand_in = StandIn::builder().start().await.unwrap();
        let size = json!({"cpu": "2", "memory": "1Gi", "pods": "110"});
        stand_in
            .apply(json!({"kind": "Node", "metadata": {"name": "node-a", "uid": "node-a-uid"},
                          "status": {"capacity": size, "allocatable": size}}))
            .unwrap();
        stand_in.apply(pod("waggle-system", "waggle-agent-x", &uid(99), "waggle-agent", None)).unwrap();
        stand_in.apply(web(0)).unwrap();
        stand_in.allow(Rule::resources("reader", &["list"], "metrics.k8s.io", &["pods", "nodes"]));
        before(&stand_in);
        let files = tempfile::tempdir().unwrap();
        let ca = Authority::new("waggle-ca").unwrap();
        let serving = ca.serving(&["127.0.0.1", SERVER]).unwrap();
        let token = stand_in.issue_token(&TokenSpec {
            namespace: "waggle-system".into(),
            service_account: "waggle-agent".into(),
            pod: Some(("waggle-agent-x".into(), uid(99))),
            node: Some(("node-a".into(), "node-a-uid".into())),
            audiences: vec!["waggle.aggregator".into()],
            ttl: Duration::from_hours(1),
        });
        for (name, text) in [
            ("kubeconfig", &*stand_in.aggregator_kubeconfig().unwrap()),
            ("tls.crt", &*serving.certificate_pem),
            ("tls.key", &*serving.key_pem),
            ("ca.crt", ca.pem()),
            ("token", &*token.unwrap()),
        ] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        let mut aggregator = Aggregator::launch(files.path(), &common::FILES).await;
        aggregator.roots.add(ca.der()).unwrap();
        Self { stand_in, aggregator, files }
    }

    fn agent(&self) -> Agent {
        let began = Instant::now();
        let reporter = Reporter::new(
            Config {
                aggregators: vec![Target::Address(self.aggregator.ingest)],
                ca_file: self.files.path().join("ca.crt"),
                server_name: SERVER.try_into().unwrap(),
                token_file: self.files.path().join("token"),
                boot_id: "5b0c7e0e-0000-4000-8000-000000000001".into(),
                collector: "bpf".into(),
                refusals: Vec::new(),
                page_size: 4096,
                clocks: Arc::new(collect::clocks),
            },
            Metrics::default(),
        );
        let (publisher, walking) = (reporter.publisher(), reporter.publisher());
        let stream = tokio::spawn(reporter.run(std::future::pending()));
        let walks = tokio::spawn(async move {
            loop {
                walking.publish(&walk(began));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Agent { publisher, tasks: [stream, walks] }
    }

    /// The answer to somebody behind the front proxy.
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> common::Answer {
        self.aggregator
            .caller(Some(self.stand_in.front_proxy_client()), Protocol::Http2)
            .get(path, headers)
            .await
    }

    /// Names and stamps of the pods that are served.
    async fn served(&self) -> Vec<(String, String)> {
        let answer = self.ask(PODS, &MASTER).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = answer.json();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| (text(&item["metadata"]["name"]), text(&item["timestamp"]))).collect()
    }

    async fn serves(&self, names: &[&str]) {
        until(&format!("{names:?}"), async || {
            self.served().await.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>() == names
        })
        .await;
    }

    /// The values of `web-0` get younger.
    async fn flows(&self) {
        let stamp =
            async || self.served().await.into_iter().find(|(name, _)| name == "web-0").expect("web-0").1;
        let before = stamp().await;
        until("a younger value", async || stamp().await > before).await;
    }

    async fn readiness(&self) -> (StatusCode, String) {
        let answer = self.aggregator.caller(None, Protocol::Http1).get("/readyz?verbose", &[]).await;
        (answer.status, answer.body)
    }

    async fn ready(&self) {
        until("readiness", async || self.readiness().await.0 == StatusCode::OK).await;
    }

    async fn counted(&self, line: &str) -> u64 {
        self.aggregator.metric(&self.stand_in, line).await
    }
}

const READER: [(&str, &str); 1] = [("x-remote-user", "reader")];
const OTHER: [(&str, &str); 1] = [("x-remote-user", "other")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_api_server_leaves_known_pods_served() {
    let world = World::new(|_| {}).await;
    let _agent = world.agent();
    world.aggregator.knows_the_front_proxy(&world.stand_in).await;
    world.serves(&["web-0"]).await;
    world.ready().await;
    assert_eq!(world.ask(PODS, &READER).await.status, StatusCode::OK, "asked before the loss, and kept");

    let lost = Instant::now();
    world.stand_in.stop().await;
    // Meanwhile one pod comes and the history is forgotten, so that only a new list can tell.
    world.stand_in.apply(web(1)).unwrap();
    world.stand_in.compact();
    world.flows().await;
    assert_eq!(
        world.ask(PODS, &READER).await.status,
        StatusCode::OK,
        "what was allowed within 10 s stays allowed"
    );
    assert!(lost.elapsed() < Duration::from_secs(10), "too slow a machine to say: {:?}", lost.elapsed());
    let began = Instant::now();
    let answer = world.ask(PODS, &OTHER).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "who was never asked about is not let in");
    assert!(
        answer.body.starts_with("Internal Server Error: \"/apis/metrics.k8s.io/v1/pods\": "),
        "{}",
        answer.body
    );
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let stranger = [("authorization", "Bearer unknown")];
    let caller = world.aggregator.caller(None, Protocol::Http1);
    assert_eq!(caller.get(PODS, &stranger).await.status, StatusCode::UNAUTHORIZED);
    world.flows().await;
    assert_eq!(world.served().await.len(), 1, "new pods wait");
    assert_eq!(world.readiness().await.0, StatusCode::OK, "it has what it serves from");

    world.stand_in.resume().await.unwrap();
    // The pause between attempts has grown with the outage, to 45 s at most.
    until_within(Duration::from_secs(50), "the pod that came meanwhile", async || {
        world.served().await.len() == 2
    })
    .await;
    assert!(world.counted("waggle_watch_lists_total{resource=\"pods\"}").await > 1, "410: listed anew");
    assert_eq!(world.ask(PODS, &OTHER).await.status, StatusCode::FORBIDDEN, "reviewed again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_gone_refused_or_cut_come_back() {
    for (fault, times) in [
        (Fault::Gone, 1),
        (Fault::Status(429, Some(Duration::from_secs(1))), 2),
        (Fault::Status(500, None), 1),
        (Fault::Cut, 2),
    ] {
        let world = World::new(|stand_in| {
            for resource in ["pods", "nodes", "configmaps"] {
                stand_in.fault(&*format!("watch {resource}"), fault, times);
                if fault != Fault::Gone {
                    stand_in.fault(&*format!("list {resource}"), fault, times);
                }
            }
        })
        .await;
        let _agent = world.agent();
        world.aggregator.knows_the_front_proxy(&world.stand_in).await;
        world.serves(&["web-0"]).await;
        world.ready().await;
        for resource in ["pods", "nodes", "configmaps"] {
            let line = format!("waggle_watch_failures_total{{resource=\"{resource}\"}}");
            until("the fault", async || world.counted(&line).await >= 1).await;
        }
        // What changes after the faults comes through the watches.
        world.stand_in.apply(web(1)).unwrap();
        world.serves(&["web-0", "web-1"]).await;
        assert!(world.stand_in.delete(Kind::Pod, "shop", "web-0"));
        world.serves(&["web-1"]).await;
        let mut config = world.stand_in.authentication_config();
        config["data"]["requestheader-username-headers"] = json!(r#"["X-New-User"]"#);
        world.stand_in.apply(config).unwrap();
        until("the new header", async || {
            world.ask("/version", &[("x-new-user", "a")]).await.status == StatusCode::OK
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_hangs_is_asked_anew_and_holds_nobody_up() {
    let world = World::new(|stand_in| stand_in.fault("list pods", Fault::Hang, 1)).await;
    let _agent = world.agent();
    world.aggregator.knows_the_front_proxy(&world.stand_in).await;
    let answer = world.ask(NODES, &MASTER).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        world.ask("/apis/metrics.k8s.io/v1", &MASTER).await.status,
        StatusCode::OK,
        "discovery never waits"
    );
    let (code, body) = world.readiness().await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        body.contains("[-]metadata-informer-sync failed") && body.contains("[+]metric-informer-sync ok"),
        "{body}"
    );
    // 30 s until a list that brings nothing is given up.
    let silence = "waggle_watch_silences_total{resource=\"pods\"}";
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.counted(silence).await, 0);
    until("the second list", async || world.counted(silence).await == 1).await;
    world.serves(&["web-0"]).await;
    world.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_token_reviews_agents_wait_and_streams_that_are_up_go_on() {
    let world = World::new(|_| {}).await;
    world.aggregator.knows_the_front_proxy(&world.stand_in).await;
    let reviews = "create tokenreviews";
    world.stand_in.fault(reviews, Fault::Status(500, None), 1000);
    let agent = world.agent();
    let refused = "waggle_ingest_streams_refused_total{reason=\"review-unavailable\"}";
    until("a refusal", async || world.counted(refused).await >= 1).await;
    assert_eq!(agent.publisher.live_streams(), 0);
    world.stand_in.clear_faults();
    // By its own back-off.
    world.serves(&["web-0"]).await;
    world.stand_in.fault(reviews, Fault::Status(500, None), 1000);
    let token = world.stand_in.issue_user_token("reader", &[]).unwrap();
    let bearer = format!("Bearer {token}");
    let caller = world.aggregator.caller(None, Protocol::Http2);
    let began = Instant::now();
    assert_eq!(caller.get(PODS, &[("authorization", &bearer)]).await.status, StatusCode::UNAUTHORIZED);
    assert!(began.elapsed() < Duration::from_secs(10), "all tries together: {:?}", began.elapsed());
    world.flows().await;
    assert_eq!(
        world.ask(PODS, &READER).await.status,
        StatusCode::OK,
        "the front proxy needs no token review"
    );
    assert_eq!(agent.publisher.live_streams(), 1, "reviewed once per stream");
    world.stand_in.clear_faults();
    assert_eq!(caller.get(PODS, &[("authorization", &bearer)]).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_of_an_agent_that_hangs_is_given_up_and_made_again() {
    let world = World::new(|_| {}).await;
    world.aggregator.knows_the_front_proxy(&world.stand_in).await;
    world.stand_in.fault("create tokenreviews", Fault::Hang, 1);
    let began = Instant::now();
    let _agent = world.agent();
    let refused = "waggle_ingest_streams_refused_total{reason=\"review-unavailable\"}";
    until("a refusal", async || world.counted(refused).await == 1).await;
    assert!(began.elapsed() >= Duration::from_secs(9), "10 s for a review: {:?}", began.elapsed());
    world.serves(&["web-0"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_access_reviews_only_masters_and_health_are_answered() {
    let world = World::new(|_| {}).await;
    let _agent = world.agent();
    world.aggregator.knows_the_front_proxy(&world.stand_in).await;
    world.serves(&["web-0"]).await;
    world.ready().await;
    world.stand_in.fault("create subjectaccessreviews", Fault::Status(503, None), 1000);
    for protocol in Protocol::BOTH {
        let proxy = world.aggregator.caller(Some(world.stand_in.front_proxy_client()), protocol);
        let answer = proxy.get(PODS, &READER).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(proxy.get(PODS, &MASTER).await.status, StatusCode::OK);
        let anonymous = world.aggregator.caller(None, protocol);
        assert_eq!(anonymous.get("/readyz", &[]).await.status, StatusCode::OK);
        assert_eq!(anonymous.get("/version", &[]).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    world.stand_in.clear_faults();
    assert_eq!(world.ask(PODS, &READER).await.status, StatusCode::OK, "the failure was not kept");
}

/// Before the ConfigMap is there, callers are told to come back, not that they may not.
async fn unconfigured(world: &World) {
    for protocol in Protocol::BOTH {
        let proxy = world.aggregator.caller(Some(world.stand_in.front_proxy_client()), protocol);
        assert_eq!(
            proxy.get(PODS, &MASTER).await.status,
            StatusCode::UNAUTHORIZED,
            "never anonymous, never believed"
        );
        let anonymous = world.aggregator.caller(None, protocol);
        assert_eq!(
            anonymous.get("/livez", &MASTER).await.status,
            StatusCode::OK,
            "waiting is no reason to be killed"
        );
        let token = world.stand_in.issue_user_token("reader", &[]).unwrap();
        let bearer = format!("Bearer {token}");
        assert_eq!(anonymous.get(PODS, &[("authorization", &bearer)]).await.status, StatusCode::OK);
    }
    let (code, body) = world.readiness().await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("[-]metric-informer-sync failed"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configmap_that_is_missing_or_torn_at_start_is_waited_for() {
    for torn in [false, true] {
        let world = World::new(|stand_in| {
            let mut config = stand_in.authentication_config();
            config["data"]["requestheader-allowed-names"] = json!("[");
            if torn {
                stand_in.apply(config).unwrap();
            } else {
                assert!(stand_in.delete(CONFIG.0, CONFIG.1, CONFIG.2));
            }
        })
        .await;
        let _agent = world.agent();
        let bearer = format!("Bearer {}", world.stand_in.issue_user_token("reader", &[]).unwrap());
        until("values", async || {
            let caller = world.aggregator.caller(None, Protocol::Http2);
            caller.get(PODS, &[("authorization", &bearer)]).await.body.contains("web-0")
        })
        .await;
        unconfigured(&world).await;
        world.stand_in.apply(world.stand_in.authentication_config()).unwrap();
        world.aggregator.knows_the_front_proxy(&world.stand_in).await;
        world.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_configmap_configures_no_front_proxy() {
    let world = World::new(|stand_in| {
        let mut config = stand_in.authentication_config();
        config["data"] = json!({});
        stand_in.apply(config).unwrap();
    })
    .await;
    let _agent = world.agent();
    world.ready().await;
    for protocol in Protocol::BOTH {
        let proxy = world.aggregator.caller(Some(world.stand_in.front_proxy_client()), protocol);
        let answer = proxy.get(PODS, &MASTER).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "nobody's certificates count: anonymous");
        assert!(answer.body.contains("system:anonymous"), "{}", answer.body);
    }
}
