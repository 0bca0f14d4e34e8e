//! One thread, one poll: readiness in, events to the engine, its actions done.
//!
//! ```text
//!   poll --> mark what is ready --> hand in what came --> accept --> read --> expire --> poll
//!                                        |                 |         |         |
//!                                        '--------- settle: do actions, write, tell what came of it
//! ```
//!
//! It routes and sleeps; the engine decides. Each connection gets a budget a turn, and what is left over is looked at
//! in the next one without a wait. Invariants: the actions of an event are done before the next event is handed in;
//! no edge is lost, for readiness is kept in the stream; the clocks are read once a turn.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};

use super::certificate_files::{self, Fingerprint};
use super::daemon::{self, RunError};
use super::drop_runs::{DropRuns, FromRun};
use super::file_disk::FileReader;
use super::journal_writer::JournalWriter;
use super::listen::{Accepted, Port, Reserve};
use super::signals::{Asked, Signals};
use super::stream::{Input, Output, Socket, Stream, lost};
use super::streams::Streams;
use super::time::Clock;
use super::tls::{Origin, Tls, TlsError};
use super::udp::{Arrival, DnsSockets};
use super::workers::Workers;
use super::{log, systemd};
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::dns::SocketId;
use crate::engine::Engine;
use crate::engine::event::{Action, ConnId, Event, Listener, Lost, Peer, Reader};
use crate::engine::log::{Level, Line};
use crate::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, CERTIFICATES_INTERVAL, CLOSE_TIMEOUT,
    CONSEQUENCES_PER_TURN_MAX, DROP_FOLDER_INTERVAL, LINGER_TIMEOUT, READ_TURN_BYTES_MAX,
    RESOLV_CONF_INTERVAL, STOP_TIMEOUT,
};
use crate::queue::{self, Content, ReadError};
use crate::smtp::reply::Reply;

/// The loop and everything that it owns.
pub(super) struct EventLoop {
    /// Decides.
    pub(super) engine: Engine,
    /// Sleeps.
    pub(super) poll: Poll,
    /// Tells the time.
    pub(super) clock: Clock,
    /// The time of this turn.
    pub(super) now: Now,
    /// The configuration folder.
    pub(super) folder: PathBuf,
    /// What is in it.
    pub(super) config: Arc<Config>,
    /// Where peers come in.
    pub(super) ports: Vec<Port>,
    /// The descriptor for the time in which there is no other.
    pub(super) reserve: Reserve,
    /// SIGTERM and its like.
    pub(super) signals: Signals,
    /// The threads for what takes a processor for long.
    pub(super) workers: Workers,
    /// The thread that writes.
    pub(super) journal: JournalWriter,
    /// Reads what was written.
    pub(super) reader: FileReader,
    /// Handshakes.
    pub(super) tls: Tls,
    /// Messages that were left while the relay was down.
    pub(super) drops: DropRuns,
    /// The rest, which begins empty.
    pub(super) state: State,
}

/// What the loop remembers from turn to turn.
pub(super) struct State {
    streams: Streams,
    dns: DnsSockets,
    later: VecDeque<Later>,
    scratch: Vec<u8>,
    accept_again: Option<Instant>,
    looks: [(Look, Instant); 3],
    certificates: Fingerprint,
    resolv_conf: Option<std::time::SystemTime>,
    stop_by: Option<Instant>,
    failed: Option<RunError>,
}

/// What is looked at from time to time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    ResolvConf,
    DropFolder,
    Certificates,
}

/// What follows from actions, told when they are done.
enum Later {
    Drained(ConnId),
    Closed(ConnId, Lost),
    Read(Reader, Result<Content, ReadError>),
    DnsFailed(SocketId),
    Reload(Option<ConnId>),
}

impl State {
    /// The state of a loop that begins.
    pub(super) fn new(certificates: Fingerprint) -> Self {
        Self {
            streams: Streams::default(),
            dns: DnsSockets::default(),
            later: VecDeque::new(),
            scratch: vec![0; READ_TURN_BYTES_MAX],
            accept_again: None,
            looks: [Look::ResolvConf, Look::DropFolder, Look::Certificates]
                .map(|look| (look, Instant::START)),
            certificates,
            resolv_conf: daemon::resolv_conf_changed(),
            stop_by: None,
            failed: None,
        }
    }
}

impl EventLoop {
    /// Runs until it is asked to end.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.register(self.poll.registry(), Source::Port.token(index))
                .map_err(|error| RunError::System("poll", error))?;
        }
        // What recovery found waits to be sent.
        self.engine.expire(self.now);
        self.settle();
        systemd::ready();
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.is_over() {
            self.turn(&mut events)?;
        }
        for port in &self.ports {
            port.remove_file();
        }
        self.journal
            .shut_down()
            .map(drop)
            .map_err(|_| RunError::Writer)
    }

    fn turn(&mut self, events: &mut Events) -> Result<(), RunError> {
        match self.poll.poll(events, self.timeout()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(RunError::System("poll", error));
            }
            _ => {}
        }
        self.now = self.clock.read();
        for readiness in events.iter() {
            self.route(readiness);
        }
        self.settle();
        self.collect();
        self.accept_all();
        self.serve_ready();
        self.expire();
        let engine = &self.engine;
        self.state
            .streams
            .wake_stalled(|conn| engine.wants_input(conn));
        self.state.failed.take().map_or(Ok(()), Err)
    }

    /// How long there is nothing to do; `None` is for ever.
    fn timeout(&self) -> Option<Duration> {
        let state = &self.state;
        let accepting = state.accept_again.is_none() && self.ports.iter().any(|port| port.ready);
        if state.streams.ready_len() > 0 || !state.later.is_empty() || accepting {
            return Some(Duration::ZERO);
        }
        let next = [
            self.engine.deadline(),
            state.streams.deadline(),
            state.accept_again,
            state.stop_by,
            state.looks.iter().map(|(_, at)| *at).min(),
        ];
        let next = next.into_iter().flatten().min()?;
        // The clock counts whole milliseconds; to wake just before one would be to wake twice.
        let wait = next.since(self.now.instant);
        Some(if wait.is_zero() {
            wait
        } else {
            wait.saturating_add(Duration::from_millis(1))
        })
    }

    /// Marks what is ready.
    fn route(&mut self, readiness: &Readiness) {
        match Source::of(readiness.token()) {
            (Source::Signals, _) => self.on_signals(),
            (Source::Waker, _) => {}
            (Source::Port, index) => {
                if let Some(port) = self.ports.get_mut(index) {
                    port.ready = true;
                }
            }
            (Source::Stream, key) => {
                let (readable, writable) = (readiness.is_readable(), readiness.is_writable());
                let ended = readiness.is_read_closed() || readiness.is_error();
                if let Some(stream) = self.state.streams.get_mut(key) {
                    stream.on_ready(readable, writable || readiness.is_error(), ended);
                    self.state.streams.make_ready(key);
                }
            }
            (Source::Dns, key) => self.on_dns(key),
        }
    }

    fn on_signals(&mut self) {
        for asked in self.signals.take() {
            match asked {
                Asked::Reload => self.state.later.push_back(Later::Reload(None)),
                Asked::Stop if self.state.stop_by.is_none() => self.stop(),
                Asked::Stop => {}
            }
        }
    }

    fn stop(&mut self) {
        systemd::stopping();
        log::write(&Line::new(Level::Info, "stopping"));
        self.state.stop_by = Some(self.now.instant.after(STOP_TIMEOUT));
        for port in std::mem::take(&mut self.ports) {
            port.remove_file();
        }
        self.engine.stop(self.now);
        self.settle();
    }

    fn is_over(&self) -> bool {
        self.state.stop_by.is_some_and(|by| {
            by <= self.now.instant || (self.engine.is_stopped() && self.state.streams.len() == 0)
        })
    }

    fn on_dns(&mut self, key: usize) {
        let mut scratch = std::mem::take(&mut self.state.scratch);
        loop {
            let arrival = self.state.dns.receive(key, &mut scratch);
            let bytes = |len| scratch.get(..len).unwrap_or_default();
            let event = match arrival {
                Arrival::Nothing => break,
                Arrival::Datagram(socket, from, len) => Event::DnsDatagram {
                    socket,
                    from,
                    bytes: bytes(len),
                },
                Arrival::Bytes(socket, len) => Event::DnsBytes {
                    socket,
                    bytes: bytes(len),
                },
                Arrival::Failed(socket) => Event::DnsFailed { socket },
            };
            self.engine.handle(event, self.now);
            self.settle();
        }
        self.state.scratch = scratch;
    }

    /// Hands in what other threads have done.
    fn collect(&mut self) {
        while let Some(completion) = self.journal.next_completion() {
            self.engine.handle(Event::Stored(completion), self.now);
            self.settle();
        }
        while let Some((job, result)) = self.workers.result() {
            self.engine.handle(Event::Worked { job, result }, self.now);
            self.settle();
        }
        while let Some(said) = self.drops.next() {
            match said {
                FromRun::Done(lines) => lines.iter().for_each(log::write),
                FromRun::Connect(stream, uid) => {
                    let stream = mio::net::UnixStream::from_std(stream);
                    self.admit(
                        Listener::Submit,
                        Socket::Unix(stream),
                        Peer::Process { uid },
                    );
                }
            }
        }
    }

    fn accept_all(&mut self) {
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

    /// There is no descriptor: says so to the first in line, and lets the others wait for a moment.
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

    fn admit(&mut self, listener: Listener, mut socket: Socket, peer: Peer) {
        let key = self.state.streams.next_key();
        if socket
            .register(self.poll.registry(), Source::Stream.token(key))
            .is_err()
        {
            return;
        }
        match self.engine.accept(listener, peer, self.now) {
            Ok(conn) => {
                self.state
                    .streams
                    .insert(conn, Stream::accepted(socket, conn));
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

    fn serve_ready(&mut self) {
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
                Input::Bytes(len) => {
                    budget = budget.saturating_sub(len.max(STEP_COST_BYTES));
                    let bytes = scratch.get(..len).unwrap_or_default();
                    self.engine.handle(Event::Bytes { conn, bytes }, now);
                }
                Input::Progress(len) => budget = budget.saturating_sub(len.max(STEP_COST_BYTES)),
                Input::Connected => self.engine.handle(Event::Connected { conn }, now),
                Input::Secured(session) => {
                    self.engine.handle(Event::TlsReady { conn, session }, now)
                }
                Input::Nothing => {}
                Input::Lost(cause) => self.lose(key, cause),
            }
            self.settle();
        }
    }

    /// Writes what one connection has pending.
    fn write(&mut self, key: usize) {
        let Some(stream) = self.state.streams.get_mut(key) else {
            return;
        };
        let (was_closing, was_lingering) = (stream.is_closing(), stream.is_lingering());
        match stream.write(&self.tls) {
            Output::Drained => self.state.later.push_back(Later::Drained(stream.conn)),
            Output::Idle => {}
            Output::Lost(cause) => return self.lose(key, cause),
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

    /// The connection is gone, for its peer or for us.
    fn lose(&mut self, key: usize, cause: Lost) {
        let Some(stream) = self.state.streams.get_mut(key) else {
            return;
        };
        let (conn, closing) = (stream.conn, stream.is_closing());
        // What is pending may still be read by a peer that has only ended its own half, or says the TLS alert.
        match cause {
            Lost::Eof | Lost::Tls(_) if !closing => self.state.streams.close(key),
            _ => self.state.streams.remove(key),
        }
        if !closing && self.state.streams.forget(conn).is_some() {
            self.state.later.push_back(Later::Closed(conn, cause));
        }
    }

    fn expire(&mut self) {
        let now = self.now.instant;
        if self
            .engine
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.engine.expire(self.now);
            self.settle();
        }
        self.state.streams.expire(now);
        for (look, at) in &mut self.state.looks {
            if *at <= now {
                *at = now.after(look.interval());
                let look = *look;
                return self.look(look);
            }
        }
    }

    fn look(&mut self, look: Look) {
        match look {
            Look::DropFolder if self.state.stop_by.is_none() => self.drops.start(),
            Look::DropFolder => {}
            Look::ResolvConf => {
                let changed = daemon::resolv_conf_changed();
                if changed != self.state.resolv_conf {
                    self.state.resolv_conf = changed;
                    self.state.later.push_back(Later::Reload(None));
                }
            }
            Look::Certificates => {
                let found = certificate_files::fingerprint(&self.folder);
                if found != self.state.certificates {
                    self.state.certificates = found;
                    let files = certificate_files::read(&self.folder);
                    let replaced = self.tls.replace(&files, &self.config.hostname);
                    say_certificates(&replaced, &self.config);
                }
            }
        }
    }

    /// Does what the engine wants and tells it what came of that, until there is nothing or enough for this turn.
    fn settle(&mut self) {
        for _ in 0..CONSEQUENCES_PER_TURN_MAX {
            while let Some(action) = self.engine.next_action() {
                self.perform(action);
            }
            while let Some(key) = self.state.streams.next_unwritten() {
                self.write(key);
            }
            match self.state.later.pop_front() {
                Some(later) => self.tell(later),
                None => return,
            }
        }
        while let Some(action) = self.engine.next_action() {
            self.perform(action);
        }
    }

    fn tell(&mut self, later: Later) {
        let event = match later {
            Later::Drained(conn) => Event::Drained { conn },
            Later::Closed(conn, cause) => Event::Closed { conn, cause },
            Later::Read(reader, result) => Event::Read { reader, result },
            Later::DnsFailed(socket) => Event::DnsFailed { socket },
            Later::Reload(conn) => return self.reload(conn),
        };
        self.engine.handle(event, self.now);
    }

    fn perform(&mut self, action: Action) {
        let state = &mut self.state;
        match action {
            Action::Send { conn, bytes } => {
                if let Some(key) = state.streams.key(conn)
                    && let Some(stream) = state.streams.get_mut(key)
                {
                    stream.send(bytes);
                    state.streams.make_unwritten(key);
                }
            }
            Action::Close { conn } => {
                if let Some(key) = state.streams.forget(conn) {
                    state.streams.close(key);
                }
            }
            Action::Abort { conn } => {
                if let Some(key) = state.streams.forget(conn) {
                    state.streams.remove(key);
                }
            }
            Action::StartTls { conn, side } => {
                if let Some(key) = state.streams.key(conn)
                    && let Some(stream) = state.streams.get_mut(key)
                {
                    stream.start_tls(side);
                    state.streams.make_unwritten(key);
                }
            }
            Action::Connect { conn, to, from } => {
                if let Err(error) = self.connect(conn, to, from) {
                    self.state
                        .later
                        .push_back(Later::Closed(conn, lost(&error)));
                }
            }
            Action::Store(command) => {
                if self.journal.send(command).is_err() {
                    state.failed = Some(RunError::Writer);
                }
            }
            Action::Read {
                reader,
                id,
                location,
                part,
            } => {
                let result = queue::read(&mut self.reader, location, id, part);
                state.later.push_back(Later::Read(reader, result));
            }
            Action::DnsSend { socket, to, bytes } => {
                let registry = self.poll.registry();
                let sent = state
                    .dns
                    .send(socket, to, &bytes, registry, |key| Source::Dns.token(key));
                state
                    .later
                    .extend(sent.is_err().then_some(Later::DnsFailed(socket)));
            }
            Action::DnsConnect { socket, to, bytes } => {
                let registry = self.poll.registry();
                let sent = state
                    .dns
                    .connect(socket, to, bytes, registry, |key| Source::Dns.token(key));
                state
                    .later
                    .extend(sent.is_err().then_some(Later::DnsFailed(socket)));
            }
            Action::DnsClose { socket } => state.dns.close(socket),
            Action::Work { job, work } => self.workers.give(job, work),
            Action::Reload { conn } => state.later.push_back(Later::Reload(conn)),
            Action::Log(line) => log::write(&line),
        }
    }

    fn connect(&mut self, conn: ConnId, to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let mut socket = Socket::Tcp(begin_connection(to, from)?);
        let key = self.state.streams.next_key();
        socket.register(self.poll.registry(), Source::Stream.token(key))?;
        self.state
            .streams
            .insert(conn, Stream::connecting(socket, conn));
        Ok(())
    }

    fn reload(&mut self, conn: Option<ConnId>) {
        systemd::reloading();
        match daemon::load(&self.folder) {
            Ok(config) => {
                self.config = Arc::new(config);
                self.state.certificates = certificate_files::fingerprint(&self.folder);
                let files = &self.config.certificates;
                let replaced = self.tls.replace(files, &self.config.hostname);
                say_certificates(&replaced, &self.config);
                self.engine
                    .reconfigure(Arc::clone(&self.config), conn, self.now);
            }
            Err(errors) => self
                .engine
                .handle(Event::ReloadFailed { conn, errors }, self.now),
        }
        systemd::ready();
    }
}

/// Logs what the certificates are.
pub(super) fn say_certificates(
    result: &Result<(Origin, Vec<TlsError>), TlsError>,
    config: &Config,
) {
    let errors = match result {
        Ok((origin, errors)) => {
            if *origin == Origin::SelfSigned {
                log::write(
                    &Line::new(Level::Warning, "self-signed").with("name", &config.hostname),
                );
            }
            errors.as_slice()
        }
        Err(error) => std::slice::from_ref(error),
    };
    for error in errors {
        log::write(&Line::new(Level::Error, "certificate").with("cause", error));
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

/// What a token stands for; the rest of it is an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// The signals.
    Signals,
    /// Other threads.
    Waker,
    /// A listening socket.
    Port,
    /// A connection.
    Stream,
    /// A DNS socket.
    Dns,
}

impl Source {
    /// The token of the source at this index.
    pub(super) const fn token(self, index: usize) -> Token {
        Token(index.wrapping_mul(SOURCES).wrapping_add(self as usize))
    }

    fn of(token: Token) -> (Self, usize) {
        let source = match token.0 % SOURCES {
            0 => Self::Signals,
            1 => Self::Waker,
            2 => Self::Port,
            3 => Self::Stream,
            _ => Self::Dns,
        };
        (source, token.0 / SOURCES)
    }
}

impl Look {
    const fn interval(self) -> Duration {
        match self {
            Self::ResolvConf => RESOLV_CONF_INTERVAL,
            Self::DropFolder => DROP_FOLDER_INTERVAL,
            Self::Certificates => CERTIFICATES_INTERVAL,
        }
    }
}

/// The waker that other threads have.
pub(super) fn waker(poll: &Poll) -> io::Result<Arc<Waker>> {
    Waker::new(poll.registry(), Source::Waker.token(0)).map(Arc::new)
}

const SOURCES: usize = 5;
const EVENTS_PER_TURN: usize = 1_024;
/// What a step costs of a connection's budget, however few bytes it brought.
const STEP_COST_BYTES: usize = 512;
/// The name of a connection that the engine does not know.
const NOBODY: ConnId = ConnId {
    slot: u32::MAX,
    generation: u32::MAX,
};
