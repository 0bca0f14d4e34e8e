//! The whole relay as one state machine: events in, actions out.
//!
//! ```text
//!             accept, bytes, closed, stored, answers, time
//!                               |
//!   inbound --Append--> queue --due--> hops --> outbound --outcome--> queue
//!      |  intake, auth     |                       |  resolver
//!      '-------------------'------- notices -------'       control looks on
//! ```
//!
//! One participant a file; each is a chapter of [`Engine`]. This file holds what they share and sends each event to
//! whom it belongs. Decisions are made below, in `smtp`, `policy`, `dns`, `mail` and `queue`; the engine carries
//! questions and answers between them. Invariants: no 250 before `Committed`; a recipient is tried by one courier at
//! a time, and not again before its outcome is committed; every table has a ceiling.

mod auth;
mod blocks;
pub mod connections;
pub mod control;
pub mod damage;
mod derivations;
pub mod drop_folder;
pub mod event;
mod following;
mod hops;
mod inbound;
mod intake;
pub mod log;
mod notices;
mod outbound;
mod repeats;
mod resolver;
mod shares;
mod signing;
pub mod status;
mod store;
mod timers;
mod waiting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::srs::Rewriter;
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::date::Timestamp;
use crate::dns::Resolver;
use crate::entropy::Entropy;
use crate::limits::{LOG_REPEAT_INTERVAL, SESSIONS_MAX_DEFAULT};
use crate::policy::shares::{Resource, Shares};
use crate::queue::{Command, IdSource, Index, Recovered, Ticket};
use crate::queue_id::QueueId;
use crate::smtp::server::Settings;
use crate::workload::{self, Workload};

use auth::Logins;
use blocks::Blocks;
use connections::Connections;
use control::{Control, ROOT};
use event::{Action, ConnId, Event, JobId, Reader, Work};
use following::Following;
use hops::Hops;
use inbound::{Asking, Crowd, Hooks, Inbound, Strangers, Verifications};
use log::{Level, Line};
use notices::Notices;
use outbound::Courier;
use repeats::Repeats;
use resolver::Questions;
use shares::capacity;
use status::{CertificateLeft, Observed, Visit, Visits};
use store::{Committing, PutOff, Recording};
use timers::{Timer, Timers};

/// The relay.
pub struct Engine {
    config: Arc<Config>,
    settings: Settings,
    entropy: Box<dyn Entropy + Send>,
    conns: Connections<Conn>,
    actions: VecDeque<Action>,
    timers: Timers,
    resolver: Resolver,
    questions: Questions,
    index: Index,
    hops: Hops,
    ids: IdSource,
    /// In the order in which they were given out, as the outcomes among them are.
    tickets: BTreeMap<Ticket, Committing>,
    next_ticket: u64,
    jobs: HashMap<JobId, JobOwner>,
    next_job: u64,
    logins: Logins,
    /// Rewrites the senders of what is forwarded.
    rewriter: Rewriter,
    strangers: Strangers,
    /// Sessions whose message is being streamed to the disk.
    spilling: HashMap<QueueId, ConnId>,
    /// Blocks that are on their way there.
    blocks: Blocks,
    /// Sessions that can make room.
    crowd: Crowd,
    /// The connection from which on idle ones are looked for.
    looked_at: usize,
    verifications: Verifications,
    hooks: Hooks,
    notices: Notices,
    /// Whether outcomes reach the disk.
    recording: Recording,
    /// Outcomes that the disk refused.
    put_off: Vec<PutOff>,
    /// Who may have how much of what is scarce.
    shares: Shares,
    /// Bytes free on the disk of the spool, as far as is known.
    free_space: Option<u64>,
    /// Bytes that would be free if every unfinished message were given up: those of them that are written take up room
    /// already, and are counted in the pool too.
    free_without_unfinished: Option<u64>,
    counters: Counters,
    observed: Observed,
    /// Who reads a page.
    visits: Visits,
    /// The greatest counts of one turn.
    heaviest: Workload,
    log_level: Level,
    /// The account that the relay runs as: besides root it may ask for everything at the control socket.
    operator: u32,
    repeats: Repeats,
    following: Following,
    stopping: bool,
}

/// What happened since the start, for `queue stats` and the status page.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Sessions accepted.
    pub sessions: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages and recipients refused.
    pub refused: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Attempts put off.
    pub deferred: u64,
    /// Recipients failed.
    pub failed: u64,
    /// Notifications sent.
    pub notices: u64,
    /// Recipients that were forwarded with a rewritten reverse-path.
    pub forwarded: u64,
    /// Messages that failed DMARC.
    pub dmarc_failed: u64,
    /// Messages that were refused for it.
    pub dmarc_refused: u64,
    /// Messages that the hook refused.
    pub hook_refused: u64,
    /// Messages that it, or what happened to it, put off.
    pub hook_deferred: u64,
    /// Connections, messages and recipients of strangers who had had enough.
    pub throttled: u64,
    /// Recipients refused because a list has the client.
    pub listed: u64,
    /// Recipients put off by greylisting.
    pub greylisted: u64,
    /// Replies held back.
    pub slowed: u64,
    /// Questions to the DNS that were not asked, because whoever needed them had its share of questions.
    pub unasked: u64,
    /// The longest turn of the event loop, if there was one.
    pub longest_turn: Option<Turn>,
}

/// A turn of the event loop: all that is done between two waits for the world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn {
    /// How long it took by the wall clock. Time in which the processor was with other processes is in it.
    pub took: Duration,
    /// When it began.
    pub at: Timestamp,
}

/// Sizes of what grows with load, for those who hold them to their ceilings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Bytes in buffers whose size peers decide.
    pub memory: usize,
    /// Connections in both directions.
    pub connections: usize,
    /// Client sessions.
    pub couriers: usize,
    /// Next hops.
    pub hops: usize,
    /// Deadlines, those whose owner is gone too.
    pub timers: usize,
    /// Pieces of work that workers have.
    pub jobs: usize,
    /// Messages whose signatures wait for a worker.
    pub verifications: usize,
    /// Questions to the DNS under way.
    pub questions: usize,
    /// Answers of the DNS that are remembered.
    pub answers: usize,
    /// Notifications that are being made.
    pub notices_at_work: usize,
    /// Notifications that wait.
    pub notices: usize,
    /// Outcomes that the disk refused.
    pub unrecorded: usize,
    /// Records that are on their way to the disk.
    pub commits: usize,
    /// Messages that are streamed to the disk.
    pub spilling: usize,
    /// Messages of which a block is on its way there.
    pub blocks: usize,
    /// Sessions that can make room.
    pub crowd: usize,
    /// Questions to the hook, those that wait too.
    pub hooks: usize,
    /// Queued messages.
    pub queued: usize,
    /// Counts of what strangers do.
    pub conduct: usize,
    /// What greylisting remembers.
    pub greylist: usize,
    /// Return addresses whose uses are counted.
    pub returns: usize,
}

/// A connection, by what it is for.
enum Conn {
    Inbound(Box<Inbound>),
    Courier(Box<Courier>),
    Hook(Box<Asking>),
    Control(Box<Control>),
    Visit(Box<Visit>),
}

/// Whose job a worker does.
enum JobOwner {
    /// The signatures of a message that is being accepted.
    Sign { conn: ConnId },
    /// The signatures of a notification.
    SignNotice { notice: u64 },
    /// The signatures that a message came with.
    Verify { conn: ConnId, id: QueueId },
    /// A password.
    Password { number: u64 },
}

/// What an engine starts with.
pub struct Start {
    /// The configuration.
    pub config: Arc<Config>,
    /// Ids above all that the spool has seen.
    pub ids: IdSource,
    /// Chance.
    pub entropy: Box<dyn Entropy + Send>,
    /// Rewrites the senders of what is forwarded.
    pub rewriter: Rewriter,
}

impl Engine {
    /// An engine with an empty queue; [`Engine::recover`] fills it.
    pub fn new(start: Start, now: Now) -> Self {
        let Start {
            config,
            ids,
            mut entropy,
            rewriter,
        } = start;
        let mut engine = Self {
            settings: settings(&config),
            resolver: Resolver::new(config.dns.clone()),
            shares: Shares::new(|resource| capacity(&config, None, resource)),
            logins: Logins::new(&mut *entropy),
            strangers: Strangers::new(&mut *entropy, now),
            config,
            entropy,
            rewriter,
            conns: Connections::with_capacity(SESSIONS_MAX_DEFAULT),
            actions: VecDeque::new(),
            timers: Timers::with_capacity(SESSIONS_MAX_DEFAULT),
            questions: Questions::default(),
            index: Index::default(),
            hops: Hops::default(),
            ids,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            jobs: HashMap::new(),
            next_job: 0,
            spilling: HashMap::new(),
            blocks: Blocks::default(),
            crowd: Crowd::default(),
            looked_at: 0,
            verifications: Verifications::default(),
            hooks: Hooks::default(),
            notices: Notices::default(),
            recording: Recording::default(),
            put_off: Vec::new(),
            free_space: None,
            free_without_unfinished: None,
            counters: Counters::default(),
            observed: Observed::default(),
            visits: Visits::default(),
            heaviest: Workload::default(),
            log_level: Level::Info,
            operator: ROOT,
            following: Following::default(),
            repeats: Repeats::default(),
            stopping: false,
        };
        engine
            .timers
            .set(now.instant.after(SWEEP_INTERVAL), Timer::Sweep);
        engine
    }

    /// From now on, makes log lines of this level and those that are more urgent.
    pub fn set_log_level(&mut self, level: Level) {
        self.log_level = level;
    }

    /// Names the account that the relay runs as.
    pub fn set_operator(&mut self, uid: u32) {
        self.operator = uid;
    }

    /// Hands out ids from here on: above all that recovery saw, which is known once it is over.
    pub fn set_ids(&mut self, ids: IdSource) {
        self.ids = ids;
    }

    /// Takes back a message that recovery found.
    pub fn recover(&mut self, recovered: Recovered, now: Now) {
        self.queue_recovered(recovered, now);
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.observed.set_time(now.wall);
        let ((), done) = workload::during(|| {
            self.route(event, now);
            self.settle(now);
        });
        self.heaviest = self.heaviest.max(done);
    }

    /// The greatest counts of work in one turn so far: of what one event led to, or one deadline.
    pub fn heaviest_turn(&self) -> Workload {
        self.heaviest
    }

    /// Hands out what one participant left for another: answers that are there, hops that can send.
    fn settle(&mut self, now: Now) {
        self.make_room(now);
        self.prune_timers();
        if self.repeats.plan() {
            self.timers
                .set(now.instant.after(LOG_REPEAT_INTERVAL), Timer::Repeats);
        }
        loop {
            let answered = self.hand_out_answers(now);
            let dispatched = self.dispatch_hops(now);
            if !answered && !dispatched {
                return self.start_hooks(now);
            }
        }
    }

    fn route(&mut self, event: Event<'_>, now: Now) {
        match event {
            Event::Connected { conn } => match self.conns.take(conn) {
                Some(Conn::Courier(courier)) => self.courier_connected(conn, courier, now),
                Some(Conn::Hook(asking)) => self.hook_connected(conn, asking),
                Some(other) => self.conns.put(conn, other),
                None => {}
            },
            Event::Bytes { conn, bytes } => self.on_bytes(conn, bytes, now),
            Event::Drained { conn } => self.on_drained(conn, now),
            Event::Closed { conn, cause } => match self.conns.take(conn) {
                Some(Conn::Inbound(inbound)) => self.inbound_lost(conn, *inbound, &cause, now),
                Some(Conn::Courier(courier)) => self.courier_lost(conn, courier, &cause, now),
                Some(Conn::Hook(asking)) => self.hook_lost(conn, &asking, now),
                Some(Conn::Control(_)) => drop(self.conns.remove(conn)),
                Some(Conn::Visit(_)) => self.visit_over(conn),
                None => {}
            },
            Event::TlsReady { conn, session } => match self.conns.take(conn) {
                Some(Conn::Inbound(inbound)) => self.inbound_tls(conn, inbound, session, now),
                Some(Conn::Courier(courier)) => self.courier_tls(conn, courier, session, now),
                Some(Conn::Visit(visit)) => self.visit_tls(conn, visit),
                // It speaks when it is ready to.
                Some(other) => self.conns.put(conn, other),
                None => {}
            },
            Event::Stored(completion) => self.on_stored(completion, now),
            Event::Read {
                reader: Reader::Conn(conn),
                result,
            } => match self.conns.take(conn) {
                Some(Conn::Courier(courier)) => self.courier_read(conn, courier, result, now),
                Some(Conn::Control(control)) => self.control_read(conn, control, result, now),
                Some(Conn::Hook(asking)) => self.hook_read(conn, asking, result, now),
                Some(other) => self.conns.put(conn, other),
                None => {}
            },
            Event::Read {
                reader: Reader::Notice(notice),
                result,
            } => self.notice_read(notice, result, now),
            Event::Read {
                reader: Reader::Reroute(id),
                result,
            } => self.reroute_read(id, result, now),
            Event::Read {
                reader: Reader::Untried { id, hop },
                result,
            } => self.waiting_read(id, hop, result, now),
            Event::DnsDatagram {
                socket,
                from,
                bytes,
            } => {
                self.resolver
                    .on_datagram(socket, from, bytes, now.instant, &mut *self.entropy);
            }
            Event::DnsBytes { socket, bytes } => {
                self.resolver
                    .on_stream_bytes(socket, bytes, now.instant, &mut *self.entropy);
            }
            Event::DnsFailed { socket } => {
                self.resolver
                    .on_failed(socket, now.instant, &mut *self.entropy);
            }
            Event::Kept { conn, bytes } => match self.conns.take(conn) {
                Some(Conn::Visit(visit)) => self.visit_kept(conn, &visit, bytes, now),
                Some(other) => self.conns.put(conn, other),
                None => {}
            },
            Event::Worked { job, result } => self.on_worked(job, result, now),
            Event::ReloadFailed { conn, errors } => self.reload_failed(conn, &errors, now),
        }
    }

    /// Time has passed: fires what is due. Call it when [`Engine::deadline`] is reached.
    pub fn expire(&mut self, now: Now) {
        self.observed.set_time(now.wall);
        while let Some((at, timer)) = self.timers.pop(now.instant) {
            let ((), done) = workload::during(|| self.fire(timer, at, now));
            self.heaviest = self.heaviest.max(done);
        }
        if self
            .resolver
            .deadline()
            .is_some_and(|deadline| deadline <= now.instant)
        {
            self.resolver.expire(now.instant, &mut *self.entropy);
        }
        self.settle(now);
    }

    fn fire(&mut self, timer: Timer, at: Instant, now: Now) {
        match timer {
            Timer::Conn(conn) => self.conn_expired(conn, at, now),
            Timer::Hop(hop) => self.hop_resumed(hop, now),
            Timer::Due(id, hop) => self.message_due(id, hop, now),
            Timer::Warn(id) => self.warn_of_delay(id, now),
            Timer::Record => self.record_again(now),
            Timer::Sweep => self.sweep(now),
            Timer::Repeats => {
                for line in self.repeats.end() {
                    self.log(line);
                }
            }
        }
    }

    /// When [`Engine::expire`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.timers.deadline(), self.resolver.deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether bytes of this connection may be read now.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        match self.conns.get(conn) {
            Some(Conn::Inbound(inbound)) => inbound.wants_input(),
            Some(Conn::Courier(_) | Conn::Hook(_)) => true,
            Some(Conn::Control(control)) => control.wants_input(),
            Some(Conn::Visit(visit)) => visit.wants_input(),
            None => false,
        }
    }

    /// A new configuration is in force; nothing that goes on is interrupted.
    ///
    /// `unchanged` names the keys that stay as they were until a restart.
    pub fn reconfigure(
        &mut self,
        config: Arc<Config>,
        conn: Option<ConnId>,
        unchanged: &[&str],
        now: Now,
    ) {
        self.settings = settings(&config);
        self.resolver.set_servers(config.dns.clone());
        let rerouted = self.config.routes != config.routes;
        self.config = config;
        self.size_pools();
        if rerouted {
            self.reroute();
        }
        self.log(Line::new(Level::Info, "reloaded"));
        if let Some(conn) = conn {
            self.control_restart_needed(conn, unchanged);
            self.control_reloaded(conn, &[], now);
        }
        self.settle(now);
    }

    /// From now on, names are looked up with these servers.
    pub fn set_dns_servers(&mut self, servers: crate::dns::Servers) {
        self.resolver.set_servers(servers);
    }

    /// Stops taking mail: sessions that are between messages end, those inside one may finish.
    pub fn stop(&mut self, now: Now) {
        self.stopping = true;
        for conn in self.conns.ids() {
            match self.conns.take(conn) {
                Some(Conn::Inbound(inbound)) => self.inbound_stop(conn, inbound, now),
                Some(Conn::Courier(courier)) => self.courier_stop(conn, courier, now),
                Some(hook @ Conn::Hook(_)) => self.conns.put(conn, hook),
                Some(Conn::Control(_)) => {
                    self.conns.remove(conn);
                    self.actions.push_back(Action::Close { conn });
                }
                Some(Conn::Visit(_)) => {
                    self.visit_over(conn);
                    self.actions.push_back(Action::Abort { conn });
                }
                None => {}
            }
        }
    }

    /// Server sessions.
    fn sessions(&self) -> usize {
        usize::try_from(self.shares.of(Resource::Sessions).used()).unwrap_or(usize::MAX)
    }

    /// Delivery sessions.
    fn couriers(&self) -> usize {
        usize::try_from(self.shares.of(Resource::Deliveries).used()).unwrap_or(usize::MAX)
    }

    /// Bytes in buffers whose size a peer decides.
    fn memory(&self) -> usize {
        usize::try_from(self.shares.of(Resource::Memory).used()).unwrap_or(usize::MAX)
    }

    /// The configuration or the disk has changed, and with it how much there is.
    fn size_pools(&mut self) {
        let (config, free) = (&self.config, self.free_without_unfinished);
        (self.shares).set_capacities(|resource| capacity(config, free, resource));
    }

    /// Whether everything that was mid-message when [`Engine::stop`] was called is finished.
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.conns.is_empty() && self.tickets.is_empty()
    }

    /// The numbers since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Notes how long the turn took that began `now`.
    pub fn note_turn(&mut self, took: Duration, now: Now) {
        let longest = self.counters.longest_turn;
        if longest.is_none_or(|longest| took > longest.took) {
            let at = now.wall;
            self.counters.longest_turn = Some(Turn { took, at });
        }
    }

    /// Notes how long the journal took to write and sync a batch.
    pub fn note_sync(&mut self, took: Duration) {
        self.observed.synced(took);
    }

    /// Notes which certificates are served.
    pub fn note_certificates(&mut self, certificates: Vec<CertificateLeft>) {
        self.observed.certificates(certificates);
    }

    /// How many messages are queued.
    pub fn queue_len(&self) -> usize {
        self.index.len()
    }

    /// The ids of the queued messages, oldest first.
    pub fn queue_ids(&self) -> Vec<QueueId> {
        self.index.ids()
    }

    /// Bytes in buffers whose size peers decide, and connections in both directions.
    pub fn load(&self) -> (usize, usize) {
        (self.memory(), self.conns.len())
    }

    /// Units of each resource that are handed out, and names that hold some.
    pub fn held(&self) -> [(Resource, u64, usize); Resource::ALL.len()] {
        Resource::ALL.map(|resource| {
            let pool = self.shares.of(resource);
            (resource, pool.used(), pool.holders())
        })
    }

    /// How large the tables are now.
    pub fn tables(&self) -> Tables {
        let (questions, answers) = self.resolver.counts();
        let (notices_at_work, notices) = self.notices.counts();
        Tables {
            memory: self.memory(),
            connections: self.conns.len(),
            couriers: self.couriers(),
            hops: self.hops.len(),
            timers: self.timers.len(),
            jobs: self.jobs.len(),
            verifications: self.verifications.waiting(),
            questions,
            answers,
            notices_at_work,
            notices,
            unrecorded: self.put_off.len(),
            commits: self.tickets.len(),
            spilling: self.spilling.len(),
            blocks: self.blocks.len(),
            crowd: self.crowd.len(),
            hooks: self.hooks.len(),
            queued: self.index.len(),
            conduct: self.strangers.conduct.len(),
            greylist: self.strangers.greylist.len(),
            returns: self.strangers.returns.len(),
        }
    }

    fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => self.inbound_bytes(conn, inbound, bytes, now),
            Some(Conn::Courier(courier)) => self.courier_bytes(conn, courier, bytes, now),
            Some(Conn::Control(control)) => self.control_bytes(conn, control, bytes, now),
            Some(Conn::Visit(visit)) => self.visit_bytes(conn, visit, bytes, now),
            Some(Conn::Hook(asking)) => self.hook_bytes(conn, asking, bytes, now),
            None => {}
        }
    }

    fn on_drained(&mut self, conn: ConnId, now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => self.inbound_drained(conn, inbound, now),
            Some(Conn::Courier(courier)) => self.courier_drained(conn, courier, now),
            Some(Conn::Control(control)) => self.control_drained(conn, control, now),
            Some(visit @ Conn::Visit(_)) => self.conns.put(conn, visit),
            Some(Conn::Hook(asking)) => self.hook_drained(conn, asking),
            None => {}
        }
    }

    fn conn_expired(&mut self, conn: ConnId, at: Instant, now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => self.inbound_expired(conn, inbound, at, now),
            Some(Conn::Courier(courier)) => self.courier_expired(conn, courier, at, now),
            Some(Conn::Hook(asking)) => self.hook_expired(conn, asking, now),
            Some(Conn::Visit(visit)) => self.visit_expired(conn, visit, now),
            Some(other) => self.conns.put(conn, other),
            None => {}
        }
    }

    fn on_worked(&mut self, job: JobId, result: event::WorkResult, now: Now) {
        match self.jobs.remove(&job) {
            Some(JobOwner::Sign { conn }) => self.inbound_signed(conn, result, now),
            Some(JobOwner::SignNotice { notice }) => self.notice_signed(notice, result, now),
            Some(JobOwner::Verify { conn, id }) => self.inbound_verified(conn, id, result, now),
            Some(JobOwner::Password { number }) => self.password_checked(number, result, now),
            None => {}
        }
    }

    /// Keeps the heap of timers in proportion to what they are for: owners that are gone leave theirs behind.
    fn prune_timers(&mut self) {
        if self.timers.have_grown() {
            let (conns, index) = (&self.conns, &self.index);
            self.timers.retain(|timer| match timer {
                Timer::Conn(conn) => conns.is_live(conn),
                Timer::Due(id, _) | Timer::Warn(id) => index.get(id).is_some(),
                Timer::Hop(_) | Timer::Record | Timer::Sweep | Timer::Repeats => true,
            });
        }
    }

    fn sweep(&mut self, now: Now) {
        self.logins.sweep(now.instant);
        self.strangers.sweep(now.instant);
        self.observe_history(now);
        self.timers
            .set(now.instant.after(SWEEP_INTERVAL), Timer::Sweep);
    }

    fn work(&mut self, owner: JobOwner, work: Work) {
        let job = JobId(self.next_job);
        self.next_job = self.next_job.wrapping_add(1);
        self.jobs.insert(job, owner);
        self.actions.push_back(Action::Work { job, work });
    }

    fn store(&mut self, command: Command) {
        self.actions.push_back(Action::Store(command));
    }

    fn ticket(&mut self, committing: Committing) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.tickets.insert(ticket, committing);
        ticket
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.actions.push_back(Action::Send { conn, bytes });
        }
    }

    fn log(&mut self, line: Line) {
        self.tell_followers(&line);
        self.observed.logged(&line);
        if line.level <= self.log_level {
            self.actions.push_back(Action::Log(line));
        }
    }

    /// Logs what a client can have us say over and over.
    fn log_refusal(&mut self, line: Line) {
        if line.level > self.log_level || self.repeats.is_new(&line) {
            self.log(line);
        }
    }

    /// Logs a step on the way, which is not even made where nobody reads it.
    fn debug(&mut self, make: impl FnOnce() -> Line) {
        if self.log_level >= Level::Debug {
            let line = make();
            self.actions.push_back(Action::Log(line));
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        hostname: config.hostname.as_str().into(),
        message_bytes_max: config.max_message_size,
        recipients_max: config.limits.recipients,
        long_lines: config.long_lines,
    }
}

/// How often tables are swept of what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
