//! The agent on a real node: what its container was given, what it kept, and how it collects.

use serde_json::Value;
use waggle_lab::nodes::{Machine, RealCluster};

use super::world::{DRIVERS, inside, nodes, pods_named};

/// Bits 38 and 39: `CAP_PERFMON` and `CAP_BPF`.
const BPF_AND_PERFMON: u64 = 1 << 38 | 1 << 39;

/// The agent of each node, in order.
async fn agents(cluster: &RealCluster) -> Vec<Value> {
    let agents = pods_named(cluster, "waggle-system", "waggle-agent-").await;
    assert_eq!(agents.len(), DRIVERS.len(), "each node has one agent: {agents:?}");
    let of = |node: String| {
        let agent = agents.iter().find(|agent| agent["spec"]["nodeName"] == *node);
        agent.unwrap_or_else(|| panic!("{node} has no agent: {agents:?}")).clone()
    };
    nodes().map(|(_, node)| of(node)).collect()
}

fn capabilities(status: &str, set: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("no {set} in:\n{status}"));
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn the_agent_is_given_bpf_and_perfmon_and_keeps_neither() {
    inside(async |cluster| {
        for (pod, node) in agents(cluster).await.iter().zip(&cluster.machines) {
            given_and_kept(pod, node).await;
        }
    });
}

/// What an agent's container was started with, and what its threads have.
async fn given_and_kept(pod: &Value, node: &Machine) {
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = container.strip_prefix("containerd://").unwrap();
    // What containerd was told to start it with.
    let info = node.shell(&format!("ctr -n k8s.io containers info {id}")).await.unwrap();
    let info: Value = serde_json::from_str(&info).unwrap_or_else(|error| panic!("{error}: {info}"));
    let given = &info["Spec"]["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted"] {
        let mut names: Vec<&str> = given[set].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["CAP_BPF", "CAP_PERFMON"], "{set} of {given}");
    }
    for set in ["inheritable", "ambient"] {
        assert!(given[set].as_array().is_none_or(Vec::is_empty), "{set} of {given}");
    }
    // What each of its threads has now. The bounding set tells what it began with: it cannot drop from that.
    let script = format!(
        "pid=$(ctr -n k8s.io tasks list | grep {id} | awk '{{print $2}}'); \
             for thread in /proc/$pid/task/*; do cat $thread/status; echo END; done"
    );
    let text = node.shell(&script).await.unwrap();
    let threads: Vec<&str> = text.split("END\n").filter(|status| status.contains("Cap")).collect();
    assert!(!threads.is_empty(), "no threads in:\n{text}");
    for status in threads {
        assert!(
            status.contains("waggle-agent") || status.contains("sampling") || status.contains("tokio"),
            "{status}"
        );
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(capabilities(status, set), 0, "{set} of\n{status}");
        }
        assert_eq!(capabilities(status, "CapBnd"), BPF_AND_PERFMON, "CapBnd of\n{status}");
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    }
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn the_agents_collect_by_bpf() {
    inside(async |cluster| {
        for pod in agents(cluster).await {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let path = format!("/api/v1/namespaces/waggle-system/pods/http:{name}:10255/proxy/metrics");
            let log = cluster.plane.kubectl(&["-n", "waggle-system", "logs", name]).await.unwrap();
            println!("{log}");
            assert!(log.contains("collecting") && log.contains("\"bpf\""), "{log}");
            let metrics = cluster.plane.kubectl(&["get", "--raw", &path]).await.unwrap();
            assert!(
                metrics.lines().any(|line| line == "waggle_agent_collector{name=\"bpf\"} 1"),
                "{metrics}"
            );
            assert!(!metrics.contains("waggle_agent_collector_refusals{"), "{metrics}");
        }
    });
}
