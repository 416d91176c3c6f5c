//! The workloads whose use is known, in groups: the one processor of an emulated node cannot carry all of them at once.
//! Pure.

use serde_json::{Value, json};

use super::reading::Key;

/// Where they run. The static pod is elsewhere: see [`STATIC_NAMESPACE`].
pub const NAMESPACE: &str = "accuracy";
/// Where the static pod shows.
pub const STATIC_NAMESPACE: &str = "kube-system";
/// The kubelet adds the node's name to this.
pub const STATIC_POD: &str = "fixed";
/// The image of all of them.
const IMAGE: &str = "waggle.local/workload:lab";
/// The bursts, millicores.
pub const BURSTS: f64 = 150.0;
/// How many pods with how many containers are many and small.
const SMALL: (usize, usize) = (4, 4);

/// What is known of a row's container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    /// It computes all the time, and the kernel limits it to this many millicores.
    Limit(f64),
    /// It computes under such a limit when its log says `on`.
    Bursts(f64),
    /// It computes under such a limit as often as it is started again.
    Restarts(f64),
    /// It computes so much by its own clock, without a limit.
    Share(f64),
    /// It holds this many bytes, and what the program itself needs.
    Memory(f64),
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub title: &'static str,
    /// Its containers: the row is about each of them.
    pub keys: Vec<Key>,
    /// What is known of each.
    pub known: Known,
    /// In which group it runs.
    pub group: u8,
}

/// A container.
struct Container {
    name: String,
    args: Vec<String>,
    limit: Option<u32>,
}

impl Container {
    fn new(name: &str, args: &[&str], limit: Option<u32>) -> Self {
        let args = args.iter().map(|&argument| argument.to_owned()).collect();
        Self { name: name.to_owned(), args, limit }
    }

    /// Its object. It is promised what it may use: where the processor is short, a known load stays one.
    fn object(&self) -> Value {
        let limits = match self.limit {
            Some(limit) => json!({"cpu": format!("{limit}m"), "memory": "64Mi"}),
            None => json!({"memory": "256Mi"}),
        };
        let cpu = format!("{}m", self.limit.unwrap_or(5));
        let resources = json!({"requests": {"cpu": cpu, "memory": "8Mi"}, "limits": limits});
        json!({"name": self.name, "image": IMAGE, "imagePullPolicy": "Never", "args": self.args, "resources": resources})
    }
}

fn pod(namespace: &str, name: &str, containers: &[Container]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": "accuracy"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": containers.iter().map(Container::object).collect::<Vec<_>>(),
        },
    })
}

fn simple(name: &str, args: &[&str], limit: Option<u32>) -> Value {
    pod(NAMESPACE, name, &[Container::new("main", args, limit)])
}

/// A burner with a CPU limit, such as are made to see when their first value is there.
pub fn burner(name: &str, limit: u32) -> Value {
    simple(name, &["burn"], Some(limit))
}

/// The groups, in order.
pub const GROUPS: [u8; 4] = [1, 2, CHANGING, EXTENDED];
/// The group with bursts and restarts.
pub const CHANGING: u8 = 3;
/// The group with the pod that gets a container while it runs.
pub const EXTENDED: u8 = 4;

/// The pods of a group.
pub fn pods(group: u8) -> Vec<Value> {
    match group {
        1 => steady(),
        2 => vec![burner("limit-400", 400)],
        CHANGING => vec![
            simple("bursts", &["burst", "40s", "40s"], Some(150)),
            simple("restarts", &["exit-after", "30s", "--burn"], Some(50)),
        ],
        _ => kinds(),
    }
}

fn steady() -> Vec<Value> {
    let mut cached = simple("cache", &["cache", "64Mi", "--file", "/data/file"], None);
    cached["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    cached["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    vec![
        burner("limit-50", 50),
        burner("limit-250", 250),
        simple("hold-64", &["hold", "64Mi"], None),
        simple("hold-192", &["hold", "192Mi"], None),
        cached,
    ]
}

/// One of each kind of container, and many small ones.
fn kinds() -> Vec<Value> {
    let mut started = simple("with-init", &["burn"], Some(50));
    started["spec"]["initContainers"] =
        json!([Container::new("init", &["exit-after", "5s", "--burn"], Some(200)).object()]);
    let mut sidecar = simple("with-sidecar", &["sleep"], Some(10));
    let mut restartable = Container::new("sidecar", &["burn"], Some(30)).object();
    restartable["restartPolicy"] = json!("Always");
    sidecar["spec"]["initContainers"] = json!([restartable]);
    // The pod's cgroup has the limit of its containers, which holds for the one that is added, too.
    let mut pods = vec![started, sidecar, simple("debugged", &["sleep"], Some(50))];
    pods.extend((0..SMALL.0).map(|number| {
        let small = |index| Container::new(&format!("c{index}"), &["burn", "--millicores", "5"], Some(10));
        pod(NAMESPACE, &format!("small-{number}"), &(0..SMALL.1).map(small).collect::<Vec<_>>())
    }));
    pods
}

/// The pod that the kubelet runs by itself, beside every group.
pub fn static_pod() -> Value {
    pod(STATIC_NAMESPACE, STATIC_POD, &[Container::new("main", &["burn"], Some(30))])
}

/// The ephemeral container of the pod `debugged`, as a patch of its subresource. It may have no limit.
pub fn ephemeral() -> Value {
    let debugger = json!({
        "name": "debugger", "image": IMAGE, "imagePullPolicy": "Never", "args": ["burn", "--millicores", "30"],
    });
    json!({"spec": {"ephemeralContainers": [debugger]}})
}

/// The table's rows. `node` is the name of the node with the static pod.
pub fn rows(node: &str) -> Vec<Row> {
    let row = |title, pod: &str, container: &str, known, group| Row {
        title,
        keys: vec![key(NAMESPACE, pod, container)],
        known,
        group,
    };
    let mebibytes = |count: u32| f64::from(count) * f64::from(1 << 20);
    let small = (0..SMALL.0).flat_map(|pod| (0..SMALL.1).map(move |container| (pod, container)));
    let small = small.map(|(pod, index)| key(NAMESPACE, &format!("small-{pod}"), &format!("c{index}")));
    vec![
        row("CPU limit 50 m", "limit-50", "main", Known::Limit(50.0), 1),
        row("CPU limit 250 m", "limit-250", "main", Known::Limit(250.0), 1),
        row("CPU limit 400 m", "limit-400", "main", Known::Limit(400.0), 2),
        row("64 MiB of memory", "hold-64", "main", Known::Memory(mebibytes(64)), 1),
        row("192 MiB of memory", "hold-192", "main", Known::Memory(mebibytes(192)), 1),
        row("64 MiB of page cache", "cache", "main", Known::Memory(0.0), 1),
        row("bursts, 40 s on and off", "bursts", "main", Known::Bursts(BURSTS), 3),
        row("restarted again and again", "restarts", "main", Known::Restarts(50.0), 3),
        row("after an init container", "with-init", "main", Known::Limit(50.0), 4),
        row("sidecar (restartable init)", "with-sidecar", "sidecar", Known::Limit(30.0), 4),
        row("ephemeral container", "debugged", "debugger", Known::Share(30.0), 4),
        Row {
            title: "static pod",
            keys: vec![key(STATIC_NAMESPACE, &format!("{STATIC_POD}-{node}"), "main")],
            known: Known::Limit(30.0),
            group: 3,
        },
        Row { title: "16 small containers", keys: small.collect(), known: Known::Share(5.0), group: 4 },
    ]
}

fn key(namespace: &str, pod: &str, container: &str) -> Key {
    Key { namespace: namespace.to_owned(), pod: pod.to_owned(), container: container.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every container that the pods have, init containers that go on and the ephemeral one among them.
    fn containers(group: u8) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        let mut pods = pods(group);
        pods.push(static_pod());
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let of = |list: &Value| list.as_array().cloned().unwrap_or_default();
            let (init, main) = (of(&pod["spec"]["initContainers"]), of(&pod["spec"]["containers"]));
            let stays = init.into_iter().filter(|one| one["restartPolicy"] == "Always");
            for container in stays.chain(main) {
                found.insert((name.to_owned(), container["name"].as_str().unwrap().to_owned()));
            }
        }
        found.insert(("debugged".to_owned(), "debugger".to_owned()));
        found
    }

    #[test]
    fn every_row_is_about_containers_that_its_group_has() {
        let rows = rows("n");
        assert_eq!(rows.len(), 13);
        for row in &rows {
            let known = containers(row.group);
            for key in &row.keys {
                let pod = key.pod.trim_end_matches("-n").to_owned();
                assert!(known.contains(&(pod, key.container.clone())), "{row:?}");
            }
        }
        assert_eq!(rows[12].keys.len(), 16);
    }

    #[test]
    fn a_group_fits_into_one_processor_beside_the_kubelet() {
        for group in GROUPS {
            let rows = rows("n");
            let of_group = rows.iter().filter(|row| row.group == group);
            let sum: f64 = of_group
                .map(|row| match row.known {
                    Known::Limit(m) | Known::Bursts(m) | Known::Restarts(m) | Known::Share(m) => {
                        m * row.keys.len() as f64
                    }
                    Known::Memory(_) => 0.0,
                })
                .sum();
            assert!(sum <= 500.0, "group {group}: {sum}");
        }
    }
}
