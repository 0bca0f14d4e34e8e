//! A queue of a million messages (a tenth of that in an ordinary run), nine in ten of them to one unreachable domain.
//!
//! The journal writes the spool, its process ends, and a new engine takes over the queue. It must use a bounded number
//! of reads and of bytes per message, and serve the other domains as if the unreachable one did not exist. `make
//! sim-million` runs the million and prints the figures.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chopar::address::{Mailbox, ReversePath};
use chopar::clock::{Instant, Now};
use chopar::date::Timestamp;
use chopar::dns::SocketId;
use chopar::engine::driver::{self, Unsent, World};
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Lost, MessageReader, StateFile, TlsSide, Work, WorkResult,
};
use chopar::engine::log::Line;
use chopar::engine::{Engine, EngineStart};
use chopar::entropy::SeededEntropy;
use chopar::envelope::{BodyKind, Envelope, Notify, Recipient};
use chopar::queue::{
    Journal, JournalCommand, JournalCompletion, Location, MessageBody, MessageRecord, Part,
    ReadContent, ReadError, Record, Recovered, Ticket, read,
};
use chopar::queue_id::QueueId;

use crate::disk::{Sabotage, WorldDisk};
use crate::dns::{self, Lie};
use crate::remote::{Mood, Remote};

/// Messages in an ordinary run.
const MESSAGES: u64 = 100_000;
/// One message in this many goes to a reachable domain.
const ALIVE_ONE_IN: u64 = 10;
/// Upper limit of memory for a queued message, in all tables together.
const MESSAGE_MEMORY_BYTES_MAX: u64 = 480;
/// The same during recovery, when a table that grows exists twice.
const MESSAGE_PEAK_BYTES_MAX: u64 = 800;
/// Upper limit of reads of the spool during recovery, for each message.
const MESSAGE_READS_MAX: u64 = 3;

/// A queue that a new engine has taken over, before its first dispatch.
struct Taken {
    engine: Engine,
    journal: Journal<WorldDisk>,
    disk: WorldDisk,
    now: Now,
    /// Messages that are still to be delivered.
    left: u64,
    served: Served,
    remotes: BTreeMap<ConnId, Remote>,
    unreachable: BTreeSet<ConnId>,
    commands: Vec<JournalCommand>,
    /// Replies of hosts that the engine has not read.
    replies: VecDeque<(ConnId, Vec<u8>)>,
    /// Events that the engine has not seen.
    following: VecDeque<Following>,
}

/// An immediate consequence of an action.
enum Following {
    Event(Event<'static>),
    /// A name server answers.
    Answer(SocketId, SocketAddr, Vec<u8>),
}

/// The cost of serving the reachable domains.
#[derive(Debug, Default)]
struct Served {
    messages: u64,
    virtual_ms: u64,
    steps: u64,
    to_the_dead: u64,
}

fn message(number: u64, domain: u64) -> MessageRecord {
    let mailbox = |text: &str| Mailbox::parse(text).expect("a mailbox");
    MessageRecord {
        id: QueueId::new((1_790_000_000 << 24) + number),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("author@sender.example")),
            recipients: vec![Recipient {
                destination: None,
                reverse_path: None,
                mailbox: mailbox(&format!("r{number}@d{domain}.example")),
                notify: Notify::Default,
                original: None,
            }],
            envelope_id: None,
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: Timestamp::from_seconds(1_790_000_000),
            origin: "198.51.100.1".into(),
        },
        fields: Vec::new(),
        body: MessageBody::Inline(format!("Subject: {number}\r\n\r\nHello.\r\n").into_bytes()),
    }
}

/// The domain of a message; 0 is unreachable.
fn domain(number: u64) -> u64 {
    match number % ALIVE_ONE_IN {
        0 => 1 + number / ALIVE_ONE_IN % 4,
        _ => 0,
    }
}

/// A spool that an earlier process wrote.
fn written(numbers: impl Iterator<Item = u64>) -> WorldDisk {
    let disk = WorldDisk::new(Sabotage::None);
    let (mut journal, _) = Journal::open(disk.clone(), &mut |_| {}).expect("an empty spool");
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let batch = numbers
            .by_ref()
            .take(4_096)
            .map(|number| JournalCommand::Append {
                ticket: Ticket(number),
                record: Record::Message(message(number, domain(number))),
            });
        let completions = journal.execute(batch.collect());
        let failed =
            |completion: &JournalCompletion| matches!(completion, JournalCompletion::Failed { .. });
        assert!(!completions.iter().any(failed));
    }
    disk
}

fn taken_over(disk: WorldDisk) -> Taken {
    let now = Now {
        instant: Instant::from_millis(1_000),
        wall: Timestamp::from_seconds(1_790_000_060),
    };
    let start = EngineStart {
        config: crate::world::config("", false),
        ids: chopar::queue::IdSource::above(QueueId::new(0)),
        entropy: Box::new(SeededEntropy::new(1)),
        rewriter: crate::world::rewriter(),
    };
    let mut engine = Engine::new(start, now);
    let mut sink = |recovered: Recovered| {
        engine.handle(Event::Recovered(Box::new(recovered)), now);
    };
    let (journal, report) = Journal::open(disk.clone(), &mut sink).expect("the spool opens");
    let (ids, untold) = (report.ids(), Vec::new());
    engine.handle(Event::RecoveryOver { ids, untold }, now);
    Taken {
        engine,
        journal,
        disk,
        now,
        left: 0,
        served: Served::default(),
        remotes: BTreeMap::new(),
        unreachable: BTreeSet::new(),
        commands: Vec::new(),
        replies: VecDeque::new(),
        following: VecDeque::new(),
    }
}

impl Taken {
    /// Runs until the reachable domains are served, or until nothing more happens.
    fn serve(&mut self, left: u64) -> Served {
        self.left = left;
        let began = self.now.instant;
        self.engine.expire(self.now);
        while self.left > 0 {
            self.served.steps += 1;
            driver::settle(self);
            if let Some((conn, bytes)) = self.replies.pop_front() {
                if self.remotes.contains_key(&conn) {
                    let bytes = &bytes;
                    self.engine.handle(Event::Bytes { conn, bytes }, self.now);
                }
            } else if !self.commands.is_empty() {
                for completion in self.journal.execute(std::mem::take(&mut self.commands)) {
                    self.engine.handle(Event::Stored(completion), self.now);
                }
                self.pass(Duration::from_millis(1)); // a sync takes time
            } else if let Some(conn) = self.unreachable.pop_first() {
                let cause = Lost::Refused;
                self.engine.handle(Event::Closed { conn, cause }, self.now);
            } else {
                let deadline = self.engine.deadline().expect("somebody waits");
                let wait = deadline.since(self.now.instant);
                self.pass(wait);
                self.engine.expire(self.now);
            }
        }
        self.served.virtual_ms = self.now.instant.since(began).as_millis() as u64;
        std::mem::take(&mut self.served)
    }

    fn pass(&mut self, span: Duration) {
        self.now.instant = self.now.instant.after(span);
        let seconds = 1_790_000_060 + self.now.instant.as_millis() / 1_000;
        self.now.wall = Timestamp::from_seconds(seconds);
    }
}

/// All hosts except the unreachable one accept mail; name servers tell the truth, and everything else takes no time.
impl World for Taken {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if let Some(remote) = self.remotes.get_mut(&conn) {
            self.replies
                .push_back((conn, remote.on_bytes(&bytes).bytes));
            let taken = std::mem::take(&mut remote.taken).len() as u64;
            self.served.messages += taken;
            self.left -= taken;
        }
        self.follows(Event::Drained { conn });
    }

    fn close(&mut self, conn: ConnId) {
        self.remotes.remove(&conn);
        self.unreachable.remove(&conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.close(conn);
    }

    fn start_tls(&mut self, _: ConnId, _: TlsSide) {}

    fn connect(&mut self, conn: ConnId, to: Endpoint, _: Option<IpAddr>) -> Result<(), Lost> {
        let Endpoint::Tcp(to) = to else {
            panic!("there are no programs in this world: {to}");
        };
        let host = dns::host_at(to.ip());
        let dead = dns::domain_of(host) == "d0.example";
        if to.is_ipv6() || dead {
            self.served.to_the_dead += u64::from(dead);
            self.unreachable.insert(conn);
        } else {
            let mut remote = Remote::new(Mood::Good, 1);
            self.replies.push_back((conn, remote.banner().bytes));
            self.remotes.insert(conn, remote);
            self.follows(Event::Connected { conn });
        }
        Ok(())
    }

    fn store(&mut self, command: JournalCommand) {
        self.commands.push(command);
    }

    fn read(
        &mut self,
        _: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(read(&mut self.disk, location, id, part))
    }

    fn read_body(
        &mut self,
        _: ConnId,
        _: QueueId,
        _: u64,
        _: u32,
    ) -> Option<Result<ReadContent, ReadError>> {
        None
    }

    fn dns_send(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Unsent> {
        let reply = dns::reply(&bytes, Lie::None).expect("a reply");
        let answer = Following::Answer(socket, to, reply);
        self.following.push_back(answer);
        Ok(())
    }

    fn dns_connect(&mut self, _: SocketId, _: SocketAddr, _: Vec<u8>) -> Result<(), Unsent> {
        Err(Unsent)
    }

    fn dns_close(&mut self, _: SocketId) {}

    fn work(&mut self, _: JobId, work: Work) -> Option<WorkResult> {
        Some(work.perform())
    }

    fn reload(&mut self, _: Option<ConnId>) {}

    fn read_kept(&mut self, _: StateFile) -> Option<Vec<u8>> {
        None
    }

    fn log(&mut self, _: Line) {}

    fn follows(&mut self, event: Event<'static>) {
        self.following.push_back(Following::Event(event));
    }

    fn tell(&mut self) -> bool {
        match self.following.pop_front() {
            None => return false,
            Some(Following::Event(event)) => self.engine.handle(event, self.now),
            Some(Following::Answer(socket, from, bytes)) => {
                let bytes = &bytes;
                let event = Event::DnsDatagram {
                    socket,
                    from,
                    bytes,
                };
                self.engine.handle(event, self.now);
            }
        }
        true
    }
}

/// Bytes of memory that this process uses (`VmRSS`), or its peak (`VmHWM`).
fn memory_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| {
        line.trim_matches([':', ' ', '\t', 'k', 'B'])
            .parse::<u64>()
            .ok()
    });
    kib.expect("a figure") * 1_024
}

/// The size of the queue, if this process runs this test alone to measure its memory.
fn alone() -> Option<u64> {
    std::env::var(ALONE).ok()?.parse().ok()
}

const ALONE: &str = "CHOPAR_SIM_ALONE";

#[test]
fn a_queue_with_an_unreachable_domain_is_taken_over_fast_and_delays_no_other_domain() {
    let Some(messages) = alone() else {
        // Other tests would use memory at the same time, so the test runs again in a process of its own.
        let messages = std::env::var("CHOPAR_MESSAGES").unwrap_or_else(|_| MESSAGES.to_string());
        let name = "million::a_queue_with_an_unreachable_domain_is_taken_over_fast_and_delays_no_other_domain";
        let output = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, messages)
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        for line in text.lines().filter(|line| line.starts_with("a queue of")) {
            println!("{line}");
        }
        return;
    };
    let disk = written(0..messages);
    let before = memory_bytes("VmRSS");
    let earlier = disk.read_so_far();
    let clock = std::time::Instant::now();
    let mut taken = taken_over(disk.clone());
    let seconds = clock.elapsed().as_secs_f64();
    let so_far = disk.read_so_far();
    let (reads, bytes) = (so_far.0 - earlier.0, so_far.1 - earlier.1);
    assert_eq!(taken.engine.queue_len() as u64, messages);
    let each = memory_bytes("VmRSS").saturating_sub(before) / messages;
    let most = memory_bytes("VmHWM").saturating_sub(before) / messages;
    let tables = taken.engine.tables();
    let alive = messages.div_ceil(ALIVE_ONE_IN);
    let clock = std::time::Instant::now();
    let served = taken.serve(alive);
    let serving = clock.elapsed().as_secs_f64();
    println!(
        "a queue of {messages}: taken over in {seconds:.1} s with {reads} reads of {} MiB; {each} bytes of memory a message, {most} at most while it was read; {served:?} in {serving:.1} s",
        bytes >> 20
    );
    assert!(reads <= messages * MESSAGE_READS_MAX, "{reads} reads");
    assert!(each <= MESSAGE_MEMORY_BYTES_MAX, "{each} bytes a message");
    assert!(most <= MESSAGE_PEAK_BYTES_MAX, "{most} bytes a message");
    assert!(tables.hops <= 5 && tables.deliveries <= 64, "{tables:?}");
    // The results of the last few messages are on their way to the disk.
    let left = taken.engine.queue_len() as u64;
    assert!(
        (messages - alive..=messages - alive + 64).contains(&left),
        "{left} are left"
    );
    // Without the unreachable domain, the same messages take the same time and the same steps, except for the attempt
    // at that domain.
    let mut without = taken_over(written((0..messages).step_by(ALIVE_ONE_IN as usize)));
    let calm = without.serve(alive);
    assert!(served.to_the_dead <= 8, "{served:?}");
    let limit = |calm: u64| calm + calm / 10 + 100;
    assert!(
        served.virtual_ms <= limit(calm.virtual_ms),
        "{served:?}, else {calm:?}"
    );
    assert!(
        served.steps <= limit(calm.steps),
        "{served:?}, else {calm:?}"
    );
}
