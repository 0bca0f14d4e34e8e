//! chopar.toml: the keys, their defaults, and what their values must be.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::abuse::{Abuse, AbuseText};
use super::acme::{Acme, AcmeText};
use super::allowances::{Limits, LimitsText};
use super::check::{Check, FILE};
use super::delivery::{DeliverySettings, DeliveryText};
use super::document::{self, TopKeys};
use super::error::Errors;
use super::folder::{Folder, SystemDefaults};
use super::listeners::{ListenText, Listeners};
use super::names::NameRules;
use super::problem::{ConfigProblem, NameProblem, ValueProblem};
use super::relaying::{NetworksText, RelayText, Trust};
use super::routes::{RouteText, RouteTexts};
use super::sections::{DomainSection, DomainText};
use crate::address::{Domain, Mailbox};
use crate::dns::{Servers, resolv_conf};
use crate::smtp::data::LongLines;

/// Handling of Bcc in a submitted message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Bcc {
    /// It is taken out.
    #[default]
    Remove,
    /// It stays.
    Keep,
}

/// Handling of the content of messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Content {
    /// About lines that are too long.
    pub long_lines: LongLines,
    /// Of Bcc in submitted messages.
    pub bcc: Bcc,
    /// Whether there is a hook that judges messages, `hooks/post-data`.
    pub hook: bool,
}

/// Name servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// The servers that are asked.
    pub servers: Servers,
    /// The source of their addresses.
    pub source: DnsSource,
}

/// The source of the DNS servers' addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsSource {
    /// `[dns]`.
    Configuration,
    /// /etc/resolv.conf.
    System,
}

/// The values of chopar.toml, checked, with the defaults filled in.
pub(super) struct Settings {
    pub(super) hostname: Option<Domain>,
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
    pub(super) admin: Option<Mailbox>,
    pub(super) user: String,
    pub(super) listen: Listeners,
    pub(super) trust: Trust,
    pub(super) content: Content,
    pub(super) dns: Dns,
    pub(super) delivery: DeliverySettings,
    pub(super) limits: Limits,
    pub(super) names: NameRules,
    pub(super) abuse: Abuse,
    pub(super) acme: Acme,
    /// The `[domain."…"]` sections with their positions.
    pub(super) domains: Vec<DomainSection>,
    /// The `[[route]]` sections, for `routes`.
    pub(super) routes: RouteTexts,
}

/// Reads chopar.toml; a file that is missing counts as empty.
pub(super) fn read(folder: &Folder, defaults: &SystemDefaults, errors: &mut Errors) -> Settings {
    let bytes = folder.file(FILE).unwrap_or_default();
    let text = errors.text(FILE, bytes).unwrap_or_default();
    let (mut keys, sections): (TopKeys, SectionsText) =
        document::read(FILE, text, (&KEYS, &SECTIONS), errors);
    let mut key = |name| keys.remove(name);
    let mut check = Check { text, errors };
    let (relay, mended) = check.relay_networks(sections.relay);
    Settings {
        hostname: check.hostname(key("hostname"), defaults),
        state_dir: check.path(key("state_dir"), "/var/lib/chopar"),
        runtime_dir: check.path(key("runtime_dir"), "/run/chopar"),
        admin: key("admin").and_then(|admin| check.mailbox(&admin)),
        user: check.account(key("user")),
        trust: Trust {
            proxies: check.proxies(&sections.listen, &sections.proxy.networks, &relay),
            relay: check.relay(&relay),
            mended,
            sealers: check.domain_list(&sections.arc.trusted),
        },
        listen: check.listeners(sections.listen),
        content: Content {
            long_lines: check.word(key("long_lines").as_ref(), &LONG_LINES),
            bcc: check.word(key("bcc").as_ref(), &BCC),
            hook: false,
        },
        dns: Dns {
            servers: check.servers(&sections.dns.servers, defaults),
            source: match sections.dns.servers.as_slice() {
                [] => DnsSource::System,
                _ => DnsSource::Configuration,
            },
        },
        delivery: check.delivery(&sections.delivery),
        limits: check.limits(&sections.limits, key("max_message_size"), key("max_memory")),
        names: check.names(key("suffix_separators"), key("drop_characters")),
        abuse: check.abuse(sections.abuse),
        acme: check.acme(sections.acme, folder),
        domains: check.domains(sections.domain),
        routes: RouteTexts {
            text: text.to_owned(),
            routes: sections.route,
        },
    }
}

const LONG_LINES: [(&str, LongLines); 2] =
    [("take", LongLines::Take), ("refuse", LongLines::Refuse)];

const BCC: [(&str, Bcc); 2] = [("remove", Bcc::Remove), ("keep", Bcc::Keep)];

/// The keys at the top of the file.
const KEYS: [&str; 11] = [
    "hostname",
    "state_dir",
    "runtime_dir",
    "admin",
    "user",
    "max_message_size",
    "max_memory",
    "suffix_separators",
    "drop_characters",
    "long_lines",
    "bcc",
];

/// The names of the sections.
const SECTIONS: [&str; 11] = [
    "arc", "listen", "relay", "proxy", "dns", "delivery", "limits", "abuse", "acme", "domain",
    "route",
];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SectionsText {
    arc: ArcText,
    listen: ListenText,
    relay: RelayText,
    proxy: NetworksText,
    dns: DnsText,
    delivery: DeliveryText,
    limits: LimitsText,
    abuse: AbuseText,
    acme: AcmeText,
    domain: BTreeMap<Spanned<String>, DomainText>,
    route: Vec<RouteText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DnsText {
    servers: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArcText {
    trusted: Vec<Spanned<String>>,
}

impl Check<'_> {
    fn hostname(
        &mut self,
        hostname: Option<Spanned<String>>,
        defaults: &SystemDefaults,
    ) -> Option<Domain> {
        let parsed = match hostname {
            Some(hostname) => {
                let text = hostname.get_ref().clone();
                if text.parse::<IpAddr>().is_ok() {
                    self.problem(
                        &hostname,
                        ConfigProblem::Name(NameProblem::HostnameAddress { text }),
                    );
                    return None;
                }
                let parsed = Domain::parse(&text);
                let error = match &parsed {
                    Ok(name) if !name.is_literal() => None,
                    Ok(_) => Some(crate::address::AddressError::Domain),
                    Err(error) => Some(*error),
                };
                if let Some(error) = error {
                    self.problem(
                        &hostname,
                        ConfigProblem::Name(NameProblem::Hostname { text, error }),
                    );
                    return None;
                }
                parsed.ok()
            }
            None => {
                let text = defaults.hostname.clone();
                let parsed = Domain::parse(&text).ok().filter(|name| !name.is_literal());
                if parsed.is_none() {
                    self.errors.push(
                        FILE,
                        ConfigProblem::Name(NameProblem::SystemHostname { text }),
                    );
                }
                parsed
            }
        };
        if let Some(name) = &parsed
            && !name.as_str().contains('.')
        {
            let text = name.to_string();
            self.errors.warn(
                FILE,
                ConfigProblem::Name(NameProblem::HostnameWithoutDot { text }),
            );
        }
        parsed
    }

    fn account(&mut self, user: Option<Spanned<String>>) -> String {
        let Some(user) = user else {
            return "chopar".to_owned();
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        let numbers = |text: &str| {
            let (uid, gid) = text.split_once(':').unwrap_or_default();
            is_number(uid) && is_number(gid)
        };
        let text = user.get_ref().as_str();
        if text.is_empty() || !text.chars().all(plain) && !numbers(text) {
            let text = user.get_ref().clone();
            self.problem(&user, ConfigProblem::Value(ValueProblem::Account { text }));
        }
        user.into_inner()
    }

    fn servers(&mut self, list: &[Spanned<String>], defaults: &SystemDefaults) -> Servers {
        if list.is_empty() {
            return resolv_conf::parse(&defaults.resolv_conf);
        }
        let parsed = list.iter().filter_map(|text| {
            let there = text.get_ref();
            let address = there
                .parse::<IpAddr>()
                .map(|address| SocketAddr::new(address, 53))
                .or_else(|_| there.parse())
                .ok();
            if address.is_none() {
                let text_there = there.clone();
                self.problem(
                    text,
                    ConfigProblem::Value(ValueProblem::IpAddress { text: text_there }),
                );
            }
            address
        });
        Servers::new(parsed.collect())
    }

    /// Characters that mean something in local parts.
    fn characters(&mut self, text: Option<Spanned<String>>, default: Box<str>) -> Box<str> {
        let Some(text) = text else {
            return default;
        };
        let wrong = |c: char| c.is_alphanumeric() || c.is_whitespace() || "@\"\\".contains(c);
        if text.get_ref().contains(wrong) {
            let there = text.get_ref().clone();
            self.problem(
                &text,
                ConfigProblem::Value(ValueProblem::Characters { text: there }),
            );
        }
        text.into_inner().into()
    }

    fn names(
        &mut self,
        separators: Option<Spanned<String>>,
        dropped: Option<Spanned<String>>,
    ) -> NameRules {
        let default = NameRules::default();
        NameRules {
            separators: self.characters(separators, default.separators),
            dropped: self.characters(dropped, default.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_sections_are_those_of_the_fields() {
        let Err(error) = toml::from_str::<SectionsText>("no-such-section = 1") else {
            panic!("taken");
        };
        let known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
        assert_eq!(known, SECTIONS);
    }
}
