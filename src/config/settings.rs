//! chopar.toml: the keys, their defaults, and what their values must be.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::abuse::{Abuse, AbuseText};
use super::acme::{Acme, AcmeText};
use super::error::{Errors, Problem, position};
use super::folder::{Folder, SystemDefaults};
use super::network::{Network, NetworkError, Networks};
use super::quantity;
use super::routes::RouteText;
use super::{
    Bcc, Delivery, Dmarc, DnsSource, Family, Incoming, Limits, Listen, Listeners, MtaSts, Names,
    Quarantine, Receive,
};
use crate::address::{Domain, Mailbox};
use crate::dns::{Servers, resolv_conf};
use crate::limits::{
    CLIENT_SESSIONS_DEFAULT, GIVE_UP_AFTER_DEFAULT, MEMORY_BYTES_MAX_DEFAULT,
    MEMORY_BYTES_MAX_LEAST, MESSAGE_BYTES_MAX_DEFAULT, MESSAGE_BYTES_MAX_LEAST,
    MESSAGES_PER_UID_HOUR_DEFAULT, MESSAGES_PER_USER_HOUR_DEFAULT, RECIPIENTS_MAX,
    SESSIONS_MAX_DEFAULT, SESSIONS_PER_HOP_DEFAULT, SESSIONS_PER_PEER_MAX_DEFAULT,
    WARN_AFTER_DEFAULT,
};
use crate::smtp::data::LongLines;

/// The file.
pub(super) const FILE: &str = "chopar.toml";

/// What chopar.toml says, checked, with the defaults filled in.
pub(super) struct Settings {
    pub(super) hostname: Option<Domain>,
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
    pub(super) admin: Option<Mailbox>,
    pub(super) user: String,
    pub(super) max_message_size: u64,
    pub(super) max_memory: u64,
    pub(super) listen: Listeners,
    pub(super) relay: Networks,
    pub(super) mended: Networks,
    pub(super) long_lines: LongLines,
    pub(super) bcc: Bcc,
    pub(super) proxies: Networks,
    pub(super) dns: Servers,
    pub(super) dns_source: DnsSource,
    pub(super) delivery: Delivery,
    pub(super) limits: Limits,
    pub(super) names: Names,
    pub(super) trusted_sealers: Vec<Domain>,
    pub(super) abuse: Abuse,
    pub(super) acme: Acme,
    /// The `[domain."…"]` sections with their positions.
    pub(super) domains: Vec<DomainSection>,
    /// The `[[route]]` sections, for `routes`.
    pub(super) routes: RouteTexts,
}

/// What one `[domain."…"]` says.
pub(super) struct DomainSection {
    pub(super) domain: Domain,
    pub(super) receive: Receive,
    pub(super) dmarc: Dmarc,
    pub(super) quarantine: Quarantine,
    pub(super) mta_sts: MtaSts,
    pub(super) incoming: Option<Incoming>,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The routes as text, with the text that their spans are in.
#[derive(Default)]
pub(super) struct RouteTexts {
    pub(super) text: String,
    pub(super) routes: Vec<RouteText>,
}

/// Reads chopar.toml; a file that is missing counts as empty.
pub(super) fn read(folder: &Folder, defaults: &SystemDefaults, errors: &mut Errors) -> Settings {
    let bytes = folder.file(FILE).unwrap_or_default();
    let text = errors.text(FILE, bytes).unwrap_or_default();
    let raw = toml::from_str::<FileText>(text).unwrap_or_else(|error| {
        let message = error.message().trim().replace('\n', ", ");
        let span = error.span().unwrap_or_default();
        errors.push_span(FILE, text, span, Problem::Toml(message));
        FileText::default()
    });
    let mut check = Check { text, errors };
    let FileText {
        hostname,
        state_dir,
        runtime_dir,
        admin,
        user,
        max_message_size,
        max_memory,
        suffix_separators,
        drop_characters,
        long_lines,
        bcc,
        arc,
        listen,
        relay,
        proxy,
        dns,
        delivery,
        limits,
        abuse,
        acme,
        domain,
        route,
    } = raw;
    let (relay_networks, mended) = relay
        .networks
        .into_iter()
        .map(RelayNetworkText::parts)
        .fold(
            (Vec::new(), Vec::new()),
            |(mut all, mut ends), (network, line_ends)| {
                let mends = check.word(line_ends.as_ref(), &[("strict", false), ("mend", true)]);
                if mends {
                    ends.push(network.clone());
                }
                all.push(network);
                (all, ends)
            },
        );
    Settings {
        hostname: check.hostname(hostname, defaults),
        state_dir: check.path(state_dir, "/var/lib/chopar"),
        runtime_dir: check.path(runtime_dir, "/run/chopar"),
        admin: admin.and_then(|admin| check.mailbox(&admin)),
        user: check.account(user),
        max_message_size: check.size(
            max_message_size,
            MESSAGE_BYTES_MAX_DEFAULT,
            (MESSAGE_BYTES_MAX_LEAST, "64 KiB"),
        ),
        max_memory: check.size(
            max_memory,
            MEMORY_BYTES_MAX_DEFAULT,
            (MEMORY_BYTES_MAX_LEAST, "8 MiB"),
        ),
        proxies: check.proxies(&listen, &proxy.networks, &relay_networks),
        listen: check.listeners(listen),
        relay: check.relay(&relay_networks),
        mended: Networks(
            mended
                .iter()
                .filter_map(|text| Network::parse(text.get_ref()).ok())
                .collect(),
        ),
        long_lines: check.word(
            long_lines.as_ref(),
            &[("take", LongLines::Take), ("refuse", LongLines::Refuse)],
        ),
        bcc: check.word(
            bcc.as_ref(),
            &[("remove", Bcc::Remove), ("keep", Bcc::Keep)],
        ),
        dns: check.servers(&dns.servers, defaults),
        dns_source: match dns.servers.as_slice() {
            [] => DnsSource::System,
            _ => DnsSource::Configuration,
        },
        delivery: check.delivery(&delivery),
        limits: check.limits(&limits),
        names: check.names(suffix_separators, drop_characters),
        trusted_sealers: check.domain_list(&arc.trusted),
        abuse: check.abuse(abuse),
        acme: check.acme(acme, folder),
        domains: check.domains(domain),
        routes: RouteTexts {
            text: text.to_owned(),
            routes: route,
        },
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileText {
    hostname: Option<Spanned<String>>,
    state_dir: Option<Spanned<String>>,
    runtime_dir: Option<Spanned<String>>,
    admin: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    max_message_size: Option<Spanned<String>>,
    max_memory: Option<Spanned<String>>,
    suffix_separators: Option<Spanned<String>>,
    drop_characters: Option<Spanned<String>>,
    long_lines: Option<Spanned<String>>,
    bcc: Option<Spanned<String>>,
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
struct ListenText {
    smtp: Option<Spanned<Sockets>>,
    proxy: Option<Spanned<Sockets>>,
    submission: Option<Spanned<Sockets>>,
    submissions: Option<Spanned<Sockets>>,
    status: Option<Spanned<Sockets>>,
    https: Option<Spanned<Sockets>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RelayText {
    networks: Vec<RelayNetworkText>,
}

/// A network, or one with what is done about its line ends.
enum RelayNetworkText {
    Plain(Spanned<String>),
    Table(RelayNetworkTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayNetworkTable {
    network: Spanned<String>,
    line_ends: Option<Spanned<String>>,
}

impl RelayNetworkText {
    fn parts(self) -> (Spanned<String>, Option<Spanned<String>>) {
        match self {
            Self::Plain(network) => (network, None),
            Self::Table(table) => (table.network, table.line_ends),
        }
    }
}

impl<'de> Deserialize<'de> for RelayNetworkText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TextOrTable;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a network, or { network = \"…\", line_ends = \"mend\" }")
            }

            fn visit_str<E>(self, network: &str) -> Result<TextOrTable, E> {
                Ok(TextOrTable::Text(network.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextOrTable, A::Error> {
                let table = MapAccessDeserializer::new(map);
                RelayNetworkTable::deserialize(table).map(TextOrTable::Table)
            }
        }

        enum TextOrTable {
            Text(String),
            Table(RelayNetworkTable),
        }

        impl<'de> Deserialize<'de> for TextOrTable {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Either)
            }
        }

        let either = Spanned::<TextOrTable>::deserialize(deserializer)?;
        let span = either.span();
        Ok(match either.into_inner() {
            TextOrTable::Text(network) => Self::Plain(Spanned::new(span, network)),
            TextOrTable::Table(table) => Self::Table(table),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NetworksText {
    networks: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DnsText {
    servers: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeliveryText {
    port: Option<u16>,
    ip: Option<Spanned<String>>,
    loopback: bool,
    bind4: Option<Spanned<String>>,
    bind6: Option<Spanned<String>>,
    give_up_after: Option<Spanned<String>>,
    warn_after: Option<Spanned<String>>,
    sessions_per_hop: Option<Spanned<u32>>,
    sessions: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsText {
    sessions: Option<Spanned<u32>>,
    sessions_per_address: Option<Spanned<u32>>,
    messages_per_user_hour: Option<u32>,
    messages_per_uid_hour: Option<u32>,
    recipients: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DomainText {
    receive: bool,
    dmarc: Option<Spanned<String>>,
    quarantine: Option<Spanned<String>>,
    mta_sts: Option<Spanned<String>>,
    incoming: Option<Spanned<String>>,
}

impl Default for DomainText {
    fn default() -> Self {
        Self {
            receive: true,
            dmarc: None,
            quarantine: None,
            mta_sts: None,
            incoming: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArcText {
    trusted: Vec<Spanned<String>>,
}

/// A list of socket addresses, or the word that stands for passed sockets.
enum Sockets {
    List(Vec<Spanned<String>>),
    Word(String),
}

impl<'de> Deserialize<'de> for Sockets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Sockets;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of addresses with ports, or \"systemd\"")
            }

            fn visit_str<E>(self, word: &str) -> Result<Sockets, E> {
                Ok(Sockets::Word(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sockets, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Sockets::List(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Turns texts into values, and notes where that is not possible.
pub(super) struct Check<'a> {
    text: &'a str,
    errors: &'a mut Errors,
}

impl Check<'_> {
    pub(super) fn problem<T>(&mut self, at: &Spanned<T>, problem: Problem) {
        self.errors.push_span(FILE, self.text, at.span(), problem);
    }

    fn hostname(
        &mut self,
        hostname: Option<Spanned<String>>,
        defaults: &SystemDefaults,
    ) -> Option<Domain> {
        let parsed = match hostname {
            Some(hostname) => {
                let text = hostname.get_ref().clone();
                if text.parse::<IpAddr>().is_ok() {
                    self.problem(&hostname, Problem::HostnameAddress { text });
                    return None;
                }
                let parsed = Domain::parse(&text);
                let error = match &parsed {
                    Ok(name) if !name.is_literal() => None,
                    Ok(_) => Some(crate::address::AddressError::Domain),
                    Err(error) => Some(*error),
                };
                if let Some(error) = error {
                    self.problem(&hostname, Problem::Hostname { text, error });
                    return None;
                }
                parsed.ok()
            }
            None => {
                let text = defaults.hostname.clone();
                let parsed = Domain::parse(&text).ok().filter(|name| !name.is_literal());
                if parsed.is_none() {
                    self.errors.push(FILE, Problem::SystemHostname { text });
                }
                parsed
            }
        };
        if let Some(name) = &parsed
            && !name.as_str().contains('.')
        {
            let text = name.to_string();
            self.errors.warn(FILE, Problem::HostnameWithoutDot { text });
        }
        parsed
    }

    fn path(&mut self, path: Option<Spanned<String>>, default: &str) -> PathBuf {
        let Some(path) = path else {
            return default.into();
        };
        if !path.get_ref().starts_with('/') {
            let text = path.get_ref().clone();
            self.problem(&path, Problem::RelativePath { text });
        }
        path.into_inner().into()
    }

    pub(super) fn mailbox(&mut self, text: &Spanned<String>) -> Option<Mailbox> {
        Mailbox::parse(text.get_ref())
            .map_err(|error| {
                let text_there = text.get_ref().clone();
                let text_there = Problem::Mailbox {
                    text: text_there,
                    error,
                };
                self.problem(text, text_there);
            })
            .ok()
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
            self.problem(&user, Problem::Account { text });
        }
        user.into_inner()
    }

    fn size(
        &mut self,
        text: Option<Spanned<String>>,
        default: u64,
        (least, shown): (u64, &'static str),
    ) -> u64 {
        let Some(text) = text else {
            return default;
        };
        let Some(size) = quantity::size(text.get_ref()) else {
            let there = text.get_ref().clone();
            self.problem(&text, Problem::Size { text: there });
            return default;
        };
        if size < least {
            self.problem(&text, Problem::TooSmall { least: shown });
        }
        size
    }

    pub(super) fn duration(
        &mut self,
        text: Option<&Spanned<String>>,
        default: Duration,
    ) -> Duration {
        let Some(text) = text else {
            return default;
        };
        let Some(duration) = quantity::duration(text.get_ref()) else {
            let there = text.get_ref().clone();
            self.problem(text, Problem::Duration { text: there });
            return default;
        };
        if duration.is_zero() {
            self.problem(text, Problem::TooSmall { least: "1s" });
        }
        duration
    }

    fn count(&mut self, number: Option<&Spanned<u32>>, default: usize) -> usize {
        let Some(number) = number else {
            return default;
        };
        if *number.get_ref() == 0 {
            self.problem(number, Problem::TooSmall { least: "1" });
        }
        usize::try_from(*number.get_ref()).unwrap_or(usize::MAX)
    }

    fn listeners(&mut self, listen: ListenText) -> Listeners {
        Listeners {
            smtp: self.sockets(listen.smtp, everywhere(25)),
            proxy: self.sockets(listen.proxy, Vec::new()),
            submission: self.sockets(listen.submission, everywhere(587)),
            submissions: self.sockets(listen.submissions, everywhere(465)),
            status: self.sockets(
                listen.status,
                vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8025))],
            ),
            https: self.sockets(listen.https, Vec::new()),
        }
    }

    fn sockets(&mut self, sockets: Option<Spanned<Sockets>>, default: Vec<SocketAddr>) -> Listen {
        let Some(sockets) = sockets else {
            return Listen::Addresses(default);
        };
        match sockets.get_ref() {
            Sockets::Word(word) if word == "systemd" => Listen::Systemd,
            Sockets::Word(word) => {
                let text = word.clone();
                self.problem(&sockets, Problem::ListenWord { text });
                Listen::Systemd
            }
            Sockets::List(list) => {
                let parsed = list.iter().filter_map(|text| {
                    let address = text.get_ref().parse().ok();
                    if address.is_none() {
                        let there = text.get_ref().clone();
                        self.problem(text, Problem::SocketAddress { text: there });
                    }
                    address
                });
                let addresses: Vec<SocketAddr> = parsed.collect();
                self.note_ipv6_only(&sockets, &addresses);
                Listen::Addresses(addresses)
            }
        }
    }

    /// `[::]` is often written for all addresses, and is those of IPv6 here.
    fn note_ipv6_only(&mut self, sockets: &Spanned<Sockets>, addresses: &[SocketAddr]) {
        let place = position(self.text, sockets.span().start);
        for address in addresses {
            let is_all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let port = address.port();
            let mut beside = addresses.iter().filter(|other| other.port() == port);
            if is_all && !beside.any(SocketAddr::is_ipv4) {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
                self.errors
                    .warn_at(FILE, place, Problem::Ipv6Only { address });
            }
        }
    }

    fn networks(&mut self, list: &[Spanned<String>]) -> Networks {
        let parsed = list.iter().filter_map(|text| {
            let problem = match Network::parse(text.get_ref()) {
                Ok(network) => return Some(network),
                Err(NetworkError::Form) => Problem::Network {
                    text: text.get_ref().clone(),
                },
                Err(NetworkError::HostBits(network)) => Problem::NetworkHostBits {
                    network: network.to_string(),
                },
            };
            self.problem(text, problem);
            None
        });
        Networks(parsed.collect())
    }

    /// Networks that may relay; all of the Internet would be an open relay.
    fn relay(&mut self, list: &[Spanned<String>]) -> Networks {
        for text in list {
            if Network::parse(text.get_ref()).is_ok_and(|network| network.is_everything()) {
                let place = position(self.text, text.span().start);
                let network = text.get_ref().clone();
                self.errors
                    .warn_at(FILE, place, Problem::OpenRelay { network });
            }
        }
        self.networks(list)
    }

    /// A port for proxies that no proxy may use would be a mistake that only its first client finds.
    /// One that may relay by its own address has an authority that whoever gets through it would like to have.
    fn proxies(
        &mut self,
        listen: &ListenText,
        list: &[Spanned<String>],
        relay: &[Spanned<String>],
    ) -> Networks {
        if let Some(sockets) = &listen.proxy
            && list.is_empty()
            && !matches!(sockets.get_ref(), Sockets::List(addresses) if addresses.is_empty())
        {
            self.problem(sockets, Problem::NoProxies);
        }
        let relay = relay.iter().map(|text| Network::parse(text.get_ref()));
        let relay = Networks(relay.filter_map(Result::ok).collect());
        for text in list {
            if let Ok(proxy) = Network::parse(text.get_ref())
                && let Some(network) = relay.sharing(&proxy)
            {
                let place = position(self.text, text.span().start);
                let (proxy, network) = (proxy.to_string(), network.to_string());
                let problem = Problem::TrustedProxy { proxy, network };
                self.errors.warn_at(FILE, place, problem);
            }
        }
        self.networks(list)
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
                self.problem(text, Problem::IpAddress { text: text_there });
            }
            address
        });
        Servers::new(parsed.collect())
    }

    fn delivery(&mut self, raw: &DeliveryText) -> Delivery {
        let ip = match raw.ip.as_ref().map(|ip| ip.get_ref().as_str()) {
            None | Some("any") => Family::Any,
            Some("ipv4") => Family::Ipv4,
            Some("ipv6") => Family::Ipv6,
            Some(other) => {
                let text = other.to_owned();
                if let Some(at) = &raw.ip {
                    self.problem(at, Problem::Family { text });
                }
                Family::Any
            }
        };
        Delivery {
            port: raw.port.unwrap_or(25),
            ip,
            loopback: raw.loopback,
            bind4: self.address::<Ipv4Addr>(raw.bind4.as_ref()),
            bind6: self.address::<Ipv6Addr>(raw.bind6.as_ref()),
            give_up_after: self.duration(raw.give_up_after.as_ref(), GIVE_UP_AFTER_DEFAULT),
            warn_after: self.duration(raw.warn_after.as_ref(), WARN_AFTER_DEFAULT),
            sessions_per_hop: self.count(raw.sessions_per_hop.as_ref(), SESSIONS_PER_HOP_DEFAULT),
            sessions: self.count(raw.sessions.as_ref(), CLIENT_SESSIONS_DEFAULT),
        }
    }

    fn address<A: std::str::FromStr>(&mut self, text: Option<&Spanned<String>>) -> Option<A> {
        let text = text?;
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let there = text.get_ref().clone();
            self.problem(text, Problem::IpAddress { text: there });
        }
        address
    }

    fn limits(&mut self, raw: &LimitsText) -> Limits {
        Limits {
            sessions: self.count(raw.sessions.as_ref(), SESSIONS_MAX_DEFAULT),
            sessions_per_address: self.count(
                raw.sessions_per_address.as_ref(),
                SESSIONS_PER_PEER_MAX_DEFAULT,
            ),
            messages_per_user_hour: raw
                .messages_per_user_hour
                .unwrap_or(MESSAGES_PER_USER_HOUR_DEFAULT),
            messages_per_uid_hour: raw
                .messages_per_uid_hour
                .unwrap_or(MESSAGES_PER_UID_HOUR_DEFAULT),
            recipients: self.count(raw.recipients.as_ref(), RECIPIENTS_MAX),
        }
    }

    /// One of a few words; the default where there is none.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        text: Option<&Spanned<String>>,
        words: &[(&'static str, T)],
    ) -> T {
        let Some(text) = text else {
            return T::default();
        };
        let found = words.iter().find(|(word, _)| word == text.get_ref());
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let problem = Problem::Word {
                text: text.get_ref().clone(),
                words: words.join(", "),
            };
            self.problem(text, problem);
        }
        found.map_or_else(T::default, |(_, value)| *value)
    }

    /// Characters that mean something in local parts.
    fn characters(&mut self, text: Option<Spanned<String>>, default: Box<str>) -> Box<str> {
        let Some(text) = text else {
            return default;
        };
        let wrong = |c: char| c.is_alphanumeric() || c.is_whitespace() || "@\"\\".contains(c);
        if text.get_ref().contains(wrong) {
            let there = text.get_ref().clone();
            self.problem(&text, Problem::Characters { text: there });
        }
        text.into_inner().into()
    }

    fn names(
        &mut self,
        separators: Option<Spanned<String>>,
        dropped: Option<Spanned<String>>,
    ) -> Names {
        let default = Names::default();
        Names {
            separators: self.characters(separators, default.separators),
            dropped: self.characters(dropped, default.dropped),
        }
    }

    fn domain_list(&mut self, list: &[Spanned<String>]) -> Vec<Domain> {
        let mut domains = Vec::new();
        for text in list {
            match Domain::parse(text.get_ref()) {
                Ok(domain) => domains.push(domain),
                Err(error) => {
                    let there = text.get_ref().clone();
                    self.problem(text, Problem::Domain { text: there, error });
                }
            }
        }
        domains
    }

    fn domains(&mut self, raw: BTreeMap<Spanned<String>, DomainText>) -> Vec<DomainSection> {
        let mut sections = Vec::new();
        for (name, section) in raw {
            match Domain::parse(name.get_ref()) {
                Ok(domain) => {
                    let (line, column) = position(self.text, name.span().start);
                    let receive = match section.receive {
                        true => Receive::Here,
                        false => Receive::Elsewhere,
                    };
                    let dmarc = self.word(
                        section.dmarc.as_ref(),
                        &[
                            ("enforce", Dmarc::Enforce),
                            ("report", Dmarc::Report),
                            ("off", Dmarc::Off),
                        ],
                    );
                    let quarantine = self.word(
                        section.quarantine.as_ref(),
                        &[("mark", Quarantine::Mark), ("refuse", Quarantine::Refuse)],
                    );
                    let mta_sts = self.word(
                        section.mta_sts.as_ref(),
                        &[
                            ("off", MtaSts::Off),
                            ("none", MtaSts::None),
                            ("testing", MtaSts::Testing),
                            ("enforce", MtaSts::Enforce),
                        ],
                    );
                    let incoming = section.incoming.as_ref().and_then(|text| {
                        let incoming = Incoming::parse(text.get_ref());
                        if incoming.is_none() {
                            let there = text.get_ref().clone();
                            self.problem(text, Problem::Incoming { text: there });
                        }
                        incoming
                    });
                    sections.push(DomainSection {
                        domain,
                        receive,
                        dmarc,
                        quarantine,
                        mta_sts,
                        incoming,
                        line,
                        column,
                    });
                }
                Err(error) => {
                    let text = name.get_ref().clone();
                    self.problem(&name, Problem::Domain { text, error });
                }
            }
        }
        sections
    }
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ]
}
