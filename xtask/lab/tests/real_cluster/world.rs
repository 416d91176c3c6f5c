//! The cluster that all tests here share. It ends with this program.

use std::{sync::LazyLock, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::{runtime::Runtime, time::sleep};
use waggle_lab::{
    layout::Layout,
    nodes::{Network, Options, Places, RealCluster, name, product},
};

use super::loads;

const LABEL: &str = "real-cluster";
/// The cgroup drivers of the nodes, in order: `WAGGLE_NODE_DRIVERS`, such as `systemd` or `cgroupfs,systemd`. By default one
/// node with the driver that starts fewest processes: on two cores an emulated node with systemd takes minutes to start the
/// pods, and two nodes under these loads starve each other.
pub static DRIVERS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let wanted = std::env::var("WAGGLE_NODE_DRIVERS").unwrap_or_else(|_| "cgroupfs".to_owned());
    wanted.split(',').map(|driver| driver.parse().unwrap()).collect()
});
/// From the objects to running containers: images are there, the machine is slow.
const PODS_RUN: Duration = Duration::from_mins(10);
/// The window of what is served.
pub const WINDOW: Duration = Duration::from_secs(15);

struct World {
    runtime: Runtime,
    network: Network,
    cluster: Mutex<RealCluster>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let machines = u8::try_from(DRIVERS.len()).unwrap();
    let network = Network::create("waggle-test", machines).unwrap();
    network.enter().unwrap();
    // This thread is in it: it stays until the last process in it has ended, and leaves nothing.
    network.forget_name().unwrap();
    let runtime = Runtime::new().unwrap();
    let cluster = Mutex::new(runtime.block_on(start()));
    World { runtime, network, cluster }
});

async fn start() -> RealCluster {
    let places = Places::from_environment().unwrap();
    let images = product::images(&places, &places.state.join("node-images")).unwrap();
    let static_pods = vec![loads::static_pod()];
    let options = Options { nodes: DRIVERS.to_vec(), images, static_pods, ..Options::named(LABEL) };
    let mut cluster = RealCluster::start(&places, &options).await.unwrap();
    let say = |cluster: &RealCluster, what: &str| println!("{what}: {:.1?}", cluster.age());
    say(&cluster, "everything is started");
    cluster.wait_nodes_ready().await.unwrap();
    say(&cluster, "every node is Ready");
    cluster
        .wait("pods may be made", PODS_RUN, async |plane| {
            // The account is made by a controller, and admission wants it.
            Ok(plane.get("/api/v1/namespaces/default/serviceaccounts/default").await.is_ok())
        })
        .await
        .unwrap();
    product::install(&mut cluster).await.unwrap();
    say(&cluster, "Waggle is installed");
    let pods: Vec<Value> = nodes().flat_map(|(_, node)| loads::pods(&node)).collect();
    cluster.plane.apply(&pods).await.unwrap();
    // Beside them on each node a static pod and an agent, and one aggregator.
    let wanted = pods.len() + 2 * DRIVERS.len() + 1;
    cluster
        .wait("every pod runs", PODS_RUN, async |plane| {
            let pods = plane.get("/api/v1/pods").await?;
            let pods = pods["items"].as_array().cloned().unwrap_or_default();
            Ok(pods.len() >= wanted && pods.iter().all(|pod| pod["status"]["phase"] == "Running"))
        })
        .await
        .unwrap();
    say(&cluster, "every pod runs");
    product::wait_served(&mut cluster).await.unwrap();
    say(&cluster, "kubectl top nodes answers");
    // Every window begins after the last start, which is no part of any load.
    sleep(2 * WINDOW).await;
    cluster
}

/// Runs a test in the shared cluster, in its network.
pub fn inside(test: impl AsyncFnOnce(&mut RealCluster)) {
    let World { runtime, network, cluster } = &*WORLD;
    network.enter().unwrap();
    let mut cluster: MutexGuard<'_, RealCluster> = cluster.lock();
    runtime.block_on(async {
        cluster.check().unwrap();
        test(&mut cluster).await;
        cluster.check().unwrap();
    });
}

/// The names of the pods of a namespace whose names begin so.
pub async fn pods_named(cluster: &RealCluster, namespace: &str, beginning: &str) -> Vec<Value> {
    let list = cluster.plane.get(&format!("/api/v1/namespaces/{namespace}/pods")).await.unwrap();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let named =
        |pod: &Value| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(beginning));
    items.into_iter().filter(named).collect()
}

/// The nodes: number and name.
pub fn nodes() -> impl Iterator<Item = (usize, String)> {
    (0..DRIVERS.len()).map(|number| (number, name(u8::try_from(number).unwrap())))
}

/// A pod.
pub async fn pod(cluster: &RealCluster, namespace: &str, name: &str) -> Value {
    cluster.plane.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await.unwrap()
}

/// The id of a container, as its runtime and its cgroup have it.
pub fn container_id(pod: &Value, container: &str) -> String {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let status = statuses.iter().find(|status| status["name"] == container).unwrap();
    status["containerID"].as_str().unwrap().strip_prefix("containerd://").unwrap().to_owned()
}
