//! What reports have said about one domain: counts by day, by organisation and by source.
//!
//! ```text
//! day ─┬─ reporter ─┬─ ids of reports that are counted
//!      │            ├─ source address: messages by result, who has signed, whose bounces they are
//!      │            └─ other sources, sessions by result
//!      └─ …
//! ```
//!
//! A reporter is the domain that DMARC has shown to have sent the report; what reports say of themselves is shown to
//! people, and decides nothing. All that is not shown shares one place and counts apart. Each reporter has a share of a
//! day, and where all of them hold too much it is the one that holds most whose oldest sources are put together. So
//! nobody can push out what others have said, whatever they send.
//!
//! Invariant: a report is counted once. Its id and its counts are in one file, which is written as a whole.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{Content, Disposition, Identity, Refusal, Report, Row, TlsResult, kept};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::limits::{
    REPORT_AGE_MAX, REPORT_DAYS_MAX, REPORT_ENTRIES_MAX, REPORT_IDS_MAX, REPORT_REPORTERS_MAX,
    REPORT_SOURCES_MAX,
};

/// Who has sent a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reporter {
    /// This domain, as DMARC shows.
    Verified(Domain),
    /// Nobody can tell.
    Unverified,
}

/// What came of adding a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Added {
    /// It is counted.
    Counted,
    /// It was before.
    Known,
    /// It is not taken.
    Refused(Refusal),
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

/// What one reporter has said of one day.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Share {
    pub(super) organisation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ids: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) other: Counts,
    #[serde(skip_serializing_if = "Sessions::is_empty")]
    pub(super) tls: Sessions,
}

/// Messages from one address.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) counts: Counts,
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

/// Messages by what became of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Counts {
    /// A signature of the domain and SPF both passed.
    pub both: u64,
    /// A signature alone.
    pub dkim: u64,
    /// SPF alone.
    pub spf: u64,
    /// Neither.
    pub neither: u64,
    /// Those that were put aside.
    pub quarantined: u64,
    /// Those that were refused.
    pub rejected: u64,
    /// Those that the receiver has treated otherwise than the policy says.
    pub overridden: u64,
}

/// TLS sessions by what became of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Sessions {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) causes: BTreeMap<String, u64>,
}

impl Counts {
    /// Those that DMARC passes.
    pub const fn passed(&self) -> u64 {
        self.both.saturating_add(self.dkim).saturating_add(self.spf)
    }

    /// All.
    pub const fn messages(&self) -> u64 {
        self.passed().saturating_add(self.neither)
    }

    fn of(row: &Row) -> Self {
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

    fn of(row: &Row) -> Self {
        let seen = |identity: &Identity| Seen {
            domain: kept(identity.domain.as_str()),
            passes: identity.passes,
        };
        Self {
            counts: Counts::of(row),
            signer: row.signer.as_ref().map(seen),
            envelope: row.envelope.as_ref().map(seen),
        }
    }
}

impl Ledger {
    /// Reads what was written; none where it cannot be.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What is written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Counts a report. What it says of a domain counts here where `is_ours` says so.
    pub fn add(
        &mut self,
        report: &Report,
        reporter: &Reporter,
        now: Timestamp,
        is_ours: &dyn Fn(&Domain) -> bool,
    ) -> Added {
        let Some(day) = day_of(report, now) else {
            return Added::Refused(Refusal::Date);
        };
        let day_of_all = self.days.entry(day).or_default();
        let key = match reporter {
            Reporter::Unverified => UNVERIFIED,
            Reporter::Verified(domain)
                if day_of_all.contains_key(domain.as_str())
                    || day_of_all.len() < REPORT_REPORTERS_MAX =>
            {
                domain.as_str()
            }
            Reporter::Verified(_) => OTHERS,
        };
        let share = day_of_all.entry(key.to_owned()).or_default();
        let id = id_of(report, reporter);
        if share.ids.contains(&id) {
            return Added::Known;
        }
        if share.ids.len() >= REPORT_IDS_MAX {
            return Added::Refused(Refusal::Share);
        }
        share.ids.push(id);
        if key != OTHERS && key != UNVERIFIED {
            share.organisation.clone_from(&report.organisation);
        }
        share.count(report, is_ours);
        if let (Reporter::Verified(_), Content::Dmarc { domain, policy, .. }) =
            (reporter, &report.content)
            && is_ours(domain)
            && self.policy.as_ref().is_none_or(|(of, _)| *of <= day)
        {
            self.policy = Some((day, policy.clone()));
        }
        self.trim(now);
        Added::Counted
    }

    /// Takes out what is too old, and puts together what is too much.
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
            let Some(fattest) = self.fattest() else { break };
            let shares = self.days.values_mut();
            let mut shares = shares.filter_map(|day| day.get_mut(&fattest));
            if let Some(share) = shares.find(|share| !share.sources.is_empty()) {
                share.fold();
            }
        }
    }

    fn entries(&self) -> usize {
        let shares = self.days.values().flat_map(BTreeMap::values);
        shares.map(|share| share.sources.len()).sum()
    }

    /// Who has most sources.
    fn fattest(&self) -> Option<String> {
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for (reporter, share) in self.days.values().flatten() {
            let sum = held.entry(reporter).or_default();
            *sum = sum.saturating_add(share.sources.len());
        }
        let most = held.into_iter().max_by_key(|(_, count)| *count)?;
        Some(most.0.to_owned())
    }
}

impl Share {
    fn count(&mut self, report: &Report, is_ours: &dyn Fn(&Domain) -> bool) {
        match &report.content {
            Content::Dmarc { domain, rows, .. } => {
                for row in rows {
                    let about = row.author.as_ref().unwrap_or(domain);
                    // From under a domain whose policy it is, or of a domain of ours that has none of its own.
                    if is_ours(about) || row.author.is_none() && is_ours(domain) {
                        self.count_row(row);
                    }
                }
            }
            Content::Tls(results) => {
                for result in results.iter().filter(|result| is_ours(&result.domain)) {
                    self.tls.add(&Sessions::of(result));
                }
            }
        }
    }

    fn count_row(&mut self, row: &Row) {
        let key = row.source.to_string();
        let has_room = self.sources.len() < REPORT_SOURCES_MAX;
        match has_room || self.sources.contains_key(&key) {
            true => self.sources.entry(key).or_default().add(&Source::of(row)),
            false => self.other.add(&Counts::of(row)),
        }
    }

    /// Puts its sources together.
    fn fold(&mut self) {
        for source in std::mem::take(&mut self.sources).values() {
            self.other.add(&source.counts);
        }
    }
}

/// The day that a report is about: where the middle of its time lies.
fn day_of(report: &Report, now: Timestamp) -> Option<u64> {
    let (begin, end) = report.span;
    let oldest = now.seconds().saturating_sub(REPORT_AGE_MAX.as_secs());
    let is_near = begin >= oldest && end <= now.seconds().saturating_add(CLOCKS_DIFFER);
    let length = end.checked_sub(begin)?;
    (is_near && length <= SPAN_MAX).then(|| begin.saturating_add(length / 2) / DAY)
}

/// What a report is known by: those of two reporters are two, whatever they call themselves.
fn id_of(report: &Report, reporter: &Reporter) -> String {
    let kind = match &report.content {
        Content::Dmarc { .. } => "dmarc",
        Content::Tls(_) => "tls",
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

/// Where reports are counted that nobody can be shown to have sent.
pub(super) const UNVERIFIED: &str = "?";
/// Where reporters are counted for whom there is no place of their own.
pub(super) const OTHERS: &str = "+";
/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;
/// Seconds by which the clock of a reporter may be ahead, with its time zone.
const CLOCKS_DIFFER: u64 = 2 * DAY;
/// Seconds that a report may be about.
const SPAN_MAX: u64 = 8 * DAY;
