//! Which session makes room when memory is short.
//!
//! Every session that holds more than [`SESSION_KEPT_BYTES`] is in a list, ordered by that amount. When half of the
//! memory that a trust level can reach is in use, the session with the largest body in memory streams it to the disk.
//! When all but an eighth is in use, the session that holds most loses its memory: the message is refused, or the
//! session is closed. A client that brings little therefore finds room, however many others brought much before, and
//! the session that is refused is the one that held most.
//!
//! Below [`SCARCE_BYTES`] all sessions count alike, and the one that has held its memory longest goes first: a message
//! that arrives at a usual speed is younger than one that was sent to occupy memory.

use super::evictable::{LOOKS_MAX, Place, Places, first};
use super::intake::SCARCE_BYTES;
use super::session::{Server, ServerSession};
use crate::engine::effects::Effects;
use crate::engine::event::ConnId;
use crate::limits::{
    CROWDED_IDLE_TIMEOUT, CROWDED_MESSAGE_TIMEOUT, SESSION_KEPT_BYTES, YIELDS_PER_TURN_MAX,
};
use crate::policy::shares::{Holder, Resource, Room, TrustLevel};
use crate::queue::JournalCommand;
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;

impl Server {
    /// If no session is left for this trust level, closes one: among some sessions of no higher level, the one that has
    /// been idle longest, if that is long enough. Each call examines others.
    pub(super) fn retire_idle_session(&mut self, standing: TrustLevel, fx: &mut Effects) -> bool {
        if fx.shares.of(Resource::Sessions).free(standing) > 0 {
            return false; // it is the share that is used up
        }
        let (some, next) = self.sessions.some(self.looked_at, LOOKS_MAX);
        let idle = some.into_iter().filter_map(|(conn, inbound)| {
            let idle = fx.now.instant.since(inbound.pace.touched);
            let least = match inbound.session.is_busy() {
                true => CROWDED_MESSAGE_TIMEOUT,
                false => CROWDED_IDLE_TIMEOUT,
            };
            let may = inbound.holder().standing() <= standing
                && inbound.session.timeout().is_some()
                && idle >= least;
            may.then_some((idle, conn))
        });
        let longest = idle.max_by_key(|(idle, _)| *idle);
        self.looked_at = next;
        let inbound = longest.and_then(|(_, conn)| Some((conn, self.sessions.take(conn)?)));
        match inbound {
            Some((conn, inbound)) => {
                self.evict(conn, inbound, &Reply::SERVER_BUSY, fx);
                true
            }
            None => false,
        }
    }

    /// Updates what a session holds; returns whether that is more than its share.
    pub(super) fn account(&mut self, inbound: &mut ServerSession, fx: &mut Effects) -> bool {
        let memory = inbound.memory();
        let is_over = inbound.holding.set_memory(memory);
        let standing = inbound.holding.holder().standing();
        let room = fx.shares.of(Resource::Memory).room(standing);
        inbound.is_over = is_over || room == Room::Short;
        is_over
    }

    /// Registers what closing a session would free.
    pub(super) fn join_evictable(&mut self, conn: ConnId, inbound: &mut ServerSession) {
        let standing = inbound.holder().standing();
        let since = inbound.pace.body_began;
        let place = |bytes, least| Place::of(bytes, least, standing, since);
        let places = Places {
            holding: place(inbound.can_lose(), SESSION_KEPT_BYTES),
            streaming: place(inbound.can_stream(), SCARCE_BYTES),
        };
        if places != inbound.places {
            self.evictable.put(conn, &mut inbound.places, places);
        }
    }

    /// A session is over.
    pub(super) fn leave_evictable(&mut self, conn: ConnId, inbound: &mut ServerSession) {
        (self.evictable).put(conn, &mut inbound.places, Places::default());
    }

    /// Makes the sessions that hold most give up memory if it is short.
    pub(in crate::engine) fn make_room(&mut self, fx: &mut Effects) {
        for standing in TrustLevel::ALL {
            for _ in 0..YIELDS_PER_TURN_MAX {
                let memory = fx.shares.of(Resource::Memory);
                let room = memory.room(standing);
                // Blocks on their way to the disk are not free yet, and more of them would not make that faster.
                let is_disk_free = || self.blocks.bytes() < memory.reach(standing) / 4;
                let streaming =
                    first(&self.evictable.streaming, standing).filter(|_| is_disk_free());
                match (room, streaming) {
                    (Room::Enough, _) => break,
                    (_, Some(conn)) => self.stream_out(conn, fx),
                    (Room::Little, None) => break,
                    (Room::Short, None) => match first(&self.evictable.holding, standing) {
                        Some(conn) => self.lose(conn, fx),
                        None => break,
                    },
                }
                if room == Room::Little {
                    break;
                }
            }
        }
    }

    /// Streams the held part of a session's body to the disk.
    fn stream_out(&mut self, conn: ConnId, fx: &mut Effects) {
        let Some(mut inbound) = self.sessions.take(conn) else {
            return;
        };
        let bytes = inbound.can_stream() as u64;
        let taken = inbound.holding.take_spool(bytes);
        if let Err(reply) = taken {
            return self.take_from(conn, inbound, reply, fx);
        }
        if let Some((id, bytes)) = inbound.acceptance.stream_out() {
            self.spilling.insert(id, conn);
            self.store_block(id, inbound.holder(), bytes, fx);
        }
        self.put_back(conn, inbound, fx);
    }

    /// A session loses the memory that it holds.
    fn lose(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(inbound) = self.sessions.take(conn) {
            self.take_from(conn, inbound, Reply::NO_MEMORY, fx);
        }
    }

    /// Takes the held memory from a session.
    fn take_from(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        reply: Reply,
        fx: &mut Effects,
    ) {
        let is_judged = inbound.acceptance.is_judged();
        match inbound.acceptance.receiving() {
            Some(intake) if !intake.is_refused() => {
                intake.refuse(reply);
                self.put_back(conn, inbound, fx);
            }
            None if is_judged => {
                self.message_refused(conn, inbound, &reply, fx);
            }
            _ => self.evict(conn, inbound, &Reply::NO_ROOM_FOR_SESSION, fx),
        }
    }
}

impl Server {
    /// Sends a block of a message to the disk.
    pub(super) fn store_block(
        &mut self,
        id: QueueId,
        holder: Holder,
        bytes: Vec<u8>,
        fx: &mut Effects,
    ) {
        let memory = fx.shares.of(Resource::Memory);
        self.blocks.add(id, holder, bytes.len(), memory);
        fx.store(JournalCommand::BodyAppend { id, bytes });
    }
}
