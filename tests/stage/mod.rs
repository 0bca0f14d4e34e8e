//! Where an engine is played without sockets: its journal in memory, and a clock that moves when it has to.
//!
//! A stage performs what an engine wants done with its queue, and computes what takes long. Whatever goes out to clients,
//! hosts and name servers it hands back: that is what the tests on it differ in.

pub(crate) mod query;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use chopar::auth::srs::Rewriter;
use chopar::clock::{Instant, Now};
use chopar::config::{Accounts, Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::engine::event::{Action, ConnId, Event, Listener, Lost, Peer, Reader, TlsSession};
use chopar::engine::{Engine, Start};
use chopar::entropy::SeededEntropy;
use chopar::queue::{Journal, MemoryDisk, read, read_unfinished};

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Now,
    pub(crate) disk: MemoryDisk,
    journal: Journal<MemoryDisk>,
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
        let start = Start {
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
        let session = TlsSession {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            verified: false,
        };
        self.handle(Event::TlsReady { conn, session });
    }

    /// A connection ends, and not by chopar.
    pub(crate) fn lose(&mut self, conn: ConnId, cause: Lost) {
        self.handle(Event::Closed { conn, cause });
    }

    /// Performs an action, unless it is about the world outside.
    pub(crate) fn perform(&mut self, action: Action) -> Option<Action> {
        match action {
            Action::Store(command) => {
                for completion in self.journal.execute(vec![command]) {
                    self.handle(Event::Stored(completion));
                }
            }
            Action::Read {
                reader,
                id,
                location,
                part,
            } => {
                let result = read(&mut self.disk.clone(), location, id, part);
                self.handle(Event::Read { reader, result });
            }
            Action::ReadBody {
                conn,
                id,
                offset,
                len,
            } => {
                let result = read_unfinished(&mut self.disk.clone(), id, offset, len);
                let reader = Reader::Conn(conn);
                self.handle(Event::Read { reader, result });
            }
            Action::Work { job, work } => {
                let result = work.perform();
                self.handle(Event::Worked { job, result });
            }
            other => return Some(other),
        }
        None
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

/// Rewrites senders with the secret of the relay.
pub(crate) fn rewriter() -> Rewriter {
    Rewriter::new(&[vec![7; 32].into()]).expect("a secret")
}

const EPOCH_S: u64 = 1_790_000_000;
