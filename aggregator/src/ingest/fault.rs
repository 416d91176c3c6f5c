//! Why a stream was refused, ended, or some of its samples dropped: each reason has one name, which is its metric label.

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

/// What a message did that ends its stream. Nothing of such a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a message of the protocol, or one that breaks its rules.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Larger than [`super::MAX_MESSAGE`].
    #[error("oversized: a message may have at most {} bytes", super::MAX_MESSAGE)]
    Oversized,
    /// More containers than a node of that pod capacity can have.
    #[error("too-many-containers: a message has {offered}, the node may have {limit}")]
    TooManyContainers {
        /// What the message has.
        offered: usize,
        /// What is believed.
        limit: usize,
    },
    /// Totals of more pods than the node can have.
    #[error("too-many-pods: a message has totals of {offered}, the node may have {limit}")]
    TooManyPods {
        /// What the message has.
        offered: usize,
        /// What is believed.
        limit: usize,
    },
    /// Not newer than the sample before it.
    #[error("out-of-order: boot time {offered} ns came after {newest} ns")]
    OutOfOrder {
        /// The message's instant.
        offered: u64,
        /// The newest instant held.
        newest: u64,
    },
    /// Another protocol version.
    #[error("protocol: version {0} is not spoken here, expected {version}", version = waggle_proto::PROTOCOL_VERSION)]
    Protocol(u32),
}

impl Fault {
    /// The metric label; also the first word of the status text.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Oversized => "oversized",
            Self::TooManyContainers { .. } => "too-many-containers",
            Self::TooManyPods { .. } => "too-many-pods",
            Self::OutOfOrder { .. } => "out-of-order",
            Self::Protocol(_) => "protocol",
        }
    }

    /// The gRPC status that the agent sees.
    pub fn status(&self) -> Status {
        let code = match self {
            Self::Oversized | Self::TooManyContainers { .. } | Self::TooManyPods { .. } => {
                Code::ResourceExhausted
            }
            Self::Protocol(_) => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        };
        Status::new(code, self.to_string())
    }
}

/// Why a stream was not admitted (`authentication.md`, B3). The peer is told the code, never the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No `authorization: Bearer …` metadata.
    TokenMissing,
    /// A token of more than 16 KiB.
    TokenTooLarge,
    /// The review did not authenticate it.
    TokenRejected,
    /// It was issued for another audience.
    Audience,
    /// It belongs to another service account.
    ServiceAccount,
    /// It is not bound to exactly one pod and node.
    Claims,
    /// The inventory does not know that pod on that node.
    PodMismatch,
    /// The inventory does not know that node.
    NodeMismatch,
    /// Pods and Nodes were not listed yet: nobody can be found.
    NotListed,
    /// The review could not be made.
    ReviewUnavailable,
    /// Too many reviews wait already.
    QueueFull,
}

impl Refusal {
    /// The metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TokenMissing => "token-missing",
            Self::TokenTooLarge => "token-too-large",
            Self::TokenRejected => "token-rejected",
            Self::Audience => "audience",
            Self::ServiceAccount => "service-account",
            Self::Claims => "claims",
            Self::PodMismatch => "pod-mismatch",
            Self::NodeMismatch => "node-mismatch",
            Self::NotListed => "not-listed",
            Self::ReviewUnavailable => "review-unavailable",
            Self::QueueFull => "queue-full",
        }
    }

    /// The gRPC status that the agent sees.
    pub fn status(self) -> Status {
        match self {
            Self::PodMismatch | Self::NodeMismatch => {
                Status::permission_denied("this credential may not report for a node")
            }
            Self::NotListed | Self::ReviewUnavailable | Self::QueueFull => {
                let mut hint = MetadataMap::new();
                hint.insert("grpc-retry-pushback-ms", MetadataValue::from_static("1000"));
                let text = "the credential cannot be reviewed now, try again later";
                Status::with_metadata(Code::Unavailable, text, hint)
            }
            _ => Status::unauthenticated("a valid agent credential is required"),
        }
    }
}

/// Why a stream that did nothing wrong ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Its time was over: a new one proves the credential again. The stream ends with OK.
    Planned,
    /// A newer stream of the same node took its place.
    Superseded,
    /// The inventory says that the agent's pod is gone, moved or replaced.
    AgentGone,
    /// The inventory says that the node is gone or replaced.
    NodeGone,
    /// The aggregator shuts down.
    Shutdown,
    /// The peer went away.
    Lost,
}

impl Closed {
    /// The metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Superseded => "superseded",
            Self::AgentGone => "agent-gone",
            Self::NodeGone => "node-gone",
            Self::Shutdown => "shutdown",
            Self::Lost => "lost",
        }
    }

    /// The gRPC status that the agent sees; `None` where the stream simply ends.
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Planned | Self::Lost => None,
            Self::Superseded => Some(Status::aborted("superseded: a newer stream of this node took over")),
            Self::AgentGone => Some(Status::permission_denied("agent-gone: the agent's pod is no more")),
            Self::NodeGone => Some(Status::permission_denied("node-gone: the node is no more")),
            Self::Shutdown => Some(Status::unavailable("shutdown: the aggregator is going away")),
        }
    }
}

/// Why a stream ended.
#[derive(Debug)]
pub(super) enum End {
    Fault(Fault),
    Closed(Closed),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}
