//! What a list allocates: its frames, and nothing that grows with the cluster. Counts, so the same on every machine.

#[path = "../examples/cluster/mod.rs"]
mod cluster;

use cluster::{ALL_PODS, Cluster, api, ask, noon};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A frame with room for the object that crosses its end.
const FRAME: u64 = 64 * 1024 + 4096;

/// What one list took.
#[derive(Debug)]
struct Taken {
    /// Bytes of the answer.
    length: u64,
    frames: u64,
    /// The most that was allocated at once, bytes.
    peak: u64,
    /// Allocations, from the request to the end of the answer.
    blocks: u64,
    /// Bytes of them all.
    bytes: u64,
}

async fn list(cluster: &Cluster, accept: &str) -> Taken {
    let api = api(&cluster.source, noon);
    // The first request fills what is filled once: counters by label.
    ask(&api, ALL_PODS, accept, |_| {}).await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let (mut length, mut frames) = (0, 0);
    ask(&api, ALL_PODS, accept, |frame| {
        length += frame.len() as u64;
        frames += 1;
    })
    .await;
    let stats = dhat::HeapStats::get();
    Taken {
        length,
        frames,
        peak: stats.max_bytes as u64,
        blocks: stats.total_blocks,
        bytes: stats.total_bytes,
    }
}

#[tokio::test]
async fn a_list_allocates_its_frames_and_nothing_that_grows_with_the_cluster() {
    let (small, large) = (Cluster::new(20), Cluster::new(80));
    for accept in [
        "application/json",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ] {
        let (small, large) = (list(&small, accept).await, list(&large, accept).await);
        assert!(large.length > 3 * small.length && large.frames > 10, "{accept}: {large:?}");
        // A body holds two frames so that it knows the length of a short answer, and makes the next.
        assert!(large.peak < 4 * FRAME, "{accept}: {large:?}");
        assert!(large.peak < small.peak + FRAME, "{accept}: {small:?} {large:?}");
        let (blocks, frames) = (large.blocks - small.blocks, large.frames - small.frames);
        assert!(blocks <= 3 * frames, "{accept}: {blocks} more blocks for {frames} more frames");
        let bytes = large.bytes - small.bytes;
        assert!(bytes <= frames * (FRAME + 512), "{accept}: {bytes} more bytes for {frames} more frames");
    }
}
