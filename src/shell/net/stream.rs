//! One connection: TCP or Unix, plain or under TLS, read and written without ever waiting.
//!
//! ```text
//!   Connecting --> Open --StartTls--> Upgrading --output is out--> Securing --handshake--> Open
//!                    |                                                                      |
//!                    '------------------ Close --> Closing --output is out--> Lingering <---'
//! ```
//!
//! Readiness arrives as edges and is remembered until the system reports that nothing is left. Output is kept only
//! until the kernel takes it. An orderly close sends the TLS close alert, shuts down the sending half, and then reads
//! and discards input for a while: closing a socket with unread input would reset the connection, and the peer would
//! lose the reply that gives the reason.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::Connection;

use crate::engine::event::{ConnId, Lost, TlsSession, TlsSide};
use crate::limits::{LINGER_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::shell::tls::Tls;

/// A socket of either kind.
#[derive(Debug)]
pub(in crate::shell) enum Socket {
    Tcp(TcpStream),
    /// A process of this machine.
    Unix(UnixStream),
}

#[derive(Debug)]
pub(in crate::shell) struct Stream {
    /// Its name for the engine.
    pub(in crate::shell) conn: ConnId,
    socket: Socket,
    tls: Option<Box<Connection>>,
    stage: Stage,
    output: Vec<u8>,
    written: usize,
    drain_owed: bool,
    inflow: Inflow,
    writable: bool,
    /// The side that began the connection.
    side: Side,
}

/// The side that began a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    /// The peer. Input that cannot be answered is not read.
    Theirs,
    /// This host. Input that the peer sent before it closed answers our output, and is read to its end.
    Ours,
}

/// The state of the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inflow {
    /// No input; an edge will announce it.
    Empty,
    /// There may be input.
    Waiting,
    /// There may be input, then the end of the stream, for which no further edge comes.
    Ending,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Open,
    Upgrading(TlsSide),
    Securing(TlsSide),
    Closing,
    Lingering { discarded: usize },
}

/// The result of one attempt to read.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::shell) enum ReadResult {
    /// This number of bytes was read.
    Bytes(usize),
    /// TLS consumed this number of bytes, without decrypted data.
    Progress(usize),
    /// The connection is established.
    Connected,
    /// The handshake is done.
    Secured(TlsSession),
    /// No more input for now.
    Nothing,
    /// The connection is lost.
    Lost(Lost),
}

/// The result of writing.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::shell) enum WriteResult {
    /// The output buffer is empty; report `Drained`.
    Drained,
    /// Nothing to report.
    Idle,
    /// The connection is lost.
    Lost(Lost),
}

impl Socket {
    /// Registers it with the poll, once and for both directions.
    pub(in crate::shell) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, token, both),
            Self::Unix(stream) => registry.register(stream, token, both),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Whether a started connection is established.
    fn is_connected(&self) -> io::Result<bool> {
        let Self::Tcp(stream) = self else {
            return Ok(true);
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(bytes),
            Self::Unix(stream) => stream.write_vectored(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// An established connection.
    pub(in crate::shell) fn accepted(socket: Socket, conn: ConnId) -> Self {
        Self::new(socket, conn, Stage::Open, Side::Theirs)
    }

    /// A connection that was begun.
    pub(in crate::shell) fn connecting(socket: Socket, conn: ConnId) -> Self {
        Self::new(socket, conn, Stage::Connecting, Side::Ours)
    }

    fn new(socket: Socket, conn: ConnId, stage: Stage, side: Side) -> Self {
        Self {
            conn,
            socket,
            tls: None,
            stage,
            output: Vec::new(),
            written: 0,
            drain_owed: false,
            inflow: Inflow::Waiting,
            writable: true,
            side,
        }
    }

    /// Notes an edge of the poll; `ended` means that the peer will send no more.
    pub(in crate::shell) fn on_ready(&mut self, readable: bool, writable: bool, ended: bool) {
        // An established connection shows as writable.
        if ended {
            self.inflow = Inflow::Ending;
        } else if readable || matches!(self.stage, Stage::Connecting) {
            self.look_again();
        }
        self.writable |= writable;
    }

    /// Whether a read may return data that may be passed on. `wanted` is the engine's answer.
    pub(in crate::shell) fn may_read(&self, wanted: bool) -> bool {
        let allowed = match self.stage {
            Stage::Open => wanted && self.output.len() <= OUTPUT_BYTES_MAX,
            Stage::Upgrading(_) => false,
            Stage::Connecting | Stage::Securing(_) | Stage::Closing | Stage::Lingering { .. } => {
                true
            }
        };
        allowed && self.is_readable()
    }

    /// Whether there may be input that the engine does not want yet.
    pub(in crate::shell) fn is_readable(&self) -> bool {
        self.inflow != Inflow::Empty
    }

    /// Whether output is still in the buffer.
    pub(in crate::shell) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether the engine has closed it.
    pub(in crate::shell) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Lingering { .. })
    }

    /// Whether all output is written and only the peer's close is awaited.
    pub(in crate::shell) fn is_lingering(&self) -> bool {
        matches!(self.stage, Stage::Lingering { .. })
    }

    /// Adds to the output buffer.
    pub(in crate::shell) fn send(&mut self, bytes: Vec<u8>) {
        self.drain_owed = true;
        if self.output.is_empty() {
            self.output = bytes;
        } else {
            self.output.extend_from_slice(&bytes);
        }
    }

    /// Begins TLS once all output is written.
    pub(in crate::shell) fn start_tls(&mut self, side: TlsSide) {
        self.stage = Stage::Upgrading(side);
    }

    /// Closes in order once all output is written. Nothing is reported after this.
    pub(in crate::shell) fn close(&mut self) {
        self.drain_owed = false;
        self.look_again();
        self.stage = Stage::Closing;
    }

    /// Reads once, or continues a handshake.
    pub(in crate::shell) fn read(&mut self, tls: &Tls, into: &mut [u8]) -> ReadResult {
        match self.stage {
            Stage::Connecting => self.connect(),
            Stage::Upgrading(_) => ReadResult::Nothing,
            Stage::Closing | Stage::Lingering { .. } => self.discard(into),
            Stage::Open | Stage::Securing(_) if self.tls.is_some() => self.read_tls(tls, into),
            Stage::Open | Stage::Securing(_) => match self.read_socket(into) {
                Ok(0) => ReadResult::Lost(Lost::Eof),
                Ok(len) => ReadResult::Bytes(len),
                Err(error) => self.failed(&error),
            },
        }
    }

    /// Writes as much as the kernel takes.
    pub(in crate::shell) fn write(&mut self, tls: &Tls) -> WriteResult {
        if matches!(self.stage, Stage::Connecting) || !self.writable {
            return WriteResult::Idle;
        }
        match self.write_all(tls) {
            Ok(()) if self.output.is_empty() && std::mem::take(&mut self.drain_owed) => {
                WriteResult::Drained
            }
            Ok(()) => WriteResult::Idle,
            Err(WriteError::Socket(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                WriteResult::Idle
            }
            Err(WriteError::Socket(_))
                if self.side == Side::Ours && matches!(self.stage, Stage::Open) =>
            {
                // No more output is possible; the end is reported when all input has been read.
                self.output = Vec::new();
                self.written = 0;
                self.drain_owed = false;
                self.writable = false;
                self.inflow = Inflow::Ending;
                WriteResult::Idle
            }
            Err(WriteError::Socket(error)) => WriteResult::Lost(lost(&error)),
            Err(WriteError::Tls(cause)) => WriteResult::Lost(Lost::Tls(cause)),
        }
    }

    fn connect(&mut self) -> ReadResult {
        match self.socket.is_connected() {
            Ok(true) => {
                self.stage = Stage::Open;
                ReadResult::Connected
            }
            Ok(false) => {
                self.inflow = Inflow::Empty;
                ReadResult::Nothing
            }
            Err(error) => ReadResult::Lost(lost(&error)),
        }
    }

    fn discard(&mut self, into: &mut [u8]) -> ReadResult {
        match (self.read_socket(into), &mut self.stage) {
            (Ok(0), _) => {
                // While output is left, the peer may still read it.
                self.inflow = Inflow::Empty;
                if self.is_lingering() {
                    ReadResult::Lost(Lost::Eof)
                } else {
                    ReadResult::Nothing
                }
            }
            (Ok(len), Stage::Lingering { discarded }) => {
                *discarded = discarded.saturating_add(len);
                if *discarded > LINGER_BYTES_MAX {
                    return ReadResult::Lost(Lost::Reset);
                }
                ReadResult::Progress(len)
            }
            (Ok(len), _) => ReadResult::Progress(len),
            (Err(error), _) => self.failed(&error),
        }
    }

    fn read_tls(&mut self, tls: &Tls, into: &mut [u8]) -> ReadResult {
        let Some(connection) = self.tls.as_deref_mut() else {
            return ReadResult::Nothing;
        };
        match connection.reader().read(into) {
            Ok(0) => return ReadResult::Lost(Lost::Eof),
            Ok(len) => return ReadResult::Bytes(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The stream ended without close_notify: an attacker may have truncated the input.
            Err(_) => return ReadResult::Lost(Lost::Reset),
        }
        let len = match connection.read_tls(&mut self.socket) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => return ReadResult::Progress(0),
            Err(error) => return self.failed(&error),
        };
        if let Err(error) = connection.process_new_packets() {
            // The alert with the reason. If it does not fit into the kernel's buffer, it is dropped.
            drop(connection.write_tls(&mut self.socket));
            return ReadResult::Lost(Lost::Tls(error.to_string()));
        }
        let Stage::Securing(side) = &self.stage else {
            return ReadResult::Progress(len);
        };
        if connection.is_handshaking() {
            return if len == 0 {
                ReadResult::Lost(Lost::Eof)
            } else {
                ReadResult::Progress(len)
            };
        }
        let session = tls.session(connection, side);
        self.stage = Stage::Open;
        ReadResult::Secured(session)
    }

    fn look_again(&mut self) {
        if self.inflow == Inflow::Empty {
            self.inflow = Inflow::Waiting;
        }
    }

    fn read_socket(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The kernel had no more input than this. Later input causes an edge of its own, and the end of the
                // stream, which may have arrived already, has been announced.
                Ok(len) if len < into.len() && self.inflow == Inflow::Waiting => {
                    self.inflow = Inflow::Empty;
                    return Ok(len);
                }
                result => return result,
            }
        }
    }

    fn failed(&mut self, error: &io::Error) -> ReadResult {
        if error.kind() == ErrorKind::WouldBlock {
            self.inflow = Inflow::Empty;
            return ReadResult::Nothing;
        }
        ReadResult::Lost(lost(error))
    }

    fn write_all(&mut self, tls: &Tls) -> Result<(), WriteError> {
        self.write_output()?;
        match &self.stage {
            Stage::Upgrading(side) => {
                self.tls = Some(Box::new(tls.connection(side).map_err(WriteError::Tls)?));
                if let Stage::Upgrading(side) = std::mem::replace(&mut self.stage, Stage::Closing) {
                    self.stage = Stage::Securing(side);
                }
                self.look_again();
                self.write_output()
            }
            Stage::Closing => {
                if let Some(connection) = self.tls.as_deref_mut() {
                    connection.send_close_notify();
                    self.write_output()?;
                }
                self.socket.shutdown().map_err(WriteError::Socket)?;
                self.tls = None;
                self.look_again();
                self.stage = Stage::Lingering { discarded: 0 };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write_output(&mut self) -> Result<(), WriteError> {
        let Some(connection) = self.tls.as_deref_mut() else {
            return self.write_plain();
        };
        loop {
            while connection.wants_write() {
                match connection.write_tls(&mut self.socket) {
                    Ok(0) => return Err(WriteError::Socket(ErrorKind::WriteZero.into())),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(WriteError::Socket(error)),
                }
            }
            let rest = self.output.get(self.written..).unwrap_or_default();
            if rest.is_empty() || connection.is_handshaking() {
                break;
            }
            let len = connection
                .writer()
                .write(rest)
                .map_err(WriteError::Socket)?;
            self.written = self.written.saturating_add(len);
        }
        self.forget_written();
        Ok(())
    }

    fn write_plain(&mut self) -> Result<(), WriteError> {
        loop {
            let rest = self.output.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.socket.write(rest) {
                Ok(0) => return Err(WriteError::Socket(ErrorKind::WriteZero.into())),
                Ok(len) => self.written = self.written.saturating_add(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(WriteError::Socket(error)),
            }
        }
        self.forget_written();
        Ok(())
    }

    /// Frees the buffer while the connection waits.
    fn forget_written(&mut self) {
        if self.written >= self.output.len() {
            self.output = Vec::new();
            self.written = 0;
        }
    }
}

#[derive(Debug)]
enum WriteError {
    Socket(io::Error),
    Tls(String),
}

/// The cause for an error of the socket.
pub(in crate::shell) fn lost(error: &io::Error) -> Lost {
    match error.kind() {
        ErrorKind::ConnectionRefused => Lost::Refused,
        // The last are of sockets of this machine: there is none, it is not for us, too many wait there.
        ErrorKind::TimedOut
        | ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::WouldBlock
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::NetworkDown => Lost::Unreachable,
        _ => Lost::Reset,
    }
}

#[cfg(test)]
mod tests;
