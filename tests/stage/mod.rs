//! A test bed for the engine without sockets: its journal is in memory, and its clock moves only as needed.
//!
//! A stage performs the engine's work on the queue and its computations. Input and output of clients, hosts and name
//! servers go to a [`Scene`], in which tests differ.

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
    /// Events that follow from actions and that the engine has not seen yet.
    following: VecDeque<Following>,
}

/// A consequence of an action, which the engine gets once all actions are done.
enum Following {
    Event(Event<'static>),
    Bytes(ConnId, Vec<u8>),
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

/// The address of the relay.
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A route that sends all mail to one host.
pub(crate) const ROUTE: &str = "[[route]]\ndomain = \"*\"\nvia = [\"smtp://203.0.113.25\"]\n";
/// The user `pencil` with the password `pencil` (RFC 7677 section 3), without a line end.
pub(crate) const PENCIL: &str = "pencil:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                                 wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

impl Stage {
    /// An engine with an empty queue and a random generator with this seed.
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

    /// A client connects from an address; returns the refusal if the engine does not accept it.
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

    /// The TLS handshake on a connection is complete.
    pub(crate) fn secure(&mut self, conn: ConnId) {
        self.handle(secured(conn));
    }

    /// The other end or the network ends a connection.
    pub(crate) fn lose(&mut self, conn: ConnId, cause: Lost) {
        self.handle(Event::Closed { conn, cause });
    }

    /// The engine gets this event once all actions are done.
    pub(crate) fn follow(&mut self, event: Event<'static>) {
        self.following.push_back(Following::Event(event));
    }

    /// The other end of a connection sends this once all actions are done.
    pub(crate) fn answer(&mut self, conn: ConnId, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.following.push_back(Following::Bytes(conn, bytes));
        }
    }

    /// A name server sends this once all actions are done.
    pub(crate) fn resolve(&mut self, socket: SocketId, from: SocketAddr, reply: Vec<u8>) {
        let said = Following::Datagram(socket, from, reply);
        self.following.push_back(said);
    }

    /// Gives the engine the next of these events; returns false if there is none.
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

    /// The journal executes a command and commits it.
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

    /// Advances to the next deadline if it is no later than `end`; returns whether it was.
    pub(crate) fn wake(&mut self, end: Instant) -> bool {
        let next = self.engine.deadline().filter(|next| *next <= end);
        if let Some(next) = next {
            self.advance_to(next);
            self.engine.expire(self.now);
        }
        next.is_some()
    }

    /// Sets the clock to `at`, but never back.
    pub(crate) fn advance_to(&mut self, at: Instant) {
        self.now.instant = self.now.instant.max(at);
        let seconds = EPOCH_S + self.now.instant.as_millis() / 1_000;
        self.now.wall = Timestamp::from_seconds(seconds);
    }
}

/// The event of a complete TLS handshake.
pub(crate) fn secured(conn: ConnId) -> Event<'static> {
    let session = TlsSession {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256".into(),
        verified: false,
    };
    Event::TlsReady { conn, session }
}

/// A rewriter with the SRS secret of the relay.
pub(crate) fn rewriter() -> Rewriter {
    Rewriter::new(&[vec![7; 32].into()]).expect("a secret")
}

const EPOCH_S: u64 = 1_790_000_000;
