use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::config::{Config, SystemDefaults};
use chopar::dns::SocketId;
use chopar::engine::Counters;
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Lost, MessageReader, Reloaded, Work, WorkResult,
};
use chopar::limits::{
    ABUSE_TABLE_ENTRIES_MAX, DNS_CACHE_ENTRIES_MAX, DNS_QUESTIONS_MAX, DSNS_AT_WORK_MAX,
    GREYLIST_ENTRIES_MAX, HOOKS_MAX, HOOKS_WAITING_MAX, RETURN_TABLE_ENTRIES_MAX,
};
use chopar::queue::{
    JournalCommand, JournalCompletion, JournalError, Location, Part, ReadContent, ReadError,
    Record, Ticket,
};
use chopar::queue_id::QueueId;

mod sayings;
#[allow(
    dead_code,
    reason = "shared with the tests of mail that is taken, which use more of it"
)]
#[path = "../../stage/mod.rs"]
mod stage;

use sayings::{LISTENERS, WORDS, folder, reply};
use stage::{Scene, Stage, act, secured};

/// Events in any order: clients and tools that connect, send anything and disconnect; servers, name servers, disk and
/// workers that answer late, twice, wrongly or never, also to those who are gone; reloads; time. In every case no table
/// exceeds its limit, no message is acknowledged before it is stored, and once all connections are gone no resource is
/// held.
pub fn events(data: &[u8]) {
    counted(data);
}

/// The same; returns the counters.
pub fn counted(data: &[u8]) -> Counters {
    let (variant, mut rest) = super::variant(data);
    let mut play = Play::new(variant);
    for _ in 0..STEPS_MAX {
        let Some((&step, behind)) = rest.split_first() else {
            break;
        };
        rest = behind;
        play.step(step, &mut rest);
        play.check();
    }
    play.end()
}

/// Upper limit of steps from one input; longer inputs show nothing new.
const STEPS_MAX: usize = 400;

struct Play {
    stage: Stage,
    has_hook: bool,
    /// All connections so far, including closed ones.
    conns: Vec<ConnId>,
    works: VecDeque<(JobId, Work)>,
    stores: VecDeque<JournalCommand>,
    reads: VecDeque<(MessageReader, Result<ReadContent, ReadError>)>,
    queries: VecDeque<(SocketId, SocketAddr, Vec<u8>)>,
    sockets: Vec<SocketId>,
    /// The last answer to a read, to repeat it.
    told: Option<(MessageReader, Result<ReadContent, ReadError>)>,
    /// Whether disk, workers and name servers answer at once.
    is_prompt: bool,
    /// Messages on their way to the disk, then those that are on it.
    tickets: BTreeMap<Ticket, QueueId>,
    stored: BTreeSet<String>,
}

impl Play {
    fn new(variant: u8) -> Self {
        let has_hook = variant & 64 != 0;
        Self {
            stage: Stage::new("mx.us.example", &folder(variant, has_hook), 7),
            has_hook,
            conns: Vec::new(),
            works: VecDeque::new(),
            stores: VecDeque::new(),
            reads: VecDeque::new(),
            queries: VecDeque::new(),
            sockets: Vec::new(),
            told: None,
            is_prompt: variant & 128 != 0,
            tickets: BTreeMap::new(),
            stored: BTreeSet::new(),
        }
    }

    /// A connection, possibly closed, possibly one that never existed.
    fn conn(&self, at: u8) -> ConnId {
        let back = usize::from(at >> 1);
        let conn = match self.conns.len().checked_sub(1 + back) {
            Some(at) => self.conns[at],
            None => ConnId {
                slot: at.into(),
                generation: 0,
            },
        };
        match at {
            // The same slot with another generation.
            254.. => ConnId {
                generation: conn.generation.wrapping_add(1),
                ..conn
            },
            _ => conn,
        }
    }

    /// One event, which the next bytes describe.
    fn step(&mut self, step: u8, rest: &mut &[u8]) {
        let mut next = || {
            let (first, behind) = super::variant(rest);
            *rest = behind;
            first
        };
        let (a, b) = (next(), next());
        let conn = self.conn(a);
        match step % 24 {
            0 | 1 => self.accept(a, b),
            2..=5 => self.say(conn, WORDS[usize::from(b) % WORDS.len()].as_bytes()),
            6 => {
                let (said, behind) = rest.split_at(usize::from(b).min(rest.len()));
                *rest = behind;
                self.say(conn, said);
            }
            7 => {
                let line = "x".repeat(76) + "\r\n";
                let many = line.repeat(usize::from(b) * 12);
                for piece in many.as_bytes().chunks(16_384) {
                    self.say(conn, piece);
                }
            }
            8 => self.tell(Event::Drained { conn }),
            9 => self.lose(conn, b),
            10 => self.tell(secured(conn)),
            11 => self.tell(Event::Connected { conn }),
            12 => self.work(b),
            13 => self.store(b),
            14 => self.read(conn, b),
            15 => self.answer(b),
            16 => self.dns_lies(a, rest),
            17 => self.reload(a, b),
            18 => {
                let bytes = (b & 1 == 0).then(|| b"{}".to_vec());
                self.tell(Event::Kept { conn, bytes });
            }
            19 => self.tell(match b % 4 {
                0 => Event::SetAside(vec!["a file".to_owned()]),
                1 => Event::Synced(Duration::from_millis(a.into())),
                2 => Event::TurnOver(Duration::from_millis(a.into())),
                _ => Event::Greylist(vec![a; usize::from(b)]),
            }),
            20 => {
                let free = u64::from(a) << (b % 48);
                self.tell(Event::Stored(JournalCompletion::Space { free }));
            }
            21 if b == 255 => self.tell(Event::Stop),
            21 => self.pass(Duration::from_secs(u64::from(a) * u64::from(b))),
            _ => self.pass(Duration::from_millis(u64::from(a) * 20)),
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        self.stage.handle(event);
        act(self);
    }

    fn accept(&mut self, listener: u8, address: u8) {
        let listener = LISTENERS[usize::from(listener) % LISTENERS.len()];
        let address: IpAddr = match address & 64 {
            0 => Ipv4Addr::new(10, address & 3, 0, 1 + (address >> 4)).into(),
            _ => Ipv6Addr::new(0x2001, 0xDB8, 0, address.into(), 0, 0, 0, 1).into(),
        };
        if let Ok(conn) = self.stage.accept(listener, address) {
            self.conns.push(conn);
        }
        act(self);
    }

    /// Gives bytes only while the engine wants them, as the shell does.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        if !bytes.is_empty() && self.stage.engine.wants_input(conn) {
            self.tell(Event::Bytes { conn, bytes });
        }
    }

    fn lose(&mut self, conn: ConnId, cause: u8) {
        let cause = match cause % 5 {
            0 => Lost::Eof,
            1 => Lost::Refused,
            2 => Lost::Unreachable,
            3 => Lost::Reset,
            _ => Lost::Tls("no".into()),
        };
        self.tell(Event::Closed { conn, cause });
    }

    /// A worker finishes a job, or one that it never had.
    fn work(&mut self, which: u8) {
        if which == 255 {
            let (job, result) = (JobId(u64::MAX), WorkResult::Password(true));
            return self.tell(Event::Worked { job, result });
        }
        let at = usize::from(which) % self.works.len().max(1);
        if let Some((job, work)) = self.works.remove(at) {
            let result = work.perform();
            self.tell(Event::Worked { job, result });
            // Answers twice; the second answer would be a right password.
            let result = WorkResult::Password(true);
            self.tell(Event::Worked { job, result });
        }
    }

    /// The disk executes the oldest command, or fails it.
    fn store(&mut self, how: u8) {
        let Some(command) = self.stores.pop_front() else {
            // A ticket that does not exist.
            let ticket = Ticket(u64::MAX);
            let location = None;
            return self.tell(Event::Stored(JournalCompletion::Committed {
                ticket,
                location,
            }));
        };
        let error = JournalError::NoSpace;
        let refused = match &command {
            JournalCommand::Append { ticket, .. } => JournalCompletion::Failed {
                ticket: *ticket,
                error,
            },
            JournalCommand::BodyAppend { id, .. } => {
                JournalCompletion::BodyFailed { id: *id, error }
            }
            _ => return self.commit(command),
        };
        match how % 4 {
            0 => self.tell(Event::Stored(refused)),
            _ => self.commit(command),
        }
    }

    fn commit(&mut self, command: JournalCommand) {
        self.write(command);
        act(self);
    }

    /// The disk executes all commands.
    fn catch_up(&mut self) {
        while let Some(command) = self.stores.pop_front() {
            self.write(command);
        }
    }

    fn write(&mut self, command: JournalCommand) {
        if let JournalCommand::Append { ticket, .. } = &command
            && let Some(id) = self.tickets.remove(ticket)
        {
            self.stored.insert(id.to_string());
        }
        self.stage.store(command);
    }

    /// The disk answers the first read, fails it, or repeats the last answer: to the same reader, or to another.
    fn read(&mut self, conn: ConnId, how: u8) {
        let (reader, result) = match how % 8 {
            0 => match self.told.clone() {
                Some(told) => told,
                None => return,
            },
            1 => match self.told.clone() {
                Some((MessageReader::Conn { id, .. }, result)) => {
                    (MessageReader::Conn { conn, id }, result)
                }
                Some((_, result)) => (MessageReader::Reroute(QueueId::new(how.into())), result),
                None => (MessageReader::Dsn(how.into()), Err(ReadError::Damaged)),
            },
            how => match self.reads.pop_front() {
                Some((reader, _)) if how == 2 => (reader, Err(ReadError::Damaged)),
                Some(read) => read,
                None => return,
            },
        };
        self.told = Some((reader, result.clone()));
        self.tell(Event::Read { reader, result });
    }

    /// A name server answers the first query.
    fn answer(&mut self, how: u8) {
        if let Some((socket, from, query)) = self.queries.pop_front() {
            let reply = reply(&query, how);
            let bytes = &reply;
            self.tell(Event::DnsDatagram {
                socket,
                from,
                bytes,
            });
        }
    }

    /// A forged datagram arrives on a socket of the resolver.
    fn dns_lies(&mut self, which: u8, rest: &mut &[u8]) {
        let at = usize::from(which >> 2) % self.sockets.len().max(1);
        let socket = self.sockets.get(at).copied().unwrap_or(SocketId(9));
        let (bytes, behind) = rest.split_at(usize::from(which & 31).min(rest.len()));
        *rest = behind;
        let from = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 53).into(), 53);
        self.tell(match which & 3 {
            0 => Event::DnsFailed { socket },
            1 => Event::DnsBytes { socket, bytes },
            _ => Event::DnsDatagram {
                socket,
                from,
                bytes,
            },
        });
    }

    /// A reload gives a new configuration, or an error; a tool has requested it, or not.
    fn reload(&mut self, kind: u8, asker: u8) {
        let conn = (asker & 1 != 0).then(|| self.conn(asker));
        if asker & 6 == 6 {
            let errors = vec!["a mistake".to_owned()];
            return self.tell(Event::ReloadFailed { conn, errors });
        }
        let defaults = SystemDefaults {
            hostname: "mx.us.example".into(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&folder(kind, self.has_hook), &defaults);
        let config = Arc::new(config.expect("a configuration"));
        self.tell(Event::Reloaded(Reloaded {
            config,
            conn,
            unchanged: Vec::new(),
        }));
    }

    fn pass(&mut self, span: Duration) {
        let end = self.stage.now.instant.after(span);
        while self.stage.wake(end) {
            act(self);
        }
        self.stage.advance_to(end);
    }

    /// No table exceeds its limit.
    fn check(&self) {
        assert!(self.stage.engine.is_settled());
        let tables = self.stage.engine.tables();
        let conns = self.conns.len();
        let ceilings = [
            ("bytes", tables.memory, 8 << 20),
            // A delivery session and a question to the hook have IDs before they connect.
            ("connections", tables.connections, conns + 4 + tables.hooks),
            ("deliveries", tables.deliveries, 4),
            ("questions", tables.questions, DNS_QUESTIONS_MAX),
            ("answers", tables.answers, DNS_CACHE_ENTRIES_MAX),
            ("DSNs at work", tables.dsns.at_work, DSNS_AT_WORK_MAX),
            ("hooks", tables.hooks, HOOKS_MAX + HOOKS_WAITING_MAX),
            ("jobs", tables.jobs, conns + DSNS_AT_WORK_MAX),
            (
                "clients",
                tables.clients.client_rates,
                ABUSE_TABLE_ENTRIES_MAX,
            ),
            ("greylisted", tables.clients.greylist, GREYLIST_ENTRIES_MAX),
            ("returns", tables.clients.returns, RETURN_TABLE_ENTRIES_MAX),
        ];
        for (name, size, ceiling) in ceilings {
            assert!(size <= ceiling, "{size} {name}, {ceiling} are allowed");
        }
    }

    /// All connections end, and all late events arrive.
    fn end(mut self) -> Counters {
        self.is_prompt = true;
        for at in 0..self.conns.len() {
            self.lose(self.conns[at], 3);
        }
        self.tell(Event::Stop);
        for _ in 0..2 {
            while !self.stores.is_empty() {
                self.store(1);
            }
            while !self.reads.is_empty() {
                self.read(self.conn(0), 3);
            }
            while !self.works.is_empty() {
                self.work(0);
            }
            self.queries.clear();
            self.pass(Duration::from_secs(7_200));
        }
        for (resource, used, holders) in self.stage.engine.held() {
            assert_eq!((used, holders), (0, 0), "{resource:?}");
        }
        let tables = self.stage.engine.tables();
        let left = (
            tables.memory,
            tables.connections,
            tables.questions,
            tables.spilling,
            tables.jobs + tables.verifications,
            tables.hooks,
            tables.commits,
        );
        assert_eq!(left, (0, 0, 0, 0, 0, 0, 0), "{tables:?}");
        self.stage.engine.counters()
    }
}

impl Scene for Play {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, _: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes);
        for line in text.split("\r\n") {
            if let Some(id) = line.strip_prefix("250 2.0.0 Queued as ") {
                assert!(
                    self.stored.contains(id),
                    "{id} was acknowledged, and is not stored"
                );
            }
        }
    }

    fn on_connect(&mut self, conn: ConnId, _: &Endpoint) {
        self.conns.push(conn);
    }

    fn on_store(&mut self, command: JournalCommand) {
        if let JournalCommand::Append {
            ticket,
            record: Record::Message(message),
        } = &command
        {
            self.tickets.insert(*ticket, message.id);
        }
        self.stores.push_back(command);
        if self.is_prompt {
            self.catch_up();
        }
    }

    fn on_read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        let result = self.stage.read(id, location, part);
        if self.is_prompt {
            return Some(result);
        }
        self.reads.push_back((reader, result));
        None
    }

    fn on_query(&mut self, socket: SocketId, to: SocketAddr, query: &[u8]) {
        self.sockets.push(socket);
        match self.is_prompt {
            true => self.stage.resolve(socket, to, reply(query, query[0])),
            false => self.queries.push_back((socket, to, query.to_vec())),
        }
    }

    fn on_dns_connect(&mut self, socket: SocketId) -> bool {
        self.sockets.push(socket);
        !self.is_prompt
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.is_prompt {
            return Some(work.perform());
        }
        self.works.push_back((job, work));
        None
    }
}
