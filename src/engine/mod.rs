//! The whole relay as one state machine: events in, actions out.
//!
//! ```text
//!            Event                                             Action
//!              |                                                 ^
//!           Engine: routes, hands notes on                       |
//!              |                                                 |
//!   server --Append--> spool --Queued--> delivery --Record--> spool
//!      ^                 |                  | '--Notify--> dsn --Append, Record--> spool
//!      '-----Stored------'                  |
//!                               control, status: look at all of it
//! ```
//!
//! | participant | what it owns |
//! | --- | --- |
//! | `server` | SMTP server sessions: acceptance of a message, sender authentication, AUTH, limits for clients, the hook |
//! | `spool` | what is on its way to the disk, and who waits for it |
//! | `delivery` | next hops, what waits for them, delivery sessions and their results |
//! | `dsn` | DSNs that are being made |
//! | `control` | the queue tools |
//! | `status` | readers of the page, and what is counted for it |
//!
//! A participant owns its tables, is handed `effects::Effects` with each event, and tells another what it has to know by
//! a `note::Note`; it cannot name another's state. What they want done leaves as actions, which `driver` alone takes apart
//! and has a world do. This file decides nothing. Decisions are made below, in `smtp`,
//! `policy`, `dns`, `mail` and `queue`. Invariants: no 250 before `Committed`; a recipient is tried by one delivery session
//! at a time, and not again before its delivery result is committed; every table has a ceiling.

mod connections;
pub mod control;
mod counters;
pub mod damage;
mod delivery;
pub mod driver;
pub mod drop_folder;
mod dsn;
mod effects;
pub mod event;
mod following;
pub mod log;
mod lookups;
mod note;
mod repeats;
mod server;
mod shares;
mod signing;
mod spool;
mod stats;
pub mod status;
mod timers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::srs::Rewriter;
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::entropy::Entropy;
use crate::limits::{LOG_REPEAT_INTERVAL, SESSIONS_MAX_DEFAULT};
use crate::policy::shares::{Resource, Shares};
use crate::queue::{IdSource, Index, ReadContent, ReadError};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::workload::{self, Workload};

use connections::{ConnEvent, Connections, Owner};
use control::{Control, Stats};
pub use counters::{ClientTables, Counters, DsnTables, Tables};
use delivery::Delivery;
use dsn::Dsns;
use effects::{Disk, Effects, JobOwner, Jobs, Logging, ROOT};
use event::{Action, ConnId, Event, JobId, Listener, MessageReader, Peer, Reloaded, WorkResult};
use following::Following;
use log::{Level, Line};
use lookups::Lookups;
use note::Note;
use repeats::Repeats;
use server::Server;
use shares::capacity;
use spool::Spool;
use status::observed::Observed;
use status::{Door, RelayStatus, Visits};
use timers::{Timer, Timers};

/// The relay.
pub struct Engine {
    fx: Effects,
    server: Server,
    delivery: Delivery,
    spool: Spool,
    dsns: Dsns,
    control: Control,
    visits: Visits,
    /// The greatest counts of one turn.
    heaviest: Workload,
}

/// The configuration, the clock's first reading and the source of chance that an engine begins with.
pub struct EngineStart {
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
    /// An engine with an empty queue; [`Event::Recovered`] fills it.
    pub fn new(start: EngineStart, now: Now) -> Self {
        let EngineStart {
            config,
            ids,
            entropy,
            rewriter,
        } = start;
        let mut fx = Effects {
            now,
            shares: Shares::new(|resource| capacity(&config, None, resource)),
            lookups: Lookups::new(config.dns.servers.clone()),
            config,
            entropy,
            conns: Connections::with_capacity(SESSIONS_MAX_DEFAULT),
            actions: VecDeque::new(),
            timers: Timers::with_capacity(SESSIONS_MAX_DEFAULT),
            index: Index::default(),
            ids,
            jobs: Jobs::default(),
            disk: Disk::default(),
            counters: Counters::default(),
            observed: Observed::default(),
            logging: Logging {
                level: Level::Info,
                repeats: Repeats::default(),
                following: Following::default(),
            },
            notes: VecDeque::new(),
            operator: ROOT,
            stopping: false,
        };
        fx.timers
            .set(now.instant.after(SWEEP_INTERVAL), Timer::Sweep);
        Self {
            server: Server::new(rewriter, &mut fx),
            delivery: Delivery::default(),
            spool: Spool::default(),
            dsns: Dsns::default(),
            control: Control::default(),
            visits: Visits::default(),
            heaviest: Workload::default(),
            fx,
        }
    }

    /// From now on, makes log lines of this level and those that are more urgent.
    pub fn set_log_level(&mut self, level: Level) {
        self.fx.logging.level = level;
    }

    /// Names the account that the relay runs as.
    pub fn set_operator(&mut self, uid: u32) {
        self.fx.operator = uid;
    }

    /// A connection was accepted; `Err` is what to send before it is closed at once.
    pub fn accept(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Vec<u8>> {
        self.begin(now);
        let result = self.admit(listener, peer);
        self.settle();
        result.map_err(|reply| {
            let mut bytes = Vec::new();
            reply.write(&mut bytes);
            bytes
        })
    }

    fn admit(&mut self, listener: Listener, peer: Peer) -> Result<ConnId, Reply> {
        let fx = &mut self.fx;
        if fx.stopping {
            return Err(Reply::SHUTTING_DOWN);
        }
        let client = match peer {
            Peer::Network { remote, .. } => Some(remote.ip()),
            Peer::Process { .. } => None,
        };
        match listener {
            Listener::Control => Ok(self.control.admit(peer, fx)),
            Listener::Status => Ok(self.visits.admit(Door::Status, None, fx)),
            Listener::Https => Ok(self.visits.admit(Door::Https, client, fx)),
            Listener::Smtp
            | Listener::Proxy
            | Listener::Submission
            | Listener::Submissions
            | Listener::Submit => self.server.admit(listener, peer, fx),
        }
    }

    /// Whether a tool of this user may connect: operators always may, other users as far as there is room for them.
    pub fn admits_tool(&mut self, uid: u32) -> bool {
        self.control.admits_tool(uid, &mut self.fx)
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.begin(now);
        let is_settled_later = matches!(
            event,
            Event::Recovered(_) | Event::TurnOver(_) | Event::Synced(_) | Event::Certificates(_)
        );
        let ((), done) = workload::during(|| {
            self.route(event);
            match is_settled_later {
                // Of what recovery finds nothing is sent before it is over: until then it is not known which ids are free.
                true => self.hand_on(),
                false => self.settle(),
            }
        });
        self.heaviest = self.heaviest.max(done);
    }

    fn begin(&mut self, now: Now) {
        self.fx.now = now;
        self.fx.observed.set_time(now.wall);
    }

    fn route(&mut self, event: Event<'_>) {
        let fx = &mut self.fx;
        let now = fx.now.instant;
        match event {
            Event::Connected { conn } => self.tell(conn, ConnEvent::Connected),
            Event::Bytes { conn, bytes } => self.tell(conn, ConnEvent::Bytes(bytes)),
            Event::Drained { conn } => self.tell(conn, ConnEvent::Drained),
            Event::Closed { conn, cause } => self.tell(conn, ConnEvent::Closed(cause)),
            Event::TlsReady { conn, session } => self.tell(conn, ConnEvent::TlsReady(session)),
            Event::Kept { conn, bytes } => self.tell(conn, ConnEvent::Kept(bytes)),
            Event::Stored(completion) => self.spool.on_stored(completion, fx),
            Event::Read { reader, result } => self.read(reader, result),
            Event::DnsDatagram {
                socket,
                from,
                bytes,
            } => fx
                .lookups
                .on_datagram(socket, from, bytes, now, &mut *fx.entropy),
            Event::DnsBytes { socket, bytes } => {
                fx.lookups
                    .on_stream_bytes(socket, bytes, now, &mut *fx.entropy);
            }
            Event::DnsFailed { socket } => fx.lookups.on_failed(socket, now, &mut *fx.entropy),
            Event::Worked { job, result } => self.worked(job, result),
            Event::Reloaded(reloaded) => self.reconfigure(&reloaded),
            Event::ReloadFailed { conn, errors } => {
                let delivery = &self.delivery;
                self.control.on_reload_failed(conn, &errors, delivery, fx);
            }
            Event::Recovered(recovered) => self.delivery.on_recovered(*recovered, fx),
            Event::RecoveryOver { ids, untold } => {
                fx.ids = ids;
                damage::report_damage(&untold, fx);
            }
            Event::SetAside(lines) => damage::report_set_aside(&lines, fx),
            Event::Greylist(image) => self.server.restore_greylist(&image, fx),
            Event::DnsServers(servers) => fx.lookups.set_servers(servers),
            Event::Synced(took) => fx.observed.synced(took),
            Event::Certificates(certificates) => fx.observed.certificates(certificates),
            Event::TurnOver(took) => fx.observed.turn_over(took),
            Event::Stop => self.stop(),
        }
    }

    /// A part of a queued message was read.
    fn read(&mut self, reader: MessageReader, result: Result<ReadContent, ReadError>) {
        let fx = &mut self.fx;
        match reader {
            MessageReader::Conn(conn) => self.tell(conn, ConnEvent::Read(result)),
            MessageReader::Dsn(dsn) => self.dsns.on_read(dsn, result, &self.delivery, fx),
            MessageReader::Reroute(id) => self.delivery.reroute_read(id, result, fx),
            MessageReader::Untried { id, hop } => self.delivery.waiting_read(id, hop, result, fx),
        }
    }

    /// A worker is done.
    fn worked(&mut self, job: JobId, result: WorkResult) {
        let fx = &mut self.fx;
        match fx.jobs.end(job) {
            Some(JobOwner::Sign { conn, id }) => self.server.on_signed(conn, id, result, fx),
            Some(JobOwner::SignDsn { dsn }) => self.dsns.on_signed(dsn, result, fx),
            Some(JobOwner::Verify { conn, id }) => {
                self.server.on_verified(job, (conn, id), result, fx);
            }
            Some(JobOwner::Password { number }) => self.server.password_checked(number, result, fx),
            None => {}
        }
    }

    fn reconfigure(&mut self, reloaded: &Reloaded) {
        let Reloaded {
            config,
            conn,
            unchanged,
        } = reloaded;
        let fx = &mut self.fx;
        fx.lookups.set_servers(config.dns.servers.clone());
        let rerouted = fx.config.routes != config.routes;
        fx.config = Arc::clone(config);
        self.server.reconfigure(fx);
        fx.size_pools();
        if rerouted {
            self.delivery.reroute(fx);
        }
        fx.log(Line::new(Level::Info, "reloaded"));
        if let Some(conn) = *conn {
            self.control.tell_restart_needed(conn, unchanged, fx);
            self.control.on_reloaded(conn, &[], &self.delivery, fx);
        }
    }

    fn stop(&mut self) {
        self.fx.stopping = true;
        for conn in self.fx.conns.ids() {
            self.tell(conn, ConnEvent::Stop);
            self.hand_on();
        }
    }

    /// Tells the owner of a connection what has happened to it. One that is gone has none.
    fn tell(&mut self, conn: ConnId, event: ConnEvent<'_>) {
        let fx = &mut self.fx;
        match fx.conns.owner(conn) {
            Some(Owner::Server) => self.server.on_session(conn, event, fx),
            Some(Owner::Hook) => self.server.on_hook(conn, event, fx),
            Some(Owner::Delivery) => self.delivery.on_session(conn, event, fx),
            Some(Owner::Control) => self.control.on_tool(conn, event, &self.delivery, fx),
            Some(Owner::Page) => self.visits.on_visit(conn, event, &self.delivery, fx),
            None => {}
        }
    }

    /// Hands on what one participant left for another, until nothing is left.
    fn hand_on(&mut self) {
        while let Some(note) = self.fx.notes.pop_front() {
            self.hand(note);
        }
    }

    fn hand(&mut self, note: Note) {
        let fx = &mut self.fx;
        match note {
            Note::Append(new) => self.spool.append(*new, fx),
            Note::Record { record, session } => self.spool.record(record, session, fx),
            Note::Finished { id } => self.spool.finish(id, fx),
            Note::Forgotten { id } => self.spool.forget(id),
            Note::Mark { id, held, tool } => self.spool.mark(id, held, tool, fx),
            Note::Remove { id, removal } => self.spool.remove(id, removal, fx),
            Note::Stored {
                conn,
                id,
                result,
                claim,
            } => self.server.on_stored(conn, id, result, claim, fx),
            Note::BodyWritten { id, result } => self.server.body_written(id, result, fx),
            Note::Space { free } => self.server.on_space(free, fx),
            Note::Queued(message) => self.delivery.on_queued(*message, fx),
            Note::Recorded { record, session } => {
                let id = record.id;
                self.delivery.on_recorded(record, fx);
                if let Some(session) = session {
                    self.delivery.go_on(session, id, fx);
                }
            }
            Note::GoOn { session, id } => self.delivery.go_on(session, id, fx),
            Note::Done { id, by } => self.delivery.on_done(id, by, fx),
            Note::Marked { id, held } => self.delivery.on_marked(id, held, fx),
            Note::Flush { ids } => self.delivery.on_flush(&ids, fx),
            Note::DiskWorks => self.delivery.on_disk_works(),
            Note::Notify(unrecorded) => self.dsns.notify(unrecorded, fx),
            Note::Changed { tool, id, result } => {
                self.control
                    .on_changed(tool, (id, result), &self.delivery, fx);
            }
            Note::Followed { conn, text } => self.control.on_followed(conn, text, fx),
        }
    }

    /// Ends a turn: whatever one participant left for another is handed on, answers that are there are handed out, and
    /// what can be sent is sent.
    fn settle(&mut self) {
        self.hand_on();
        self.server.make_room(&mut self.fx);
        self.prune_timers();
        if self.fx.logging.repeats.plan() {
            let end = self.fx.now.instant.after(LOG_REPEAT_INTERVAL);
            self.fx.timers.set(end, Timer::Repeats);
        }
        loop {
            self.hand_on();
            let answered = self.hand_out_answers();
            let dispatched = self.delivery.dispatch_hops(&mut self.fx);
            if !answered && !dispatched && self.fx.notes.is_empty() {
                break;
            }
        }
        self.server.start_hooks(&mut self.fx);
    }

    /// Hands out the answers that the resolver has; says whether there were any.
    fn hand_out_answers(&mut self) -> bool {
        let mut any = false;
        while let Some(answered) = self.fx.next_answer() {
            any = true;
            for conn in answered.conns {
                self.tell(
                    conn,
                    ConnEvent::Answer(&answered.question, &answered.answer),
                );
            }
        }
        any
    }

    /// Time has passed: fires what is due. Call it when [`Engine::deadline`] is reached.
    pub fn expire(&mut self, now: Now) {
        self.begin(now);
        while let Some((at, timer)) = self.fx.timers.pop(now.instant) {
            let ((), done) = workload::during(|| {
                self.fire(timer, at);
                self.hand_on();
            });
            self.heaviest = self.heaviest.max(done);
        }
        let fx = &mut self.fx;
        fx.lookups.expire(now.instant, &mut *fx.entropy);
        self.settle();
    }

    fn fire(&mut self, timer: Timer, at: Instant) {
        let fx = &mut self.fx;
        match timer {
            Timer::Conn(conn) => self.tell(conn, ConnEvent::Timeout(at)),
            Timer::Hop(hop) => self.delivery.hop_resumed(hop, fx),
            Timer::Due(id, hop) => self.delivery.message_due(id, hop, fx),
            Timer::Warn(id) => self.dsns.warn_of_delay(id, fx),
            Timer::Record => self.spool.record_again(fx),
            Timer::Sweep => {
                self.server.sweep(fx);
                status::observe_history(fx);
                let next = fx.now.instant.after(SWEEP_INTERVAL);
                fx.timers.set(next, Timer::Sweep);
            }
            Timer::Repeats => {
                for line in fx.logging.repeats.end() {
                    fx.log(line);
                }
            }
        }
    }

    /// When [`Engine::expire`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.fx.timers.deadline(), self.fx.lookups.deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The next thing to do; `driver` has it done.
    fn next_action(&mut self) -> Option<Action> {
        self.fx.actions.pop_front()
    }

    /// Whether bytes of this connection may be read now.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        match self.fx.conns.owner(conn) {
            Some(Owner::Server) => self.server.wants_input(conn),
            Some(Owner::Delivery | Owner::Hook) => true,
            Some(Owner::Control) => self.control.wants_input(conn),
            Some(Owner::Page) => self.visits.wants_input(conn),
            None => false,
        }
    }

    /// Whether everything that was mid-message at [`Event::Stop`] is finished.
    pub fn is_stopped(&self) -> bool {
        let (tickets, _) = self.spool.counts();
        self.fx.stopping && self.fx.conns.is_empty() && tickets == 0
    }

    /// What is to be remembered of clients until the next run.
    pub fn greylist_image(&self) -> Option<Vec<u8>> {
        self.server.greylist_image()
    }

    /// The numbers since the start.
    pub fn counters(&self) -> Counters {
        self.fx.counters
    }

    /// Numbers of now and since the start.
    pub fn stats(&self) -> Stats {
        stats::stats(&self.delivery, &self.fx)
    }

    /// The state of the relay. Visits each queued message once.
    pub fn status(&mut self, now: Now) -> RelayStatus {
        self.begin(now);
        status::status(&self.delivery, &mut self.fx)
    }

    /// Whether a client is a tool of the operator's that tries this host.
    pub fn is_probe(&self, client: IpAddr) -> bool {
        self.fx.is_probe(client)
    }

    /// The greatest counts of work in one turn so far: of what one event led to, or one deadline.
    pub fn heaviest_turn(&self) -> Workload {
        self.heaviest
    }

    /// How many messages are queued.
    pub fn queue_len(&self) -> usize {
        self.fx.index.len()
    }

    /// The ids of the queued messages, oldest first.
    pub fn queue_ids(&self) -> Vec<QueueId> {
        self.fx.index.ids()
    }

    /// Bytes in buffers whose size peers decide, and connections in both directions.
    pub fn load(&self) -> (usize, usize) {
        (self.fx.memory(), self.fx.conns.len())
    }

    /// Units of each resource that are handed out, and names that hold some.
    pub fn held(&self) -> [(Resource, u64, usize); Resource::ALL.len()] {
        Resource::ALL.map(|resource| {
            let pool = self.fx.shares.of(resource);
            (resource, pool.used(), pool.holders())
        })
    }

    /// Whether each note is handed on: so it is after each event, whatever that led to.
    pub fn is_settled(&self) -> bool {
        self.fx.notes.is_empty()
    }

    /// How large the tables are now.
    pub fn tables(&self) -> Tables {
        let fx = &self.fx;
        let (questions, answers) = fx.lookups.counts();
        let (at_work, waiting) = self.dsns.counts();
        let (commits, unrecorded) = self.spool.counts();
        let server = self.server.sizes();
        Tables {
            memory: fx.memory(),
            connections: fx.conns.len(),
            deliveries: fx.deliveries(),
            hops: self.delivery.hops(),
            timers: fx.timers.len(),
            jobs: fx.jobs.len(),
            verifications: server.verifications,
            questions,
            answers,
            dsns: DsnTables { at_work, waiting },
            unrecorded,
            commits,
            spilling: server.spilling,
            blocks: server.blocks,
            evictable: server.evictable,
            hooks: server.hooks,
            queued: fx.index.len(),
            clients: server.clients,
        }
    }

    /// Keeps the heap of timers in proportion to what they are for: owners that are gone leave theirs behind.
    fn prune_timers(&mut self) {
        let fx = &mut self.fx;
        if fx.timers.have_grown() {
            let (conns, index) = (&fx.conns, &fx.index);
            fx.timers.retain(|timer| match timer {
                Timer::Conn(conn) => conns.is_live(conn),
                Timer::Due(id, _) | Timer::Warn(id) => index.get(id).is_some(),
                Timer::Hop(_) | Timer::Record | Timer::Sweep | Timer::Repeats => true,
            });
        }
    }
}

/// How often tables are swept of what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
