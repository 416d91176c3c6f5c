//! The encoders in process, in turns with derived ones on the same data: what the ratio says is independent of what else
//! the machine did.

use std::{hint::black_box, time::Instant};

use waggle_aggregator::{api::Source, units::RealTime};

use crate::{
    cluster::{ALL_PODS, Cluster, NODES, api, ask, noon},
    naive,
    report::{Report, ms, quantile, row, table},
};

const ROUNDS: usize = 21;

type Derived = fn(&Source, RealTime) -> Vec<u8>;

pub async fn run(report: &mut Report) {
    let cluster = Cluster::new(NODES);
    let api = api(&cluster.source, noon);
    table(
        "In process: the list of all pods made and dropped, in turns with derived encoders (one run)",
        "      bytes      p50     best   derived: p50     best   ratio of p50",
    );
    let mut goals = Vec::new();
    for (name, accept, derived) in [
        ("JSON, against serde derive", "application/json", naive::json as Derived),
        ("protobuf, against prost derive", "application/vnd.kubernetes.protobuf", naive::protobuf),
    ] {
        let mut own = Vec::new();
        ask(&api, ALL_PODS, accept, |frame| own.extend_from_slice(frame)).await;
        assert!(own == derived(&cluster.source, noon().real), "{name}: both write the same bytes");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            ask(&api, ALL_PODS, accept, |frame| {
                black_box(frame);
            })
            .await;
            ours.push(began.elapsed());
            let began = Instant::now();
            drop(black_box(derived(&cluster.source, noon().real)));
            theirs.push(began.elapsed());
        }
        let (p50, best) = (ms(quantile(&mut ours, 0.5)), ms(quantile(&mut ours, 0.0)));
        let (derived_p50, derived_best) = (ms(quantile(&mut theirs, 0.5)), ms(quantile(&mut theirs, 0.0)));
        row(
            name,
            &format!(
                "{:>11} {p50:>5.1} ms {best:>5.1} ms       {derived_p50:>6.1} ms {derived_best:>5.1} ms   {:>5.1}",
                own.len(),
                derived_p50 / p50
            ),
        );
        goals.push((name, p50));
    }
    for ((name, p50), (goal, before)) in goals
        .into_iter()
        .zip([(60.0, "metrics-server 648 ms over TLS"), (40.0, "metrics-server 532 ms over TLS")])
    {
        report.goal(
            &format!("in process, {}, p50", name.split(',').next().unwrap_or(name)),
            p50,
            goal,
            "ms",
            before,
        );
    }
}
