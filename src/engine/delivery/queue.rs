//! The queue as delivery sees it: which message is due for which next hop, and which recipients are still open.

use std::sync::Arc;

use super::session::Delivery;
use crate::cause::FailureCause;
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::date::Timestamp;
use crate::engine::effects::Effects;
use crate::engine::log::{Level, Line};
use crate::engine::note::{NewMessage, Note};
use crate::engine::timers::Timer;
use crate::envelope::{Envelope, MessageOrigin, Recipient};
use crate::policy::{retry, route};
use crate::queue::{
    DeliveryResult, HopId, OutcomeRecord, Phase, Queued, RecipientState, Recovered, Warned,
};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;
use crate::workload::{Unit, count};

impl Delivery {
    /// The next hop of a recipient, in the table.
    fn hop_for(&mut self, envelope: &Envelope, recipient: &Recipient, fx: &mut Effects) -> HopId {
        count(Unit::Name, 1);
        let hop = route::hop_of(&fx.config, envelope, recipient);
        self.hops.intern(hop)
    }

    /// A message is on the disk: from now on it waits for its next hops.
    pub(in crate::engine) fn on_queued(&mut self, message: NewMessage, fx: &mut Effects) {
        let NewMessage {
            id,
            size,
            envelope,
            location,
        } = message;
        let states: Vec<RecipientState> = envelope
            .recipients
            .iter()
            .map(|recipient| RecipientState::new(self.hop_for(&envelope, recipient, fx)))
            .collect();
        let entry = Queued {
            location,
            size,
            arrived: envelope.arrived,
            since: fx.now.instant,
            held: false,
            warned: match envelope.reverse_path.is_null() {
                true => Warned::Begun,
                false => Warned::No,
            },
            by_client: is_by_client(&fx.config, &envelope.origin),
            submitter: submitter(&envelope.origin),
            recipients: states.into(),
        };
        let hops = entry.waiting_hops();
        let warned = entry.warned != Warned::No;
        fx.index.insert(id, entry);
        for hop in hops {
            self.hops.add_message(hop, id);
            self.make_ready(id, hop, fx);
            self.probe_hop(hop, fx);
        }
        self.log_waiting(id, &envelope, fx);
        if !warned && wants_delay(&envelope) {
            fx.timers.set(
                fx.now.instant.after(fx.config.delivery.warn_after),
                Timer::Warn(id),
            );
        }
    }

    /// Recovery found a message.
    pub(in crate::engine) fn on_recovered(&mut self, recovered: Recovered, fx: &mut Effects) {
        let Recovered {
            id,
            location,
            envelope,
            body_len,
            results,
            held,
            warned,
            ..
        } = recovered;
        let mut due = Vec::new();
        let mut states = Vec::with_capacity(envelope.recipients.len());
        for (at, recipient) in envelope.recipients.iter().enumerate() {
            let hop = self.hop_for(&envelope, recipient, fx);
            let mut state = RecipientState::new(hop);
            match results.get(at).cloned().flatten() {
                None => due.push((hop, fx.now.instant)),
                Some(outcome) => {
                    due.extend(apply(&mut state, outcome, fx.now).map(|at| (hop, at)));
                }
            }
            states.push(state);
        }
        let null = envelope.reverse_path.is_null();
        let entry = Queued {
            location,
            size: body_len,
            arrived: envelope.arrived,
            since: fx.now.instant,
            held,
            warned: match (warned, null) {
                (true, _) => Warned::Recorded,
                (false, true) => Warned::Begun,
                (false, false) => Warned::No,
            },
            by_client: is_by_client(&fx.config, &envelope.origin),
            submitter: submitter(&envelope.origin),
            recipients: states.into(),
        };
        if entry.warned == Warned::No && wants_delay(&envelope) {
            let age = fx.now.wall.since(entry.arrived);
            let left = fx.config.delivery.warn_after.saturating_sub(age);
            fx.timers.set(fx.now.instant.after(left), Timer::Warn(id));
        }
        let done = entry.is_done();
        fx.index.insert(id, entry);
        if done {
            return self.finish_message(id, fx);
        }
        due.sort_unstable();
        due.dedup_by_key(|(hop, _)| *hop);
        for (hop, at) in due {
            self.hops.add_message(hop, id);
            if at <= fx.now.instant {
                self.message_due(id, hop, fx);
            } else {
                fx.timers.set(at, Timer::Due(id, hop));
            }
        }
    }

    /// A message is due for a hop.
    pub(in crate::engine) fn message_due(&mut self, id: QueueId, hop: HopId, fx: &mut Effects) {
        if let Some(entry) = fx.index.get_mut(id) {
            entry.make_due(hop);
        }
        self.make_ready(id, hop, fx);
    }

    /// Adds a message to the queue of a next hop, unless it is held or has no due recipient there.
    pub(super) fn make_ready(&mut self, id: QueueId, hop: HopId, fx: &mut Effects) {
        let ready = fx
            .index
            .get(id)
            .is_some_and(|entry| !entry.held && entry.due_for(hop).next().is_some());
        if !ready {
            return;
        }
        // Every recipient that may be tried passes here: none is left at a hop that nothing is sent to any more.
        if self.hops.is_stale(hop) {
            return self.reroute_message(id, fx);
        }
        let by_client = fx.index.get(id).is_some_and(|entry| entry.by_client);
        self.hops.push_ready(hop, id, by_client);
    }

    /// The envelope that a new route needs cannot be read: counts as an attempt for the waiting recipients. A held
    /// message is routed when it is released.
    pub(super) fn defer_unrouted(&mut self, id: QueueId, fx: &mut Effects) {
        let Some(entry) = fx.index.get_mut(id).filter(|entry| !entry.held) else {
            return;
        };
        let expired = fx.now.wall.since(entry.arrived) > fx.config.delivery.give_up_after;
        let why = Arc::new(FailureCause::here("the message cannot be read"));
        let mut recipients = Vec::new();
        for (at, state) in (0..).zip(entry.recipients.iter_mut()) {
            if state.phase != Phase::Waiting || !self.hops.is_stale(state.hop) {
                continue;
            }
            state.phase = Phase::InFlight;
            let attempts = state.attempts.saturating_add(1);
            let outcome = match expired {
                true => DeliveryResult::Failed {
                    status: EnhancedCode::new(5, 3, 0),
                    why: Arc::clone(&why),
                },
                false => DeliveryResult::Deferred {
                    attempts,
                    until: fx.now.wall.after(retry::delay(attempts, &mut *fx.entropy)),
                    status: Some(EnhancedCode::new(4, 3, 0)),
                    why: Arc::clone(&why),
                },
            };
            recipients.push((at, outcome));
        }
        if !recipients.is_empty() {
            self.settle_outcomes(id, recipients, &[], None, None, fx);
        }
    }

    /// The results of an attempt are on the disk and apply from now on.
    pub(in crate::engine) fn on_recorded(&mut self, record: OutcomeRecord, fx: &mut Effects) {
        let OutcomeRecord {
            id,
            recipients,
            warned,
            done,
            ..
        } = record;
        let mut left: Vec<HopId> = Vec::new();
        let mut due: Vec<(HopId, Instant)> = Vec::new();
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        if warned {
            entry.warned = Warned::Recorded;
        }
        for (at, outcome) in recipients {
            let Some(state) = entry.recipients.get_mut(at as usize) else {
                continue;
            };
            match apply(state, outcome, fx.now) {
                Some(at) => due.push((state.hop, at)),
                None => left.push(state.hop),
            }
        }
        let finished = entry.is_done();
        left.sort_unstable();
        left.dedup();
        let open = entry.open_hops();
        left.retain(|hop| !open.contains(hop));
        for hop in left {
            self.hops.remove_message(hop, id);
        }
        due.sort_unstable();
        due.dedup_by_key(|(hop, _)| *hop);
        for (hop, at) in due {
            fx.timers.set(at, Timer::Due(id, hop));
        }
        if done {
            self.on_done(id, None, fx);
        } else if finished {
            self.finish_message(id, fx);
        }
    }

    /// Nothing is owed for a message any more.
    fn finish_message(&mut self, id: QueueId, fx: &mut Effects) {
        self.on_done(id, None, fx);
        fx.note(Note::Finished { id });
    }

    /// A message is done, or was removed by an operator with this uid, whatever was still owed.
    pub(in crate::engine) fn on_done(&mut self, id: QueueId, by: Option<u32>, fx: &mut Effects) {
        let Some(entry) = fx.index.remove(id) else {
            return;
        };
        for hop in entry.open_hops() {
            self.hops.remove_message(hop, id);
        }
        fx.note(Note::Forgotten { id });
        fx.log(match by {
            None => Line::new(Level::Info, "done").with("id", id),
            Some(uid) => Line::new(Level::Info, "removed")
                .with("id", id)
                .with("by", format_args!("uid={uid}")),
        });
    }

    /// An operator holds or releases a message.
    pub(in crate::engine) fn on_marked(&mut self, id: QueueId, held: bool, fx: &mut Effects) {
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        entry.held = held;
        if held {
            // What becomes of its next hops is nothing to it: nobody sets out for it, and it does not grow too old there.
            for hop in entry.open_hops() {
                self.hops.set_aside(hop, id);
            }
            return;
        }
        let (hops, warned) = (entry.waiting_hops(), entry.warned != Warned::No);
        let age = fx.now.wall.since(entry.arrived);
        for hop in hops {
            self.message_due(id, hop, fx);
        }
        // The warning that came due while it was held is due now.
        if !warned && age >= fx.config.delivery.warn_after {
            fx.timers.set(fx.now.instant, Timer::Warn(id));
        }
    }

    /// Whether an outcome closes the last open recipients of its message.
    pub(super) fn closes(
        &self,
        id: QueueId,
        recipients: &[(u32, DeliveryResult)],
        fx: &Effects,
    ) -> bool {
        let Some(entry) = fx.index.get(id) else {
            return false;
        };
        entry.recipients.iter().enumerate().all(|(at, state)| {
            state.phase == Phase::Closed
                || recipients.iter().any(|(index, outcome)| {
                    *index as usize == at && !matches!(outcome, DeliveryResult::Deferred { .. })
                })
        })
    }
}

/// Applies the result of an attempt to a recipient; returns the time of the next attempt, if any.
fn apply(state: &mut RecipientState, outcome: DeliveryResult, now: Now) -> Option<Instant> {
    match outcome {
        DeliveryResult::Delivered | DeliveryResult::Failed { .. } => {
            state.phase = Phase::Closed;
            None
        }
        DeliveryResult::Deferred {
            attempts,
            until,
            status,
            why,
        } => {
            state.phase = Phase::Waiting;
            state.attempts = attempts;
            state.status = status;
            state.why = Some(why);
            state.until = until;
            state.due = false;
            Some(due_at(until, now))
        }
    }
}

/// Whether any recipient asks for a delay DSN.
fn wants_delay(envelope: &Envelope) -> bool {
    let mut recipients = envelope.recipients.iter();
    recipients.any(|recipient| recipient.notify.wants_delay())
}

/// When a deferral ends on the monotonic clock. A wall clock that jumped can only shorten the wait, never past the
/// longest that the schedule knows.
fn due_at(until: Timestamp, now: Now) -> Instant {
    now.instant
        .after(until.since(now.wall).min(retry::DELAY_MAX))
}

/// Whether mail of this origin was caused by a client without permission to relay: sent from an address that may not
/// relay, or a DSN of ours, which anybody's mail may have caused.
fn is_by_client(config: &Config, origin: &MessageOrigin) -> bool {
    match origin {
        MessageOrigin::Client(address) => !config.trust.relay.contains(*address),
        MessageOrigin::Dsn(_) => true,
        MessageOrigin::Login(_) | MessageOrigin::Process(_) | MessageOrigin::Damage => false,
    }
}

/// The user of this machine whose process submitted mail of this origin.
const fn submitter(origin: &MessageOrigin) -> Option<u32> {
    match origin {
        MessageOrigin::Process(uid) => Some(*uid),
        MessageOrigin::Login(_)
        | MessageOrigin::Client(_)
        | MessageOrigin::Dsn(_)
        | MessageOrigin::Damage => None,
    }
}
