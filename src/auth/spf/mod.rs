//! Sender Policy Framework (RFC 7208): whether a host may send for a domain.
//!
//! [`SpfProgress`] is resumable. It takes the answers that are known so far and returns its verdict or the questions
//! that it still needs; with more answers it continues where it stopped. A record is parsed completely before any of it
//! is evaluated, so that a mistake anywhere in it is a permerror (section 4.6). Not supported: records of type SPF
//! (99), which RFC 7208 retired, and local policy.
//!
//! Invariant: however records refer to each other, at most [`SPF_TERMS_MAX`] terms ask the DNS, of which
//! [`SPF_VOID_MAX`] may find nothing, and a term asks for at most [`SPF_HOSTS_MAX`] hosts. No record costs more.

mod expansion;
mod record;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::address::Domain;
use crate::date::Timestamp;
use crate::dns::{Answer, NoRecords, Question, RecordKind, Records, Step, reverse_name};
use crate::limits::{SPF_HOSTS_MAX, SPF_TERMS_MAX, SPF_VOID_MAX};
use crate::workload::{Unit, count};
use expansion::{Facts, expand, expand_explanation};
pub use record::SpfRecordError;
use record::{DomainSpec, DualCidr, Mechanism, Qualifier, Record};

/// The sender, as a receiver knows it at MAIL.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The address of the client.
    pub address: IpAddr,
    /// The name after HELO or EHLO, as it came.
    pub helo: &'a str,
    /// The local part of the reverse-path.
    pub local_part: &'a str,
    /// The domain of the reverse-path.
    pub domain: &'a str,
    /// The name of the host that checks (the macro `r`).
    pub receiver: &'a str,
    /// The time of the check (the macro `t`).
    pub at: Timestamp,
}

impl<'a> Sender<'a> {
    /// For a reverse-path of MAIL, without brackets. For the null one, and for one without a local part, the local part
    /// is `postmaster`; for the null one the domain is the HELO name (sections 2.4 and 4.3).
    pub fn new(
        address: IpAddr,
        helo: &'a str,
        path: &'a str,
        receiver: &'a str,
        at: Timestamp,
    ) -> Self {
        let (local_part, domain) = match path.rsplit_once('@') {
            Some((local_part, domain)) => (local_part, domain),
            None if path.is_empty() => ("", helo),
            None => ("", path),
        };
        Self {
            address,
            helo,
            local_part: if local_part.is_empty() {
                "postmaster"
            } else {
                local_part
            },
            domain,
            receiver,
            at,
        }
    }
}

/// The result for a sender (section 2.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpfResult {
    /// There is no policy, or no domain that could have one.
    None,
    /// The domain makes no statement about this host.
    Neutral,
    /// The host may send for the domain.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// The DNS failed: try again later.
    TempError,
    /// The policy cannot be understood.
    PermError,
}

/// A result and its reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpfVerdict {
    pub outcome: SpfResult,
    /// The domain that was checked; `None` if there was no valid name.
    pub domain: Option<Domain>,
    /// The mechanism that matched, as it is written in the record.
    pub mechanism: Option<String>,
    /// The cause of a temperror or permerror.
    pub cause: Option<SpfErrorCause>,
    /// The domain's explanation of a fail (`exp=`, section 6.2); it is text of the sender's, in printable ASCII.
    pub explanation: Option<String>,
}

/// Why a check ended in temperror or permerror.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpfErrorCause {
    /// The DNS had no answer.
    Dns(Domain),
    /// A record is malformed.
    Record(Domain, SpfRecordError),
    /// A domain has several records.
    Several(Domain),
    /// `include` or `redirect` leads to a domain without a record.
    NoRecord(String),
    /// More terms ask the DNS than a check may have.
    TooManyTerms,
    /// Too many look-ups found nothing.
    TooManyVoid,
    /// A name has more mail exchangers than are looked at.
    TooManyHosts(Domain),
}

impl SpfResult {
    /// The word of RFC 8601 and of Received-SPF.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for SpfErrorCause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(out, "the DNS gives no answer for {name}"),
            Self::Record(domain, error) => write!(out, "the record of {domain}: {error}"),
            Self::Several(domain) => write!(out, "{domain} has more than one record"),
            Self::NoRecord(name) => write!(out, "{name}, which it refers to, has no record"),
            Self::TooManyTerms => write!(out, "more than {SPF_TERMS_MAX} terms ask the DNS"),
            Self::TooManyVoid => write!(out, "more than {SPF_VOID_MAX} look-ups find nothing"),
            Self::TooManyHosts(name) => {
                write!(out, "{name} has more than {SPF_HOSTS_MAX} mail exchangers")
            }
        }
    }
}

/// Checks a sender with the answers that are known so far.
pub fn check(sender: &Sender<'_>, answers: &[(Question, Answer)]) -> Step<SpfVerdict> {
    SpfProgress::default().resume(sender, answers)
}

/// A check that continues where it stopped, so that its total cost is bounded by the length of its records, however
/// many rounds of answers it takes.
#[derive(Default)]
pub struct SpfProgress {
    /// The record that is being evaluated, and those whose `include` led to it; empty at the beginning.
    frames: Vec<Frame>,
    counts: Counts,
    verdict: Option<SpfVerdict>,
}

/// The evaluation of one record: `check_host()` (section 4).
struct Frame {
    domain: Domain,
    record: Option<Box<Record>>,
    /// Directives that did not match.
    passed: usize,
    /// Whether the next one does.
    matched: bool,
    /// The name in the `include` or `redirect` that led here: then there must be a record.
    named: Option<String>,
}

impl Frame {
    fn new(domain: Domain, named: Option<String>) -> Self {
        Self {
            domain,
            record: None,
            passed: 0,
            matched: false,
            named,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    terms: usize,
    voids: usize,
}

impl SpfProgress {
    /// Continues as far as the answers allow. The sender is the same each time, and answers are only added.
    /// Decides RFC 7208 section 4.7.
    pub fn resume(
        &mut self,
        sender: &Sender<'_>,
        answers: &[(Question, Answer)],
    ) -> Step<SpfVerdict> {
        if let Some(verdict) = &self.verdict {
            return Step::Done(verdict.clone());
        }
        let Some(domain) = initial_domain(&with_a_labels(sender.domain)) else {
            return Step::Done(SpfVerdict::without_policy(None));
        };
        if self.frames.is_empty() {
            self.frames.push(Frame::new(domain.clone(), None));
        }
        let mut check = Check {
            sender,
            answers,
            missing: Vec::new(),
            counts: self.counts,
        };
        let verdict = match check.run(&mut self.frames, &mut self.counts) {
            Err(Stop::Missing) => {
                check.missing.sort_unstable();
                check.missing.dedup();
                return Step::Ask(check.missing);
            }
            Err(Stop::Temporary(cause)) => {
                SpfVerdict::of_error(domain, SpfResult::TempError, cause)
            }
            Err(Stop::Permanent(cause)) => {
                SpfVerdict::of_error(domain, SpfResult::PermError, cause)
            }
            Ok(found) => SpfVerdict::of_record(domain, found),
        };
        self.frames.clear();
        self.verdict = Some(verdict.clone());
        Step::Done(verdict)
    }
}

impl SpfVerdict {
    fn without_policy(domain: Option<Domain>) -> Self {
        Self {
            outcome: SpfResult::None,
            domain,
            mechanism: None,
            cause: None,
            explanation: None,
        }
    }

    fn of_error(domain: Domain, outcome: SpfResult, cause: SpfErrorCause) -> Self {
        Self {
            outcome,
            cause: Some(cause),
            ..Self::without_policy(Some(domain))
        }
    }

    fn of_record(domain: Domain, found: Found) -> Self {
        let verdict = Self::without_policy(Some(domain));
        match found {
            Found::NoRecord => verdict,
            Found::Unmatched => Self {
                outcome: SpfResult::Neutral,
                ..verdict
            },
            Found::Matched {
                qualifier,
                mechanism,
                explanation,
            } => Self {
                outcome: qualifier.into(),
                mechanism: Some(mechanism),
                explanation,
                ..verdict
            },
        }
    }
}

impl From<Qualifier> for SpfResult {
    fn from(qualifier: Qualifier) -> Self {
        match qualifier {
            Qualifier::Pass => Self::Pass,
            Qualifier::Fail => Self::Fail,
            Qualifier::SoftFail => Self::SoftFail,
            Qualifier::Neutral => Self::Neutral,
        }
    }
}

/// A domain that can have a record (section 4.3): a name of several labels, and no literal.
/// Decides RFC 7208 section 4.3.
fn initial_domain(name: &str) -> Option<Domain> {
    Domain::parse_lookup(name)
        .ok()
        .filter(|domain| domain.as_str().contains('.'))
}

/// The domain of a sender with A-labels in place of U-labels (section 4.3); unchanged if it is not a domain.
fn with_a_labels(name: &str) -> Cow<'_, str> {
    match Domain::parse(name) {
        Ok(domain) if !name.is_ascii() => domain.as_str().to_owned().into(),
        _ => name.into(),
    }
}

/// One check, as far as the answers allow. A term that stops for an answer is evaluated again when it is there, and
/// counts once.
struct Check<'a> {
    sender: &'a Sender<'a>,
    answers: &'a [(Question, Answer)],
    missing: Vec<Question>,
    counts: Counts,
}

/// Why a check went no further.
enum Stop {
    /// Questions are missing.
    Missing,
    /// temperror.
    Temporary(SpfErrorCause),
    /// permerror.
    Permanent(SpfErrorCause),
}

/// The content of a record.
enum Found {
    NoRecord,
    Unmatched,
    Matched {
        qualifier: Qualifier,
        mechanism: String,
        explanation: Option<String>,
    },
}

/// The result of one evaluation step of a record.
enum Turn {
    /// The next step of the same.
    On,
    /// Another record first.
    Include(Frame),
    /// Another record instead.
    Redirect(Frame),
    Found(Found),
}

/// The result of a mechanism.
enum Says {
    Match,
    NoMatch,
    /// The result of the record of this name, if it can have one.
    Include(String, Option<Domain>),
}

impl Says {
    fn whether(matches: bool) -> Self {
        if matches { Self::Match } else { Self::NoMatch }
    }
}

impl Check<'_> {
    /// Evaluates the records; `settled` are the counts of terms that are never evaluated again.
    fn run(&mut self, frames: &mut Vec<Frame>, settled: &mut Counts) -> Result<Found, Stop> {
        while let Some(frame) = frames.last_mut() {
            let turn = self.step(frame)?;
            *settled = self.counts;
            match turn {
                Turn::On => {}
                Turn::Include(frame) => frames.push(frame),
                Turn::Redirect(next) => *frame = next,
                Turn::Found(found) => {
                    frames.pop();
                    let Some(above) = frames.last_mut() else {
                        return Ok(found);
                    };
                    let pass = Qualifier::Pass;
                    if matches!(found, Found::Matched { qualifier, .. } if qualifier == pass) {
                        above.matched = true;
                    } else {
                        above.passed = above.passed.saturating_add(1);
                    }
                }
            }
        }
        Ok(Found::NoRecord)
    }

    /// Takes the next step in a record: reads it, tries its next mechanism, or follows its redirect.
    /// Decides RFC 7208 section 6.1.
    fn step(&mut self, frame: &mut Frame) -> Result<Turn, Stop> {
        let Some(record) = &frame.record else {
            frame.record = self.record(&frame.domain)?.map(Box::new);
            return match (&frame.record, frame.named.take()) {
                (Some(_), _) => Ok(Turn::On),
                (None, Some(name)) => Err(Stop::Permanent(SpfErrorCause::NoRecord(name))),
                (None, None) => Ok(Turn::Found(Found::NoRecord)),
            };
        };
        let domain = &frame.domain;
        let Some((qualifier, mechanism, text)) = record.directives.get(frame.passed) else {
            let Some(spec) = &record.redirect else {
                return Ok(Turn::Found(Found::Unmatched));
            };
            self.count_term()?;
            let name = self.expand(spec, domain)?;
            let frame = self.follow(name.clone(), initial_domain(&name))?;
            return Ok(Turn::Redirect(frame));
        };
        if frame.matched {
            let explanation = match (*qualifier, &record.explanation) {
                (Qualifier::Fail, Some(spec)) => self.explanation(spec, domain)?,
                _ => None,
            };
            return Ok(Turn::Found(Found::Matched {
                qualifier: *qualifier,
                mechanism: text.clone(),
                explanation,
            }));
        }
        count(Unit::Name, 1);
        match self.matches(mechanism, domain)? {
            Says::Match => frame.matched = true,
            Says::NoMatch => frame.passed = frame.passed.saturating_add(1),
            Says::Include(name, target) => return self.follow(name, target).map(Turn::Include),
        }
        Ok(Turn::On)
    }

    /// The evaluation of the record that `include` or `redirect` names.
    fn follow(&self, name: String, target: Option<Domain>) -> Result<Frame, Stop> {
        match target {
            Some(target) => Ok(Frame::new(target, Some(name))),
            None => Err(Stop::Permanent(SpfErrorCause::NoRecord(name))),
        }
    }

    /// Selects the record of a domain (sections 4.4 and 4.5).
    /// Decides RFC 7208 section 4.4.
    fn record(&mut self, domain: &Domain) -> Result<Option<Record>, Stop> {
        let texts = match self.look_up(domain, RecordKind::Txt)? {
            Ok(Records::Txt(texts)) => texts,
            Ok(_) => return Ok(None),
            Err(why) if why.is_temporary() => {
                return Err(Stop::Temporary(SpfErrorCause::Dns(domain.clone())));
            }
            Err(_) => return Ok(None),
        };
        let mut records = texts.iter().filter(|text| Record::is_one(text));
        let (first, second) = (records.next(), records.next());
        let Some(text) = first else {
            return Ok(None);
        };
        if second.is_some() {
            return Err(Stop::Permanent(SpfErrorCause::Several(domain.clone())));
        }
        Record::parse(text)
            .map(Some)
            .map_err(|error| Stop::Permanent(SpfErrorCause::Record(domain.clone(), error)))
    }

    /// Whether a mechanism matches the client; `include` returns the name to evaluate.
    /// Decides RFC 7208 section 5.
    fn matches(&mut self, mechanism: &Mechanism, domain: &Domain) -> Result<Says, Stop> {
        match mechanism {
            Mechanism::All => Ok(Says::Match),
            Mechanism::Network(network) => Ok(Says::whether(network.contains(self.address()))),
            Mechanism::Include(spec) => {
                self.count_term()?;
                let name = self.expand(spec, domain)?;
                let target = initial_domain(&name);
                Ok(Says::Include(name, target))
            }
            Mechanism::A(spec, cidr) => {
                self.count_term()?;
                let Some(name) = self.target(spec.as_ref(), domain)? else {
                    return Ok(Says::NoMatch);
                };
                self.is_at(&name, true, *cidr).map(Says::whether)
            }
            Mechanism::Mx(spec, cidr) => {
                self.count_term()?;
                let Some(name) = self.target(spec.as_ref(), domain)? else {
                    return Ok(Says::NoMatch);
                };
                let hosts = self.mail_hosts(&name)?;
                self.prefetch(&hosts)?;
                for host in &hosts {
                    if self.is_at(host, false, *cidr)? {
                        return Ok(Says::Match);
                    }
                }
                Ok(Says::NoMatch)
            }
            Mechanism::Ptr(spec) => {
                self.count_term()?;
                let Some(name) = self.target(spec.as_ref(), domain)? else {
                    return Ok(Says::NoMatch);
                };
                let names = self.validated_names(true)?;
                Ok(Says::whether(
                    names.iter().any(|found| found.is_under(&name)),
                ))
            }
            Mechanism::Exists(spec) => {
                self.count_term()?;
                let Some(name) = self.target(Some(spec), domain)? else {
                    return Ok(Says::NoMatch);
                };
                // Section 5.7: type A, whatever the family of the client.
                match self.look_up(&name, RecordKind::A)? {
                    Ok(_) => Ok(Says::Match),
                    Err(why) => self.nothing(&name, why).map(|()| Says::NoMatch),
                }
            }
        }
    }

    /// The mail exchangers of a name; more than a term may have are an error.
    /// Decides RFC 7208 section 4.6.4.
    fn mail_hosts(&mut self, name: &Domain) -> Result<Vec<Domain>, Stop> {
        let records = match self.look_up(name, RecordKind::Mx)? {
            Ok(Records::Mx(records)) => records,
            Ok(_) => return Ok(Vec::new()),
            Err(why) => return self.nothing(name, why).map(|()| Vec::new()),
        };
        if records.len() > SPF_HOSTS_MAX {
            return Err(Stop::Permanent(SpfErrorCause::TooManyHosts(name.clone())));
        }
        Ok(records.iter().filter_map(|mx| mx.host.clone()).collect())
    }

    /// The client's address, as IPv4 wherever it can be.
    fn address(&self) -> IpAddr {
        self.sender.address.to_canonical()
    }

    fn address_kind(&self) -> RecordKind {
        match self.address() {
            IpAddr::V4(_) => RecordKind::A,
            IpAddr::V6(_) => RecordKind::Aaaa,
        }
    }

    /// The addresses of a host, of the client's family. Only names from a record count as void look-ups.
    fn addresses(&mut self, host: &Domain, counted: bool) -> Result<Vec<IpAddr>, Stop> {
        match self.look_up(host, self.address_kind())? {
            Ok(records) => Ok(addresses_in(records)),
            Err(why) if why.is_temporary() => {
                Err(Stop::Temporary(SpfErrorCause::Dns(host.clone())))
            }
            Err(why) if counted => self.nothing(host, why).map(|()| Vec::new()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Whether the client is in the network of this size around an address of a host.
    fn is_at(&mut self, host: &Domain, counted: bool, cidr: DualCidr) -> Result<bool, Stop> {
        let addresses = self.addresses(host, counted)?;
        let client = self.address();
        Ok(addresses
            .iter()
            .any(|found| cidr.around(*found).contains(client)))
    }

    /// Lets all hosts be asked for at once.
    fn prefetch(&mut self, hosts: &[Domain]) -> Result<(), Stop> {
        let kind = self.address_kind();
        for host in hosts {
            let _ = self.look_up(host, kind);
        }
        if self.missing.is_empty() {
            Ok(())
        } else {
            Err(Stop::Missing)
        }
    }

    /// The names of the client that lead back to it (section 5.5); names without an answer are left out.
    /// Decides RFC 7208 section 5.5.
    fn validated_names(&mut self, counted: bool) -> Result<Vec<Domain>, Stop> {
        let name = reverse_name(self.address());
        let names: Vec<Domain> = match self.look_up(&name, RecordKind::Ptr)? {
            Ok(Records::Ptr(names)) => names.iter().take(SPF_HOSTS_MAX).cloned().collect(),
            Ok(_) => Vec::new(),
            Err(why) if counted && !why.is_temporary() => {
                self.nothing(&name, why)?;
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        self.prefetch(&names)?;
        let (address, kind) = (self.address(), self.address_kind());
        let mut validated = Vec::new();
        for name in names {
            let found = self.look_up(&name, kind)?;
            if found.is_ok_and(|records| addresses_in(records).contains(&address)) {
                validated.push(name);
            }
        }
        Ok(validated)
    }

    /// The target of a term: its domain-spec, or the domain itself. `None` if the result is not a name.
    fn target(
        &mut self,
        spec: Option<&DomainSpec>,
        domain: &Domain,
    ) -> Result<Option<Domain>, Stop> {
        match spec {
            None => Ok(Some(domain.clone())),
            Some(spec) => {
                let name = self.expand(spec, domain)?;
                Ok(Domain::parse_lookup(&name).ok())
            }
        }
    }

    fn expand(&mut self, spec: &DomainSpec, domain: &Domain) -> Result<String, Stop> {
        let facts = self.facts(domain, spec.wants_validated_name())?;
        Ok(expand(spec, &facts))
    }

    /// Section 6.2: if anything fails, the fail stands without an explanation.
    /// Decides RFC 7208 section 6.2.
    fn explanation(&mut self, spec: &DomainSpec, domain: &Domain) -> Result<Option<String>, Stop> {
        let name = self.expand(spec, domain)?;
        let Ok(name) = Domain::parse_lookup(&name) else {
            return Ok(None);
        };
        let Ok(Records::Txt(texts)) = self.look_up(&name, RecordKind::Txt)? else {
            return Ok(None);
        };
        let [text] = texts.as_slice() else {
            return Ok(None);
        };
        let Some(spec) = DomainSpec::explanation(text) else {
            return Ok(None);
        };
        let facts = self.facts(domain, spec.wants_validated_name())?;
        Ok(Some(expand_explanation(&spec, &facts)))
    }

    fn facts(&mut self, domain: &Domain, validated: bool) -> Result<Facts, Stop> {
        let validated = if validated {
            let names = self.validated_names(false)?;
            let best = names
                .iter()
                .find(|name| *name == domain)
                .or_else(|| names.iter().find(|name| name.is_under(domain)))
                .or_else(|| names.first());
            best.map(ToString::to_string)
        } else {
            None
        };
        let sender = self.sender;
        Ok(Facts {
            local_part: sender.local_part.to_owned(),
            sender_domain: with_a_labels(sender.domain).into_owned(),
            domain: domain.to_string(),
            address: self.address(),
            helo: sender.helo.to_owned(),
            validated: validated.unwrap_or_else(|| "unknown".to_owned()),
            receiver: sender.receiver.to_owned(),
            at: sender.at,
        })
    }

    fn look_up(
        &mut self,
        name: &Domain,
        kind: RecordKind,
    ) -> Result<Result<&Records, NoRecords>, Stop> {
        count(Unit::Name, self.answers.len());
        let known = self
            .answers
            .iter()
            .find(|(question, _)| question.kind == kind && question.name == *name);
        match known {
            Some((_, answer)) => Ok(answer.records.as_deref().map_err(|why| *why)),
            None => {
                let name = name.clone();
                self.missing.push(Question { name, kind });
                Err(Stop::Missing)
            }
        }
    }

    /// A look-up found nothing: an error, or one of the few that are allowed (section 4.6.4).
    /// Decides RFC 7208 section 4.6.4.
    fn nothing(&mut self, name: &Domain, why: NoRecords) -> Result<(), Stop> {
        if why.is_temporary() {
            return Err(Stop::Temporary(SpfErrorCause::Dns(name.clone())));
        }
        self.counts.voids = self.counts.voids.saturating_add(1);
        if self.counts.voids > SPF_VOID_MAX {
            return Err(Stop::Permanent(SpfErrorCause::TooManyVoid));
        }
        Ok(())
    }

    /// Counts a term that asks the DNS; one too many is an error.
    /// Decides RFC 7208 section 4.6.4.
    fn count_term(&mut self) -> Result<(), Stop> {
        self.counts.terms = self.counts.terms.saturating_add(1);
        if self.counts.terms > SPF_TERMS_MAX {
            return Err(Stop::Permanent(SpfErrorCause::TooManyTerms));
        }
        Ok(())
    }
}

fn addresses_in(records: &Records) -> Vec<IpAddr> {
    match records {
        Records::A(addresses) => addresses.iter().copied().map(IpAddr::V4).collect(),
        Records::Aaaa(addresses) => addresses
            .iter()
            .map(|address: &Ipv6Addr| IpAddr::V6(*address))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
