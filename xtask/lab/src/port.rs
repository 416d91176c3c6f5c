//! Free ports, for servers that must be told theirs before they start.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, Result, bail};

/// Below the ports that Linux takes for connections, from 32768 on: one of those may be gone before a server comes to bind it.
const PORTS: Range<u16> = 20_000..32_000;

/// A port of the loopback that nobody uses now, another one each time. Only who asks for this very port could take it before it is
/// bound, and programs that look here begin at different ones.
pub fn free() -> Result<SocketAddr> {
    static TURN: LazyLock<AtomicU16> = LazyLock::new(|| {
        let first = process::id().wrapping_mul(61) % u32::from(PORTS.end - PORTS.start);
        AtomicU16::new(u16::try_from(first).unwrap_or_default())
    });
    for _ in PORTS {
        let port = PORTS.start + TURN.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(socket) => return socket.local_addr().context("a socket without address"),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).context("cannot look for a free port"),
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end - 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_free_port_is_none_that_is_used_or_that_a_connection_may_take() {
        let first = free().unwrap();
        let next = SocketAddr::new(first.ip(), first.port() + 1);
        // If somebody else has it, the better.
        let taken = TcpListener::bind(next);
        let ports = [first, free().unwrap(), free().unwrap()];
        assert!(!ports.contains(&next) && ports[1] != first && ports[1] != ports[2], "{ports:?} {taken:?}");
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(ports.iter().all(|port| port.port() < lowest), "{ports:?}, connections from {lowest} on");
    }
}
