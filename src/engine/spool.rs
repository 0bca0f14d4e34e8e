//! The spool: commands that were handed to the journal writer, and the effect of each answer.
//!
//! ```text
//!   Append, Record, Mark, Remove --ticket--> journal writer --Committed, Failed--> who waits for it
//! ```
//!
//! Invariants: a record is reported as durable only after the journal writer has said so. A delivery result that the
//! disk refused is kept and written again, and nothing is sent meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::effects::Effects;
use super::event::ConnId;
use super::log::{Level, Line, original_address};
use super::note::{CountedUses, MessageOwner, NewMessage, NewRecord, Note, Removal, Unrecorded};
use super::timers::Timer;
use crate::cause::FailureCause;
use crate::date::Timestamp;
use crate::engine::counters::count_up;
use crate::envelope::Envelope;
use crate::queue::{
    DeliveryResult, JournalCommand, JournalCompletion, JournalError, Location, OutcomeRecord,
    Phase, Record, Ticket, Warned,
};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;

/// Records on their way to the disk, and records that the disk refused.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// In the order in which they were given out, as the outcomes among them are.
    tickets: BTreeMap<Ticket, Committing>,
    next_ticket: u64,
    /// Outcomes that the disk refused.
    refused: Vec<Refused>,
}

/// The purpose of a ticket.
#[derive(Debug)]
enum Committing {
    Message(Box<Appended>),
    /// Outcomes of an attempt, and the delivery session that waits for them.
    Outcome {
        record: OutcomeRecord,
        session: Option<ConnId>,
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
    Moved {
        id: QueueId,
    },
}

/// The data of a message until it is committed.
#[derive(Debug)]
struct Appended {
    id: QueueId,
    size: u64,
    envelope: Envelope,
    owner: MessageOwner,
}

/// A refused record, to be written again.
#[derive(Debug)]
enum Refused {
    /// A DSN, and the outcomes behind it.
    Untold(Unrecorded),
    /// Outcomes that need no DSN, or whose DSN is on the disk and must not be sent twice.
    Told(OutcomeRecord),
}

impl Refused {
    /// The message that it is about.
    fn id(&self) -> QueueId {
        match self {
            Self::Untold(unrecorded) => unrecorded.record.id,
            Self::Told(record) => record.id,
        }
    }
}

impl Spool {
    /// Records on their way to the disk, and outcomes that it has refused.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.tickets.len(), self.refused.len())
    }

    /// Has a message made durable.
    pub(super) fn append(&mut self, new: NewRecord, fx: &mut Effects) {
        let NewRecord {
            record,
            size,
            owner,
        } = new;
        let appended = Appended {
            id: record.id,
            size,
            envelope: record.envelope.clone(),
            owner,
        };
        let committing = Committing::Message(Box::new(appended));
        self.write(committing, Record::Message(record), fx);
    }

    /// Writes the outcomes of an attempt; the delivery session, if any, waits for them.
    pub(super) fn record(
        &mut self,
        record: OutcomeRecord,
        session: Option<ConnId>,
        fx: &mut Effects,
    ) {
        let kept = record.clone();
        let committing = Committing::Outcome {
            record: kept,
            session,
        };
        self.write(committing, Record::Outcome(record), fx);
    }

    /// Marks a message as done on the disk. Recovery would find that out without the mark, so nothing waits for it.
    pub(super) fn finish(&mut self, id: QueueId, fx: &mut Effects) {
        let committing = Committing::Done { id, removal: None };
        self.write(committing, Record::Done(id), fx);
    }

    /// Forgets the refused records of a message that is no longer in the queue.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.refused.retain(|what| what.id() != id);
    }

    /// Marks a message as held or released; the tool gets a response once the mark is on the disk.
    pub(super) fn mark(&mut self, id: QueueId, held: bool, tool: ConnId, fx: &mut Effects) {
        let record = if held {
            Record::Hold(id)
        } else {
            Record::Release(id)
        };
        self.write(Committing::Mark { id, held, tool }, record, fx);
    }

    /// Removes a message from the queue without a DSN; the tool gets a response once that is on the disk.
    pub(super) fn remove(&mut self, id: QueueId, removal: Removal, fx: &mut Effects) {
        let removal = Some(removal);
        self.write(Committing::Done { id, removal }, Record::Done(id), fx);
    }

    fn write(&mut self, committing: Committing, record: Record, fx: &mut Effects) {
        let ticket = self.ticket(committing);
        fx.store(JournalCommand::Append { ticket, record });
    }

    fn ticket(&mut self, committing: Committing) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.tickets.insert(ticket, committing);
        ticket
    }

    /// Handles a completion of the journal writer.
    pub(super) fn on_stored(&mut self, completion: JournalCompletion, fx: &mut Effects) {
        match completion {
            JournalCompletion::Committed { ticket, location } => {
                // A disk that takes one record also takes the outcomes that it had refused.
                fx.disk_takes_records();
                self.committed(ticket, location, fx);
            }
            JournalCompletion::Failed { ticket, error } => {
                fx.log(Line::new(Level::Error, "store-failed").with("why", error));
                self.failed(ticket, error, fx);
            }
            JournalCompletion::BodyWritten { id, bytes } => fx.note(Note::BodyWritten {
                id,
                result: Ok(bytes),
            }),
            JournalCompletion::BodyFailed { id, error } => {
                fx.log(
                    Line::new(Level::Error, "store-failed")
                        .with("id", id)
                        .with("why", error),
                );
                let result = Err(refusal(error));
                fx.note(Note::BodyWritten { id, result });
            }
            JournalCompletion::Crowded { messages } => {
                for id in messages {
                    if let Some(progress) = self.progress(id, fx.now.wall, fx) {
                        let ticket = self.ticket(Committing::Moved { id });
                        fx.store(JournalCommand::CopyForward {
                            ticket,
                            id,
                            progress,
                        });
                    }
                }
            }
            // Every copy out of it was committed before this was said: nothing points there.
            JournalCompletion::Retirable { segment } => {
                fx.store(JournalCommand::Retire { segment })
            }
            JournalCompletion::Space { free } => fx.note(Note::Space { free }),
        }
    }

    /// A record is on the disk.
    fn committed(&mut self, ticket: Ticket, location: Option<Location>, fx: &mut Effects) {
        match self.tickets.remove(&ticket) {
            Some(Committing::Message(message)) => self.message_committed(*message, location, fx),
            Some(Committing::Outcome { record, session }) => {
                fx.note(Note::Recorded { record, session });
            }
            Some(Committing::Mark { id, held, tool }) => {
                fx.note(Note::Marked { id, held });
                let result = Ok(());
                fx.note(Note::Changed { tool, id, result });
            }
            Some(Committing::Done { id, removal }) => {
                let by = removal.map(|removal| removal.uid);
                fx.note(Note::Done { id, by });
                if let Some(Removal { tool, .. }) = removal {
                    let result = Ok(());
                    fx.note(Note::Changed { tool, id, result });
                }
            }
            Some(Committing::Moved { id }) => {
                if let (Some(entry), Some(location)) = (fx.index.get_mut(id), location) {
                    entry.location = location;
                }
            }
            None => {}
        }
    }

    /// The disk has refused a record.
    fn failed(&mut self, ticket: Ticket, error: JournalError, fx: &mut Effects) {
        match self.tickets.remove(&ticket) {
            Some(Committing::Message(message)) => match message.owner {
                MessageOwner::Client(conn, charge) => {
                    let result = Err(refusal(error));
                    fx.note(Note::Stored {
                        conn,
                        id: message.id,
                        result,
                        uses: charge.uses,
                    });
                }
                // It is reported at the next start.
                MessageOwner::Damage(_) => {}
                MessageOwner::Dsn(mut unrecorded) => {
                    let session = unrecorded.session.take();
                    self.keep(Refused::Untold(*unrecorded), session, fx);
                }
            },
            Some(Committing::Outcome { record, session }) => {
                self.keep(Refused::Told(record), session, fx);
            }
            Some(
                Committing::Mark { tool, id, .. }
                | Committing::Done {
                    removal: Some(Removal { tool, .. }),
                    id,
                },
            ) => {
                let result = Err(error);
                fx.note(Note::Changed { tool, id, result });
            }
            Some(Committing::Done { removal: None, .. } | Committing::Moved { .. }) | None => {}
        }
    }

    /// A message is durable: it enters the queue, and its originator is notified.
    /// Decides RFC 5321 section 6.1.
    fn message_committed(
        &mut self,
        message: Appended,
        location: Option<Location>,
        fx: &mut Effects,
    ) {
        let Appended {
            id,
            size,
            envelope,
            owner,
        } = message;
        let after = match owner {
            MessageOwner::Client(conn, charge) => {
                // The message was accepted, so it stays counted.
                drop(charge);
                After::Tell(conn)
            }
            MessageOwner::Damage(names) => After::Told(names),
            MessageOwner::Dsn(behind) => After::Record(behind),
        };
        let Some(location) = location else { return };
        if location.body_is_file() {
            // It is no longer an unfinished message, and stays on the disk.
            let free = &mut fx.disk.free_without_unfinished;
            *free = free.map(|free| free.saturating_sub(size));
            fx.size_pools();
        }
        note_queued(id, size, &envelope, fx);
        fx.note(Note::Queued(Box::new(NewMessage {
            id,
            size,
            envelope,
            location,
        })));
        match after {
            After::Tell(conn) => fx.note(Note::Stored {
                conn,
                id,
                result: Ok(()),
                uses: CountedUses::default(),
            }),
            After::Told(names) if names.is_empty() => {}
            After::Told(names) => fx.store(JournalCommand::Told { names }),
            After::Record(behind) => self.record(behind.record, behind.session, fx),
        }
    }

    /// The progress of a message, for a copy of it. Outcomes on their way to the disk are included, because they
    /// precede the copy and are deleted with their segment. A DSN that is still being made is not included: a crash may
    /// lose it.
    fn progress(&self, id: QueueId, at: Timestamp, fx: &Effects) -> Option<OutcomeRecord> {
        let entry = fx.index.get(id)?;
        let mut recipients = Vec::new();
        for (index, state) in entry.recipients.iter().enumerate() {
            let outcome = match state.phase {
                Phase::Closed => DeliveryResult::Delivered,
                Phase::Waiting | Phase::InFlight if state.attempts == 0 => continue,
                Phase::Waiting | Phase::InFlight => DeliveryResult::Deferred {
                    attempts: state.attempts,
                    until: state.until,
                    status: state.status,
                    why: (state.why.clone()).unwrap_or_else(|| Arc::new(FailureCause::here(""))),
                },
            };
            recipients.push((u32::try_from(index).unwrap_or(u32::MAX), outcome));
        }
        let mut warned = entry.warned == Warned::Recorded;
        for committing in self.tickets.values() {
            if let Committing::Outcome { record, .. } = committing
                && record.id == id
            {
                warned |= record.warned;
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
            warned,
            done: false,
        })
    }

    /// Keeps a refused record for another try, and ends the wait of the session: nothing more is sent.
    fn keep(&mut self, what: Refused, session: Option<ConnId>, fx: &mut Effects) {
        fx.disk.is_stuck = true;
        let id = what.id();
        self.refused.push(what);
        fx.timers
            .set(fx.now.instant.after(RECORD_AGAIN), Timer::Record);
        if let Some(session) = session {
            fx.note(Note::GoOn { session, id });
        }
    }

    /// Writes the refused records again.
    pub(super) fn record_again(&mut self, fx: &mut Effects) {
        for what in std::mem::take(&mut self.refused) {
            match what {
                Refused::Untold(unrecorded) => fx.note(Note::Notify(unrecorded)),
                Refused::Told(record) => self.record(record, None, fx),
            }
        }
    }
}

/// Counts and logs a message that is in the queue.
fn note_queued(id: QueueId, size: u64, envelope: &Envelope, fx: &mut Effects) {
    count_up(&mut fx.counters.accepted, 1);
    let to = envelope.recipients.iter().map(|one| one.mailbox.as_str());
    fx.log(
        Line::new(Level::Info, "queued")
            .with("id", id)
            .with("from", format_args!("<{}>", envelope.reverse_path))
            .with("to", addresses(to))
            .with_some("orig_to", originals(envelope))
            .with("rcpts", envelope.recipients.len())
            .with("size", size)
            .with("origin", &envelope.origin),
    );
    let forwards = envelope.recipients.iter();
    let forwards = forwards.filter(|recipient| recipient.reverse_path.is_some());
    count_up(&mut fx.counters.forwarded, forwards.count() as u64);
}

/// The next step once a message is on the disk.
enum After {
    /// Reply to its client.
    Tell(ConnId),
    /// Mark the damage as reported.
    Told(Vec<Box<str>>),
    /// Record the outcomes that the DSN is about.
    Record(Box<Unrecorded>),
}

/// Addresses in one value of a log line: all of them if they are few.
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

/// The addresses that the client named, if aliases led elsewhere.
fn originals(envelope: &Envelope) -> Option<String> {
    let mut named: Vec<&str> = Vec::new();
    for address in envelope.recipients.iter().filter_map(original_address) {
        // The recipients of one alias are adjacent.
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
