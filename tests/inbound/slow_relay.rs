//! A relay whose disk, workers, connections or reads a test can hold up. Its next hop refuses every client.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use chopar::config::{Config, Folder, SystemDefaults};
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Listener, MessageReader, Reloaded, Work, WorkResult,
};
use chopar::queue::{JournalCommand, Location, Part, ReadContent, ReadError};
use chopar::queue_id::QueueId;

use crate::stage::{ROUTE, Scene, Stage, act};

/// What the test holds back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Held {
    Nothing,
    Disk,
    Workers,
    Links,
    Reads,
}

pub(crate) struct SlowRelay {
    pub(crate) stage: Stage,
    pub(crate) held: Held,
    pub(crate) heard: BTreeMap<ConnId, String>,
    pub(crate) log: Vec<String>,
    pub(crate) commands: Vec<JournalCommand>,
    pub(crate) works: Vec<(JobId, Work)>,
    pub(crate) undrained: Vec<ConnId>,
    /// A connection that never drains.
    pub(crate) stalled: Option<ConnId>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) reads: VecDeque<(MessageReader, QueueId, Location, Part)>,
}

const TOML: &str = "hostname = \"mx.example.com\"\ndns.servers = [\"192.0.2.53\"]\n";

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

fn folder(users: &[(&str, &str)]) -> Folder {
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", format!("{TOML}{ROUTE}").into());
    for (domain, users) in users {
        folder.insert_file(&format!("domains/{domain}/users"), (*users).into());
    }
    folder
}

impl SlowRelay {
    pub(crate) fn new(users: &[(&str, &str)]) -> Self {
        Self {
            stage: Stage::new("mx.example.com", &folder(users), 7),
            held: Held::Nothing,
            heard: BTreeMap::new(),
            log: Vec::new(),
            commands: Vec::new(),
            works: Vec::new(),
            undrained: Vec::new(),
            stalled: None,
            closed: Vec::new(),
            reads: VecDeque::new(),
        }
    }

    /// The operator changes the users and reloads.
    pub(crate) fn reload(&mut self, users: &[(&str, &str)]) {
        let defaults = SystemDefaults {
            hostname: "mx.example.com".into(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&folder(users), &defaults).expect("a configuration");
        let now = self.stage.now;
        self.stage.engine.handle(
            Event::Reloaded(Reloaded {
                config: Arc::new(config),
                conn: None,
                unchanged: Vec::new(),
            }),
            now,
        );
        self.act();
    }

    pub(crate) fn connect(&mut self, listener: Listener, address: impl Into<IpAddr>) -> ConnId {
        let conn = self
            .stage
            .accept(listener, address.into())
            .expect("a session");
        if listener == Listener::Submissions {
            self.stage.secure(conn);
        }
        self.act();
        self.say(conn, "EHLO client.example");
        conn
    }

    pub(crate) fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.handle(Event::Bytes { conn, bytes });
        self.act();
    }

    /// Sends a line; returns all output that follows at once.
    pub(crate) fn say(&mut self, conn: ConnId, line: &str) -> String {
        self.heard.remove(&conn);
        self.feed(conn, format!("{line}\r\n").as_bytes());
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self
            .stage
            .now
            .instant
            .after(std::time::Duration::from_secs(seconds));
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }

    /// The output after at most 20 seconds.
    pub(crate) fn wait(&mut self, conn: ConnId) -> String {
        let end = self
            .stage
            .now
            .instant
            .after(std::time::Duration::from_secs(20));
        while !self.heard.contains_key(&conn) && self.stage.wake(end) {
            self.act();
        }
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    pub(crate) fn act(&mut self) {
        act(self);
    }

    /// Workers perform all waiting jobs.
    pub(crate) fn work(&mut self) {
        while !self.works.is_empty() {
            let (job, work) = self.works.remove(0);
            let result = work.perform();
            self.stage.handle(Event::Worked { job, result });
            self.act();
        }
    }

    /// The disk answers at most this many reads.
    pub(crate) fn read(&mut self, reads: usize) {
        for _ in 0..reads {
            let Some((reader, id, location, part)) = self.reads.pop_front() else {
                return;
            };
            let result = self.stage.read(id, location, part);
            self.stage.handle(Event::Read { reader, result });
            self.act();
        }
    }

    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }
}

/// The next hop for all mail refuses every connection with 554.
impl Scene for SlowRelay {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.heard.entry(conn).or_default().push_str(&text);
        if self.held == Held::Links || self.stalled == Some(conn) {
            self.undrained.push(conn);
        } else {
            self.stage.follow(Event::Drained { conn });
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        self.closed.push(conn);
    }

    fn on_connect(&mut self, conn: ConnId, _: &Endpoint) {
        self.stage.follow(Event::Connected { conn });
        self.stage.answer(conn, "554 5.7.1 Not for you\r\n");
    }

    fn on_store(&mut self, command: JournalCommand) {
        match self.held {
            Held::Disk => self.commands.push(command),
            _ => self.stage.store(command),
        }
    }

    fn on_read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        if self.held == Held::Reads && matches!(reader, MessageReader::Dsn(_)) {
            self.reads.push_back((reader, id, location, part));
            return None;
        }
        Some(self.stage.read(id, location, part))
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.held == Held::Workers {
            self.works.push((job, work));
            return None;
        }
        Some(work.perform())
    }

    fn on_log(&mut self, text: String) {
        self.log.push(text);
    }
}
