//! What came of an attempt: each recipient's fate, what is written of it, and whether it is tried again.

use std::sync::Arc;

use super::{Courier, Load, Stage, Target, tls_text};
use crate::clock::Now;
use crate::engine::event::ConnId;
use crate::engine::log::{Level, Line};
use crate::engine::store::Unrecorded;
use crate::engine::{Conn, Engine};
use crate::policy::retry;
use crate::queue::{HopId, Outcome, OutcomeRecord, Phase};
use crate::queue_id::QueueId;
use crate::smtp::client::Fate;
use crate::status::EnhancedCode;

impl Engine {
    /// The transaction is over.
    pub(super) fn courier_done(
        &mut self,
        conn: ConnId,
        courier: &mut Courier,
        fates: Vec<Fate>,
        now: Now,
    ) {
        let Some(load) = courier.load.take() else {
            return;
        };
        courier.stage = Stage::Recording;
        if !self.courier_outcome(Some(conn), courier, *load, fates, now) {
            courier.stage = Stage::Talking;
        }
    }

    /// Turns fates into outcomes and has them written; says whether the courier has to wait for that.
    pub(super) fn courier_outcome(
        &mut self,
        conn: Option<ConnId>,
        courier: &Courier,
        load: Load,
        fates: Vec<Fate>,
        now: Now,
    ) -> bool {
        let mut recipients: Vec<(u32, Outcome)> = Vec::new();
        let mut relayed: Vec<u32> = Vec::new();
        let mut again = false;
        let host = courier.target.as_ref().and_then(Target::remote_host);
        for (nth, (index, fate)) in load.indices.iter().zip(fates).enumerate() {
            let outcome = match fate {
                Fate::Again => {
                    again = true;
                    continue;
                }
                Fate::Delivered { text, dsn } => {
                    self.counters.delivered += 1;
                    self.log_fate("delivered", &load, *index, courier, &text, None);
                    if !dsn && load.dsn.get(nth) == Some(&true) {
                        relayed.push(*index);
                    }
                    Outcome::Delivered
                }
                Fate::Failed { status, text } => {
                    self.log_fate("failed", &load, *index, courier, &text, Some(status));
                    self.counters.failed += 1;
                    Outcome::Failed {
                        status,
                        text: text.into(),
                    }
                }
                Fate::Deferred { status, text } => {
                    self.deferral(&load, *index, courier, status, &text, now)
                }
                Fate::Unknown { text } => {
                    let text =
                        format!("{text} behind the final dot: the message may be there already");
                    self.deferral(
                        &load,
                        *index,
                        courier,
                        EnhancedCode::new(4, 4, 2),
                        &text,
                        now,
                    )
                }
            };
            recipients.push((*index, outcome));
        }
        if again {
            self.try_again(&load, &recipients, courier.hop);
        }
        if recipients.is_empty() {
            return false;
        }
        self.settle_outcomes(load.id, recipients, &relayed, host, conn, now)
    }

    /// Recipients that the server had no room for wait for another transaction, at once.
    pub(super) fn try_again(&mut self, load: &Load, decided: &[(u32, Outcome)], hop: HopId) {
        if let Some(entry) = self.index.get_mut(load.id) {
            for index in load
                .indices
                .iter()
                .filter(|index| !decided.iter().any(|(at, _)| at == *index))
            {
                if let Some(state) = entry.recipients.get_mut(*index as usize) {
                    state.phase = Phase::Waiting;
                }
            }
        }
        self.make_ready(load.id, hop);
    }

    /// The outcome of an attempt that was put off: another, later; or none, if it has lasted too long.
    pub(super) fn deferral(
        &mut self,
        load: &Load,
        index: u32,
        courier: &Courier,
        status: EnhancedCode,
        text: &str,
        now: Now,
    ) -> Outcome {
        let state = self
            .index
            .get(load.id)
            .and_then(|entry| entry.recipients.get(index as usize));
        let attempts = state.map_or(0, |state| state.attempts).saturating_add(1);
        // An attempt has just failed: age alone, which a clock that was set can make, gives nothing up untried.
        if now.wall.since(load.arrived) > self.config.delivery.give_up_after {
            self.counters.failed += 1;
            self.log_fate("expired", load, index, courier, text, Some(status));
            let status = expired_status(status);
            return Outcome::Failed {
                status,
                text: format!("given up after too long: {text}").into(),
            };
        }
        self.counters.deferred += 1;
        self.log_fate("deferred", load, index, courier, text, Some(status));
        let until = now.wall.after(retry::delay(attempts, &mut *self.entropy));
        Outcome::Deferred {
            attempts,
            until,
            status: Some(status),
            text: Arc::from(text),
        }
    }

    pub(super) fn log_fate(
        &mut self,
        event: &str,
        load: &Load,
        index: u32,
        courier: &Courier,
        text: &str,
        status: Option<EnhancedCode>,
    ) {
        let level = if event == "delivered" {
            Level::Info
        } else {
            Level::Warning
        };
        let mut line = Line::new(level, event)
            .with("id", load.id)
            .with("rcpt", index)
            .with_some("status", status);
        if let Some(target) = &courier.target {
            line = match target.to.ip() {
                Some(ip) => line.with("host", &target.host.name).with("address", ip),
                None => line.with("to", &target.to),
            };
        }
        self.log(
            line.with("tls", tls_text(courier.tls.as_ref()))
                .with("reply", text),
        );
    }

    /// The outcome is on the disk (or waits for the disk): the courier may go on.
    pub(in crate::engine) fn courier_recorded(&mut self, conn: ConnId, now: Now) {
        let mut courier = match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => courier,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        if courier.stage == Stage::Recording {
            courier.stage = Stage::Talking;
            return self.courier_pick(conn, courier, now);
        }
        self.courier_put(conn, courier);
    }

    /// Gives up what waits of a message for a hop.
    pub(in crate::engine) fn give_up(&mut self, id: QueueId, hop: HopId, why: &str, now: Now) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        let text = format!("given up after too long: {why}");
        let recipients = close_waiting(entry, hop, EnhancedCode::new(5, 4, 7), &text);
        self.counters.failed += recipients.len() as u64;
        self.log(
            Line::new(Level::Warning, "expired")
                .with("id", id)
                .with("why", why),
        );
        if !recipients.is_empty() {
            self.settle_outcomes(id, recipients, &[], None, None, now);
        }
    }

    /// Has outcomes written: behind a notification, where one is owed. Says whether a courier has to wait.
    pub(in crate::engine) fn settle_outcomes(
        &mut self,
        id: QueueId,
        recipients: Vec<(u32, Outcome)>,
        relayed: &[u32],
        host: Option<String>,
        courier: Option<ConnId>,
        now: Now,
    ) -> bool {
        let done = self.closes(id, &recipients);
        let record = OutcomeRecord {
            id,
            at: now.wall,
            recipients,
            warned: false,
            done,
        };
        let failed = record
            .recipients
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }));
        if failed || !relayed.is_empty() {
            // A notification takes its time. A courier that has delivered something waits for it all the same: a kill
            // must not repeat more than its last message.
            let delivered = record
                .recipients
                .iter()
                .any(|(_, outcome)| *outcome == Outcome::Delivered);
            let courier = courier.filter(|_| delivered && self.index.get(id).is_some());
            let unrecorded = Unrecorded {
                record,
                relayed: relayed.to_vec(),
                host,
                courier,
            };
            self.notify(unrecorded, now);
            return courier.is_some();
        }
        self.record_outcome(record, courier);
        true
    }
}

/// Closes what waits of a message for a hop with one failure for all.
pub(super) fn close_waiting(
    entry: &mut crate::queue::Queued,
    hop: HopId,
    status: EnhancedCode,
    text: &str,
) -> Vec<(u32, Outcome)> {
    let mut recipients = Vec::new();
    for (at, state) in entry.recipients.iter_mut().enumerate() {
        if state.hop == hop && state.phase == Phase::Waiting {
            state.phase = Phase::InFlight;
            let outcome = Outcome::Failed {
                status: status.as_permanent(),
                text: text.into(),
            };
            recipients.push((u32::try_from(at).unwrap_or(u32::MAX), outcome));
        }
    }
    recipients
}

/// What a transient status becomes once it has lasted too long: 4.4.7 says "delivery time expired".
fn expired_status(status: EnhancedCode) -> EnhancedCode {
    let plain = status == EnhancedCode::new(4, 0, 0) || status == EnhancedCode::new(4, 4, 1);
    if plain {
        EnhancedCode::new(5, 4, 7)
    } else {
        status.as_permanent()
    }
}
