//! The world: one clock, one agenda of events, and the engine.
//!
//! Everything follows from the seed. After each turn the world checks the limits of the engine's tables; the [`Ledger`]
//! and the disk's warden check everything else as it happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chopar::auth::srs::Rewriter;
use chopar::clock::{Instant, Now};
use chopar::config::{Config, ConfigError, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::dns::SocketId;
use chopar::engine::driver;
use chopar::engine::drop_folder::Settlement;
use chopar::engine::event::{ConnId, Event, JobId, Lost, MessageReader, WorkResult};
use chopar::engine::{Engine, EngineStart};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::limits::DNS_QUESTION_TIMEOUT;
use chopar::queue::{Journal, JournalCommand, JournalCompletion, ReadContent, ReadError};
use chopar::queue_id::QueueId;

use crate::bounds;
use crate::client::Sender;
use crate::disk::{Sabotage, WorldDisk, hold};
use crate::hook::{self, HookEnd};
use crate::ledger::Ledger;
use crate::local::DropFolder;
use crate::operator::Operator;
use crate::reloads::Prober;
use crate::remote::{Mood, Remote};
use crate::rot::Hit;
use crate::rule::{Rule, check};
use crate::tally::Tally;

/// The faults of a world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Faults {
    Calm,
    /// Faults of servers, connections and name servers.
    Network,
    /// Also kills and power losses of the relay.
    Power,
    /// Also a disk that fills up and fails.
    Disk,
    /// As [`Faults::Power`], and unauthenticated clients write to forwarded addresses.
    UnauthenticatedClients,
    /// As [`Faults::Power`], and the spool has damaged bytes at each start.
    Rot,
    /// As [`Faults::Power`], and the wall clock is set while the relay runs and while it does not.
    Clock,
    /// As [`Faults::Disk`], and local programs leave messages in the drop folder.
    Local,
    /// As [`Faults::Disk`], and an operator works on the queue, over a disk that sometimes fails to read.
    Operator,
}

/// An event on the agenda.
pub(crate) enum Happening {
    /// A client connects.
    Arrive(usize),
    /// Bytes reach the relay.
    ToRelay(ConnId, Vec<u8>),
    /// The relay's bytes reach the other end.
    FromRelay(ConnId, Vec<u8>),
    /// The kernel has taken the relay's output.
    Drained(ConnId),
    /// A connection of the relay is established.
    Connected(ConnId),
    /// An unauthenticated client disconnects before the reply to its final dot.
    UnauthenticatedLeaves(ConnId),
    /// A connection breaks or ends.
    Lost(ConnId, Lost),
    /// The writer thread wakes up.
    Write,
    /// The writer's completions reach the event loop.
    Stored(Vec<JournalCompletion>),
    /// A name server answers by datagram.
    Answer(SocketId, SocketAddr, Vec<u8>),
    /// A name server answers by stream, or fails to.
    StreamAnswer(SocketId, Option<Vec<u8>>),
    /// A worker has finished.
    Work(JobId, WorkResult),
    /// The relay is killed; the disk keeps all writes.
    Kill,
    PowerCut,
    /// The disk begins to fail.
    DiskTrouble,
    /// The disk works again.
    DiskMended,
    /// The wall clock is set forward or back by this many seconds.
    ClockJump(i64),
    /// A program leaves a message in the drop folder.
    Leave(usize),
    /// A reload changes the maximum size.
    LocalReload(usize),
    /// The relay visits the drop folder.
    LookAtDrop,
    /// The relay settles a file of the drop folder that it has sent.
    SettleDrop(OsString, Settlement),
    /// The operator sends requests.
    Operate,
    /// The operator releases and flushes everything.
    LastVisit,
    /// The time limit of a tool's requests is over.
    OperatorExpects(ConnId),
    /// SIGHUP: the relay reads its configuration again.
    HangUpSignal,
    /// A client connects to find out which configuration is in force.
    Probe,
    HelperDies,
    HelperIsBack,
    /// A part of a message was read.
    Read(MessageReader, QueueId, Result<ReadContent, ReadError>),
}

impl Happening {
    /// Whether the event happens even if the relay is killed first.
    pub(crate) fn outlives_the_relay(&self) -> bool {
        matches!(
            self,
            Self::Arrive(_)
                | Self::Kill
                | Self::PowerCut
                | Self::DiskTrouble
                | Self::DiskMended
                | Self::ClockJump(_)
                | Self::Leave(_)
                | Self::Operate
                | Self::LastVisit
                | Self::HangUpSignal
                | Self::Probe
                | Self::HelperDies
                | Self::HelperIsBack
        )
    }
}

/// The other end of a connection.
pub(crate) enum End {
    Client(usize),
    Remote(Box<Remote>),
    Hook(Box<HookEnd>),
    Operator(Box<Operator>),
    Prober(Box<Prober>),
    /// The session of a file of the drop folder.
    Drop(OsString),
    /// A client that sends its planned input and ignores the replies.
    Attacker,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) entropy: SeededEntropy,
    pub(crate) config: Arc<Config>,
    pub(crate) disk: WorldDisk,
    pub(crate) journal: Option<Journal<WorldDisk>>,
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    /// Difference of the wall clock from the right time, in seconds.
    pub(crate) clock_error: i64,
    pub(crate) agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(crate) happenings: HashMap<u64, Happening>,
    order: u64,
    /// Commands that the writer has not taken.
    pub(crate) commands: Vec<JournalCommand>,
    pub(crate) writing: bool,
    pub(crate) ends: BTreeMap<ConnId, End>,
    /// Input that the relay does not want yet.
    pub(crate) stalled: BTreeMap<ConnId, Vec<u8>>,
    /// Arrival time of the last byte on its way to the relay.
    pub(crate) last_arrival: HashMap<ConnId, Instant>,
    /// Connections whose other end reads no more.
    pub(crate) blocked: BTreeSet<ConnId>,
    /// Number of pieces of output that the kernel has not taken.
    pub(crate) undrained: BTreeMap<ConnId, usize>,
    /// The message that a delivery session carries.
    pub(crate) carrying: HashMap<ConnId, QueueId>,
    /// The destination domain of each delivery session, including those that are still connecting.
    pub(crate) domains: BTreeMap<ConnId, String>,
    pub(crate) clients: Vec<Sender>,
    /// Sessions of attackers that the relay accepted.
    pub(crate) attackers: usize,
    /// Connections that the relay opened.
    pub(crate) connects: u64,
    /// Visits of the operator and of probing clients.
    pub(crate) operators: usize,
    pub(crate) reloads: u64,
    /// Errors in configurations.
    pub(crate) mistakes: BTreeSet<String>,
    pub(crate) helper_is_gone: bool,
    pub(crate) locals: DropFolder,
    /// Messages that cannot be read.
    pub(crate) unreadable: BTreeSet<QueueId>,
    /// Messages of which a read failed.
    pub(crate) reads_failed: BTreeSet<QueueId>,
    /// Returned messages, genuine and forged.
    pub(crate) returns: u64,
    /// Damaged bytes of the spool.
    pub(crate) rot_so_far: Vec<Hit>,
    /// Hosts with a mood of their own.
    pub(crate) moods: BTreeMap<u8, Mood>,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    /// Bodies that are streamed to the disk.
    pub(crate) streamed: BTreeMap<QueueId, Vec<u8>>,
    /// Events that the engine has not seen.
    pub(crate) following: VecDeque<Event<'static>>,
    /// Hash of all events and their times.
    history: u64,
}

/// Upper limit of a world's duration: longer than any message stays in the queue.
pub(crate) const LIFETIME: Duration = Duration::from_secs(6 * 86_400);

/// Start of the wall clock.
const EPOCH_S: i64 = 1_790_000_000;

/// A configuration with additional tables.
pub(crate) fn config(extra: &str, hook: bool) -> Arc<Config> {
    config_with("", "1 MiB", extra, hook)
}

/// The same with keys before all tables, and a maximum size.
pub(crate) fn config_with(head: &str, size: &str, extra: &str, hook: bool) -> Arc<Config> {
    parse(&folder_with(head, size, extra, hook)).expect("a configuration")
}

/// The folder of that configuration.
pub(crate) fn folder_with(head: &str, size: &str, extra: &str, hook: bool) -> Folder {
    let mut folder = Folder::default();
    if hook {
        folder.insert_file("hooks/post-data", Vec::new());
    }
    let toml = format!(
        "hostname = \"relay.sender.example\"\n{head}\
         max_message_size = \"{size}\"\n\
         [dns]\nservers = [\"192.0.2.53\"]\n\
         [relay]\nnetworks = [\"198.51.100.0/24\"]\n\
         [domain.\"sender.example\"]\nreceive = false\n{extra}"
    );
    folder.insert_file("chopar.toml", toml.into());
    let key = chopar::auth::dkim::key::ed25519_pem(&[7; 32]);
    folder.insert_file(
        "domains/sender.example/dkim/one.pem",
        key.as_bytes().to_vec(),
    );
    crate::unauthenticated_clients::serve(&mut folder);
    folder
}

/// The configuration of a folder, or its errors.
pub(crate) fn parse(folder: &Folder) -> Result<Arc<Config>, Vec<String>> {
    let defaults = SystemDefaults {
        hostname: "relay.sender.example".into(),
        resolv_conf: String::new(),
    };
    let errors = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect();
    Config::parse(folder, &defaults)
        .map(Arc::new)
        .map_err(errors)
}

/// The rewriter with the SRS secret of all worlds.
pub(crate) fn rewriter() -> Rewriter {
    Rewriter::new(&[vec![7; 32].into()]).expect("a secret")
}

impl World {
    /// A world with an empty agenda.
    pub(crate) fn empty(seed: u64, faults: Faults, sabotage: Sabotage) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let config = config("", hook::is_there(seed));
        let disk = WorldDisk::new(sabotage);
        let (journal, report) = crate::power::open(&disk, &mut |_| {});
        let now = Now {
            instant: Instant::from_millis(1_000),
            wall: Timestamp::from_seconds(EPOCH_S as u64),
        };
        let start = EngineStart {
            config: Arc::clone(&config),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(entropy.next_u64())),
            rewriter: rewriter(),
        };
        let engine = Engine::new(start, now);
        Self {
            seed,
            faults,
            entropy,
            config,
            disk,
            journal: Some(journal),
            engine,
            now,
            clock_error: 0,
            agenda: BinaryHeap::new(),
            happenings: HashMap::new(),
            order: 0,
            commands: Vec::new(),
            writing: false,
            ends: BTreeMap::new(),
            stalled: BTreeMap::new(),
            last_arrival: HashMap::new(),
            blocked: BTreeSet::new(),
            undrained: BTreeMap::new(),
            carrying: HashMap::new(),
            domains: BTreeMap::new(),
            rot_so_far: Vec::new(),
            clients: Vec::new(),
            attackers: 0,
            connects: 0,
            operators: 0,
            reloads: 0,
            mistakes: BTreeSet::new(),
            helper_is_gone: false,
            locals: DropFolder::default(),
            unreadable: BTreeSet::new(),
            reads_failed: BTreeSet::new(),
            returns: 0,
            moods: BTreeMap::new(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            streamed: BTreeMap::new(),
            following: VecDeque::new(),
            history: 0,
        }
    }

    /// A world with clients, and with faults of this kind.
    pub(crate) fn new(seed: u64, faults: Faults, sabotage: Sabotage) -> Self {
        let mut world = Self::empty(seed, faults, sabotage);
        world.populate();
        world.plan_faults();
        match faults {
            Faults::Operator => world.plan_operator(),
            Faults::Local => world.plan_local(),
            _ => {}
        }
        world
    }

    /// Runs until the agenda is empty, then checks the invariants of the end.
    pub(crate) fn run(mut self) -> (Tally, u64) {
        let end = self.now.instant.after(LIFETIME);
        self.run_until(end);
        self.judge();
        self.tally.worlds = 1;
        for (what, times) in std::mem::take(&mut self.disk.warden().errors) {
            *self.tally.faults.entry(("disk", what)).or_default() += times;
        }
        (self.tally, self.history)
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            driver::settle(self);
            self.tally.steps += 1;
            hold(bounds::check(
                &self.engine,
                &self.config,
                self.clients.len() + self.attackers + self.operators + self.locals.sessions,
            ));
            assert!(
                self.tally.steps < 5_000_000,
                "the world does not come to rest"
            );
            let planned = self.agenda.peek().map(|Reverse((at, _))| *at);
            let deadline = self.engine.deadline();
            let busy = planned.is_some() || self.engine.load().1 > 0 || self.engine.queue_len() > 0;
            let next = match (planned, deadline) {
                (Some(planned), Some(deadline)) => planned.min(deadline),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if !busy || next > end {
                break;
            }
            self.advance_to(next);
            if deadline.is_some_and(|deadline| deadline <= self.now.instant) {
                self.note(0);
                self.engine.expire(self.now);
                continue;
            }
            if let Some(Reverse((_, number))) = self.agenda.pop() {
                let happening = self.happenings.remove(&number).expect("planned");
                self.note(number);
                self.happen(happening);
            }
        }
    }

    /// Mixes an event into the hash of the history.
    fn note(&mut self, what: u64) {
        let mixed = self.history ^ self.now.instant.as_millis() ^ what.rotate_left(32);
        self.history = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
    }

    pub(crate) fn advance_to(&mut self, at: Instant) {
        let span = at.since(self.now.instant);
        self.now.instant = self.now.instant.after(span);
        self.set_wall();
    }

    /// The wall clock follows the monotonic one, with the current error.
    pub(crate) fn set_wall(&mut self) {
        let since = (self.now.instant.as_millis() / 1_000) as i64;
        let wall = (EPOCH_S + since + self.clock_error).max(1);
        self.now.wall = Timestamp::from_seconds(wall as u64);
    }

    pub(crate) fn plan(&mut self, after: Duration, happening: Happening) {
        self.plan_at(self.now.instant.after(after), happening);
    }

    pub(crate) fn plan_at(&mut self, at: Instant, happening: Happening) {
        let number = self.order;
        self.order += 1;
        self.happenings.insert(number, happening);
        self.agenda.push(Reverse((at, number)));
    }

    pub(crate) fn soon(&mut self, happening: Happening) {
        let delay = self.entropy.below(5);
        self.plan(Duration::from_millis(delay), happening);
    }

    /// Whether a possible network fault happens.
    pub(crate) fn mishap(&mut self, one_in: u64) -> bool {
        self.faults != Faults::Calm && self.entropy.below(one_in) == 0
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(client) => self.arrive(client),
            Happening::ToRelay(conn, bytes) => self.bytes_arrive(conn, &bytes),
            Happening::FromRelay(conn, bytes) => self.bytes_leave(conn, &bytes),
            Happening::Drained(conn) => self.drained(conn),
            Happening::Connected(conn) => self.connected(conn),
            Happening::UnauthenticatedLeaves(conn) => self.unauthenticated_leaves(conn),
            Happening::Lost(conn, cause) => self.lost(conn, cause),
            Happening::Write => self.write(),
            Happening::Stored(completions) => {
                for completion in completions {
                    self.engine.handle(Event::Stored(completion), self.now);
                }
            }
            Happening::Answer(socket, from, bytes) => {
                let bytes = &bytes;
                let event = Event::DnsDatagram {
                    socket,
                    from,
                    bytes,
                };
                self.engine.handle(event, self.now);
            }
            Happening::StreamAnswer(socket, Some(bytes)) => {
                let bytes = &bytes;
                self.engine
                    .handle(Event::DnsBytes { socket, bytes }, self.now);
            }
            Happening::StreamAnswer(socket, None) => {
                self.engine.handle(Event::DnsFailed { socket }, self.now)
            }
            Happening::Work(job, result) => {
                self.engine.handle(Event::Worked { job, result }, self.now)
            }
            Happening::Kill => self.kill(),
            Happening::PowerCut => self.power_cut(),
            Happening::DiskTrouble => self.disk_trouble(),
            Happening::DiskMended => {
                self.disk.memory.mend();
                self.disk.memory.set_free(1 << 40);
                self.drop_mended();
                // The writer reports the free space from time to time, whether or not it writes.
                let space = JournalCompletion::Space { free: 1 << 40 };
                self.soon(Happening::Stored(vec![space]));
            }
            Happening::ClockJump(seconds) => self.clock_jump(seconds),
            Happening::Leave(number) => self.leave(number),
            Happening::LocalReload(size) => self.reload_local(size),
            Happening::LookAtDrop => self.look_at_drop(),
            Happening::SettleDrop(name, settlement) => self.settle_drop(name, &settlement),
            Happening::Operate => self.operate(),
            Happening::LastVisit => self.last_visit(),
            Happening::OperatorExpects(conn) => self.operator_expects(conn),
            Happening::HangUpSignal => self.hang_up_signal(),
            Happening::Probe => self.probe(),
            Happening::HelperDies => self.helper_dies(),
            Happening::HelperIsBack => self.helper_is_back(),
            Happening::Read(reader, _, result) => self.read_ends(reader, result),
        }
    }

    fn clock_jump(&mut self, seconds: i64) {
        self.clock_error += seconds;
        self.set_wall();
        let kind = match seconds {
            i64::MIN..=-1 => "set back",
            _ => "set ahead",
        };
        self.tally.fault("clock", kind);
        // An attempt that is open now ends after the jump.
        self.ledger.clock_jumped(self.domains.values().cloned());
    }

    /// Look-ups without a waiting message run until they time out.
    fn give_up_names(&mut self) {
        let end = self.now.instant.after(DNS_QUESTION_TIMEOUT * 2);
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.advance_to(at);
            self.engine.expire(self.now);
            driver::settle(self);
        }
    }

    fn judge(&mut self) {
        for conn in self.ends.keys().copied().collect::<Vec<_>>() {
            self.forget(conn);
        }
        self.give_up_names();
        let left = self.engine.queue_len();
        hold(check(left == 0, Rule::I1, || {
            format!("after {LIFETIME:?} {left} messages are neither delivered nor bounced")
        }));
        let load = self.engine.load();
        hold(check(load == (0, 0), Rule::Bounds, || {
            format!("all is over, and {load:?} bytes and sessions are left")
        }));
        for (resource, used, holders) in self.engine.held() {
            hold(check((used, holders) == (0, 0), Rule::Bounds, || {
                format!("all is over, and {used} of {resource:?} are counted for {holders}")
            }));
        }
        let tables = self.engine.tables();
        let dsns = tables.dsns.waiting + tables.dsns.at_work;
        let left = (dsns, tables.commits);
        hold(check(left == (0, 0), Rule::Bounds, || {
            format!("all is over, and {left:?} DSNs and commits are left")
        }));
        self.judge_drop();
        hold(self.ledger.settled());
        if self.faults == Faults::Calm {
            hold(self.ledger.settled_calmly());
        }
    }
}
