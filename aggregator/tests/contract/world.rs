//! A cluster with one node that reports and one that does not, and what is asked of it. The numbers are fixed: the agent
//! sends three walks and then nothing more, and the aggregator is told to hold them.

use std::{
    fmt::Debug,
    sync::{Arc, LazyLock, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};
use waggle_agent::{
    collect::{BootTime, CgroupId, Memory, NodeTotals, RealTime, Sample, Snapshot},
    identify::{ContainerId, Identity},
    report::{Config, Metrics, Publisher, Reporter, Target},
};
use waggle_stand_in::{Authority, StandIn, TokenSpec};

use crate::common::{Aggregator, Answer, Caller, MASTER, Protocol, until};

pub const BASE: &str = "/apis/metrics.k8s.io";
pub const AGENT: &str = "11111111-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const BOOT: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
/// Seconds that the node was up when the agent began.
pub const BEFORE: u64 = 100;

/// A container that the agent sees: pod UID, the letter that its id is made of, nanocores, pages.
#[derive(Debug, Clone)]
pub struct Seen {
    pod: String,
    letter: char,
    cpu: u64,
    pages: u64,
    since: u64,
}

impl Seen {
    /// Its CPU counter was zero at that second.
    pub fn since(mut self, second: u64) -> Self {
        self.since = second;
        self
    }
}

pub fn seen(pod: &str, letter: char, cpu: u64, pages: u64) -> Seen {
    Seen { pod: pod.to_owned(), letter, cpu, pages, since: 0 }
}

/// UIDs of pods.
pub const WEB: &str = "0d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
pub const DB: &str = "2d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const MANY: &str = "3d6b3f2a-1c2d-4e5f-8a9b-0000000000";

/// A pod of `node-a`: containers by name, letter and list (`containers`, `initContainers`, `ephemeralContainers`).
pub fn pod(
    (namespace, name, uid): (&str, &str, &str),
    phase: &str,
    labels: &Value,
    containers: &[(&str, char, &str)],
) -> Value {
    let of = |list: &'static str| containers.iter().filter(move |(_, _, of)| *of == list);
    let spec = |list: &'static str| {
        of(list).map(|(name, ..)| json!({"name": name, "restartPolicy": "Always"})).collect::<Vec<_>>()
    };
    let status = |list: &'static str| {
        let running = |(name, letter, _): &(&str, char, &str)| {
            json!({"name": name, "containerID": format!("containerd://{}", hex(*letter)),
                   "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
        };
        of(list).map(running).collect::<Vec<_>>()
    };
    json!({
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels,
                     "annotations": {"secret": "not to be shown"}},
        "spec": {"nodeName": "node-a", "serviceAccountName": "waggle-agent", "containers": spec("containers"),
                 "initContainers": spec("initContainers"), "ephemeralContainers": spec("ephemeralContainers")},
        "status": {"phase": phase, "containerStatuses": status("containers"),
                   "initContainerStatuses": status("initContainers"),
                   "ephemeralContainerStatuses": status("ephemeralContainers")},
    })
}

fn objects() -> Vec<Value> {
    let node = |name: &str| {
        let size = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        json!({"kind": "Node", "metadata": {"name": name, "uid": format!("{name}-uid"), "labels": {"zone": name}},
               "status": {"capacity": size, "allocatable": size}})
    };
    let unlabelled = json!({});
    let mut objects = vec![
        node("node-a"),
        node("node-b"),
        pod(("waggle-system", "waggle-agent-x", AGENT), "Running", &unlabelled, &[]),
        pod(
            ("shop", "web-0", WEB),
            "Running",
            &json!({"app": "web", "tier": "front", "rev": "7"}),
            &[
                ("web", 'a', "containers"),
                ("extra", 'b', "containers"),
                ("proxy", 'c', "initContainers"),
                ("debug", 'd', "ephemeralContainers"),
            ],
        ),
        pod(("shop", "db-0", DB), "Running", &unlabelled, &[("db", 'e', "containers")]),
        pod(("shop", "new", "new-uid"), "Running", &unlabelled, &[("c", 'f', "containers")]),
        pod(("shop", "done", "done-uid"), "Succeeded", &unlabelled, &[("c", 'f', "containers")]),
        pod(("shop", "waiting", "waiting-uid"), "Pending", &unlabelled, &[]),
    ];
    // Enough labels for an answer of more than 128 KiB.
    let labels: serde_json::Map<String, Value> = (0..80)
        .map(|label| (format!("a-label-with-a-long-name-{label:02}"), "x".repeat(60).into()))
        .collect();
    for (index, letter) in many() {
        let (name, uid) = (format!("many-{index:02}"), format!("{MANY}{index:02}"));
        let labels = Value::Object(labels.clone());
        let container = [("c", letter, "containers")];
        objects.push(pod(("many", &name, &uid), "Running", &labels, &container));
    }
    objects
}

/// Pods with many labels.
fn many() -> impl Iterator<Item = (usize, char)> {
    "ghijklmnopqrstuvwxyz".chars().enumerate()
}

fn of_the_shop() -> Vec<Seen> {
    // Not in the order in which they are served.
    vec![
        seen(WEB, 'd', 1_500_000, 3),
        seen(WEB, 'a', 1_234_624_492, 786_433),
        seen(DB, 'e', 250_000_000, 12_800),
        seen(WEB, 'c', 1_000_000_000, 1),
        seen(WEB, 'b', 0, 0),
    ]
}

/// The walk at that second since boot.
pub fn walk(second: u64, real: RealTime, working_set: u64, containers: &[Seen]) -> Snapshot {
    let sample = |seen: &Seen| Sample {
        cgroup: CgroupId(u64::from(u32::from(seen.letter))),
        identity: Arc::new(Identity {
            pod: seen.pod.as_str().into(),
            container: ContainerId::from_hex(&hex(seen.letter)),
        }),
        cpu_ns: Some(seen.cpu * (second - seen.since)),
        late: false,
        // A container in which something runs is charged for it, however small its working set.
        memory: Some(Memory { usage_pages: seen.pages + 8, inactive_file_pages: 8, swap_pages: None }),
    };
    Snapshot {
        boot: BootTime(BOOT + second * SECOND),
        real,
        node: NodeTotals {
            cpu_ns: Some(500_000_000 * second + 1),
            working_set_bytes: Some(working_set),
            swap_bytes: None,
        },
        samples: containers.iter().map(sample).collect(),
    }
}

fn hex(letter: char) -> String {
    format!("{:02x}", u32::from(letter)).repeat(32)
}

pub fn since_epoch() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Stand-in, aggregator and the agent of `node-a`.
pub struct Cluster {
    pub stand_in: StandIn,
    pub aggregator: Aggregator,
    pub publisher: Publisher,
    pub began: Instant,
    stream: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

impl Cluster {
    /// Everything up; nothing walked yet.
    pub async fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stand_in = StandIn::builder().start().await.unwrap();
        for object in objects() {
            stand_in.apply(object).unwrap();
        }
        let ca = Authority::new("waggle-ca").unwrap();
        let serving = ca.serving(&["127.0.0.1", "waggle-ingest.waggle-system.svc"]).unwrap();
        let token = stand_in.issue_token(&TokenSpec {
            namespace: "waggle-system".into(),
            service_account: "waggle-agent".into(),
            pod: Some(("waggle-agent-x".into(), AGENT.into())),
            node: Some(("node-a".into(), "node-a-uid".into())),
            audiences: vec!["waggle.aggregator".into()],
            ttl: Duration::from_hours(1),
        });
        let path = directory.path();
        for (name, text) in [
            ("kubeconfig", &*stand_in.aggregator_kubeconfig().unwrap()),
            ("tls.crt", &*serving.certificate_pem),
            ("tls.key", &*serving.key_pem),
            ("ca.crt", ca.pem()),
            ("token", &*token.unwrap()),
        ] {
            std::fs::write(path.join(name), text).unwrap();
        }
        let mut aggregator = Aggregator::launch(path, &[&crate::common::FILES, flags].concat()).await;
        aggregator.roots.add(ca.der()).unwrap();
        aggregator.knows_the_front_proxy(&stand_in).await;
        let began = Instant::now();
        let config = Config {
            aggregators: vec![Target::Address(aggregator.ingest)],
            ca_file: path.join("ca.crt"),
            server_name: "waggle-ingest.waggle-system.svc".try_into().unwrap(),
            token_file: path.join("token"),
            boot_id: "5b0c7e0e-0000-4000-8000-000000000001".into(),
            collector: "bpf".into(),
            refusals: Vec::new(),
            page_size: 4096,
            clocks: Arc::new(move || {
                let elapsed = u64::try_from(began.elapsed().as_nanos()).unwrap();
                (BootTime(BOOT + BEFORE * SECOND + elapsed), RealTime(since_epoch()))
            }),
        };
        let reporter = Reporter::new(config, Metrics::default());
        let publisher = reporter.publisher();
        let stream = tokio::spawn(reporter.run(std::future::pending()));
        Self { stand_in, aggregator, publisher, began, stream, _directory: directory }
    }

    /// Walks at each of these seconds after the start, at its time.
    pub async fn walks(&self, seconds: std::ops::Range<u64>, containers: &[Seen]) {
        self.walks_of(seconds, 512 << 20, containers).await;
    }

    /// The same, with the node's memory too.
    pub async fn walks_of(&self, seconds: std::ops::Range<u64>, working_set: u64, containers: &[Seen]) {
        for second in seconds {
            let due = self.began + Duration::from_secs(second);
            tokio::time::sleep_until(due.into()).await;
            self.publisher.publish(&walk(BEFORE + second, RealTime(since_epoch()), working_set, containers));
        }
    }

    /// As a user whom the front proxy names.
    pub fn proxied(&self, protocol: Protocol) -> Caller {
        self.aggregator.caller(Some(self.stand_in.front_proxy_client()), protocol)
    }

    /// As somebody who may do everything; over HTTP/2.
    pub async fn get(&self, path: &str) -> Answer {
        self.proxied(Protocol::Http2).get(&format!("{BASE}/v1beta1/{path}"), &MASTER).await
    }

    /// The pods that are served.
    pub async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await.json();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    }
}

/// A cluster whose numbers stay, shared by the tests that only read.
pub struct World {
    pub cluster: Cluster,
    runtime: Runtime,
}

impl World {
    /// The one that another test uses at this moment, else a new one: it ends with the last test that uses it.
    pub fn shared() -> Arc<Self> {
        static WORLD: LazyLock<Mutex<Weak<World>>> = LazyLock::new(Mutex::default);
        let mut shared = WORLD.lock();
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(async {
            let cluster = Cluster::start(&["--max-age", "30m"]).await;
            let mut containers = of_the_shop();
            containers
                .extend(many().map(|(index, letter)| seen(&format!("{MANY}{index:02}"), letter, 1000, 1)));
            cluster.walks(0..3, &containers).await;
            until("values", async || {
                let list = cluster.get("namespaces/shop/pods").await.json();
                list["items"].as_array().unwrap().len() == 2 && list["items"][0]["window"] == "2s"
            })
            .await;
            cluster
        });
        let world = Arc::new(Self { cluster, runtime });
        *shared = Arc::downgrade(&world);
        world
    }

    /// Tries a table over both versions of HTTP, as somebody who may do everything.
    #[allow(clippy::needless_pass_by_value, reason = "rows are written where the table is tried")]
    pub fn table(&self, name: &str, rows: impl AsyncFn(&mut Rows, &Client)) {
        self.runtime.block_on(async {
            for protocol in Protocol::BOTH {
                let mut table = Rows { tried: 0, different: Vec::new() };
                let client =
                    Client { caller: self.cluster.proxied(protocol), cluster: &self.cluster, protocol };
                rows(&mut table, &client).await;
                let Rows { tried, different } = table;
                assert!(tried > 0, "{name}: nothing was compared");
                let told = different.join("\n");
                assert!(
                    different.is_empty(),
                    "{name}, {protocol:?}: {} of {tried} rows differ\n{told}",
                    different.len()
                );
            }
        });
    }
}

/// Rows of a table: each is compared, and the table fails in the end.
pub struct Rows {
    tried: usize,
    different: Vec<String>,
}

impl Rows {
    #[allow(clippy::needless_pass_by_value, reason = "values are made for the row")]
    pub fn same<T: PartialEq + Debug>(&mut self, row: &str, actual: T, expected: T) {
        self.tried += 1;
        if actual != expected {
            self.different.push(format!("  {row}\n    is        {actual:?}\n    should be {expected:?}"));
        }
    }

    pub fn holds(&mut self, row: &str, holds: bool, told: impl Debug) {
        self.tried += 1;
        if !holds {
            self.different.push(format!("  {row}\n    {told:?}"));
        }
    }
}

/// Asks over one version of HTTP.
pub struct Client<'a> {
    pub caller: Caller,
    pub cluster: &'a Cluster,
    pub protocol: Protocol,
}

impl Client<'_> {
    /// As somebody who may do everything.
    pub async fn get(&self, path: &str) -> Answer {
        self.caller.get(path, &MASTER).await
    }

    /// The same, with another header.
    pub async fn with(&self, path: &str, header: &str, value: &str) -> Answer {
        self.caller.get(path, &[MASTER.as_slice(), &[(header, value)]].concat()).await
    }

    /// The same, with an `Accept` header.
    pub async fn accepting(&self, path: &str, accept: &str) -> Answer {
        self.with(path, "accept", accept).await
    }
}

/// A header's text; empty where there is unlabelled.
pub fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}
