//! The thread that owns the journal: the only one that syncs.
//!
//! All commands that have arrived when a commit ends form the next batch, so batches grow with the load. The queue of
//! commands has no bound, because the event loop fills it and must never wait for a disk. The memory ceilings of
//! sessions and of streamed bodies bound the commands on their way.
//!
//! While there are no commands, the thread reads the free space of the disk from time to time, because other programs
//! use and free it.
//!
//! Invariant: a command that was taken is executed before the thread ends, and its completion is sent.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::limits::{JOURNAL_BATCH_BYTES_MAX, JOURNAL_BATCH_COMMANDS_MAX};
use crate::queue::{Disk, Journal, JournalCommand, JournalCompletion, MessageBody, Record};
use crate::shell::channel::{ChannelReceiver, ChannelSender, Waited, channel};

/// The event loop's side of the journal.
#[derive(Debug)]
pub struct JournalWriter {
    commands: ChannelSender<JournalCommand>,
    completions: ChannelReceiver<JournalCompletion>,
    batches: ChannelReceiver<Duration>,
    thread: JoinHandle<()>,
}

/// The journal's thread has ended, which it does only by a bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriterGone;

impl std::fmt::Display for WriterGone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("the journal's thread has ended")
    }
}

impl std::error::Error for WriterGone {}

impl JournalWriter {
    /// Starts the thread. `wake` is called after completions were sent.
    pub fn start<D: Disk + Send + 'static>(
        journal: Journal<D>,
        wake: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let (commands, inbox) = channel();
        let (outbox, completions) = channel();
        let (timings, batches) = channel();
        let thread = Builder::new()
            .name("journal".into())
            .spawn(move || serve(journal, &inbox, (&outbox, &timings), &*wake))?;
        Ok(Self {
            commands,
            completions,
            batches,
            thread,
        })
    }

    /// Hands a command to the journal.
    pub fn send(&self, command: JournalCommand) -> Result<(), WriterGone> {
        self.commands.give(command).map_err(|_| WriterGone)
    }

    /// The next completion that has arrived.
    pub fn next_completion(&self) -> Option<JournalCompletion> {
        self.completions.take()
    }

    /// How long the next batch took to be written and synced.
    pub fn next_batch(&self) -> Option<Duration> {
        self.batches.take()
    }

    /// Whether the thread still takes commands.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Stops taking commands, waits until all are executed, and returns the remaining completions.
    pub fn shut_down(self) -> Result<Vec<JournalCompletion>, WriterGone> {
        drop(self.commands);
        self.thread.join().map_err(|_| WriterGone)?;
        let mut left = Vec::new();
        self.completions.take_while(&mut left, |_| true);
        Ok(left)
    }
}

fn serve<D: Disk>(
    mut journal: Journal<D>,
    inbox: &ChannelReceiver<JournalCommand>,
    (outbox, timings): (&ChannelSender<JournalCompletion>, &ChannelSender<Duration>),
    wake: &dyn Fn(),
) {
    loop {
        let completions = match inbox.wait(journal.space_interval()) {
            Waited::Arrived => {
                let began = Instant::now();
                let completions = journal.execute(batch(inbox));
                // As below.
                let _ = timings.give(began.elapsed());
                completions
            }
            // Without this, a relay that had refused everything for lack of space would have no reason to look again.
            Waited::TimedOut => match journal.look_at_space() {
                Some(completion) => vec![completion],
                None => continue,
            },
            Waited::Ended => break,
        };
        for completion in completions {
            // The receiver is gone while the process ends; the records are durable anyway.
            let _ = outbox.give(completion);
        }
        wake();
    }
    journal.close();
}

/// The commands that have arrived, up to one batch.
fn batch(inbox: &ChannelReceiver<JournalCommand>) -> Vec<JournalCommand> {
    let (mut commands, mut taken, mut bytes) = (Vec::new(), 0, 0_usize);
    inbox.take_while(&mut commands, |command| {
        let room = taken < JOURNAL_BATCH_COMMANDS_MAX && bytes < JOURNAL_BATCH_BYTES_MAX;
        taken += usize::from(room);
        bytes = bytes.saturating_add(weight(command));
        room
    });
    commands
}

/// Bytes of message that a command carries.
fn weight(command: &JournalCommand) -> usize {
    match command {
        JournalCommand::Append {
            record: Record::Message(message),
            ..
        } => match &message.body {
            MessageBody::Inline(bytes) => bytes.len().saturating_add(message.fields.len()),
            MessageBody::File { .. } => message.fields.len(),
        },
        JournalCommand::BodyAppend { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::limits::{SPACE_INTERVAL, SPOOL_RESERVE_BYTES};
    use crate::queue::{MemoryDisk, Ticket};
    use crate::queue_id::QueueId;

    use super::*;

    #[test]
    fn shutting_down_completes_everything_that_was_sent() {
        let (journal, _) = Journal::open(MemoryDisk::new(), &mut |_| {}).expect("a journal");
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let writer = JournalWriter::start(journal, wake).expect("a thread");
        for number in 1..=1_000 {
            writer
                .send(JournalCommand::Append {
                    ticket: Ticket(number),
                    record: Record::Done(QueueId::new(number)),
                })
                .expect("taken");
        }
        let completions = writer.shut_down().expect("a clean end");
        let committed = completions
            .iter()
            .filter(|completion| matches!(completion, JournalCompletion::Committed { .. }));
        assert_eq!(committed.count(), 1_000);
        assert!(woken.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_thread_that_has_ended_is_seen() {
        let (journal, _) = Journal::open(MemoryDisk::new(), &mut |_| {}).expect("a journal");
        let wake = Box::new(|| panic!("the thread ends, as by a bug"));
        let writer = JournalWriter::start(journal, wake).expect("a thread");
        assert!(writer.is_alive());
        let ticket = Ticket(1);
        let record = Record::Done(QueueId::new(1));
        writer
            .send(JournalCommand::Append { ticket, record })
            .expect("taken");
        while writer.is_alive() {
            std::thread::yield_now();
        }
        assert_eq!(writer.shut_down(), Err(WriterGone));
    }

    #[test]
    fn room_that_comes_free_is_told_although_nothing_is_written() {
        let disk = MemoryDisk::new();
        disk.set_free(SPOOL_RESERVE_BYTES - 1);
        let (journal, _) = Journal::open(disk.clone(), &mut |_| {}).expect("a journal");
        let writer = JournalWriter::start(journal, Box::new(|| {})).expect("a thread");
        let ticket = Ticket(1);
        let record = Record::Done(QueueId::new(1));
        writer
            .send(JournalCommand::Append { ticket, record })
            .expect("taken");
        let told = || {
            loop {
                match writer.next_completion() {
                    Some(JournalCompletion::Space { free }) => break Some(free),
                    Some(_) => {}
                    None => {
                        writer.completions.wait(SPACE_INTERVAL);
                    }
                }
            }
        };
        assert_eq!(told(), Some(SPOOL_RESERVE_BYTES - 1));
        disk.set_free(10 * SPOOL_RESERVE_BYTES);
        assert_eq!(told(), Some(10 * SPOOL_RESERVE_BYTES));
    }
}
