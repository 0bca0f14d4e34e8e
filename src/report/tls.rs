//! Reports of SMTP TLS: the JSON of RFC 8460 section 4.
//!
//! Members that are not known count for nothing. Invariant: no more than [`REPORT_POLICIES_MAX`] policies, and causes only
//! by the names that section 4.3 has.

use serde::Deserialize;

use super::{Content, Fault, Refusal, Report, TlsResult, domain, kept};
use crate::date::Timestamp;
use crate::limits::{REPORT_COUNT_MAX, REPORT_POLICIES_MAX};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    organization_name: String,
    report_id: String,
    date_range: DateRange,
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policy {
    policy: About,
    summary: Sums,
    #[serde(default)]
    failure_details: Vec<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct About {
    policy_domain: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sums {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    #[serde(default)]
    result_type: String,
    #[serde(default)]
    failed_session_count: u64,
}

/// Reads a document; none where it is another.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Report>, Fault> {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) if error.is_data() => return Err(Refusal::Schema.into()),
        Err(_) => return Err(Refusal::Json.into()),
    };
    let report = document.read().map(Some);
    report.map_err(|refusal| Fault {
        refusal,
        is_report: true,
    })
}

impl Document {
    fn read(self) -> Result<Report, Refusal> {
        if self.policies.len() > REPORT_POLICIES_MAX {
            return Err(Refusal::TooMany);
        }
        let at = |text: &str| Timestamp::parse_rfc3339(text.trim()).ok_or(Refusal::Schema);
        let begin = at(&self.date_range.start_datetime)?.seconds();
        let end = at(&self.date_range.end_datetime)?.seconds();
        let id = kept(&self.report_id);
        if id.is_empty() || begin > end {
            return Err(Refusal::Schema);
        }
        let results = self.policies.into_iter().map(Policy::read);
        Ok(Report {
            organisation: kept(&self.organization_name),
            id,
            span: (begin, end),
            content: Content::Tls(results.collect::<Result<_, _>>()?),
        })
    }
}

impl Policy {
    fn read(self) -> Result<TlsResult, Refusal> {
        let mut causes: Vec<(&'static str, u64)> = Vec::new();
        for failure in self.failure_details {
            let known = CAUSES.iter().find(|known| **known == failure.result_type);
            let cause = known.copied().unwrap_or(OTHER);
            let count = failure.failed_session_count.min(REPORT_COUNT_MAX);
            match causes.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => causes.push((cause, count)),
            }
        }
        Ok(TlsResult {
            domain: domain(&self.policy.policy_domain).ok_or(Refusal::Schema)?,
            successes: self
                .summary
                .total_successful_session_count
                .min(REPORT_COUNT_MAX),
            failures: self
                .summary
                .total_failure_session_count
                .min(REPORT_COUNT_MAX),
            causes,
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
