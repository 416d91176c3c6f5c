//! What an aggregator that comes back learns, and how soon.

use std::time::{Duration, Instant};

use waggle_agent::collect;

use crate::world::{INTERVAL, SECOND, World, until};

/// Nanocores, window and age of what is served on n1, once the newest walk of the replay is in it.
fn replayed(world: &World) -> Option<(u64, Duration, Duration)> {
    let age = world.view("n1").pods.iter().next()?.measured.seen.elapsed();
    let (cpu, window) = world.served("n1")?;
    (age < Duration::from_secs(5) && window >= Duration::from_secs(13)).then_some((cpu, window, age))
}

/// Publishes a minute of walks, one per second, each with a quarter of a second of CPU time.
fn minute(agent: &mut crate::agent::Agent) {
    let now = collect::clocks().0.0;
    for second in (0..60).rev() {
        agent.walk_at(now - second * SECOND - SECOND / 2, SECOND / 4);
    }
}

#[tokio::test]
async fn replay_gives_a_full_window_at_once() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    minute(&mut agent);
    let (cpu, window, age) = until("a full window", || replayed(&world)).await;
    assert_eq!(cpu, 250_000_000);
    assert!(window <= Duration::from_secs(15), "{window:?}");
    assert!(age >= Duration::from_millis(500), "the age is the sample's, not its arrival's: {age:?}");
}

#[tokio::test]
async fn after_a_restart_full_windows_are_back_within_three_seconds() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    minute(&mut agent);
    until("served", || replayed(&world)).await;
    let address = port.address;
    port.stop().await;
    world.views.remove("n1");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let start = Instant::now();
    let port = world.port(Some(address)).await;
    let (cpu, ..) = until("a full window again", || replayed(&world)).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(cpu, 250_000_000);
    port.stop().await;
}

#[tokio::test]
async fn a_fresh_container_has_a_value_after_its_first_walk() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    let now = collect::clocks().0;
    // A walk without any container, then the first one with it.
    agent.publisher.publish(&collect::Snapshot { boot: now, ..collect::Snapshot::default() });
    until("the stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    tokio::time::sleep(INTERVAL).await;
    let first = collect::clocks().0.0;
    agent.walk_at(first, 10_000_000);
    let (cpu, window) = until("served", || world.served("n1")).await;
    let span = Duration::from_nanos(first - now.0);
    assert_eq!(window.as_nanos(), u128::from(span.subsec_millis()) * 1_000_000, "cut to milliseconds");
    assert_eq!(u128::from(cpu), 10_000_000 * 1_000_000_000 / span.as_nanos());
}
