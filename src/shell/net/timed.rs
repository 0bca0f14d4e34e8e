//! A blocking connection with a deadline: no call waits past it, however slowly the peer sends or receives bytes.
//!
//! The timeout of a socket restarts with each byte, and TLS reads many times in one call.

use std::borrow::Borrow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// A blocking connection whose reads and writes fail once the deadline has passed.
#[derive(Debug)]
pub struct DeadlineStream<S> {
    stream: S,
    until: Instant,
}

impl<S: Borrow<TcpStream>> DeadlineStream<S> {
    /// With this deadline.
    pub fn new(stream: S, until: Instant) -> Self {
        Self { stream, until }
    }

    /// The connection, with the remaining time as its timeout.
    fn held(&self) -> io::Result<&TcpStream> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let stream = self.stream.borrow();
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        Ok(stream)
    }
}

impl<S: Borrow<TcpStream>> Read for DeadlineStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.held()?.read(buffer)
    }
}

impl<S: Borrow<TcpStream>> Write for DeadlineStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.held()?.flush()
    }
}

/// Whether a call ended because its time was over. A socket says either of them.
pub fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_that_come_one_by_one_do_not_move_the_deadline() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let slow = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // Ends when the other side is gone.
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let stream = TcpStream::connect(address).expect("connected");
        let begun = Instant::now();
        let mut timed = DeadlineStream::new(stream, begun + Duration::from_millis(300));
        let mut all = [0; 100_000];
        let error = timed.read_exact(&mut all).expect_err("late");
        assert!(is_late(&error), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(all.first(), Some(&b'x'));
        drop(timed);
        slow.join().expect("it ends");
    }
}
