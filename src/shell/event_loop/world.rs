//! The event loop as the [`World`] of its engine: actions on sockets, disk, threads and the log.

use std::net::{IpAddr, SocketAddr};

use super::state::{EventLoop, Later, TokenSource};
use crate::dns::SocketId;
use crate::engine::Engine;
use crate::engine::driver::{self, Unsent, World};
use crate::engine::event::{
    ConnId, Endpoint, Event, JobId, Lost, MessageReader, StateFile, TlsSide, Work, WorkResult,
};
use crate::engine::log::Line;
use crate::queue::{self, JournalCommand, Location, Part, ReadContent, ReadError};
use crate::queue_id::QueueId;
use crate::shell::files::plain_file;
use crate::shell::net::stream::lost;
use crate::shell::process::log;
use crate::shell::run_error::RunError;

impl EventLoop {
    /// Performs the engine's actions and reports their consequences, until none are left or the limit of the turn is
    /// reached.
    pub(super) fn settle(&mut self) {
        driver::settle(self);
    }
}

impl World for EventLoop {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let streams = &mut self.state.streams;
        if let Some(key) = streams.key(conn)
            && let Some(stream) = streams.get_mut(key)
        {
            stream.send(bytes);
            streams.make_unwritten(key);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(key) = self.state.streams.forget(conn) {
            self.state.streams.close(key);
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(key) = self.state.streams.forget(conn) {
            self.state.streams.remove(key);
        }
    }

    fn start_tls(&mut self, conn: ConnId, side: TlsSide) {
        let streams = &mut self.state.streams;
        if let Some(key) = streams.key(conn)
            && let Some(stream) = streams.get_mut(key)
        {
            stream.start_tls(side);
            streams.make_unwritten(key);
        }
    }

    fn connect(&mut self, conn: ConnId, to: Endpoint, from: Option<IpAddr>) -> Result<(), Lost> {
        self.open_connection(conn, to, from)
            .map_err(|error| lost(&error))
    }

    fn store(&mut self, command: JournalCommand) {
        if self.journal.send(command).is_err() {
            self.state.failed = Some(RunError::Writer);
        }
    }

    fn read(
        &mut self,
        _: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(queue::read(&mut self.reader, location, id, part))
    }

    fn read_body(
        &mut self,
        _: ConnId,
        id: QueueId,
        offset: u64,
        len: u32,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(queue::read_unfinished(&mut self.reader, id, offset, len))
    }

    fn dns_send(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Unsent> {
        let registry = self.poll.registry();
        let sent = (self.state.dns).send(socket, to, &bytes, registry, |key| {
            TokenSource::Dns.token(key)
        });
        sent.map_err(|_| Unsent)
    }

    fn dns_connect(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<(), Unsent> {
        let registry = self.poll.registry();
        let sent = (self.state.dns).connect(socket, to, bytes, registry, |key| {
            TokenSource::Dns.token(key)
        });
        sent.map_err(|_| Unsent)
    }

    fn dns_close(&mut self, socket: SocketId) {
        self.state.dns.close(socket);
    }

    fn work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        self.workers.give(job, work);
        None
    }

    fn reload(&mut self, conn: Option<ConnId>) {
        self.state.later.push_back(Later::Reload(conn));
    }

    fn read_kept(&mut self, kept: StateFile) -> Option<Vec<u8>> {
        let path = self.state.fixed.state_dir().join(kept.file());
        plain_file::bytes(&path).ok()
    }

    fn log(&mut self, line: Line) {
        log::put(&line);
    }

    fn follows(&mut self, event: Event<'static>) {
        self.state.later.push_back(Later::Event(event));
    }

    fn tell(&mut self) -> bool {
        while let Some(key) = self.state.streams.next_unwritten() {
            self.write(key);
        }
        self.state.streams.make_room();
        let Some(later) = self.state.later.pop_front() else {
            return false;
        };
        match later {
            // That output was sent; more has been added since, and is reported in its turn.
            Later::Event(Event::Drained { conn }) if self.state.streams.has_output(conn) => {}
            Later::Event(event) => self.engine.handle(event, self.now),
            Later::Reload(conn) => self.read_configuration(conn),
        }
        true
    }
}
