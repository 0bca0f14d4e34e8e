//! Reports of others about mail in the name of a domain: DMARC aggregate reports (RFC 9990, and RFC 7489 appendix C before
//! it) and SMTP TLS reports (RFC 8460).
//!
//! ```text
//! message ──mime──> attachments ──unpack──> XML or JSON ──dmarc, tls──> Report ──ledger──> counts ──summary──> words
//! ```
//!
//! Not supported: failure reports (RFC 9991), reports over HTTPS, archives of more than one file.
//!
//! Invariant: whatever comes in costs no more than the bounds of [`crate::limits`] allow. A message that is not a report is
//! told from a report that cannot be read: the former is for a person.

mod dmarc;
mod ledger;
mod mime;
mod page;
mod senders;
mod summary;
mod tls;
mod unpack;
mod xml;

use std::net::IpAddr;

pub use ledger::{Added, Counts, Ledger, Reporter};
pub use page::{DomainFigures, Figures, Page, SessionFigures, Tally};
pub use summary::{Kind, Known, SourceSum, Summary};

use crate::address::Domain;
use crate::limits::{REPORT_DOMAINS_MAX, REPORT_MESSAGE_BYTES_MAX, REPORT_TEXT_CHARS_MAX};
use mime::{Leaf, Mime};
use unpack::Unpacker;

/// A report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Who has written it, as it says itself.
    pub organisation: String,
    /// Its id, which its organisation has made.
    pub id: String,
    /// The seconds since 1970 with which the time that it is about begins and ends.
    pub span: (u64, u64),
    /// What it says.
    pub content: Content,
}

/// What a report is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Mail in the name of a domain.
    Dmarc {
        /// The domain whose policy was applied.
        domain: Domain,
        /// Its policy, as the reporter has read it.
        policy: String,
        /// Where mail came from.
        rows: Vec<Row>,
    },
    /// Sessions to hosts of domains.
    Tls(Vec<TlsResult>),
}

/// Messages from one address that fared alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The host that has brought them.
    pub source: IpAddr,
    /// How many.
    pub count: u64,
    /// What was done to them.
    pub disposition: Disposition,
    /// Whether a signature of the domain was right.
    pub dkim: bool,
    /// Whether SPF allowed the host for the domain.
    pub spf: bool,
    /// Whether the receiver did otherwise than the policy says, and says why.
    pub is_overridden: bool,
    /// The domain of From.
    pub author: Option<Domain>,
    /// A signature that was there, the domain's own or another's; one that is right before one that is not.
    pub signer: Option<Identity>,
    /// The domain that SPF was asked about.
    pub envelope: Option<Identity>,
}

/// A domain that a receiver has looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Its name.
    pub domain: Domain,
    /// Whether the check passed.
    pub passes: bool,
}

/// What a receiver did to messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Disposition {
    /// Nothing, or what is not known here.
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
    /// The domain.
    pub domain: Domain,
    /// Sessions that had TLS as it was wanted.
    pub successes: u64,
    /// Sessions that had not.
    pub failures: u64,
    /// Why, as RFC 8460 section 4.3 calls it.
    pub causes: Vec<(&'static str, u64)>,
}

/// What a message is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reading {
    /// A report.
    Report(Report),
    /// Something that a person has to read.
    Other,
    /// What is meant as a report, and cannot be taken as one.
    Refused(Refusal),
}

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// It is too long, packed or unpacked.
    TooLong,
    /// It unpacks to far more than it is.
    Ratio,
    /// It is no archive of one file, or one that contradicts itself.
    Archive,
    /// An archive in an archive.
    Nested,
    /// It is not XML, or not whole.
    Xml,
    /// It has a document type or an entity of its own.
    Entity,
    /// Elements in elements in elements, or more rows than there may be.
    TooMany,
    /// It is not JSON.
    Json,
    /// Something is missing that a report has.
    Schema,
    /// It is about a time too far away.
    Date,
    /// It is about domains that are not served here.
    Foreign,
    /// Its organisation has had its share of reports for that day.
    Share,
}

impl Refusal {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::TooLong,
        Self::Ratio,
        Self::Archive,
        Self::Nested,
        Self::Xml,
        Self::Entity,
        Self::TooMany,
        Self::Json,
        Self::Schema,
        Self::Date,
        Self::Foreign,
        Self::Share,
    ];

    /// The word under which it is counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Ratio => "ratio",
            Self::Archive => "archive",
            Self::Nested => "nested",
            Self::Xml => "xml",
            Self::Entity => "entity",
            Self::TooMany => "too-many",
            Self::Json => "json",
            Self::Schema => "schema",
            Self::Date => "date",
            Self::Foreign => "foreign",
            Self::Share => "share",
        }
    }
}

/// Reads a message, of which `len` bytes are there and `bytes` are the first.
pub fn read(bytes: &[u8], len: u64) -> Reading {
    let mime = Mime::read(bytes);
    if len > REPORT_MESSAGE_BYTES_MAX as u64 {
        return match mime.is_claimed {
            true => Reading::Refused(Refusal::TooLong),
            false => Reading::Other,
        };
    }
    let mut refused = None;
    let mut unpacker = Unpacker::new();
    for leaf in &mime.leaves {
        match read_leaf(leaf, &mut unpacker) {
            Ok(Some(report)) => return Reading::Report(report),
            Ok(None) => {}
            Err(fault) if fault.is_report || mime.is_claimed => {
                refused = refused.or(Some(fault.refusal));
            }
            Err(_) => {}
        }
    }
    refused.map_or(Reading::Other, Reading::Refused)
}

/// Why an attachment is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fault {
    refusal: Refusal,
    /// Whether its own text says that it is a report.
    is_report: bool,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            is_report: false,
        }
    }
}

/// Reads an attachment; none where it is something else.
fn read_leaf(leaf: &Leaf, unpacker: &mut Unpacker) -> Result<Option<Report>, Fault> {
    match unpacker.unpack(&leaf.bytes)? {
        Some(unpacked) => read_text(&unpacked, None),
        None => read_text(&leaf.bytes, Some(leaf)),
    }
}

/// Reads what is unpacked, or never was packed.
fn read_text(text: &[u8], leaf: Option<&Leaf>) -> Result<Option<Report>, Fault> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match text.trim_ascii_start().first() {
        _ if unpack::is_packed(text) => Err(Refusal::Nested.into()),
        Some(b'<') if leaf.is_none_or(|leaf| !leaf.is_shown()) => dmarc::read(text),
        Some(b'{') if leaf.is_none_or(|leaf| !leaf.is_shown()) => tls::read(text),
        _ if leaf.is_none() => Err(Refusal::Xml.into()),
        _ => Ok(None),
    }
}

/// A text of a report's as it is kept: one line, no longer than it may be.
fn kept(text: &str) -> String {
    let shown = text.trim().chars().map(|c| match c.is_control() {
        true => ' ',
        false => c,
    });
    shown.take(REPORT_TEXT_CHARS_MAX).collect()
}

/// A domain of a report's; none where it is not one.
fn domain(text: &str) -> Option<Domain> {
    let text = text.trim().trim_end_matches('.');
    Domain::parse(text)
        .ok()
        .filter(|domain| !domain.is_literal())
}

/// The domains of those that are served that a report is about, none of them twice.
pub fn served<'a>(
    report: &Report,
    is_served: impl Fn(&Domain) -> Option<&'a Domain>,
) -> Vec<&'a Domain> {
    let named: Vec<&Domain> = match &report.content {
        Content::Dmarc { domain, rows, .. } => {
            let authors = rows.iter().filter_map(|row| row.author.as_ref());
            std::iter::once(domain).chain(authors).collect()
        }
        Content::Tls(results) => results.iter().map(|result| &result.domain).collect(),
    };
    let mut found: Vec<&Domain> = Vec::new();
    for domain in named.into_iter().filter_map(is_served) {
        if found.len() < REPORT_DOMAINS_MAX && !found.contains(&domain) {
            found.push(domain);
        }
    }
    found
}

#[cfg(test)]
mod tests;
