//! Aggregate reports of DMARC: the XML of RFC 9990 and of RFC 7489 appendix C, which do not differ in what is read
//! here.
//!
//! Missing and unusual elements invalidate as little as possible: a row needs its address and its count; a report needs
//! its organisation, its id, its time and its domain. Invariant: no more than [`REPORT_ROWS_MAX`] rows.

use std::borrow::Cow;
use std::net::IpAddr;

use super::content::{
    CheckedDomain, Disposition, ReceivedReport, ReportContent, ReportRow, domain, kept,
};
use super::refusal::{Fault, ReportRefusal};
use super::xml::{Reader, Token};
use crate::address::Domain;
use crate::limits::{REPORT_COUNT_MAX, REPORT_ROWS_MAX};

/// Reads a document; `None` if it is of another kind.
pub(super) fn read(bytes: &[u8]) -> Result<Option<ReceivedReport>, Fault> {
    let text = readable(bytes);
    let mut reader = Reader::new(&text);
    let mut path: Vec<&str> = Vec::new();
    let mut draft = Draft::default();
    loop {
        let fault = |refusal| Fault {
            refusal,
            is_report: path.first() == Some(&ROOT),
        };
        match reader.next().map_err(fault)? {
            Some(Token::Start(name)) => {
                path.push(name);
                if path.len() == 1 && name != ROOT {
                    return Ok(None);
                }
            }
            Some(Token::End(text)) => {
                let place = path.get(1..).unwrap_or_default();
                draft.take(place, text.trim()).map_err(fault)?;
                path.pop();
            }
            None => break,
        }
    }
    let whole = draft.finish().map(Some);
    whole.map_err(|refusal| Fault {
        refusal,
        is_report: true,
    })
}

/// A text with a question mark for each byte that is not UTF-8: it is no longer than the input.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Cow::Owned(text)
}

/// A report as far as it is read.
#[derive(Default)]
struct Draft {
    organisation: String,
    id: String,
    begin: Option<u64>,
    end: Option<u64>,
    domain: Option<Domain>,
    policy: String,
    rows: Vec<ReportRow>,
    row: Pending,
}

/// A row as far as it is read.
#[derive(Default)]
struct Pending {
    source: Option<IpAddr>,
    count: Option<u64>,
    disposition: Disposition,
    dkim: bool,
    spf: bool,
    is_overridden: bool,
    author: Option<Domain>,
    signer: Option<CheckedDomain>,
    envelope: Option<CheckedDomain>,
    checked: Checked,
}

/// The result of a check that is being read.
#[derive(Default)]
struct Checked {
    name: Option<Domain>,
    passes: bool,
}

impl Draft {
    /// Takes an element that has ended.
    fn take(&mut self, place: &[&str], text: &str) -> Result<(), ReportRefusal> {
        let row = &mut self.row;
        let is_pass = text.eq_ignore_ascii_case("pass");
        match place {
            ["report_metadata", "org_name"] => self.organisation = kept(text),
            ["report_metadata", "report_id"] => self.id = kept(text),
            ["report_metadata", "date_range", "begin"] => self.begin = seconds(text),
            ["report_metadata", "date_range", "end"] => self.end = seconds(text),
            ["policy_published", "domain"] => self.domain = domain(text),
            ["policy_published", "p"] => {
                let named = POLICIES
                    .iter()
                    .find(|policy| text.eq_ignore_ascii_case(policy));
                self.policy = named.copied().unwrap_or_default().to_owned();
            }
            ["record", "row", "source_ip"] => row.source = text.parse().ok(),
            ["record", "row", "count"] => row.count = text.parse().ok(),
            ["record", "row", "policy_evaluated", "disposition"] => {
                row.disposition = match text.to_ascii_lowercase().as_str() {
                    "quarantine" => Disposition::Quarantine,
                    "reject" => Disposition::Reject,
                    _ => Disposition::None,
                }
            }
            ["record", "row", "policy_evaluated", "dkim"] => row.dkim = is_pass,
            ["record", "row", "policy_evaluated", "spf"] => row.spf = is_pass,
            ["record", "row", "policy_evaluated", "reason", "type"] => row.is_overridden = true,
            ["record", "identifiers" | "identities", "header_from"] => row.author = domain(text),
            ["record", "auth_results", "dkim" | "spf", "domain"] => row.checked.name = domain(text),
            ["record", "auth_results", "dkim" | "spf", "result"] => row.checked.passes = is_pass,
            ["record", "auth_results", "dkim"] => {
                row.signer = better(row.signer.take(), std::mem::take(&mut row.checked));
            }
            ["record", "auth_results", "spf"] => {
                row.envelope = better(row.envelope.take(), std::mem::take(&mut row.checked));
            }
            ["record"] => {
                let row = std::mem::take(&mut self.row).finish()?;
                if self.rows.len() >= REPORT_ROWS_MAX {
                    return Err(ReportRefusal::TooMany);
                }
                self.rows.push(row);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<ReceivedReport, ReportRefusal> {
        let span = self.begin.zip(self.end);
        let span = span.filter(|(begin, end)| begin <= end);
        if self.organisation.is_empty() || self.id.is_empty() {
            return Err(ReportRefusal::Schema);
        }
        Ok(ReceivedReport {
            organisation: self.organisation,
            id: self.id,
            span: span.ok_or(ReportRefusal::Schema)?,
            content: ReportContent::Dmarc {
                domain: self.domain.ok_or(ReportRefusal::Schema)?,
                policy: self.policy,
                rows: self.rows,
            },
        })
    }
}

impl Pending {
    fn finish(self) -> Result<ReportRow, ReportRefusal> {
        Ok(ReportRow {
            source: self.source.ok_or(ReportRefusal::Schema)?.to_canonical(),
            count: self
                .count
                .ok_or(ReportRefusal::Schema)?
                .min(REPORT_COUNT_MAX),
            disposition: self.disposition,
            dkim: self.dkim,
            spf: self.spf,
            is_overridden: self.is_overridden,
            author: self.author,
            signer: self.signer,
            envelope: self.envelope,
        })
    }
}

/// Of two results the one that passes, otherwise the first.
fn better(before: Option<CheckedDomain>, checked: Checked) -> Option<CheckedDomain> {
    let passes = checked.passes;
    match (before, checked.name) {
        (Some(before), _) if before.passes || !passes => Some(before),
        (before, None) => before,
        (_, Some(domain)) => Some(CheckedDomain { domain, passes }),
    }
}

/// Some write fractions of a second.
fn seconds(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}

/// The policies that a domain may request (RFC 9989); other values in a report are ignored.
const POLICIES: &[&str] = &["none", "quarantine", "reject"];
const ROOT: &str = "feedback";
