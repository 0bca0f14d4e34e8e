//! Starts delivery sessions: for which next hop and when. Also handles pauses and changed routes.

use std::sync::Arc;

use super::hops::Hop;
use super::session::Delivery;
use crate::cause::FailureCause;
use crate::date::Timestamp;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, MessageReader};
use crate::engine::log::{Level, Line};
use crate::engine::status::DeferralReason;
use crate::engine::timers::Timer;
use crate::envelope::Envelope;
use crate::limits::{HOP_PROBE_INTERVAL, HOP_REST, UNTRIED_LOGGED_MAX};
use crate::policy::shares::{Holder, Resource, ResourceShare, TrustLevel};
use crate::policy::{retry, route};
use crate::queue::{HopId, Part, Phase, Queued, ReadContent, ReadError, RecipientState};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

impl Delivery {
    /// Starts delivery sessions for next hops with due messages; returns whether it examined any.
    pub(in crate::engine) fn dispatch_hops(&mut self, fx: &mut Effects) -> bool {
        let mut any = false;
        while let Some(id) = self.hops.dirty.pop_front() {
            any = true;
            if let Some(hop) = self.hops.get_mut(id) {
                hop.queued = false;
            }
            let wants_nothing = !self.dispatch(id, fx);
            // A next hop that does not use the free place leaves it to another.
            if self.hops.woken.remove(&id) && wants_nothing {
                for line in 0..self.hops.wanting.len() {
                    self.hops.wake_next(line);
                }
            }
        }
        any
    }

    /// Starts delivery sessions for a next hop; returns whether one was started, or waits for room.
    fn dispatch(&mut self, id: HopId, fx: &mut Effects) -> bool {
        let mut has_sent = false;
        loop {
            // No session starts: all hops are examined again when this is over.
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
            if !hop.sessions.idle.is_empty() {
                if let Some(conn) = self.hops.take_idle(id) {
                    self.wake(conn, fx);
                }
                continue;
            }
            // A pause applies to new sessions; one that is connected has already reached the host.
            if hop.paused_until.is_some_and(|until| until > fx.now.instant) {
                return has_sent;
            }
            let arriving_max = if hop.proven { hop.ready.len() } else { 1 };
            if hop.sessions.len() >= per_hop || hop.sessions.arriving.len() >= arriving_max {
                return has_sent;
            }
            let holder = hop.holder();
            let Some(share) = self.room_for_session(holder, fx) else {
                let line = usize::from(holder.standing() < TrustLevel::Known);
                self.hops.wants_room(id, line);
                return true;
            };
            let Some(name) = self.hops.get(id).map(|hop| hop.name.clone()) else {
                return has_sent;
            };
            self.start_session(id, &name, share, fx);
            has_sent = true;
        }
    }

    /// Takes room for one more delivery session, if need be that of one which is idle.
    fn room_for_session(&mut self, holder: Holder, fx: &mut Effects) -> Option<ResourceShare> {
        loop {
            let pool = fx.shares.of(Resource::Deliveries);
            if let Ok(share) = pool.take(holder, 1) {
                return Some(share);
            }
            // Closing an idle session does not help if the share is used up, nor if it is of a higher trust level and
            // the ceiling of this level is reached.
            let standing = holder.standing();
            let most = match pool.used() < pool.capacity() {
                true => standing,
                false => TrustLevel::Trusted,
            };
            if pool.free(standing) > 0 || !self.retire_idle_session(most, fx) {
                return None;
            }
        }
    }

    /// Makes room by sending one idle delivery session home, of this standing at most.
    fn retire_idle_session(&mut self, most: TrustLevel, fx: &mut Effects) -> bool {
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
                self.dismiss(conn, fx);
                true
            }
            None => false,
        }
    }

    /// The next hop could not be reached: everything that waits for it waits longer.
    pub(super) fn pause_hop(
        &mut self,
        id: HopId,
        status: EnhancedCode,
        why: &FailureCause,
        fx: &mut Effects,
    ) {
        let Some(hop) = self.hops.get_mut(id) else {
            return;
        };
        if hop.paused_until.is_some_and(|until| until > fx.now.instant) {
            return;
        }
        hop.proven = false;
        fx.observed
            .unreached(DeferralReason::of(status, &why.words));
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
        let line = Line::new(Level::Warning, "next-hop-paused")
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

    /// Pauses a next hop briefly for a reason that is not its fault.
    pub(super) fn pause_briefly(&mut self, id: HopId, fx: &mut Effects) {
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

    /// Gives up the messages that have waited for a next hop too long. The attempt that just failed was their last one,
    /// so a clock that jumps ahead bounces nothing untried.
    fn expire_waiting(&mut self, id: HopId, fx: &mut Effects) {
        let give_up = fx.config.delivery.give_up_after;
        let Some(hop) = self.hops.get(id) else { return };
        let old = |message: QueueId| {
            fx.index
                .get(message)
                .is_some_and(|entry| fx.now.wall.since(entry.arrived) > give_up)
        };
        // The queue is in order of age: the first young message ends the search.
        let expired = hop.ready.while_oldest(old);
        let why = hop
            .trouble
            .clone()
            .unwrap_or_else(|| Arc::new(FailureCause::here("the next hop cannot be reached")));
        for message in expired {
            self.hops.set_aside(id, message);
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

    /// A message waits for a next hop that no longer exists: finds its next hop again.
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
                    reader: MessageReader::Reroute(id),
                    id,
                    location,
                    part,
                });
            }
        }
    }

    /// The envelope of a message that is to be routed again was read. If it could not be read, that counts as an
    /// attempt: it is tried again later, and not forever.
    pub(in crate::engine) fn reroute_read(
        &mut self,
        id: QueueId,
        result: Result<ReadContent, ReadError>,
        fx: &mut Effects,
    ) {
        if self.hops.rerouted.take_if(|asked| *asked == id).is_none() {
            return;
        }
        match result {
            Ok(ReadContent::Head { envelope, .. }) => self.move_message(id, &envelope, fx),
            Ok(_) => {}
            Err(error) => {
                let line = Line::new(Level::Error, "unreadable").with("id", id);
                fx.log(line.with("why", error));
                self.defer_unrouted(id, fx);
            }
        }
        self.reroute_next(fx);
    }

    /// Moves the waiting recipients to the next hops of the current routes.
    fn move_message(&mut self, id: QueueId, envelope: &Envelope, fx: &mut Effects) {
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        // A next hop with a delivery session for this message keeps it until the result is known.
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
            self.hops.add_message(*hop, id);
        }
        for hop in before.iter().filter(|hop| !after.contains(hop)) {
            self.hops.remove_message(*hop, id);
        }
        for hop in unique(moved) {
            self.message_due(id, hop, fx);
        }
    }

    /// Why a recipient waits: a next hop that could not be reached, be it for another message, is the latest that is
    /// known.
    pub(in crate::engine) fn latest_cause(
        &self,
        state: &RecipientState,
    ) -> Option<Arc<FailureCause>> {
        let trouble = self.hops.get(state.hop).and_then(|hop| hop.trouble.clone());
        trouble.or_else(|| state.why.clone())
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

/// Next hops that are looked at for an idle delivery session.
const IDLE_LOOKS_MAX: usize = 64;

fn unique(mut hops: Vec<HopId>) -> Vec<HopId> {
    hops.sort_unstable();
    hops.dedup();
    hops
}
