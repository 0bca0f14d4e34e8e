//! Messages that clients send, and readers for messages in transit.

use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue_id::QueueId;

use crate::ledger::Dsn;

/// A message that a client tries to send.
#[derive(Clone, Debug)]
pub(crate) struct ClientMessage {
    /// The value of its Subject, unique in a world.
    pub(crate) marker: String,
    /// Its reverse-path.
    pub(crate) from: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) text: Vec<u8>,
    /// Whether its client is unauthenticated.
    pub(crate) unauthenticated: bool,
    /// Whether a forged `Authentication-Results` field precedes its text.
    pub(crate) forged: bool,
}

/// The relay's reply to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// 250: the relay is responsible for the message.
    Accepted,
    /// An error reply.
    Refused,
    /// The connection was lost after the final dot.
    Unknown,
}

impl ClientMessage {
    pub(crate) fn new(
        marker: String,
        recipients: Vec<String>,
        lines: u64,
        dots: &mut SeededEntropy,
    ) -> Self {
        let mut text =
            format!("Subject: {marker}\r\nFrom: author@sender.example\r\n\r\n").into_bytes();
        for line in 0..lines {
            let dots = ".".repeat(dots.below(3) as usize);
            let filling = "x".repeat(50);
            text.extend_from_slice(
                format!("{dots}line {line} of {marker} {filling}\r\n").as_bytes(),
            );
        }
        Self {
            marker,
            from: "author@sender.example".to_owned(),
            recipients,
            text,
            unauthenticated: false,
            forged: false,
        }
    }
}

/// The value of the first field with this name.
pub(crate) fn header(text: &[u8], name: &str) -> Option<String> {
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&text[..end]);
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// Reads a DSN about a message.
pub(crate) fn read_dsn(about: QueueId, text: &[u8], at_ms: u64) -> Dsn {
    let text = String::from_utf8_lossy(text);
    let mut dsn = Dsn {
        about,
        failed: Vec::new(),
        delayed: false,
        statuses: Vec::new(),
        at_ms,
    };
    let mut address = String::new();
    for line in text.lines() {
        if let Some(recipient) = line.strip_prefix("Final-Recipient: rfc822;") {
            address = recipient.trim().to_owned();
        } else if line == "Action: failed" {
            dsn.failed.push(address.clone());
        } else if line == "Action: delayed" {
            dsn.delayed = true;
        } else if let Some(status) = line.strip_prefix("Status: ") {
            dsn.statuses.push(status.to_owned());
        }
    }
    dsn
}
