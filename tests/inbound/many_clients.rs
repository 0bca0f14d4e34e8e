//! A relay with many clients: attackers, an honest client of port 25, and a user. Name servers and next hops never
//! answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::config::Folder;
use chopar::dns::SocketId;
use chopar::engine::event::{ConnId, Endpoint, Event, JobId, Listener, Work, WorkResult};
use chopar::queue::{JournalCommand, Ticket};

use crate::stage::{PENCIL, Scene, Stage, act};

pub(crate) struct ManyClients {
    pub(crate) stage: Stage,
    pub(crate) heard: BTreeMap<ConnId, String>,
    /// Password derivations that the test holds back.
    pub(crate) works: Vec<(JobId, Work)>,
    pub(crate) holds_works: bool,
    /// Messages on their way to the disk that the test holds back.
    pub(crate) stores: Vec<Ticket>,
    pub(crate) holds_stores: bool,
    /// DNS queries so far; none is answered.
    pub(crate) asked: usize,
    /// Addresses of requested connections; none is answered.
    pub(crate) connects: Vec<String>,
}

pub(crate) const HONEST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

pub(crate) const USER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

pub(crate) const MESSAGE: &str = "From: a@far.example\r\nSubject: x\r\n\r\nhello\r\n.\r\n";

/// An address of the attacker: in a network of its own for each number if `spread`, otherwise always in the same one.
pub(crate) fn attacker(number: u32, spread: bool) -> IpAddr {
    let base = 0x0A00_0000_u32;
    match spread {
        true => Ipv4Addr::from_bits(base + (number << 16) % 0x00FF_0000 + number % 251),
        false => Ipv4Addr::from_bits(base + number),
    }
    .into()
}

impl ManyClients {
    pub(crate) fn new(keys: &str) -> Self {
        Self::with(keys, Folder::default())
    }

    pub(crate) fn with_hook() -> Self {
        let mut folder = Folder::default();
        folder.insert_file("hooks/post-data", Vec::new());
        Self::with("", folder)
    }

    pub(crate) fn with(keys: &str, folder: Folder) -> Self {
        Self::from_folder(keys, "", folder)
    }

    /// With additional keys of `[abuse]`.
    pub(crate) fn with_abuse(abuse: &str) -> Self {
        Self::from_folder("", abuse, Folder::default())
    }

    fn from_folder(keys: &str, abuse: &str, mut folder: Folder) -> Self {
        let toml = format!(
            "hostname = \"mx.us.example\"\ndns.servers = [\"192.0.2.53\"]\n{keys}\n[abuse]\nptr = false\n\
             connections_per_minute = 0\nmessages_per_minute = 0\n{abuse}"
        );
        folder.insert_file("chopar.toml", toml.into());
        folder.insert_file(
            "domains/us.example/aliases",
            b"ann: ann@far.example\nbox: maildir:/var/mail/box\n".to_vec(),
        );
        folder.insert_file("domains/us.example/users", PENCIL.into());
        Self {
            stage: Stage::new("mx.us.example", &folder, 7),
            heard: BTreeMap::new(),
            works: Vec::new(),
            holds_works: false,
            stores: Vec::new(),
            holds_stores: false,
            asked: 0,
            connects: Vec::new(),
        }
    }

    pub(crate) fn act(&mut self) {
        act(self);
    }

    /// A session after EHLO; `None` if the connection was refused.
    pub(crate) fn connect(
        &mut self,
        listener: Listener,
        address: impl Into<IpAddr>,
    ) -> Option<ConnId> {
        let conn = self.stage.accept(listener, address.into()).ok()?;
        if listener == Listener::Submissions {
            self.stage.secure(conn);
        }
        self.act();
        self.pass(1);
        self.say(conn, "EHLO client.example");
        Some(conn)
    }

    pub(crate) fn say(&mut self, conn: ConnId, line: &str) -> String {
        self.heard.remove(&conn);
        self.feed(conn, format!("{line}\r\n").as_bytes());
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    pub(crate) fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.handle(Event::Bytes { conn, bytes });
        self.act();
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        let span = std::time::Duration::from_secs(seconds);
        let end = self.stage.now.instant.after(span);
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }

    /// A transaction up to the reply to DATA; returns whether that was 354.
    pub(crate) fn begin(&mut self, conn: ConnId, to: &str) -> bool {
        [
            "MAIL FROM:<a@far.example>",
            &format!("RCPT TO:<{to}>"),
            "DATA",
        ]
        .iter()
        .all(|line| matches!(self.say(conn, line).get(..1), Some("2" | "3")))
    }

    /// A user logs in and submits; returns the reply to the final dot.
    pub(crate) fn user_submits(&mut self) -> String {
        let conn = self
            .connect(Listener::Submissions, USER)
            .expect("a session");
        let response = STANDARD.encode("\0pencil@us.example\0pencil");
        let reply = self.say(conn, &format!("AUTH PLAIN {response}"));
        assert!(reply.starts_with("235 "), "{reply}");
        for line in [
            "MAIL FROM:<pencil@us.example>",
            "RCPT TO:<friend@other.example>",
            "DATA",
        ] {
            let reply = self.say(conn, line);
            assert!(matches!(reply.get(..1), Some("2" | "3")), "{reply}");
        }
        self.say(conn, "From: pencil@us.example\r\n\r\nhello\r\n.")
    }

    /// An honest client of port 25 sends a message for a local mailbox; returns the reply to the final dot.
    pub(crate) fn honest_delivers(&mut self) -> String {
        let conn = self.connect(Listener::Smtp, HONEST).expect("a session");
        assert!(self.begin(conn, "box@us.example"));
        self.heard.remove(&conn);
        self.feed(conn, MESSAGE.as_bytes());
        // The name server never answers, so the queries must time out.
        self.pass(60);
        let reply = self.heard.get(&conn).cloned().unwrap_or_default();
        self.say(conn, "QUIT");
        reply
    }
}

impl Scene for ManyClients {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.heard.entry(conn).or_default().push_str(&text);
        self.stage.follow(Event::Drained { conn });
    }

    fn on_connect(&mut self, _: ConnId, to: &Endpoint) {
        self.connects.push(to.to_string());
    }

    fn on_store(&mut self, command: JournalCommand) {
        match command {
            JournalCommand::Append { ticket, .. } if self.holds_stores => self.stores.push(ticket),
            other => self.stage.store(other),
        }
    }

    fn on_query(&mut self, _: SocketId, _: SocketAddr, _: &[u8]) {
        self.asked += 1;
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.holds_works {
            self.works.push((job, work));
            return None;
        }
        Some(work.perform())
    }
}
