//! The limit of everything that goes over loopback: a bare TCP connection.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::Context as _;

/// Bytes a second from one thread to another over TCP on loopback: the fastest of a few passes.
///
/// # Errors
/// If there is no loopback.
pub(super) fn bytes_per_second() -> anyhow::Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..PASSES {
        fastest = fastest.min(pass()?);
    }
    Ok(BYTES as f64 / fastest)
}

fn pass() -> anyhow::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback")?;
    let mut sending = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiving, _) = listener.accept()?;
    let begun = Instant::now();
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let chunk = vec![1; CHUNK_BYTES];
        for _ in 0..BYTES / CHUNK_BYTES {
            sending.write_all(&chunk)?;
        }
        Ok(())
    });
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut received = 0;
    while received < BYTES {
        match receiving.read(&mut chunk)? {
            0 => break,
            count => received += count,
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    sender.join().ok().context("the sender panicked")??;
    Ok(elapsed)
}

const PASSES: usize = 3;
const BYTES: usize = 512 << 20;
const CHUNK_BYTES: usize = 256 << 10;

const _: () = assert!(BYTES.is_multiple_of(CHUNK_BYTES));
