//! Which records the DNS should hold for a domain whose mail this host sends and receives, and how the published ones
//! differ.
//!
//! [`questions`] returns the questions that must be answered, [`compare`] judges the answers.

mod dkim;
mod dmarc;
#[cfg(test)]
mod tests;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::record::{DnsRecord, RecordValue};
use super::spf_record;
use crate::address::Domain;
use crate::dns::{Mx, Srv, Tlsa, ZoneKind, reverse_name, zone_of};

/// Facts from this machine and its configuration.
#[derive(Clone, Debug)]
pub struct ZoneFacts {
    /// The name of this host.
    pub host: Domain,
    /// The addresses by which mail leaves and comes.
    pub addresses: Vec<IpAddr>,
    /// The domain that it is about.
    pub domain: Domain,
    /// Whether mail to the domain ends here.
    pub receives: bool,
    /// The keys that sign, each with the text of its record.
    pub keys: Vec<PublishedKey>,
    /// The address that gets the reports about the domain.
    pub reports: String,
    /// The port for STARTTLS and AUTH, if there is one.
    pub submission: Option<u16>,
    /// The port for TLS from the first byte and AUTH, if there is one.
    pub submissions: Option<u16>,
    /// SHA-256 of the public key of the host's certificate, if that is not self-signed.
    pub key_digest: Option<Vec<u8>>,
    /// The names of the domain under which something is served over HTTPS.
    pub web: Vec<Domain>,
    /// The text that announces the MTA-STS policy, if there is one.
    pub policy_record: Option<String>,
}

/// A DKIM key to be published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedKey {
    pub selector: String,
    /// The text of the record.
    pub text: String,
}

/// The records under a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublishedRecords {
    /// These records, at all servers that were asked.
    Records(Vec<RecordValue>),
    /// An alias to this name, and the records there.
    Alias(Domain, Vec<RecordValue>),
    Nothing,
    /// The servers of the zone differ: the records of each. Usually a recent change is still on its way.
    Divided(Vec<(String, Vec<RecordValue>)>),
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// The known records of the DNS.
#[derive(Clone, Debug, Default)]
pub struct ZoneView {
    /// The result of each question.
    pub records: BTreeMap<(Domain, ZoneKind), PublishedRecords>,
    /// Whether mail from each address passes the policy of the domain.
    pub spf_passes: Option<bool>,
    /// Whether it passes that of the host's name.
    pub helo_passes: Option<bool>,
    /// How often the terms of the domain's policy ask the DNS.
    pub spf_lookups: Option<usize>,
    /// Names under which every name has an answer.
    pub wildcards: Vec<Domain>,
    /// Whether the zone of the host's name is signed, by a validating resolver.
    pub signed: bool,
}

/// The purpose of a record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// The host's name leads to it.
    Address,
    /// Its address leads to its name.
    Pointer,
    /// Mail for the domain comes here.
    Mx,
    /// The host may send for the domain.
    Spf,
    /// And in its own name.
    SpfHelo,
    /// Signatures can be verified.
    Dkim,
    /// The policy for mail that is neither.
    Dmarc,
    /// Reports may be sent to another domain.
    DmarcReports,
    /// Reports about TLS.
    TlsReports,
    /// Mail programs find the ports by themselves.
    Submission,
    /// Senders can hold the certificate against the DNS.
    Association,
    /// Senders know that there is TLS.
    MtaSts,
    /// Pages of the domain are found over HTTPS.
    Web,
}

impl Purpose {
    /// For people.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Address => "the name of this host leads to it",
            Self::Pointer => {
                "the address leads to the name: large receivers refuse mail without it. It is set where the server is \
                 rented, not in the zone"
            }
            Self::Mx => "mail for the domain comes to this host",
            Self::Spf => "this host may send for the domain",
            Self::SpfHelo => "this host may send in its own name, as bounces do",
            Self::Dkim => "signatures can be verified",
            Self::Dmarc => "what becomes of mail that is not yours; Gmail and Yahoo ask for one",
            Self::DmarcReports => "reports about the domain may be sent to another domain",
            Self::TlsReports => "reports of mail that did not arrive over TLS",
            Self::Submission => "mail programs find server and port by themselves",
            Self::Association => "senders hold the certificate against the DNS (DANE)",
            Self::MtaSts => "senders look for the policy that there is TLS (MTA-STS)",
            Self::Web => "the policy, or the settings for mail programs, are found",
        }
    }

    /// The word for it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Pointer => "ptr",
            Self::Mx => "mx",
            Self::Spf => "spf",
            Self::SpfHelo => "spf-helo",
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::DmarcReports => "dmarc-reports",
            Self::TlsReports => "tls-reports",
            Self::Submission => "submission",
            Self::Association => "tlsa",
            Self::MtaSts => "mta-sts",
            Self::Web => "web",
        }
    }
}

/// How much depends on a record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ZoneNeed {
    /// Mail does not arrive without it, or in the spam folder.
    Required,
    /// It makes mail safer, or life easier.
    Advised,
}

/// The state of a record in the DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordState {
    /// It exists, or another that has the same effect.
    There,
    /// Another value exists, which this should replace.
    Differs,
    /// It must be added.
    Missing,
    /// Some servers of the zone have it, and others not yet.
    OnItsWay,
    /// It could not be found out.
    Unknown,
}

impl RecordState {
    /// For people and JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::OnItsWay => "on its way",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RecordState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A record that should be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedRecord {
    pub purpose: Purpose,
    /// How much depends on it.
    pub need: ZoneNeed,
    /// The record, as it should be.
    pub record: DnsRecord,
    /// Its state in the DNS.
    pub state: RecordState,
    /// The existing values instead of it, or beside it.
    pub found: Vec<RecordValue>,
    /// Further remarks, each a sentence.
    pub notes: Vec<String>,
}

impl ZoneFacts {
    /// The name of a policy about the domain.
    fn dmarc_name(&self) -> Option<Domain> {
        below("_dmarc", &self.domain)
    }

    /// The name by which another domain agrees to receive the reports about this one (RFC 7489 section 7.1); `None` if
    /// they stay in the domain.
    fn reports_name(&self) -> Option<Domain> {
        let to = self.reports_domain()?;
        let is_same = zone_of(to.as_str()) == zone_of(self.domain.as_str());
        if is_same {
            return None;
        }
        below(&format!("{}._report._dmarc", self.domain), &to)
    }

    fn reports_domain(&self) -> Option<Domain> {
        let (_, domain) = self.reports.rsplit_once('@')?;
        Domain::parse(domain).ok()
    }

    /// The records about the services of this host that mail programs look for (RFC 6186, RFC 8314 section 5.1).
    fn services(&self) -> Vec<(Domain, Srv)> {
        [
            ("_submissions._tcp", self.submissions),
            ("_submission._tcp", self.submission),
        ]
        .into_iter()
        .filter_map(|(label, port)| {
            let service = Srv {
                priority: 0,
                weight: 1,
                port: port?,
                target: Some(self.host.clone()),
            };
            Some((below(label, &self.domain)?, service))
        })
        .collect()
    }
}

/// The questions to ask.
pub fn questions(facts: &ZoneFacts) -> Vec<(Domain, ZoneKind)> {
    let mut all = vec![
        (facts.host.clone(), ZoneKind::A),
        (facts.host.clone(), ZoneKind::Aaaa),
        (facts.host.clone(), ZoneKind::Txt),
        (facts.domain.clone(), ZoneKind::Mx),
        (facts.domain.clone(), ZoneKind::Txt),
    ];
    let texts = [
        facts.dmarc_name(),
        facts.reports_name(),
        below("_smtp._tls", &facts.domain),
    ];
    let selectors = facts.keys.iter().map(|key| key.name(&facts.domain));
    all.extend(
        texts
            .into_iter()
            .chain(selectors)
            .flatten()
            .map(|name| (name, ZoneKind::Txt)),
    );
    all.extend(
        facts
            .addresses
            .iter()
            .map(|address| (reverse_name(*address), ZoneKind::Ptr)),
    );
    all.extend(
        facts
            .services()
            .into_iter()
            .map(|(name, _)| (name, ZoneKind::Srv)),
    );
    if let Some(name) = below("_25._tcp", &facts.host) {
        all.push((name, ZoneKind::Tlsa));
    }
    all.extend(web::questions(facts));
    all.sort();
    all.dedup();
    all
}

/// The records that should exist, and the state of each in the DNS.
pub fn compare(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = addresses(facts, seen);
    rows.extend(pointers(facts, seen));
    rows.extend(exchanger(facts, seen));
    rows.push(spf(facts, seen));
    rows.push(spf_of_helo(facts, seen));
    rows.extend(
        facts
            .keys
            .iter()
            .filter_map(|key| dkim::row(facts, key, seen)),
    );
    rows.extend(dmarc::row(facts, seen));
    rows.extend(dmarc::reports(facts, seen));
    rows.extend(tls_reports(facts, seen));
    rows.extend(services(facts, seen));
    rows.extend(association(facts, seen));
    rows.extend(web::rows(facts, seen));
    for row in &mut rows {
        obstacles(row, seen);
    }
    rows
}

/// Whether the DNS is as it should be.
pub fn is_complete(rows: &[WantedRecord]) -> bool {
    rows.iter()
        .all(|row| row.need != ZoneNeed::Required || row.state == RecordState::There)
}

impl ZoneView {
    /// The result of a question; empty if it was not asked.
    pub fn get(&self, name: &Domain, kind: ZoneKind) -> PublishedRecords {
        self.records
            .get(&(name.clone(), kind))
            .cloned()
            .unwrap_or_else(|| PublishedRecords::Unknown("it was not asked for".to_owned()))
    }

    /// The texts under a name that `is_one` takes for records of its kind, with their state.
    fn texts(&self, name: &Domain, is_one: impl Fn(&str) -> bool) -> Texts {
        let published = self.get(name, ZoneKind::Txt);
        let texts = |values: &[RecordValue]| -> Vec<String> {
            values
                .iter()
                .filter_map(|value| match value {
                    RecordValue::Text(text) if is_one(text) => Some(text.clone()),
                    _ => None,
                })
                .collect()
        };
        match published {
            PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => {
                Texts::Known(texts(&values))
            }
            PublishedRecords::Nothing => Texts::Known(Vec::new()),
            PublishedRecords::Divided(servers) => {
                let each: Vec<(String, Vec<String>)> = servers
                    .iter()
                    .map(|(server, values)| (server.clone(), texts(values)))
                    .collect();
                let first = each.first().map(|(_, texts)| texts.clone());
                match first {
                    // The difference does not matter here.
                    Some(first) if each.iter().all(|(_, texts)| *texts == first) => {
                        Texts::Known(first)
                    }
                    _ => Texts::Divided(each),
                }
            }
            PublishedRecords::Unknown(cause) => Texts::Unknown(cause),
        }
    }
}

/// Texts of a kind under a name.
enum Texts {
    Known(Vec<String>),
    Divided(Vec<(String, Vec<String>)>),
    Unknown(String),
}

impl PublishedKey {
    /// The owner name of its record; `None` if it would be too long.
    fn name(&self, domain: &Domain) -> Option<Domain> {
        below(&format!("{}._domainkey", self.selector), domain)
    }
}

/// A name below another.
fn below(labels: &str, domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("{labels}.{domain}")).ok()
}

impl WantedRecord {
    fn new(purpose: Purpose, need: ZoneNeed, name: &Domain, value: RecordValue) -> Self {
        Self {
            purpose,
            need,
            record: DnsRecord::new(name.clone(), value),
            state: RecordState::Missing,
            found: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The state of a record that is fine if one of the values matches; other values differ, or are beside it.
    fn judge(&mut self, published: PublishedRecords) {
        let record = self.record.value.clone();
        match published {
            PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => {
                let is_there = values.contains(&record);
                self.found = values
                    .into_iter()
                    .filter(|value| *value != record)
                    .collect();
                self.state = if is_there {
                    RecordState::There
                } else if self.found.is_empty() {
                    RecordState::Missing
                } else {
                    RecordState::Differs
                };
            }
            PublishedRecords::Nothing => self.state = RecordState::Missing,
            PublishedRecords::Divided(servers) => {
                let have = |(_, values): &&(String, Vec<RecordValue>)| values.contains(&record);
                let with: Vec<&str> = servers
                    .iter()
                    .filter(have)
                    .map(|(name, _)| name.as_str())
                    .collect();
                let all = servers.len();
                if with.len() == all {
                    self.state = RecordState::There;
                } else if with.is_empty() {
                    self.found = servers.into_iter().flat_map(|(_, values)| values).collect();
                    self.found.dedup();
                    self.state = if self.found.is_empty() {
                        RecordState::Missing
                    } else {
                        RecordState::Differs
                    };
                } else {
                    self.state = RecordState::OnItsWay;
                    let text = format!(
                        "so far only {} of {all} servers of the zone have it: {}",
                        with.len(),
                        with.join(", ")
                    );
                    self.note(text);
                }
            }
            PublishedRecords::Unknown(cause) => self.unknown(&cause),
        }
    }

    /// The same for a kind of text of which there may be only one.
    fn judge_texts(&mut self, texts: Texts, is_right: impl Fn(&str) -> bool) -> Vec<String> {
        match texts {
            Texts::Known(texts) => {
                self.state = match texts.as_slice() {
                    [] => RecordState::Missing,
                    [text] if is_right(text) => RecordState::There,
                    _ => RecordState::Differs,
                };
                if self.state == RecordState::Differs {
                    self.found = texts.iter().cloned().map(RecordValue::Text).collect();
                }
                texts
            }
            Texts::Divided(servers) => {
                let with = servers
                    .iter()
                    .filter(|(_, texts)| matches!(texts.as_slice(), [text] if is_right(text)))
                    .count();
                self.state = if with > 0 {
                    RecordState::OnItsWay
                } else {
                    RecordState::Differs
                };
                let all = servers.len();
                self.note(format!(
                    "so far only {with} of {all} servers of the zone have it"
                ));
                servers.into_iter().flat_map(|(_, texts)| texts).collect()
            }
            Texts::Unknown(cause) => {
                self.unknown(&cause);
                Vec::new()
            }
        }
    }

    fn unknown(&mut self, cause: &str) {
        self.state = RecordState::Unknown;
        self.note(cause);
    }
}

fn addresses(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows: Vec<WantedRecord> = Vec::new();
    for address in &facts.addresses {
        let value = RecordValue::Address(*address);
        let mut row = WantedRecord::new(Purpose::Address, ZoneNeed::Required, &facts.host, value);
        row.judge(seen.get(&facts.host, row.record.value.kind()));
        let is_ours = |value: &RecordValue| matches!(value, RecordValue::Address(other) if facts.addresses.contains(other));
        row.found.retain(|value| !is_ours(value));
        if row.state == RecordState::Differs && row.found.is_empty() {
            row.state = RecordState::Missing;
        }
        if row.state == RecordState::There && !row.found.is_empty() {
            let others: Vec<String> = row.found.iter().map(RecordValue::line).collect();
            row.note(format!(
                "{} leads to {} too, which this machine does not send from: take it out, or name all addresses",
                facts.host,
                others.join(" and ")
            ));
        }
        rows.push(row);
    }
    let families = [
        (ZoneKind::A, facts.addresses.iter().any(IpAddr::is_ipv4)),
        (ZoneKind::Aaaa, facts.addresses.iter().any(IpAddr::is_ipv6)),
    ];
    for (kind, is_ours) in families {
        let published = seen.get(&facts.host, kind);
        if let (false, PublishedRecords::Records(values), Some(row)) =
            (is_ours, published, rows.first_mut())
        {
            let lines: Vec<String> = values.iter().map(RecordValue::line).collect();
            row.note(format!(
                "{} has {kind} {} as well, but this machine has no such address that leads to the Internet: mail that is \
                 sent there is delayed; take the record out",
                facts.host,
                lines.join(" and ")
            ));
        }
    }
    rows
}

fn pointers(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = Vec::new();
    for address in &facts.addresses {
        let name = reverse_name(*address);
        let value = RecordValue::Pointer(facts.host.clone());
        let mut row = WantedRecord::new(Purpose::Pointer, ZoneNeed::Required, &name, value);
        row.judge(seen.get(&name, ZoneKind::Ptr));
        if row.state == RecordState::There && !row.found.is_empty() {
            let names: Vec<String> = row.found.iter().map(RecordValue::line).collect();
            row.note(format!(
                "the address has other names too ({}); one is best",
                names.join(", ")
            ));
        }
        rows.push(row);
    }
    rows
}

fn exchanger(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    if !facts.receives {
        return None;
    }
    let wanted = Mx {
        preference: 10,
        host: Some(facts.host.clone()),
    };
    let mut row = WantedRecord::new(
        Purpose::Mx,
        ZoneNeed::Required,
        &facts.domain,
        RecordValue::Mx(wanted),
    );
    let published = seen.get(&facts.domain, ZoneKind::Mx);
    if let PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) = &published {
        let exchangers: Vec<&Mx> = values
            .iter()
            .filter_map(|value| match value {
                RecordValue::Mx(mx) => Some(mx),
                _ => None,
            })
            .collect();
        let ours = exchangers
            .iter()
            .find(|mx| mx.host.as_ref() == Some(&facts.host));
        if let Some(ours) = ours {
            row.record.value = RecordValue::Mx((*ours).clone());
            row.state = RecordState::There;
            let before: Vec<String> = exchangers
                .iter()
                .filter(|mx| mx.preference < ours.preference)
                .filter_map(|mx| mx.host.as_ref().map(Domain::to_string))
                .collect();
            if !before.is_empty() {
                row.note(format!(
                    "{} come first, so that mail reaches this host only while they are down",
                    before.join(", ")
                ));
            }
            return Some(row);
        }
    }
    row.judge(published);
    if row.state == RecordState::Differs {
        row.note(format!(
            "mail for {} goes elsewhere today. If that is meant, set receive = false in [domain.\"{}\"] of chopar.toml; \
             else put this record in place of the others",
            facts.domain, facts.domain
        ));
    }
    Some(row)
}

fn spf(facts: &ZoneFacts, seen: &ZoneView) -> WantedRecord {
    let fresh = RecordValue::Text(spf_record::new(&facts.host));
    let mut row = WantedRecord::new(Purpose::Spf, ZoneNeed::Required, &facts.domain, fresh);
    let passes = seen.spf_passes == Some(true);
    let texts = seen.texts(&facts.domain, spf_record::is_one);
    let flawed = |text: &str| {
        spf_record::flaws(&[text.to_owned()], None).contains(&spf_record::Flaw::AllPass)
    };
    let published = row.judge_texts(texts, |text| passes && !flawed(text));
    if !published.is_empty() {
        row.record.value = RecordValue::Text(spf_record::merged(&published, &facts.host, passes));
    }
    for flaw in spf_record::flaws(&published, seen.spf_lookups) {
        row.note(flaw.to_string());
    }
    if row.state == RecordState::Differs && published.len() == 1 && seen.spf_passes.is_none() {
        row.note("whether this host passes by it could not be found out: a record that it leads to has no answer");
    }
    row
}

fn spf_of_helo(facts: &ZoneFacts, seen: &ZoneView) -> WantedRecord {
    let value = RecordValue::Text(spf_record::of_helo());
    let mut row = WantedRecord::new(Purpose::SpfHelo, ZoneNeed::Advised, &facts.host, value);
    if facts.host == facts.domain {
        // One record serves both.
        row.need = ZoneNeed::Required;
        row = spf(facts, seen);
        row.purpose = Purpose::SpfHelo;
        return row;
    }
    let passes = seen.helo_passes == Some(true);
    let published = row.judge_texts(seen.texts(&facts.host, spf_record::is_one), |_| passes);
    if !published.is_empty() {
        row.record.value = RecordValue::Text(spf_record::merged(&published, &facts.host, passes));
    }
    for flaw in spf_record::flaws(&published, None) {
        row.note(flaw.to_string());
    }
    row
}

fn tls_reports(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    if !facts.receives {
        return None;
    }
    let name = below("_smtp._tls", &facts.domain)?;
    let value = RecordValue::Text(format!("v=TLSRPTv1; rua=mailto:{}", facts.reports));
    let mut row = WantedRecord::new(Purpose::TlsReports, ZoneNeed::Advised, &name, value);
    let is_one = |text: &str| {
        text.trim_start()
            .to_ascii_lowercase()
            .starts_with("v=tlsrptv1")
    };
    row.judge_texts(seen.texts(&name, is_one), |text| text.contains("rua="));
    Some(row)
}

fn services(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = Vec::new();
    for (name, service) in facts.services() {
        let mut row = WantedRecord::new(
            Purpose::Submission,
            ZoneNeed::Advised,
            &name,
            RecordValue::Service(service),
        );
        row.judge(seen.get(&name, ZoneKind::Srv));
        let leads_here = row.found.iter().any(|value| {
            matches!((value, &row.record.value), (RecordValue::Service(found), RecordValue::Service(wanted))
                if (found.port, &found.target) == (wanted.port, &wanted.target))
        });
        if leads_here {
            row.state = RecordState::There;
        }
        rows.push(row);
    }
    rows
}

fn association(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    let name = below("_25._tcp", &facts.host)?;
    let published = seen.get(&name, ZoneKind::Tlsa);
    let is_published = matches!(
        &published,
        PublishedRecords::Records(_) | PublishedRecords::Alias(..)
    );
    // Without signatures in the zone the record is ignored; a wrong one does harm as soon as the zone is signed.
    if !seen.signed && !is_published {
        return None;
    }
    let wanted = Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: facts.key_digest.clone()?,
    };
    let need = if is_published {
        ZoneNeed::Required
    } else {
        ZoneNeed::Advised
    };
    let mut row = WantedRecord::new(
        Purpose::Association,
        need,
        &name,
        RecordValue::Association(wanted),
    );
    row.judge(published);
    if row.state == RecordState::Differs {
        row.note("senders that use DANE refuse to deliver to this host (RFC 7672)");
    }
    if !seen.signed {
        row.note("the zone is not signed with DNSSEC, so no sender uses it");
    }
    Some(row)
}

/// Obstacles for a record.
fn obstacles(row: &mut WantedRecord, seen: &ZoneView) {
    let name = row.record.name.clone();
    if let PublishedRecords::Alias(to, _) = seen.get(&name, row.record.value.kind()) {
        let text = if matches!(
            row.purpose,
            Purpose::Address | Purpose::Mx | Purpose::Spf | Purpose::SpfHelo
        ) {
            format!(
                "{name} is an alias (CNAME) to {to}: no other record can stand beside it (RFC 1034 section 3.6.2), and the name \
                 of a mail server must not be one (RFC 5321 section 5.1); take it out first"
            )
        } else if row.state == RecordState::There {
            format!("{name} is an alias (CNAME) to {to}, where it is right today")
        } else {
            format!(
                "{name} is an alias (CNAME) to {to}: take it out before you add this, or change it there"
            )
        };
        row.note(text);
    }
    let wildcard = seen
        .wildcards
        .iter()
        .find(|zone| name.is_under(zone) && name != **zone);
    if let (Some(zone), RecordState::Differs | RecordState::Missing) = (wildcard, &row.state) {
        row.note(format!(
            "*.{zone} answers for every name below {zone} that has no record of its own; once this one is added it counts \
             instead"
        ));
    }
}
