//! The encoders alone, in process, by criterion: `cargo run --release -p waggle-aggregator --example encoders -- --bench`. An
//! example, so that it is built as the product ships and shares every dependency with it: a benchmark of cargo's would be
//! built to unwind, with all that it needs once more.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark that cannot be set up has nothing to say")]

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../naive/mod.rs"]
mod naive;

use std::{hint::black_box, time::Duration};

use cluster::{ALL_NODES, ALL_PODS, Cluster, NODES, ONE_DEPLOYMENT, api, ask, noon};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn consume(frame: &[u8]) {
    black_box(frame);
}

fn encoders(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cluster = Cluster::new(NODES);
    let api = api(&cluster.source, noon);
    for (group, path, formats) in [
        ("all pods", ALL_PODS, &[("json", JSON), ("protobuf", PROTOBUF), ("table", TABLE)][..]),
        ("all nodes", ALL_NODES, &[("json", JSON), ("protobuf", PROTOBUF)]),
        ("30 pods by label", ONE_DEPLOYMENT, &[("json", JSON), ("protobuf", PROTOBUF)]),
    ] {
        let mut group = criterion.benchmark_group(group);
        for (name, accept) in formats {
            let mut length = 0;
            runtime.block_on(ask(&api, path, accept, |frame| length += frame.len()));
            group.throughput(Throughput::Bytes(length as u64));
            group.bench_function(*name, |bencher| {
                bencher.iter(|| runtime.block_on(ask(&api, path, accept, consume)));
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("all pods, derived encoders");
    group.bench_function("json", |bencher| bencher.iter(|| naive::json(&cluster.source, noon().real)));
    group
        .bench_function("protobuf", |bencher| bencher.iter(|| naive::protobuf(&cluster.source, noon().real)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = encoders
}
criterion_main!(benches);
