//! A blocking connection: TCP, with TLS on request. For commands and the demo, never for the relay.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::Connection;

use crate::address::Domain;
use crate::engine::event::{TlsSession, TlsSide};
use crate::shell::tls::Tls;

/// The TLS settings of both ends of such connections: a self-signed certificate, and trust in any.
pub struct LinkTls(Tls);

impl LinkTls {
    /// For a host of this name.
    pub fn self_signed(hostname: &Domain) -> io::Result<Self> {
        let tls = Tls::new(&[], hostname).map_err(io::Error::other)?;
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

    /// Performs the handshake; returns the negotiated parameters.
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
        let Some(tls) = &mut self.tls else {
            return self.stream.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.write(bytes);
        };
        let len = tls.writer().write(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
