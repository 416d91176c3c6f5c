//! Pods with containers that are not measured: counted, and never served as 0 or in part.

use std::sync::Arc;

use waggle_agent::{
    collect::{Memory, Sample},
    identify::{Identity, PodUid},
};

use crate::{
    agent::sample,
    world::{INTERVAL, World, container, pod, until},
};

const SANDBOXED: &str = "00000077-0000-4000-8000-000000000000";

fn pod_level(cgroup: u64, uid: &str, cpu_ns: u64) -> Sample {
    let identity = Arc::new(Identity { pod: PodUid::from(uid), container: None });
    Sample { identity, ..sample(cgroup, uid, 0, cpu_ns) }
}

/// As gVisor leaves a container's cgroup: it exists and counts nothing.
fn empty(cgroup: u64, container: u8) -> Sample {
    Sample { cpu_ns: Some(0), memory: Some(Memory::default()), ..sample(cgroup, SANDBOXED, container, 0) }
}

#[tokio::test]
async fn a_pod_with_an_unmeasured_container_is_counted_and_not_served() {
    let world = World::new([]);
    let containers = vec![container("app", 71), container("sidecar", 72)];
    world.inventory.apply_pod(pod("shop", "sandboxed", SANDBOXED, "n1", containers));
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    let served = || world.view("n1").pods.iter().any(|entry| **entry.uid == *SANDBOXED);
    let counted = |pods: u64| world.exported().contains(&format!("unmeasured_pods {pods}"));
    // No container of it is measured; one of two; none has a cgroup (Kata).
    let cases = [
        vec![empty(71, 71), empty(72, 72), pod_level(70, SANDBOXED, 900)],
        vec![sample(71, SANDBOXED, 71, 500), empty(72, 72), pod_level(70, SANDBOXED, 900)],
        vec![pod_level(70, SANDBOXED, 900)],
    ];
    for case in cases {
        // A pod that is not this node's counts for nothing.
        agent.beside = [case, vec![pod_level(90, "00000099-0000-4000-8000-000000000000", 5)]].concat();
        for _ in 0..4 {
            let before = world.metrics.applied.get();
            agent.walk(1_000_000);
            until("the snapshot", || (world.metrics.applied.get() > before).then_some(())).await;
            assert!(!served(), "served without all of its containers: {:?}", world.view("n1").pods);
            tokio::time::sleep(INTERVAL).await;
        }
        assert!(counted(1), "{:?}", world.exported());
        assert!(world.served("n1").is_some(), "the node's other pod is served");
    }
    agent.beside =
        vec![sample(71, SANDBOXED, 71, 500), sample(72, SANDBOXED, 72, 500), pod_level(70, SANDBOXED, 2000)];
    until("the pod is served once all of it is measured", || {
        agent.walk(1_000_000);
        (served() && counted(0)).then_some(())
    })
    .await;
    assert_eq!(world.count("faults", "malformed"), 0);
}
