//! The way into a cluster's network: a port of loopback whose connections are carried to kube-apiserver. The listening
//! socket is made outside and handed to a process inside.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    thread,
};

use anyhow::{Context, Result};

/// A free port of this thread's loopback, listened on.
pub fn listen() -> Result<(SocketAddr, OwnedFd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    let address = listener.local_addr().context("a listener without address")?;
    Ok((address, listener.into()))
}

/// Carries every connection of the listener at standard input to `address`, forever.
pub fn run(address: &str) -> Result<()> {
    let listener = io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?;
    let listener = TcpListener::from(listener);
    listener.local_addr().context("standard input is not a listening socket")?;
    for connection in listener.incoming() {
        let Ok(outside) = connection else { continue };
        let address = address.to_owned();
        thread::spawn(move || {
            // Whoever called sees that the connection ends: nobody else is to be told.
            let _ = carry(&outside, &address);
        });
    }
    Ok(())
}

fn carry(outside: &TcpStream, address: &str) -> io::Result<()> {
    let inside = TcpStream::connect(address)?;
    thread::scope(|scope| {
        scope.spawn(|| one_way(outside, &inside));
        one_way(&inside, outside);
    });
    Ok(())
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ends, the other side is told that nothing more comes.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
