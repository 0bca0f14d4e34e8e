//! Runs a dialogue: one connection, on a stage of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chopar::config::Folder;
use chopar::engine::event::{ConnId, Endpoint, Event, Listener, Lost};
use chopar::hook::{HookProgress, HookRequest};
use chopar::queue::{DeliveryResult, JournalCommand, MessageBody, Record};
use chopar::smtp::reply::Reply;

use crate::script::{Pattern, Script, Side, Step};
use crate::stage::{PENCIL, ROUTE, Scene, Stage, act};

/// How the other end's bytes arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pieces {
    /// All consecutive lines at once.
    Whole,
    /// One byte at a time.
    Bytes,
}

pub(crate) struct Play<'a> {
    script: &'a Script,
    pieces: Pieces,
    stage: Stage,
    /// The connection of the dialogue.
    conn: Option<ConnId>,
    /// Whether chopar has closed it.
    closed: bool,
    /// Whether a TLS handshake is in progress: plaintext is lost.
    handshaking: bool,
    /// Output of chopar that no step has read.
    heard: Vec<u8>,
    /// The last reply.
    reply: Vec<String>,
    /// Input that chopar has not taken.
    unsent: Vec<u8>,
    /// Messages as they were stored.
    messages: Vec<u8>,
    log: Vec<String>,
    /// Replies of 4xx and 5xx.
    refusals: Vec<String>,
    outcomes: Vec<DeliveryResult>,
    /// The connection to the hook, and its input.
    hook: Option<(ConnId, HookRequest, Vec<u8>)>,
}

const ALIASES: &str = "pencil: far@elsewhere.example\nbox: maildir:/var/mail/box\nteam: pencil, other@elsewhere.example\n";

/// Time limit for chopar's output.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that arrive in one turn.
const TURN_BYTES: usize = 64 * 1024;

fn folder(script: &Script) -> Folder {
    let mut toml = "hostname = \"mx.example.com\"\nmax_message_size = \"64 KiB\"\nadmin = \"boss@elsewhere.example\"\n\
                    dns.servers = [\"192.0.2.53\"]\n"
        .to_owned();
    if !script.toml.contains("relay.networks") {
        toml.push_str("relay.networks = [\"198.51.100.0/24\"]\n");
    }
    toml.push_str(&script.toml);
    if script.side == Side::Client && !script.toml.contains("[[route]]") {
        toml.push_str(ROUTE);
    }
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", toml.into());
    if script.hook.is_some() {
        folder.insert_file("hooks/post-data", Vec::new());
    }
    folder.insert_file("domains/example.com/users", format!("{PENCIL}\n").into());
    folder.insert_file("domains/example.com/aliases", ALIASES.into());
    folder
}

impl<'a> Play<'a> {
    pub(crate) fn new(script: &'a Script, pieces: Pieces) -> Self {
        Self {
            script,
            pieces,
            stage: Stage::new("mx.example.com", &folder(script), 7),
            conn: None,
            closed: false,
            handshaking: false,
            heard: Vec::new(),
            reply: Vec::new(),
            unsent: Vec::new(),
            messages: Vec::new(),
            log: Vec::new(),
            refusals: Vec::new(),
            outcomes: Vec::new(),
            hook: None,
        }
    }

    /// Runs the dialogue to its end and checks the final state.
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
        match self.stage.accept(listener, peer) {
            Ok(conn) => self.conn = Some(conn),
            Err(bytes) => {
                self.heard.extend_from_slice(&bytes);
                self.closed = true;
            }
        }
        self.act();
    }

    /// Queues a message, and waits for the connection of its delivery.
    fn submit(&mut self) -> Result<(), String> {
        self.accept(Listener::Submit, self.script.peer);
        let local = self.conn.ok_or("chopar takes no local session")?;
        let from = &self.script.from;
        let mut talk = format!("EHLO here\r\nMAIL FROM:<{from}>\r\n").into_bytes();
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
        self.stage.lose(local, Lost::Eof);
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
                self.stage.secure(conn);
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
                self.pass(PATIENCE, |play| play.closed);
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

    /// Gives bytes to the engine like the shell: only while it wants them, and none after the close.
    fn feed(&mut self, bytes: &[u8], turn: usize) {
        for piece in bytes.chunks(turn) {
            let Some(conn) = self.conn else { return };
            if !self.stage.engine.wants_input(conn) && !self.handshaking {
                let wants = |play: &Self| {
                    let wants_input = |conn| play.stage.engine.wants_input(conn);
                    play.handshaking || play.conn.is_none_or(wants_input)
                };
                self.pass(PATIENCE, wants);
            }
            // Plaintext during the handshake would make it fail, and no state machine sees it.
            if self.handshaking || self.conn.is_none() {
                return;
            }
            self.stage.handle(Event::Bytes { conn, bytes: piece });
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
            if is_reply && matches!(line.first(), Some(b'4' | b'5')) {
                let line = String::from_utf8_lossy(&line).into_owned();
                self.refusals.push(line);
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
            self.pass(PATIENCE, |play| end(&play.heard).is_some());
        }
        let at = end(&self.heard)?;
        let line = self.heard[..at].to_vec();
        self.heard.drain(..at + 2);
        Some(line)
    }

    /// Lets time pass, from deadline to deadline, until `done`.
    fn pass(&mut self, span: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.stage.now.instant.after(span);
        while !done(self) {
            if !self.stage.wake(end) {
                return self.stage.advance_to(end);
            }
            self.act();
        }
    }

    fn act(&mut self) {
        act(self);
    }

    /// The hook reads a message and, unless it is silent, answers when the message is complete.
    fn tell_hook(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some((hook, request, body)) = &mut self.hook else {
            return;
        };
        if *hook != conn {
            return;
        }
        match request.on_bytes(bytes, body) {
            HookProgress::More => return,
            HookProgress::Whole => {}
            HookProgress::Malformed => panic!("the hook is asked in a wrong way"),
        }
        for (fact, value) in request.facts() {
            self.log.push(format!("hook {}={value}", fact.name()));
        }
        self.log.push(format!("hook body={}", shown(body)));
        let answer = self.script.hook.clone().unwrap_or_default();
        if answer != b"silent" {
            self.stage.answer(conn, answer);
        }
    }

    fn note(&mut self, command: &JournalCommand) {
        match command {
            JournalCommand::Append {
                record: Record::Message(message),
                ..
            } => {
                self.messages.extend_from_slice(&message.fields);
                if let MessageBody::Inline(bytes) = &message.body {
                    self.messages.extend_from_slice(bytes);
                }
            }
            JournalCommand::Append {
                record: Record::Outcome(outcome),
                ..
            } => self.outcomes.extend(
                outcome
                    .recipients
                    .iter()
                    .map(|(_, outcome)| outcome.clone()),
            ),
            JournalCommand::BodyAppend { bytes, .. } => self.messages.extend_from_slice(bytes),
            _ => {}
        }
    }

    fn hang_up(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.closed = true;
            self.handshaking = false;
            self.stage.lose(conn, Lost::Eof);
            self.act();
        }
    }

    /// The checks after every dialogue: there was no unexpected output, the queue holds the acknowledged messages, no
    /// memory is held, and the next client gets its banner.
    fn judge(mut self) -> Result<(), String> {
        if !self.heard.is_empty() {
            return Err(format!(
                "at the end chopar said more: {}",
                shown(&self.heard)
            ));
        }
        self.hang_up();
        let queued = self.stage.engine.queue_len();
        if queued != self.script.queued {
            return Err(format!(
                "{queued} messages are queued, {} expected",
                self.script.queued
            ));
        }
        let (memory, _) = self.stage.engine.load();
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
        for refusal in &self.refusals {
            if !self.log.iter().any(|line| tells(line, refusal)) {
                return Err(format!(
                    "no line says why: {refusal}; the log is {:#?}",
                    self.log
                ));
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

/// Whether a line of the log explains a refusal.
fn tells(line: &str, refusal: &str) -> bool {
    let events = [
        (Reply::AUTH_FAILED, "event=auth result=failed"),
        (Reply::AUTH_THROTTLED, "event=auth result=throttled"),
        (Reply::EARLY_TALKER, "why=early-talker"),
        (Reply::NOT_A_PROXY, "what=proxy"),
        (Reply::TIMEOUT, "event=timeout"),
    ];
    let of = |reply: &Reply| refusal.ends_with(reply.text());
    let apart = events.iter().find(|(reply, _)| of(reply));
    if apart.is_some_and(|(_, event)| line.contains(event)) {
        return true;
    }
    let (code, rest) = refusal.split_at(3);
    let mut words = rest.trim_start().splitn(2, ' ');
    let has_status = words
        .next()
        .is_some_and(|word| word.starts_with(&code[..1]));
    let text = if has_status {
        words.next().unwrap_or_default()
    } else {
        rest.trim_start()
    };
    // Quotation marks and backslashes are escaped in a value.
    let text = text.split(['"', '\\']).next().unwrap_or_default();
    line.starts_with("event=reject ")
        && line.contains(&format!(" code={code} "))
        && line.contains(text)
}

fn outcome_text(outcome: &DeliveryResult) -> String {
    match outcome {
        DeliveryResult::Delivered => "delivered".to_owned(),
        DeliveryResult::Failed { status, .. } => format!("failed {status}"),
        DeliveryResult::Deferred { status, .. } => match status {
            Some(status) => format!("deferred {status}"),
            None => "deferred".to_owned(),
        },
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// No name server answers, and there is no second host.
impl Scene for Play<'_> {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.stage.follow(Event::Drained { conn });
        self.tell_hook(conn, &bytes);
        if Some(conn) == self.conn {
            self.heard.extend_from_slice(&bytes);
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        if Some(conn) == self.conn {
            self.conn = None;
            self.closed = true;
            self.handshaking = false;
        } else {
            self.hook.take_if(|(hook, ..)| *hook == conn);
        }
    }

    fn on_start_tls(&mut self, conn: ConnId) {
        self.handshaking = Some(conn) == self.conn;
    }

    fn on_connect(&mut self, conn: ConnId, to: &Endpoint) {
        let hook = self.script.hook.as_deref();
        if let (Endpoint::Helper(_), Some(hook)) = (to, hook) {
            let cause = Lost::Unreachable;
            self.stage.follow(match hook {
                b"gone" => Event::Closed { conn, cause },
                _ => Event::Connected { conn },
            });
            self.hook = Some((conn, HookRequest::default(), Vec::new()));
        } else if self.script.side == Side::Client && !self.closed {
            self.conn = Some(conn);
            self.stage.follow(Event::Connected { conn });
        }
    }

    fn on_store(&mut self, command: JournalCommand) {
        self.note(&command);
        self.stage.store(command);
    }

    fn on_log(&mut self, text: String) {
        self.log.push(text);
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
