//! The world: one clock, one disk, a network, and everybody in it, from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::clock::{Instant, Now};
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::engine::event::{Action, ConnId, Event, Listener, Lost, Peer, TlsSession};
use chopar::engine::{Engine, Start};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue::{
    Command, Completion, DiskError, Journal, MemoryDisk, Operation, Outcome, Record, Ticket, read,
};

use crate::disk::{Sabotage, WorldDisk};
use crate::dns;
use crate::remote::{Mood, Move, Remote, Taken};
use crate::sender::{Letter, Said, Sender};

/// What may go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Faults {
    /// Nothing.
    Calm,
    /// Servers and links.
    Network,
    /// Servers, links, and the power.
    Power,
    /// Servers, links, the power, and a disk that fills up and fails.
    Disk,
}

/// What happens when its time comes.
enum Happening {
    /// A client connects.
    Arrive(usize),
    /// Bytes reach the relay.
    ToRelay(ConnId, Vec<u8>),
    /// The relay's bytes reach the other end.
    FromRelay(ConnId, Vec<u8>),
    /// The relay's output is with the kernel.
    Drained(ConnId),
    /// A connection of the relay stands.
    Connected(ConnId),
    /// A connection breaks or ends.
    Lost(ConnId, Lost),
    /// The writer thread wakes up.
    Write,
    /// The writer's answers reach the loop.
    Stored(Vec<Completion>),
    /// The name server answers.
    Answer(chopar::dns::SocketId, SocketAddr, Vec<u8>),
    /// A worker is done.
    Work(
        chopar::engine::event::JobId,
        chopar::engine::event::WorkResult,
    ),
    /// The power fails.
    PowerCut,
    /// The disk begins to fail.
    DiskTrouble,
    /// The disk is in order again.
    DiskMended,
}

enum End {
    Client(usize),
    Remote(Box<Remote>),
}

pub(crate) struct World {
    seed: u64,
    faults: Faults,
    entropy: SeededEntropy,
    config: Arc<Config>,
    disk: WorldDisk,
    journal: Option<Journal<WorldDisk>>,
    engine: Engine,
    now: Now,
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: HashMap<u64, Happening>,
    order: u64,
    /// Commands that the writer has not taken.
    commands: Vec<Command>,
    writing: bool,
    ends: HashMap<ConnId, End>,
    /// Bytes on their way to the relay that it does not want yet.
    stalled: BTreeMap<ConnId, Vec<u8>>,
    clients: Vec<Sender>,
    taken: Vec<Taken>,
    power_cuts: u32,
    /// Recipients whose delivery is durably recorded.
    recorded: usize,
    /// Recipients that were taken and not recorded when the power failed: each may come once more.
    unrecorded: usize,
}

/// The longest that the world lasts: longer than any message is tried.
const LIFETIME: Duration = Duration::from_secs(6 * 86_400);

fn config() -> Arc<Config> {
    let mut folder = Folder::default();
    let toml = "hostname = \"relay.sender.example\"\n\
                max_message_size = \"1 MiB\"\n\
                [dns]\nservers = [\"192.0.2.53\"]\n\
                [relay]\nnetworks = [\"198.51.100.0/24\"]\n\
                [domain.\"sender.example\"]\nreceive = false\n";
    folder.insert_file("chopar.toml", toml.into());
    let key = chopar::auth::dkim::key::ed25519_pem(&[7; 32]);
    folder.insert_file(
        "domains/sender.example/dkim/one.pem",
        key.as_bytes().to_vec(),
    );
    let defaults = SystemDefaults {
        hostname: "relay.sender.example".into(),
        resolv_conf: String::new(),
    };
    Arc::new(Config::parse(&folder, &defaults).expect("a configuration"))
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, sabotage: Sabotage) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let config = config();
        let disk = WorldDisk {
            memory: MemoryDisk::new(),
            sabotage,
        };
        let (journal, report) = Journal::open_sized(disk.clone(), SEGMENT_BYTES, &mut |_| {})
            .expect("an empty spool opens");
        let now = Now {
            instant: Instant::from_millis(1_000),
            wall: Timestamp::from_seconds(1_790_000_000),
        };
        let start = Start {
            config: Arc::clone(&config),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(entropy.next_u64())),
        };
        let engine = Engine::new(start, now);
        let mut world = Self {
            seed,
            faults,
            entropy,
            config,
            disk,
            journal: Some(journal),
            engine,
            now,
            agenda: BinaryHeap::new(),
            happenings: HashMap::new(),
            order: 0,
            commands: Vec::new(),
            writing: false,
            ends: HashMap::new(),
            stalled: BTreeMap::new(),
            clients: Vec::new(),
            taken: Vec::new(),
            power_cuts: 0,
            recorded: 0,
            unrecorded: 0,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let clients = 1 + self.entropy.below(5);
        for client in 0..clients {
            let letters = (0..1 + self.entropy.below(4))
                .map(|letter| self.letter(client, letter))
                .collect();
            self.clients.push(Sender::new(letters));
            let at = self.entropy.below(20_000);
            self.plan(
                Duration::from_millis(at),
                Happening::Arrive(client as usize),
            );
        }
        if matches!(self.faults, Faults::Power | Faults::Disk) {
            for _ in 0..1 + self.entropy.below(3) {
                let at = match self.entropy.below(3) {
                    0 => self.entropy.below(200_000),
                    _ => self.entropy.below(25_000),
                };
                self.plan(Duration::from_millis(at), Happening::PowerCut);
            }
        }
        if self.faults == Faults::Disk {
            let at = self.entropy.below(25_000);
            self.plan(Duration::from_millis(at), Happening::DiskTrouble);
        }
    }

    fn letter(&mut self, client: u64, number: u64) -> Letter {
        let marker = format!("letter-{client}-{number}");
        let mut recipients: Vec<String> = (0..1 + self.entropy.below(4))
            .map(|_| {
                format!(
                    "r{}@d{}.example",
                    self.entropy.below(3),
                    self.entropy.below(dns::DOMAINS.into())
                )
            })
            .collect();
        recipients.sort();
        recipients.dedup();
        let mut text =
            format!("Subject: {marker}\r\nFrom: author@sender.example\r\n\r\n").into_bytes();
        let lines = match self.entropy.below(12) {
            0 => 6_000, // past what is kept in memory
            1 => 0,
            _ => self.entropy.below(40),
        };
        for line in 0..lines {
            let dots = ".".repeat(self.entropy.below(3) as usize);
            text.extend_from_slice(
                format!("{dots}line {line} of {marker} {}\r\n", "x".repeat(50)).as_bytes(),
            );
        }
        Letter {
            marker,
            recipients,
            text,
        }
    }

    /// Runs to the end and checks what must hold.
    pub(crate) fn run(mut self) {
        let end = self.now.instant.after(LIFETIME);
        let mut steps: u64 = 0;
        loop {
            self.do_actions();
            steps += 1;
            assert!(steps < 5_000_000, "the world does not come to rest");
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
                self.engine.expire(self.now);
                continue;
            }
            if let Some(Reverse((at, number))) = self.agenda.pop() {
                debug_assert!(at <= self.now.instant);
                let happening = self.happenings.remove(&number).expect("planned");
                self.happen(happening);
            }
        }
        self.judge();
    }

    fn advance_to(&mut self, at: Instant) {
        let span = at.since(self.now.instant);
        let wall_ms = at.as_millis() / 1000;
        self.now.instant = self.now.instant.after(span);
        self.now.wall = Timestamp::from_seconds(1_790_000_000 + wall_ms);
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        let number = self.order;
        self.order += 1;
        self.happenings.insert(number, happening);
        self.agenda
            .push(Reverse((self.now.instant.after(after), number)));
    }

    fn soon(&mut self, happening: Happening) {
        let delay = self.entropy.below(5);
        self.plan(Duration::from_millis(delay), happening);
    }

    /// Sends bytes on their way in pieces that keep their order.
    fn in_pieces(&mut self, bytes: &[u8], make: &dyn Fn(Vec<u8>) -> Happening) {
        let mut rest = bytes;
        let mut delay = 0;
        while !rest.is_empty() {
            let len = match self.entropy.below(3) {
                0 => 1 + self.entropy.below(7) as usize,
                _ => 1 + self.entropy.below(20_000) as usize,
            };
            let (piece, after) = rest.split_at(len.min(rest.len()));
            delay += 1 + self.entropy.below(3);
            self.plan(Duration::from_millis(delay), make(piece.to_vec()));
            rest = after;
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(client) => self.arrive(client),
            Happening::ToRelay(conn, bytes) => self.bytes_arrive(conn, bytes),
            Happening::FromRelay(conn, bytes) => self.bytes_leave(conn, &bytes),
            Happening::Drained(conn) => self.engine.handle(Event::Drained { conn }, self.now),
            Happening::Connected(conn) => self.connected(conn),
            Happening::Lost(conn, cause) => self.lost(conn, cause),
            Happening::Write => self.write(),
            Happening::Stored(completions) => {
                for completion in completions {
                    self.engine.handle(Event::Stored(completion), self.now);
                }
            }
            Happening::Answer(socket, from, bytes) => {
                self.engine.handle(
                    Event::DnsDatagram {
                        socket,
                        from,
                        bytes: &bytes,
                    },
                    self.now,
                );
            }
            Happening::Work(job, result) => {
                self.engine.handle(Event::Worked { job, result }, self.now)
            }
            Happening::PowerCut => self.power_cut(),
            Happening::DiskTrouble => self.disk_trouble(),
            Happening::DiskMended => {
                self.disk.memory.mend();
                self.disk.memory.set_free(1 << 40);
            }
        }
    }

    fn arrive(&mut self, client: usize) {
        let remote = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(198, 51, 100, client as u8)),
            40_000,
        );
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 25);
        match self
            .engine
            .accept(Listener::Smtp, Peer::Network { remote, local }, self.now)
        {
            Ok(conn) => drop(self.ends.insert(conn, End::Client(client))),
            Err(_) => self.clients[client].lost(),
        }
    }

    fn bytes_arrive(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if !self.ends.contains_key(&conn) {
            return;
        }
        if self.faults != Faults::Calm && self.entropy.below(400) == 0 {
            return self.lost(conn, Lost::Reset);
        }
        let mut stalled = self.stalled.remove(&conn).unwrap_or_default();
        stalled.extend_from_slice(&bytes);
        if self.engine.wants_input(conn) {
            self.engine.handle(
                Event::Bytes {
                    conn,
                    bytes: &stalled,
                },
                self.now,
            );
        } else {
            self.stalled.insert(conn, stalled);
        }
    }

    fn bytes_leave(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.ends.get_mut(&conn) {
            Some(End::Client(client)) => {
                let client = *client;
                let answer = self.clients[client].on_bytes(bytes);
                self.in_pieces(&answer, &|piece| Happening::ToRelay(conn, piece));
            }
            Some(End::Remote(remote)) => {
                let next = remote.on_bytes(bytes);
                self.remote_moves(conn, next);
            }
            None => {}
        }
    }

    fn remote_moves(&mut self, conn: ConnId, next: Move) {
        match next {
            Move::Say(bytes) => self.in_pieces(&bytes, &|piece| Happening::ToRelay(conn, piece)),
            Move::HangUp(bytes) => {
                self.in_pieces(&bytes, &|piece| Happening::ToRelay(conn, piece));
                self.plan(Duration::from_millis(500), Happening::Lost(conn, Lost::Eof));
            }
        }
    }

    fn connected(&mut self, conn: ConnId) {
        if let Some(End::Remote(remote)) = self.ends.get_mut(&conn) {
            let banner = remote.banner();
            self.engine.handle(Event::Connected { conn }, self.now);
            self.remote_moves(conn, banner);
        }
    }

    /// A connection ends from outside.
    fn lost(&mut self, conn: ConnId, cause: Lost) {
        self.forget(conn, cause == Lost::Reset);
        self.stalled.remove(&conn);
        self.engine.handle(Event::Closed { conn, cause }, self.now);
    }

    /// The other end learns that the connection is gone.
    fn forget(&mut self, conn: ConnId, reset: bool) {
        match self.ends.remove(&conn) {
            Some(End::Client(client)) if !self.clients[client].over => self.clients[client].lost(),
            Some(End::Client(_)) | None => {}
            Some(End::Remote(mut remote)) => {
                if reset && let Some(last) = remote.taken.last_mut() {
                    last.reply_lost = true; // perhaps it was still on its way
                }
                self.taken.append(&mut remote.taken);
            }
        }
    }

    fn write(&mut self) {
        self.writing = false;
        let commands = std::mem::take(&mut self.commands);
        let mut deliveries: HashMap<Ticket, usize> = HashMap::new();
        let mut forgotten = Vec::new();
        let mut kept = Vec::new();
        for command in commands {
            if let Command::Append {
                ticket,
                record: Record::Outcome(outcome),
            } = &command
            {
                let delivered = outcome
                    .recipients
                    .iter()
                    .filter(|(_, outcome)| *outcome == Outcome::Delivered);
                deliveries.insert(*ticket, delivered.count());
                if self.disk.sabotage == Sabotage::ForgottenOutcome && self.entropy.below(2) == 0 {
                    forgotten.push(Completion::Committed {
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
        for completion in &completions {
            if let Completion::Committed { ticket, .. } = completion {
                self.recorded += deliveries.get(ticket).copied().unwrap_or(0);
            }
        }
        if journal.is_broken() {
            // An operator mends the disk and starts again.
            self.plan(Duration::from_secs(5), Happening::DiskMended);
            self.plan(Duration::from_secs(6), Happening::PowerCut);
        }
        let delay = self.entropy.below(20);
        self.plan(Duration::from_millis(delay), Happening::Stored(completions));
    }

    /// One kind of operation fails once, or the disk is full for a while. (A disk that refuses a batch, and then the
    /// seal that disowns the batch, and then loses power, may give a message back that was refused: the module
    /// documentation of the journal says so. That is left out here.)
    fn disk_trouble(&mut self) {
        if self.entropy.below(4) == 0 {
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
            let skip = self.entropy.below(4);
            self.disk.memory.fail(operation, skip, 1, error);
        }
        let until = 1 + self.entropy.below(20_000);
        self.plan(Duration::from_millis(until), Happening::DiskMended);
    }

    /// Everything but the disk is gone, and of the disk what was not synced.
    fn power_cut(&mut self) {
        self.power_cuts += 1;
        for conn in self.ends.keys().copied().collect::<Vec<_>>() {
            self.forget(conn, false);
        }
        self.count_unrecorded();
        self.stalled.clear();
        let arrivals: Vec<(u64, Happening)> = self
            .happenings
            .drain()
            .filter(|(_, happening)| {
                matches!(
                    happening,
                    Happening::Arrive(_)
                        | Happening::PowerCut
                        | Happening::DiskTrouble
                        | Happening::DiskMended
                )
            })
            .collect();
        self.happenings = arrivals.into_iter().collect();
        let kept: Vec<_> = self
            .agenda
            .drain()
            .filter(|Reverse((_, number))| self.happenings.contains_key(number))
            .collect();
        self.agenda = kept.into();
        self.commands.clear();
        self.writing = false;
        self.journal = None;
        // The disk that comes back works.
        self.disk.memory.mend();
        self.disk.memory.crash(&mut self.entropy);
        let mut found = Vec::new();
        let (journal, report) =
            Journal::open_sized(self.disk.clone(), SEGMENT_BYTES, &mut |recovered| {
                found.push(recovered)
            })
            .expect("the spool opens after a power cut");
        self.journal = Some(journal);
        let start = Start {
            config: Arc::clone(&self.config),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(self.entropy.next_u64())),
        };
        self.engine = Engine::new(start, self.now);
        for recovered in found {
            self.engine.recover(recovered, self.now);
        }
    }

    /// What was taken by a server and is not durably recorded may be sent again.
    fn count_unrecorded(&mut self) {
        let taken: usize = self.taken.iter().map(|taken| taken.recipients.len()).sum();
        let known = self.recorded + self.lost_replies() + self.unrecorded;
        self.unrecorded += taken.saturating_sub(known);
    }

    fn lost_replies(&self) -> usize {
        self.taken
            .iter()
            .filter(|taken| taken.reply_lost)
            .map(|taken| taken.recipients.len())
            .sum()
    }

    fn do_actions(&mut self) {
        while let Some(action) = self.engine.next_action() {
            self.do_action(action);
        }
        // What was held back is read once it is wanted.
        for conn in self.stalled.keys().copied().collect::<Vec<_>>() {
            if self.engine.wants_input(conn) {
                self.soon(Happening::ToRelay(conn, Vec::new()));
                let bytes = self.stalled.remove(&conn).unwrap_or_default();
                self.engine.handle(
                    Event::Bytes {
                        conn,
                        bytes: &bytes,
                    },
                    self.now,
                );
                return self.do_actions();
            }
        }
    }

    fn do_action(&mut self, action: Action) {
        match action {
            Action::Send { conn, bytes } => {
                // In order, and in one piece: it is the relay's input that is cut up.
                self.plan(Duration::from_millis(3), Happening::FromRelay(conn, bytes));
                self.plan(Duration::from_millis(3), Happening::Drained(conn));
            }
            Action::Close { conn } => {
                // The other end still gets what was sent; the relay hears nothing more.
                let pending: Vec<u64> = self.pending_sends(conn);
                for number in pending {
                    if let Some(Happening::FromRelay(_, bytes)) = self.happenings.remove(&number) {
                        self.happenings
                            .insert(number, Happening::FromRelay(conn, Vec::new()));
                        self.last_words(conn, &bytes);
                    }
                }
                self.forget(conn, false);
                self.stalled.remove(&conn);
            }
            Action::Abort { conn } => {
                self.forget(conn, true);
                self.stalled.remove(&conn);
            }
            Action::StartTls { conn, .. } => {
                let session = TlsSession {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_128_GCM_SHA256".into(),
                    verified: false,
                };
                self.engine
                    .handle(Event::TlsReady { conn, session }, self.now);
            }
            Action::Connect { conn, to, .. } => self.connect(conn, to),
            Action::Store(command) => {
                self.commands.push(command);
                if !self.writing {
                    self.writing = true;
                    let delay = self.entropy.below(10);
                    self.plan(Duration::from_millis(delay), Happening::Write);
                }
            }
            Action::Read {
                reader,
                id,
                location,
                part,
            } => {
                let result = read(&mut self.disk.clone(), location, id, part);
                self.engine.handle(Event::Read { reader, result }, self.now);
            }
            Action::DnsSend { socket, to, bytes } => {
                let silent = self.faults != Faults::Calm && self.entropy.below(10) == 0;
                if !silent && let Some(reply) = dns::reply(&bytes) {
                    self.soon(Happening::Answer(socket, to, reply));
                }
            }
            Action::DnsConnect { socket, .. } => {
                self.engine.handle(Event::DnsFailed { socket }, self.now)
            }
            Action::DnsClose { .. } | Action::Log(_) | Action::Reload { .. } => {}
            Action::Work { job, work } => {
                let result = work.perform();
                self.soon(Happening::Work(job, result));
            }
        }
    }

    fn pending_sends(&self, conn: ConnId) -> Vec<u64> {
        let mut numbers: Vec<u64> = self
            .happenings
            .iter()
            .filter(|(_, happening)| matches!(happening, Happening::FromRelay(other, _) if *other == conn))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// What was sent before a close reaches the other end, whose answer nobody hears.
    fn last_words(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.ends.get_mut(&conn) {
            Some(End::Client(client)) => drop(self.clients[*client].on_bytes(bytes)),
            Some(End::Remote(remote)) => drop(remote.on_bytes(bytes)),
            None => {}
        }
    }

    fn connect(&mut self, conn: ConnId, to: SocketAddr) {
        let IpAddr::V4(address) = to.ip() else {
            panic!("the world has no IPv6: {to}")
        };
        let host = address.octets()[3];
        let mood = match (self.faults, host) {
            (Faults::Calm, _) | (_, dns::SENDER_HOST) => Mood::Good,
            (_, host) => match (host + (self.seed % 4) as u8) % 4 {
                0 => Mood::Good,
                1 => Mood::Moody,
                2 => Mood::HangsUp,
                _ => Mood::Silent,
            },
        };
        if self.faults != Faults::Calm && host != dns::SENDER_HOST && self.entropy.below(6) == 0 {
            return self.soon(Happening::Lost(conn, Lost::Refused));
        }
        let seed = self.entropy.next_u64();
        self.ends
            .insert(conn, End::Remote(Box::new(Remote::new(mood, seed))));
        self.soon(Happening::Connected(conn));
    }

    fn judge(mut self) {
        for conn in self.ends.keys().copied().collect::<Vec<_>>() {
            self.forget(conn, true);
        }
        let (memory, connections) = self.engine.load();
        if self.engine.queue_len() == 0 {
            assert_eq!(
                (memory, connections),
                (0, 0),
                "buffers are empty and sessions over"
            );
        }
        assert_eq!(
            self.engine.queue_len(),
            0,
            "after {LIFETIME:?} everything is delivered or bounced"
        );
        let mut letters: BTreeMap<&str, (&Letter, Said)> = BTreeMap::new();
        for client in &self.clients {
            for (letter, said) in &client.said {
                letters.insert(&letter.marker, (letter, *said));
            }
        }
        let mut delivered: BTreeMap<(String, String), u32> = BTreeMap::new();
        let mut lost_replies: BTreeMap<(String, String), u32> = BTreeMap::new();
        let mut bounced: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for taken in &self.taken {
            let text = String::from_utf8_lossy(&taken.text);
            if taken.from.is_empty() {
                self.read_bounce(taken, &text, &mut bounced);
                continue;
            }
            let marker = header(&text, "Subject").expect("a delivered message has its Subject");
            let (letter, _) = letters
                .get(marker.as_str())
                .unwrap_or_else(|| panic!("{marker} was invented"));
            assert!(taken.text.ends_with(&letter.text), "{marker} was altered");
            assert!(text.contains("DKIM-Signature:"), "{marker} is not signed");
            for recipient in &taken.recipients {
                let key = (marker.clone(), recipient.clone());
                *delivered.entry(key.clone()).or_default() += 1;
                *lost_replies.entry(key).or_default() += u32::from(taken.reply_lost);
            }
        }
        let again: u32 = delivered
            .values()
            .map(|copies| copies.saturating_sub(1))
            .sum();
        let excused = self.lost_replies() + self.unrecorded;
        assert!(
            again as usize <= excused,
            "{again} recipients got a message again, {excused} are excused"
        );
        for (marker, (letter, said)) in &letters {
            for recipient in &letter.recipients {
                let key = ((*marker).to_owned(), recipient.clone());
                let copies = delivered.get(&key).copied().unwrap_or(0);
                let is_bounced = bounced
                    .get(*marker)
                    .is_some_and(|list| list.contains(recipient));
                let excused = lost_replies.get(&key).copied().unwrap_or(0) + self.power_cuts;
                match said {
                    Said::Accepted => {
                        assert!(
                            copies > 0 || is_bounced,
                            "{marker} to {recipient} was acknowledged and lost"
                        );
                    }
                    Said::Refused => {
                        assert!(
                            copies == 0 && !is_bounced,
                            "{marker} to {recipient} was refused and delivered"
                        );
                    }
                    Said::Unknown => {}
                }
                assert!(
                    copies <= 1 + excused,
                    "{marker} to {recipient} came {copies} times, {excused} excused"
                );
                if self.faults == Faults::Calm {
                    assert_eq!(
                        (copies, *said),
                        (1, Said::Accepted),
                        "{marker} to {recipient}"
                    );
                }
            }
        }
    }

    fn read_bounce(&self, taken: &Taken, text: &str, bounced: &mut BTreeMap<String, Vec<String>>) {
        assert_eq!(taken.recipients, ["author@sender.example"]);
        assert_eq!(
            header(text, "Auto-Submitted").as_deref(),
            Some("auto-replied")
        );
        let original = text
            .rsplit("\r\nSubject: ")
            .next()
            .expect("the original's header");
        let marker = original
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let failed = text.contains("Action: failed");
        for line in text.lines() {
            if let Some(address) = line.strip_prefix("Final-Recipient: rfc822;")
                && failed
            {
                bounced
                    .entry(marker.clone())
                    .or_default()
                    .push(address.trim().to_owned());
            }
        }
    }
}

fn header(text: &str, name: &str) -> Option<String> {
    let head = text.split("\r\n\r\n").next()?;
    let prefix = format!("{name}: ");
    head.lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .map(|value| value.trim().to_owned())
}

/// Small segments, so that a short run fills, clears and copies some.
const SEGMENT_BYTES: u64 = 64 * 1024;
