//! The result of a delivery attempt: the delivery result of each recipient, the outcome record, and the next retry.

use std::sync::Arc;
use std::time::Duration;

use super::host::Target;
use super::load::{Heard, Load};
use super::meaning::{cause_at, tls_text};
use super::session::{Delivery, DeliverySession, State};
use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::date::Timestamp;
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::ConnId;
use crate::engine::log::{Level, Line};
use crate::engine::note::{Note, Unrecorded};
use crate::engine::status::{DeferralReason, Version};
use crate::metrics::Provider;
use crate::policy::retry;
use crate::queue::{DeliveryResult, HopId, OutcomeRecord, Phase};
use crate::queue_id::QueueId;
use crate::smtp::client::{RecipientResult, RefusalScope};
use crate::status::EnhancedCode;

impl Delivery {
    /// The transaction is over: records the results, and offers the open recipients to the next host.
    pub(super) fn on_transaction_done(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        results: Vec<RecipientResult>,
        fx: &mut Effects,
    ) {
        let Some(mut load) = delivery.state.take_load() else {
            return;
        };
        let goes_on = !delivery.candidates.is_empty() && !fx.stopping;
        let (mut decided, mut again) = (Vec::new(), Vec::new());
        let indices = std::mem::take(&mut load.indices);
        for (index, result) in indices.into_iter().zip(results) {
            if result == RecipientResult::Again {
                again.push(index);
                continue;
            }
            let heard = Heard {
                result,
                at: delivery.place(),
            };
            let heard = match load.earlier.remove(&index) {
                Some(earlier) => weightier(earlier, heard),
                None => heard,
            };
            if heard.result.is_final() || !goes_on {
                decided.push((index, heard));
                continue;
            }
            self.log_left(&load, index, delivery, &heard, fx);
            load.indices.push(index);
            load.earlier.insert(index, heard);
        }
        if !again.is_empty() {
            self.try_again(load.id, &again, delivery.hop, fx);
        }
        let waits = self.record_results(Some(conn), delivery, &load, decided, fx);
        let id = load.id;
        let left = (!load.indices.is_empty()).then_some(load);
        delivery.state = match (waits, delivery.state.end()) {
            (true, (link, _)) => State::Recording { id, link, left },
            (false, (Some(link), _)) => State::Talking { link, load: left },
            (false, (None, _)) => State::between_hosts(left),
        };
    }

    /// Defers the carried recipients, with the replies of the hosts; recipients that no host was asked about wait as
    /// before.
    pub(super) fn defer_message(&mut self, delivery: &mut DeliverySession, fx: &mut Effects) {
        let Some(mut load) = delivery.state.take_load() else {
            return;
        };
        let (mut decided, mut untried) = (Vec::new(), Vec::new());
        for index in std::mem::take(&mut load.indices) {
            match load.earlier.remove(&index) {
                Some(heard) => decided.push((index, heard)),
                None => untried.push(index),
            }
        }
        if !untried.is_empty() {
            self.try_again(load.id, &untried, delivery.hop, fx);
        }
        self.record_results(None, delivery, &load, decided, fx);
    }

    /// Turns delivery results into outcomes and records them; returns whether the delivery session must wait for that.
    pub(super) fn record_results(
        &mut self,
        conn: Option<ConnId>,
        delivery: &DeliverySession,
        load: &Load,
        results: Vec<(u32, Heard)>,
        fx: &mut Effects,
    ) -> bool {
        let mut recipients: Vec<(u32, DeliveryResult)> = Vec::new();
        let mut relayed: Vec<u32> = Vec::new();
        let host = delivery.target().and_then(Target::remote_host);
        for (index, heard) in results {
            let outcome = match &heard.result {
                RecipientResult::Again => continue,
                RecipientResult::Delivered { text, dsn } => {
                    count_up(&mut fx.counters.delivered, 1);
                    self.observe_delivery(delivery, load, fx);
                    let why = cause_at(heard.at.clone(), QuotedWords::Reply(text.as_str().into()));
                    log_result("delivered", load, index, delivery, &why, None, fx);
                    if !dsn && load.dsn.contains(&index) {
                        relayed.push(index);
                    }
                    DeliveryResult::Delivered
                }
                RecipientResult::Failed { status, words, .. } => {
                    let why = cause_at(heard.at.clone(), words.clone());
                    log_result("failed", load, index, delivery, &why, Some(*status), fx);
                    count_up(&mut fx.counters.failed, 1);
                    fx.observed.failed(delivery.provider());
                    DeliveryResult::Failed {
                        status: *status,
                        why: Arc::new(why),
                    }
                }
                RecipientResult::Deferred { status, words, .. } => {
                    let why = cause_at(heard.at.clone(), words.clone());
                    self.deferral(load, index, delivery, *status, why, fx)
                }
                RecipientResult::Unknown { words } => {
                    let why = cause_at(heard.at.clone(), unknown_words(words));
                    self.deferral(load, index, delivery, EnhancedCode::new(4, 4, 2), why, fx)
                }
            };
            recipients.push((index, outcome));
        }
        if recipients.is_empty() {
            return false;
        }
        self.settle_outcomes(load.id, recipients, &relayed, host, conn, fx)
    }

    /// Recipients that the server had no room for, or that were not offered, wait for another transaction.
    pub(super) fn try_again(&mut self, id: QueueId, indices: &[u32], hop: HopId, fx: &mut Effects) {
        if let Some(entry) = fx.index.get_mut(id) {
            for index in indices {
                if let Some(state) = entry.recipients.get_mut(*index as usize) {
                    state.phase = Phase::Waiting;
                }
            }
        }
        self.make_ready(id, hop, fx);
    }

    /// A recipient continues with the next host. After a lost reply this may cause a duplicate, which the log notes
    /// (RFC 1047).
    fn log_left(
        &mut self,
        load: &Load,
        index: u32,
        delivery: &DeliverySession,
        heard: &Heard,
        fx: &mut Effects,
    ) {
        match &heard.result {
            RecipientResult::Unknown { words } => {
                let why = cause_at(heard.at.clone(), unknown_words(words));
                let status = Some(EnhancedCode::new(4, 4, 2));
                log_result("unknown", load, index, delivery, &why, status, fx);
            }
            RecipientResult::Deferred { status, words, .. }
            | RecipientResult::Failed { status, words, .. } => {
                let why = cause_at(heard.at.clone(), words.clone());
                log_result("next-host", load, index, delivery, &why, Some(*status), fx);
            }
            RecipientResult::Delivered { .. } | RecipientResult::Again => {}
        }
    }

    /// The outcome of a deferred attempt: another attempt later, or failure if the message is too old.
    pub(super) fn deferral(
        &mut self,
        load: &Load,
        index: u32,
        delivery: &DeliverySession,
        status: EnhancedCode,
        why: FailureCause,
        fx: &mut Effects,
    ) -> DeliveryResult {
        let state = fx
            .index
            .get(load.id)
            .and_then(|entry| entry.recipients.get(index as usize));
        let attempts = state.map_or(0, |state| state.attempts).saturating_add(1);
        // An attempt has just failed: age alone, which a changed clock can cause, gives up nothing untried.
        if fx.now.wall.since(load.arrived) > fx.config.delivery.give_up_after {
            count_up(&mut fx.counters.failed, 1);
            fx.observed.failed(delivery.provider());
            log_result("expired", load, index, delivery, &why, Some(status), fx);
            let status = expired_status(status);
            return DeliveryResult::Failed {
                status,
                why: Arc::new(why.behind(GIVEN_UP)),
            };
        }
        count_up(&mut fx.counters.deferred, 1);
        let reason = DeferralReason::of(status, &why.words);
        fx.observed.deferred(delivery.provider(), reason);
        log_result("deferred", load, index, delivery, &why, Some(status), fx);
        // An attempt before its time (a flush) leaves the schedule as it was.
        let planned = self.planned_attempt(load, index, fx);
        let (attempts, until) = planned.unwrap_or_else(|| {
            let delay = retry::delay(attempts, &mut *fx.entropy);
            (attempts, fx.now.wall.after(delay))
        });
        DeliveryResult::Deferred {
            attempts,
            until,
            status: Some(status),
            why: Arc::new(why),
        }
    }

    /// A recipient is delivered.
    fn observe_delivery(&mut self, delivery: &DeliverySession, load: &Load, fx: &mut Effects) {
        let provider = delivery.provider();
        let version = delivery.tls().map(|tls| tls.version);
        let version = (provider != Provider::Here).then(|| Version::of(version));
        // A message of an earlier process has waited since then: its monotonic clock is gone, and the date counts in
        // seconds.
        let here = fx.now.instant.since(load.since);
        let whole = fx.now.wall.since(load.arrived);
        let took = here.max(whole.saturating_sub(Duration::from_secs(1)));
        fx.observed.delivered(provider, version, took);
    }

    /// How often a recipient had been tried, and when it would have been tried again, if that is still to come.
    fn planned_attempt(&self, load: &Load, index: u32, fx: &Effects) -> Option<(u16, Timestamp)> {
        let entry = fx.index.get(load.id)?;
        let state = entry.recipients.get(index as usize)?;
        let left = state.until.since(fx.now.wall);
        (!left.is_zero() && left <= retry::DELAY_MAX).then_some((state.attempts, state.until))
    }

    /// The outcome is on the disk (or waits for the disk): the delivery session may continue.
    pub(in crate::engine) fn go_on(&mut self, conn: ConnId, message: QueueId, fx: &mut Effects) {
        let Some(delivery) = self.sessions.take(conn) else {
            return;
        };
        match delivery.state {
            State::Recording { id, .. } if id == message => self.next_step(conn, delivery, fx),
            // It waits for nothing of the kind.
            _ => self.put_back(conn, delivery, fx),
        }
    }

    /// Gives up the waiting recipients of a message for a next hop.
    pub(in crate::engine) fn give_up(
        &mut self,
        id: QueueId,
        hop: HopId,
        why: &FailureCause,
        fx: &mut Effects,
    ) {
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        let status = EnhancedCode::new(5, 4, 7);
        let recipients = close_waiting(entry, hop, status, &why.behind(GIVEN_UP));
        self.settle_untried(id, recipients, "expired", fx);
    }

    /// Records failures that no host was asked about. The addresses are in the envelope, which is read for the DSN, and
    /// logged with it.
    pub(super) fn settle_untried(
        &mut self,
        id: QueueId,
        recipients: Vec<(u32, DeliveryResult)>,
        event: &'static str,
        fx: &mut Effects,
    ) {
        if recipients.is_empty() {
            return;
        }
        count_up(&mut fx.counters.failed, recipients.len() as u64);
        let record = self.result_record(id, recipients, fx);
        let unrecorded = Unrecorded {
            record,
            relayed: Vec::new(),
            host: None,
            session: None,
            unlogged: Some(event),
        };
        fx.note(Note::Notify(unrecorded));
    }

    /// The record of delivery results that are known now.
    fn result_record(
        &self,
        id: QueueId,
        recipients: Vec<(u32, DeliveryResult)>,
        fx: &Effects,
    ) -> OutcomeRecord {
        OutcomeRecord {
            id,
            at: fx.now.wall,
            done: self.closes(id, &recipients, fx),
            recipients,
            warned: false,
        }
    }

    /// Records outcomes, after the DSN if one is owed. Returns whether a delivery session must wait.
    pub(in crate::engine) fn settle_outcomes(
        &mut self,
        id: QueueId,
        recipients: Vec<(u32, DeliveryResult)>,
        relayed: &[u32],
        host: Option<String>,
        delivery: Option<ConnId>,
        fx: &mut Effects,
    ) -> bool {
        let record = self.result_record(id, recipients, fx);
        let failed = record
            .recipients
            .iter()
            .any(|(_, outcome)| matches!(outcome, DeliveryResult::Failed { .. }));
        if failed || !relayed.is_empty() {
            // A DSN takes time. A delivery session that has delivered something waits anyway: a kill must not repeat
            // more than its last message.
            let delivered = record
                .recipients
                .iter()
                .any(|(_, outcome)| *outcome == DeliveryResult::Delivered);
            let delivery = delivery.filter(|_| delivered && fx.index.get(id).is_some());
            let unrecorded = Unrecorded {
                record,
                relayed: relayed.to_vec(),
                host,
                session: delivery,
                unlogged: None,
            };
            fx.note(Note::Notify(unrecorded));
            return delivery.is_some();
        }
        let session = delivery;
        fx.note(Note::Record { record, session });
        true
    }
}

/// Logs the delivery result of a recipient.
fn log_result(
    event: &str,
    load: &Load,
    index: u32,
    delivery: &DeliverySession,
    why: &FailureCause,
    status: Option<EnhancedCode>,
    fx: &mut Effects,
) {
    let level = match event {
        "delivered" | "next-host" => Level::Info,
        _ => Level::Warning,
    };
    let mut line = Line::new(level, event).with("id", load.id);
    if let Some(named) = load.names.get(&index) {
        line = line.about(named);
    }
    line = line.with_some("status", status);
    // The reply of an earlier host belongs to that host, whichever was asked last.
    let last = delivery.place();
    let is_of_last = why.at.is_none() || why.at == last;
    line = match why.at.as_ref().or(last.as_ref()) {
        Some(FailurePlace::Host { name, address }) => {
            line.with("host", name).with_some("address", *address)
        }
        Some(FailurePlace::Socket(name) | FailurePlace::Program(name)) => line.with("host", name),
        None => line,
    };
    if is_of_last {
        line = line.with("tls", tls_text(delivery.tls()));
    }
    fx.log(line.with("reply", &why.words));
}

/// Closes the waiting recipients of a message for a next hop with one failure for all.
pub(super) fn close_waiting(
    entry: &mut crate::queue::Queued,
    hop: HopId,
    status: EnhancedCode,
    why: &FailureCause,
) -> Vec<(u32, DeliveryResult)> {
    let why = Arc::new(why.clone());
    let mut recipients = Vec::new();
    for (at, state) in entry.recipients.iter_mut().enumerate() {
        if state.hop == hop && state.phase == Phase::Waiting {
            state.phase = Phase::InFlight;
            let outcome = DeliveryResult::Failed {
                status: status.as_permanent(),
                why: Arc::clone(&why),
            };
            recipients.push((u32::try_from(at).unwrap_or(u32::MAX), outcome));
        }
    }
    recipients
}

/// Which of two replies counts: a temporary one outweighs a permanent one, so that mail fails only if every host says
/// so; otherwise the later.
fn weightier(earlier: Heard, later: Heard) -> Heard {
    match (&earlier.result, &later.result) {
        (
            RecipientResult::Deferred { .. } | RecipientResult::Unknown { .. },
            RecipientResult::Failed {
                about: RefusalScope::Host | RefusalScope::Fallback,
                ..
            },
        ) => earlier,
        _ => later,
    }
}

fn unknown_words(words: &QuotedWords) -> QuotedWords {
    QuotedWords::ours(format!(
        "{words} after the final dot: the message may have arrived already"
    ))
}

/// Text before the last reply if a recipient was given up because of its age.
pub(in crate::engine) const GIVEN_UP: &str = "given up after too long: ";

/// The status of a temporary failure that has lasted too long: 4.4.7 means "delivery time expired".
fn expired_status(status: EnhancedCode) -> EnhancedCode {
    let plain = status == EnhancedCode::new(4, 0, 0) || status == EnhancedCode::new(4, 4, 1);
    if plain {
        EnhancedCode::new(5, 4, 7)
    } else {
        status.as_permanent()
    }
}
