//! Limits of a port, with the values of both.

use std::time::Duration;

/// What a peer may take in time and memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. More wait in the listener's backlog.
    pub connections: usize,
    /// Concurrent TLS handshakes.
    pub handshakes: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for the head of an HTTP/1.1 request, counted from the end of the response before it.
    pub head: Duration,
    /// Time that a connection may be without a request.
    pub idle: Duration,
    /// Settings of HTTP.
    pub http: Http,
}

/// HTTP settings of a port.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// HTTP/1.1 is served too.
    pub http1: bool,
    /// Bytes of all header fields of a request.
    pub headers: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams: u32,
    /// Interval of HTTP/2 pings.
    pub ping: Duration,
    /// Time for the acknowledgement of a ping.
    pub ping_timeout: Duration,
}

impl Limits {
    /// Limits of the API port. kube-apiserver needs a few connections, direct clients one each.
    pub const fn api() -> Self {
        Self {
            connections: 4096,
            handshakes: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            http: Http {
                http1: true,
                // Go servers take 1 MiB: a user in a thousand groups sends a thousand headers.
                headers: 1 << 20,
                // kube-apiserver multiplexes all users over few connections.
                streams: 250,
                ping: Duration::from_secs(30),
                ping_timeout: Duration::from_secs(20),
            },
        }
    }

    /// Limits of the agent port. An agent has one connection per stream, and two while it renews its stream.
    pub const fn agents() -> Self {
        Self {
            connections: 32_768,
            handshakes: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            idle: Duration::from_hours(24),
            http: Http {
                http1: false,
                headers: 16 << 10,
                // One stream, and another one during a renewal.
                streams: 8,
                ping: Duration::from_secs(20),
                ping_timeout: Duration::from_secs(10),
            },
        }
    }
}
