//! Reports of SMTP TLS: the JSON of RFC 8460 section 4.
//!
//! Unknown members are ignored. Invariants: no more than [`REPORT_POLICIES_MAX`] policies; failures are counted only
//! under the result types of section 4.3. Lists are read element by element, so no more than that is kept of a
//! document, however many elements it has.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::content::{ReceivedReport, ReportContent, TlsResult, domain, kept};
use super::refusal::{Fault, ReportRefusal};
use crate::date::Timestamp;
use crate::limits::{REPORT_COUNT_MAX, REPORT_POLICIES_MAX};

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    organization_name: String,
    report_id: String,
    date_range: DateRange,
    policies: Taken<Policies>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policy {
    policy: About,
    summary: Sums,
    #[serde(default)]
    failure_details: Taken<Causes>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct About {
    policy_domain: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sums {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    #[serde(default)]
    result_type: String,
    #[serde(default)]
    failed_session_count: u64,
}

/// The retained elements of a list.
trait Take: Default {
    type Element: for<'de> Deserialize<'de>;

    fn take(&mut self, element: Self::Element);
}

/// A list that is taken in.
#[derive(Default)]
struct Taken<T>(T);

/// The policies, and one more if there are too many.
#[derive(Default)]
struct Policies(Vec<Policy>);

/// Sessions by cause.
#[derive(Default)]
struct Causes(Vec<(&'static str, u64)>);

impl Take for Policies {
    type Element = Policy;

    fn take(&mut self, policy: Policy) {
        if self.0.len() <= REPORT_POLICIES_MAX {
            self.0.push(policy);
        }
    }
}

impl Take for Causes {
    type Element = Failure;

    fn take(&mut self, failure: Failure) {
        let known = CAUSES.iter().find(|known| **known == failure.result_type);
        let cause = known.copied().unwrap_or(OTHER);
        let count = failure.failed_session_count.min(REPORT_COUNT_MAX);
        match self.0.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.0.push((cause, count)),
        }
    }
}

impl<'de, T: Take> Deserialize<'de> for Taken<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData)).map(Self)
    }
}

/// Takes a list in.
struct List<T>(PhantomData<T>);

impl<'de, T: Take> Visitor<'de> for List<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut taken = T::default();
        while let Some(element) = list.next_element()? {
            taken.take(element);
        }
        Ok(taken)
    }
}

/// Reads a document; `None` if it is of another kind.
pub(super) fn read(bytes: &[u8]) -> Result<Option<ReceivedReport>, Fault> {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) if error.is_data() => return Err(ReportRefusal::Schema.into()),
        Err(_) => return Err(ReportRefusal::Json.into()),
    };
    let report = document.read().map(Some);
    report.map_err(|refusal| Fault {
        refusal,
        is_report: true,
    })
}

impl Document {
    fn read(self) -> Result<ReceivedReport, ReportRefusal> {
        if self.policies.0.0.len() > REPORT_POLICIES_MAX {
            return Err(ReportRefusal::TooMany);
        }
        let at = |text: &str| Timestamp::parse_rfc3339(text.trim()).ok_or(ReportRefusal::Schema);
        let begin = at(&self.date_range.start_datetime)?.seconds();
        let end = at(&self.date_range.end_datetime)?.seconds();
        let id = kept(&self.report_id);
        if id.is_empty() || begin > end {
            return Err(ReportRefusal::Schema);
        }
        let results = self.policies.0.0.into_iter().map(Policy::read);
        Ok(ReceivedReport {
            organisation: kept(&self.organization_name),
            id,
            span: (begin, end),
            content: ReportContent::Tls(results.collect::<Result<_, _>>()?),
        })
    }
}

impl Policy {
    fn read(self) -> Result<TlsResult, ReportRefusal> {
        Ok(TlsResult {
            domain: domain(&self.policy.policy_domain).ok_or(ReportRefusal::Schema)?,
            successes: self
                .summary
                .total_successful_session_count
                .min(REPORT_COUNT_MAX),
            failures: self
                .summary
                .total_failure_session_count
                .min(REPORT_COUNT_MAX),
            causes: self.failure_details.0.0,
        })
    }
}

const CAUSES: &[&str] = &[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
];
const OTHER: &str = "other";
