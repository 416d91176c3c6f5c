//! Whether each node is what its driver's name says: otherwise the same node would be tested twice.

use waggle_lab::layout::Layout;

use super::{
    kernel::{container_cgroup, pod_cgroup},
    loads,
    world::{DRIVERS, inside, nodes, pod},
};

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn each_node_has_the_cgroups_of_its_driver() {
    inside(async |cluster| {
        for (number, node) in nodes() {
            let (driver, machine) = (DRIVERS[number], &cluster.machines[number]);
            let path = format!("/api/v1/nodes/{node}/proxy/configz");
            let kubelet = cluster.plane.get(&path).await.unwrap();
            assert_eq!(kubelet["kubeletconfig"]["cgroupDriver"], driver.name(), "{node}");
            let first = machine.shell("cat /proc/1/comm").await.unwrap();
            assert_eq!(first.trim() == "systemd", driver == Layout::Systemd, "{node}: pid 1 is {first}");
            let runtime = machine.shell("grep -c 'SystemdCgroup = true' /etc/containerd/config.toml").await;
            assert_eq!(runtime.unwrap().trim() == "1", driver == Layout::Systemd, "{node}");

            let found = machine.shell("cd /sys/fs/cgroup; find kubepods* -type d").await.unwrap();
            let found: Vec<&str> = found.lines().collect();
            let mut expected = 0;
            let known = loads::known(&node).into_iter().map(|known| ("default", known.pod, known.container));
            let fixed = (loads::STATIC_NAMESPACE, loads::on(loads::STATIC_POD, &node), "hold");
            for (namespace, name, container) in known.chain([fixed]) {
                let pod = pod(cluster, namespace, &name).await;
                assert_eq!(pod["spec"]["nodeName"], *node, "{name}");
                for cgroup in [pod_cgroup(driver, &pod), container_cgroup(driver, &pod, container)] {
                    assert!(found.contains(&cgroup.as_str()), "{node} has no {cgroup} but {found:#?}");
                }
                expected += 1;
            }
            assert!(expected >= 8, "only {expected} containers of {node} were looked for");
            // Nothing of it is named as the other driver does.
            let odd = found.iter().find(|path| path.split('/').next() != Some(driver.kubepods()));
            assert_eq!(odd, None, "{node}");
        }
    });
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn the_cgroup_of_a_static_pod_has_the_hash_of_its_file() {
    inside(async |cluster| {
        for (number, node) in nodes() {
            let name = loads::on(loads::STATIC_POD, &node);
            let pod = pod(cluster, loads::STATIC_NAMESPACE, &name).await;
            let hash = pod["metadata"]["annotations"]["kubernetes.io/config.hash"].as_str().unwrap();
            let uid = pod["metadata"]["uid"].as_str().unwrap();
            assert!(hash.len() == 32 && !hash.contains('-') && hash != uid, "{node}: {hash}, {uid}");
            let cgroup = pod_cgroup(DRIVERS[number], &pod);
            assert!(cgroup.contains(hash), "{node}: {cgroup}");
            let command = format!("cat /sys/fs/cgroup/{cgroup}/cgroup.stat");
            let text = cluster.machines[number].shell(&command).await.unwrap();
            // Its sandbox and its container.
            assert!(text.lines().any(|line| line == "nr_descendants 2"), "{node}: {text}");
        }
    });
}
