//! A relay for unauthenticated clients, a DNS zone that the test defines, and a remote host that accepts all mail.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::auth::dkim::key::SigningKey;
use chopar::config::{Dmarc, Folder};
use chopar::dns::{Answer, NoRecords, Question, RecordKind, Records, SocketId};
use chopar::engine::event::{ConnId, Endpoint, Event, JobId, Listener, Lost, Work, WorkResult};
use chopar::mail::header::{Header, HeaderScanner, Scan};
use chopar::policy::authenticity::{Examination, ExaminationStep, Findings, MessageContext};
use chopar::queue::{JournalCommand, MessageBody, MessageRecord, OutcomeRecord, Record};

use crate::stage::query::Query;
use crate::stage::{PENCIL, RELAY, ROUTE, Scene, Stage, act};

/// The TXT records at a name; there are no others.
#[derive(Clone, Debug)]
pub(crate) enum Saying {
    Text(String),
    ServFail,
    Silence,
}

/// A transaction that the remote host accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) stage: Stage,
    pub(crate) zone: BTreeMap<String, Saying>,
    /// Hosts with an address, in addition to [`ROUTE`].
    pub(crate) hosts: BTreeMap<String, Ipv6Addr>,
    client: Option<ConnId>,
    pub(crate) heard: Vec<u8>,
    far: BTreeMap<ConnId, Far>,
    /// Transactions that the remote host accepted.
    pub(crate) sent: Vec<Sent>,
    /// Its reply to RCPT.
    pub(crate) says_to_rcpt: &'static str,
    /// Messages as they were queued.
    pub(crate) queued: Vec<MessageRecord>,
    /// Outcome records of messages that were copied to a newer segment.
    pub(crate) copied: Vec<OutcomeRecord>,
    /// Whether the disk waits for [`World::write`].
    pub(crate) is_disk_slow: bool,
    /// Commands for the disk.
    stores: Vec<JournalCommand>,
    pub(crate) discarded: usize,
    /// Lines of the log.
    pub(crate) logged: Vec<String>,
    /// Whether workers wait for [`World::work`].
    pub(crate) is_slow: bool,
    /// Size of the pieces in which a client's input arrives, in bytes.
    pub(crate) piece_bytes: usize,
    /// Jobs for the workers.
    jobs: Vec<(JobId, Work)>,
}

/// A session with the remote host.
#[derive(Default)]
struct Far {
    line: Vec<u8>,
    in_body: bool,
    current: Sent,
}

/// The address of the unauthenticated client.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

const TOML: &str = "hostname = \"mx.us.example\"\ndns.servers = [\"192.0.2.53\"]\n";
const ALIASES: &str = "ann: ann@far.example\nbox: maildir:/var/mail/box\ntwice: maildir:/var/mail/a, maildir:/var/mail/b, box\nown: own@two.example\nup: up@us.example via mx1.us.example\nten: t@d0.example, t@d1.example, t@d2.example, t@d3.example, t@d4.example, t@d5.example, t@d6.example, t@d7.example, t@d8.example, t@d9.example\n";
/// The key of `us.example`, and of all signers in these tests.
pub(crate) const KEY: &str = include_str!("../data/dkim/rsa-2048-pkcs8.pem");

impl World {
    /// A world with the default configuration.
    pub(crate) fn new() -> Self {
        Self::with("", "")
    }

    /// A world with additional keys and tables.
    pub(crate) fn with(keys: &str, tables: &str) -> Self {
        let mut folder = Folder::default();
        let route = match tables.contains("[[route]]") {
            true => "",
            false => ROUTE,
        };
        folder.insert_file(
            "chopar.toml",
            format!("{TOML}{keys}{route}{tables}").into_bytes(),
        );
        let hundred: Vec<String> = (0..100).map(|at| format!("h{at}@far.example")).collect();
        let aliases = format!("{ALIASES}hundred: {}\n", hundred.join(", "));
        folder.insert_file("domains/us.example/aliases", aliases.into());
        folder.insert_file(
            "domains/us.example/users",
            format!("{PENCIL}:send_as=pencil@mail.example\n").into(),
        );
        folder.insert_file("domains/us.example/dkim/one.pem", KEY.into());
        folder.insert_file(
            "domains/two.example/aliases",
            b"bob: bob@far.example\nown: own@far.example\n".to_vec(),
        );
        folder.insert_file(
            "domains/web.corp.example/aliases",
            b"ann: ann@far.example\n".to_vec(),
        );
        let mut world = Self {
            stage: Stage::new("mx.us.example", &folder, 7),
            zone: BTreeMap::new(),
            hosts: BTreeMap::new(),
            client: None,
            heard: Vec::new(),
            far: BTreeMap::new(),
            sent: Vec::new(),
            says_to_rcpt: "250 ok\r\n",
            queued: Vec::new(),
            copied: Vec::new(),
            is_disk_slow: false,
            stores: Vec::new(),
            discarded: 0,
            logged: Vec::new(),
            is_slow: false,
            piece_bytes: 10_000,
            jobs: Vec::new(),
        };
        let key = SigningKey::from_pem(KEY)
            .expect("a key")
            .public_record_value();
        for name in ["one._domainkey.us.example", "one._domainkey.author.example"] {
            world.say_at(name, &format!("v=DKIM1; k=rsa; p={key}"));
        }
        world.say_at("us.example", &format!("v=spf1 ip4:{RELAY} -all"));
        world
    }

    /// Publishes a TXT record.
    pub(crate) fn say_at(&mut self, name: &str, text: &str) {
        self.zone.insert(name.into(), Saying::Text(text.into()));
    }

    /// A client connects.
    pub(crate) fn connect(&mut self, listener: Listener) {
        self.connect_from(listener, CLIENT);
    }

    /// A client connects from this address.
    pub(crate) fn connect_from(&mut self, listener: Listener, address: Ipv4Addr) {
        let conn = self.stage.accept(listener, address.into());
        let conn = conn.expect("a session");
        self.client = Some(conn);
        self.act();
        if listener == Listener::Submissions {
            self.stage.secure(conn);
            self.act();
        }
        assert!(self.hear().starts_with("220 "));
        assert!(self.say("EHLO mail.far.example").starts_with("250 "));
    }

    /// Sends a line; returns the last line of the reply.
    pub(crate) fn say(&mut self, line: &str) -> String {
        self.feed(format!("{line}\r\n").as_bytes());
        self.hear()
    }

    /// Sends a message with its final dot; the reply has not come yet.
    pub(crate) fn offer(&mut self, from: &str, to: &[&str], message: &[u8]) {
        let reply = self.say(&format!("MAIL FROM:<{from}>"));
        assert!(reply.starts_with("250 "), "{reply}");
        for to in to {
            let reply = self.say(&format!("RCPT TO:<{to}>"));
            assert!(reply.starts_with("250 "), "{to}: {reply}");
        }
        assert!(self.say("DATA").starts_with("354 "));
        // A short message arrives together with its final dot.
        self.feed(&[message, b".\r\n"].concat());
    }

    /// An unauthenticated client sends a message; returns the reply to its final dot.
    pub(crate) fn bring(&mut self, from: &str, to: &[&str], message: &[u8]) -> String {
        self.connect(Listener::Smtp);
        self.offer(from, to, message);
        let reply = self.hear();
        self.leave();
        reply
    }

    /// As [`World::bring`], for a message that is accepted; returns what the remote host got.
    pub(crate) fn forward(&mut self, from: &str, to: &[&str], message: &[u8]) -> Vec<Sent> {
        let before = self.sent.len();
        let reply = self.bring(from, to, message);
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        self.pass(Duration::from_secs(1), |_| false);
        self.sent.split_off(before)
    }

    /// The client ends its session.
    pub(crate) fn leave(&mut self) {
        assert!(self.say("QUIT").starts_with("221 "));
        self.client = None;
    }

    /// Puts the current client aside, for another one.
    pub(crate) fn put_aside(&mut self) -> ConnId {
        self.client.take().expect("a client")
    }

    /// Continues with a client that was put aside.
    pub(crate) fn take_up(&mut self, client: ConnId) {
        assert!(self.client.replace(client).is_none());
    }

    /// The client disconnects.
    pub(crate) fn hang_up(&mut self) {
        let conn = self.client.take().expect("a client");
        self.stage.lose(conn, Lost::Reset);
        self.act();
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(self.piece_bytes) {
            let conn = self.client.expect("a client");
            self.stage.handle(Event::Bytes { conn, bytes });
            self.act();
        }
    }

    /// The last line of the next reply.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let end = |heard: &[u8]| heard.windows(2).position(|pair| pair == b"\r\n");
            if end(&self.heard).is_none() {
                let patience = Duration::from_secs(200);
                self.pass(patience, |world| end(&world.heard).is_some());
            }
            let at = end(&self.heard).expect("the relay says something");
            let line: Vec<u8> = self.heard.drain(..at + 2).collect();
            if line[3] == b' ' {
                return String::from_utf8(line[..at].to_vec()).expect("ASCII");
            }
        }
    }

    /// Lets time pass, from deadline to deadline, until `done`.
    pub(crate) fn pass(&mut self, span: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.stage.now.instant.after(span);
        while !done(self) {
            if !self.stage.wake(end) {
                return self.stage.advance_to(end);
            }
            self.act();
        }
    }

    /// Sends a request of an operator's queue tool.
    pub(crate) fn control(&mut self, request: &str) {
        let tool = self.stage.accept(Listener::Control, CLIENT.into());
        let conn = tool.expect("a tool");
        let line = format!("{request}\n");
        let bytes = line.as_bytes();
        self.stage.handle(Event::Bytes { conn, bytes });
        self.act();
        self.stage.lose(conn, Lost::Eof);
        self.act();
    }

    /// Workers perform all waiting jobs.
    pub(crate) fn work(&mut self) {
        self.is_slow = false;
        for (job, work) in std::mem::take(&mut self.jobs) {
            let result = work.perform();
            self.stage.handle(Event::Worked { job, result });
        }
        self.act();
    }

    /// The disk executes all waiting commands.
    pub(crate) fn write(&mut self) {
        self.is_disk_slow = false;
        for command in std::mem::take(&mut self.stores) {
            self.stage.store(command);
        }
        self.act();
    }

    pub(crate) fn act(&mut self) {
        act(self);
    }

    fn note(&mut self, command: &JournalCommand) {
        match command {
            JournalCommand::Append {
                record: Record::Message(message),
                ..
            } => self.queued.push(message.clone()),
            JournalCommand::BodyDiscard { .. } => self.discarded += 1,
            JournalCommand::CopyForward { progress, .. } => self.copied.push(progress.clone()),
            _ => {}
        }
    }

    /// The name server's reply to a query.
    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Query::new(query);
        if let Some(address) = self.hosts.get(&query.name()) {
            let octets = address.octets();
            let data = (query.kind() == AAAA).then_some(octets.as_slice());
            return Some(query.reply(0, data));
        }
        let saying = self.zone.get(&query.name());
        Some(match saying.filter(|_| query.kind() == TXT) {
            Some(Saying::Silence) => return None,
            Some(Saying::ServFail) => query.reply(2, None),
            Some(Saying::Text(text)) => {
                let strings = text.as_bytes().chunks(255);
                let data: Vec<u8> = strings
                    .flat_map(|string| [&[string.len() as u8], string].concat())
                    .collect();
                query.reply(0, Some(&data))
            }
            None => query.reply(3, None),
        })
    }

    fn answer(&self, question: &Question) -> Answer {
        let text = match self.zone.get(question.name.as_str()) {
            Some(Saying::Text(text)) if question.kind == RecordKind::Txt => Some(text),
            _ => None,
        };
        Answer {
            records: match text {
                Some(text) => Ok(Arc::new(Records::Txt(vec![text.clone().into_bytes()]))),
                None => Err(NoRecords::NoDomain),
            },
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    /// Verifies a message as the remote host would.
    pub(crate) fn judge(&self, sent: &Sent) -> Findings {
        let (header, body) = divide(&sent.text);
        let header = Arc::new(header);
        let mut examination = Examination::new(&header, self.stage.now.wall);
        examination.on_body(&body);
        let known = MessageContext {
            address: Some(IpAddr::V4(RELAY)),
            login: None,
            helo: "mx.us.example".into(),
            path: sent.from.as_str().into(),
            receiver: self.stage.config.hostname.clone(),
            at: self.stage.now.wall,
            dmarc: Dmarc::Enforce,
        };
        loop {
            match examination.resume(&header, &known) {
                ExaminationStep::Done(findings) => return *findings,
                ExaminationStep::Verify(verifying) => examination.on_verified(verifying.perform()),
                ExaminationStep::Wait => panic!("it waits for nothing"),
                ExaminationStep::Ask(questions) => {
                    for question in questions {
                        let answer = self.answer(&question);
                        examination.on_answer(question, answer);
                    }
                }
            }
        }
    }

    /// Waits for the end of everything, then checks that no resource is held.
    pub(crate) fn nothing_is_left(mut self) {
        self.pass(Duration::from_secs(3_600), |_| false);
        let tables = self.stage.engine.tables();
        let left = (
            tables.memory,
            tables.connections,
            tables.questions,
            tables.spilling,
            tables.jobs + tables.verifications,
            tables.commits,
            tables.queued,
        );
        assert_eq!(left, (0, 0, 0, 0, 0, 0, 0), "{tables:?}");
    }
}

/// Programs and maildirs never answer.
impl Scene for World {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.stage.follow(Event::Drained { conn });
        if Some(conn) == self.client {
            self.heard.extend_from_slice(&bytes);
        } else if let Some(far) = self.far.get_mut(&conn) {
            let reply = far.on_bytes(&bytes, self.says_to_rcpt, &mut self.sent);
            self.stage.answer(conn, reply);
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        self.far.remove(&conn);
    }

    fn on_connect(&mut self, conn: ConnId, to: &Endpoint) {
        if let Endpoint::Tcp(_) = to {
            self.far.insert(conn, Far::default());
            self.stage.follow(Event::Connected { conn });
            self.stage.answer(conn, "220 far.example\r\n");
        }
    }

    fn on_store(&mut self, command: JournalCommand) {
        self.note(&command);
        match self.is_disk_slow {
            true => self.stores.push(command),
            false => self.stage.store(command),
        }
    }

    fn on_query(&mut self, socket: SocketId, to: SocketAddr, query: &[u8]) {
        if let Some(reply) = self.reply(query) {
            self.stage.resolve(socket, to, reply);
        }
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.is_slow {
            self.jobs.push((job, work));
            return None;
        }
        Some(work.perform())
    }

    fn on_log(&mut self, text: String) {
        self.logged.push(text);
    }
}

impl Far {
    fn on_bytes(&mut self, bytes: &[u8], to_rcpt: &'static str, sent: &mut Vec<Sent>) -> String {
        let mut reply = String::new();
        for &byte in bytes {
            self.line.push(byte);
            if !self.line.ends_with(b"\r\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if self.in_body {
                self.in_body = line != b".\r\n";
                if self.in_body {
                    let line = line.strip_prefix(b".").unwrap_or(&line);
                    self.current.text.extend_from_slice(line);
                } else {
                    sent.push(std::mem::take(&mut self.current));
                    reply.push_str("250 2.0.0 ok\r\n");
                }
                continue;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let path = || -> String {
                let inner = line
                    .split_once('<')
                    .and_then(|(_, rest)| rest.split_once('>'));
                inner.map_or_else(String::new, |(path, _)| path.to_owned())
            };
            reply.push_str(match line.split([' ', ':', '\r']).next() {
                Some("EHLO") => "250-far.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                Some("MAIL") => {
                    self.current.from = path();
                    "250 ok\r\n"
                }
                Some("RCPT") => {
                    self.current.to.extend(to_rcpt.starts_with('2').then(path));
                    to_rcpt
                }
                Some("DATA") if self.current.to.is_empty() => "554 nobody\r\n",
                Some("DATA") => {
                    self.in_body = true;
                    "354 go\r\n"
                }
                _ => "221 bye\r\n",
            });
        }
        reply
    }
}

/// The header and the body of a message.
pub(crate) fn divide(message: &[u8]) -> (Header, Vec<u8>) {
    let mut scanner = HeaderScanner::default();
    match scanner.on_bytes(message).expect("a header") {
        Scan::Complete { taken } => (
            scanner.finish().expect("a header").header,
            message[taken..].to_vec(),
        ),
        Scan::Open => (scanner.finish().expect("a header").header, Vec::new()),
    }
}

/// The text of a queued message that is stored inline.
pub(crate) fn text(record: &MessageRecord) -> Vec<u8> {
    match &record.body {
        MessageBody::Inline(bytes) => [record.fields.as_slice(), bytes].concat(),
        MessageBody::File { .. } => panic!("it is in a file"),
    }
}

/// Type of TXT records (RFC 1035 section 3.3.14).
const TXT: u8 = 16;
/// Type of AAAA records (RFC 3596 section 2.1).
const AAAA: u8 = 28;
