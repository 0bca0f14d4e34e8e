//! Observations beside [`Counters`](crate::engine::Counters): durations, and counts by kind.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::dmarc;
use crate::cause::QuotedWords;
use crate::date::Timestamp;
use crate::engine::log::{Level, Line};
use crate::limits::{STATUS_EVENT_BYTES_MAX, STATUS_EVENTS_MAX};
use crate::metrics::{Histogram, History, Provider, Timing};
use crate::status::EnhancedCode;

/// Why an attempt was deferred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum DeferralReason {
    /// The server said so, because of its policy: greylisting, rate, reputation (4.7.x).
    Policy,
    /// The server said so, because of the mailbox (4.2.x).
    Mailbox,
    /// The server said so, for another reason.
    Server,
    /// The DNS gave no answer.
    Dns,
    /// No connection could be made.
    Connection,
    /// The session ended too early, or took too long.
    Lost,
    /// TLS could not be had as it had to be.
    Tls,
    /// Something of this machine: a program, a mailbox, the disk.
    Here,
}

/// All reasons with their names, in the order of their numbers.
const REASONS: [(DeferralReason, &str); DeferralReason::COUNT] = [
    (DeferralReason::Policy, "policy"),
    (DeferralReason::Mailbox, "mailbox"),
    (DeferralReason::Server, "server"),
    (DeferralReason::Dns, "dns"),
    (DeferralReason::Connection, "connection"),
    (DeferralReason::Lost, "lost"),
    (DeferralReason::Tls, "tls"),
    (DeferralReason::Here, "here"),
];

impl DeferralReason {
    /// Variants, for tables that have a place for each.
    pub const COUNT: usize = Self::Here as usize + 1;

    /// Of a status and the words that came with it.
    pub fn of(status: EnhancedCode, words: &QuotedWords) -> Self {
        let (subject, detail) = (status.subject(), status.detail());
        match (words.is_reply(), subject, detail) {
            (true, 7, _) => Self::Policy,
            (true, 2, _) => Self::Mailbox,
            (true, ..) => Self::Server,
            (false, 4, 3) => Self::Dns,
            (false, 4, 1) => Self::Connection,
            (false, 4, _) => Self::Lost,
            (false, 7, _) => Self::Tls,
            (false, ..) => Self::Here,
        }
    }

    /// All names, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        REASONS.iter().map(|(_, name)| *name)
    }
}

/// The TLS version of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Version {
    None,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Variants, for tables that have a place for each.
    pub const COUNT: usize = Self::Tls13 as usize + 1;
    /// As log lines name them, in the order of their numbers.
    pub const NAMES: [&'static str; Self::COUNT] = ["none", "TLSv1.2", "TLSv1.3"];

    /// By the name that the handshake gave it.
    pub fn of(name: Option<&str>) -> Self {
        match name {
            None => Self::None,
            Some("TLSv1.3") => Self::Tls13,
            Some(_) => Self::Tls12,
        }
    }
}

/// Delivery results of recipients.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcomes {
    pub delivered: u64,
    /// Attempts deferred.
    pub deferred: u64,
    pub failed: u64,
}

/// A certificate that is served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertificateLeft {
    /// The name of its folder, or the hostname if the relay made it.
    pub name: String,
    /// Whether it is self-signed by the relay.
    pub self_signed: bool,
    /// When it ends, in seconds since 1970.
    pub until: u64,
}

/// DMARC results of a message, in the order of [`DMARC_NAMES`].
pub(super) const DMARC_NAMES: [&str; 4] = ["pass", "fail", "none", "temperror"];

/// The longest turn of the event loop.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct LongestTurn {
    /// Microseconds by the wall clock.
    pub(in crate::engine) us: u64,
    /// Time when it began, in seconds since 1970; 0 if there was none.
    pub(in crate::engine) at: u64,
}

/// The counts.
pub(in crate::engine) struct Observed {
    /// From the end of a message to its being on the disk.
    pub(super) commit: Histogram,
    /// From its being on the disk to its delivery, for each recipient.
    pub(super) delivery: Histogram,
    /// Batches of the journal: written and synced.
    pub(super) sync: Histogram,
    pub(super) deferred: [u64; DeferralReason::COUNT],
    pub(super) unreached: [u64; DeferralReason::COUNT],
    pub(super) providers: [Outcomes; Provider::COUNT],
    /// Messages received over the network, by TLS version.
    pub(super) received_with: [u64; Version::COUNT],
    /// Recipients delivered to other hosts, likewise.
    pub(super) sent_with: [u64; Version::COUNT],
    pub(super) dmarc: [u64; DMARC_NAMES.len()],
    pub(super) history: History,
    /// The newest lines of the log.
    pub(super) events: VecDeque<(Timestamp, String)>,
    /// The time of this turn.
    at: Timestamp,
    pub(super) certificates: Vec<CertificateLeft>,
    pub(in crate::engine) longest_turn: LongestTurn,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            commit: Histogram::new(Timing::Mail),
            delivery: Histogram::new(Timing::Mail),
            sync: Histogram::new(Timing::Disk),
            deferred: [0; DeferralReason::COUNT],
            unreached: [0; DeferralReason::COUNT],
            providers: [Outcomes::default(); Provider::COUNT],
            received_with: [0; Version::COUNT],
            sent_with: [0; Version::COUNT],
            dmarc: [0; DMARC_NAMES.len()],
            history: History::default(),
            events: VecDeque::new(),
            at: Timestamp::from_seconds(0),
            certificates: Vec::new(),
            longest_turn: LongestTurn::default(),
        }
    }
}

impl Observed {
    /// A turn of the event loop took so long.
    pub(in crate::engine) fn turn_over(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if us > self.longest_turn.us {
            let at = self.at.seconds();
            self.longest_turn = LongestTurn { us, at };
        }
    }

    /// A message is on the disk, so long after its end had come.
    pub(in crate::engine) fn committed(&mut self, took: Duration) {
        self.commit.observe(took);
    }

    /// A recipient is delivered, so long after the message was on the disk.
    pub(in crate::engine) fn delivered(
        &mut self,
        provider: Provider,
        version: Option<Version>,
        took: Duration,
    ) {
        self.delivery.observe(took);
        if let Some(version) = version {
            add(&mut self.sent_with, version as usize);
        }
        if let Some(outcomes) = self.providers.get_mut(provider as usize) {
            outcomes.delivered = outcomes.delivered.saturating_add(1);
        }
    }

    /// An attempt was deferred.
    pub(in crate::engine) fn deferred(&mut self, provider: Provider, reason: DeferralReason) {
        add(&mut self.deferred, reason as usize);
        if let Some(outcomes) = self.providers.get_mut(provider as usize) {
            outcomes.deferred = outcomes.deferred.saturating_add(1);
        }
    }

    /// No host of a next hop could be reached.
    pub(in crate::engine) fn unreached(&mut self, reason: DeferralReason) {
        add(&mut self.unreached, reason as usize);
    }

    /// A recipient has failed.
    pub(in crate::engine) fn failed(&mut self, provider: Provider) {
        if let Some(outcomes) = self.providers.get_mut(provider as usize) {
            outcomes.failed = outcomes.failed.saturating_add(1);
        }
    }

    /// A message came in over the network.
    pub(in crate::engine) fn received(&mut self, version: Version) {
        add(&mut self.received_with, version as usize);
    }

    /// Counts the DMARC result of a message.
    pub(in crate::engine) fn dmarc(&mut self, outcome: dmarc::DmarcResult) {
        let name = outcome.as_str();
        if let Some(at) = DMARC_NAMES.iter().position(|one| *one == name) {
            add(&mut self.dmarc, at);
        }
    }

    /// The journal has written and synced a batch.
    pub(in crate::engine) fn synced(&mut self, took: Duration) {
        self.sync.observe(took);
    }

    /// Sets the certificates that are served, and their expiry.
    pub(in crate::engine) fn certificates(&mut self, certificates: Vec<CertificateLeft>) {
        self.certificates = certificates;
    }

    /// Records the current wall-clock time.
    pub(in crate::engine) const fn set_time(&mut self, at: Timestamp) {
        self.at = at;
    }

    /// Something was logged.
    pub(in crate::engine) fn logged(&mut self, line: &Line) {
        if line.level > Level::Info {
            return;
        }
        if self.events.len() >= STATUS_EVENTS_MAX {
            self.events.pop_front();
        }
        let text = front(&line.text, STATUS_EVENT_BYTES_MAX).to_owned();
        self.events.push_back((self.at, text));
    }
}

/// The longest front of a text within `bytes_max` bytes.
fn front(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

fn add(counts: &mut [u64], at: usize) {
    if let Some(count) = counts.get_mut(at) {
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (at, (reason, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }

    #[test]
    fn a_deferral_has_a_reason() {
        let reply = QuotedWords::Reply("451 4.7.1 Greylisted".into());
        let ours = QuotedWords::ours("no answer");
        for (status, words, reason) in [
            (EnhancedCode::new(4, 7, 1), &reply, DeferralReason::Policy),
            (EnhancedCode::new(4, 2, 2), &reply, DeferralReason::Mailbox),
            (EnhancedCode::new(4, 0, 0), &reply, DeferralReason::Server),
            (EnhancedCode::new(4, 4, 3), &ours, DeferralReason::Dns),
            (
                EnhancedCode::new(4, 4, 1),
                &ours,
                DeferralReason::Connection,
            ),
            (EnhancedCode::new(4, 4, 2), &ours, DeferralReason::Lost),
            (EnhancedCode::new(4, 7, 5), &ours, DeferralReason::Tls),
            (EnhancedCode::new(4, 3, 0), &ours, DeferralReason::Here),
        ] {
            assert_eq!(
                DeferralReason::of(status, words),
                reason,
                "{status} {words}"
            );
        }
    }
}
