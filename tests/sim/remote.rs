//! A mail exchanger of the world: accepts mail, or fails at any stage in any way.

use std::time::Duration;

use chopar::engine::event::Lost;
use chopar::entropy::{Entropy, SeededEntropy};

/// How a server behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    /// Accepts everything.
    Good,
    /// Fails sometimes, at any stage, in any way.
    Bad,
    /// Sends this reply to every RCPT.
    Refuses(&'static str),
    /// Sends the second text in reply to RCPT for addresses that begin with the first.
    RefusesOne(&'static str, &'static str),
    /// Replies to EHLO and closes the connection at once.
    Leaves,
    /// Cannot be connected to.
    Dead,
    /// Always has this fault at this stage.
    Fails(&'static str, Fault),
    /// Offers TLS, does not begin it, and accepts no mail without it.
    WithholdsTls,
    /// Offers TLS, and sends plaintext after its reply to STARTTLS.
    Injects,
}

/// A message that a server accepted: it sent 250, or the connection broke before it could.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) text: Vec<u8>,
}

/// What the server sends next, after which delay, and whether it closes the connection then.
#[derive(Default)]
pub(crate) struct Move {
    pub(crate) bytes: Vec<u8>,
    pub(crate) after: Duration,
    pub(crate) end: Option<Lost>,
}

/// A fault of a server at one stage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Temporary,
    Permanent,
    Closing,
    Garbage,
    Reset,
    HangUp,
    Silence,
    Delay,
}

pub(crate) const FAULTS: [(Fault, &str); 8] = [
    (Fault::Temporary, "4xx"),
    (Fault::Permanent, "5xx"),
    (Fault::Closing, "421"),
    (Fault::Garbage, "garbage"),
    (Fault::Reset, "reset"),
    (Fault::HangUp, "hang-up"),
    (Fault::Silence, "silence"),
    (Fault::Delay, "delay"),
];

/// One session of a server.
pub(crate) struct Remote {
    mood: Mood,
    entropy: SeededEntropy,
    pipelining: bool,
    starttls: bool,
    line: Vec<u8>,
    /// A line with a wrong line ending.
    spoiled: Option<Vec<u8>>,
    /// Recipients of the open transaction.
    recipients: Option<Vec<String>>,
    /// Its reverse-path.
    path: String,
    /// First digits of the replies to RCPT in this transaction.
    classes: Vec<u8>,
    body: Option<Vec<u8>>,
    /// Whether it ignores all further input.
    deaf: bool,
    next: Move,
    pub(crate) taken: Vec<Taken>,
    /// Reverse-paths and recipients of all RCPT commands.
    pub(crate) asked: Vec<(String, String)>,
    /// Its faults, by stage and kind.
    pub(crate) faults: Vec<(&'static str, &'static str)>,
}

impl Remote {
    pub(crate) fn new(mood: Mood, seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        let pipelining = entropy.below(4) > 0;
        let starttls = match mood {
            Mood::Bad => entropy.below(4) == 0,
            mood => matches!(mood, Mood::WithholdsTls | Mood::Injects),
        };
        Self {
            mood,
            pipelining,
            starttls,
            entropy,
            line: Vec::new(),
            spoiled: None,
            recipients: None,
            path: String::new(),
            classes: Vec::new(),
            body: None,
            deaf: false,
            next: Move::default(),
            taken: Vec::new(),
            asked: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.mood == Mood::Bad && self.entropy.below(one_in) == 0
    }

    pub(crate) fn banner(&mut self) -> Move {
        if !self.fails("banner", 10) {
            self.say("220 mx ESMTP");
        }
        self.moved()
    }

    /// The TLS handshake is complete: the session starts again at EHLO.
    pub(crate) fn tls_on(&mut self) {
        self.starttls = false;
        self.line.clear();
    }

    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Move {
        for &byte in bytes {
            if self.deaf {
                break;
            }
            self.line.push(byte);
            if byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let text = line.strip_suffix(b"\r\n");
            let clean =
                text.is_some_and(|text| !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            if !clean {
                self.spoiled = Some(line.clone());
            }
            // The relay may send damaged data, as long as it does not send the final dot.
            if self.body.is_none() || line == b".\r\n" {
                let spoiled = self.spoiled.take();
                let shown = spoiled.as_deref().map(String::from_utf8_lossy);
                assert!(
                    shown.is_none(),
                    "the relay sends lines that end with CRLF: {shown:?}"
                );
            }
            self.on_line(&line);
        }
        self.moved()
    }

    fn moved(&mut self) -> Move {
        std::mem::take(&mut self.next)
    }

    fn say(&mut self, line: &str) {
        self.next.bytes.extend_from_slice(line.as_bytes());
        self.next.bytes.extend_from_slice(b"\r\n");
    }

    fn on_line(&mut self, line: &[u8]) {
        if let Some(body) = &mut self.body {
            if line != b".\r\n" {
                body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
                if self.chance(4_000) || matches!(self.mood, Mood::Fails("body", _)) {
                    self.end("body", "reset", Lost::Reset);
                }
                return;
            }
            return self.on_dot();
        }
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        let verb = text
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" if self.fails("ehlo", 12) => {}
            "EHLO" => {
                self.say_ehlo();
                if self.mood == Mood::Leaves {
                    self.say("421 4.3.2 goodbye");
                }
                self.leave_early();
            }
            "HELO" => self.say("250 mx"),
            "STARTTLS" if self.chance(4) => {
                self.faults.push(("tls", "refused"));
                self.say("454 4.7.0 not now");
            }
            "STARTTLS" if self.mood == Mood::WithholdsTls => self.say("454 4.7.0 not now"),
            "STARTTLS" if self.mood == Mood::Injects => self.say("220 go\r\n250 injected"),
            "STARTTLS" => self.say("220 go"),
            "MAIL" if self.mood == Mood::WithholdsTls => {
                self.say("530 5.7.0 Must issue a STARTTLS command first");
            }
            "MAIL" if self.recipients.is_some() => self.say("503 5.5.1 nested MAIL"),
            "MAIL" if self.fails("mail", 12) => {}
            "MAIL" => {
                self.recipients = Some(Vec::new());
                self.path = path_in(&text);
                self.classes.clear();
                self.say("250 ok");
            }
            "RCPT" => self.on_rcpt(&text),
            "DATA" => self.on_data(),
            "RSET" => {
                self.recipients = None;
                self.say("250 ok");
            }
            "QUIT" => {
                self.say("221 bye");
                self.next.end = Some(Lost::Eof);
                self.deaf = true;
            }
            _ => self.say("500 what"),
        }
    }

    fn say_ehlo(&mut self) {
        self.say("250-mx");
        if self.pipelining {
            self.say("250-PIPELINING");
        }
        if self.starttls {
            self.say("250-STARTTLS");
        }
        self.say("250 8BITMIME");
    }

    fn on_rcpt(&mut self, text: &str) {
        if self.recipients.is_none() {
            return self.say("503 5.5.1 MAIL first");
        }
        let address = path_in(text);
        self.asked.push((self.path.clone(), address.clone()));
        if let Mood::Refuses(reply) = self.mood {
            return self.say(reply);
        }
        if let Mood::RefusesOne(start, reply) = self.mood
            && address.starts_with(start)
        {
            return self.say(reply);
        }
        let before = self.next.bytes.len();
        if !self.fails("rcpt", 8) {
            self.recipients.get_or_insert_default().push(address);
            self.say("250 ok");
        }
        self.classes.extend(self.next.bytes.get(before));
        self.classes.dedup();
        if self.classes.len() == 2 {
            self.faults.push(("rcpt", "mixed replies"));
        }
    }

    fn on_data(&mut self) {
        if self.recipients.as_ref().is_none_or(Vec::is_empty) {
            // Some servers accept DATA without a recipient, and refuse after the body.
            if self.recipients.is_some() && self.chance(3) {
                self.faults.push(("data", "354 for nobody"));
                self.body = Some(Vec::new());
                return self.say("354 go");
            }
            return self.say("554 5.5.1 nobody");
        }
        if !self.fails("data", 12) {
            self.body = Some(Vec::new());
            self.say("354 go");
        }
    }

    fn on_dot(&mut self) {
        let text = self.body.take().unwrap_or_default();
        let recipients = self.recipients.take().unwrap_or_default();
        if recipients.is_empty() {
            assert!(
                text.is_empty(),
                "a message for nobody was sent all the same"
            );
            return self.say("554 5.5.1 nobody");
        }
        // A refusal is final; a server that sends nothing or nonsense may have accepted the message.
        let before = self.faults.len();
        let failed = self.fails("dot", 6);
        let refused = self
            .faults
            .get(before)
            .is_some_and(|(_, kind)| matches!(*kind, "4xx" | "5xx" | "421"));
        if !refused && (!failed || self.entropy.below(2) == 0) {
            let path = self.path.clone();
            self.taken.push(Taken {
                path,
                recipients,
                text,
            });
        }
        if !failed {
            self.say("250 2.0.0 taken");
        }
        if !self.deaf {
            self.leave_early();
        }
    }

    /// Sometimes closes the session between two messages, together with the previous reply.
    fn leave_early(&mut self) {
        if self.chance(12) {
            self.say("421 4.4.2 idle for too long");
            self.end("quit", "421", Lost::Eof);
        } else if self.chance(12) {
            self.end("quit", "reset", Lost::Reset);
        } else if self.chance(12) {
            self.say("rubbish");
            self.faults.push(("quit", "garbage"));
        }
    }

    fn end(&mut self, stage: &'static str, kind: &'static str, cause: Lost) {
        self.faults.push((stage, kind));
        self.next.end = Some(cause);
        self.deaf = true;
    }

    /// Sometimes misbehaves; returns whether the right reply is left out.
    fn fails(&mut self, stage: &'static str, one_in: u64) -> bool {
        let always = match self.mood {
            Mood::Fails(at, fault) if at == stage => Some(fault),
            _ => None,
        };
        if always.is_none() && !self.chance(one_in) {
            return false;
        }
        let drawn = self.entropy.below(FAULTS.len() as u64) as usize;
        let known = always.and_then(|fault| FAULTS.iter().find(|(known, _)| *known == fault));
        let (fault, kind) = *known.unwrap_or(&FAULTS[drawn]);
        self.faults.push((stage, kind));
        match fault {
            Fault::Temporary => {
                let replies = [
                    "451 4.3.0 later",
                    "450 4.2.0 busy",
                    "452 4.5.3 too many",
                    "451 later",
                    "452 full",
                ];
                let reply = replies[self.entropy.below(replies.len() as u64) as usize];
                self.say(reply);
            }
            Fault::Permanent => {
                let replies = [
                    "550 5.7.1 no",
                    "554 no",
                    "552 5.2.2 full",
                    "550-no\r\n550 never",
                ];
                let reply = replies[self.entropy.below(replies.len() as u64) as usize];
                self.say(reply);
            }
            Fault::Closing => {
                self.say("421 4.3.2 not now");
                self.next.end = Some(Lost::Eof);
                self.deaf = true;
            }
            Fault::Garbage => {
                let replies: [&[u8]; 6] = [
                    b"what\r\n",
                    b"25\r\n",
                    b"250-a\r\n354 b\r\n",
                    b"999 x\r\n",
                    b"\x00\xff\xfe\r\n",
                    b"\r\n",
                ];
                let reply = replies[self.entropy.below(replies.len() as u64) as usize];
                self.next.bytes.extend_from_slice(reply);
            }
            Fault::Reset => {
                self.next.end = Some(Lost::Reset);
                self.deaf = true;
            }
            Fault::HangUp => {
                self.next.end = Some(Lost::Eof);
                self.deaf = true;
            }
            Fault::Silence => self.deaf = true,
            Fault::Delay => {
                self.next.after = Duration::from_secs(1 + self.entropy.below(110));
                return false;
            }
        }
        true
    }
}

fn path_in(command: &str) -> String {
    let start = command.find('<').expect("a path") + 1;
    command[start..command.rfind('>').expect("a path")].to_owned()
}
