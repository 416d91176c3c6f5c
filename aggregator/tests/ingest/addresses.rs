//! Several addresses of one replica, as a dual-stack Service has them: one stream, through whichever works.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    agent::Agent,
    world::{INTERVAL, World, until},
};

/// An address of its own for a port somewhere else.
struct Proxy {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Proxy {
    async fn to(port: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, accepted) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (counter, total) = (Arc::clone(&open), Arc::clone(&accepted));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let counter = Arc::clone(&counter);
                counter.fetch_add(1, Ordering::Relaxed);
                total.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(port).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                    counter.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, open, accepted, tasks }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

async fn walks(agent: &mut Agent, number: u32) {
    for _ in 0..number {
        tokio::time::sleep(INTERVAL).await;
        agent.walk(1_000_000);
    }
}

#[tokio::test]
async fn two_addresses_of_one_replica_get_one_stream_and_stand_in_for_each_other() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut proxies = [Proxy::to(port.address).await, Proxy::to(port.address).await];
    let mut agent = world.agent_to("n1", "token-n1", &[proxies[0].address, proxies[1].address]);
    agent.walk(0);
    let tried = |proxies: &[Proxy]| proxies.iter().all(|proxy| proxy.accepted.load(Ordering::Relaxed) > 0);
    until("both were tried", || (tried(&proxies) && agent.publisher.live_streams() == 1).then_some(())).await;
    until("one stream", || (port.state.streams() == 1).then_some(())).await;
    walks(&mut agent, 10).await;
    assert_eq!((port.state.streams(), agent.publisher.live_streams()), (1, 1));
    assert_eq!(world.count("streams_closed", "superseded"), 0);
    assert!(world.count("streams_closed", "lost") <= 1, "the other address asks once and then waits");
    assert!(world.served("n1").is_some());
    assert_eq!(proxies.iter().map(Proxy::open).sum::<usize>(), 1, "the address that waits has no connection");
    // The address in use fails; the other takes over.
    let used = proxies.iter().position(|proxy| proxy.open() == 1).unwrap();
    proxies[used].tasks.abort_all();
    let applied = world.metrics.applied.get();
    until("the other address", || {
        let live = proxies[1 - used].open() == 1 && agent.publisher.live_streams() == 1;
        live.then_some(())
    })
    .await;
    walks(&mut agent, 3).await;
    until("it delivers", || (world.metrics.applied.get() > applied).then_some(())).await;
    assert_eq!(world.count("streams_closed", "superseded"), 0);
}

#[tokio::test]
async fn an_address_that_cannot_be_reached_does_not_matter_where_another_can() {
    let world = World::new([]);
    let port = world.port(None).await;
    // Reserved for documentation: no route, or no answer.
    let unreachable = ["[2001:db8::1]:8444".parse().unwrap(), "127.0.0.1:1".parse().unwrap()];
    let addresses = [unreachable[0], port.address, unreachable[1]];
    let mut agent = world.agent_to("n1", "token-n1", &addresses);
    agent.walk(0);
    walks(&mut agent, 5).await;
    until("served through the one", || world.served("n1")).await;
    assert_eq!((port.state.streams(), agent.publisher.live_streams()), (1, 1));
}

#[tokio::test]
async fn two_replicas_get_a_stream_each() {
    let world = World::new([]);
    let (first, second) = (world.port(None).await, world.port(None).await);
    let mut agent = world.agent_to("n1", "token-n1", &[first.address, second.address]);
    agent.walk(0);
    let both = || first.state.streams() == 1 && second.state.streams() == 1;
    until("a stream to each", || (both() && agent.publisher.live_streams() == 2).then_some(())).await;
    walks(&mut agent, 5).await;
    assert!(both());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.count("streams_closed", "superseded"), 0);
}
