//! Limits of a port, with the values of both.

use std::time::Duration;

/// What peers may take in time and memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. More wait in the listener's backlog.
    pub connections: usize,
    /// Open connections whose peer has not proved an identity. When they are all taken, the oldest one without a request
    /// makes room for a new one.
    pub unproven: usize,
    /// TLS handshakes in their first [`Self::turn`], where the cryptography is. More wait, which counts into no timeout.
    pub handshakes: usize,
    /// How long a handshake counts as one of [`Self::handshakes`] at most: what takes longer waits for the peer.
    pub turn: Duration,
    /// Time from the connection to its first byte.
    pub first_byte: Duration,
    /// Time for a `ClientHello`, and then again for the rest of the handshake.
    pub handshake: Duration,
    /// Time from the handshake to the head of the first request, HTTP/2 preface included.
    pub first_request: Duration,
    /// Time for the head of a later HTTP/1.1 request, counted from the end of the response before it.
    pub head: Duration,
    /// Time without a request in flight.
    pub idle: Duration,
    /// Time in which a peer accepts no byte although there is something to send.
    pub write: Duration,
    /// Time for the peer to close a connection that takes no more requests, once all responses are sent.
    pub linger: Duration,
    /// Settings of HTTP.
    pub http: Http,
}

/// HTTP settings of a port.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// HTTP/1.1 is served too.
    pub http1: bool,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams: u32,
    /// Bytes of request bodies that a peer may send ahead, for each stream and for the connection.
    pub window: u32,
    /// Interval of HTTP/2 pings.
    pub ping: Duration,
    /// Time for the acknowledgement of a ping.
    pub ping_timeout: Duration,
}

/// The smallest window that HTTP/2 allows for a connection.
const WINDOW: u32 = 65_535;

impl Limits {
    /// Limits of the API port. kube-apiserver needs a few connections, direct clients one each.
    pub const fn api() -> Self {
        Self {
            connections: 4096,
            unproven: 1024,
            handshakes: 64,
            turn: Duration::from_millis(100),
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(5),
            head: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            http: Http {
                http1: true,
                // kube-apiserver multiplexes all users over few connections.
                streams: 250,
                window: WINDOW,
                ping: Duration::from_secs(30),
                ping_timeout: Duration::from_secs(20),
            },
        }
    }

    /// Limits of the agent port. An agent has one connection, and two while it renews its stream; its messages have a few
    /// kilobytes.
    pub const fn agents() -> Self {
        Self {
            connections: 32_768,
            unproven: 2048,
            idle: Duration::from_secs(30),
            http: Http {
                http1: false,
                // One stream, and another one during a renewal.
                streams: 8,
                window: WINDOW,
                ping: Duration::from_secs(20),
                ping_timeout: Duration::from_secs(10),
            },
            ..Self::api()
        }
    }
}
