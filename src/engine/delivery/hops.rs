//! The table of next hops: which messages wait for each, and when a delivery session may start.
//!
//! A next hop that has not answered yet gets one delivery session. After the first session reached it, the configured
//! number of sessions may run. A next hop that cannot be reached is paused as a whole, so ten thousand messages to a
//! dead domain cost one attempt.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::waiting::Line as Waiting;
use crate::cause::FailureCause;
use crate::clock::Instant;
use crate::dns::zone_of;
use crate::engine::event::ConnId;
use crate::limits::{DEAD_ADDRESS_TIMEOUT, DEAD_ADDRESSES_MAX, WAKES_PER_DELIVERY_MAX};
use crate::policy::route::NextHop;
use crate::policy::shares::{Holder, ShareKind, TrustLevel, hash_of_text};
use crate::queue::HopId;
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

/// All next hops that a message waits for or a delivery session is at.
#[derive(Debug, Default)]
pub(super) struct Hops {
    /// In order: that of a hash map is another in each process, and a failure that depends on it could not be replayed.
    pub(super) hops: BTreeMap<HopId, Hop>,
    pub(super) by_name: HashMap<NextHop, HopId>,
    pub(super) next: u32,
    /// Hops that may have something to send.
    pub(super) dirty: VecDeque<HopId>,
    /// Messages whose next hop must be found again, oldest first.
    pub(super) rerouting: BTreeSet<QueueId>,
    /// The one of these whose envelope is being read.
    pub(super) rerouted: Option<QueueId>,
    /// Next hops with an idle delivery session.
    pub(super) idling: BTreeSet<HopId>,
    /// Hops that found no room for a delivery session, and wait for that of another: with mail of users, and the
    /// others.
    pub(super) wanting: [BTreeSet<(u64, HopId)>; 2],
    pub(super) wants: u64,
    /// The ones that are examined again, because there is room.
    pub(super) woken: BTreeSet<HopId>,
}

/// One next hop.
#[derive(Debug)]
pub(in crate::engine) struct Hop {
    pub(in crate::engine) name: NextHop,
    /// Messages that are not in the line: they wait for a later time, are held, or are on their way there.
    away: BTreeSet<QueueId>,
    /// Messages that are due and not held, oldest first. Each that waits for the hop is here or away.
    pub(super) ready: Waiting,
    pub(in crate::engine) sessions: HopSessions,
    /// Failures in a row to get through.
    pub(super) failures: u16,
    pub(super) paused_until: Option<Instant>,
    /// When its last pause began.
    pub(super) paused_at: Instant,
    /// Until when it is paused again if an attempt before its time fails.
    pub(super) planned: Option<Instant>,
    /// When it is tried before its time, for a message that has come.
    pub(super) probe_at: Option<Instant>,
    /// Whether a delivery session got through lately.
    pub(in crate::engine) proven: bool,
    /// Why it is paused.
    pub(in crate::engine) trouble: Option<Arc<FailureCause>>,
    pub(in crate::engine) status: Option<EnhancedCode>,
    /// The last message for which the log gave the reason of its wait.
    pub(super) told: Option<QueueId>,
    /// Further messages in this pause for which the log may give the reason.
    pub(super) tells: usize,
    /// Whether routes have changed under it: nothing more is sent there.
    pub(super) stale: bool,
    pub(super) queued: bool,
    /// Its queue and its turn there, if it waits for room.
    pub(super) wants: Option<(usize, u64)>,
    /// Addresses that could not be connected to lately, and until when that counts.
    pub(super) dead: VecDeque<(IpAddr, Instant)>,
}

/// The delivery sessions that are on the way to a next hop, or there.
#[derive(Debug, Default)]
pub(in crate::engine) struct HopSessions {
    /// Sessions that have not reached a host yet.
    pub(super) arriving: BTreeSet<ConnId>,
    /// Sessions that have.
    through: BTreeSet<ConnId>,
    /// The ones that wait for another message.
    pub(super) idle: Vec<ConnId>,
}

impl HopSessions {
    pub(in crate::engine) fn len(&self) -> usize {
        self.arriving.len().saturating_add(self.through.len())
    }
}

impl Hop {
    /// The holder of a delivery session that starts now: mail of users goes before that of clients, a next hop that was
    /// reached before one that may be dead, and the hosts of one zone have one share.
    pub(super) fn holder(&self) -> Holder {
        let standing = match (self.ready.has_trusted(), self.failures == 0, self.proven) {
            (true, true, _) => TrustLevel::Trusted,
            (true, false, _) => TrustLevel::Known,
            (false, _, true) => TrustLevel::Visitor,
            (false, _, false) => TrustLevel::Client,
        };
        let name = self.name.to_string();
        Holder::nobody(standing).and(ShareKind::Zone, hash_of_text(zone_of(&name)))
    }

    /// Ends its pause early for one attempt, without changing the schedule; returns whether there was a pause.
    pub(super) fn resume_early(&mut self) -> bool {
        let until = self.paused_until.take();
        self.planned = until.or(self.planned);
        until.is_some()
    }

    /// The next messages in its queue for which the log gives the reason of their wait, at most `max`; they take turns.
    pub(super) fn next_to_tell(&mut self, max: usize) -> Vec<QueueId> {
        let next = self.ready.from(self.told, max);
        self.told = next.last().copied();
        next
    }

    /// Whether the log gives the reason for one more message that has arrived.
    pub(super) fn tells_one_more(&mut self) -> bool {
        let tells = self.is_in_trouble() && self.tells > 0;
        self.tells = self.tells.saturating_sub(usize::from(tells));
        tells
    }

    /// Whether it is paused because it could not be reached.
    pub(in crate::engine) fn is_in_trouble(&self) -> bool {
        self.paused_until.is_some() && self.trouble.is_some()
    }

    /// The time of the next attempt if it is paused.
    pub(in crate::engine) fn next_attempt(&self) -> Option<Instant> {
        let until = self.paused_until?;
        Some(self.probe_at.map_or(until, |probe| probe.min(until)))
    }

    /// An address could not be connected to.
    pub(super) fn note_dead(&mut self, address: IpAddr, now: Instant) {
        self.dead
            .retain(|(known, until)| *known != address && *until > now);
        if self.dead.len() >= DEAD_ADDRESSES_MAX {
            self.dead.pop_front();
        }
        self.dead
            .push_back((address, now.after(DEAD_ADDRESS_TIMEOUT)));
    }

    /// Whether an address could not be connected to lately.
    pub(super) fn is_dead(&self, address: IpAddr, now: Instant) -> bool {
        let mut dead = self.dead.iter();
        dead.any(|(known, until)| *known == address && *until > now)
    }
}

impl Hops {
    /// The id of a hop; it lives as long as messages or delivery sessions need it.
    pub(super) fn intern(&mut self, name: NextHop) -> HopId {
        if let Some(id) = self.by_name.get(&name) {
            return *id;
        }
        let id = HopId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_name.insert(name.clone(), id);
        let hop = Hop {
            name,
            away: BTreeSet::new(),
            ready: Waiting::default(),
            sessions: HopSessions::default(),
            failures: 0,
            paused_until: None,
            paused_at: Instant::START,
            planned: None,
            probe_at: None,
            proven: false,
            trouble: None,
            status: None,
            told: None,
            tells: 0,
            stale: false,
            queued: false,
            wants: None,
            dead: VecDeque::new(),
        };
        self.hops.insert(id, hop);
        id
    }

    pub(super) fn get(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: HopId) -> Option<&mut Hop> {
        self.hops.get_mut(&id)
    }

    pub(super) fn add_message(&mut self, id: HopId, message: QueueId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.away.insert(message);
        }
    }

    pub(super) fn remove_message(&mut self, id: HopId, message: QueueId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.away.remove(&message);
            hop.ready.remove(message);
        }
        self.free_if_unused(id);
    }

    /// A message that waits for a hop is in its line no more.
    pub(super) fn set_aside(&mut self, id: HopId, message: QueueId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.ready.remove(message);
            hop.away.insert(message);
        }
    }

    pub(super) fn push_ready(&mut self, id: HopId, message: QueueId, by_client: bool) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.away.remove(&message);
            hop.ready.insert(message, by_client);
        }
        self.touch(id);
    }

    /// A delivery session waits for another message.
    pub(super) fn add_idle(&mut self, id: HopId, conn: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.sessions.idle.push(conn);
            self.idling.insert(id);
        }
    }

    /// Idle sessions: of each next hop the one that is used first.
    pub(super) fn idle(&self) -> impl Iterator<Item = (HopId, ConnId)> {
        let last = |id: &HopId| Some((*id, *self.hops.get(id)?.sessions.idle.last()?));
        self.idling.iter().filter_map(last)
    }

    /// Takes an idle session of a next hop.
    pub(super) fn take_idle(&mut self, id: HopId) -> Option<ConnId> {
        let hop = self.hops.get_mut(&id)?;
        let conn = hop.sessions.idle.pop();
        if hop.sessions.idle.is_empty() {
            self.idling.remove(&id);
        }
        conn
    }

    /// Takes the oldest message that is due out of the line.
    pub(super) fn pop_ready(&mut self, id: HopId) -> Option<QueueId> {
        let hop = self.hops.get_mut(&id)?;
        let message = hop.ready.pop()?;
        hop.away.insert(message);
        Some(message)
    }

    /// Whether routes have changed under a hop: nothing more is sent there.
    pub(super) fn is_stale(&self, id: HopId) -> bool {
        self.hops.get(&id).is_none_or(|hop| hop.stale)
    }

    /// Marks a next hop to be examined for messages that can be sent.
    pub(super) fn touch(&mut self, id: HopId) {
        if let Some(hop) = self.hops.get_mut(&id)
            && !hop.queued
        {
            hop.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Marks all waiting next hops to be examined: room for delivery sessions is free.
    pub(super) fn touch_waiting(&mut self) {
        let waiting: Vec<HopId> = self
            .hops
            .iter()
            .filter(|(_, hop)| !hop.ready.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.touch(id);
        }
    }

    /// A hop found no room for a delivery session, and waits in one of the two lines.
    pub(super) fn wants_room(&mut self, id: HopId, line: usize) {
        if let Some(hop) = self.hops.get_mut(&id)
            && hop.wants.is_none_or(|(before, _)| line < before)
            && let Some(wanting) = self.wanting.get_mut(line)
        {
            self.wants = self.wants.wrapping_add(1);
            wanting.insert((self.wants, id));
            let before = hop.wants.replace((line, self.wants));
            self.leave_line(id, before);
        }
    }

    /// The trust levels of the next hops that wait for room, without this one: each queue has two.
    pub(super) fn wanting_beside(&self, own: HopId) -> impl Iterator<Item = TrustLevel> {
        let standings = [
            [TrustLevel::Known, TrustLevel::Trusted],
            [TrustLevel::Client, TrustLevel::Visitor],
        ];
        let lines = self.wanting.iter().zip(standings);
        lines
            .filter(move |(line, _)| line.iter().any(|(_, id)| *id != own))
            .flat_map(|(_, standings)| standings)
    }

    pub(super) fn leave_line(&mut self, id: HopId, place: Option<(usize, u64)>) {
        if let Some((line, turn)) = place
            && let Some(wanting) = self.wanting.get_mut(line)
        {
            wanting.remove(&(turn, id));
        }
    }

    /// Room for a delivery session is free: examines some of the next hops that wait for it. One that still finds no
    /// room goes to the end of its queue.
    pub(super) fn wake_wanting(&mut self) {
        for line in 0..self.wanting.len() {
            for _ in 0..WAKES_PER_DELIVERY_MAX {
                if !self.wake_next(line) {
                    break;
                }
            }
        }
    }

    /// Has the first next hop of a queue examined; returns whether there was one.
    pub(super) fn wake_next(&mut self, line: usize) -> bool {
        let next = self.wanting.get_mut(line).and_then(BTreeSet::pop_first);
        let Some((_, id)) = next else { return false };
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.wants = None;
        }
        self.woken.insert(id);
        self.touch(id);
        true
    }

    /// A delivery session has set out.
    pub(super) fn session_set_out(&mut self, id: HopId, conn: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.sessions.arriving.insert(conn);
        }
    }

    /// A delivery session continues under another id.
    pub(super) fn session_moved(&mut self, id: HopId, old: ConnId, new: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            let sessions = &mut hop.sessions;
            for list in [&mut sessions.arriving, &mut sessions.through] {
                if list.remove(&old) {
                    list.insert(new);
                }
            }
        }
    }

    /// A delivery session has ended. Next hops that wait for its place are examined before its own.
    pub(super) fn session_gone(&mut self, id: HopId, conn: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.sessions.arriving.remove(&conn);
            hop.sessions.through.remove(&conn);
            hop.sessions.idle.retain(|idle| *idle != conn);
            if hop.sessions.idle.is_empty() {
                self.idling.remove(&id);
            }
        }
        self.wake_wanting();
        self.touch(id);
        self.free_if_unused(id);
    }

    /// A delivery session got through.
    pub(super) fn proved(&mut self, id: HopId, conn: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.sessions.arriving.remove(&conn);
            hop.sessions.through.insert(conn);
            hop.proven = true;
            hop.failures = 0;
            hop.paused_until = None;
            hop.planned = None;
            hop.trouble = None;
            hop.status = None;
        }
        self.touch(id);
    }

    /// Ends every pause for one attempt, as an operator requested.
    pub(super) fn resume_all(&mut self) {
        let mut paused = Vec::new();
        for (id, hop) in &mut self.hops {
            if hop.resume_early() {
                paused.push(*id);
            }
        }
        for id in paused {
            self.free_if_unused(id);
        }
        self.touch_waiting();
    }

    pub(super) fn free_if_unused(&mut self, id: HopId) {
        let unused = self.hops.get(&id).is_some_and(|hop| {
            hop.away.is_empty()
                && hop.ready.is_empty()
                && hop.sessions.len() == 0
                && hop.paused_until.is_none()
        });
        if unused && let Some(hop) = self.hops.remove(&id) {
            self.leave_line(id, hop.wants);
            if self.by_name.get(&hop.name) == Some(&id) {
                self.by_name.remove(&hop.name);
            }
        }
    }

    /// Number of hops, for the ceiling that tests hold it to.
    pub(super) fn len(&self) -> usize {
        self.hops.len()
    }
}
