//! A small engine that sends mail through crashes.

use super::*;

/// The state of a message that the other side knows.
#[derive(Clone, Debug)]
struct Known {
    len: usize,
    accepted: Certainty,
    done: Certainty,
    attempts: u16,         // of the last outcome that was committed
    attempts_written: u16, // of the last that was handed in
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Certainty {
    No,
    Perhaps,
    Yes,
}

/// An engine of a few lines that sends mail through crashes.
struct World {
    disk: MemoryDisk,
    chance: SeededEntropy,
    known: BTreeMap<QueueId, Known>,
    next: u64,
    copies: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: MemoryDisk::new(),
            chance: SeededEntropy::new(seed),
            known: BTreeMap::new(),
            next: 1,
            copies: 0,
        }
    }

    fn accept(&mut self, commands: &mut Vec<JournalCommand>) {
        let number = self.next;
        self.next += 1;
        let len = self.chance.below(1_500) as usize;
        let mut record = message(number, len);
        if self.chance.below(5) == 0 {
            commands.push(JournalCommand::BodyAppend {
                id: id(number),
                bytes: text(number, len),
            });
            if let Record::Message(message) = &mut record {
                message.body = MessageBody::File {
                    len: len as u64,
                    crc32: 0,
                };
            }
        }
        commands.push(append(record));
        self.known.insert(
            id(number),
            Known {
                len,
                accepted: Certainty::Perhaps,
                done: Certainty::No,
                attempts: 0,
                attempts_written: 0,
            },
        );
    }

    fn batch(&mut self) -> Vec<JournalCommand> {
        let mut commands = Vec::new();
        for _ in 0..=self.chance.below(6) {
            self.accept(&mut commands);
        }
        for (id, known) in &mut self.known {
            if known.accepted != Certainty::Yes || known.done != Certainty::No {
                continue;
            }
            match self.chance.below(8) {
                0 => {
                    known.attempts_written += 1;
                    let outcome = deferred(id.number(), known.attempts_written);
                    commands.push(append(Record::Outcome(outcome)));
                }
                1..=3 => {
                    known.done = Certainty::Perhaps;
                    commands.push(append(Record::Done(*id)));
                }
                _ => {}
            }
        }
        commands
    }

    /// Records a completion; answers the requests of the journal.
    fn note(
        &mut self,
        sent: &[JournalCommand],
        completions: Vec<JournalCompletion>,
    ) -> Vec<JournalCommand> {
        let mut answers = Vec::new();
        for completion in completions {
            match completion {
                JournalCompletion::Committed { ticket, location } => {
                    let known = self.known.get_mut(&id(ticket.0)).expect("known");
                    if location.is_some() {
                        known.accepted = Certainty::Yes;
                    }
                }
                JournalCompletion::Failed { ticket, error } => {
                    assert_eq!(error, JournalError::NotFound, "{ticket:?}");
                }
                JournalCompletion::Crowded { messages } => {
                    self.copies += 1;
                    answers.extend(messages.into_iter().map(|id| JournalCommand::CopyForward {
                        ticket: Ticket(id.number()),
                        id,
                        progress: deferred(id.number(), self.known[&id].attempts_written),
                    }));
                }
                JournalCompletion::Retirable { segment } => {
                    answers.push(JournalCommand::Retire { segment })
                }
                _ => {}
            }
        }
        for command in sent {
            match command {
                JournalCommand::Append {
                    record: Record::Done(id),
                    ..
                } => self.known.get_mut(id).expect("known").done = Certainty::Yes,
                JournalCommand::Append {
                    record: Record::Outcome(outcome),
                    ..
                } => {
                    let known = self.known.get_mut(&outcome.id).expect("known");
                    known.attempts = known.attempts_written;
                }
                _ => {}
            }
        }
        answers
    }

    fn check(&mut self, found: &BTreeMap<QueueId, Recovered>, report: &OpenReport) {
        for (id, known) in &mut self.known {
            let Some(message) = found.get(id) else {
                let may_be_gone = known.accepted != Certainty::Yes || known.done != Certainty::No;
                assert!(may_be_gone, "{id} {known:?} was lost: {report:?}");
                known.accepted = Certainty::No;
                continue;
            };
            assert_ne!(known.accepted, Certainty::No, "{id} {known:?} came back");
            assert_ne!(known.done, Certainty::Yes, "{id} {known:?} rose");
            let attempts = match &message.results[1] {
                Some(DeliveryResult::Deferred { attempts, .. }) => *attempts,
                _ => 0,
            };
            assert!(attempts >= known.attempts, "{id} {known:?} {attempts}");
            known.attempts = attempts;
            known.attempts_written = attempts;
            known.accepted = Certainty::Yes;
            known.done = Certainty::No;
            let part = Part::Body {
                offset: 0,
                len: u32::MAX,
            };
            let Ok(ReadContent::Body { bytes, crc32 }) =
                read(&mut self.disk.clone(), message.location, *id, part)
            else {
                panic!("{id} is unreadable");
            };
            assert_eq!(crc32, crc32fast::hash(&bytes));
            assert_eq!(bytes, text(id.number(), known.len));
        }
        assert!(found.keys().all(|id| self.known.contains_key(id)));
    }

    /// Works for a while, is cut off in the middle of some operation, and loses power.
    fn life(&mut self) {
        let (mut journal, found, report) = open(&self.disk, SMALL);
        self.check(&found, &report);
        let (_, again, _) = open(&self.disk, SMALL);
        assert_eq!(found, again);
        let mut answers = Vec::new();
        for _ in 0..self.chance.below(12) {
            let mut commands = std::mem::take(&mut answers);
            commands.extend(self.batch());
            let completions = journal.execute(commands.clone());
            answers = self.note(&commands, completions);
        }
        let skip = self.chance.below(12);
        self.disk
            .fail(Operation::Any, skip, u64::MAX, DiskError::Io);
        answers.extend(self.batch());
        drop(journal.execute(answers)); // nobody hears of it any more
        let (disk, chance) = (&self.disk, &mut self.chance);
        disk.crash(chance);
    }
}

#[test]
fn every_crash_keeps_exactly_what_was_acknowledged() {
    let mut copies = 0;
    for seed in 0..500 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..4 {
                world.life();
            }
            world.copies
        });
        copies += outcome.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(copies > 100, "copying forward was hardly met: {copies}");
}
