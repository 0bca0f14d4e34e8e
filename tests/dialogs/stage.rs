//! Where a dialogue is played: one engine, one journal in memory, one connection, a clock that moves when it has to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::auth::srs::Rewriter;
use chopar::clock::{Instant, Now};
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::engine::event::{
    Action, ConnId, Endpoint, Event, Listener, Lost, Peer, Reader, TlsSession,
};
use chopar::engine::{Engine, Start};
use chopar::entropy::SeededEntropy;
use chopar::queue::{Body, Command, Journal, MemoryDisk, Outcome, Record, read, read_unfinished};
use chopar::smtp::hook::{Progress, Request};

use crate::script::{Pattern, Script, Side, Step};

/// How the other end's bytes arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pieces {
    /// All that is said in a row at once.
    Whole,
    /// One by one.
    Bytes,
}

pub(crate) struct Stage<'a> {
    script: &'a Script,
    pieces: Pieces,
    engine: Engine,
    disk: MemoryDisk,
    journal: Journal<MemoryDisk>,
    now: Now,
    /// The connection of the dialogue.
    conn: Option<ConnId>,
    /// Whether it is closed.
    closed: bool,
    /// Whether a handshake is under way: what is sent in clear is lost.
    handshaking: bool,
    /// What chopar said and nobody has read.
    heard: Vec<u8>,
    /// The last reply.
    reply: Vec<String>,
    /// What the other end said and chopar has not taken.
    unsent: Vec<u8>,
    /// Messages as they were stored.
    messages: Vec<u8>,
    log: Vec<String>,
    outcomes: Vec<Outcome>,
    /// The connection to the hook, and what it was told.
    hook: Option<(ConnId, Request, Vec<u8>)>,
}

/// The user of the dialogues: `pencil@example.com` with the password `pencil` (RFC 7677 section 3).
const USERS: &str = "pencil:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";
const ALIASES: &str = "pencil: far@elsewhere.example\nteam: pencil, other@elsewhere.example\n";
/// Where an outbound dialogue takes place.
const ROUTE: &str = "[[route]]\ndomain = \"*\"\nvia = [\"smtp://203.0.113.25\"]\n";

/// How long chopar is waited for in a dialogue.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that arrive in one turn.
const TURN_BYTES: usize = 64 * 1024;

fn config(script: &Script) -> Arc<Config> {
    let mut toml = "hostname = \"mx.example.com\"\nmax_message_size = \"64 KiB\"\nadmin = \"boss@elsewhere.example\"\n\
                    dns.servers = [\"192.0.2.53\"]\nrelay.networks = [\"198.51.100.0/24\"]\n"
        .to_owned();
    toml.push_str(&script.toml);
    if script.side == Side::Client && !script.toml.contains("[[route]]") {
        toml.push_str(ROUTE);
    }
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", toml.into());
    if script.hook.is_some() {
        folder.insert_file("hooks/post-data", Vec::new());
    }
    folder.insert_file("domains/example.com/users", USERS.into());
    folder.insert_file("domains/example.com/aliases", ALIASES.into());
    let defaults = SystemDefaults {
        hostname: "mx.example.com".into(),
        resolv_conf: String::new(),
    };
    Arc::new(Config::parse(&folder, &defaults).expect("a configuration"))
}

impl<'a> Stage<'a> {
    pub(crate) fn new(script: &'a Script, pieces: Pieces) -> Self {
        let disk = MemoryDisk::new();
        let (journal, report) = Journal::open(disk.clone(), &mut |_| {}).expect("an empty spool");
        let now = Now {
            instant: Instant::from_millis(1_000),
            wall: Timestamp::from_seconds(1_790_000_000),
        };
        let start = Start {
            config: config(script),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(7)),
            rewriter: Rewriter::new(&[vec![7; 32].into()]).expect("a secret"),
        };
        Self {
            script,
            pieces,
            engine: Engine::new(start, now),
            disk,
            journal,
            now,
            conn: None,
            closed: false,
            handshaking: false,
            heard: Vec::new(),
            reply: Vec::new(),
            unsent: Vec::new(),
            messages: Vec::new(),
            log: Vec::new(),
            outcomes: Vec::new(),
            hook: None,
        }
    }

    /// Plays the dialogue to its end and looks at what is left.
    pub(crate) fn play(mut self) -> Result<(), String> {
        match self.script.side {
            Side::Server(listener) => self.accept(listener, self.script.peer),
            Side::Client => self.submit()?,
        }
        let steps = &self.script.steps;
        for (at, (number, step)) in steps.iter().enumerate() {
            let more = matches!(steps.get(at + 1), Some((_, Step::Say(_))));
            self.step(step, more)
                .map_err(|why| format!("line {number}: {why}"))?;
        }
        self.judge()
    }

    fn accept(&mut self, listener: Listener, peer: IpAddr) {
        let peer = match listener {
            Listener::Submit | Listener::Control => Peer::Process { uid: 1000 },
            _ => Peer::Network {
                remote: SocketAddr::new(peer, 40_000),
                local: SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 25),
            },
        };
        match self.engine.accept(listener, peer, self.now) {
            Ok(conn) => self.conn = Some(conn),
            Err(bytes) => {
                self.heard.extend_from_slice(&bytes);
                self.closed = true;
            }
        }
        self.act();
    }

    /// Puts a message into the queue, and waits for the connection that it leads to.
    fn submit(&mut self) -> Result<(), String> {
        self.accept(Listener::Submit, self.script.peer);
        let local = self.conn.ok_or("chopar takes no local session")?;
        let mut talk = b"EHLO here\r\nMAIL FROM:<>\r\n".to_vec();
        let one = ["someone@elsewhere.example".to_owned()];
        let recipients = match self.script.recipients.as_slice() {
            [] => &one,
            several => several,
        };
        for recipient in recipients {
            talk.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        }
        talk.extend_from_slice(b"DATA\r\n");
        self.feed(&talk, TURN_BYTES);
        let mut body = self.script.message.clone();
        body.extend_from_slice(b".\r\n");
        self.feed(&body, TURN_BYTES);
        let cause = Lost::Eof;
        self.engine
            .handle(Event::Closed { conn: local, cause }, self.now);
        self.heard.clear();
        self.messages.clear();
        self.act();
        match self.conn {
            Some(conn) if conn != local => Ok(()),
            _ => Err(format!(
                "chopar does not connect; the log is {:#?}",
                self.log
            )),
        }
    }

    fn step(&mut self, step: &Step, more: bool) -> Result<(), String> {
        match step {
            Step::Say(bytes) => {
                if !self.heard.is_empty() {
                    return Err(format!("chopar said more: {}", shown(&self.heard)));
                }
                self.unsent.extend_from_slice(bytes);
                if !more {
                    let bytes = std::mem::take(&mut self.unsent);
                    let turn = match self.pieces {
                        Pieces::Whole => TURN_BYTES,
                        Pieces::Bytes => 1,
                    };
                    self.feed(&bytes, turn);
                }
                Ok(())
            }
            Step::Hear(pattern) => self.hear(pattern),
            Step::Has(text) | Step::HasNot(text) => {
                let wanted = matches!(step, Step::Has(_));
                let has = self.reply.iter().any(|line| {
                    line.get(4..)
                        .is_some_and(|rest| rest.starts_with(text.as_str()))
                });
                if has == wanted {
                    Ok(())
                } else {
                    Err(format!("the reply was {:?}", self.reply))
                }
            }
            Step::Tls => {
                let conn = self.conn.ok_or("chopar has closed")?;
                if !std::mem::take(&mut self.handshaking) {
                    return Err("no handshake is under way".to_owned());
                }
                let session = TlsSession {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_128_GCM_SHA256".into(),
                    verified: false,
                };
                self.engine
                    .handle(Event::TlsReady { conn, session }, self.now);
                self.act();
                Ok(())
            }
            Step::Wait(seconds) => {
                self.pass(Duration::from_secs(*seconds), |_| false);
                Ok(())
            }
            Step::Close if !self.heard.is_empty() => {
                Err(format!("chopar said more: {}", shown(&self.heard)))
            }
            Step::Close if self.closed => Ok(()),
            Step::Close => {
                self.pass(PATIENCE, |stage| stage.closed);
                match self.closed {
                    true => Ok(()),
                    false => Err("chopar has not closed".to_owned()),
                }
            }
            Step::HangUp => {
                self.hang_up();
                Ok(())
            }
        }
    }

    /// Hands bytes to the engine, as the shell would: only while they are wanted, and none after the end.
    fn feed(&mut self, bytes: &[u8], turn: usize) {
        for piece in bytes.chunks(turn) {
            let Some(conn) = self.conn else { return };
            if !self.engine.wants_input(conn) && !self.handshaking {
                let wants = |stage: &Self| {
                    stage.handshaking
                        || stage.conn.is_none_or(|conn| stage.engine.wants_input(conn))
                };
                self.pass(PATIENCE, wants);
            }
            // In clear while TLS is awaited: the handshake would fail on it, and no machine sees it.
            if self.handshaking || self.conn.is_none() {
                return;
            }
            self.engine
                .handle(Event::Bytes { conn, bytes: piece }, self.now);
            self.act();
        }
    }

    fn hear(&mut self, pattern: &Pattern) -> Result<(), String> {
        self.reply.clear();
        loop {
            let line = self.heard_line().ok_or_else(|| {
                let closed = if self.closed { " and closed" } else { "" };
                format!(
                    "expected {}, chopar said nothing{closed}",
                    shown(&pattern.text)
                )
            })?;
            let is_reply = matches!(self.script.side, Side::Server(_));
            let goes_on = is_reply && line.get(3) == Some(&b'-');
            self.reply.push(String::from_utf8_lossy(&line).into_owned());
            if goes_on {
                continue;
            }
            let fits = match pattern.open {
                true => line.starts_with(&pattern.text),
                false => line == pattern.text,
            };
            return match fits {
                true => Ok(()),
                false => Err(format!(
                    "expected {}, heard {}",
                    shown(&pattern.text),
                    shown(&line)
                )),
            };
        }
    }

    fn heard_line(&mut self) -> Option<Vec<u8>> {
        let end = |heard: &[u8]| heard.windows(2).position(|pair| pair == b"\r\n");
        if end(&self.heard).is_none() {
            self.pass(PATIENCE, |stage| end(&stage.heard).is_some());
        }
        let at = end(&self.heard)?;
        let line = self.heard[..at].to_vec();
        self.heard.drain(..at + 2);
        Some(line)
    }

    /// Lets time pass, from deadline to deadline, until `done`.
    fn pass(&mut self, span: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now.instant.after(span);
        while !done(self) {
            let next = match self.engine.deadline() {
                Some(deadline) if deadline <= end => deadline.max(self.now.instant),
                _ => break,
            };
            self.advance_to(next);
            self.engine.expire(self.now);
            self.act();
        }
        if !done(self) {
            self.advance_to(end);
        }
    }

    fn advance_to(&mut self, at: Instant) {
        self.now.instant = self.now.instant.max(at);
        let seconds = 1_790_000_000 + self.now.instant.as_millis() / 1_000;
        self.now.wall = Timestamp::from_seconds(seconds);
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.next_action() {
            self.do_action(action);
        }
    }

    fn do_action(&mut self, action: Action) {
        match action {
            Action::Send { conn, bytes } => {
                self.tell_hook(conn, &bytes);
                if Some(conn) == self.conn {
                    self.heard.extend_from_slice(&bytes);
                }
                self.engine.handle(Event::Drained { conn }, self.now);
            }
            Action::Close { conn } | Action::Abort { conn } if Some(conn) == self.conn => {
                self.conn = None;
                self.closed = true;
                self.handshaking = false;
            }
            Action::Close { conn } | Action::Abort { conn } => {
                self.hook.take_if(|(hook, ..)| *hook == conn);
            }
            Action::Connect {
                conn,
                to: Endpoint::Helper(_),
                ..
            } if self.script.hook.is_some() => {
                let cause = Lost::Unreachable;
                let event = match self.script.hook.as_deref() {
                    Some(b"gone") => Event::Closed { conn, cause },
                    _ => Event::Connected { conn },
                };
                self.hook = Some((conn, Request::default(), Vec::new()));
                self.engine.handle(event, self.now);
            }
            Action::StartTls { conn, .. } => self.handshaking = Some(conn) == self.conn,
            Action::Connect { conn, .. } if self.script.side == Side::Client && !self.closed => {
                self.conn = Some(conn);
                self.engine.handle(Event::Connected { conn }, self.now);
            }
            Action::Connect { .. } => {}
            Action::Store(command) => {
                self.note(&command);
                for completion in self.journal.execute(vec![command]) {
                    self.engine.handle(Event::Stored(completion), self.now);
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
            Action::ReadBody {
                conn,
                id,
                offset,
                len,
            } => {
                let result = read_unfinished(&mut self.disk.clone(), id, offset, len);
                let reader = Reader::Conn(conn);
                self.engine.handle(Event::Read { reader, result }, self.now);
            }
            Action::Work { job, work } => {
                let result = work.perform();
                self.engine.handle(Event::Worked { job, result }, self.now);
            }
            Action::Log(line) => self.log.push(line.text),
            Action::DnsSend { .. }
            | Action::DnsConnect { .. }
            | Action::DnsClose { .. }
            | Action::Reload { .. } => {}
        }
    }

    /// The hook hears of a message, and answers once that is whole, unless it is silent.
    fn tell_hook(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some((hook, request, body)) = &mut self.hook else {
            return;
        };
        if *hook != conn {
            return;
        }
        match request.on_bytes(bytes, body) {
            Progress::More => return,
            Progress::Whole => {}
            Progress::Malformed => panic!("the hook is asked in a wrong way"),
        }
        for (fact, value) in request.facts() {
            self.log.push(format!("hook {}={value}", fact.name()));
        }
        self.log.push(format!("hook body={}", shown(body)));
        let answer = self.script.hook.clone().unwrap_or_default();
        if answer != b"silent" {
            let bytes = &answer;
            self.engine.handle(Event::Bytes { conn, bytes }, self.now);
        }
    }

    fn note(&mut self, command: &Command) {
        match command {
            Command::Append {
                record: Record::Message(message),
                ..
            } => {
                self.messages.extend_from_slice(&message.fields);
                if let Body::Inline(bytes) = &message.body {
                    self.messages.extend_from_slice(bytes);
                }
            }
            Command::Append {
                record: Record::Outcome(outcome),
                ..
            } => self.outcomes.extend(
                outcome
                    .recipients
                    .iter()
                    .map(|(_, outcome)| outcome.clone()),
            ),
            Command::BodyAppend { bytes, .. } => self.messages.extend_from_slice(bytes),
            _ => {}
        }
    }

    fn hang_up(&mut self) {
        if let Some(conn) = self.conn.take() {
            let cause = Lost::Eof;
            self.closed = true;
            self.handshaking = false;
            self.engine.handle(Event::Closed { conn, cause }, self.now);
            self.act();
        }
    }

    /// What holds after every dialogue: nothing was said that nobody expected, the queue has what was acknowledged,
    /// no memory is held, and the next client gets its banner.
    fn judge(mut self) -> Result<(), String> {
        if !self.heard.is_empty() {
            return Err(format!(
                "at the end chopar said more: {}",
                shown(&self.heard)
            ));
        }
        self.hang_up();
        let queued = self.engine.queue_len();
        if queued != self.script.queued {
            return Err(format!(
                "{queued} messages are queued, {} expected",
                self.script.queued
            ));
        }
        let (memory, _) = self.engine.load();
        if memory != 0 {
            return Err(format!("{memory} bytes are still held"));
        }
        for text in &self.script.stored {
            if !contains(&self.messages, text) {
                return Err(format!("not stored: {}", shown(text)));
            }
        }
        for text in &self.script.lacks {
            let logged = self.log.iter().any(|line| contains(line.as_bytes(), text));
            if logged || contains(&self.messages, text) {
                return Err(format!("stored or logged: {}", shown(text)));
            }
        }
        for text in &self.script.log {
            if !self.log.iter().any(|line| line.contains(text.as_str())) {
                return Err(format!("not logged: {text}; the log is {:#?}", self.log));
            }
        }
        if let Some(expected) = &self.script.outcome {
            let found: Vec<String> = self.outcomes.iter().map(outcome_text).collect();
            if found.join(", ") != *expected {
                return Err(format!("the outcome was {found:?}"));
            }
        }
        self.closed = false;
        self.accept(Listener::Smtp, Ipv4Addr::new(192, 0, 2, 200).into());
        let pattern = Pattern {
            text: b"220 ".to_vec(),
            open: true,
        };
        self.hear(&pattern)
            .map_err(|why| format!("the next session: {why}"))
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Failed { status, .. } => format!("failed {status}"),
        Outcome::Deferred { status, .. } => match status {
            Some(status) => format!("deferred {status}"),
            None => "deferred".to_owned(),
        },
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
