//! The content of a report, independent of its form and reporter.

use std::net::IpAddr;

use crate::address::Domain;
use crate::limits::REPORT_TEXT_CHARS_MAX;

/// A DMARC aggregate report (RFC 9990) or a TLS report (RFC 8460), reduced to the counted data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedReport {
    /// The reporter's name for itself.
    pub organisation: String,
    /// Its id, which its organisation has made.
    pub id: String,
    /// The seconds since 1970 with which the time that it is about begins and ends.
    pub span: (u64, u64),
    pub content: ReportContent,
}

/// The subject of a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportContent {
    /// Mail in the name of a domain.
    Dmarc {
        /// The domain whose policy was applied.
        domain: Domain,
        /// Its policy, as the reporter has read it.
        policy: String,
        /// The sources of the mail.
        rows: Vec<ReportRow>,
    },
    /// Sessions to hosts of domains.
    Tls(Vec<TlsResult>),
}

/// Messages from one address that fared alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportRow {
    /// The host that has brought them.
    pub source: IpAddr,
    pub count: u64,
    /// The receiver's action.
    pub disposition: Disposition,
    /// Whether a signature of the domain was right.
    pub dkim: bool,
    /// Whether SPF allowed the host for the domain.
    pub spf: bool,
    /// Whether the receiver deviated from the policy, and gave a reason.
    pub is_overridden: bool,
    pub author: Option<Domain>,
    /// A signature, of the domain itself or of another; a valid one goes before an invalid one.
    pub signer: Option<CheckedDomain>,
    /// The domain that SPF was asked about.
    pub envelope: Option<CheckedDomain>,
}

/// A domain that a receiver has looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedDomain {
    pub domain: Domain,
    /// Whether the check passed.
    pub passes: bool,
}

/// A receiver's action for messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Disposition {
    /// None, or an unknown one.
    #[default]
    None,
    /// Put them aside.
    Quarantine,
    /// Refused them.
    Reject,
}

/// Sessions to the hosts of one domain under one policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsResult {
    pub domain: Domain,
    /// Sessions that had TLS as it was wanted.
    pub successes: u64,
    /// Sessions that had not.
    pub failures: u64,
    /// Why, as RFC 8460 section 4.3 calls it.
    pub causes: Vec<(&'static str, u64)>,
}

/// A text of a report's as it is kept: one line, no longer than it may be.
pub(super) fn kept(text: &str) -> String {
    let shown = text.trim().chars().map(|c| match c.is_control() {
        true => ' ',
        false => c,
    });
    shown.take(REPORT_TEXT_CHARS_MAX).collect()
}

/// A domain in a report; `None` if it is not one.
pub(super) fn domain(text: &str) -> Option<Domain> {
    let text = text.trim().trim_end_matches('.');
    Domain::parse(text)
        .ok()
        .filter(|domain| !domain.is_literal())
}
