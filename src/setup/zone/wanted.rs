//! What is known of a zone, and a record that it should hold, judged by what it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::address::Domain;
use crate::dns::{Srv, ZoneKind, zone_of};
use crate::setup::record::{DnsRecord, RecordValue};

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
    pub(super) fn dmarc_name(&self) -> Option<Domain> {
        below("_dmarc", &self.domain)
    }

    /// The name by which another domain agrees to receive the reports about this one (RFC 7489 section 7.1); `None` if
    /// they stay in the domain.
    pub(super) fn reports_name(&self) -> Option<Domain> {
        let to = self.reports_domain()?;
        let is_same = zone_of(to.as_str()) == zone_of(self.domain.as_str());
        if is_same {
            return None;
        }
        below(&format!("{}._report._dmarc", self.domain), &to)
    }

    pub(super) fn reports_domain(&self) -> Option<Domain> {
        let (_, domain) = self.reports.rsplit_once('@')?;
        Domain::parse(domain).ok()
    }

    /// The records about the services of this host that mail programs look for (RFC 6186, RFC 8314 section 5.1).
    pub(super) fn services(&self) -> Vec<(Domain, Srv)> {
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

impl ZoneView {
    /// The result of a question; empty if it was not asked.
    pub fn get(&self, name: &Domain, kind: ZoneKind) -> PublishedRecords {
        self.records
            .get(&(name.clone(), kind))
            .cloned()
            .unwrap_or_else(|| PublishedRecords::Unknown("it was not asked for".to_owned()))
    }

    /// The texts under a name that `is_one` takes for records of its kind, with their state.
    pub(super) fn texts(&self, name: &Domain, is_one: impl Fn(&str) -> bool) -> PublishedTexts {
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
                PublishedTexts::Known(texts(&values))
            }
            PublishedRecords::Nothing => PublishedTexts::Known(Vec::new()),
            PublishedRecords::Divided(servers) => {
                let each: Vec<(String, Vec<String>)> = servers
                    .iter()
                    .map(|(server, values)| (server.clone(), texts(values)))
                    .collect();
                let first = each.first().map(|(_, texts)| texts.clone());
                match first {
                    // The difference does not matter here.
                    Some(first) if each.iter().all(|(_, texts)| *texts == first) => {
                        PublishedTexts::Known(first)
                    }
                    _ => PublishedTexts::Divided(each),
                }
            }
            PublishedRecords::Unknown(cause) => PublishedTexts::Unknown(cause),
        }
    }
}

/// Texts of a kind under a name.
pub(super) enum PublishedTexts {
    Known(Vec<String>),
    Divided(Vec<(String, Vec<String>)>),
    Unknown(String),
}

impl PublishedKey {
    /// The owner name of its record; `None` if it would be too long.
    pub(super) fn name(&self, domain: &Domain) -> Option<Domain> {
        below(&format!("{}._domainkey", self.selector), domain)
    }
}

/// A name below another.
pub(super) fn below(labels: &str, domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("{labels}.{domain}")).ok()
}

impl WantedRecord {
    pub(super) fn new(purpose: Purpose, need: ZoneNeed, name: &Domain, value: RecordValue) -> Self {
        Self {
            purpose,
            need,
            record: DnsRecord::new(name.clone(), value),
            state: RecordState::Missing,
            found: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The state of a record that is fine if one of the values matches; other values differ, or are beside it.
    pub(super) fn judge(&mut self, published: PublishedRecords) {
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
    pub(super) fn judge_texts(
        &mut self,
        texts: PublishedTexts,
        is_right: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        match texts {
            PublishedTexts::Known(texts) => {
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
            PublishedTexts::Divided(servers) => {
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
            PublishedTexts::Unknown(cause) => {
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
