//! The data about reports for the status page and `/metrics`: one file, written when a report has arrived.
//!
//! Invariant: no more than [`REPORT_SUMMARY_DOMAINS_MAX`] domains, and a file no longer than
//! [`REPORT_SUMMARY_BYTES_MAX`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ledger::{DAY, ResultCounts};
use super::{DomainSummary, ReportRefusal};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::limits::{REPORT_SUMMARY_BYTES_MAX, REPORT_SUMMARY_DOMAINS_MAX};

/// The results of all messages for `reports:`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Tally {
    /// Reports that were counted.
    pub counted: u64,
    /// Reports that had been counted before.
    pub known: u64,
    /// Messages that were none, and went to a person.
    pub passed_on: u64,
    /// Reports that were not taken, by the reason.
    pub refused: BTreeMap<String, u64>,
}

/// The data of the status page.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Page {
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// The results of messages.
    pub tally: Tally,
    /// The domains: a [`DomainSummary`] of each.
    pub domains: Vec<Value>,
}

/// The figures of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The results of messages.
    pub tally: Tally,
    pub domains: Vec<DomainFigures>,
}

/// The figures of /metrics about the reports on one domain.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DomainFigures {
    pub domain: String,
    /// The results of messages in its name.
    pub messages: ResultCounts,
    /// Sessions of senders to it, by reporter.
    pub tls: Vec<SessionFigures>,
}

/// Sessions that one organisation has tried.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SessionFigures {
    /// With TLS as it was wanted.
    pub successes: u64,
    /// Without.
    pub failures: u64,
}

impl Figures {
    /// Reads the figures of a stored page; all zero if it cannot be read.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Adds served domains without data, as far as there is room.
    pub fn complete<'a>(&mut self, served: impl Iterator<Item = &'a Domain>) {
        for domain in served.take(REPORT_SUMMARY_DOMAINS_MAX) {
            let mut known = self.domains.iter();
            if !known.any(|known| known.domain == domain.as_str()) {
                self.domains.push(DomainFigures {
                    domain: domain.to_string(),
                    ..DomainFigures::default()
                });
            }
        }
        self.domains.truncate(REPORT_SUMMARY_DOMAINS_MAX);
    }
}

impl Tally {
    /// Refused reports, for each possible reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ReportRefusal::ALL.iter().map(|refusal| {
            let cause = refusal.as_str();
            (cause, self.refused.get(cause).copied().unwrap_or_default())
        })
    }
}

impl From<DomainSummary> for Value {
    fn from(summary: DomainSummary) -> Self {
        serde_json::to_value(summary).unwrap_or_default()
    }
}

impl Page {
    /// Reads a page that was written on the day of `now`; `None` if it is older, or cannot be read.
    pub fn parse(bytes: &[u8], now: Timestamp) -> Option<Self> {
        let page: Self = serde_json::from_slice(bytes).ok()?;
        (page.at / DAY == now.seconds() / DAY).then_some(page)
    }

    /// The data about a domain.
    pub fn of(&self, domain: &Domain) -> Option<&Value> {
        let mut domains = self.domains.iter();
        domains.find(|one| one.get("domain").and_then(Value::as_str) == Some(domain.as_str()))
    }

    /// The page as JSON, as much of it as it may be long.
    pub fn to_json(mut self) -> Vec<u8> {
        self.domains.truncate(REPORT_SUMMARY_DOMAINS_MAX);
        loop {
            let text = serde_json::to_vec(&self).unwrap_or_default();
            if text.len() <= REPORT_SUMMARY_BYTES_MAX || self.domains.pop().is_none() {
                return text;
            }
        }
    }
}
