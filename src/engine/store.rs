//! What the disk has said: messages that are now queued, outcomes that now count, damage.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::event::ConnId;
use super::log::{Level, Line, original_address};
use super::timers::Timer;
use crate::cause::Cause;
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::date::Timestamp;
use crate::envelope::{Envelope, Recipient};
use crate::policy::rates::Claim;
use crate::policy::retry;
use crate::policy::route;
use crate::policy::shares::{Holder, Resource};
use crate::queue::{
    Command, Completion, HopId, JournalError, Location, MessageRecord, Outcome, OutcomeRecord,
    Phase, Queued, RecipientState, Record, Recovered, Ticket,
};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::status::EnhancedCode;
use crate::workload::{Unit, count};

/// What a ticket was for.
#[derive(Debug)]
pub(super) enum Committing {
    /// A message.
    Message(Box<NewMessage>),
    /// Outcomes of an attempt, and the courier that waits for them.
    Outcome {
        record: OutcomeRecord,
        courier: Option<ConnId>,
    },
    /// A mark of hold or release, and the tool that waits for it.
    Mark {
        id: QueueId,
        held: bool,
        tool: ConnId,
    },
    /// A message is done, or was taken out of the queue by a tool.
    Done {
        id: QueueId,
        removal: Option<Removal>,
    },
    /// A message was copied to a newer segment.
    Moved { id: QueueId },
}

/// Who takes a message out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// The tool, which waits for it.
    pub(super) tool: ConnId,
    /// Its user.
    pub(super) uid: u32,
}

/// What is kept of a message until it is committed.
#[derive(Debug)]
pub(super) struct NewMessage {
    id: QueueId,
    size: u64,
    envelope: Envelope,
    owner: Owner,
}

/// Who waits for a message to be on the disk.
#[derive(Debug)]
pub(super) enum Owner {
    /// The client that brought it, and who is charged for it.
    Client(ConnId, Charge),
    /// It tells `admin` of damage with these names.
    Damage(Vec<Box<str>>),
    /// It is a notification: what it tells of is recorded behind it.
    Notice(Box<Unrecorded>),
}

/// Memory that a message takes until it is on the disk, and on whose account; and whom it is counted for.
#[derive(Debug)]
pub(super) struct Charge {
    holder: Holder,
    bytes: u64,
    claim: Option<Claim>,
}

/// Whether outcomes reach the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Recording {
    /// They do.
    #[default]
    Works,
    /// The last one did not: nothing more is sent until one does.
    Stuck,
}

/// Outcomes that are still to be written, and whom they are to be told first.
#[derive(Debug)]
pub(super) struct Unrecorded {
    /// The outcomes.
    pub(super) record: OutcomeRecord,
    /// Recipients whose delivery to a host without DSN is to be told.
    pub(super) relayed: Vec<u32>,
    /// The host that answered.
    pub(super) host: Option<String>,
    /// The courier that waits for it.
    pub(super) courier: Option<ConnId>,
    /// The event by which the log is to name the recipients, where it has not: nobody knew who they were.
    pub(super) unlogged: Option<&'static str>,
}

/// What the disk refused and is tried again.
#[derive(Debug)]
pub(super) enum PutOff {
    /// A notification, and the outcomes behind it.
    Untold(Unrecorded),
    /// Outcomes that need no notification, or whose notification is on the disk: a second one would tell the same.
    Told(OutcomeRecord),
}

impl PutOff {
    /// The message that it is about.
    fn id(&self) -> QueueId {
        match self {
            Self::Untold(unrecorded) => unrecorded.record.id,
            Self::Told(record) => record.id,
        }
    }
}

impl Committing {
    /// A message that was accepted from `conn`, or made here.
    pub(super) fn message(record: &MessageRecord, size: u64, owner: Owner) -> Self {
        let envelope = &record.envelope;
        Self::Message(Box::new(NewMessage {
            id: record.id,
            size,
            envelope: envelope.clone(),
            owner,
        }))
    }
}

impl Engine {
    /// The journal writer has something to say.
    pub(super) fn on_stored(&mut self, completion: Completion, now: Now) {
        match completion {
            Completion::Committed { ticket, location } => {
                // Whatever it was: a disk that takes one record takes the outcomes that it had refused.
                self.recording_works();
                self.committed(ticket, location, now);
            }
            Completion::Failed { ticket, error } => {
                self.log(Line::new(Level::Error, "store-failed").with("why", error));
                match self.tickets.remove(&ticket) {
                    Some(Committing::Message(message)) => match message.owner {
                        Owner::Client(conn, charge) => {
                            self.discharge(&charge);
                            if let Some(claim) = &charge.claim {
                                self.logins.users.give_back(claim);
                            }
                            self.inbound_committed(conn, Err(refusal(error)), now)
                        }
                        // It is told at the next start.
                        Owner::Damage(_) => {}
                        Owner::Notice(mut unrecorded) => {
                            let courier = unrecorded.courier.take();
                            self.put_off(PutOff::Untold(*unrecorded), courier, now);
                        }
                    },
                    Some(Committing::Outcome { record, courier }) => {
                        self.put_off(PutOff::Told(record), courier, now);
                    }
                    Some(
                        Committing::Mark { tool, .. }
                        | Committing::Done {
                            removal: Some(Removal { tool, .. }),
                            ..
                        },
                    ) => self.control_committed(tool, Err(error), now),
                    Some(Committing::Done { removal: None, .. } | Committing::Moved { .. })
                    | None => {}
                }
            }
            Completion::BodyWritten { id, bytes } => self.body_written(id, Ok(bytes), now),
            Completion::BodyFailed { id, error } => {
                self.log(
                    Line::new(Level::Error, "store-failed")
                        .with("id", id)
                        .with("why", error),
                );
                self.body_written(id, Err(refusal(error)), now);
            }
            Completion::Crowded { messages } => {
                for id in messages {
                    if let Some(progress) = self.progress(id, now.wall) {
                        let ticket = self.ticket(Committing::Moved { id });
                        self.store(Command::CopyForward {
                            ticket,
                            id,
                            progress,
                        });
                    }
                }
            }
            // Every copy out of it was committed before this was said: nothing points there.
            Completion::Retirable { segment } => self.store(Command::Retire { segment }),
            Completion::Space { free } => {
                self.free_space = Some(free);
                let unfinished = self.shares.of(Resource::Spool).used();
                let written = unfinished.saturating_sub(self.blocks.bytes());
                self.free_without_unfinished = Some(free.saturating_add(written));
                self.size_pools();
            }
        }
    }

    /// A record is on the disk.
    fn committed(&mut self, ticket: Ticket, location: Option<Location>, now: Now) {
        match self.tickets.remove(&ticket) {
            Some(Committing::Message(message)) => self.message_committed(*message, location, now),
            Some(Committing::Outcome { record, courier }) => {
                self.outcome_committed(record, courier, now)
            }
            Some(Committing::Mark { id, held, tool }) => {
                self.message_marked(id, held, now);
                self.control_committed(tool, Ok(()), now);
            }
            Some(Committing::Done { id, removal: None }) => self.forget_message(id),
            Some(Committing::Done {
                id,
                removal: Some(removal),
            }) => {
                self.forget_removed(id, removal.uid);
                self.control_committed(removal.tool, Ok(()), now);
            }
            Some(Committing::Moved { id }) => {
                if let (Some(entry), Some(location)) = (self.index.get_mut(id), location) {
                    entry.location = location;
                }
            }
            None => {}
        }
    }

    /// A message is charged for until it is on the disk.
    pub(super) fn charge(
        &mut self,
        holder: Holder,
        record: &MessageRecord,
        claim: Option<Claim>,
    ) -> Charge {
        let bytes = record.held() as u64;
        // Until the disk says again how much is free.
        self.free_space = self.free_space.map(|free| free.saturating_sub(bytes));
        (self.shares.of_mut(Resource::Memory)).resize(holder, 0, bytes);
        Charge {
            holder,
            bytes,
            claim,
        }
    }

    fn discharge(&mut self, charge: &Charge) {
        let pool = self.shares.of_mut(Resource::Memory);
        pool.give(charge.holder, charge.bytes);
    }

    fn message_committed(&mut self, message: NewMessage, location: Option<Location>, now: Now) {
        let NewMessage {
            id,
            size,
            envelope,
            owner,
        } = message;
        if let Owner::Client(_, charge) = &owner {
            self.discharge(charge);
        }
        let Some(location) = location else { return };
        if location.body_is_file() {
            // It is no unfinished message any more, and stays on the disk.
            let free = &mut self.free_without_unfinished;
            *free = free.map(|free| free.saturating_sub(size));
            self.size_pools();
        }
        self.counters.accepted += 1;
        self.log(
            Line::new(Level::Info, "queued")
                .with("id", id)
                .with("from", format_args!("<{}>", envelope.reverse_path))
                .with(
                    "to",
                    addresses(envelope.recipients.iter().map(|one| one.mailbox.as_str())),
                )
                .with_some("orig_to", originals(&envelope))
                .with("rcpts", envelope.recipients.len())
                .with("size", size)
                .with("origin", &envelope.origin),
        );
        let forwards = envelope.recipients.iter();
        let forwards = forwards.filter(|recipient| recipient.reverse_path.is_some());
        self.counters.forwarded += forwards.count() as u64;
        let states: Vec<RecipientState> = envelope
            .recipients
            .iter()
            .map(|recipient| RecipientState::new(self.hop_for(&envelope, recipient)))
            .collect();
        let entry = Queued {
            location,
            size,
            arrived: envelope.arrived,
            since: now.instant,
            held: false,
            warned: envelope.reverse_path.is_null(),
            by_client: is_by_client(&self.config, &envelope.origin),
            submitter: submitter(&envelope.origin),
            recipients: states.into(),
        };
        let hops = entry.waiting_hops();
        let warned = entry.warned;
        self.index.insert(id, entry);
        for hop in hops {
            self.hops.add_message(hop);
            self.make_ready(id, hop);
            self.probe_hop(hop, now);
        }
        self.log_waiting(id, &envelope, now);
        if !warned && wants_delay(&envelope) {
            self.timers.set(
                now.instant.after(self.config.delivery.warn_after),
                Timer::Warn(id),
            );
        }
        match owner {
            Owner::Client(conn, _) => self.inbound_committed(conn, Ok(id), now),
            Owner::Damage(names) if names.is_empty() => {}
            Owner::Damage(names) => self.store(Command::Told { names }),
            Owner::Notice(behind) => self.record_outcome(behind.record, behind.courier),
        }
    }

    /// The next hop of a recipient, in the table.
    fn hop_for(&mut self, envelope: &Envelope, recipient: &Recipient) -> HopId {
        count(Unit::Name, 1);
        let hop = route::hop_of(&self.config, envelope, recipient);
        self.hops.intern(hop)
    }

    /// Recovery found a message.
    pub(super) fn queue_recovered(&mut self, recovered: Recovered, now: Now) {
        let Recovered {
            id,
            location,
            envelope,
            body_len,
            fates,
            held,
            warned,
            ..
        } = recovered;
        let mut due = Vec::new();
        let mut states = Vec::with_capacity(envelope.recipients.len());
        for (at, recipient) in envelope.recipients.iter().enumerate() {
            let hop = self.hop_for(&envelope, recipient);
            let fate = fates.get(at).and_then(Option::as_ref);
            let mut state = RecipientState::new(hop);
            match fate {
                None => due.push((hop, now.instant)),
                Some(Outcome::Deferred {
                    attempts,
                    until,
                    status,
                    why,
                }) => {
                    state.attempts = *attempts;
                    state.status = *status;
                    state.why = Some(Arc::clone(why));
                    state.until = *until;
                    state.due = false;
                    due.push((hop, due_at(*until, now)));
                }
                Some(Outcome::Delivered | Outcome::Failed { .. }) => state.phase = Phase::Closed,
            }
            states.push(state);
        }
        let null = envelope.reverse_path.is_null();
        let entry = Queued {
            location,
            size: body_len,
            arrived: envelope.arrived,
            since: now.instant,
            held,
            warned: warned || null,
            by_client: is_by_client(&self.config, &envelope.origin),
            submitter: submitter(&envelope.origin),
            recipients: states.into(),
        };
        if !entry.warned && wants_delay(&envelope) {
            let left = self
                .config
                .delivery
                .warn_after
                .saturating_sub(now.wall.since(entry.arrived));
            self.timers.set(now.instant.after(left), Timer::Warn(id));
        }
        let done = entry.is_done();
        self.index.insert(id, entry);
        if done {
            return self.finish_message(id);
        }
        due.sort_unstable();
        due.dedup_by_key(|(hop, _)| *hop);
        for (hop, at) in due {
            self.hops.add_message(hop);
            if at <= now.instant {
                self.message_due(id, hop, now);
            } else {
                self.timers.set(at, Timer::Due(id, hop));
            }
        }
    }

    /// A message is due for a hop.
    pub(super) fn message_due(&mut self, id: QueueId, hop: HopId, _now: Now) {
        if let Some(entry) = self.index.get_mut(id) {
            entry.make_due(hop);
        }
        self.make_ready(id, hop);
    }

    /// Puts a message in the line of a hop, unless it is held or has nobody there who is due.
    pub(super) fn make_ready(&mut self, id: QueueId, hop: HopId) {
        let ready = self
            .index
            .get(id)
            .is_some_and(|entry| !entry.held && entry.due_for(hop).next().is_some());
        if !ready {
            return;
        }
        // Every recipient that may be tried passes here: none is left at a hop that nothing is sent to any more.
        if self.hops.is_stale(hop) {
            return self.reroute_message(id);
        }
        let by_client = self.index.get(id).is_some_and(|entry| entry.by_client);
        self.hops.push_ready(hop, id, by_client);
    }

    /// The envelope that a new route needs cannot be read: for those that wait this was an attempt.
    pub(super) fn defer_unrouted(&mut self, id: QueueId, now: Now) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        let expired = now.wall.since(entry.arrived) > self.config.delivery.give_up_after;
        let why = Arc::new(Cause::here("the message cannot be read"));
        let mut recipients = Vec::new();
        for (at, state) in (0..).zip(entry.recipients.iter_mut()) {
            if state.phase != Phase::Waiting || !self.hops.is_stale(state.hop) {
                continue;
            }
            state.phase = Phase::InFlight;
            let attempts = state.attempts.saturating_add(1);
            let outcome = match expired {
                true => Outcome::Failed {
                    status: EnhancedCode::new(5, 3, 0),
                    why: Arc::clone(&why),
                },
                false => Outcome::Deferred {
                    attempts,
                    until: now.wall.after(retry::delay(attempts, &mut *self.entropy)),
                    status: Some(EnhancedCode::new(4, 3, 0)),
                    why: Arc::clone(&why),
                },
            };
            recipients.push((at, outcome));
        }
        if !recipients.is_empty() {
            self.settle_outcomes(id, recipients, &[], None, None, now);
        }
    }

    /// Writes the outcomes of an attempt; the courier, if any, waits for them.
    pub(super) fn record_outcome(&mut self, record: OutcomeRecord, courier: Option<ConnId>) {
        let kept = record.clone();
        let ticket = self.ticket(Committing::Outcome {
            record: kept,
            courier,
        });
        self.store(Command::Append {
            ticket,
            record: Record::Outcome(record),
        });
    }

    /// A record could be written: sending goes on, if it was stopped.
    pub(super) fn recording_works(&mut self) {
        if std::mem::replace(&mut self.recording, Recording::Works) == Recording::Stuck {
            self.hops.touch_waiting();
        }
    }

    fn outcome_committed(&mut self, record: OutcomeRecord, courier: Option<ConnId>, now: Now) {
        self.apply_outcome(record, now);
        if let Some(conn) = courier {
            self.courier_recorded(conn, now);
        }
    }

    fn apply_outcome(&mut self, record: OutcomeRecord, now: Now) {
        let OutcomeRecord {
            id,
            recipients,
            warned,
            done,
            ..
        } = record;
        let mut left: Vec<HopId> = Vec::new();
        let mut due: Vec<(HopId, Instant)> = Vec::new();
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        entry.warned |= warned;
        for (at, outcome) in recipients {
            let Some(state) = entry.recipients.get_mut(at as usize) else {
                continue;
            };
            match outcome {
                Outcome::Delivered | Outcome::Failed { .. } => {
                    state.phase = Phase::Closed;
                    left.push(state.hop);
                }
                Outcome::Deferred {
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
                    due.push((state.hop, due_at(until, now)));
                }
            }
        }
        let finished = entry.is_done();
        left.sort_unstable();
        left.dedup();
        left.retain(|hop| {
            !entry
                .recipients
                .iter()
                .any(|state| state.hop == *hop && state.phase != Phase::Closed)
        });
        for hop in left {
            self.hops.remove_message(hop, id);
        }
        due.sort_unstable();
        due.dedup_by_key(|(hop, _)| *hop);
        for (hop, at) in due {
            self.timers.set(at, Timer::Due(id, hop));
        }
        if done {
            self.forget_message(id);
        } else if finished {
            self.finish_message(id);
        }
    }

    /// Marks a message done on the disk; recovery would find that out by itself, so nobody waits for it.
    fn finish_message(&mut self, id: QueueId) {
        self.forget_message(id);
        let ticket = self.ticket(Committing::Done { id, removal: None });
        self.store(Command::Append {
            ticket,
            record: Record::Done(id),
        });
    }

    /// Forgets a message for which nothing is owed any more.
    pub(super) fn forget_message(&mut self, id: QueueId) {
        if self.forget(id) {
            self.log(Line::new(Level::Info, "done").with("id", id));
        }
    }

    /// Forgets a message that an operator has taken out of the queue, whatever was still owed.
    fn forget_removed(&mut self, id: QueueId, uid: u32) {
        if self.forget(id) {
            let line = Line::new(Level::Info, "removed").with("id", id);
            self.log(line.with("by", format_args!("uid={uid}")));
        }
    }

    fn forget(&mut self, id: QueueId) -> bool {
        let Some(entry) = self.index.remove(id) else {
            return false;
        };
        for hop in entry.open_hops() {
            self.hops.remove_message(hop, id);
        }
        // What the disk refused of a message that is gone says nothing to anybody any more.
        self.put_off.retain(|what| what.id() != id);
        true
    }

    fn message_marked(&mut self, id: QueueId, held: bool, now: Now) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        entry.held = held;
        if !held {
            let (hops, warned) = (entry.waiting_hops(), entry.warned);
            let age = now.wall.since(entry.arrived);
            for hop in hops {
                self.message_due(id, hop, now);
            }
            // The warning that came due while it was held is due now.
            if !warned && age >= self.config.delivery.warn_after {
                self.timers.set(now.instant, Timer::Warn(id));
            }
        }
    }

    /// Whether an outcome closes the last open recipients of its message.
    pub(super) fn closes(&self, id: QueueId, recipients: &[(u32, Outcome)]) -> bool {
        let Some(entry) = self.index.get(id) else {
            return false;
        };
        entry.recipients.iter().enumerate().all(|(at, state)| {
            state.phase == Phase::Closed
                || recipients.iter().any(|(index, outcome)| {
                    *index as usize == at && !matches!(outcome, Outcome::Deferred { .. })
                })
        })
    }

    /// How far a message is, for a copy of it. Outcomes that are on their way to the disk are in it, for they come to
    /// lie before the copy and go with the segment that they are in.
    fn progress(&self, id: QueueId, at: Timestamp) -> Option<OutcomeRecord> {
        let entry = self.index.get(id)?;
        let mut recipients = Vec::new();
        for (index, state) in entry.recipients.iter().enumerate() {
            let outcome = match state.phase {
                Phase::Closed => Outcome::Delivered,
                Phase::Waiting | Phase::InFlight if state.attempts == 0 => continue,
                Phase::Waiting | Phase::InFlight => Outcome::Deferred {
                    attempts: state.attempts,
                    until: state.until,
                    status: state.status,
                    why: (state.why.clone()).unwrap_or_else(|| Arc::new(Cause::here(""))),
                },
            };
            recipients.push((u32::try_from(index).unwrap_or(u32::MAX), outcome));
        }
        for committing in self.tickets.values() {
            if let Committing::Outcome { record, .. } = committing
                && record.id == id
            {
                recipients
                    .retain(|(index, _)| !record.recipients.iter().any(|(at, _)| at == index));
                recipients.extend(record.recipients.iter().cloned());
            }
        }
        recipients.sort_unstable_by_key(|(index, _)| *index);
        Some(OutcomeRecord {
            id,
            at,
            recipients,
            warned: entry.warned,
            done: false,
        })
    }

    /// Keeps what the disk refused for another try. The courier that waits goes home: nothing more is sent.
    fn put_off(&mut self, what: PutOff, courier: Option<ConnId>, now: Now) {
        self.recording = Recording::Stuck;
        self.put_off.push(what);
        self.timers
            .set(now.instant.after(RECORD_AGAIN), Timer::Record);
        if let Some(conn) = courier {
            self.courier_recorded(conn, now);
        }
    }

    /// Tries again to write what the disk refused.
    pub(super) fn record_again(&mut self, now: Now) {
        for what in std::mem::take(&mut self.put_off) {
            match what {
                PutOff::Untold(unrecorded) => self.notify(unrecorded, now),
                PutOff::Told(record) => self.record_outcome(record, None),
            }
        }
    }

    /// Whether outcomes reach the disk.
    pub(super) fn records_reach_disk(&self) -> bool {
        self.recording == Recording::Works
    }

    /// Whether sending would outrun the disk: outcomes could not be recorded.
    pub(super) fn is_recording_stuck(&self) -> bool {
        self.recording == Recording::Stuck
    }

    /// Marks a message held or released, for a tool that is told once it is on the disk.
    pub(super) fn mark(&mut self, id: QueueId, held: bool, tool: ConnId) {
        let record = if held {
            Record::Hold(id)
        } else {
            Record::Release(id)
        };
        let ticket = self.ticket(Committing::Mark { id, held, tool });
        self.store(Command::Append { ticket, record });
    }

    /// Takes a message out of the queue without a word to its sender, for a tool that is told once it is on the disk.
    pub(super) fn remove_message(&mut self, id: QueueId, removal: Removal) {
        let removal = Some(removal);
        let ticket = self.ticket(Committing::Done { id, removal });
        self.store(Command::Append {
            ticket,
            record: Record::Done(id),
        });
    }
}

/// Whether anybody is to be told that the message is late.
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

/// Whether what has this origin was caused by somebody who had no authority of their own: an address that may not relay,
/// or a DSN of ours, which anybody's mail may have caused.
fn is_by_client(config: &Config, origin: &str) -> bool {
    match origin.parse::<IpAddr>() {
        Ok(address) => !config.relay.contains(address),
        Err(_) => origin.starts_with("notice="),
    }
}

/// The user of this machine whose process submitted what has this origin. Nobody else can choose it: a login has a domain,
/// and the kernel names the user of a process.
fn submitter(origin: &str) -> Option<u32> {
    origin.strip_prefix("uid=")?.parse().ok()
}

/// Addresses in one value of a log line: all of them where they are few.
pub(super) fn addresses<'a>(mailboxes: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (at, mailbox) in mailboxes.enumerate() {
        if at >= LOGGED_ADDRESSES_MAX {
            text.push_str(",...");
            break;
        }
        if at > 0 {
            text.push(',');
        }
        text.push_str(mailbox);
    }
    text
}

/// The addresses that the client named, where aliases led to others.
fn originals(envelope: &Envelope) -> Option<String> {
    let mut named: Vec<&str> = Vec::new();
    for address in envelope.recipients.iter().filter_map(original_address) {
        // An alias makes many recipients of one, which stand together.
        if named.last() != Some(&address) {
            named.push(address);
        }
    }
    (!named.is_empty()).then(|| addresses(named.into_iter()))
}

fn refusal(error: JournalError) -> Reply {
    match error {
        JournalError::NoSpace => Reply::NO_SPACE,
        _ => Reply::STORE_FAILED,
    }
}

/// Addresses that one log line names.
const LOGGED_ADDRESSES_MAX: usize = 10;

/// How long after a failure outcomes are written again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
