//! The format of a dialogue.
//!
//! ```text
//! # What the dialogue tests.
//! listener: smtp                  smtp, proxy, submission, submissions, submit; outbound makes chopar the client
//! peer: 203.0.113.9               address of the client; 198.51.100.0/24 may relay
//! toml: [limits]                  an additional line of chopar.toml
//! queued: 1                       messages in the queue at the end; default: 0
//! stored: Subject: x              text that the stored message contains
//! lacks: secret                   text that neither a stored message nor the log contains
//! log: event=reject               text that a line of the log contains
//! pieces: whole                   not one byte at a time: the bytes must arrive together
//! hook: EXIT 0 0\r\n              the hook's answer; `silent`: none, `gone`: no hook runs. The log shows its input
//! from: a@example.com            outbound: the reverse-path of the message; default: null
//! outcome: deferred 4.4.2         outbound: delivery results of the recipients, in order
//!
//! S: 220*                         a whole reply; `*` at the end matches any rest of its last line
//! S+ STARTTLS                     the last reply has a line with this text
//! S- AUTH                         the last reply has no such line
//! C: EHLO client                  a line of the client, with CRLF
//! c: .\n                          bytes, without CRLF
//! C{3}: NOOP                      three times; also S{3}:
//! !tls                            the TLS handshake is complete
//! !wait 300                       this many seconds pass
//! !close                          chopar has closed the connection
//! !hangup                         the other end closes the connection
//! ```
//!
//! `\r`, `\n`, `\0`, `\\` and `\xNN` stand for bytes, `{998*x}` for 998 times `x`, `{base64:..}` for its base64. In an
//! outbound dialogue, `S` is the remote server's input, and a `C:` line is chopar's expected output.

/// The role of chopar in a dialogue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// It listens.
    Server(chopar::engine::event::Listener),
    /// It has a message and connects.
    Client,
}

/// One step of a dialogue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// The other end sends this.
    Say(Vec<u8>),
    /// chopar sends this: a reply as the server, or a line as the client.
    Hear(Pattern),
    /// The last reply has a line with this text.
    Has(String),
    /// The last reply has no line with this text.
    HasNot(String),
    /// The TLS handshake is complete.
    Tls,
    /// This many seconds pass.
    Wait(u64),
    /// chopar has closed the connection.
    Close,
    /// The other end closes the connection.
    HangUp,
}

/// The expected form of a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pattern {
    pub(crate) text: Vec<u8>,
    /// Whether any text may follow.
    pub(crate) open: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) side: Side,
    pub(crate) peer: std::net::IpAddr,
    pub(crate) toml: String,
    pub(crate) queued: usize,
    pub(crate) stored: Vec<Vec<u8>>,
    pub(crate) lacks: Vec<Vec<u8>>,
    pub(crate) log: Vec<String>,
    pub(crate) hook: Option<Vec<u8>>,
    pub(crate) only_whole: bool,
    pub(crate) outcome: Option<String>,
    pub(crate) from: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) message: Vec<u8>,
    /// Each step with its line number.
    pub(crate) steps: Vec<(usize, Step)>,
}

impl Script {
    /// Parses a dialogue; panics with the line of an error.
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        use chopar::engine::event::Listener;
        let mut script = Self {
            name: name.to_owned(),
            side: Side::Server(Listener::Smtp),
            peer: std::net::Ipv4Addr::new(203, 0, 113, 9).into(),
            toml: String::new(),
            queued: 0,
            stored: Vec::new(),
            lacks: Vec::new(),
            log: Vec::new(),
            hook: None,
            only_whole: false,
            outcome: None,
            from: String::new(),
            recipients: Vec::new(),
            message: b"Subject: hello\r\n\r\nbody\r\n".to_vec(),
            steps: Vec::new(),
        };
        let mut lines = (1..).zip(text.lines());
        for (number, line) in lines.by_ref() {
            if line.is_empty() {
                break;
            }
            if line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("{name}.smtp:{number}: expected `key: value`"));
            match key {
                "listener" => {
                    script.side = match value {
                        "smtp" => Side::Server(Listener::Smtp),
                        "proxy" => Side::Server(Listener::Proxy),
                        "submission" => Side::Server(Listener::Submission),
                        "submissions" => Side::Server(Listener::Submissions),
                        "submit" => Side::Server(Listener::Submit),
                        "outbound" => Side::Client,
                        other => panic!("{name}.smtp:{number}: no listener {other}"),
                    }
                }
                "peer" => script.peer = value.parse().expect("an address"),
                "toml" => script.toml.push_str(&format!("{value}\n")),
                "queued" => script.queued = value.parse().expect("a number"),
                "stored" => script.stored.push(bytes(value)),
                "lacks" => script.lacks.push(bytes(value)),
                "log" => script.log.push(value.to_owned()),
                "hook" => script.hook = Some(bytes(value)),
                "pieces" => script.only_whole = value == "whole",
                "outcome" => script.outcome = Some(value.to_owned()),
                "from" => script.from = value.to_owned(),
                "rcpt" => script.recipients.push(value.to_owned()),
                "message" => script.message = bytes(value),
                other => panic!("{name}.smtp:{number}: no key {other}"),
            }
        }
        for (number, line) in lines {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (times, step) = script
                .step(line)
                .unwrap_or_else(|| panic!("{name}.smtp:{number}: no step: {line}"));
            for _ in 0..times {
                script.steps.push((number, step.clone()));
            }
        }
        script
    }

    fn step(&self, line: &str) -> Option<(usize, Step)> {
        if let Some(word) = line.strip_prefix('!') {
            let step = match word.split_once(' ') {
                Some(("wait", seconds)) => Step::Wait(seconds.parse().ok()?),
                None if word == "tls" => Step::Tls,
                None if word == "close" => Step::Close,
                None if word == "hangup" => Step::HangUp,
                _ => return None,
            };
            return Some((1, step));
        }
        if let Some(text) = line.strip_prefix("S+ ") {
            return Some((1, Step::Has(text.to_owned())));
        }
        if let Some(text) = line.strip_prefix("S- ") {
            return Some((1, Step::HasNot(text.to_owned())));
        }
        let (who, text) = line.split_once(':')?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        let (who, times) = match who.split_once('{') {
            Some((who, times)) => (who, times.strip_suffix('}')?.parse().ok()?),
            None => (who, 1),
        };
        let is_client = match who {
            "C" | "c" => true,
            "S" | "s" => false,
            _ => return None,
        };
        let ours = (self.side == Side::Client) == is_client;
        let step = if ours {
            let (text, open) = match text.strip_suffix('*') {
                Some(text) => (text, true),
                None => (text, false),
            };
            let text = bytes(text);
            Step::Hear(Pattern { text, open })
        } else {
            let mut said = bytes(text);
            if matches!(who, "C" | "S") {
                said.extend_from_slice(b"\r\n");
            }
            Step::Say(said)
        };
        Some((times, step))
    }
}

/// The bytes of a text with escapes.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let (escape, after) = rest.split_at(1);
                rest = after;
                out.push(match escape {
                    "r" => b'\r',
                    "n" => b'\n',
                    "0" => 0,
                    "\\" => b'\\',
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    other => panic!("no escape \\{other}"),
                });
            }
            '{' => {
                let (inner, after) = rest.split_once('}').expect("a closing brace");
                rest = after;
                out.extend_from_slice(&macro_bytes(inner));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

fn macro_bytes(inner: &str) -> Vec<u8> {
    use base64::Engine as _;
    if let Some(text) = inner.strip_prefix("base64:") {
        return base64::engine::general_purpose::STANDARD
            .encode(bytes(text))
            .into_bytes();
    }
    let (times, text) = inner.split_once('*').expect("a number, a star and a text");
    bytes(text).repeat(times.parse().expect("a number"))
}

#[test]
fn escapes_stand_for_bytes() {
    assert_eq!(bytes(r"a\r\n\0\xff\\{3*.}"), b"a\r\n\0\xff\\...");
    assert_eq!(bytes(r"{base64:\0a\0b}"), b"AGEAYg==");
}
