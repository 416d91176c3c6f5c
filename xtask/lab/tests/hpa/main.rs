//! kube-controller-manager's `HorizontalPodAutoscaler` controller, behind a real kube-apiserver, on values that simulated
//! agents deliver: three Deployments are scaled up and down at once, on CPU utilization, on an average of memory, and on
//! the CPU of one container; and nothing is scaled down while nobody serves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod app;
mod observe;

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use waggle_lab::{
    control_plane::{ControlPlane, Options, Places},
    simulate::{
        Demand, Load, Streams,
        kubelet::{self, Kubelets},
    },
};

use app::{APPS, AVERAGE_MIB, FEWEST, Kind, MOST, NAMESPACE, REQUEST};
use observe::{Look, Observer, PAUSE};

/// The autoscaler looks that often.
const SYNC: Duration = Duration::from_secs(1);
/// What a decision may take beyond one sync: two of our own looks, and the autoscaler's requests to the API server.
const TOLERANCE: Duration = Duration::from_millis(600);
/// For so long the aggregator is dead.
const GAP: Duration = Duration::from_mins(1);
/// kube-apiserver asks a server that was gone again after at most 30 s.
const RECOVERY: Duration = Duration::from_secs(45);
/// CPU of a pod counts once its window begins after it became Ready: a window of 15 s, and whole seconds.
const ESTABLISHED: Duration = Duration::from_secs(18);

/// The CPU that all of the first application's pods share: at the target with two, five and fewer than two.
const SHARED: [u64; 3] = [2 * REQUEST / 2, 5 * REQUEST / 2, REQUEST / 5];
/// A number of replicas has settled when it was the same for so long.
const SETTLED: Duration = Duration::from_secs(8);

fn demand(kubelets: &Kubelets, kind: Kind, container: &str, demand: Demand) {
    let app = APPS.iter().find(|app| app.kind == kind).unwrap();
    kubelets.demand((NAMESPACE, app.name, container), demand).unwrap();
}

/// CPU for all pods together.
fn shared(millicores: u64) -> Demand {
    Demand::shared(millicores, Load::new(0, 20))
}

/// The same in every pod.
fn each(millicores: u64, mebibytes: u64) -> Demand {
    Demand::each(Load::new(millicores, mebibytes))
}

/// From the first look that served what asks for another number of replicas to the first one with another number.
fn decision(observer: &Observer, since: Instant) -> Duration {
    let looks = observer.since(since);
    let before = looks.first().unwrap().replicas;
    let changed = looks.iter().find(|look| look.replicas != before);
    let changed = changed.unwrap_or_else(|| panic!("{} was not scaled from {before}", observer.app.name));
    let asks = |look: &&Look| look.wanted.is_some_and(|wanted| wanted != before);
    // The autoscaler may see a value between two of our looks: then its decision was there first.
    let crossed = looks.iter().find(asks).map_or(changed.begun, |look| look.begun);
    let took = changed.ended.saturating_duration_since(crossed);
    println!(
        "{} ({:?}): {} s after the load changed the served value asked for another number; {before} became {} {} ms later",
        observer.app.name,
        observer.app.kind,
        crossed.saturating_duration_since(since).as_secs_f64(),
        changed.replicas,
        took.as_millis()
    );
    took
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a control plane: cargo xtask test"]
async fn the_autoscaler_scales_on_all_three_kinds_and_survives_a_dead_aggregator() {
    let begun = Instant::now();
    let stage = |what: &str| println!("[{:6.1} s] {what}", begun.elapsed().as_secs_f64());
    let options = Options {
        controller_flags: vec![format!("--horizontal-pod-autoscaler-sync-period={}s", SYNC.as_secs())],
        ..Options::named("hpa")
    };
    let plane = ControlPlane::start(&Places::from_environment().unwrap(), &options).await.unwrap();
    plane.start_aggregator(&["--interval", "1s"]).await.unwrap();
    stage("control plane and aggregator run");
    let streams = Streams::to(plane.ingest(), plane.ingest_ca()).unwrap();
    let client = plane.client().await.unwrap();
    let kubelets = Kubelets::start(client.clone(), streams, &kubelet::Options::default()).await.unwrap();
    let took = kubelets.wait_streams(Duration::from_secs(30)).await.unwrap();
    stage(&format!("agents stream, admitted by TokenReview, after {took:?}"));
    demand(&kubelets, Kind::CpuUtilization, "web", shared(SHARED[0]));
    demand(&kubelets, Kind::MemoryAverage, "web", each(10, AVERAGE_MIB));
    demand(&kubelets, Kind::ContainerCpu, "web", each(REQUEST / 2, 20));
    demand(&kubelets, Kind::ContainerCpu, "proxy", each(10, 8));
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})];
    objects.extend(APPS.iter().flat_map(|app| [app.deployment(), app.autoscaler()]));
    plane.apply(&objects).await.unwrap();
    let observers = APPS.map(|app| Observer::start(client.clone(), app));
    let of = |kind: Kind| observers.iter().find(|observer| observer.app.kind == kind).unwrap();

    // At the target: nothing to do, and the autoscalers say that they could.
    let start = Instant::now();
    for observer in &observers {
        let active = |look: &Look| look.wanted.is_some() && look.active.as_ref().is_some_and(|(is, _)| *is);
        observer.wait(start, Duration::from_secs(45), active).await;
    }
    sleep(ESTABLISHED).await;
    stage("all autoscalers are active, pods are established");

    // Up. First only the sidecar of the one that looks at a container works, which is nothing to it.
    let up = Instant::now();
    demand(&kubelets, Kind::CpuUtilization, "web", shared(SHARED[1]));
    demand(&kubelets, Kind::MemoryAverage, "web", each(10, AVERAGE_MIB * 5 / 2));
    demand(&kubelets, Kind::ContainerCpu, "proxy", each(400, 8));
    of(Kind::MemoryAverage).wait(up, Duration::from_mins(1), |look| look.replicas == MOST).await;
    sleep(Duration::from_secs(16).saturating_sub(up.elapsed())).await;
    let unmoved = of(Kind::ContainerCpu).since(begun);
    assert!(
        unmoved.len() > 100 && unmoved.iter().all(|look| look.replicas == FEWEST),
        "a sidecar's CPU counted"
    );
    let container_up = Instant::now();
    demand(&kubelets, Kind::ContainerCpu, "web", each(REQUEST * 3 / 2, 20));
    of(Kind::ContainerCpu).wait(container_up, Duration::from_mins(1), |look| look.replicas == MOST).await;
    // Not the most that there may be, but as many as bring the load to the target.
    of(Kind::CpuUtilization).settles(5, SETTLED, Duration::from_secs(90)).await;
    stage("all are scaled up");
    let mut decisions = vec![
        decision(of(Kind::CpuUtilization), up),
        decision(of(Kind::MemoryAverage), up),
        decision(of(Kind::ContainerCpu), container_up),
    ];

    // Nobody serves for a minute: what was decided stays.
    let killed = Instant::now();
    assert!(plane.kill_aggregator().unwrap());
    stage("aggregator killed");
    sleep(GAP).await;
    for observer in &observers {
        let looks = observer.since(killed);
        let lost = looks.iter().find(|look| look.active.as_ref().is_some_and(|(is, _)| !is));
        let lost = lost.unwrap_or_else(|| panic!("{} did not miss its metrics", observer.app.name));
        println!("{}: {:?} {:?} after the kill", observer.app.name, lost.active, lost.ended - killed);
    }
    let restarted = Instant::now();
    plane.start_aggregator(&["--interval", "1s"]).await.unwrap();
    for observer in &observers {
        let active = |look: &Look| look.active.as_ref().is_some_and(|(is, _)| *is);
        let back = observer.wait(restarted, RECOVERY, active).await;
        let served = observer.wait(restarted, RECOVERY, |look| look.wanted.is_some()).await;
        println!(
            "{}: served again {:?} after the restart, with windows of {:?}; active after {:?}",
            observer.app.name,
            served.ended - restarted,
            served.window,
            back.ended - restarted
        );
    }
    sleep(Duration::from_secs(3)).await;
    for observer in &observers {
        let looks = observer.since(killed);
        assert!(looks.len() > 300, "{} looks", looks.len());
        let before = looks[0].replicas;
        assert!(before > FEWEST, "{} would not show a scale-down", observer.app.name);
        let changed = looks.iter().find(|look| look.replicas != before);
        assert!(changed.is_none(), "{} was scaled from {before} in the gap: {changed:?}", observer.app.name);
    }
    stage("all autoscalers are active again, nothing was scaled meanwhile");

    // Down.
    let down = Instant::now();
    demand(&kubelets, Kind::CpuUtilization, "web", shared(SHARED[2]));
    demand(&kubelets, Kind::MemoryAverage, "web", each(10, AVERAGE_MIB / 8));
    demand(&kubelets, Kind::ContainerCpu, "web", each(REQUEST / 20, 20));
    for observer in &observers {
        observer.wait(down, Duration::from_mins(1), |look| look.replicas == FEWEST).await;
    }
    stage("all are scaled down");
    decisions.extend(observers.iter().map(|observer| decision(observer, down)));
    assert_eq!(decisions.len(), 2 * APPS.len());
    for took in decisions {
        assert!(took <= SYNC + PAUSE + TOLERANCE, "a decision took {took:?}");
    }
}
