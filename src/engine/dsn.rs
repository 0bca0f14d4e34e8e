//! DSNs (RFC 3461, 3464): who is notified of what, and the order in which the records reach the disk.
//!
//! ```text
//!   notify --> read envelope --> read header --> build --> sign --> append DSN, append outcome
//! ```
//!
//! Invariant: the DSN stands in the journal before the outcome that closes its recipient. A crash between the two can
//! cost a second DSN, but never lose one. No DSN is sent to the null reverse-path.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::delivery::outcome::GIVEN_UP;
use super::effects::{Effects, JobOwner};
use super::event::{Action, ConnId, MessageReader, Work, WorkResult};
use super::log::{Level, Line, Named};
use super::note::{MessageOwner, NewRecord, Note, Unrecorded};
use super::signing::{keys_of, signing_inputs};
use super::spool::addresses;
use super::timers::Timer;
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::date::Timestamp;
use crate::destination::Assigned;
use crate::engine::counters::count_up;
use crate::envelope::{BodyKind, DsnReturn, Envelope, MessageOrigin, Notify, Recipient};
use crate::limits::{DSN_READ_BYTES, DSNS_AT_WORK_MAX};
use crate::mail::dsn;
use crate::mail::header::{Header, split};
use crate::policy::relay::{self, ExpandedRecipient};
use crate::policy::retry;
use crate::queue::{
    DeliveryResult, MessageBody, MessageRecord, OutcomeRecord, Part, Phase, ReadContent, ReadError,
    Warned,
};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

/// DSNs that are being made.
#[derive(Debug, Default)]
pub(super) struct Dsns {
    at_work: HashMap<u64, PendingDsn>,
    waiting: VecDeque<PendingDsn>,
    next: u64,
}

/// One DSN on its way to the disk.
#[derive(Debug)]
struct PendingDsn {
    /// The record that is written behind the DSN.
    record: OutcomeRecord,
    /// Recipients that were handed to a host without DSN, and whose sender asked for success DSNs.
    relayed: Vec<u32>,
    /// The host that answered.
    host: Option<String>,
    /// The delivery session that waits for the record.
    session: Option<ConnId>,
    /// The event with which the log will name the recipients, if it has not done so yet.
    unlogged: Option<&'static str>,
    envelope: Option<Box<Envelope>>,
    fields: Vec<u8>,
    made: Option<MessageRecord>,
}

impl Dsns {
    /// The number of DSNs that are being made, and of those that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.at_work.len(), self.waiting.len())
    }
}

impl Dsns {
    /// Sends the DSN that a record requires, then writes the record; the delivery session, if any, waits for the
    /// record.
    pub(super) fn notify(&mut self, unrecorded: Unrecorded, fx: &mut Effects) {
        let Unrecorded {
            record,
            relayed,
            host,
            session,
            unlogged,
        } = unrecorded;
        let pending = PendingDsn {
            record,
            relayed,
            host,
            session,
            unlogged,
            envelope: None,
            fields: Vec::new(),
            made: None,
        };
        self.waiting.push_back(pending);
        self.start_next(fx);
    }

    /// Sends the delay DSN for a message, once.
    pub(super) fn warn_of_delay(&mut self, id: QueueId, fx: &mut Effects) {
        let Some(entry) = fx.index.get_mut(id) else {
            return;
        };
        if entry.warned != Warned::No || entry.held {
            return;
        }
        entry.warned = entry.warned.max(Warned::Begun);
        let record = OutcomeRecord {
            id,
            at: fx.now.wall,
            recipients: Vec::new(),
            warned: true,
            done: false,
        };
        let unrecorded = Unrecorded {
            record,
            relayed: Vec::new(),
            host: None,
            session: None,
            unlogged: None,
        };
        self.notify(unrecorded, fx);
    }

    fn start_next(&mut self, fx: &mut Effects) {
        while self.at_work.len() < DSNS_AT_WORK_MAX {
            let Some(pending) = self.waiting.pop_front() else {
                return;
            };
            let id = pending.record.id;
            let Some(entry) = fx.index.get(id) else {
                self.drop_unowed(&pending, fx);
                continue;
            };
            let location = entry.location;
            let number = self.next;
            self.next = number.wrapping_add(1);
            self.at_work.insert(number, pending);
            let reader = MessageReader::Dsn(number);
            fx.actions.push_back(Action::Read {
                reader,
                id,
                location,
                part: Part::Head,
            });
        }
    }

    /// Takes out a DSN that is being made, unless its message was removed from the queue meanwhile.
    fn take_at_work(&mut self, number: u64, fx: &mut Effects) -> Option<PendingDsn> {
        let pending = self.at_work.remove(&number)?;
        if fx.index.get(pending.record.id).is_some() {
            return Some(pending);
        }
        self.drop_unowed(&pending, fx);
        self.start_next(fx);
        None
    }

    /// Drops the DSN of a message that an operator removed from the queue; a waiting delivery session continues.
    fn drop_unowed(&mut self, pending: &PendingDsn, fx: &mut Effects) {
        let line = Line::new(Level::Info, "dsn-dropped").with("id", pending.record.id);
        fx.log(line.with("why", "the message was taken out of the queue"));
        // The disk may have refused it before, and nothing of it will be written by which to see that it takes records.
        fx.disk_takes_records();
        if let Some(session) = pending.session {
            let id = pending.record.id;
            fx.note(Note::GoOn { session, id });
        }
    }

    /// A part of the original was read.
    pub(super) fn on_read(
        &mut self,
        number: u64,
        result: Result<ReadContent, ReadError>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(mut pending) = self.take_at_work(number, fx) else {
            return;
        };
        match result {
            Ok(ReadContent::Head { envelope, fields }) => {
                self.log_unlogged(&mut pending, Some(&envelope), fx);
                if envelope.reverse_path.is_null() {
                    return self.finish(pending, fx);
                }
                pending.envelope = Some(Box::new(envelope));
                pending.fields = fields;
                let id = pending.record.id;
                if let Some(entry) = fx.index.get(id) {
                    let part = Part::Body {
                        offset: 0,
                        len: DSN_READ_BYTES,
                    };
                    let (reader, location) = (MessageReader::Dsn(number), entry.location);
                    fx.actions.push_back(Action::Read {
                        reader,
                        id,
                        location,
                        part,
                    });
                    self.at_work.insert(number, pending);
                }
            }
            Ok(ReadContent::Body { bytes, crc32 }) => {
                // A body that was read whole can be compared; one that has changed is not returned.
                let whole = bytes.len() < DSN_READ_BYTES as usize;
                let damaged = whole && crc32fast::hash(&bytes) != crc32;
                let original = if damaged { &[][..] } else { &bytes };
                self.build(number, pending, original, delivery, fx);
            }
            Ok(ReadContent::Whole { .. }) => self.finish(pending, fx),
            Err(error) => {
                let line = Line::new(Level::Error, "unreadable")
                    .with("id", pending.record.id)
                    .with("why", error);
                fx.log(line);
                self.log_unlogged(&mut pending, None, fx);
                match pending.envelope {
                    // The envelope alone is enough for a DSN.
                    Some(_) => self.build(number, pending, &[], delivery, fx),
                    None if matches!(error, ReadError::Disk(_)) => self.postpone(pending, fx),
                    None => self.finish(pending, fx),
                }
            }
        }
    }

    /// Logs the failures of recipients whose addresses were unknown when they failed: the envelope names them, if it
    /// can be read.
    fn log_unlogged(
        &mut self,
        pending: &mut PendingDsn,
        envelope: Option<&Envelope>,
        fx: &mut Effects,
    ) {
        let Some(event) = pending.unlogged.take() else {
            return;
        };
        for (index, outcome) in &pending.record.recipients {
            let DeliveryResult::Failed { status, why } = outcome else {
                continue;
            };
            let mut line = Line::new(Level::Warning, event).with("id", pending.record.id);
            let recipient = envelope.and_then(|known| known.recipients.get(*index as usize));
            if let Some(recipient) = recipient {
                line = line.about(&Named::of(recipient));
            }
            let said = why.to_string();
            let said = said.strip_prefix(GIVEN_UP).unwrap_or(&said);
            fx.log(line.with("status", status).with("why", said));
        }
    }

    /// Writes the record without a DSN.
    fn finish(&mut self, pending: PendingDsn, fx: &mut Effects) {
        fx.note(Note::Record {
            record: pending.record,
            session: pending.session,
        });
        self.start_next(fx);
    }

    /// Postpones a DSN whose envelope cannot be read now. The failed delivery is tried again, and fails again when the
    /// disk can be read: no recipient is closed without a DSN.
    fn postpone(&mut self, mut pending: PendingDsn, fx: &mut Effects) {
        let id = pending.record.id;
        let mut wait = Duration::ZERO;
        for (index, outcome) in &mut pending.record.recipients {
            let DeliveryResult::Failed { status, why } = outcome else {
                continue;
            };
            let known = fx
                .index
                .get(id)
                .and_then(|entry| entry.recipients.get(*index as usize));
            let attempts = known.map_or(0, |state| state.attempts).saturating_add(1);
            wait = retry::delay(attempts, &mut *fx.entropy);
            *outcome = DeliveryResult::Deferred {
                attempts,
                until: fx.now.wall.after(wait),
                status: Some(*status),
                why: Arc::clone(why),
            };
            pending.record.done = false;
        }
        unmark(&mut pending, fx);
        // Only a delay has a record without recipients.
        if pending.record.recipients.is_empty() {
            let again = fx
                .now
                .instant
                .after(wait.max(retry::delay(1, &mut *fx.entropy)));
            fx.timers.set(again, Timer::Warn(id));
        }
        self.finish(pending, fx);
    }

    fn build(
        &mut self,
        number: u64,
        mut pending: PendingDsn,
        original: &[u8],
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(envelope) = pending.envelope.take() else {
            return self.finish(pending, fx);
        };
        let ReversePath::Mailbox(to) = &envelope.reverse_path else {
            return self.finish(pending, fx);
        };
        let rows = self.rows(&pending, &envelope, delivery, fx);
        if rows.is_empty() {
            // Nobody is told that it is late: the one DSN that its sender may get is still to come.
            if pending.record.recipients.is_empty() {
                unmark(&mut pending, fx);
            }
            return self.finish(pending, fx);
        }
        self.note_only_dsn(&mut pending, &envelope, &rows, fx);
        let recipients = match relay::notification(&fx.config, to) {
            Ok(targets) => targets,
            Err(refusal) => {
                let line = Line::new(Level::Warning, "dsn-dropped")
                    .with("id", pending.record.id)
                    .with("to", to);
                fx.log(line.with("why", format!("{refusal:?}")));
                return self.finish(pending, fx);
            }
        };
        let domain = self.postmaster_domain(to, fx);
        let id = fx.ids.next(fx.now.wall);
        let message = self.compose(&pending, &envelope, to, &domain, &rows, id, original, fx);
        let record = dsn_record(id, pending.record.id, recipients, message, fx.now.wall);
        count_up(&mut fx.counters.dsns, 1);
        let about = rows.iter().filter_map(|row| {
            let recipient = envelope.recipients.get(row.index as usize)?;
            Some(recipient.mailbox.as_str())
        });
        let action = rows.first().map_or("failed", |row| action_text(row.action));
        fx.log(
            Line::new(Level::Info, "dsn")
                .with("id", id)
                .with("about", pending.record.id)
                .with("to", to)
                .with("for", addresses(about))
                .with("action", action),
        );
        self.sign(number, pending, record, &domain, fx);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of it goes into one value of the mail module"
    )]
    fn compose(
        &mut self,
        pending: &PendingDsn,
        envelope: &Envelope,
        to: &Mailbox,
        domain: &Domain,
        rows: &[Row],
        id: QueueId,
        original: &[u8],
        fx: &mut Effects,
    ) -> dsn::DsnMessage {
        let config = Arc::clone(&fx.config);
        let reports: Vec<dsn::RecipientReport<'_>> = rows
            .iter()
            .filter_map(|row| {
                Some(dsn::RecipientReport {
                    recipient: envelope.recipients.get(row.index as usize)?,
                    action: row.action,
                    status: row.status,
                    diagnostic: match &row.why.words {
                        QuotedWords::Reply(text) => dsn::Diagnostic::Smtp(text.as_bytes()),
                        QuotedWords::Ours(text) => dsn::Diagnostic::Local(text),
                    },
                    remote: remote_mta(&row.why, &config.hostname),
                    last_attempt: Some(pending.record.at),
                    expired: row.expired,
                })
            })
            .collect();
        let (received, body) = split(original);
        let header = [pending.fields.as_slice(), received].concat();
        let whole = original.len() < DSN_READ_BYTES as usize;
        let full = envelope.dsn_return == Some(DsnReturn::Full) && whole;
        let late = rows.iter().any(|row| row.action == dsn::DsnAction::Delayed);
        dsn::DsnFacts {
            hostname: &fx.config.hostname,
            domain,
            to,
            id: pending.record.id,
            dsn_id: id,
            envelope_id: envelope.envelope_id.as_deref(),
            arrived: envelope.arrived,
            at: fx.now.wall,
            retry_until: late.then(|| envelope.arrived.after(fx.config.delivery.give_up_after)),
            reports: &reports,
            original: dsn::Original {
                header: &header,
                body: full.then_some(body),
            },
        }
        .build(&mut *fx.entropy)
    }

    /// The recipients of the DSN, with the action for each.
    /// Decides RFC 5321 section 6.1, RFC 3461 section 5.2.2.
    fn rows(
        &self,
        pending: &PendingDsn,
        envelope: &Envelope,
        delivery: &Delivery,
        fx: &Effects,
    ) -> Vec<Row> {
        let wish = |index: u32| {
            envelope
                .recipients
                .get(index as usize)
                .map(|recipient| recipient.notify)
        };
        let entry = fx.index.get(pending.record.id);
        // The mark of the record itself is that of a DSN that the disk refused.
        let told = entry.is_some_and(|entry| entry.warned != Warned::No) && !pending.record.warned;
        let mut rows = Vec::new();
        for (index, outcome) in &pending.record.recipients {
            if let DeliveryResult::Failed { status, why } = outcome
                && wish(*index).is_some_and(Notify::wants_failure)
                && !(told && wish(*index) == Some(Notify::Once))
            {
                let last = why.without(GIVEN_UP);
                rows.push(Row {
                    index: *index,
                    action: dsn::DsnAction::Failed,
                    status: *status,
                    expired: last.is_some(),
                    why: last.unwrap_or_else(|| why.as_ref().clone()),
                });
            }
        }
        for index in &pending.relayed {
            let status = EnhancedCode::new(2, 0, 0);
            let (action, text) = match pending.host {
                Some(_) => (dsn::DsnAction::Relayed, RELAYED),
                None => (dsn::DsnAction::Delivered, DELIVERED),
            };
            let at = pending.host.as_ref().map(|name| FailurePlace::Host {
                name: name.as_str().into(),
                address: None,
            });
            rows.push(Row {
                index: *index,
                action,
                status,
                why: FailureCause {
                    at,
                    words: QuotedWords::ours(text),
                },
                expired: false,
            });
        }
        if pending.record.warned {
            rows.extend(self.late_rows(pending.record.id, &wish, delivery, fx));
        }
        rows
    }

    /// Marks a message whose sender gets only this one DSN, so that no other follows. The mark is that of a delay DSN,
    /// which such a sender does not get.
    fn note_only_dsn(
        &mut self,
        pending: &mut PendingDsn,
        envelope: &Envelope,
        rows: &[Row],
        fx: &mut Effects,
    ) {
        let recipients = rows.iter().filter_map(|row| {
            let index = usize::try_from(row.index).ok()?;
            envelope.recipients.get(index)
        });
        let mut once = recipients.filter(|recipient| recipient.notify == Notify::Once);
        if once.next().is_some()
            && let Some(entry) = fx.index.get_mut(pending.record.id)
        {
            entry.warned = entry.warned.max(Warned::Begun);
            pending.record.warned = true;
        }
    }

    fn late_rows(
        &self,
        id: QueueId,
        wish: &dyn Fn(u32) -> Option<Notify>,
        delivery: &Delivery,
        fx: &Effects,
    ) -> Vec<Row> {
        let Some(entry) = fx.index.get(id) else {
            return Vec::new();
        };
        let open = entry
            .recipients
            .iter()
            .enumerate()
            .filter(|(_, state)| state.phase != Phase::Closed);
        open.filter_map(|(at, state)| {
            let index = u32::try_from(at).ok()?;
            if !wish(index).is_some_and(Notify::wants_delay) {
                return None;
            }
            let trouble = delivery.hop(state.hop).and_then(|hop| hop.trouble.clone());
            let why = (state.why.clone().or(trouble)).map_or_else(
                || FailureCause::here("it has not been tried yet"),
                |why| why.as_ref().clone(),
            );
            let status = state.status.unwrap_or(EnhancedCode::new(4, 4, 1));
            Some(Row {
                index,
                action: dsn::DsnAction::Delayed,
                status,
                why,
                expired: false,
            })
        })
        .collect()
    }

    /// The served domain that the DSN comes from: the one that is related to the sender.
    fn postmaster_domain(&self, to: &Mailbox, fx: &Effects) -> Domain {
        if fx.config.domains.contains_key(to.domain()) {
            return to.domain().clone();
        }
        fx.config
            .domains
            .keys()
            .next()
            .unwrap_or(&fx.config.hostname)
            .clone()
    }

    fn sign(
        &mut self,
        number: u64,
        mut pending: PendingDsn,
        record: MessageRecord,
        domain: &Domain,
        fx: &mut Effects,
    ) {
        let MessageBody::Inline(bytes) = &record.body else {
            return;
        };
        let (header, body) = split(bytes);
        let header = Header::parse(header.to_vec()).unwrap_or_default();
        let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
        hasher.update(body);
        let hash = hasher.finish().hash;
        let inputs = signing_inputs(&keys_of(&fx.config, domain), &header, &[], &hash, fx.now);
        pending.made = Some(record);
        if inputs.is_empty() {
            return self.on_made(pending, fx);
        }
        self.at_work.insert(number, pending);
        fx.work(JobOwner::SignDsn { dsn: number }, Work::Sign(inputs, None));
    }

    /// A worker has signed a DSN. If signing failed, the DSN is sent unsigned, because it is owed.
    pub(super) fn on_signed(&mut self, number: u64, result: WorkResult, fx: &mut Effects) {
        let Some(mut pending) = self.take_at_work(number, fx) else {
            return;
        };
        if let (WorkResult::Signed(Ok(fields)), Some(made)) = (result, pending.made.as_mut()) {
            made.fields = fields;
        }
        self.on_made(pending, fx);
    }

    /// Sends a DSN to the disk; the outcome follows once it is there.
    fn on_made(&mut self, pending: PendingDsn, fx: &mut Effects) {
        let PendingDsn {
            record: outcome,
            relayed,
            host,
            session,
            made,
            ..
        } = pending;
        if let Some(record) = made {
            let size = match &record.body {
                MessageBody::Inline(bytes) => bytes.len() as u64,
                MessageBody::File { len, .. } => *len,
            };
            let behind = Unrecorded {
                record: outcome,
                relayed,
                host,
                session,
                unlogged: None,
            };
            fx.note(Note::Append(Box::new(NewRecord {
                record,
                size,
                owner: MessageOwner::Dsn(Box::new(behind)),
            })));
        }
        self.start_next(fx);
    }
}

/// The sender was not told after all.
fn unmark(pending: &mut PendingDsn, fx: &mut Effects) {
    if std::mem::take(&mut pending.record.warned)
        && let Some(entry) = fx.index.get_mut(pending.record.id)
        && entry.warned == Warned::Begun
    {
        entry.warned = Warned::No;
    }
}

/// The record of a DSN about a message.
fn dsn_record(
    id: QueueId,
    about: QueueId,
    expanded: Vec<ExpandedRecipient>,
    message: dsn::DsnMessage,
    arrived: Timestamp,
) -> MessageRecord {
    let recipient = |target: ExpandedRecipient| Recipient {
        destination: target.destination.map(Assigned::Known),
        ..Recipient::new(target.mailbox, Notify::Never, None)
    };
    MessageRecord {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: expanded.into_iter().map(recipient).collect(),
            envelope_id: None,
            dsn_return: None,
            body: match message.eight_bit {
                true => BodyKind::EightBitMime,
                false => BodyKind::SevenBit,
            },
            smtputf8: message.smtputf8,
            arrived,
            origin: MessageOrigin::Dsn(about),
        },
        fields: Vec::new(),
        body: MessageBody::Inline(message.bytes),
    }
}

/// The text about one recipient.
#[derive(Debug)]
struct Row {
    index: u32,
    action: dsn::DsnAction,
    status: EnhancedCode,
    why: FailureCause,
    /// Whether it was tried for long enough.
    expired: bool,
}

/// The host that reported: behind a socket of this machine that is this one.
/// Decides RFC 3464 section 2.3.5.
fn remote_mta<'a>(why: &'a FailureCause, hostname: &'a Domain) -> Option<&'a str> {
    match &why.at {
        Some(FailurePlace::Host { name, .. }) => Some(name),
        Some(FailurePlace::Socket(_)) if why.words.is_reply() => Some(hostname.as_str()),
        Some(FailurePlace::Socket(_) | FailurePlace::Program(_)) | None => None,
    }
}

/// Text for a recipient whose message was handed to a host without DSN.
const RELAYED: &str = "handed to a host that sends no notifications of success";
/// Text for delivery to a program or a mailbox of this machine.
const DELIVERED: &str = "delivered on this machine";

const fn action_text(action: dsn::DsnAction) -> &'static str {
    match action {
        dsn::DsnAction::Failed => "failed",
        dsn::DsnAction::Delayed => "delayed",
        dsn::DsnAction::Delivered => "delivered",
        dsn::DsnAction::Relayed => "relayed",
    }
}
