//! Reports about one domain as text: which sources send in its name, which messages pass, which fail, and why.
//!
//! A source counts as legitimate by what receivers have verified: its address, the signing domain and the bounce
//! domain. Only reports with a verified sender are counted here; of the others only the number is shown.
//!
//! Invariant: no more than [`REPORT_SUMMARY_SOURCES_MAX`] sources and [`REPORT_DAYS_MAX`] days of a domain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::ledger::{DAY, Ledger, OTHERS, ResultCounts, Seen, Sessions, Share, Source, UNVERIFIED};
use super::senders::{self, Service};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::limits::{REPORT_DAYS_MAX, REPORT_SUMMARY_SOURCES_MAX};

/// The caller's knowledge about an address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KnownAddress {
    /// Whether it is one of this host.
    pub is_own: bool,
    /// Whether the domain's SPF record allows it; `None` if unknown.
    pub spf: Option<bool>,
    /// Its name in the DNS, which leads back to it.
    pub name: Option<String>,
}

/// All about one domain.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct DomainSummary {
    pub domain: String,
    /// How many days it is about.
    pub days_asked: u64,
    /// The policy that reporters have read last.
    pub policy: Option<String>,
    /// Messages by result, and the receivers' actions for the failed ones.
    pub messages: ResultCounts,
    /// The reporters, by the domain of the sender.
    pub reporters: Vec<String>,
    /// Messages in reports with an unverified sender, which are not counted elsewhere.
    pub unverified: u64,
    /// Each day about which something was reported, the oldest first.
    pub days: Vec<DaySum>,
    /// The sources, those with most messages first.
    pub sources: Vec<SourceSum>,
    /// Messages of sources that are not named.
    pub others: ResultCounts,
    /// TLS sessions of senders to the domain.
    pub tls: Vec<TlsSum>,
    /// What to do next.
    pub advice: String,
}

/// The counts of one day, in UTC, of all reports.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DaySum {
    /// Such as 2026-11-29.
    pub day: String,
    /// Messages that passed.
    pub passed: u64,
    /// Messages that failed.
    pub failed: u64,
}

/// A source of mail.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SourceSum {
    /// Its name.
    pub who: String,
    pub kind: SenderKind,
    /// Its addresses, a few of them.
    pub addresses: Vec<String>,
    pub messages: ResultCounts,
    /// That in a sentence.
    pub words: String,
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    Own,
    /// An address that the SPF record of the domain allows.
    Allowed,
    /// A service that sends for others.
    Service,
    /// A host that forwards mail that the domain has signed.
    Forwarder,
    /// Any other source.
    Unknown,
}

/// TLS sessions that one organisation has tried.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TlsSum {
    pub reporter: String,
    /// Sessions with TLS as it was wanted.
    pub successes: u64,
    /// Sessions without.
    pub failures: u64,
    pub words: String,
}

/// Sources that are of one.
struct Group {
    kind: SenderKind,
    service: Option<&'static Service>,
    addresses: Vec<String>,
    source: Source,
    known: KnownAddress,
}

/// The merged data of verified reports.
#[derive(Default)]
struct Found<'a> {
    reporters: BTreeSet<&'a str>,
    sources: BTreeMap<&'a str, Source>,
    sessions: BTreeMap<String, Sessions>,
}

impl<'a> Found<'a> {
    /// Adds one reporter's data of one day.
    fn add(&mut self, reporter: &'a str, share: &'a Share) {
        for (address, source) in &share.sources {
            self.sources.entry(address).or_default().add(source);
        }
        let name = match reporter == OTHERS {
            true => "others",
            false => reporter,
        };
        self.reporters.insert(name);
        if share.tls != Sessions::default() {
            let sessions = self.sessions.entry(name.to_owned()).or_default();
            sessions.add(&share.tls);
        }
    }
}

impl DomainSummary {
    /// Of the last `days` days; `know` returns other knowledge about an address.
    pub fn new(
        domain: &Domain,
        ledger: &Ledger,
        (now, days): (Timestamp, u64),
        know: &mut dyn FnMut(IpAddr) -> KnownAddress,
    ) -> Self {
        let days_asked = days.clamp(1, REPORT_DAYS_MAX as u64);
        let first = (now.seconds() / DAY).saturating_sub(days_asked);
        let mut summary = Self {
            domain: domain.to_string(),
            days_asked,
            policy: ledger.policy.as_ref().map(|(_, policy)| policy.clone()),
            ..Self::default()
        };
        let mut found = Found::default();
        for (day, shares) in ledger.days.range(first.saturating_add(1)..) {
            let mut of_day = ResultCounts::default();
            for (reporter, share) in shares {
                let said = share.counts();
                if reporter == UNVERIFIED {
                    let sum = summary.unverified;
                    summary.unverified = sum.saturating_add(said.messages());
                    continue;
                }
                of_day.add(&said);
                summary.others.add(&share.other);
                found.add(reporter, share);
            }
            summary.messages.add(&of_day);
            if of_day.messages() > 0 {
                summary.days.push(DaySum {
                    day: date(*day),
                    passed: of_day.passed(),
                    failed: of_day.neither,
                });
            }
        }
        summary.reporters = found.reporters.into_iter().map(str::to_owned).collect();
        let groups = grouped(domain, found.sources, know);
        summary.advice = advice(&summary, &groups);
        summary.name(domain, groups);
        summary.tls = found.sessions.into_iter().map(of_sessions).collect();
        summary
            .tls
            .sort_by_key(|one| u64::MAX.saturating_sub(one.failures));
        summary
    }

    /// Lists the sources with most messages, and merges the others.
    fn name(&mut self, domain: &Domain, mut groups: Vec<Group>) {
        groups.sort_by_key(|group| u64::MAX.saturating_sub(group.source.counts.messages()));
        let rest = groups.split_off(groups.len().min(REPORT_SUMMARY_SOURCES_MAX));
        for group in rest {
            self.others.add(&group.source.counts);
        }
        self.sources = groups
            .into_iter()
            .map(|group| SourceSum {
                who: who(&group),
                kind: group.kind,
                messages: group.source.counts,
                words: words(&group, domain),
                addresses: group.addresses,
            })
            .collect();
    }
}

/// The sources, grouped by owner.
fn grouped(
    domain: &Domain,
    sources: BTreeMap<&str, Source>,
    know: &mut dyn FnMut(IpAddr) -> KnownAddress,
) -> Vec<Group> {
    let mut sources: Vec<(&str, Source)> = sources.into_iter().collect();
    sources.sort_by_key(|(_, source)| u64::MAX.saturating_sub(source.counts.messages()));
    let mut groups: Vec<Group> = Vec::new();
    for (at, (address, source)) in sources.into_iter().enumerate() {
        // To ask about an address may cost time.
        let known = match address.parse() {
            Ok(address) if at < ASKED_MAX => know(address),
            _ => KnownAddress::default(),
        };
        let service = service_of(&source, &known, domain);
        let kind = kind(&source, &known, service);
        let is_one = |group: &&mut Group| match kind {
            SenderKind::Own => group.kind == SenderKind::Own,
            SenderKind::Service => group.kind == SenderKind::Service && group.service == service,
            SenderKind::Allowed | SenderKind::Forwarder | SenderKind::Unknown => false,
        };
        match groups.iter_mut().find(is_one) {
            Some(group) => {
                group.source.add(&source);
                if group.addresses.len() < ADDRESSES_SHOWN {
                    group.addresses.push(address.to_owned());
                }
            }
            None => groups.push(Group {
                kind,
                service,
                addresses: vec![address.to_owned()],
                source,
                known,
            }),
        }
    }
    groups
}

/// The service whose domain has signed, or gets the bounces; if nothing passes for the domain, that of the host.
fn service_of(source: &Source, known: &KnownAddress, domain: &Domain) -> Option<&'static Service> {
    let seen = [&source.signer, &source.envelope].into_iter().flatten();
    let seen = seen.filter(|seen| seen.passes && !is_of(&seen.domain, domain));
    let service = seen.filter_map(|seen| senders::find(&seen.domain)).next();
    // A host of a service also forwards mail of others to a mailbox there.
    let is_forwarded = source.counts.passed() > 0 || known.spf == Some(true);
    let host = known.name.as_deref().filter(|_| !is_forwarded);
    service.or_else(|| host.and_then(senders::find_host))
}

fn kind(source: &Source, known: &KnownAddress, service: Option<&Service>) -> SenderKind {
    let counts = &source.counts;
    let aligned_spf = counts.both.saturating_add(counts.spf);
    if known.is_own {
        SenderKind::Own
    } else if service.is_some() {
        SenderKind::Service
    } else if known.spf.unwrap_or(aligned_spf > 0) {
        SenderKind::Allowed
    } else if counts.dkim > 0 || counts.both > 0 {
        SenderKind::Forwarder
    } else {
        SenderKind::Unknown
    }
}

/// Whether a name is the domain, or below it.
fn is_of(name: &str, domain: &Domain) -> bool {
    Domain::parse(name)
        .is_ok_and(|name| name == *domain || name.is_under(domain) || domain.is_under(&name))
}

fn who(group: &Group) -> String {
    let first = group.addresses.first().cloned().unwrap_or_default();
    match (group.kind, group.service) {
        (SenderKind::Own, _) => "this host".to_owned(),
        (SenderKind::Service, Some(service)) => service.name.to_owned(),
        _ => group.known.name.clone().unwrap_or(first),
    }
}

/// The text about a source.
fn words(group: &Group, domain: &Domain) -> String {
    let counts = &group.source.counts;
    let has_failed = counts.neither > 0;
    let why = why(group, domain);
    match group.kind {
        SenderKind::Own if has_failed => format!("your own host, and some of its mail fails: {why}"),
        SenderKind::Own => "your own host; all of it passes".to_owned(),
        SenderKind::Service => of_service(group, domain),
        SenderKind::Allowed if has_failed => {
            format!("your SPF record allows it, and some of its mail fails: {why}")
        }
        SenderKind::Allowed => "your SPF record allows it; all of it passes".to_owned(),
        SenderKind::Forwarder if has_failed => {
            format!("forwards mail that you have signed; if it changes the mail, the signature fails: {why}")
        }
        SenderKind::Forwarder => {
            "passes on mail that you have signed: your signature passes, its address is not in your SPF record, \
             and need not be"
                .to_owned()
        }
        SenderKind::Unknown => format!("nobody known: {why}"),
    }
}

fn of_service(group: &Group, domain: &Domain) -> String {
    let Some(service) = group.service else {
        return String::new();
    };
    let name = service.name;
    if group.source.counts.neither == 0 {
        return format!("{name} sends for you, and passes");
    }
    let sign = format!("if it should, have it sign with a DKIM key of {domain}");
    match (group.known.spf, service.include) {
        (Some(true), _) => format!(
            "{name} sends for you, and your SPF record has it, but its bounces go to a domain of its own, so that SPF does \
             not count: {sign}"
        ),
        (Some(false), Some(include)) => format!(
            "{name} sends for you and is not in your SPF record: {sign}, or bounce to {domain} with include:{include} in its \
             SPF record"
        ),
        _ => format!(
            "{name} sends for you, but its mail does not pass, because it does not sign for you: {sign}"
        ),
    }
}

/// Why neither passes.
fn why(group: &Group, domain: &Domain) -> String {
    let signature = match &group.source.signer {
        None => "it is not signed".to_owned(),
        Some(Seen {
            domain: signer,
            passes,
        }) => match (is_of(signer, domain), passes) {
            (true, true) => "a signature of yours does not always pass".to_owned(),
            (true, false) => "a signature in your name is wrong".to_owned(),
            (false, _) => format!("it is signed by {signer} only"),
        },
    };
    let bounces = match &group.source.envelope {
        None => "SPF said nothing".to_owned(),
        Some(Seen {
            domain: envelope,
            passes,
        }) => match (is_of(envelope, domain), passes) {
            (true, true) if group.known.spf == Some(false) => {
                "SPF is said to have allowed it, which your SPF record does not do now".to_owned()
            }
            (true, true) => "SPF does not always allow it".to_owned(),
            (true, false) => "your SPF record does not allow it".to_owned(),
            (false, _) => format!("its bounces go to {envelope}"),
        },
    };
    format!("{signature}, and {bounces}")
}

fn of_sessions((reporter, sessions): (String, Sessions)) -> TlsSum {
    let mut causes: Vec<(&String, &u64)> = sessions.causes.iter().collect();
    causes.sort_by_key(|(_, count)| u64::MAX.saturating_sub(**count));
    let causes: Vec<String> = causes
        .iter()
        .map(|(cause, count)| format!("{} ({count})", cause_words(cause)))
        .collect();
    TlsSum {
        reporter,
        successes: sessions.successes,
        failures: sessions.failures,
        words: match (causes.is_empty(), sessions.failures) {
            (true, 0) => "all had TLS".to_owned(),
            (true, _) => "it does not say why".to_owned(),
            (false, _) => causes.join("; "),
        },
    }
}

/// A result of RFC 8460 section 4.3, for people.
fn cause_words(cause: &str) -> &str {
    match cause {
        "starttls-not-supported" => "your host did not offer STARTTLS",
        "certificate-host-mismatch" => "your certificate is not for the name of your host",
        "certificate-expired" => "your certificate had ended",
        "certificate-not-trusted" => "your certificate is of no authority that is trusted",
        "validation-failure" => "your certificate did not pass",
        "tlsa-invalid" => "your TLSA record does not fit your certificate",
        "dnssec-invalid" => "DNSSEC of your zone did not pass",
        "dane-required" => "there was no TLSA record that can be used",
        "sts-policy-fetch-error" => "your MTA-STS policy could not be fetched",
        "sts-policy-invalid" => "your MTA-STS policy could not be read",
        "sts-webpki-invalid" => "your certificate did not pass for MTA-STS",
        _ => "something else",
    }
}

/// When the policy can be made stricter.
fn advice(summary: &DomainSummary, groups: &[Group]) -> String {
    let domain = &summary.domain;
    if summary.messages.messages() == 0 {
        return format!(
            "no report about mail of {domain} has come in these days; receivers send one a day where the rua= of its DMARC \
             record leads to an address whose alias leads to \"reports:\""
        );
    }
    let failing = groups.iter().filter(|group| {
        let is_ours = matches!(
            group.kind,
            SenderKind::Own | SenderKind::Allowed | SenderKind::Service
        );
        is_ours && group.source.counts.neither > 0
    });
    let failing: Vec<String> = failing.map(who).collect();
    let days = summary.days.len();
    let next = match summary.policy.as_deref() {
        Some("reject") => None,
        Some("quarantine") => Some("reject"),
        _ => Some("quarantine"),
    };
    match (next, failing.is_empty()) {
        (None, true) => {
            "p=reject is set and nothing of yours fails: there is nothing to do".to_owned()
        }
        (None, false) => format!(
            "p=reject is set, and mail from {} fails, so receivers reject it: correct that, or use p=none meanwhile",
            failing.join(", ")
        ),
        (Some(next), false) => format!(
            "do not set p={next} yet: mail from {} fails; if it is yours, correct that first",
            failing.join(", ")
        ),
        (Some(next), true) if days < DAYS_BEFORE_STRICTER => format!(
            "nothing of yours fails so far; set p={next} once there are reports of {DAYS_BEFORE_STRICTER} days ({days} so far)"
        ),
        (Some(next), true) => {
            format!("p={next} can be set: nothing of yours fails in the reports of {days} days")
        }
    }
}

fn date(day: u64) -> String {
    let at = Timestamp::from_seconds(day.saturating_mul(DAY));
    at.rfc3339().to_string().chars().take(10).collect()
}

/// Addresses of one source that are shown.
const ADDRESSES_SHOWN: usize = 4;
/// Addresses that are looked up, those that send most.
const ASKED_MAX: usize = 20;
/// Days of reports that are required before a policy is made stricter.
const DAYS_BEFORE_STRICTER: usize = 14;
