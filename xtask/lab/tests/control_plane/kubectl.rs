//! Every way of kubectl to ask for metrics, and what it prints then.

use std::time::Duration;

use serde_json::Value;
use waggle_lab::control_plane::ControlPlane;

use crate::world::{FIRST, SECOND, behind, wait};

/// Runs kubectl and returns the words of each line.
async fn rows(plane: &ControlPlane, command: &str) -> Vec<Vec<String>> {
    let text = plane.kubectl(&command.split(' ').collect::<Vec<_>>()).await.unwrap();
    println!("$ kubectl {command}\n{text}");
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Whether rows are these. A cell with a unit may be off by 2, or a hundredth: kubectl rounds, and pods have pauses.
fn same(rows: &[Vec<String>], expected: &[&[&str]]) {
    assert_eq!(rows.len(), expected.len(), "{rows:?} {expected:?}");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row.len(), expected.len(), "{row:?} {expected:?}");
        for (cell, expected) in row.iter().zip(*expected) {
            match (quantity(cell), quantity(expected)) {
                (Some((seen, unit)), Some((wanted, same_unit))) => {
                    let far = (seen - wanted).abs() > f64::max(2.0, wanted / 100.0);
                    assert!(unit == same_unit && !far, "{cell} {expected} in {row:?}");
                }
                _ => assert_eq!(cell, expected, "{row:?}"),
            }
        }
    }
}

/// The number and unit of `250m`, `64Mi`, `3%`; kubectl top prints no others.
fn quantity(cell: &str) -> Option<(f64, &str)> {
    let end = cell.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = cell.split_at(end);
    ["m", "Mi", "%"].contains(&unit).then_some((number.parse().ok()?, unit))
}

const HEAD: &[&str] = &["NAME", "CPU(cores)", "MEMORY(bytes)"];
const DB: &[&str] = &["db", "125m", "512Mi"];
const WEB_0: &[&str] = &["web-0", "280m", "80Mi"];
const WEB_1: &[&str] = &["web-1", "520m", "104Mi"];

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn top_pod_with_every_flag() {
    behind(async |plane| {
        for (flags, expected) in [
            ("", [HEAD, DB, WEB_0, WEB_1].as_slice()),
            (" web-0", &[HEAD, WEB_0]),
            (" -l app=web", &[HEAD, WEB_0, WEB_1]),
            (" -l app!=web,app", &[HEAD, DB]),
            (" -l app", &[HEAD, DB, WEB_0, WEB_1]),
            (" --field-selector metadata.name=db", &[HEAD, DB]),
            (" --field-selector metadata.name!=db", &[HEAD, WEB_0, WEB_1]),
            (" --sort-by=memory", &[HEAD, DB, WEB_1, WEB_0]),
            (" --sort-by=cpu", &[HEAD, WEB_1, WEB_0, DB]),
            (" --no-headers", &[DB, WEB_0, WEB_1]),
            (" --use-protocol-buffers=false", &[HEAD, DB, WEB_0, WEB_1]),
            (" --sum", &[HEAD, DB, WEB_0, WEB_1, &["________", "________"], &["925m", "696Mi"]]),
            // Two of web-1, two of web-0, one of db: by name within a pod.
            (
                " --containers",
                &[
                    &["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"],
                    &["db", "db", "125m", "512Mi"],
                    &["web-0", "proxy", "30m", "16Mi"],
                    &["web-0", "web", "250m", "64Mi"],
                    &["web-1", "proxy", "20m", "8Mi"],
                    &["web-1", "web", "500m", "96Mi"],
                ],
            ),
            // These nodes have no swap, so nothing is served for it, which kubectl adds up to 0.
            (
                " --show-swap -l app=db",
                &[&["NAME", "CPU(cores)", "MEMORY(bytes)", "SWAP(bytes)"], &["db", "125m", "512Mi", "0Mi"]],
            ),
        ] {
            let seen = rows(plane, &format!("top pod -n shop{flags}")).await;
            same(&seen, expected);
        }
        let all = rows(plane, "top pod -A --sort-by=cpu").await;
        assert_eq!(all[0], ["NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
        same(&all[1..3], &[&["default", "job", "1000m", "32Mi"], &["shop", "web-1", "520m", "104Mi"]]);
        // Beside these the agents, one on each node.
        assert_eq!(all.len(), 1 + 4 + 2, "{all:?}");
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn top_node_with_every_flag() {
    behind(async |plane| {
        let head: &[&str] = &["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
        // The pods, 50 m and 300 MiB of the system, 1 m and 12 MiB of the agent.
        let first: &[&str] = &[FIRST, "456m", "11%", "904Mi", "11%"];
        let second: &[&str] = &[SECOND, "1571m", "39%", "448Mi", "5%"];
        let named = format!(" {SECOND}");
        let labelled = format!(" -l kubernetes.io/hostname={FIRST}");
        for (flags, expected) in [
            ("", [head, first, second].as_slice()),
            (&named, &[head, second]),
            (&labelled, &[head, first]),
            (" --sort-by=cpu", &[head, second, first]),
            (" --sort-by=memory", &[head, first, second]),
            (" --no-headers", &[first, second]),
            (" --show-capacity", &[head, first, second]),
            (" --use-protocol-buffers=false", &[head, first, second]),
        ] {
            let seen = rows(plane, &format!("top node{flags}")).await;
            same(&seen, expected);
        }
        let swap = rows(plane, "top node --show-swap").await;
        assert_eq!(swap[0][5..], ["SWAP(bytes)", "SWAP(%)"]);
        // The nodes say of no swap, so kubectl does not know.
        assert_eq!(swap[1][5..], ["<unknown>", "<unknown>"]);
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn get_in_every_output() {
    behind(async |plane| {
        for resource in ["podmetrics", "podmetrics.v1.metrics.k8s.io", "podmetrics.v1beta1.metrics.k8s.io"] {
            let all = rows(plane, &format!("get {resource} -A")).await;
            assert_eq!(all[0], ["NAMESPACE", "NAME", "CPU", "MEMORY", "WINDOW"]);
            assert_eq!(all.len(), 1 + 4 + 2, "{all:?}");
        }
        let wide = rows(plane, "get podmetrics -n shop -o wide").await;
        assert_eq!(wide[0], ["NAME", "CPU", "MEMORY", "WINDOW"]);
        let names: Vec<&str> = wide[1..].iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["db", "web-0", "web-1"]);
        assert_eq!(wide[1][2], "512Mi");
        assert!(wide[1][1].ends_with(['n', 'u', 'm']) && wide[1][3].ends_with('s'), "{:?}", wide[1]);

        for flags in ["-l app=db", "--field-selector metadata.name=db", "db"] {
            let one = rows(plane, &format!("get podmetrics -n shop {flags}")).await;
            assert_eq!((one.len(), one[1][0].as_str()), (2, "db"), "{flags}");
        }
        let list = json(plane, "get podmetrics -n shop -o json").await;
        assert_eq!(list["items"].as_array().unwrap().len(), 3);
        let one = json(plane, "get podmetrics web-0 -n shop -o json").await;
        assert_eq!((&one["kind"], &one["metadata"]["labels"]["app"]), (&"PodMetrics".into(), &"web".into()));
        assert_eq!(one["containers"][0]["name"], "web");
        assert_eq!(one["containers"][0]["usage"]["memory"], "64Mi");
        let yaml = plane.kubectl(&["get", "podmetrics", "web-0", "-n", "shop", "-o", "yaml"]).await.unwrap();
        for line in ["kind: PodMetrics", "  namespace: shop", "- name: web", "    memory: 64Mi", "window: "] {
            assert!(yaml.lines().any(|one| one.starts_with(line)), "no {line:?} in {yaml}");
        }
        let names = plane.kubectl(&["get", "podmetrics", "-n", "shop", "-o", "name"]).await.unwrap();
        assert_eq!(names.lines().next(), Some("podmetrics.metrics.k8s.io/db"));

        let nodes = rows(plane, "get nodemetrics -o wide").await;
        assert_eq!(nodes[0], ["NAME", "CPU", "MEMORY", "WINDOW"]);
        assert_eq!([&nodes[1][0], &nodes[2][0]], [FIRST, SECOND]);
        let selector = format!("get nodemetrics -l kubernetes.io/hostname={SECOND}");
        let field = format!("get nodemetrics --field-selector metadata.name={SECOND}");
        for command in [selector, field, format!("get nodemetrics {SECOND}")] {
            let one = rows(plane, &command).await;
            assert_eq!((one.len(), one[1][0].as_str()), (2, SECOND), "{command}");
        }
        let yaml = plane.kubectl(&["get", "nodemetrics", FIRST, "-o", "yaml"]).await.unwrap();
        for line in ["apiVersion: metrics.k8s.io/v1", "kind: NodeMetrics", "usage:", "  cpu: "] {
            assert!(yaml.lines().any(|one| one.starts_with(line)), "no {line:?} in {yaml}");
        }
        assert_eq!(json(plane, "get nodemetrics -o json").await["items"].as_array().unwrap().len(), 2);
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn what_the_api_says_of_itself() {
    behind(async |plane| {
        let resources = rows(plane, "api-resources --api-group=metrics.k8s.io -o wide").await;
        same(
            &resources,
            &[
                &["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"],
                &["nodes", "metrics.k8s.io/v1", "false", "NodeMetrics", "get,list"],
                &["pods", "metrics.k8s.io/v1", "true", "PodMetrics", "get,list"],
            ],
        );
        let versions = plane.kubectl(&["api-versions"]).await.unwrap();
        for version in ["metrics.k8s.io/v1", "metrics.k8s.io/v1beta1"] {
            assert!(versions.lines().any(|line| line == version), "{versions}");
        }
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn explain_knows_every_field() {
    behind(async |plane| {
        // kube-apiserver asks aggregated servers for their documents once a minute.
        wait(plane, "kubectl explain knows podmetrics", Duration::from_secs(90), async || {
            plane.kubectl(&["explain", "podmetrics"]).await.is_ok()
        })
        .await;
        for (command, lines) in [
            (
                "podmetrics",
                [
                    "GROUP: metrics.k8s.io",
                    "KIND: PodMetrics",
                    "VERSION: v1",
                    "containers",
                    "timestamp",
                    "window",
                ]
                .as_slice(),
            ),
            (
                "nodemetrics",
                &[
                    "GROUP: metrics.k8s.io",
                    "KIND: NodeMetrics",
                    "VERSION: v1",
                    "timestamp",
                    "usage",
                    "window",
                ],
            ),
            ("podmetrics.containers", &["KIND: PodMetrics", "FIELD: containers", "name", "usage"]),
            ("podmetrics --recursive", &["KIND: PodMetrics", "creationTimestamp", "usage"]),
            ("podmetrics --api-version=metrics.k8s.io/v1beta1", &["VERSION: v1beta1", "containers"]),
            ("nodemetrics --api-version=metrics.k8s.io/v1beta1", &["VERSION: v1beta1", "usage"]),
        ] {
            let text = rows(plane, &format!("explain {command}")).await;
            // `  name<tab><string> -required-`, `KIND:  PodMetrics`
            let text: Vec<String> = text.into_iter().map(|words| words.join(" ")).collect();
            for line in lines {
                let has = text.iter().any(|one| one == line || one.starts_with(&format!("{line} <")));
                assert!(has, "no {line:?} in {text:#?}");
            }
        }
        let all = plane.get("/openapi/v2").await.unwrap();
        for version in ["v1", "v1beta1"] {
            let name = format!("io.k8s.metrics.pkg.apis.metrics.{version}.PodMetrics");
            assert!(all["definitions"][&name]["properties"]["containers"].is_object(), "{name}");
        }
        // Merging ours must not spoil what others say.
        assert!(all["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
        plane.kubectl(&["explain", "pods.spec.containers"]).await.unwrap();
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn raw_answers() {
    behind(async |plane| {
        let path = "/apis/metrics.k8s.io/v1/namespaces/shop/pods/db";
        let plain = plane.kubectl(&["get", "--raw", path]).await.unwrap();
        let pretty = plane.kubectl(&["get", "--raw", &format!("{path}?pretty=true")]).await.unwrap();
        for line in ["{", "  \"kind\": \"PodMetrics\",", "      \"name\": \"db\","] {
            assert!(pretty.lines().any(|one| one == line), "no {line:?} in {pretty}");
        }
        assert_eq!(plain.trim_end().lines().count(), 1, "{plain}");
        let object: Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(object["containers"][0]["usage"]["memory"], "512Mi");
    });
}

async fn json(plane: &ControlPlane, command: &str) -> Value {
    let text = plane.kubectl(&command.split(' ').collect::<Vec<_>>()).await.unwrap();
    serde_json::from_str(&text).unwrap()
}
