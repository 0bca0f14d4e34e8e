//! Where an engine is played without sockets: its journal in memory, and a clock that moves when it has to.
//!
//! A stage performs what an engine wants done with its queue, and computes what takes long. Whatever goes out to
//! clients, hosts and name servers goes to a [`Scene`]: that is what the tests on it differ in.

pub(crate) mod query;
pub(crate) mod scene;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use chopar::auth::srs::Rewriter;
use chopar::clock::{Instant, Now};
use chopar::config::{Accounts, Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::dns::SocketId;
use chopar::engine::event::{ConnId, Event, Listener, Lost, Peer, TlsSession};
use chopar::engine::{Engine, EngineStart};
use chopar::entropy::SeededEntropy;
use chopar::queue::{
    Journal, JournalCommand, Location, MemoryDisk, Part, ReadContent, ReadError, read,
    read_unfinished,
};
use chopar::queue_id::QueueId;

pub(crate) use scene::{Scene, act};

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Now,
    pub(crate) disk: MemoryDisk,
    journal: Journal<MemoryDisk>,
    /// What followed from actions and is not told yet.
    following: VecDeque<Following>,
}

/// What follows from an action, told once all actions are done.
enum Following {
    Event(Event<'static>),
    Bytes(ConnId, Vec<u8>),
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

/// The address of the relay.
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The one host that a relay with this table sends everything to.
pub(crate) const ROUTE: &str = "[[route]]\ndomain = \"*\"\nvia = [\"smtp://203.0.113.25\"]\n";
/// The user `pencil` with the password `pencil` (RFC 7677 section 3), without a line end.
pub(crate) const PENCIL: &str = "pencil:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                                 wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

impl Stage {
    /// An engine with an empty queue, whose chance follows from a seed.
    pub(crate) fn new(hostname: &str, folder: &Folder, seed: u64) -> Self {
        let defaults = SystemDefaults {
            hostname: hostname.into(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(folder, &defaults).expect("a configuration");
        let accounts = Accounts::parse("stage-hand:x:1000:\nstage-actor:x:1001:\n");
        let config = Arc::new(Config { accounts, ..config });
        let disk = MemoryDisk::new();
        let (journal, report) = Journal::open(disk.clone(), &mut |_| {}).expect("an empty spool");
        let now = Now {
            instant: Instant::from_millis(1_000),
            wall: Timestamp::from_seconds(EPOCH_S),
        };
        let start = EngineStart {
            config: Arc::clone(&config),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(seed)),
            rewriter: rewriter(),
        };
        Self {
            engine: Engine::new(start, now),
            config,
            now,
            disk,
            journal,
            following: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, event: Event<'_>) {
        self.engine.handle(event, self.now);
    }

    /// A client comes from an address; gives the reply that it is turned away with where it is.
    pub(crate) fn accept(
        &mut self,
        listener: Listener,
        address: IpAddr,
    ) -> Result<ConnId, Vec<u8>> {
        let peer = match listener {
            Listener::Submit => Peer::Process { uid: 1000 },
            Listener::Control => Peer::Process { uid: 0 },
            _ => Peer::Network {
                remote: SocketAddr::new(address, 40_000),
                local: SocketAddr::new(RELAY.into(), 25),
            },
        };
        self.engine.accept(listener, peer, self.now)
    }

    /// The handshake on a connection is done.
    pub(crate) fn secure(&mut self, conn: ConnId) {
        self.handle(secured(conn));
    }

    /// A connection ends, and not by chopar.
    pub(crate) fn lose(&mut self, conn: ConnId, cause: Lost) {
        self.handle(Event::Closed { conn, cause });
    }

    /// This happens once all actions are done.
    pub(crate) fn follow(&mut self, event: Event<'static>) {
        self.following.push_back(Following::Event(event));
    }

    /// The other end of a connection says this, likewise.
    pub(crate) fn answer(&mut self, conn: ConnId, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.following.push_back(Following::Bytes(conn, bytes));
        }
    }

    /// A name server says this, likewise.
    pub(crate) fn resolve(&mut self, socket: SocketId, from: SocketAddr, reply: Vec<u8>) {
        let said = Following::Datagram(socket, from, reply);
        self.following.push_back(said);
    }

    /// Tells the engine the next of these; false where there is none.
    fn tell(&mut self) -> bool {
        let Some(next) = self.following.pop_front() else {
            return false;
        };
        match next {
            Following::Event(event) => self.handle(event),
            Following::Bytes(conn, bytes) => {
                let bytes = &bytes;
                self.handle(Event::Bytes { conn, bytes });
            }
            Following::Datagram(socket, from, bytes) => {
                let bytes = &bytes;
                self.handle(Event::DnsDatagram {
                    socket,
                    from,
                    bytes,
                });
            }
        }
        true
    }

    /// The journal takes a command and commits it.
    pub(crate) fn store(&mut self, command: JournalCommand) {
        for completion in self.journal.execute(vec![command]) {
            self.follow(Event::Stored(completion));
        }
    }

    /// Reads a part of a queued message.
    pub(crate) fn read(
        &self,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Result<ReadContent, ReadError> {
        read(&mut self.disk.clone(), location, id, part)
    }

    /// Reads a piece of a message that is not queued yet.
    fn read_body(&self, id: QueueId, offset: u64, len: u32) -> Result<ReadContent, ReadError> {
        read_unfinished(&mut self.disk.clone(), id, offset, len)
    }

    /// Lets time pass to the next deadline, if that is no later than `end`; whether it was.
    pub(crate) fn wake(&mut self, end: Instant) -> bool {
        let next = self.engine.deadline().filter(|next| *next <= end);
        if let Some(next) = next {
            self.advance_to(next);
            self.engine.expire(self.now);
        }
        next.is_some()
    }

    /// The clock shows `at`, and never less than before.
    pub(crate) fn advance_to(&mut self, at: Instant) {
        self.now.instant = self.now.instant.max(at);
        let seconds = EPOCH_S + self.now.instant.as_millis() / 1_000;
        self.now.wall = Timestamp::from_seconds(seconds);
    }
}

/// A handshake is done.
pub(crate) fn secured(conn: ConnId) -> Event<'static> {
    let session = TlsSession {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256".into(),
        verified: false,
    };
    Event::TlsReady { conn, session }
}

/// Rewrites senders with the secret of the relay.
pub(crate) fn rewriter() -> Rewriter {
    Rewriter::new(&[vec![7; 32].into()]).expect("a secret")
}

const EPOCH_S: u64 = 1_790_000_000;
