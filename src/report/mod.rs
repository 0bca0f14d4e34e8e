//! Reports of other hosts about mail in the name of a domain: DMARC aggregate reports (RFC 9990, before that RFC 7489
//! appendix C) and SMTP TLS reports (RFC 8460).
//!
//! ```text
//! message ──mime──> attachments ──unpack──> XML or JSON ──dmarc, tls──> Report ──ledger──> counts ──summary──> words
//! ```
//!
//! Not supported: failure reports (RFC 9991), reports over HTTPS, archives of more than one file.
//!
//! Invariant: no input costs more than the bounds of [`crate::limits`] allow. A message that is not a report is
//! distinguished from a report that cannot be read: the former is for a person.

mod content;
mod dmarc;
mod ledger;
mod mime;
mod page;
mod refusal;
mod senders;
mod summary;
mod tls;
mod unpack;
mod xml;

use crate::address::Domain;
use crate::limits::{REPORT_DOMAINS_MAX, REPORT_MESSAGE_BYTES_MAX};
use mime::{Leaf, Mime};
use refusal::Fault;
use unpack::Unpacker;

pub use content::{
    CheckedDomain, Disposition, ReceivedReport, ReportContent, ReportRow, TlsResult,
};
pub use ledger::{Ledger, LedgerAddition, Reporter, ResultCounts};
pub use page::{DomainFigures, Figures, Page, SessionFigures, Tally};
pub use refusal::ReportRefusal;
pub use summary::{DomainSummary, KnownAddress, SenderKind, SourceSum};

/// The kind of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportReading {
    Report(ReceivedReport),
    /// A message for a person.
    Other,
    /// A message that is meant as a report, and cannot be accepted as one.
    Refused(ReportRefusal),
}

/// Reads a message of `len` bytes, of which `bytes` are the first.
pub fn read(bytes: &[u8], len: u64) -> ReportReading {
    let mime = Mime::read(bytes);
    if len > REPORT_MESSAGE_BYTES_MAX as u64 {
        return match mime.is_claimed {
            true => ReportReading::Refused(ReportRefusal::TooLong),
            false => ReportReading::Other,
        };
    }
    let mut refused = None;
    let mut unpacker = Unpacker::new();
    for leaf in &mime.leaves {
        match read_leaf(leaf, &mut unpacker) {
            Ok(Some(report)) => return ReportReading::Report(report),
            Ok(None) => {}
            Err(fault) if fault.is_report || mime.is_claimed => {
                refused = refused.or(Some(fault.refusal));
            }
            Err(_) => {}
        }
    }
    refused.map_or(ReportReading::Other, ReportReading::Refused)
}

/// Reads an attachment; `None` if it is of another kind.
fn read_leaf(leaf: &Leaf, unpacker: &mut Unpacker) -> Result<Option<ReceivedReport>, Fault> {
    match unpacker.unpack(&leaf.bytes)? {
        Some(unpacked) => read_text(&unpacked, None),
        None => read_text(&leaf.bytes, Some(leaf)),
    }
}

/// Reads an unpacked text.
fn read_text(text: &[u8], leaf: Option<&Leaf>) -> Result<Option<ReceivedReport>, Fault> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match text.trim_ascii_start().first() {
        _ if unpack::is_packed(text) => Err(ReportRefusal::Nested.into()),
        Some(b'<') if leaf.is_none_or(|leaf| !leaf.is_shown()) => dmarc::read(text),
        Some(b'{') if leaf.is_none_or(|leaf| !leaf.is_shown()) => tls::read(text),
        _ if leaf.is_none() => Err(ReportRefusal::Xml.into()),
        _ => Ok(None),
    }
}

/// The served domains that a report is about, each once.
pub fn served<'a>(
    report: &ReceivedReport,
    is_served: impl Fn(&Domain) -> Option<&'a Domain>,
) -> Vec<&'a Domain> {
    let named: Vec<&Domain> = match &report.content {
        ReportContent::Dmarc { domain, rows, .. } => {
            let authors = rows.iter().filter_map(|row| row.author.as_ref());
            std::iter::once(domain).chain(authors).collect()
        }
        ReportContent::Tls(results) => results.iter().map(|result| &result.domain).collect(),
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
