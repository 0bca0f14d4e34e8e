//! Connections: accept, connect, read and write within their budgets, and their loss.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpStream, UnixStream};

use super::state::{EventLoop, Later, TokenSource};
use crate::engine::event::{ConnId, Endpoint, Event, Listener, Lost, Peer};
use crate::engine::log::{Level, Line};
use crate::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, CLOSE_TIMEOUT, LINGER_TIMEOUT, READ_TURN_BYTES_MAX,
};
use crate::shell::net::listen::Accepted;
use crate::shell::net::stream::{ReadResult, Socket, Stream, WriteResult};
use crate::shell::net::streams::Use;
use crate::shell::process::log;
use crate::smtp::reply::Reply;

impl EventLoop {
    /// Accepts the waiting connections of all ports.
    pub(super) fn accept_all(&mut self) {
        match self.state.accept_again {
            Some(at) if at > self.now.instant => return,
            _ => self.state.accept_again = None,
        }
        for index in 0..self.ports.len() {
            for _ in 0..ACCEPTS_PER_TURN_MAX {
                let Some(port) = self.ports.get_mut(index).filter(|port| port.ready) else {
                    break;
                };
                let listener = port.listener;
                match port.accept() {
                    Accepted::Connection(socket, peer) => self.admit(listener, socket, peer),
                    Accepted::Nobody => {}
                    Accepted::Empty => break,
                    Accepted::Exhausted => return self.refuse(index),
                }
            }
        }
    }

    /// Handles a lack of descriptors: refuses the first waiting client, and lets the others wait briefly.
    fn refuse(&mut self, index: usize) {
        let mut reply = Vec::new();
        Reply::SERVER_BUSY.write(&mut reply);
        if let Some(port) = self.ports.get_mut(index) {
            self.reserve.refuse(port, &reply);
        }
        self.state.accept_again = Some(self.now.instant.after(ACCEPT_PAUSE));
        log::write(
            &Line::new(Level::Error, "no-descriptors").with("pause_ms", ACCEPT_PAUSE.as_millis()),
        );
    }

    /// Starts a session, or sends the reason for refusing it.
    pub(super) fn admit(&mut self, listener: Listener, mut socket: Socket, peer: Peer) {
        if let (Listener::Control, Peer::Process { uid }) = (listener, peer)
            && !self.engine.admits_tool(uid)
        {
            return;
        }
        let key = self.state.streams.next_key();
        if socket
            .register(self.poll.registry(), TokenSource::Stream.token(key))
            .is_err()
        {
            return;
        }
        match self.engine.accept(listener, peer, self.now) {
            Ok(conn) => {
                let purpose = match listener {
                    Listener::Status | Listener::Https => Use::Brief,
                    _ => Use::Session,
                };
                let stream = Stream::accepted(socket, conn);
                self.state.streams.insert(conn, stream, purpose);
            }
            Err(reply) => {
                let mut stream = Stream::accepted(socket, NOBODY);
                stream.send(reply);
                let key = self.state.streams.insert_nameless(stream);
                self.state.streams.close(key);
            }
        }
        self.settle();
    }

    /// Begins a connection to a next hop.
    pub(super) fn open_connection(
        &mut self,
        conn: ConnId,
        to: Endpoint,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        let mut socket = match to {
            Endpoint::Tcp(to) => Socket::Tcp(begin_connection(to, from)?),
            Endpoint::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Endpoint::Helper(target) => Socket::Unix(self.helper.connect(&target)?),
        };
        let key = self.state.streams.next_key();
        socket.register(self.poll.registry(), TokenSource::Stream.token(key))?;
        let stream = Stream::connecting(socket, conn);
        self.state.streams.insert(conn, stream, Use::Session);
        Ok(())
    }

    /// Reads and writes ready connections, each once.
    pub(super) fn serve_ready(&mut self) {
        let mut scratch = std::mem::take(&mut self.state.scratch);
        for _ in 0..self.state.streams.ready_len() {
            if let Some(key) = self.state.streams.next_ready() {
                self.serve(key, &mut scratch);
            }
        }
        self.state.scratch = scratch;
    }

    /// Writes and reads one connection, within its budget.
    fn serve(&mut self, key: usize, scratch: &mut [u8]) {
        let mut budget = READ_TURN_BYTES_MAX;
        loop {
            self.write(key);
            self.settle();
            let Some(stream) = self.state.streams.get_mut(key) else {
                return;
            };
            let conn = stream.conn;
            if !stream.may_read(self.engine.wants_input(conn)) {
                if stream.is_readable() {
                    self.state.streams.stall(key);
                }
                return;
            }
            if budget == 0 {
                return self.state.streams.make_ready(key);
            }
            let now = self.now;
            match stream.read(&self.tls, scratch) {
                ReadResult::Bytes(len) => {
                    budget = budget.saturating_sub(len.max(STEP_COST_BYTES));
                    let bytes = scratch.get(..len).unwrap_or_default();
                    self.engine.handle(Event::Bytes { conn, bytes }, now);
                    // The bytes may contain a password, and the buffer lives as long as the process.
                    if let Some(bytes) = scratch.get_mut(..len) {
                        bytes.fill(0);
                    }
                }
                ReadResult::Progress(len) => {
                    budget = budget.saturating_sub(len.max(STEP_COST_BYTES))
                }
                ReadResult::Connected => self.engine.handle(Event::Connected { conn }, now),
                ReadResult::Secured(session) => {
                    self.engine.handle(Event::TlsReady { conn, session }, now)
                }
                ReadResult::Nothing => {}
                ReadResult::Lost(cause) => self.lose(key, cause),
            }
            self.settle();
        }
    }

    /// Writes the pending output of one connection.
    pub(super) fn write(&mut self, key: usize) {
        let Some(stream) = self.state.streams.get_mut(key) else {
            return;
        };
        let (was_closing, was_lingering) = (stream.is_closing(), stream.is_lingering());
        match stream.write(&self.tls) {
            WriteResult::Drained => {
                let conn = stream.conn;
                self.state
                    .later
                    .push_back(Later::Event(Event::Drained { conn }));
            }
            WriteResult::Idle => {}
            WriteResult::Lost(cause) => return self.lose(key, cause),
        }
        let readable = stream.is_readable();
        if !was_lingering && stream.is_lingering() {
            self.state
                .streams
                .drop_at(key, self.now.instant.after(LINGER_TIMEOUT));
        } else if was_closing && !was_lingering {
            self.state
                .streams
                .drop_at(key, self.now.instant.after(CLOSE_TIMEOUT));
        }
        if readable {
            self.state.streams.make_ready(key);
        }
    }

    /// Handles the loss of a connection, by the peer or by us.
    fn lose(&mut self, key: usize, cause: Lost) {
        let Some(stream) = self.state.streams.get_mut(key) else {
            return;
        };
        let (conn, closing) = (stream.conn, stream.is_closing());
        // A peer that has closed only its own half can still read pending output, or the TLS alert.
        match cause {
            Lost::Eof | Lost::Tls(_) if !closing => self.state.streams.close(key),
            _ => self.state.streams.remove(key),
        }
        if !closing && self.state.streams.forget(conn).is_some() {
            let closed = Event::Closed { conn, cause };
            self.state.later.push_back(Later::Event(closed));
        }
    }
}

fn begin_connection(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            return Err(error);
        }
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The cost of one step in a connection's budget, even if it transferred few bytes.
const STEP_COST_BYTES: usize = 512;

/// The name of a connection that the engine does not know.
const NOBODY: ConnId = ConnId {
    slot: u32::MAX,
    generation: u32::MAX,
};
