//! One stream, from its admission to its end.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument, field::Empty};
use waggle_proto::{
    INSTANCE_HEADER,
    ingest::{
        AgentMessage, AggregatorMessage, Hello, Pace, Renew, Welcome, agent_message, aggregator_message,
        ingest_server,
    },
};

use super::{
    IngestState, Metrics,
    admission::Admitted,
    fault::{Closed, End, Fault},
    spread,
    stream::{NodeStream, Now},
};

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream's longest life, before jitter adds up to as much again.
const LIFE: Duration = Duration::from_mins(30);
/// A stream's shortest life, for clocks that disagree about a token's expiry.
const SHORTEST: Duration = Duration::from_secs(10);
/// An agent is asked for a new stream this long before the end of the old one, at most half of its life.
const NOTICE: Duration = Duration::from_secs(30);
/// Reconnects are spread over at least this span.
const SPREAD: Duration = Duration::from_secs(1);

/// The gRPC service.
pub(super) struct Service {
    state: IngestState,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(state: IngestState, shutdown: CancellationToken) -> Self {
        Self { state, shutdown }
    }
}

#[tonic::async_trait]
impl ingest_server::Ingest for Service {
    type ReportStream = ReceiverStream<Result<AggregatorMessage, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        // Before admission, which may take long: the agent's `Hello` was made before it opened the stream.
        let asked = Instant::now();
        let peer = request.extensions().get::<SocketAddr>().copied();
        // Admission records which pod and node the token names, so that every later line has them.
        let span =
            tracing::warn_span!("agent", peer = peer.map(tracing::field::display), pod = Empty, node = Empty);
        let shared = &self.state.shared;
        let admission = shared.admission.admit(request.metadata(), &shared.inventory);
        let admitted = admission.instrument(span.clone()).await.map_err(|refusal| {
            Metrics::count(&shared.metrics.refused, refusal.reason());
            span.in_scope(|| tracing::warn!(reason = refusal.reason(), "an agent's stream was refused"));
            refusal.status()
        })?;
        let (out, answers) = mpsc::channel(4);
        let messages = request.into_inner();
        let session = Session { state: self.state.clone(), admitted, asked, messages, out };
        tokio::spawn(session.run(self.shutdown.clone()).instrument(span));
        let mut response = Response::new(ReceiverStream::new(answers));
        // Before the hello: the agent may find that it streams to this process already.
        response.metadata_mut().insert(INSTANCE_HEADER, shared.instance.clone());
        Ok(response)
    }
}

struct Session {
    state: IngestState,
    admitted: Admitted,
    asked: Instant,
    messages: Streaming<AgentMessage>,
    out: mpsc::Sender<Result<AggregatorMessage, Status>>,
}

impl Session {
    async fn run(mut self, shutdown: CancellationToken) {
        let state = self.state.clone();
        state.shared.streams.fetch_add(1, Ordering::Relaxed);
        state.shared.metrics.streams.inc();
        let end = tokio::select! {
            biased;
            () = shutdown.cancelled() => End::Closed(Closed::Shutdown),
            end = self.stream() => end,
        };
        let status = match end {
            End::Fault(fault) => {
                Metrics::count(&state.shared.metrics.faults, fault.reason());
                tracing::warn!(%fault, "an agent's stream was ended");
                Some(fault.status())
            }
            End::Closed(closed) => {
                Metrics::count(&state.shared.metrics.closed, closed.reason());
                tracing::info!(reason = closed.reason(), "an agent's stream ended");
                closed.status()
            }
        };
        state.shared.metrics.streams.dec();
        state.shared.streams.fetch_sub(1, Ordering::Relaxed);
        if let Some(status) = status {
            // The peer may be gone; then nobody needs the status.
            let _ = self.out.send(Err(status)).await;
        }
    }

    async fn stream(&mut self) -> End {
        match self.try_stream().await {
            Ok(closed) => End::Closed(closed),
            Err(end) => end,
        }
    }

    async fn try_stream(&mut self) -> Result<Closed, End> {
        let life = life(self.admitted.expires, SystemTime::now());
        let deadline = tokio::time::Instant::now() + life;
        let renewal = deadline - NOTICE.min(life / 2);
        let mut renewing = false;
        let hello = self.hello().await?;
        let mut pace = self.state.shared.pace.subscribe();
        pace.mark_unchanged();
        let (mut stream, mut end, newest) =
            NodeStream::open(&self.state, &self.admitted, &hello, self.asked, Instant::now())?;
        tracing::info!(
            agent = hello.agent_version, collector = hello.collector,
            refusals = ?hello.refusals, newest_boot_ns = newest.0, "an agent's stream is live"
        );
        let nodes = u32::try_from(self.state.shared.inventory.nodes().len()).unwrap_or(u32::MAX);
        let welcome = Welcome {
            newest_boot_ns: newest.0,
            interval_ms: millis(stream.pace),
            reconnect_spread_ms: millis(spread(nodes).max(SPREAD)),
        };
        self.send(aggregator_message::Message::Welcome(welcome)).await?;
        loop {
            let message = tokio::select! {
                biased;
                closed = &mut end => return Ok(match closed.unwrap_or(Closed::Superseded) {
                    // By the stream that was asked for.
                    Closed::Superseded if renewing => Closed::Planned,
                    closed => closed,
                }),
                () = tokio::time::sleep_until(deadline) => return Ok(Closed::Planned),
                () = tokio::time::sleep_until(renewal), if !renewing => {
                    renewing = true;
                    self.send(aggregator_message::Message::Renew(Renew {})).await?;
                    continue;
                }
                changed = pace.changed() => {
                    changed.map_err(|_| End::Closed(Closed::Shutdown))?;
                    stream.pace = *pace.borrow_and_update();
                    let announced = Pace { interval_ms: millis(stream.pace) };
                    self.send(aggregator_message::Message::Pace(announced)).await?;
                    continue;
                }
                message = self.messages.message() => received(message)?,
            };
            match message.message {
                Some(agent_message::Message::Snapshot(snapshot)) => {
                    let began = now();
                    let taken = stream.take(&snapshot, began);
                    if let Some(compatibility) = &self.state.shared.metrics.compatibility {
                        compatibility.took(began.monotonic.elapsed());
                        if taken.is_err() {
                            compatibility.refused();
                        }
                    }
                    taken?;
                }
                Some(agent_message::Message::Hello(_)) => {
                    return Err(Fault::Malformed("a second hello").into());
                }
                None => {
                    self.state.shared.metrics.unknown.inc();
                }
            }
        }
    }

    /// The first message. Those of an unknown kind are passed over: a later version of the protocol has them.
    async fn hello(&mut self) -> Result<Hello, End> {
        let first = async {
            loop {
                match received(self.messages.message().await)?.message {
                    Some(agent_message::Message::Hello(hello)) => return Ok(hello),
                    Some(_) => return Err(Fault::Malformed("the first message is not a hello").into()),
                    None => {
                        self.state.shared.metrics.unknown.inc();
                    }
                }
            }
        };
        let hello = tokio::time::timeout(HELLO_TIMEOUT, first).await;
        hello.unwrap_or(Err(Fault::Malformed("no hello within 10 s").into()))
    }

    async fn send(&self, message: aggregator_message::Message) -> Result<(), End> {
        let message = AggregatorMessage { message: Some(message) };
        self.out.send(Ok(message)).await.map_err(|_| End::Closed(Closed::Lost))
    }
}

fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::now() }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// How long a stream may live: until its token expires, at most 30 to 60 minutes.
fn life(expires: Option<SystemTime>, now: SystemTime) -> Duration {
    let jittered = LIFE + LIFE.mul_f64(fastrand::f64());
    let left = expires.map(|at| at.duration_since(now).unwrap_or_default());
    left.map_or(jittered, |left| left.clamp(SHORTEST, jittered))
}

/// What tonic makes of the peer's bytes. Messages that cannot be read come from the decoder, without a source; a
/// connection that broke comes with its cause.
fn received(message: Result<Option<AgentMessage>, Status>) -> Result<AgentMessage, End> {
    match message {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(End::Closed(Closed::Lost)),
        Err(status) if std::error::Error::source(&status).is_some() => Err(End::Closed(Closed::Lost)),
        Err(status) => Err(match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => End::Fault(Fault::Oversized),
            Code::Internal | Code::Unimplemented | Code::InvalidArgument => {
                End::Fault(Fault::Malformed("a frame cannot be decoded"))
            }
            _ => End::Closed(Closed::Lost),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_lives_until_its_token_expires_or_for_half_an_hour_to_an_hour() {
        let now = SystemTime::now();
        let minutes = |minutes: u64| Duration::from_mins(minutes);
        for _ in 0..100 {
            assert_eq!(life(Some(now + minutes(5)), now), minutes(5));
            for expires in [None, Some(now + minutes(600))] {
                assert!((minutes(30)..=minutes(60)).contains(&life(expires, now)));
            }
        }
        // Clocks may disagree about a token that was just reviewed.
        assert_eq!(life(Some(now - minutes(1)), now), SHORTEST);
    }
}
