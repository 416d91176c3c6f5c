//! The whole way of a number on loopback: the agent's own reporter → the real aggregator → a front proxy. Only the walks are
//! invented, so that the values are known exactly.

use std::{
    net::SocketAddr,
    path::Path,
    process::Output,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet};
use waggle_agent::{
    collect::{BootTime, CgroupId, Memory, NodeTotals, RealTime, Sample, Snapshot},
    identify::{ContainerId, Identity},
    report::{Config, Metrics, Reporter, Target},
};
use waggle_stand_in::{Authority, StandIn, TokenSpec};

use super::{Aggregator, FILES, until};

const POD: &str = "0d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const AGENT: &str = "11111111-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

/// An API server, an aggregator behind it, and what an agent needs to report: node-a with the pod shop/web-0.
pub struct World {
    pub stand_in: StandIn,
    pub aggregator: Aggregator,
    ca: Authority,
    directory: tempfile::TempDir,
}

impl World {
    /// The aggregator with these flags beside its files; both its APIServices are available.
    pub async fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let stand_in = StandIn::builder().start().await.unwrap();
        let ca = Authority::new("waggle-ca").unwrap();
        let serving = ca
            .serving(&["waggle.waggle-system.svc", "waggle-ingest.waggle-system.svc", "127.0.0.1"])
            .unwrap();
        for object in objects() {
            stand_in.apply(object).unwrap();
        }
        let token = stand_in.issue_token(&TokenSpec {
            namespace: "waggle-system".into(),
            service_account: "waggle-agent".into(),
            pod: Some(("waggle-agent-x".into(), AGENT.into())),
            node: Some(("node-a".into(), "node-a-uid".into())),
            audiences: vec!["waggle.aggregator".into()],
            ttl: Duration::from_hours(1),
        });
        for (name, text) in [
            ("kubeconfig", &*stand_in.aggregator_kubeconfig().unwrap()),
            ("admin", &*stand_in.admin_kubeconfig().unwrap()),
            ("outsider", &*stand_in.kubeconfig("bob", &[]).unwrap()),
            ("tls.crt", &*serving.certificate_pem),
            ("tls.key", &*serving.key_pem),
            ("ca.crt", ca.pem()),
            ("token", &*token.unwrap()),
        ] {
            std::fs::write(path.join(name), text).unwrap();
        }
        let mut aggregator = Aggregator::launch(path, &[&FILES, flags].concat()).await;
        aggregator.roots.add(ca.der()).unwrap();
        let world = Self { stand_in, aggregator, ca, directory };
        world.register().await;
        world
    }

    /// Another aggregator in the place of this one, which ends as it does when it is asked to.
    pub async fn restart(mut self, flags: &[&str]) -> Self {
        let mut next = Aggregator::launch(self.directory.path(), &[&FILES, flags].concat()).await;
        next.roots.add(self.ca.der()).unwrap();
        let last = std::mem::replace(&mut self.aggregator, next);
        self.register().await;
        assert_eq!(last.terminate().await.code(), Some(0));
        self
    }

    async fn register(&self) {
        self.stand_in.backend("waggle-system", "waggle", self.aggregator.api);
        for version in ["v1", "v1beta1"] {
            let service = ("waggle-system", "waggle");
            self.stand_in.register("metrics.k8s.io", version, service, self.ca.pem()).unwrap();
        }
        let names = ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"];
        until("availability", async || names.iter().all(|name| self.stand_in.is_available(name))).await;
    }

    /// The folder with the kubeconfigs `admin` and `outsider`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Reports a walk each second until what it returns is dropped.
    pub fn report(&self, walk: fn(Duration) -> Snapshot) -> JoinSet<()> {
        let began = Instant::now();
        let reporter = reporter(self.path(), self.aggregator.ingest, began);
        let publisher = reporter.publisher();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            reporter.run(std::future::pending()).await;
        });
        tasks.spawn(async move {
            loop {
                publisher.publish(&walk(began.elapsed()));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        tasks
    }
}

/// A walk `elapsed` after the first: one container uses 250 m, one holds 64 MiB, the node uses half a core.
pub fn walk(elapsed: Duration) -> Snapshot {
    // Whole microseconds, so that a quarter of them is exact.
    let nanos = u64::try_from(elapsed.as_micros()).unwrap() * 1000;
    let sample = |id: u64, digit: &str, cpu_ns: u64, mebibytes: u64| Sample {
        cgroup: CgroupId(id),
        identity: Arc::new(Identity { pod: POD.into(), container: ContainerId::from_hex(&digit.repeat(64)) }),
        cpu_ns: Some(cpu_ns),
        late: false,
        memory: Some(Memory { usage_pages: mebibytes * 256, inactive_file_pages: 0, swap_pages: Some(0) }),
    };
    Snapshot {
        boot: BootTime(1_000_000_000_000 + nanos),
        real: RealTime(since_epoch()),
        node: NodeTotals {
            cpu_ns: Some(7_000_000_000 + nanos / 2),
            working_set_bytes: Some(512 << 20),
            swap_bytes: None,
        },
        samples: vec![sample(11, "a", 5_000_000_000 + nanos / 4, 8), sample(12, "b", 3_000_000_000, 64)],
    }
}

/// The same on a node with swap: the node uses 12 MiB of it, the container that holds memory 3 MiB.
pub fn swapping_walk(elapsed: Duration) -> Snapshot {
    let mut snapshot = walk(elapsed);
    snapshot.node.swap_bytes = Some(12 << 20);
    for (sample, pages) in snapshot.samples.iter_mut().zip([0, 3 * 256]) {
        sample.memory = sample.memory.map(|memory| Memory { swap_pages: Some(pages), ..memory });
    }
    snapshot
}

pub async fn kubectl(directory: &Path, kubeconfig: &str, args: &[&str]) -> Output {
    let mut command = Command::new("kubectl");
    command.current_dir(directory).args(["--kubeconfig", kubeconfig, "--cache-dir", "cache"]).args(args);
    command.output().await.unwrap()
}

pub async fn ok(directory: &Path, args: &[&str]) -> String {
    let output = kubectl(directory, "admin", args).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn objects() -> [Value; 3] {
    let pod = |namespace: &str, name: &str, uid: &str, account: &str, containers: &[(&str, &str)]| {
        let status = |(name, digit): &(&str, &str)| {
            json!({"name": name, "containerID": format!("containerd://{}", digit.repeat(64)),
                   "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
        };
        json!({
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": {"app": name}},
            "spec": {"nodeName": "node-a", "serviceAccountName": account,
                     "containers": containers.iter().map(|(name, _)| json!({"name": name})).collect::<Vec<_>>()},
            "status": {"phase": "Running", "containerStatuses": containers.iter().map(status).collect::<Vec<_>>()},
        })
    };
    let size = json!({"cpu": "2", "memory": "1Gi", "pods": "110"});
    [
        json!({"kind": "Node", "metadata": {"name": "node-a", "uid": "node-a-uid"},
               "status": {"capacity": size, "allocatable": size}}),
        pod("shop", "web-0", POD, "default", &[("burner", "a"), ("holder", "b")]),
        pod("waggle-system", "waggle-agent-x", AGENT, "waggle-agent", &[]),
    ]
}

fn since_epoch() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn reporter(directory: &Path, ingest: SocketAddr, began: Instant) -> Reporter {
    let clock = move || walk(began.elapsed());
    let config = Config {
        aggregators: vec![Target::Address(ingest)],
        ca_file: directory.join("ca.crt"),
        server_name: "waggle-ingest.waggle-system.svc".try_into().unwrap(),
        token_file: directory.join("token"),
        boot_id: "5b0c7e0e-0000-4000-8000-000000000001".into(),
        collector: "bpf".into(),
        refusals: Vec::new(),
        page_size: 4096,
        clocks: Arc::new(move || (clock().boot, clock().real)),
    };
    Reporter::new(config, Metrics::default())
}
