//! Carries one connection between standard input and output and a port of the loopback: QEMU starts it for each
//! connection that a guest opens.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
};

use anyhow::{Context, Result};

/// Carries until either side has ended.
pub fn run(address: &str) -> Result<()> {
    let mut to = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    to.set_nodelay(true).context("cannot switch Nagle's algorithm off")?;
    let mut from = to.try_clone().context("cannot split the connection")?;
    thread::spawn(move || {
        // Errors end the connection, which is all that an end of this process could say.
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut output = io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).context("the host's side broke off")?;
        if read == 0 {
            return Ok(());
        }
        output.write_all(buffer.get(..read).unwrap_or_default()).context("the guest's side broke off")?;
        output.flush().context("the guest's side broke off")?;
    }
}
