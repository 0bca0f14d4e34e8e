//! The messages of the control socket: one JSON object per line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::engine::stats::Stats;
use crate::engine::status::RelayStatus;

/// A request of a tool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// All messages, oldest first.
    List {},
    /// One message with its header.
    Show { id: String },
    /// Retry now: one message, those for a domain, or all.
    Flush { which: Selection },
    /// Do not try.
    Hold { which: Selection },
    /// Try again.
    Release { which: Selection },
    /// Remove from the queue without a DSN.
    Remove { which: Selection },
    /// Numbers.
    Stats {},
    /// The state of the relay.
    Status {},
    /// Read the configuration again.
    Reload {},
    /// Send the log lines about a message, past and future, until the tool disconnects.
    Follow { id: String },
    /// Report messages that are accepted for an address, until the tool disconnects.
    Expect {
        /// The address, as the client names it.
        recipient: String,
    },
    /// Log refusals and failed handshakes of clients at these addresses at the level `debug` and do not slow them,
    /// until the tool hangs up: they are its own attempts, from addresses of this host.
    Examine { addresses: Vec<IpAddr> },
}

/// Which messages are meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    All,
    /// These.
    Ids(Vec<String>),
}

/// A line of the answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ControlResponse {
    Message(ListedMessage),
    /// The header of a message that is shown.
    Header {
        /// As text; bytes that are no UTF-8 are replaced.
        text: String,
    },
    /// Numbers.
    Stats(Stats),
    /// The state of the relay.
    Status(Box<RelayStatus>),
    /// A line of the log about the message that is followed.
    Event {
        /// `event=… id=… key=value …`.
        text: String,
    },
    /// Information that is not an error.
    Note {
        /// A sentence.
        text: String,
    },
    /// The user of the tool may not ask for that.
    Denied {
        /// A sentence.
        text: String,
    },
    /// The answer is whole.
    End {
        /// How many messages were meant.
        count: usize,
        /// Errors, one sentence each.
        errors: Vec<String>,
    },
}

/// One message of the queue, as `queue list` prints it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListedMessage {
    pub id: String,
    /// When it was accepted, in seconds since 1970.
    pub arrived: u64,
    /// Bytes.
    pub size: u64,
    /// The reverse-path; empty for the null one.
    pub from: String,
    /// The sender of the message.
    pub origin: String,
    pub held: bool,
    pub recipients: Vec<ListedRecipient>,
    /// Why its envelope cannot be read: then its addresses and its origin are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// One recipient of a message in the queue, as `queue show` prints it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListedRecipient {
    /// The mailbox.
    pub to: String,
    /// `waiting`, `sending` or `done`.
    pub state: String,
    /// Attempts so far.
    pub attempts: u16,
    /// Why it still waits.
    pub why: String,
    /// Time of the next attempt, in seconds since 1970; `None` if it is unknown, or now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}
