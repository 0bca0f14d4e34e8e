//! A connection that waits: TCP with TLS on it when it is asked for. For commands and the demo, never for the relay.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::Connection;

use super::tls::Tls;
use crate::address::Domain;
use crate::engine::event::{TlsSession, TlsSide};

/// What both ends of such connections need for their handshakes: a self-signed certificate, and trust in any.
pub struct LinkTls(Tls);

impl LinkTls {
    /// For a host of this name.
    pub fn self_signed(hostname: &Domain) -> io::Result<Self> {
        let (tls, _, _) = Tls::new(&[], hostname).map_err(io::Error::other)?;
        Ok(Self(tls))
    }
}

/// One connection.
pub struct Link {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Link {
    /// Over a connected stream; every read and write ends after `timeout`.
    pub fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, tls: None })
    }

    /// Does the handshake; gives what was agreed.
    pub fn start_tls(&mut self, tls: &LinkTls, side: &TlsSide) -> io::Result<TlsSession> {
        let mut connection = Box::new(tls.0.connection(side).map_err(io::Error::other)?);
        while connection.is_handshaking() {
            connection.complete_io(&mut self.stream)?;
        }
        let session = tls.0.session(&connection, side);
        self.tls = Some(connection);
        Ok(session)
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(buffer),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.flush(),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).flush(),
        }
    }
}
