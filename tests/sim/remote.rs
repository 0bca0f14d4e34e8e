//! A mail exchanger of the world: takes mail, or fails at a stage that its mood picks.

use chopar::entropy::{Entropy, SeededEntropy};

/// What a server does to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// Takes everything.
    Good,
    /// Answers the banner, MAIL, RCPT, DATA or the dot with this class of error now and then.
    Moody,
    /// Hangs up at some point, sometimes behind the dot.
    HangsUp,
    /// Says nothing at some point.
    Silent,
}

/// A message that a server has taken: it said, or tried to say, 250.
#[derive(Clone, Debug)]
pub struct Taken {
    pub from: String,
    pub recipients: Vec<String>,
    pub text: Vec<u8>,
    /// Whether the reply got through.
    pub reply_lost: bool,
}

/// What the server does next.
pub enum Move {
    Say(Vec<u8>),
    HangUp(Vec<u8>),
}

/// One session of a server.
pub struct Remote {
    mood: Mood,
    entropy: SeededEntropy,
    pipelining: bool,
    line: Vec<u8>,
    from: String,
    recipients: Vec<String>,
    body: Option<Vec<u8>>,
    pub taken: Vec<Taken>,
}

impl Remote {
    pub fn new(mood: Mood, seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(seed);
        Self {
            mood,
            pipelining: entropy.below(4) > 0,
            entropy,
            line: Vec::new(),
            from: String::new(),
            recipients: Vec::new(),
            body: None,
            taken: Vec::new(),
        }
    }

    fn chance(&mut self, mood: Mood, one_in: u64) -> bool {
        self.mood == mood && self.entropy.below(one_in) == 0
    }

    /// The banner.
    pub fn banner(&mut self) -> Move {
        if self.chance(Mood::Moody, 8) {
            return Move::HangUp(b"421 4.3.2 not now\r\n".to_vec());
        }
        if self.chance(Mood::HangsUp, 8) {
            return Move::HangUp(Vec::new());
        }
        if self.chance(Mood::Silent, 8) {
            return Move::Say(Vec::new());
        }
        Move::Say(b"220 mx ESMTP\r\n".to_vec())
    }

    pub fn on_bytes(&mut self, bytes: &[u8]) -> Move {
        let mut out = Vec::new();
        for &byte in bytes {
            self.line.push(byte);
            if byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            assert!(
                line.ends_with(b"\r\n"),
                "the relay sends CRLF only: {:?}",
                String::from_utf8_lossy(&line)
            );
            assert!(
                !line[..line.len() - 2]
                    .iter()
                    .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
            );
            if self.chance(Mood::HangsUp, 12) {
                return Move::HangUp(out);
            }
            if self.chance(Mood::Silent, 12) {
                return Move::Say(out);
            }
            if let Some(end) = self.on_line(&line, &mut out) {
                return end;
            }
        }
        Move::Say(out)
    }

    fn on_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<Move> {
        if let Some(body) = &mut self.body {
            if line != b".\r\n" {
                body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
                return None;
            }
            return self.on_dot(out);
        }
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        let verb = text
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let refusal: &[u8] = match self.entropy.below(4) {
            0 => b"550 5.7.1 no\r\n",
            1 => b"452 4.5.3 too many\r\n",
            _ => b"451 4.3.0 later\r\n",
        };
        match verb.as_str() {
            "EHLO" if self.pipelining => {
                out.extend_from_slice(b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            }
            "EHLO" => out.extend_from_slice(b"250 mx\r\n"),
            "MAIL" if self.chance(Mood::Moody, 8) => out.extend_from_slice(refusal),
            "MAIL" => {
                self.from = address(&text);
                self.recipients.clear();
                out.extend_from_slice(b"250 ok\r\n");
            }
            "RCPT" if self.chance(Mood::Moody, 5) => out.extend_from_slice(refusal),
            "RCPT" => {
                self.recipients.push(address(&text));
                out.extend_from_slice(b"250 ok\r\n");
            }
            "DATA" if self.recipients.is_empty() => out.extend_from_slice(b"554 5.5.1 nobody\r\n"),
            "DATA" if self.chance(Mood::Moody, 10) => out.extend_from_slice(b"451 4.3.0 later\r\n"),
            "DATA" => {
                self.body = Some(Vec::new());
                out.extend_from_slice(b"354 go\r\n");
            }
            "RSET" => {
                self.recipients.clear();
                out.extend_from_slice(b"250 ok\r\n");
            }
            "QUIT" => return Some(Move::HangUp(b"221 bye\r\n".to_vec())),
            _ => out.extend_from_slice(b"500 what\r\n"),
        }
        None
    }

    fn on_dot(&mut self, out: &mut Vec<u8>) -> Option<Move> {
        let text = self.body.take().unwrap_or_default();
        if self.chance(Mood::Moody, 6) {
            out.extend_from_slice(b"451 4.3.0 later\r\n");
            return None;
        }
        if self.chance(Mood::Moody, 20) {
            out.extend_from_slice(b"554 5.6.0 we do not like it\r\n");
            return None;
        }
        let reply_lost = self.chance(Mood::HangsUp, 4);
        let recipients = std::mem::take(&mut self.recipients);
        self.taken.push(Taken {
            from: self.from.clone(),
            recipients,
            text,
            reply_lost,
        });
        if reply_lost {
            return Some(Move::HangUp(Vec::new()));
        }
        out.extend_from_slice(b"250 2.0.0 taken\r\n");
        None
    }
}

fn address(line: &str) -> String {
    let start = line.find('<').expect("a path") + 1;
    line[start..line.rfind('>').expect("a path")].to_owned()
}
