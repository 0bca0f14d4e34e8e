//! Messages that clients send, and what can be read from messages in transit.

use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue_id::QueueId;

use crate::ledger::Dsn;

/// A message that a client tries to send.
#[derive(Clone, Debug)]
pub(crate) struct ClientMessage {
    /// Stands in its Subject, unique in a world.
    pub(crate) marker: String,
    /// Its reverse-path.
    pub(crate) from: String,
    /// Its recipients.
    pub(crate) recipients: Vec<String>,
    /// Header and body.
    pub(crate) text: Vec<u8>,
    /// Whether its client is one that nobody knows.
    pub(crate) unauthenticated: bool,
    /// Whether a forged finding stands before its text.
    pub(crate) forged: bool,
}

/// What the relay said about a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// 250: it answers for it.
    Accepted,
    /// An error: it does not.
    Refused,
    /// The link was lost behind the dot: nobody knows.
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

/// The first field of this name.
pub(crate) fn header(text: &[u8], name: &str) -> Option<String> {
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&text[..end]);
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// What a notification about a message says.
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
