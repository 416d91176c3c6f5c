use std::{net::IpAddr, sync::Arc};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::{Message, ResponseCode},
        rr::{RData, Record, RecordType},
    },
};
use parking_lot::Mutex;
use tokio::{net::UdpSocket, task::JoinHandle};

use super::*;

const NAME: &str = "waggle-ingest.waggle-system.svc.cluster.local.";

/// A name server that knows one name.
struct Zone {
    addresses: Arc<Mutex<Vec<IpAddr>>>,
    asked: Arc<Mutex<Vec<String>>>,
    config: ResolverConfig,
    task: JoinHandle<()>,
}

impl Zone {
    async fn start(ttl: u32, addresses: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (addresses, asked) = (Arc::new(Mutex::new(addresses)), Arc::<Mutex<Vec<String>>>::default());
        let (known, log) = (Arc::clone(&addresses), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let mut message = Message::from_vec(&buffer[..length]).unwrap().into_response();
                let query = message.queries[0].clone();
                log.lock().push(format!("{} {}", query.query_type(), query.name()));
                if query.name().to_string() == NAME {
                    let of_type = |address: &IpAddr| match query.query_type() {
                        RecordType::A => address.is_ipv4(),
                        RecordType::AAAA => address.is_ipv6(),
                        _ => false,
                    };
                    let record =
                        |address| Record::from_rdata(query.name().clone(), ttl, RData::from(address));
                    message.add_answers(known.lock().iter().copied().filter(of_type).map(record));
                } else {
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
                socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let mut udp = ConnectionConfig::udp();
        udp.port = address.port();
        let search = ["waggle-system.svc.cluster.local.", "svc.cluster.local.", "cluster.local."];
        let search = search.map(|name| name.parse().unwrap()).to_vec();
        let servers = vec![NameServerConfig::new(address.ip(), true, vec![udp])];
        let config = ResolverConfig::from_parts(None, search, servers);
        Self { addresses, asked, config, task }
    }

    /// A pod's resolver.
    fn resolver(&self) -> TokioResolver {
        let mut builder =
            TokioResolver::builder_with_config(self.config.clone(), TokioRuntimeProvider::default());
        builder.options_mut().ndots = 5;
        builder.options_mut().cache_size = 0;
        builder.options_mut().attempts = 1;
        builder.options_mut().timeout = Duration::from_millis(500);
        builder.build().unwrap()
    }

    fn names(&self) -> Names {
        let targets =
            ["waggle-ingest.waggle-system.svc:8444".parse().unwrap(), "192.0.2.9:1".parse().unwrap()];
        Names { resolver: Some(self.resolver()), ..Names::new(&targets) }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock());
        asked.sort();
        asked
    }
}

fn addresses(texts: &[&str]) -> HashSet<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Seconds from `now` until the next look-up.
fn wait(names: &Names, now: Instant) -> f64 {
    names.due().unwrap().duration_since(now).as_secs_f64()
}

#[tokio::test]
async fn a_name_gives_the_addresses_of_both_families_and_is_found_once() {
    let zone = Zone::start(30, &["10.0.0.1", "fd00::1", "10.0.0.2"]).await;
    let mut names = zone.names();
    assert_eq!(names.addresses(), addresses(&["192.0.2.9:1"]), "a literal address needs no look-up");
    names.look_up(Instant::now(), || true).await;
    let all = addresses(&["192.0.2.9:1", "10.0.0.1:8444", "[fd00::1]:8444", "10.0.0.2:8444"]);
    assert_eq!(names.addresses(), all);
    assert_eq!(zone.asked().len(), 6, "both families of three names");
    names.look_up(Instant::now(), || true).await;
    assert!(zone.asked().is_empty(), "it is not due");
    *zone.addresses.lock() = vec!["10.0.0.3".parse().unwrap()];
    names.look_up(names.due().unwrap(), || true).await;
    assert_eq!(names.addresses(), addresses(&["192.0.2.9:1", "10.0.0.3:8444"]), "one family is enough");
    assert_eq!(zone.asked(), [format!("A {NAME}"), format!("AAAA {NAME}")], "without the search list");
}

#[tokio::test]
async fn the_ttl_has_limits_and_counts_while_a_stream_is_open() {
    for (ttl, is_live, shortest, longest) in
        [(1, true, 5.0, 7.5), (10, true, 9.0, 15.0), (3600, true, 15.0, 22.5), (3600, false, 5.0, 7.5)]
    {
        let zone = Zone::start(ttl, &["10.0.0.1"]).await;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let mut names = zone.names();
            let now = Instant::now();
            names.look_up(now, || is_live).await;
            waits.push(wait(&names, now));
        }
        let fit = |wait: &f64| (shortest..longest + 0.5).contains(wait);
        assert!(waits.iter().all(fit), "TTL {ttl}: {waits:?}");
        let first = waits[0];
        assert!(waits.iter().any(|wait| (wait - first).abs() > 0.1), "not spread: {waits:?}");
    }
}

#[tokio::test]
async fn failures_back_off_and_leave_the_last_addresses() {
    let zone = Zone::start(30, &["10.0.0.1"]).await;
    let mut names = zone.names();
    names.look_up(Instant::now(), || true).await;
    zone.asked();
    zone.addresses.lock().clear();
    // The name alone; then three names of the search list and the one that was given, each in both families.
    let expected = [(2, 5.0..8.0), (8, 10.0..15.5), (8, 15.0..23.0), (8, 15.0..23.0)];
    for (failure, (searched, wait_of)) in (1..).zip(expected) {
        let now = Instant::now();
        names.entries[0].due = now;
        names.look_up(now, || true).await;
        assert_eq!(names.addresses(), addresses(&["192.0.2.9:1", "10.0.0.1:8444"]));
        assert!(wait_of.contains(&wait(&names, now)), "failure {failure}: {}", wait(&names, now));
        assert_eq!(zone.asked().len(), searched, "queries of failure {failure}");
    }
    zone.task.abort();
    names.entries[0].due = Instant::now();
    names.look_up(Instant::now(), || true).await;
    assert_eq!(names.entries[0].failures, 5, "a name server that does not answer");
    assert_eq!(names.addresses().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_brings_the_look_up_forward_but_not_at_once() {
    let mut names = Names::new(&["a:1".parse().unwrap()]);
    let now = Instant::now();
    names.entries[0].asked = Some(now);
    names.entries[0].due = now + LONGEST;
    let later = |seconds: u64| now + Duration::from_secs(seconds);
    names.hurry(later(1), 0.0);
    assert_eq!(names.due(), Some(later(5)), "never twice within 5 s");
    names.entries[0].due = later(30);
    names.hurry(later(10), 0.5);
    assert_eq!(names.due(), Some(later(10) + SHORTEST / 2), "spread over 5 s");
    names.hurry(later(11), 0.9);
    assert_eq!(names.due(), Some(later(10) + SHORTEST / 2), "never later");
}
