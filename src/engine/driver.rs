//! The driver: the one place that interprets the actions of the engine, over a [`World`] that performs them.
//!
//! ```text
//!   Engine --action--> settle() --send, connect, read, store, …--> World
//!     ^                   |                                          |
//!     |                   '-- what came of it at once --> follows()  |
//!     '--------------------- handle(event) <-- tell() <--------------'
//! ```
//!
//! The event loop of the shell, the simulator, the dialogues and the fuzz target over events are worlds; the driver
//! gives all of them the same order. `Action` is private to the engine, so a world can neither skip an action nor
//! perform it in a way of its own. Invariants: all actions of an event are performed, in order, before their immediate
//! consequences are reported as events; a turn ends after [`CONSEQUENCES_PER_TURN_MAX`] consequences, and the rest wait
//! for the next turn.

use std::net::{IpAddr, SocketAddr};

use super::Engine;
use super::event::{
    Action, ConnId, Endpoint, Event, JobId, Lost, MessageReader, StateFile, TlsSide, Work,
    WorkResult,
};
use super::log::Line;
use crate::dns::SocketId;
use crate::limits::CONSEQUENCES_PER_TURN_MAX;
use crate::queue::{JournalCommand, Location, Part, ReadContent, ReadError};
use crate::queue_id::QueueId;

/// A datagram or a query that could not be sent at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unsent;

/// The world that an engine runs in: one method for each kind of action.
///
/// A method that returns an `Option` returns `None` if the answer takes time; the event with the answer is then handed
/// to [`Engine::handle`] later.
pub trait World {
    /// The engine of this world.
    fn engine(&mut self) -> &mut Engine;

    /// Sends bytes on a connection; [`Event::Drained`] reports that the kernel has all output.
    fn send(&mut self, conn: ConnId, bytes: Vec<u8>);

    /// Sends the pending output, then closes in order. The id is dead: no event follows.
    fn close(&mut self, conn: ConnId);

    /// Closes now. The id is dead: no event follows.
    fn abort(&mut self, conn: ConnId);

    /// Sends the pending output in clear, then starts TLS; answered by [`Event::TlsReady`] or [`Event::Closed`].
    fn start_tls(&mut self, conn: ConnId, side: TlsSide);

    /// Connects, from the given source address if there is one; answered by [`Event::Connected`] or [`Event::Closed`].
    /// `Err` if the connection fails at once.
    fn connect(&mut self, conn: ConnId, to: Endpoint, from: Option<IpAddr>) -> Result<(), Lost>;

    /// Hands a command to the journal writer; answered by [`Event::Stored`].
    fn store(&mut self, command: JournalCommand);

    /// Reads a part of a queued message; answered by [`Event::Read`].
    fn read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>>;

    /// Reads a piece of a large message that is streamed to the disk and is not in the queue yet; answered by
    /// [`Event::Read`].
    fn read_body(
        &mut self,
        conn: ConnId,
        id: QueueId,
        offset: u64,
        len: u32,
    ) -> Option<Result<ReadContent, ReadError>>;

    /// Sends a DNS query from a socket with a random port, connected to the server; opened if the id is new. Answered
    /// by [`Event::DnsDatagram`].
    fn dns_send(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Unsent>;

    /// Connects to a DNS server and sends a query with its length in front; answered by [`Event::DnsBytes`].
    fn dns_connect(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<(), Unsent>;

    /// Closes a DNS socket or stream.
    fn dns_close(&mut self, socket: SocketId);

    /// Hands work to a worker; answered by [`Event::Worked`].
    fn work(&mut self, job: JobId, work: Work) -> Option<WorkResult>;

    /// Reads the configuration folder again, possibly for a tool; answered by [`Event::Reloaded`] or
    /// [`Event::ReloadFailed`].
    fn reload(&mut self, conn: Option<ConnId>);

    /// Reads a small file of the state folder; `None` if it does not exist or cannot be read.
    fn read_kept(&mut self, kept: StateFile) -> Option<Vec<u8>>;

    /// Writes a line to the log.
    fn log(&mut self, line: Line);

    /// Keeps an event that an action caused until it is reported.
    fn follows(&mut self, event: Event<'static>);

    /// Finishes the current actions, and hands the engine the next event that they caused; false if there is none.
    fn tell(&mut self) -> bool;
}

/// Performs the actions of the engine and reports their consequences, until there are none left or enough for this
/// turn.
pub fn settle<W: World>(world: &mut W) {
    for _ in 0..CONSEQUENCES_PER_TURN_MAX {
        do_all(world);
        if !world.tell() {
            return;
        }
    }
    do_all(world);
}

fn do_all<W: World>(world: &mut W) {
    while let Some(action) = world.engine().next_action() {
        if let Some(event) = perform(action, world) {
            world.follows(event);
        }
    }
}

/// Performs one action; returns its immediate consequence.
fn perform<W: World>(action: Action, world: &mut W) -> Option<Event<'static>> {
    match action {
        Action::Send { conn, bytes } => world.send(conn, bytes),
        Action::Close { conn } => world.close(conn),
        Action::Abort { conn } => world.abort(conn),
        Action::StartTls { conn, side } => world.start_tls(conn, side),
        Action::Connect { conn, to, from } => {
            let cause = world.connect(conn, to, from).err()?;
            return Some(Event::Closed { conn, cause });
        }
        Action::Store(command) => world.store(command),
        Action::Read {
            reader,
            id,
            location,
            part,
        } => {
            let result = world.read(reader, id, location, part)?;
            return Some(Event::Read { reader, result });
        }
        Action::ReadBody {
            conn,
            id,
            offset,
            len,
        } => {
            let result = world.read_body(conn, id, offset, len)?;
            let reader = MessageReader::Conn { conn, id };
            return Some(Event::Read { reader, result });
        }
        Action::DnsSend { socket, to, bytes } => {
            let Unsent = world.dns_send(socket, to, bytes).err()?;
            return Some(Event::DnsFailed { socket });
        }
        Action::DnsConnect { socket, to, bytes } => {
            let Unsent = world.dns_connect(socket, to, bytes).err()?;
            return Some(Event::DnsFailed { socket });
        }
        Action::DnsClose { socket } => world.dns_close(socket),
        Action::Work { job, work } => {
            let result = world.work(job, work)?;
            return Some(Event::Worked { job, result });
        }
        Action::Reload { conn } => world.reload(conn),
        Action::ReadKept { conn, kept } => {
            let bytes = world.read_kept(kept);
            return Some(Event::Kept { conn, bytes });
        }
        Action::Log(line) => world.log(line),
    }
    None
}
