//! A client of the relay: sends a few messages in one session and records which were acknowledged.

use crate::messages::{ClientMessage, Said};
use crate::unauthenticated_clients::FORGED;

/// An event of a client that the ledger must learn.
pub(crate) enum News {
    /// It has sent the final dot of a message, which was accepted for these recipients.
    Dot(ClientMessage),
    /// The relay acknowledged or refused the message with this marker, or the connection was lost.
    Said(String, Said),
}

/// One client session.
pub(crate) struct Sender {
    messages: Vec<ClientMessage>,
    line: Vec<u8>,
    /// Commands that wait for a reply, oldest first.
    awaited: std::collections::VecDeque<Awaited>,
    accepted_recipients: Vec<String>,
    current: Option<ClientMessage>,
    /// Whether it has sent the final dot of the current message.
    dot_sent: bool,
    /// Codes of the replies to its final dots.
    pub(crate) codes: Vec<u16>,
    /// Events that the ledger has not seen yet.
    pub(crate) news: Vec<News>,
    pub(crate) over: bool,
}

#[derive(Clone, Debug)]
enum Awaited {
    Banner,
    Ehlo,
    Mail,
    Rcpt(String),
    Data,
    Dot,
    Quit,
}

impl Sender {
    pub(crate) fn new(mut messages: Vec<ClientMessage>) -> Self {
        messages.reverse();
        Self {
            messages,
            line: Vec::new(),
            awaited: [Awaited::Banner].into(),
            accepted_recipients: Vec::new(),
            current: None,
            dot_sent: false,
            codes: Vec::new(),
            news: Vec::new(),
            over: false,
        }
    }

    /// Whether it is an unauthenticated client.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        let messages = self.messages.iter().chain(&self.current);
        messages
            .last()
            .is_some_and(|message| message.unauthenticated)
    }

    /// Whether it waits for the reply to its final dot.
    pub(crate) fn waits_behind_a_dot(&self) -> bool {
        self.dot_sent
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self) {
        if let Some(message) = self.current.take() {
            let said = if self.dot_sent {
                Said::Unknown
            } else {
                Said::Refused
            };
            self.news.push(News::Said(message.marker, said));
        }
        self.over = true;
    }

    /// Reads replies of the relay; returns the client's next input.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' {
                let line =
                    String::from_utf8(std::mem::take(&mut self.line)).expect("replies are ASCII");
                assert!(line.ends_with("\r\n"), "a reply ends with CRLF: {line:?}");
                if line.as_bytes()[3] == b' ' && !self.over {
                    self.on_reply(line[..3].parse().expect("a code"), &mut out);
                }
            }
        }
        out
    }

    fn on_reply(&mut self, code: u16, out: &mut Vec<u8>) {
        if code == 421 {
            return self.lost();
        }
        match self
            .awaited
            .pop_front()
            .expect("no reply without a command")
        {
            Awaited::Banner => {
                assert_eq!(code, 220);
                out.extend_from_slice(b"EHLO client.sender.example\r\n");
                self.awaited.push_back(Awaited::Ehlo);
            }
            Awaited::Ehlo => self.next(out),
            Awaited::Mail => {
                if code != 250 {
                    self.finish(Said::Refused);
                    out.extend_from_slice(b"QUIT\r\n");
                    self.awaited.clear();
                    self.over = true;
                }
            }
            Awaited::Rcpt(recipient) => {
                if code == 250 {
                    self.accepted_recipients.push(recipient);
                }
            }
            Awaited::Data => {
                if code != 354 {
                    self.finish(Said::Refused);
                    return self.next(out);
                }
                let message = self.current.as_mut().expect("a message");
                message.recipients = std::mem::take(&mut self.accepted_recipients);
                if message.forged {
                    out.extend_from_slice(FORGED.as_bytes());
                }
                for line in message.text.split_inclusive(|&byte| byte == b'\n') {
                    if line.starts_with(b".") {
                        out.push(b'.');
                    }
                    out.extend_from_slice(line);
                }
                out.extend_from_slice(b".\r\n");
                self.news.push(News::Dot(message.clone()));
                self.dot_sent = true;
                self.awaited.push_back(Awaited::Dot);
            }
            Awaited::Dot => {
                self.codes.push(code);
                self.finish(if code == 250 {
                    Said::Accepted
                } else {
                    Said::Refused
                });
                self.next(out);
            }
            Awaited::Quit => self.over = true,
        }
    }

    fn finish(&mut self, said: Said) {
        self.dot_sent = false;
        if let Some(message) = self.current.take() {
            self.news.push(News::Said(message.marker, said));
        }
    }

    fn next(&mut self, out: &mut Vec<u8>) {
        self.accepted_recipients.clear();
        let Some(message) = self.messages.pop() else {
            out.extend_from_slice(b"QUIT\r\n");
            self.awaited.push_back(Awaited::Quit);
            return;
        };
        out.extend_from_slice(format!("MAIL FROM:<{}>\r\n", message.from).as_bytes());
        self.awaited.push_back(Awaited::Mail);
        for recipient in &message.recipients {
            out.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
            self.awaited.push_back(Awaited::Rcpt(recipient.clone()));
        }
        out.extend_from_slice(b"DATA\r\n");
        self.awaited.push_back(Awaited::Data);
        self.current = Some(message);
    }
}
