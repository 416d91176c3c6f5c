use http::Method;
use http_body_util::BodyExt;

use super::*;
use crate::collect::Reason;

fn costs(identified: usize) -> Costs {
    Costs { identified, seen: identified + 2, ..Costs::default() }
}

async fn get(telemetry: &Telemetry, path: &str, now: Instant) -> (u16, String) {
    let response = telemetry.answer(&Method::GET, path, true, now);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn checks_follow_the_walks() {
    let telemetry = Telemetry::new(Duration::from_secs(1));
    let start = Instant::now();
    let fine = "[+]ping ok\n[+]collection-timely ok\nlivez check passed\n";
    assert_eq!(get(&telemetry, "/livez", start).await, (200, fine.to_owned()));
    let unready = "[+]ping ok\n[+]collection-timely ok\n[-]collector-ready failed\n\
                   [-]stream-connected failed\nreadyz check failed\n";
    assert_eq!(get(&telemetry, "/readyz", start).await, (500, unready.to_owned()));
    telemetry.sampled(start, start, &costs(7));
    assert_eq!(get(&telemetry, "/livez", start + Duration::from_secs(13)).await.0, 200);
    let late = "[+]ping ok\n[-]collection-timely failed\nlivez check failed\n";
    assert_eq!(get(&telemetry, "/livez", start + Duration::from_secs(14)).await, (500, late.to_owned()));
}

#[tokio::test]
async fn metrics_name_the_collector_and_its_refusals() {
    let telemetry = Telemetry::new(Duration::from_secs(1));
    telemetry.collector("cgroupfs", &[Refusal::new(Reason::NoCgroupIter, "test")]);
    telemetry.sampled(Instant::now(), Instant::now(), &costs(7));
    telemetry.fields(Fields::ALL.without(Field::Swap));
    let (status, body) = get(&telemetry, "/metrics", Instant::now()).await;
    assert_eq!(status, 200);
    for line in [
        "waggle_agent_collector{name=\"cgroupfs\"} 1",
        "waggle_agent_collector_refusals{reason=\"no-cgroup-iter\"} 1",
        "waggle_agent_cgroups 7",
        "waggle_agent_cgroups_seen 9",
        "waggle_agent_fields{field=\"cpu\",source=\"bpf\"} 1",
        "waggle_agent_fields{field=\"swap\",source=\"file\"} 1",
        "waggle_agent_report_streams 0",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} is not in\n{body}");
    }
    assert_eq!(get(&telemetry, "/else", Instant::now()).await.0, 404);
}

#[tokio::test]
async fn a_node_without_any_collector_is_live_and_unready_with_the_reason() {
    let telemetry = Telemetry::new(Duration::from_secs(1));
    telemetry.collector("none", &[Refusal::new(Reason::CgroupHybrid, "memory is on v1")]);
    let now = Instant::now();
    assert_eq!(get(&telemetry, "/livez", now).await.0, 200);
    let (status, body) = get(&telemetry, "/readyz", now).await;
    assert_eq!(status, 500);
    assert!(body.contains("[-]collector-ready failed: cgroup-hybrid: memory is on v1\n"), "{body}");
}

#[tokio::test]
async fn the_process_is_measured_at_each_scrape() {
    let telemetry = Telemetry::new(Duration::from_secs(1));
    let (_, body) = get(&telemetry, "/metrics", Instant::now()).await;
    let value = |name: &str| -> f64 {
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse().unwrap()
    };
    assert!(value("waggle_agent_cpu_seconds_total") > 0.0);
    assert!(value("waggle_agent_resident_bytes") > 1_000_000.0);
}
