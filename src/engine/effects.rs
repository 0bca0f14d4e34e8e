//! What a participant may do beyond its own state: the time, what all know, and every way to the outside.
//!
//! A participant is handed these with each event. What it wants done goes into [`Effects::actions`], what another
//! participant has to know into [`Effects::notes`]; it cannot reach another's state.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::connections::Connections;
use super::counters::Counters;
use super::event::{Action, ConnId, JobId, Work};
use super::following::Following;
use super::log::{Level, Line};
use super::lookups::{Answered, Lookups};
use super::note::{Charge, Note};
use super::repeats::Repeats;
use super::status::observed::Observed;
use super::timers::Timers;
use crate::clock::Now;
use crate::config::Config;
use crate::dns::{Answer, Question};
use crate::entropy::Entropy;
use crate::policy::rates::CountedMessage;
use crate::policy::shares::{Holder, Resource, Shares};
use crate::queue::{IdSource, Index, JournalCommand, MessageRecord};
use crate::queue_id::QueueId;

use super::shares::capacity;

/// The time, the configuration, what is shared, and the ways out.
pub(super) struct Effects {
    /// When the event happened that is being handled.
    pub(super) now: Now,
    pub(super) config: Arc<Config>,
    pub(super) entropy: Box<dyn Entropy + Send>,
    /// The ids of connections, with their owners.
    pub(super) conns: Connections,
    pub(super) actions: VecDeque<Action>,
    pub(super) timers: Timers,
    pub(super) lookups: Lookups,
    /// The messages in the queue. Delivery and spool change it, all may look.
    pub(super) index: Index,
    pub(super) ids: IdSource,
    pub(super) jobs: Jobs,
    /// Who may have how much of what is scarce.
    pub(super) shares: Shares,
    pub(super) disk: Disk,
    pub(super) counters: Counters,
    pub(super) observed: Observed,
    pub(super) logging: Logging,
    pub(super) notes: VecDeque<Note>,
    /// The account that the relay runs as: besides root it may ask for everything at the control socket.
    pub(super) operator: u32,
    pub(super) stopping: bool,
}

/// Work that workers have, each with who waits for it.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    owners: HashMap<JobId, JobOwner>,
    next: u64,
}

/// Whose job a worker does.
#[derive(Debug)]
pub(super) enum JobOwner {
    /// The signatures of a message that is being accepted.
    Sign {
        conn: ConnId,
        id: QueueId,
    },
    /// The signatures of a DSN.
    SignDsn {
        dsn: u64,
    },
    /// The signatures that a message came with.
    Verify {
        conn: ConnId,
        id: QueueId,
    },
    Password {
        number: u64,
    },
}

/// What is known of the disk of the spool.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Bytes free, once it has said so.
    pub(super) free: Option<u64>,
    /// Bytes that would be free if every unfinished message were given up: those of them that are written take up room
    /// already, and are counted in the pool too.
    pub(super) free_without_unfinished: Option<u64>,
    /// Whether it has refused a record and has taken none since: nothing is sent until it takes one.
    pub(super) is_stuck: bool,
}

/// Where log lines go, and which of them.
pub(super) struct Logging {
    pub(super) level: Level,
    pub(super) repeats: Repeats,
    pub(super) following: Following,
}

impl Jobs {
    /// How many workers have, or will have.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Takes out one that is done.
    pub(super) fn end(&mut self, job: JobId) -> Option<JobOwner> {
        self.owners.remove(&job)
    }
}

impl Effects {
    /// Tells another participant.
    pub(super) fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// Wants this done.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Gives work to a worker.
    pub(super) fn work(&mut self, owner: JobOwner, work: Work) -> JobId {
        let job = JobId(self.jobs.next);
        self.jobs.next = self.jobs.next.wrapping_add(1);
        self.jobs.owners.insert(job, owner);
        self.act(Action::Work { job, work });
        job
    }

    /// Hands a command to the journal writer.
    pub(super) fn store(&mut self, command: JournalCommand) {
        self.act(Action::Store(command));
    }

    /// Sends bytes, if there are any.
    pub(super) fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.act(Action::Send { conn, bytes });
        }
    }

    /// Charges somebody for a message that goes to the disk.
    pub(super) fn charge(
        &mut self,
        holder: Holder,
        record: &MessageRecord,
        claim: Option<CountedMessage>,
    ) -> Charge {
        let bytes = record.held() as u64;
        // Until the disk says again how much is free.
        self.disk.free = self.disk.free.map(|free| free.saturating_sub(bytes));
        (self.shares.of_mut(Resource::Memory)).resize(holder, 0, bytes);
        Charge {
            holder,
            bytes,
            claim,
        }
    }

    /// The message is on the disk, or refused; gives what it was counted as.
    pub(super) fn discharge(&mut self, charge: Charge) -> Option<CountedMessage> {
        let pool = self.shares.of_mut(Resource::Memory);
        pool.give(charge.holder, charge.bytes);
        charge.claim
    }

    /// Looks up a name; the answer is there at once, or comes to the owner of `conn` later.
    pub(super) fn ask(
        &mut self,
        conn: ConnId,
        holder: Holder,
        question: Question,
    ) -> Option<Answer> {
        self.lookups.ask(
            conn,
            holder,
            question,
            &self.config,
            &mut self.shares,
            &mut self.counters,
            &mut *self.entropy,
            self.now,
        )
    }

    /// The next answer that the resolver has, once what it wants done is among the actions.
    pub(super) fn next_answer(&mut self) -> Option<Answered> {
        let actions = &mut self.actions;
        self.lookups
            .next(&mut self.shares, &mut |action| actions.push_back(action))
    }

    /// Logs a line, and tells those who follow the message that it names.
    pub(super) fn log(&mut self, line: Line) {
        if let Some(id) = line.message() {
            for conn in self.logging.following.keep(id, &line.text) {
                let text = line.text.clone();
                self.notes.push_back(Note::Followed { conn, text });
            }
        }
        self.observed.logged(&line);
        if line.level <= self.logging.level {
            self.act(Action::Log(line));
        }
    }

    /// Logs what a client can have us say over and over.
    pub(super) fn log_refusal(&mut self, line: Line) {
        if line.level > self.logging.level || self.logging.repeats.is_new(&line) {
            self.log(line);
        }
    }

    /// Logs a step on the way, which is not even made where nobody reads it.
    pub(super) fn debug(&mut self, make: impl FnOnce() -> Line) {
        if self.logging.level >= Level::Debug {
            self.act(Action::Log(make()));
        }
    }

    /// Whether a client is a tool of the operator's that tries this host. None but root and the account of the daemon can
    /// name an address for that, and it holds only while their connection does.
    pub(super) fn is_probe(&self, client: IpAddr) -> bool {
        self.logging.following.is_probe(client, &self.conns)
    }

    /// The same, of a client whose address may not be known.
    fn is_of_probe(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.is_probe(client))
    }

    /// Counts refusals of a client, but for those that such a tool has looked for.
    pub(super) fn count_refused(&mut self, client: Option<IpAddr>, times: u64) {
        if !self.is_of_probe(client) {
            self.counters.refused = self.counters.refused.saturating_add(times);
        }
    }

    /// Counts a client for which there was no room, likewise.
    pub(super) fn count_throttled(&mut self, client: Option<IpAddr>) {
        if !self.is_of_probe(client) {
            self.counters.throttled = self.counters.throttled.saturating_add(1);
        }
    }

    /// A line about a client: for those who read every line only, where it is such a tool.
    pub(super) fn of_client(&self, client: Option<IpAddr>, line: Line) -> Line {
        match self.is_of_probe(client) {
            true => Line {
                level: Level::Debug,
                ..line
            },
            false => line,
        }
    }

    /// Whether a tool of this user may ask for everything.
    pub(super) fn is_operator(&self, uid: Option<u32>) -> bool {
        uid.is_some_and(|uid| uid == ROOT || uid == self.operator)
    }

    /// Server sessions.
    pub(super) fn sessions(&self) -> usize {
        self.used(Resource::Sessions)
    }

    /// Delivery sessions.
    pub(super) fn deliveries(&self) -> usize {
        self.used(Resource::Deliveries)
    }

    /// Bytes in buffers whose size a peer decides.
    pub(super) fn memory(&self) -> usize {
        self.used(Resource::Memory)
    }

    fn used(&self, resource: Resource) -> usize {
        usize::try_from(self.shares.of(resource).used()).unwrap_or(usize::MAX)
    }

    /// The configuration or the disk has changed, and with it how much there is.
    pub(super) fn size_pools(&mut self) {
        let (config, free) = (&self.config, self.disk.free_without_unfinished);
        (self.shares).set_capacities(|resource| capacity(config, free, resource));
    }

    /// The disk takes records: sending goes on, if it was stopped.
    pub(super) fn disk_takes_records(&mut self) {
        if std::mem::take(&mut self.disk.is_stuck) {
            self.note(Note::DiskWorks);
        }
    }
}

/// The uid that may do everything.
pub(super) const ROOT: u32 = 0;
