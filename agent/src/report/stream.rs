//! One stream to one address, reopened whenever it ends: hello, welcome, replay of what the aggregator missed, live.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use prost::Message;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};
use waggle_proto::{
    INSTANCE_HEADER, PROTOCOL_VERSION,
    ingest::{
        self, AgentMessage, AggregatorMessage, Clock, Hello, Welcome, agent_message, aggregator_message,
        ingest_client::IngestClient,
    },
};

use super::{
    Backoff, Encoder, Ended, Shared,
    outcome::{Finished, StreamError},
    status::Collector,
    welcome::welcome,
};
use crate::collect::BootTime;

/// Covers a TokenReview and the time that the aggregator gives its inventory.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams to `address` for as long as it is wanted; returns it when it no longer is and its stream has ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    address: SocketAddr,
    mut wanted: watch::Receiver<HashSet<SocketAddr>>,
) -> SocketAddr {
    let mut backoff = Backoff::default();
    // Streams that were asked to be renewed: they go on until the aggregator ends them. Dropped with this task.
    let mut leaving = JoinSet::new();
    loop {
        let renewal = Arc::new(Notify::new());
        let mut attempt =
            Attempt { shared: Arc::clone(&shared), address, welcomed: None, renewal: Arc::clone(&renewal) };
        let mut stream = Box::pin(async move {
            let result = attempt.stream().await;
            (attempt, result)
        });
        let ended = loop {
            tokio::select! {
                ended = &mut stream => break Some(ended),
                () = renewal.notified() => break None,
                Some(_) = leaving.join_next() => {}
            }
        };
        let Some((attempt, result)) = ended else {
            leaving.spawn(async move {
                let (attempt, result) = stream.await;
                match result {
                    Ok(_) => tracing::info!(%address, "a stream that was renewed ended"),
                    Err(error) => tracing::info!(%address, %error, "a stream that was renewed ended"),
                }
                attempt.shared.metrics.ended.get_or_create(&[("how", "planned")]).inc();
            });
            continue;
        };
        let ended = match &result {
            Ok(Finished::Planned) => Ended::Planned,
            Ok(Finished::SameReplica(instance)) => {
                tracing::info!(%address, instance, "another address has a stream to this aggregator, waiting");
                tokio::select! {
                    () = shared.replicas.released(instance) => {}
                    _ = wanted.wait_for(|wanted| !wanted.contains(&address)) => {}
                }
                if wanted.borrow().contains(&address) {
                    continue;
                }
                return address;
            }
            Err(error) => error.ended(attempt.welcomed.is_some()),
        };
        shared.metrics.ended.get_or_create(&[("how", ended.label())]).inc();
        let lived = attempt.welcomed.as_ref().map(|welcomed| welcomed.at.elapsed());
        if let (Some(welcomed), Some(lived)) = (&attempt.welcomed, lived) {
            backoff.was_live(welcomed.spread, lived, ended);
            if ended != Ended::Planned {
                shared.lost.notify_one();
            }
        }
        let failures = backoff.failures();
        let retry_in = backoff.delay(ended, fastrand::f64());
        match (&result, lived) {
            (Err(error), Some(lived)) => {
                tracing::warn!(%address, %error, ?lived, ?retry_in, "a stream to the aggregator ended, reconnecting");
            }
            // Log at 1, 2, 4, 8 … failures.
            (Err(error), None) if failures == 0 || failures.is_power_of_two() => {
                tracing::warn!(%address, %error, failures, ?retry_in, "no stream to the aggregator");
            }
            (Ok(_), Some(lived)) => {
                tracing::info!(%address, ?lived, "the aggregator ended the stream as planned, reconnecting");
            }
            _ => {}
        }
        if !wanted.borrow().contains(&address) {
            return address;
        }
        tokio::time::sleep(retry_in).await;
    }
}

struct Attempt {
    shared: Arc<Shared>,
    address: SocketAddr,
    welcomed: Option<Welcomed>,
    /// Notified when the aggregator asks for a new stream.
    renewal: Arc<Notify>,
}

/// An aggregator took the stream.
struct Welcomed {
    at: Instant,
    /// Over which it wants a first reconnect to be spread.
    spread: Duration,
}

impl Attempt {
    async fn stream(&mut self) -> Result<Finished, StreamError> {
        let authorization = self.shared.connector.authorization().await?;
        let channel = self.shared.connector.connect(self.address).await?;
        let (out, messages) = mpsc::channel(1);
        // Its clocks are read before the call, for the aggregator's counterpart is the moment of the call.
        let (hello, sent, opened) = self.hello();
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", authorization);
        let mut client = IngestClient::new(channel);
        let called = async {
            let response = client.report(request).await.map_err(|status| self.status(status))?;
            let instance = response.metadata().get(INSTANCE_HEADER).and_then(|text| text.to_str().ok());
            // An aggregator of an earlier version does not identify itself.
            let claim = match instance {
                None => None,
                Some(instance) => match self.shared.replicas.claim(instance, self.address) {
                    None => return Ok(Err(Finished::SameReplica(instance.to_owned()))),
                    claim => claim,
                },
            };
            let mut answers = response.into_inner();
            // The channel has room for this one.
            let _ = out.try_send(hello);
            let welcome = welcome(&mut answers, &self.shared.metrics.unknown)
                .await
                .map_err(|status| self.status(status))?;
            Ok::<_, StreamError>(Ok((answers, welcome, claim)))
        };
        let (answers, welcome, _claim) = match tokio::time::timeout(WELCOME_TIMEOUT, called).await {
            Ok(Ok(Ok(live))) => live,
            Ok(Ok(Err(finished))) => return Ok(finished),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(StreamError::NoWelcome(self.address)),
        };
        let spread = millis(welcome.reconnect_spread_ms);
        self.welcomed = Some(Welcomed { at: Instant::now(), spread });
        tracing::info!(
            address = %self.address, newest_boot_ns = welcome.newest_boot_ns, interval_ms = welcome.interval_ms,
            "streaming to the aggregator"
        );
        self.shared.live.fetch_add(1, Ordering::Relaxed);
        self.shared.metrics.streams.inc();
        let ended = self.send(answers, out, &welcome, sent, opened).await;
        self.shared.metrics.streams.dec();
        self.shared.live.fetch_sub(1, Ordering::Relaxed);
        ended.map(|()| Finished::Planned).map_err(|status| self.status(status))
    }

    fn status(&self, status: Status) -> StreamError {
        StreamError::Status { address: self.address, status }
    }

    /// The first message, the status in it, and its instant.
    fn hello(&self) -> (AgentMessage, Arc<Collector>, BootTime) {
        let config = &self.shared.config;
        let collector = self.shared.status.get();
        let (boot, real) = (config.clocks)();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            boot_id: config.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            collector: collector.name.clone(),
            refusals: collector.refusals.clone(),
            clock: Some(Clock { boot_ns: boot.0, realtime_ns: real.0 }),
            page_size: config.page_size,
        };
        (AgentMessage { message: Some(agent_message::Message::Hello(hello)) }, collector, boot)
    }

    async fn send(
        &self,
        mut answers: Streaming<AggregatorMessage>,
        out: mpsc::Sender<AgentMessage>,
        welcome: &Welcome,
        mut sent: Arc<Collector>,
        opened: BootTime,
    ) -> Result<(), Status> {
        let mut newest = self.shared.newest.subscribe();
        let mut encoder = Encoder::default();
        let mut last = BootTime(welcome.newest_boot_ns);
        let mut pace = millis(welcome.interval_ms);
        let mut due = true;
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => match answer? {
                    Some(answer) => match answer.message {
                        Some(aggregator_message::Message::Pace(new)) => pace = millis(new.interval_ms),
                        Some(aggregator_message::Message::Renew(_)) => self.renewal.notify_one(),
                        Some(aggregator_message::Message::Welcome(_)) => {
                            return Err(Status::failed_precondition("a second welcome"));
                        }
                        None => {
                            self.shared.metrics.unknown.inc();
                        }
                    },
                    None => return Ok(()),
                },
                room = out.reserve(), if due => {
                    // The stream is ending; the status of the response has the reason.
                    let Ok(room) = room else {
                        due = false;
                        newest = watch::channel(BootTime(0)).1;
                        continue;
                    };
                    match self.next(&mut encoder, &mut sent, last, opened, pace) {
                        Some((message, boot)) => {
                            last = boot;
                            self.shared.metrics.snapshots.inc();
                            self.shared.metrics.bytes.inc_by(message.encoded_len() as u64);
                            room.send(message);
                        }
                        None => due = false,
                    }
                }
                Ok(()) = newest.changed(), if !due => due = true,
            }
        }
    }

    /// The next message, encoded under the ring's lock: microseconds, and sampling goes on. `sent` is the status that
    /// this stream sent last.
    fn next(
        &self,
        encoder: &mut Encoder,
        sent: &mut Arc<Collector>,
        last: BootTime,
        opened: BootTime,
        pace: Duration,
    ) -> Option<(AgentMessage, BootTime)> {
        let (mut snapshot, boot) = {
            let ring = self.shared.ring.lock();
            let frame = ring.next(last, opened, pace)?;
            (encoder.encode(frame, &ring, frame.boot <= opened), frame.boot)
        };
        let current = self.shared.status.get();
        if !Arc::ptr_eq(&current, sent) {
            let Collector { name, refusals } = &*current;
            snapshot.collector = Some(ingest::Collector { name: name.clone(), refusals: refusals.clone() });
            *sent = current;
        }
        Some((AgentMessage { message: Some(agent_message::Message::Snapshot(snapshot)) }, boot))
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
