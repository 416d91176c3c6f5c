//! How an attempt at a stream ends.

use std::net::SocketAddr;

use tonic::{Code, Status};

use super::{ConnectError, Ended};

/// What an attempt came to.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the aggregator at {address} ended the stream: {} ({:?})", .status.message(), .status.code())]
    Status { address: SocketAddr, status: Status },
    #[error("the aggregator at {0} did not welcome the stream in time")]
    NoWelcome(SocketAddr),
}

/// How an attempt ended that did not fail.
#[derive(Debug)]
pub(super) enum Finished {
    /// The aggregator closed the stream as planned.
    Planned,
    /// Another address already has a stream to that process, which this text identifies.
    SameReplica(String),
}

impl StreamError {
    /// What it means for the next attempt; `live` if an aggregator had welcomed the stream.
    pub(super) fn ended(&self, live: bool) -> Ended {
        match self {
            Self::Status { status, .. } => match status.code() {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::ResourceExhausted
                | Code::FailedPrecondition => Ended::Refused,
                Code::Aborted => Ended::Superseded,
                _ if live => Ended::Lost,
                _ => Ended::Unreachable,
            },
            _ => Ended::Unreachable,
        }
    }
}
