//! The journal writer, as the shell's thread runs it, and faults of its disk.

use std::collections::HashMap;
use std::time::Duration;

use chopar::entropy::Entropy;
use chopar::queue::{
    DiskError, JournalCommand, JournalCompletion, MessageBody, Operation, OutcomeRecord, Record,
    SpoolFile, Ticket,
};
use chopar::queue_id::QueueId;

use crate::disk::{Sabotage, hold};
use crate::ledger::About;
use crate::world::{Faults, Happening, World};

/// What the ledger learns once a ticket is committed.
enum Entry {
    Message(QueueId),
    Outcome(OutcomeRecord),
    Done(QueueId),
}

impl World {
    /// The engine sends a command to the writer.
    pub(crate) fn relay_stores(&mut self, mut command: JournalCommand) {
        if self.disk.sabotage == Sabotage::FactsFirst
            && let JournalCommand::Append {
                record: Record::Message(message),
                ..
            } = &mut command
        {
            self.enter_refused(message);
        }
        match &command {
            JournalCommand::BodyAppend { id, bytes } => {
                self.streamed
                    .entry(*id)
                    .or_default()
                    .extend_from_slice(bytes);
            }
            JournalCommand::BodyDiscard { id } => drop(self.streamed.remove(id)),
            JournalCommand::Append {
                record: Record::Message(message),
                ..
            } => {
                let streamed = self.streamed.remove(&message.id).unwrap_or_default();
                let text = match &message.body {
                    MessageBody::Inline(bytes) => bytes,
                    MessageBody::File { .. } => &streamed,
                };
                let at_ms = self.now.instant.as_millis();
                hold(self.ledger.stored(message, text, at_ms));
            }
            JournalCommand::Append {
                record: Record::Outcome(outcome),
                ..
            } => hold(self.ledger.heard(outcome.id, &outcome.recipients)),
            JournalCommand::Append {
                record: Record::Done(id),
                ..
            } if self.is_being_removed(*id) => {
                self.note_removal(*id);
                self.ledger.remove(*id);
            }
            _ => {}
        }
        if self.disk.sabotage == Sabotage::ForgottenSender
            && let JournalCommand::Append {
                record: Record::Message(message),
                ..
            } = &mut command
        {
            for recipient in &mut message.envelope.recipients {
                recipient.reverse_path = None;
            }
        }
        self.commands.push(command);
        if !self.writing {
            self.writing = true;
            let delay = self.entropy.below(10);
            self.plan(Duration::from_millis(delay), Happening::Write);
        }
    }

    /// The writer executes all waiting commands and commits them together.
    pub(crate) fn write(&mut self) {
        self.writing = false;
        let mut entries: HashMap<Ticket, Entry> = HashMap::new();
        let mut forgotten = Vec::new();
        let mut kept = Vec::new();
        for command in std::mem::take(&mut self.commands) {
            if let JournalCommand::Append { ticket, record } = &command {
                let entry = match record {
                    Record::Message(message) => Some(Entry::Message(message.id)),
                    Record::Outcome(outcome) => Some(Entry::Outcome(outcome.clone())),
                    Record::Done(id) => Some(Entry::Done(*id)),
                    _ => None,
                };
                let outcome = matches!(entry, Some(Entry::Outcome(_)));
                entries.extend(entry.map(|entry| (*ticket, entry)));
                let sabotage = self.disk.sabotage == Sabotage::ForgottenOutcome;
                if sabotage && outcome && self.entropy.below(2) == 0 {
                    forgotten.push(JournalCompletion::Committed {
                        ticket: *ticket,
                        location: None,
                    });
                    continue;
                }
            }
            kept.push(command);
        }
        let Some(journal) = self.journal.as_mut() else {
            return;
        };
        let mut completions = journal.execute(kept);
        completions.extend(forgotten);
        let broken = journal.is_broken();
        if self.disk.sabotage == Sabotage::CountKept {
            completions.retain(|one| !matches!(one, JournalCompletion::BodyFailed { .. }));
        }
        for completion in &completions {
            if let JournalCompletion::Committed { ticket, location } = completion {
                // Whatever else the journal relies on, it has just synced the newest segment.
                if let Some(location) = location {
                    hold(self.disk.counted_on(SpoolFile::Segment(location.segment())));
                }
                if let Some(entry) = entries.remove(ticket) {
                    self.enter(entry);
                }
            }
        }
        if broken {
            // An operator repairs the disk and restarts the relay.
            self.plan(Duration::from_secs(5), Happening::DiskMended);
            self.plan(Duration::from_secs(6), Happening::PowerCut);
        }
        let delay = self.entropy.below(20);
        self.plan(Duration::from_millis(delay), Happening::Stored(completions));
    }

    fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Message(id) => {
                self.ledger.committed(id);
                let mut mails = self.ledger.mails();
                let dsn =
                    mails.any(|(other, mail)| other == id && matches!(mail.about, About::Dsn(_)));
                self.tally.dsns += u64::from(dsn);
            }
            Entry::Outcome(outcome) => {
                let (warned, done) = (outcome.warned, outcome.done);
                hold(
                    self.ledger
                        .recorded(outcome.id, &outcome.recipients, warned, done),
                );
            }
            Entry::Done(id) => hold(self.ledger.done(id)),
        }
    }

    /// One kind of operation fails once, or the disk is full for a while.
    /// Not simulated: the disk refuses a batch and then the seal that disowns the batch, and the power fails. Recovery
    /// may then return a refused message, as the documentation of the journal says.
    pub(crate) fn disk_trouble(&mut self) {
        if self.faults == Faults::Local && self.entropy.below(4) > 0 {
            self.drop_trouble();
            let until = 1 + self.entropy.below(60_000);
            return self.plan(Duration::from_millis(until), Happening::DiskMended);
        }
        if self.entropy.below(4) == 0 {
            self.tally.fault("disk", "full");
            self.disk.memory.set_free(0);
        } else {
            let operations = [
                Operation::Write,
                Operation::Sync,
                Operation::SyncDone,
                Operation::SyncFolder,
                Operation::Preallocate,
                Operation::Create,
            ];
            let operation = operations[self.entropy.below(operations.len() as u64) as usize];
            let error = if self.entropy.below(2) == 0 {
                DiskError::NoSpace
            } else {
                DiskError::Io
            };
            // New segments are rare, so the next one fails.
            let skip = match operation {
                Operation::Write | Operation::Sync | Operation::SyncDone => self.entropy.below(4),
                _ => 0,
            };
            self.disk.memory.mend();
            self.disk.memory.fail(operation, skip, 1, error);
        }
        let until = 1 + self.entropy.below(60_000);
        self.plan(Duration::from_millis(until), Happening::DiskMended);
    }
}
