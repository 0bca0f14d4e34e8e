//! The part of the world that a test defines around a stage, and both together as the world of an engine.

use std::net::{IpAddr, SocketAddr};

use chopar::dns::SocketId;
use chopar::engine::Engine;
use chopar::engine::driver::{self, Unsent, World};
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Lost, MessageReader, StateFile, TlsSide, Work, WorkResult,
};
use chopar::engine::log::Line;
use chopar::queue::{JournalCommand, Location, Part, ReadContent, ReadError};
use chopar::queue_id::QueueId;

use super::Stage;

/// The part of the world that a test defines. By default, peers stay silent, and local work is done at once.
pub(crate) trait Scene {
    fn stage(&mut self) -> &mut Stage;

    /// The engine sends output.
    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>);

    /// The engine closes a connection, gracefully or at once.
    fn on_close(&mut self, _: ConnId) {}

    /// The engine begins TLS.
    fn on_start_tls(&mut self, _: ConnId) {}

    /// The engine opens a connection.
    fn on_connect(&mut self, _: ConnId, _: &Endpoint) {}

    /// The engine has a command for the journal.
    fn on_store(&mut self, command: JournalCommand) {
        self.stage().store(command);
    }

    /// The engine reads a part of a queued message.
    fn on_read(
        &mut self,
        _: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(self.stage().read(id, location, part))
    }

    /// The engine sends a DNS query by datagram.
    fn on_query(&mut self, _: SocketId, _: SocketAddr, _: &[u8]) {}

    /// The engine opens a stream to a name server; returns false if it cannot.
    fn on_dns_connect(&mut self, _: SocketId) -> bool {
        true
    }

    /// The engine closes its socket to a name server.
    fn on_dns_close(&mut self, _: SocketId) {}

    /// The engine gives a job to the workers.
    fn on_work(&mut self, _: JobId, work: Work) -> Option<WorkResult> {
        Some(work.perform())
    }

    /// The engine logs a line.
    fn on_log(&mut self, _: String) {}
}

/// Performs all actions of the engine, and gives it all events that follow.
pub(crate) fn act<S: Scene>(scene: &mut S) {
    while turn(scene) > 0 {}
}

/// The same, for one turn; returns the number of events left for the next.
pub(crate) fn turn<S: Scene>(scene: &mut S) -> usize {
    driver::settle(&mut Playing(scene));
    scene.stage().following.len()
}

struct Playing<'a, S>(&'a mut S);

impl<S: Scene> World for Playing<'_, S> {
    fn engine(&mut self) -> &mut Engine {
        &mut self.0.stage().engine
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.0.on_send(conn, bytes);
    }

    fn close(&mut self, conn: ConnId) {
        self.0.on_close(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.0.on_close(conn);
    }

    fn start_tls(&mut self, conn: ConnId, _: TlsSide) {
        self.0.on_start_tls(conn);
    }

    fn connect(&mut self, conn: ConnId, to: Endpoint, _: Option<IpAddr>) -> Result<(), Lost> {
        self.0.on_connect(conn, &to);
        Ok(())
    }

    fn store(&mut self, command: JournalCommand) {
        self.0.on_store(command);
    }

    fn read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        self.0.on_read(reader, id, location, part)
    }

    fn read_body(
        &mut self,
        _: ConnId,
        id: QueueId,
        offset: u64,
        len: u32,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(self.0.stage().read_body(id, offset, len))
    }

    fn dns_send(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Unsent> {
        self.0.on_query(socket, to, &bytes);
        Ok(())
    }

    fn dns_connect(&mut self, socket: SocketId, _: SocketAddr, _: Vec<u8>) -> Result<(), Unsent> {
        match self.0.on_dns_connect(socket) {
            true => Ok(()),
            false => Err(Unsent),
        }
    }

    fn dns_close(&mut self, socket: SocketId) {
        self.0.on_dns_close(socket);
    }

    fn work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        self.0.on_work(job, work)
    }

    /// Tests change the configuration themselves.
    fn reload(&mut self, _: Option<ConnId>) {}

    fn read_kept(&mut self, _: StateFile) -> Option<Vec<u8>> {
        None
    }

    fn log(&mut self, line: Line) {
        self.0.on_log(line.text);
    }

    fn follows(&mut self, event: Event<'static>) {
        self.0.stage().follow(event);
    }

    fn tell(&mut self) -> bool {
        self.0.stage().tell()
    }
}
