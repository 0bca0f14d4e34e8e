//! The table of next hops: who waits for which, and when a courier may set out.
//!
//! A hop that has not answered yet gets one courier; once one got through, as many as the configuration allows. A hop
//! that cannot be reached is paused as a whole, so that ten thousand messages to a dead domain cost one attempt.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::Delivery;
use super::waiting::Line as Waiting;
use crate::cause::Cause;
use crate::clock::Instant;
use crate::date::Timestamp;
use crate::dns::zone_of;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Reader};
use crate::engine::log::{Level, Line};
use crate::engine::status::Reason;
use crate::engine::timers::Timer;
use crate::envelope::Envelope;
use crate::limits::{
    DEAD_ADDRESS_TIMEOUT, DEAD_ADDRESSES_MAX, HOP_PROBE_INTERVAL, HOP_REST, UNTRIED_LOGGED_MAX,
    WAKES_PER_COURIER_MAX,
};
use crate::policy::retry;
use crate::policy::route::{self, NextHop};
use crate::policy::shares::{Holder, Kind, Resource, Standing, hash_of_text};
use crate::queue::{Content, HopId, Part, Phase, Queued, ReadError, RecipientState};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

/// All next hops that a message waits for or a courier is at.
#[derive(Debug, Default)]
pub(super) struct Hops {
    /// In order: that of a hash map is another in each process, and a failure that depends on it could not be replayed.
    hops: BTreeMap<HopId, Hop>,
    by_name: HashMap<NextHop, HopId>,
    next: u32,
    /// Hops that may have something to send.
    dirty: VecDeque<HopId>,
    /// Messages whose next hop is to be worked out anew, oldest first.
    rerouting: BTreeSet<QueueId>,
    /// The one of them whose envelope is being read.
    rerouted: Option<QueueId>,
    /// Hops where a courier waits for another message.
    idling: BTreeSet<HopId>,
    /// Hops that found no room for a courier, and wait for that of another: with mail of users, and the others.
    wanting: [BTreeSet<(u64, HopId)>; 2],
    wants: u64,
    /// Those of them that are looked at again, because there is room.
    woken: BTreeSet<HopId>,
}

/// One next hop.
#[derive(Debug)]
pub(in crate::engine) struct Hop {
    pub(in crate::engine) name: NextHop,
    /// Messages that wait for it or are on their way there.
    messages: usize,
    /// Messages that are due, oldest first.
    ready: Waiting,
    /// Couriers on the way or there.
    pub(in crate::engine) couriers: usize,
    /// Those of them that have not got through yet.
    pub(in crate::engine) arriving: usize,
    /// Couriers that wait for another message.
    idle: Vec<ConnId>,
    /// Failures in a row to get through.
    failures: u16,
    paused_until: Option<Instant>,
    /// When its last pause began.
    paused_at: Instant,
    /// Until when it is paused again if an attempt before its time fails.
    planned: Option<Instant>,
    /// When it is tried before its time, for a message that has come.
    probe_at: Option<Instant>,
    /// Whether a courier got through lately.
    pub(in crate::engine) proven: bool,
    /// Why it is paused.
    pub(in crate::engine) trouble: Option<Arc<Cause>>,
    /// The status of that.
    pub(in crate::engine) status: Option<EnhancedCode>,
    /// The last message of which the log says why it waits.
    told: Option<QueueId>,
    /// Messages that may still come in this pause and have the log say why they wait.
    tells: usize,
    /// Whether routes have changed under it: nothing more is sent there.
    stale: bool,
    queued: bool,
    /// Where it waits for room: the line, and its turn there.
    wants: Option<(usize, u64)>,
    /// Addresses that could not be connected to lately, and until when that counts.
    dead: VecDeque<(IpAddr, Instant)>,
}

impl Hop {
    /// Who is charged for a courier that sets out now: mail of users goes before that of clients, a hop that was got
    /// through to before one that may be dead, and hosts of one zone have one share.
    fn holder(&self) -> Holder {
        let standing = match (self.ready.has_trusted(), self.failures == 0, self.proven) {
            (true, true, _) => Standing::Trusted,
            (true, false, _) => Standing::Known,
            (false, _, true) => Standing::Visitor,
            (false, _, false) => Standing::Client,
        };
        let name = self.name.to_string();
        Holder::nobody(standing).and(Kind::Zone, hash_of_text(zone_of(&name)))
    }

    /// Ends its pause for one attempt before its time, which leaves the schedule as it is; says whether there was one.
    fn resume_early(&mut self) -> bool {
        let until = self.paused_until.take();
        self.planned = until.or(self.planned);
        until.is_some()
    }

    /// The next messages in its line of which the log is to say why they wait, at most so many: each in its turn.
    pub(super) fn next_to_tell(&mut self, max: usize) -> Vec<QueueId> {
        let next = self.ready.from(self.told, max);
        self.told = next.last().copied();
        next
    }

    /// Whether the log is to say of one more message that has come why it waits.
    pub(super) fn tells_one_more(&mut self) -> bool {
        let tells = self.is_in_trouble() && self.tells > 0;
        self.tells = self.tells.saturating_sub(usize::from(tells));
        tells
    }

    /// Whether it is paused because nobody could be reached there.
    pub(in crate::engine) fn is_in_trouble(&self) -> bool {
        self.paused_until.is_some() && self.trouble.is_some()
    }

    /// When it is tried again, where it is paused.
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
    /// The id of a hop; it lives as long as messages or couriers need it.
    pub(super) fn intern(&mut self, name: NextHop) -> HopId {
        if let Some(id) = self.by_name.get(&name) {
            return *id;
        }
        let id = HopId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_name.insert(name.clone(), id);
        let hop = Hop {
            name,
            messages: 0,
            ready: Waiting::default(),
            couriers: 0,
            arriving: 0,
            idle: Vec::new(),
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

    pub(super) fn add_message(&mut self, id: HopId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.messages += 1;
        }
    }

    pub(super) fn remove_message(&mut self, id: HopId, message: QueueId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.messages = hop.messages.saturating_sub(1);
            hop.ready.remove(message);
        }
        self.free_if_unused(id);
    }

    pub(super) fn push_ready(&mut self, id: HopId, message: QueueId, by_client: bool) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.ready.insert(message, by_client);
        }
        self.touch(id);
    }

    /// A courier waits for another message.
    pub(super) fn add_idle(&mut self, id: HopId, conn: ConnId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.idle.push(conn);
            self.idling.insert(id);
        }
    }

    /// Those that wait for another message: of each hop the one that is taken first.
    fn idle(&self) -> impl Iterator<Item = (HopId, ConnId)> {
        let last = |id: &HopId| Some((*id, *self.hops.get(id)?.idle.last()?));
        self.idling.iter().filter_map(last)
    }

    /// Takes one of those that wait for another message at a hop.
    fn take_idle(&mut self, id: HopId) -> Option<ConnId> {
        let hop = self.hops.get_mut(&id)?;
        let conn = hop.idle.pop();
        if hop.idle.is_empty() {
            self.idling.remove(&id);
        }
        conn
    }

    /// The oldest message that is due.
    pub(super) fn pop_ready(&mut self, id: HopId) -> Option<QueueId> {
        self.hops.get_mut(&id).and_then(|hop| hop.ready.pop())
    }

    /// Whether routes have changed under a hop: nothing more is sent there.
    pub(super) fn is_stale(&self, id: HopId) -> bool {
        self.hops.get(&id).is_none_or(|hop| hop.stale)
    }

    /// Looks again whether a hop can send.
    pub(super) fn touch(&mut self, id: HopId) {
        if let Some(hop) = self.hops.get_mut(&id)
            && !hop.queued
        {
            hop.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Looks again at all that wait: room for couriers has come free.
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

    /// A hop found no room for a courier, and waits in one of the two lines.
    fn wants_room(&mut self, id: HopId, line: usize) {
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

    /// The standings that those may have who wait for room, this hop aside: each line has two.
    pub(super) fn wanting_beside(&self, own: HopId) -> impl Iterator<Item = Standing> {
        let standings = [
            [Standing::Known, Standing::Trusted],
            [Standing::Client, Standing::Visitor],
        ];
        let lines = self.wanting.iter().zip(standings);
        lines
            .filter(move |(line, _)| line.iter().any(|(_, id)| *id != own))
            .flat_map(|(_, standings)| standings)
    }

    fn leave_line(&mut self, id: HopId, place: Option<(usize, u64)>) {
        if let Some((line, turn)) = place
            && let Some(wanting) = self.wanting.get_mut(line)
        {
            wanting.remove(&(turn, id));
        }
    }

    /// Room for a courier has come free: some of those that wait for it are looked at again. Whoever finds none after all
    /// waits behind the others.
    pub(super) fn wake_wanting(&mut self) {
        for line in 0..self.wanting.len() {
            for _ in 0..WAKES_PER_COURIER_MAX {
                if !self.wake_next(line) {
                    break;
                }
            }
        }
    }

    /// Has the first one of a line looked at again; says whether there was one.
    fn wake_next(&mut self, line: usize) -> bool {
        let next = self.wanting.get_mut(line).and_then(BTreeSet::pop_first);
        let Some((_, id)) = next else { return false };
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.wants = None;
        }
        self.woken.insert(id);
        self.touch(id);
        true
    }

    /// A courier is gone. Those that wait for its room are looked at before its own hop.
    pub(super) fn courier_gone(&mut self, id: HopId, conn: ConnId, arriving: bool) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.couriers = hop.couriers.saturating_sub(1);
            hop.arriving = hop.arriving.saturating_sub(usize::from(arriving));
            hop.idle.retain(|idle| *idle != conn);
            if hop.idle.is_empty() {
                self.idling.remove(&id);
            }
        }
        self.wake_wanting();
        self.touch(id);
        self.free_if_unused(id);
    }

    /// A courier got through.
    pub(super) fn proved(&mut self, id: HopId) {
        if let Some(hop) = self.hops.get_mut(&id) {
            hop.arriving = hop.arriving.saturating_sub(1);
            hop.proven = true;
            hop.failures = 0;
            hop.paused_until = None;
            hop.planned = None;
            hop.trouble = None;
            hop.status = None;
        }
        self.touch(id);
    }

    /// Ends every pause for one attempt: somebody asked for it.
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

    fn free_if_unused(&mut self, id: HopId) {
        let unused = self.hops.get(&id).is_some_and(|hop| {
            hop.messages == 0 && hop.couriers == 0 && hop.paused_until.is_none()
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

impl Delivery {
    /// Sends couriers where something is due; says whether anything was looked at.
    pub(in crate::engine) fn dispatch_hops(&mut self, fx: &mut Effects) -> bool {
        let mut any = false;
        while let Some(id) = self.hops.dirty.pop_front() {
            any = true;
            if let Some(hop) = self.hops.get_mut(id) {
                hop.queued = false;
            }
            let wants_nothing = !self.dispatch(id, fx);
            // Whoever has no use for the room that came free does not keep it from the next.
            if self.hops.woken.remove(&id) && wants_nothing {
                for line in 0..self.hops.wanting.len() {
                    self.hops.wake_next(line);
                }
            }
        }
        any
    }

    /// Sends couriers to a hop; says whether one has set out, or waits for room.
    fn dispatch(&mut self, id: HopId, fx: &mut Effects) -> bool {
        let mut has_sent = false;
        loop {
            // Nobody sets out: they are all looked at again where that is over.
            if fx.stopping || fx.disk.is_stuck {
                return true;
            }
            let per_hop = fx.config.delivery.sessions_per_hop;
            let Some(hop) = self.hops.get_mut(id) else {
                return has_sent;
            };
            if hop.ready.is_empty() || hop.stale {
                return has_sent;
            }
            if !hop.idle.is_empty() {
                if let Some(conn) = self.hops.take_idle(id) {
                    self.courier_wake(conn, fx);
                }
                continue;
            }
            // A pause is for who would set out; a courier that is there already got through.
            if hop.paused_until.is_some_and(|until| until > fx.now.instant) {
                return has_sent;
            }
            let arriving_max = if hop.proven { hop.ready.len() } else { 1 };
            if hop.couriers >= per_hop || hop.arriving >= arriving_max {
                return has_sent;
            }
            let holder = hop.holder();
            if !self.has_room_for_courier(holder, fx) {
                let line = usize::from(holder.standing() < Standing::Known);
                self.hops.wants_room(id, line);
                return true;
            }
            if let Some(hop) = self.hops.get_mut(id) {
                hop.couriers += 1;
                hop.arriving += 1;
                let name = hop.name.clone();
                self.send_courier(id, &name, holder, fx);
                has_sent = true;
            }
        }
    }

    /// Takes room for one more delivery session, if need be that of one which is idle.
    fn has_room_for_courier(&mut self, holder: Holder, fx: &mut Effects) -> bool {
        loop {
            let pool = fx.shares.of_mut(Resource::Deliveries);
            if pool.take(holder, 1).is_ok() {
                return true;
            }
            // An idle one is of no use where it is the share that is used up, nor one of a better standing where it is the
            // ceiling of this one.
            let standing = holder.standing();
            let most = match pool.used() < pool.capacity() {
                true => standing,
                false => Standing::Trusted,
            };
            if pool.free(standing) > 0 || !self.retire_idle_courier(most, fx) {
                return false;
            }
        }
    }

    /// Makes room by sending one idle courier home, of this standing at most.
    fn retire_idle_courier(&mut self, most: Standing, fx: &mut Effects) -> bool {
        let may_go = |conn| {
            let session = self.sessions.get(conn);
            session.is_some_and(|session| session.standing() <= most)
        };
        let found = {
            let mut idle = self.hops.idle().take(IDLE_LOOKS_MAX);
            idle.find(|(_, conn)| may_go(*conn)).map(|(id, _)| id)
        };
        match found.and_then(|id| self.hops.take_idle(id)) {
            Some(conn) => {
                self.courier_dismiss(conn, fx);
                true
            }
            None => false,
        }
    }

    /// Nobody could be reached there: everything that waits for it waits longer.
    pub(super) fn pause_hop(
        &mut self,
        id: HopId,
        status: EnhancedCode,
        why: &Cause,
        fx: &mut Effects,
    ) {
        let Some(hop) = self.hops.get_mut(id) else {
            return;
        };
        if hop.paused_until.is_some_and(|until| until > fx.now.instant) {
            return;
        }
        hop.proven = false;
        fx.observed.unreached(Reason::of(status, &why.words));
        let planned = hop.planned.take().filter(|until| *until > fx.now.instant);
        let until = planned.unwrap_or_else(|| {
            hop.failures = hop.failures.saturating_add(1);
            let delay = retry::delay(hop.failures, &mut *fx.entropy);
            fx.now.instant.after(delay)
        });
        hop.paused_until = Some(until);
        hop.paused_at = fx.now.instant;
        hop.trouble = Some(Arc::new(why.clone()));
        hop.status = Some(status);
        hop.tells = UNTRIED_LOGGED_MAX;
        let line = Line::new(Level::Warning, "hop-paused")
            .with("hop", &hop.name)
            .with("waiting", hop.ready.len())
            .with("seconds", until.since(fx.now.instant).as_secs())
            .with("why", why);
        fx.log(line);
        if planned.is_none() {
            fx.timers.set(until, Timer::Hop(id));
        }
        self.expire_waiting(id, fx);
        self.read_waiting(id, fx);
    }

    /// A next hop is left alone for a moment, through no fault of its own.
    pub(super) fn rest_hop(&mut self, id: HopId, fx: &mut Effects) {
        let until = fx.now.instant.after(HOP_REST);
        if let Some(hop) = self.hops.get_mut(id)
            && hop.paused_until.is_none_or(|paused| paused < until)
        {
            hop.paused_until = Some(until);
            fx.timers.set(until, Timer::Hop(id));
        }
    }

    /// A message has come for a hop: if that is paused for long, it is tried before its time, though not at once for
    /// each.
    pub(super) fn probe_hop(&mut self, id: HopId, fx: &mut Effects) {
        if let Some(hop) = self.hops.get_mut(id)
            && let Some(until) = hop.paused_until
            && hop.probe_at.is_none()
        {
            let probe = hop.paused_at.after(HOP_PROBE_INTERVAL).max(fx.now.instant);
            if probe < until {
                hop.probe_at = Some(probe);
                fx.timers.set(probe, Timer::Hop(id));
            }
        }
    }

    /// The pause of a hop is over, or it is tried before that.
    pub(in crate::engine) fn hop_resumed(&mut self, id: HopId, fx: &mut Effects) {
        let Some(hop) = self.hops.get_mut(id) else {
            return;
        };
        let is_over = hop
            .paused_until
            .is_some_and(|until| until <= fx.now.instant);
        let is_probed = hop.probe_at.is_some_and(|probe| probe <= fx.now.instant);
        if is_probed {
            hop.probe_at = None;
            hop.resume_early();
        }
        if is_over || is_probed {
            hop.paused_until = None;
            self.hops.touch(id);
            self.hops.free_if_unused(id);
        }
    }

    /// Gives up the messages that waited for a hop for too long. The attempt that failed just now was the last one
    /// for them, so that a clock that jumps ahead bounces nothing untried.
    fn expire_waiting(&mut self, id: HopId, fx: &mut Effects) {
        let give_up = fx.config.delivery.give_up_after;
        let Some(hop) = self.hops.get(id) else { return };
        let old = |message: QueueId| {
            fx.index
                .get(message)
                .is_some_and(|entry| fx.now.wall.since(entry.arrived) > give_up)
        };
        // The line is in order of age: what is young ends the search.
        let expired = hop.ready.while_oldest(old);
        let why = hop
            .trouble
            .clone()
            .unwrap_or_else(|| Arc::new(Cause::here("the next hop cannot be reached")));
        for message in expired {
            if let Some(hop) = self.hops.get_mut(id) {
                hop.ready.remove(message);
            }
            self.give_up(message, id, &why, fx);
        }
    }

    /// The routes have changed: every message that waits gets its next hop anew.
    pub(in crate::engine) fn reroute(&mut self, fx: &mut Effects) {
        for hop in self.hops.hops.values_mut() {
            hop.stale = true;
        }
        self.hops.by_name.clear();
        self.hops.rerouting = fx.index.ids().into_iter().collect();
        self.reroute_next(fx);
    }

    /// A message waits for a hop that is no more: its next hop is worked out anew.
    pub(super) fn reroute_message(&mut self, id: QueueId, fx: &mut Effects) {
        self.hops.rerouting.insert(id);
        self.reroute_next(fx);
    }

    /// Reads the next envelope; one at a time, however often routes change meanwhile.
    fn reroute_next(&mut self, fx: &mut Effects) {
        while self.hops.rerouted.is_none() {
            let Some(id) = self.hops.rerouting.pop_first() else {
                return;
            };
            if let Some(entry) = fx.index.get(id) {
                self.hops.rerouted = Some(id);
                let (location, part) = (entry.location, Part::Head);
                fx.actions.push_back(Action::Read {
                    reader: Reader::Reroute(id),
                    id,
                    location,
                    part,
                });
            }
        }
    }

    /// The envelope of a message that is to be routed anew. One that cannot be read has had an attempt: it is tried
    /// again later, and not for ever.
    pub(in crate::engine) fn reroute_read(
        &mut self,
        id: QueueId,
        result: Result<Content, ReadError>,
        fx: &mut Effects,
    ) {
        self.hops.rerouted = None;
        match result {
            Ok(Content::Head { envelope, .. }) => self.move_message(id, &envelope, fx),
            Ok(_) => {}
            Err(error) => {
                let line = Line::new(Level::Error, "unreadable").with("id", id);
                fx.log(line.with("why", error));
                self.defer_unrouted(id, fx);
            }
        }
        self.reroute_next(fx);
    }

    /// Gives the recipients that wait the hops that they have by the routes of now.
    fn move_message(&mut self, id: QueueId, envelope: &Envelope, fx: &mut Effects) {
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        // A hop that a courier of this message is at keeps it until its outcome is known.
        let before = entry.open_hops();
        let mut moved = Vec::new();
        for (state, recipient) in entry.recipients.iter_mut().zip(&envelope.recipients) {
            if state.phase == Phase::Waiting {
                state.hop = self
                    .hops
                    .intern(route::hop_of(&fx.config, envelope, recipient));
                moved.push(state.hop);
            }
        }
        let after = entry.open_hops();
        for hop in after.iter().filter(|hop| !before.contains(hop)) {
            self.hops.add_message(*hop);
        }
        for hop in before.iter().filter(|hop| !after.contains(hop)) {
            self.hops.remove_message(*hop, id);
        }
        for hop in unique(moved) {
            self.message_due(id, hop, fx);
        }
    }

    /// When a recipient is tried next, if that is later than now.
    pub(in crate::engine) fn next_attempt(
        &self,
        entry: &Queued,
        state: &RecipientState,
        fx: &Effects,
    ) -> Option<Timestamp> {
        if entry.held || state.phase != Phase::Waiting {
            return None;
        }
        let hop = self.hops.get(state.hop).and_then(Hop::next_attempt);
        let hop = hop.map(|at| fx.now.wall.after(at.since(fx.now.instant)));
        hop.into_iter()
            .chain([state.until])
            .max()
            .filter(|at| *at > fx.now.wall)
    }
}

/// Next hops that are looked at for an idle courier.
const IDLE_LOOKS_MAX: usize = 64;

fn unique(mut hops: Vec<HopId>) -> Vec<HopId> {
    hops.sort_unstable();
    hops.dedup();
    hops
}
