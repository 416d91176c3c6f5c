//! The answer that opens a stream.

use prometheus_client::metrics::counter::Counter;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use waggle_proto::ingest::{AggregatorMessage, Welcome, aggregator_message};

/// The first answer. Those of an unknown kind are passed over: a later version of the protocol has them.
pub(super) async fn welcome(
    mut answers: impl Stream<Item = Result<AggregatorMessage, Status>> + Unpin,
    unknown: &Counter,
) -> Result<Welcome, Status> {
    loop {
        match answers.next().await.transpose()?.map(|answer| answer.message) {
            Some(Some(aggregator_message::Message::Welcome(welcome))) => return Ok(welcome),
            Some(None) => {
                unknown.inc();
            }
            _ => return Err(Status::failed_precondition("the first answer is not a welcome")),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[tokio::test]
    async fn answers_of_an_unknown_kind_before_the_welcome_are_passed_over() {
        // Field 15, two bytes.
        let unknown = AggregatorMessage::decode(&[0x7a, 0x02, 0x08, 0x01][..]).unwrap();
        let message = aggregator_message::Message::Welcome(Welcome { interval_ms: 5, ..Welcome::default() });
        let answers = [unknown, AggregatorMessage { message: Some(message) }].map(Ok);
        let counter = Counter::default();
        let welcome = welcome(tokio_stream::iter(answers), &counter).await.unwrap();
        assert_eq!((welcome.interval_ms, counter.get()), (5, 1));
    }
}
