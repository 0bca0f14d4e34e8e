//! Domain-based Message Authentication, Reporting, and Conformance (RFC 9989, which replaces RFC 7489): whether an
//! authenticated domain aligns with the domain in From, and the policy of the domain owner if it does not.
//!
//! [`evaluate`] is resumable: it takes the answers that are known so far. The organizational domain is found by a DNS
//! tree walk (section 4.10), not from a list of public suffixes. Not supported: sending reports.
//!
//! Invariant: a walk asks at most [`DMARC_WALK_MAX`] questions, however many labels a name has.

mod record;

use std::{fmt, slice};

use crate::address::Domain;
use crate::dns::{Answer, NoRecords, Question, RecordKind, Records, Step};
use crate::limits::DMARC_WALK_MAX;
use crate::workload::{Unit, count};
pub use record::{Alignment, DmarcPolicy};
use record::{PublicSuffix, Record};

/// The authenticated identities of a message.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub author: &'a Domain,
    /// The domain for which SPF passed: that of the reverse-path, or the HELO name for the null reverse-path.
    pub spf: Option<&'a Domain>,
    /// The domains (`d=`) of the signatures that passed.
    pub dkim: &'a [Domain],
}

/// The DMARC result (section 5.3), named as in RFC 8601.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DmarcResult {
    /// The domain publishes no policy.
    None,
    /// SPF or a signature passed for an aligned domain.
    Pass,
    /// Neither SPF nor a signature passed for an aligned domain.
    Fail,
    /// A look-up failed: try again later.
    TempError,
}

/// A result, and the policy of its domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DmarcVerdict {
    /// Whether it passed.
    pub outcome: DmarcResult,
    /// The policy for a message that failed; [`DmarcPolicy::None`] otherwise.
    pub policy: DmarcPolicy,
    /// The domain of the record that was used.
    pub record: Option<Domain>,
    /// Whether SPF was aligned and passed.
    pub spf: bool,
    /// Whether a signature was aligned and passed.
    pub dkim: bool,
    /// The domain that SPF must align with, and the alignment mode; `None` if the author's domain has no policy.
    pub aligns: Option<(Domain, Alignment)>,
}

impl DmarcVerdict {
    /// A result without a record.
    const fn new(outcome: DmarcResult) -> Self {
        Self {
            outcome,
            policy: DmarcPolicy::None,
            record: None,
            spf: false,
            dkim: false,
            aligns: None,
        }
    }

    /// Whether SPF for this domain makes the message pass. It does not if the name belongs to a separate organization
    /// further down the tree, which this function does not look up.
    pub fn may_pass_by(&self, domain: &Domain) -> bool {
        match &self.aligns {
            Some((author, Alignment::Strict)) => domain == author,
            Some((organization, Alignment::Relaxed)) => domain.is_under(organization),
            None => false,
        }
    }
}

impl DmarcResult {
    /// The word of RFC 8601.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for DmarcResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for DmarcPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Evaluates a message with the answers that are known so far.
pub fn evaluate(evidence: &Evidence<'_>, answers: &[(Question, Answer)]) -> Step<DmarcVerdict> {
    let look_up = LookUp { answers };
    match look_up.evaluate(evidence) {
        Ok(verdict) => Step::Done(verdict),
        Err(Stop::Missing(questions)) => Step::Ask(questions),
        Err(Stop::Temporary) => Step::Done(DmarcVerdict::new(DmarcResult::TempError)),
    }
}

enum Stop {
    Missing(Vec<Question>),
    Temporary,
}

/// The author's own record, otherwise that of the organization, otherwise that of a public suffix above.
/// Decides RFC 9989 section 4.10.1.
fn record_that_counts<'a>(
    walk: &'a Walk,
    author: &Domain,
    organization: &Domain,
) -> Option<&'a (Domain, Record)> {
    let of = |name: &Domain| walk.iter().find(|(domain, _)| domain == name);
    of(author).or_else(|| of(organization)).or_else(|| {
        walk.iter()
            .find(|(_, record)| record.suffix == PublicSuffix::Yes)
    })
}

/// The records from a name to the root, that of the name first.
type Walk = Vec<(Domain, Record)>;

struct LookUp<'a> {
    answers: &'a [(Question, Answer)],
}

impl LookUp<'_> {
    /// Finds the applicable policy, and whether the message is aligned.
    fn evaluate(&self, evidence: &Evidence<'_>) -> Result<DmarcVerdict, Stop> {
        let author = evidence.author;
        let walk = self.walk(author)?;
        let organization = organization(author, &walk);
        let mut verdict = DmarcVerdict::new(DmarcResult::None);
        let found = record_that_counts(&walk, author, &organization);
        let Some((domain, record)) = found.filter(|(_, record)| record.applies) else {
            return Ok(verdict);
        };
        verdict.record = Some(domain.clone());
        verdict.aligns = Some(match record.spf {
            Alignment::Strict => (author.clone(), Alignment::Strict),
            Alignment::Relaxed => (organization.clone(), Alignment::Relaxed),
        });
        let aligned = |candidate: &Domain, alignment| {
            self.is_aligned(candidate, author, &organization, alignment)
        };
        // One aligned identity suffices, even if the look-up for another failed.
        let mut temporary = false;
        let mut any = |candidates: &[Domain], alignment| {
            for candidate in candidates {
                match aligned(candidate, alignment) {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    Err(Stop::Temporary) => temporary = true,
                    Err(missing) => return Err(missing),
                }
            }
            Ok(false)
        };
        verdict.spf = any(
            evidence.spf.map(slice::from_ref).unwrap_or_default(),
            record.spf,
        )?;
        verdict.dkim = any(evidence.dkim, record.dkim)?;
        if verdict.spf || verdict.dkim {
            verdict.outcome = DmarcResult::Pass;
            return Ok(verdict);
        }
        if temporary {
            return Err(Stop::Temporary);
        }
        verdict.outcome = DmarcResult::Fail;
        let policy = match domain == author {
            true => record.policy,
            false => self.policy_of_subdomain(author, record)?,
        };
        verdict.policy = match record.testing {
            true => policy.milder(),
            false => policy,
        };
        Ok(verdict)
    }

    fn policy_of_subdomain(&self, author: &Domain, record: &Record) -> Result<DmarcPolicy, Stop> {
        let existing = record.subdomains.unwrap_or(record.policy);
        match record.nonexistent {
            Some(policy) if policy != existing && !self.exists(author)? => Ok(policy),
            _ => Ok(existing),
        }
    }

    /// Section 3.2.13 and RFC 8020: a name does not exist if the answer is NXDOMAIN, whatever the question.
    /// Decides RFC 9989 section 3.2.13.
    fn exists(&self, name: &Domain) -> Result<bool, Stop> {
        match self.answer(name, RecordKind::A) {
            Ok(Err(why)) if why.is_temporary() => Err(Stop::Temporary),
            Ok(found) => Ok(found != Err(NoRecords::NoDomain)),
            Err(question) => Err(Stop::Missing(vec![question])),
        }
    }

    fn is_aligned(
        &self,
        candidate: &Domain,
        author: &Domain,
        organization: &Domain,
        alignment: Alignment,
    ) -> Result<bool, Stop> {
        if candidate == author {
            return Ok(true);
        }
        if alignment == Alignment::Strict || !candidate.is_under(organization) {
            return Ok(false);
        }
        let walk = self.walk(candidate)?;
        Ok(self::organization(candidate, &walk) == *organization)
    }

    /// Walks up the tree (section 4.10), until a record marks the end of the organization.
    /// Decides RFC 9989 section 4.10.
    fn walk(&self, from: &Domain) -> Result<Walk, Stop> {
        let mut walk = Walk::new();
        if from.is_literal() {
            return Ok(walk);
        }
        let mut name = from.clone();
        for _ in 0..DMARC_WALK_MAX {
            if let Some(record) = self.record(&name)? {
                let ends = record.suffix != PublicSuffix::Unknown;
                walk.push((name.clone(), record));
                if ends {
                    break;
                }
            }
            match above(&name) {
                Some(next) => name = next,
                None => break,
            }
        }
        Ok(walk)
    }

    fn record(&self, name: &Domain) -> Result<Option<Record>, Stop> {
        let Ok(at) = Domain::parse_lookup(&format!("_dmarc.{name}")) else {
            return Ok(None);
        };
        let texts = match self.answer(&at, RecordKind::Txt) {
            Err(question) => return Err(Stop::Missing(vec![question])),
            Ok(Err(why)) if why.is_temporary() => return Err(Stop::Temporary),
            Ok(Ok(Records::Txt(texts))) => texts,
            Ok(_) => return Ok(None),
        };
        count(Unit::Byte, texts.iter().map(Vec::len).sum());
        let mut records = texts.iter().filter_map(|text| Record::parse(text));
        // Several records count as none.
        Ok(match (records.next(), records.next()) {
            (Some(record), None) => Some(record),
            _ => None,
        })
    }

    /// The answer to a question, or the question.
    fn answer(
        &self,
        name: &Domain,
        kind: RecordKind,
    ) -> Result<Result<&Records, NoRecords>, Question> {
        count(Unit::Name, self.answers.len());
        self.answers
            .iter()
            .find(|(question, _)| question.kind == kind && question.name == *name)
            .map(|(_, answer)| answer.records.as_deref().map_err(|why| *why))
            .ok_or_else(|| Question {
                name: name.clone(),
                kind,
            })
    }
}

/// The next name to query: one label less, or the last seven labels of a long name.
fn above(name: &Domain) -> Option<Domain> {
    let labels: Vec<&str> = name.as_str().split('.').collect();
    let drop = labels.len().saturating_sub(DMARC_WALK_MAX - 1).max(1);
    let rest = labels.get(drop..).filter(|rest| !rest.is_empty())?;
    Domain::parse_lookup(&rest.join(".")).ok()
}

/// The organizational domain of a name (section 4.10.2).
/// Decides RFC 9989 section 4.10.2.
fn organization(name: &Domain, walk: &Walk) -> Domain {
    for (domain, record) in walk {
        match record.suffix {
            PublicSuffix::No => return domain.clone(),
            PublicSuffix::Yes if domain != name => return below(domain, name),
            PublicSuffix::Yes | PublicSuffix::Unknown => {}
        }
    }
    walk.last()
        .map_or_else(|| name.clone(), |(domain, _)| domain.clone())
}

/// The part of `name` that has one label more than its suffix `suffix`.
fn below(suffix: &Domain, name: &Domain) -> Domain {
    let labels: Vec<&str> = name.as_str().split('.').collect();
    let more = suffix.as_str().split('.').count().saturating_add(1);
    let from = labels.len().saturating_sub(more);
    let text = labels.get(from..).unwrap_or_default().join(".");
    Domain::parse_lookup(&text).unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests;
