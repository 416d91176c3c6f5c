//! A client that can send anything.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use waggle_proto::ingest::{AgentMessage, AggregatorMessage, Welcome, agent_message, aggregator_message};

use crate::world::within;

pub struct Client {
    pub out: mpsc::Sender<AgentMessage>,
    pub answers: Streaming<AggregatorMessage>,
    pub channel: tonic::transport::Channel,
}

impl Client {
    pub async fn send(&self, message: agent_message::Message) {
        self.out.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    pub async fn welcome(&mut self) -> Welcome {
        match within(self.answers.message()).await.unwrap().and_then(|answer| answer.message) {
            Some(aggregator_message::Message::Welcome(welcome)) => welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// The status that the stream ended with; `None` for OK.
    pub async fn end(&mut self) -> Option<Status> {
        loop {
            match within(self.answers.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}

/// Sends one frame whose bytes are no message; gives the `grpc-status` of the answer.
pub async fn corrupt(channel: tonic::transport::Channel, token: &str) -> Option<String> {
    use http_body_util::{BodyExt, Full};
    use tower::Service;

    // Flag 0, five bytes, a field that announces more than there is.
    let frame = bytes::Bytes::from_static(&[0, 0, 0, 0, 5, 0x0a, 0xff, 0xff, 0xff, 0x7f]);
    let request = http::Request::post("/waggle.ingest.v1.Ingest/Report")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(tonic::body::Body::new(Full::new(frame).map_err(|never| match never {})))
        .unwrap();
    let mut channel = channel;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = within(channel.call(request)).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    body.trailers()?.get("grpc-status").map(|value| value.to_str().unwrap().to_owned())
}
