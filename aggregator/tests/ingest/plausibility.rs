//! Values that an honest kernel reports and `status.capacity` does not explain are served; a value that is nonsense costs
//! itself, never its neighbours, the node or the stream.

use std::time::Duration;

use waggle_aggregator::units::Bytes;
use waggle_proto::ingest::{Container, NodeTotals, PodTotals, Snapshot, agent_message::Message};

use crate::{
    client::Client,
    log::Log,
    messages::{hello, snapshot, totals, unchanged},
    world::{INTERVAL, Port, SECOND, World, container, pod, until},
};

/// Another pod on node n1.
const NEIGHBOUR: &str = "00000005-0000-4000-8000-000000000000";
const PAGE: u64 = 4096;

/// Node n1 (2 cores, 8 GiB) with the workload and another pod, both served. Handle 1 is the workload's container, 2 the
/// neighbour's.
struct Node {
    world: World,
    client: Client,
    _port: Port,
}

impl Node {
    async fn start() -> Self {
        let world = World::new([]);
        world.inventory.apply_pod(pod("shop", "neighbour", NEIGHBOUR, "n1", vec![container("app", 5)]));
        let port = world.port(None).await;
        let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
        client.send(hello()).await;
        client.welcome().await;
        let mut first = snapshot();
        let neighbour = Container {
            handle: 2,
            cgroup_id: 78,
            pod_uid: NEIGHBOUR.into(),
            container_id: vec![5; 32].into(),
            ..first.introduced[0].clone()
        };
        first.introduced.push(neighbour);
        first.cpu_ns.push(1000);
        first.working_set_pages.push(5);
        client.send(Message::Snapshot(first)).await;
        until("both pods are served", || (world.view("n1").pods.len() == 2).then_some(())).await;
        let mut node = Self { world, client, _port: port };
        node.report(|_| ()).await;
        node
    }

    /// Reports what `change` makes of a snapshot without changes, and waits until it is stored.
    async fn report(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let applied = self.world.metrics.applied.get();
        tokio::time::sleep(INTERVAL).await;
        let mut message = unchanged(2);
        change(&mut message);
        self.client.send(Message::Snapshot(message)).await;
        until("the snapshot is stored", || (self.world.metrics.applied.get() > applied).then_some(())).await;
    }

    /// CPU in nanocores, memory in bytes and window of a pod's only container.
    fn pod(&self, uid: &str) -> (u64, u64, Duration) {
        let view = self.world.view("n1");
        let entry = view.pods.iter().find(|entry| &**entry.uid == uid).unwrap();
        (entry.usages[0].cpu.0, entry.usages[0].memory.0, entry.measured.window)
    }

    fn workload(&self) -> (u64, u64, Duration) {
        self.pod(&crate::world::uid("n1"))
    }

    fn implausible(&self, counter: &str) -> u64 {
        let line = format!("values_implausible_total{{counter=\"{counter}\"}} ");
        let count = self.world.exported().iter().find_map(|l| l.strip_prefix(&*line)?.parse().ok());
        count.unwrap_or(0)
    }
}

/// Memory that was added to a running machine: the kubelet read `status.capacity` before.
#[tokio::test]
async fn more_memory_than_the_capacity_says_is_served() {
    let mut node = Node::start().await;
    // 194 % of the capacity, which is the most that was reported from the field.
    let (most, total) = ((8 << 30) / 100 * 194 / PAGE, (8 << 30) / 100 * 194);
    node.report(|message| {
        message.working_set_pages[0] = i64::try_from(most).unwrap() - 5;
        message.node = Some(NodeTotals { cpu_ns: SECOND, working_set_bytes: total, swap_bytes: None });
    })
    .await;
    assert_eq!(node.workload().1, most * PAGE);
    node.report(|message| message.node.as_mut().unwrap().working_set_bytes = total).await;
    let entry = node.world.view("n1").node.unwrap();
    assert_eq!(entry.usage.memory, Bytes(total));
    assert_eq!((node.implausible("memory"), node.implausible("cpu")), (0, 0));
}

/// A hypervisor took the processors and the kernel accounts the time afterwards.
#[tokio::test]
async fn more_cpu_time_than_the_span_has_is_served() {
    let mut node = Node::start().await;
    node.report(|message| message.cpu_ns[0] = 3 * SECOND).await;
    let (cpu, _, window) = node.workload();
    let used = |window: Duration| u128::from(cpu) * window.as_nanos() / u128::from(SECOND);
    // The window is cut to milliseconds.
    let (least, most) = (used(window), used(window + Duration::from_millis(1)));
    assert!((least..=most + 1).contains(&(3 * u128::from(SECOND))), "{least} to {most} ns");
    assert_eq!(node.implausible("cpu"), 0);
}

#[tokio::test]
async fn memory_that_is_nonsense_costs_that_value() {
    let log = Log::record();
    let mut node = Node::start().await;
    let before = node.workload();
    node.report(|message| {
        message.working_set_pages = vec![1 << 30, 7];
        message.node.as_mut().unwrap().working_set_bytes = u64::MAX;
    })
    .await;
    assert_eq!(node.workload(), before, "held: the value is not known");
    assert_eq!(node.pod(NEIGHBOUR).1, 12 * PAGE, "the neighbour goes on");
    assert_eq!(node.implausible("memory"), 2, "the container's and the node's");
    node.report(|message| message.working_set_pages[0] = 5 - (1 << 30)).await;
    let (_, memory, window) = node.workload();
    assert_eq!(memory, 10 * PAGE);
    assert!(window >= INTERVAL * 2, "CPU time was known throughout: {window:?}");
    assert_eq!(node.world.count("faults", "implausible-memory"), 0);
    let lines = log.lines("an agent reported an implausible value");
    let [line] = &lines[..] else { panic!("one line a minute: {lines:?}") };
    for part in
        ["node=\"n1\"", &crate::world::uid("n1"), "0101010101", "memory", "4398046531584", "137438953472"]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
}

#[tokio::test]
async fn cpu_time_that_is_nonsense_costs_that_value() {
    let mut node = Node::start().await;
    node.report(|_| ()).await;
    let before = node.workload();
    node.report(|message| {
        message.cpu_ns = vec![1_000_000 * SECOND, SECOND / 10];
        message.node.as_mut().unwrap().cpu_ns = u64::MAX / 2;
    })
    .await;
    assert_eq!(node.workload(), before, "held: there is no rate over that span");
    assert!(node.pod(NEIGHBOUR).0 > 50_000_000, "the neighbour goes on");
    assert_eq!(node.implausible("cpu"), 2, "the container's and the node's");
    // The counter goes on from where it jumped to: no later rate contains the jump.
    node.report(|message| {
        message.cpu_ns[0] = SECOND / 10;
        message.node.as_mut().unwrap().cpu_ns = u64::MAX / 2 + SECOND / 10;
    })
    .await;
    let (cpu, _, window) = node.workload();
    assert!(window < INTERVAL * 2 && cpu < 2 * SECOND, "{cpu} over {window:?}");
    assert!(node.world.view("n1").node.is_some_and(|entry| entry.usage.cpu.0 < 2 * SECOND));
    assert_eq!(node.world.count("faults", "implausible-cpu"), 0);
}

/// Their values are not served: nothing to refuse.
#[tokio::test]
async fn totals_of_an_unmeasured_pod_are_counted_whatever_they_say() {
    let mut node = Node::start().await;
    let nonsense = PodTotals { cpu_ns: u64::MAX, working_set_pages: u32::MAX, ..totals(100) };
    node.report(|message| message.unmeasured_pods = vec![nonsense]).await;
    assert!(node.world.exported().contains(&"unmeasured_pods 1".to_owned()));
}
