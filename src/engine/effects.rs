//! What a participant may use beyond its own state: the time, shared settings, and every way to affect the world.
//!
//! A participant gets the effects with each event. It puts actions for the world into [`Effects::actions`] and messages
//! for other participants into [`Effects::notes`]; it cannot reach the state of another participant.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::connections::Connections;
use super::counters::Counters;
use super::event::{Action, ConnId, JobId, Work};
use super::following::Following;
use super::log::{Level, Line};
use super::lookups::{Answered, Lookups};
use super::note::{Charge, CountedUses, Note};
use super::repeats::Repeats;
use super::status::observed::Observed;
use super::timers::Timers;
use crate::clock::Now;
use crate::config::Config;
use crate::dns::{Answer, Question};
use crate::entropy::Entropy;
use crate::policy::shares::{Holder, Resource, Shares};
use crate::queue::{IdSource, Index, JournalCommand, MessageRecord};
use crate::queue_id::QueueId;

use super::shares::capacity;

/// The time, the configuration, shared data, and the actions and notes of participants.
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
    /// The messages in the queue. Delivery and spool change it; all participants may read it.
    pub(super) index: Index,
    pub(super) ids: IdSource,
    pub(super) jobs: Jobs,
    /// The shares of scarce resources.
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

/// Jobs that workers have, each with its owner.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    owners: HashMap<JobId, JobOwner>,
    next: u64,
}

/// Who waits for a worker.
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

/// What is known about the disk of the spool.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Bytes free, once it has said so.
    pub(super) free: Option<u64>,
    /// Bytes that would be free if every unfinished message were dropped: the written parts of those already take up
    /// space, and are counted in the pool too.
    pub(super) free_without_unfinished: Option<u64>,
    /// Whether it has refused a record and has taken none since: nothing is sent until it takes one.
    pub(super) is_stuck: bool,
}

/// The log level, and the tools that follow log lines.
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

    /// Removes a finished job and returns its owner.
    pub(super) fn end(&mut self, job: JobId) -> Option<JobOwner> {
        self.owners.remove(&job)
    }
}

impl Effects {
    /// Leaves a note for another participant.
    pub(super) fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// Wants this done.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Hands work to a worker.
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

    /// Charges a holder for a message that goes to the disk.
    pub(super) fn charge(
        &mut self,
        holder: Holder,
        record: &MessageRecord,
        uses: CountedUses,
    ) -> Box<Charge> {
        let bytes = record.held() as u64;
        // An estimate, until the disk reports its free space again.
        self.disk.free = self.disk.free.map(|free| free.saturating_sub(bytes));
        Box::new(Charge {
            _memory: self.shares.of(Resource::Memory).charge(holder, bytes),
            uses,
        })
    }

    /// Asks the DNS; returns the answer if it is there at once, otherwise the owner of `conn` gets it later.
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
            &self.shares,
            &mut self.counters,
            &mut *self.entropy,
            self.now,
        )
    }

    /// The next answer of the resolver, after its requests have become actions.
    pub(super) fn next_answer(&mut self) -> Option<Answered> {
        let actions = &mut self.actions;
        self.lookups.next(&mut |action| actions.push_back(action))
    }

    /// Writes a log line, and sends it to the tools that follow the message that it names.
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

    /// Logs a line that a client could repeat without limit.
    pub(super) fn log_refusal(&mut self, line: Line) {
        if line.level > self.logging.level || self.logging.repeats.is_new(&line) {
            self.log(line);
        }
    }

    /// Logs a step at debug level; the line is not even built if the level is not enabled.
    pub(super) fn debug(&mut self, make: impl FnOnce() -> Line) {
        if self.logging.level >= Level::Debug {
            self.act(Action::Log(make()));
        }
    }

    /// Whether a client is a tool of the operator's that tries this host. None but root and the account of the daemon
    /// can name an address for that, and it holds only while their connection does.
    pub(super) fn is_probe(&self, client: IpAddr) -> bool {
        self.logging.following.is_probe(client, &self.conns)
    }

    /// The same for a client whose address may be unknown.
    fn is_of_probe(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.is_probe(client))
    }

    /// Counts a refusal, except for clients that are probes of a tool.
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

    /// A line about a client; if the client is a probe of a tool, the line has debug level.
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

    /// The disk takes records again: sending continues if it was stopped.
    pub(super) fn disk_takes_records(&mut self) {
        if std::mem::take(&mut self.disk.is_stuck) {
            self.note(Note::DiskWorks);
        }
    }
}

/// The uid that may do everything.
pub(super) const ROOT: u32 = 0;
