//! The counts from the reports about one domain, by day, by organisation and by source.
//!
//! ```text
//! day ─┬─ reporter ─┬─ ids of reports that are counted
//!      │            ├─ source address: messages by result, who has signed, whose bounces they are
//!      │            └─ other sources, sessions by result
//!      └─ …
//! ```
//!
//! A reporter is the domain that DMARC has shown to have sent the report. The organisation that a report names is
//! displayed to people, but decides nothing. All reports without such a domain share one place and are counted apart.
//! Each reporter has a share of a day. If there are more reporters than places, those that have reported about more
//! days go first. Of names that are neighbours, only a few get a place, because names under one domain cost nothing. If
//! all of them together hold too much, the oldest sources of the reporter that holds most per day are merged. No
//! reporter can therefore push out the reports of others, whatever it sends and under however many names.
//!
//! Invariants: a report is counted once. Its id and its counts are in one file, which is written as a whole and never
//! grows longer than the reader accepts.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{
    CheckedDomain, Disposition, ReceivedReport, ReportContent, ReportRefusal, ReportRow, TlsResult,
};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::limits::{
    REPORT_AGE_MAX, REPORT_DAYS_MAX, REPORT_ENTRIES_MAX, REPORT_FILE_BYTES_MAX, REPORT_IDS_MAX,
    REPORT_NAMES_MAX, REPORT_REPORTERS_MAX, REPORT_SOURCES_MAX,
};

/// The sender of a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reporter {
    /// This domain, as DMARC shows.
    Verified(Domain),
    /// The sender is not verified.
    Unverified,
}

/// The result of adding a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LedgerAddition {
    Counted,
    /// It was before.
    Known,
    /// It is not taken.
    Refused(ReportRefusal),
}

/// All that is kept of one domain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ledger {
    /// The policy that reporters have read last, and on which day.
    #[serde(default)]
    pub(super) policy: Option<(u64, String)>,
    #[serde(default)]
    pub(super) days: BTreeMap<u64, BTreeMap<String, Share>>,
}

/// The reports of one reporter about one day.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Share {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ids: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) other: ResultCounts,
    #[serde(skip_serializing_if = "Sessions::is_empty")]
    pub(super) tls: Sessions,
}

impl Share {
    /// Messages of all addresses.
    pub(super) fn counts(&self) -> ResultCounts {
        let mut counts = self.other;
        for source in self.sources.values() {
            counts.add(&source.counts);
        }
        counts
    }
}

/// Messages from one address.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) counts: ResultCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signer: Option<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) envelope: Option<Seen>,
}

/// A domain that a reporter has looked at, and whether its check passed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Seen {
    pub(super) domain: String,
    pub(super) passes: bool,
}

/// Messages by result.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ResultCounts {
    /// A signature of the domain and SPF both passed.
    pub both: u64,
    /// A signature alone.
    pub dkim: u64,
    /// SPF alone.
    pub spf: u64,
    pub neither: u64,
    /// Quarantined messages.
    pub quarantined: u64,
    /// Refused messages.
    pub rejected: u64,
    /// Messages that the receiver treated differently from the policy.
    pub overridden: u64,
}

/// TLS sessions by result.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Sessions {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) causes: BTreeMap<String, u64>,
}

impl ResultCounts {
    /// Messages that pass DMARC.
    pub const fn passed(&self) -> u64 {
        self.both.saturating_add(self.dkim).saturating_add(self.spf)
    }

    /// Messages in all rows together.
    pub const fn messages(&self) -> u64 {
        self.passed().saturating_add(self.neither)
    }

    fn of(row: &ReportRow) -> Self {
        let mut counts = Self::default();
        *match (row.dkim, row.spf) {
            (true, true) => &mut counts.both,
            (true, false) => &mut counts.dkim,
            (false, true) => &mut counts.spf,
            (false, false) => &mut counts.neither,
        } = row.count;
        match row.disposition {
            Disposition::None => {}
            Disposition::Quarantine => counts.quarantined = row.count,
            Disposition::Reject => counts.rejected = row.count,
        }
        if row.is_overridden {
            counts.overridden = row.count;
        }
        counts
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.both, other.both),
            (&mut self.dkim, other.dkim),
            (&mut self.spf, other.spf),
            (&mut self.neither, other.neither),
            (&mut self.quarantined, other.quarantined),
            (&mut self.rejected, other.rejected),
            (&mut self.overridden, other.overridden),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Sessions {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        for (cause, count) in &other.causes {
            let sum = self.causes.entry(cause.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    fn of(result: &TlsResult) -> Self {
        let causes = result.causes.iter();
        Self {
            successes: result.successes,
            failures: result.failures,
            causes: causes
                .map(|(cause, count)| ((*cause).to_owned(), *count))
                .collect(),
        }
    }
}

impl Source {
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (mine, theirs) in [
            (&mut self.signer, &other.signer),
            (&mut self.envelope, &other.envelope),
        ] {
            let is_better = mine.as_ref().is_none_or(|mine| !mine.passes);
            if is_better && theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
    }

    fn of(row: &ReportRow) -> Self {
        let seen = |identity: &CheckedDomain| Seen {
            // The whole name, because its end identifies the owner.
            domain: identity.domain.to_string(),
            passes: identity.passes,
        };
        Self {
            counts: ResultCounts::of(row),
            signer: row.signer.as_ref().map(seen),
            envelope: row.envelope.as_ref().map(seen),
        }
    }
}

impl Ledger {
    /// Reads a stored ledger; `None` if it cannot be read.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The stored form. If it would be longer than the reader accepts, the oldest days are dropped.
    pub fn to_json(&mut self) -> Vec<u8> {
        loop {
            let text = serde_json::to_vec(self).unwrap_or_default();
            let most = REPORT_FILE_BYTES_MAX as usize;
            if text.len() <= most || self.days.is_empty() {
                return text;
            }
            let surplus = text.len().saturating_sub(most);
            let share = self.days.len().saturating_mul(surplus);
            let share = share.checked_div(text.len()).unwrap_or(0);
            for _ in 0..=share {
                self.days.pop_first();
            }
        }
    }

    /// Counts a report. Rows about a domain count if `is_ours` accepts it.
    pub fn add(
        &mut self,
        report: &ReceivedReport,
        reporter: &Reporter,
        now: Timestamp,
        is_ours: &dyn Fn(&Domain) -> bool,
    ) -> LedgerAddition {
        let Some(day) = day_of(report, now) else {
            return LedgerAddition::Refused(ReportRefusal::Date);
        };
        let place = self.place(day, reporter);
        let key = match reporter {
            Reporter::Verified(domain) if place != Place::Others => domain.as_str(),
            Reporter::Verified(_) => OTHERS,
            Reporter::Unverified => UNVERIFIED,
        };
        let shares = self.days.entry(day).or_default();
        if let Place::Of(newcomer) = place
            && let Some(share) = shares.remove(&newcomer)
        {
            shares.entry(OTHERS.to_owned()).or_default().merge(share);
        }
        let share = shares.entry(key.to_owned()).or_default();
        let id = id_of(report, reporter);
        if share.ids.contains(&id) {
            return LedgerAddition::Known;
        }
        if share.ids.len() >= REPORT_IDS_MAX {
            return LedgerAddition::Refused(ReportRefusal::Share);
        }
        share.ids.push(id);
        share.count(report, is_ours);
        if let (Reporter::Verified(_), ReportContent::Dmarc { domain, policy, .. }) =
            (reporter, &report.content)
            && is_ours(domain)
            && !policy.is_empty()
            && self.policy.as_ref().is_none_or(|(of, _)| *of <= day)
        {
            self.policy = Some((day, policy.clone()));
        }
        self.trim(now);
        LedgerAddition::Counted
    }

    /// The place of a reporter on a day.
    fn place(&self, day: u64, reporter: &Reporter) -> Place {
        let (Reporter::Verified(domain), Some(shares)) = (reporter, self.days.get(&day)) else {
            return Place::Free;
        };
        let names = || shares.keys().filter(|name| !is_common(name));
        let is_beside = |name: &&String| site(name) == site(domain.as_str());
        let is_crowded = names().filter(is_beside).count() >= REPORT_NAMES_MAX;
        let is_full = is_crowded || names().count() >= REPORT_REPORTERS_MAX;
        if !is_full || shares.contains_key(domain.as_str()) {
            return Place::Free;
        }
        let rivals = names().filter(|name| !is_crowded || is_beside(name));
        let newest = rivals.map(|name| (self.days_of(name), name)).min();
        match newest.filter(|(days, _)| *days <= self.days_of(domain.as_str())) {
            Some((_, name)) => Place::Of(name.clone()),
            None => Place::Others,
        }
    }

    /// About how many days there are reports of one.
    fn days_of(&self, reporter: &str) -> usize {
        let days = self.days.values();
        days.filter(|shares| shares.contains_key(reporter)).count()
    }

    /// Removes old data, and merges data beyond the bounds.
    fn trim(&mut self, now: Timestamp) {
        let today = now.seconds() / DAY;
        let oldest = today.saturating_sub(REPORT_DAYS_MAX as u64);
        self.days.retain(|day, _| *day > oldest);
        // A report about such a day is refused for its age.
        let closed = now.seconds().saturating_sub(REPORT_AGE_MAX.as_secs()) / DAY;
        for (_, day) in self.days.range_mut(..closed) {
            day.values_mut().for_each(|share| share.ids = Vec::new());
        }
        while self.entries() > REPORT_ENTRIES_MAX {
            let Some(loudest) = self.loudest() else { break };
            let shares = self.days.values_mut();
            let mut shares = shares.filter_map(|day| day.get_mut(&loudest));
            if let Some(share) = shares.find(|share| !share.sources.is_empty()) {
                share.fold();
            }
        }
    }

    fn entries(&self) -> usize {
        let shares = self.days.values().flat_map(BTreeMap::values);
        shares.map(|share| share.sources.len()).sum()
    }

    /// The reporter with most sources per day.
    fn loudest(&self) -> Option<String> {
        let mut held: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (reporter, share) in self.days.values().flatten() {
            let (sources, days) = held.entry(reporter).or_default();
            *sources = sources.saturating_add(share.sources.len());
            *days = days.saturating_add(1);
        }
        let a_day = |(sources, days): (usize, usize)| {
            let most = sources.saturating_mul(REPORT_DAYS_MAX);
            most.checked_div(days).unwrap_or_default()
        };
        let held = held.into_iter().filter(|(_, (sources, _))| *sources > 0);
        let most = held.max_by_key(|(_, held)| a_day(*held))?;
        Some(most.0.to_owned())
    }
}

/// The place where a report is counted.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    /// In its own place, existing or free.
    Free,
    /// In the place of this reporter, which has reported about fewer days.
    Of(String),
    /// With the reporters that have no place of their own.
    Others,
}

/// Whether a place is of many.
fn is_common(reporter: &str) -> bool {
    reporter == UNVERIFIED || reporter == OTHERS
}

/// The last two labels of a name: the owner of a domain has all names below it.
fn site(name: &str) -> &str {
    let second = name.rmatch_indices('.').nth(1);
    second
        .and_then(|(at, _)| name.get(at.saturating_add(1)..))
        .unwrap_or(name)
}

impl Share {
    fn count(&mut self, report: &ReceivedReport, is_ours: &dyn Fn(&Domain) -> bool) {
        match &report.content {
            ReportContent::Dmarc { domain, rows, .. } => {
                for row in rows {
                    let about = row.author.as_ref().unwrap_or(domain);
                    // Of a name below a domain with this policy, or of a domain of ours without a policy of its own.
                    if is_ours(about) || row.author.is_none() && is_ours(domain) {
                        self.count_row(row);
                    }
                }
            }
            ReportContent::Tls(results) => {
                for result in results.iter().filter(|result| is_ours(&result.domain)) {
                    self.tls.add(&Sessions::of(result));
                }
            }
        }
    }

    fn count_row(&mut self, row: &ReportRow) {
        let key = row.source.to_string();
        let has_room = self.sources.len() < REPORT_SOURCES_MAX;
        match has_room || self.sources.contains_key(&key) {
            true => self.sources.entry(key).or_default().add(&Source::of(row)),
            false => self.other.add(&ResultCounts::of(row)),
        }
    }

    /// Merges another share, so that counted data is not lost.
    fn merge(&mut self, mut other: Self) {
        other.fold();
        self.ids.append(&mut other.ids);
        self.other.add(&other.other);
        self.tls.add(&other.tls);
    }

    /// Puts its sources together.
    fn fold(&mut self) {
        for source in std::mem::take(&mut self.sources).values() {
            self.other.add(&source.counts);
        }
    }
}

/// The day of a report: that of the middle of its period.
fn day_of(report: &ReceivedReport, now: Timestamp) -> Option<u64> {
    let (begin, end) = report.span;
    let oldest = now.seconds().saturating_sub(REPORT_AGE_MAX.as_secs());
    let is_near = begin >= oldest && end <= now.seconds().saturating_add(CLOCKS_DIFFER);
    let length = end.checked_sub(begin)?;
    (is_near && length <= SPAN_MAX).then(|| begin.saturating_add(length / 2) / DAY)
}

/// The id of a report: reports of two reporters are different, whatever ids they have.
fn id_of(report: &ReceivedReport, reporter: &Reporter) -> String {
    let kind = match &report.content {
        ReportContent::Dmarc { .. } => "dmarc",
        ReportContent::Tls(_) => "tls",
    };
    let from = match reporter {
        Reporter::Verified(domain) => domain.as_str(),
        Reporter::Unverified => UNVERIFIED,
    };
    let text = format!("{kind}\n{from}\n{}\n{}", report.organisation, report.id);
    let digest = digest(&SHA256, text.as_bytes());
    let front = digest.as_ref().iter().take(8);
    front.map(|byte| format!("{byte:02x}")).collect()
}

/// The place of reports whose sender is not verified.
pub(super) const UNVERIFIED: &str = "?";
/// The place of reporters that have no place of their own.
pub(super) const OTHERS: &str = "+";
/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;
/// Seconds by which the clock of a reporter may be ahead, with its time zone.
const CLOCKS_DIFFER: u64 = 2 * DAY;
/// Seconds that a report may be about.
const SPAN_MAX: u64 = 8 * DAY;
