//! The configuration folder, from text to typed values.
//!
//! ```text
//!   Folder (paths and bytes, read by the shell) ──> Config (immutable, shared by Arc)
//!                                              └──> every error, with file, line and column
//! ```
//!
//! The whole folder is read at once, and it is taken as a whole or not at all: a reload that does not parse changes
//! nothing. Keys, files and their forms are described in chopar.toml(5).
//!
//! Invariant: past [`Config::parse`] nothing is checked again.

mod abuse;
mod accounts;
mod acme;
pub mod alias_edit;
mod aliases;
mod circles;
mod domains;
mod error;
mod folder;
mod glance;
mod incoming;
mod names;
mod network;
pub mod quantity;
mod routes;
mod settings;
mod target;
pub mod text;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use abuse::{Abuse, Greylisting, Lists, Toggle, Zone};
pub use accounts::Accounts;
pub use acme::{Acme, Binding, Renewal};
pub use aliases::Alias;
pub use error::{ConfigError, Problem};
pub use folder::{Folder, Rights, SystemDefaults};
pub use glance::glance;
pub use incoming::{Incoming, Protocol};
pub use names::Names;
pub use network::{Network, Networks};
pub use quantity::size as parse_size;
pub use routes::{Login, Route, RoutePattern, Scheme, Via};
pub use target::{Destination, Target, To, words};
pub use users::{SendAs, User};

use crate::address::{Domain, Mailbox};
use crate::auth::dkim::key::SigningKey;
use crate::dns::Servers;
use crate::smtp::data::LongLines;
use error::Errors;

/// Everything that the operator decides.
pub struct Config {
    /// The name in the banner and in EHLO.
    pub hostname: Domain,
    /// Where the queue and everything else that must last lives.
    pub state_dir: PathBuf,
    /// Where the sockets live.
    pub runtime_dir: PathBuf,
    /// Who gets the mail for root, postmaster and abuse.
    pub admin: Option<Mailbox>,
    /// The accounts of this machine, as the system has them; none where nobody asked it.
    pub accounts: Accounts,
    /// The account that the daemon runs as once it has bound its ports.
    pub user: String,
    /// Bytes of a message.
    pub max_message_size: u64,
    /// Bytes of all buffers together.
    pub max_memory: u64,
    /// Where to listen.
    pub listen: Listeners,
    /// Peers that may relay without AUTH.
    pub relay: Networks,
    /// Those of them whose line ends are mended.
    pub mended: Networks,
    /// What is done about lines that are too long.
    pub long_lines: LongLines,
    /// What is done about Bcc in what is submitted.
    pub bcc: Bcc,
    /// Proxies that are believed to say who their clients are.
    pub proxies: Networks,
    /// Where names are looked up.
    pub dns: Servers,
    /// Who says so.
    pub dns_source: DnsSource,
    /// How mail leaves.
    pub delivery: Delivery,
    /// What peers and users may take.
    pub limits: Limits,
    /// Which local parts of served domains are the same.
    pub names: Names,
    /// Whose seals may excuse a failure of DMARC (RFC 8617 section 7.2.1).
    pub trusted_sealers: Vec<Domain>,
    /// What strangers must not do.
    pub abuse: Abuse,
    /// How certificates are obtained.
    pub acme: Acme,
    /// The domains that are served.
    pub domains: BTreeMap<Domain, ServedDomain>,
    /// Where mail goes other than by MX; the first match wins.
    pub routes: Vec<Route>,
    /// Whether there is a hook that judges messages, `hooks/post-data`.
    pub hook: bool,
    /// What is probably not meant, but can be worked with.
    pub warnings: Vec<ConfigError>,
}

/// What is done about Bcc in a message that is submitted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Bcc {
    /// It is taken out.
    #[default]
    Remove,
    /// It stays.
    Keep,
}

/// Who names the DNS servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsSource {
    /// `[dns]`.
    Configuration,
    /// /etc/resolv.conf.
    System,
}

/// The listeners.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listeners {
    /// Port 25.
    pub smtp: Listen,
    /// Port 25 behind proxies that say who the client is.
    pub proxy: Listen,
    /// Port 587: STARTTLS and AUTH.
    pub submission: Listen,
    /// Port 465: TLS from the first byte.
    pub submissions: Listen,
    /// Status page and metrics.
    pub status: Listen,
    /// What senders and mail programs read over HTTPS.
    pub https: Listen,
}

/// Where one listener's sockets come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// They are bound; none turns the listener off.
    Addresses(Vec<SocketAddr>),
    /// systemd passes them, under the name of the key.
    Systemd,
}

/// How mail leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The port of mail exchangers.
    pub port: u16,
    /// Which addresses are tried.
    pub ip: Family,
    /// Whether a mail exchanger may have an address of this machine, or none that a host can have; for tests.
    pub loopback: bool,
    /// Source address for IPv4.
    pub bind4: Option<Ipv4Addr>,
    /// Source address for IPv6.
    pub bind6: Option<Ipv6Addr>,
    /// How long a message is tried.
    pub give_up_after: Duration,
    /// After which age its sender is told of the delay.
    pub warn_after: Duration,
    /// Client sessions at a time to one next hop.
    pub sessions_per_hop: usize,
    /// Client sessions at a time to all next hops.
    pub sessions: usize,
}

/// Which addresses of a next hop are tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// Both families.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// What peers and users may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Server sessions at a time.
    pub sessions: usize,
    /// Server sessions at a time from one address.
    pub sessions_per_address: usize,
    /// Messages that a user may submit in an hour; 0: as many as they like.
    pub messages_per_user_hour: u32,
    /// Messages that a local uid may submit in an hour; 0: as many as it likes.
    pub messages_per_uid_hour: u32,
    /// Recipients of one message.
    pub recipients: usize,
}

/// A domain with a folder under `domains/`.
#[derive(Debug, Default)]
pub struct ServedDomain {
    /// Whether mail to it ends here; else it is sent to its MX like any other.
    pub receive: Receive,
    /// What is done about mail that fails the policy of its author's domain.
    pub dmarc: Dmarc,
    /// What is done where that policy asks for quarantine.
    pub quarantine: Quarantine,
    /// Whether senders are told that its mail exchanger has TLS (RFC 8461).
    pub mta_sts: MtaSts,
    /// Where its people read their mail, for mail programs that set themselves up.
    pub incoming: Option<Incoming>,
    /// Who may log in, by the key of the local part.
    pub users: BTreeMap<String, User>,
    /// Where addresses lead, by the key of the local part.
    pub aliases: BTreeMap<String, Alias>,
    /// Where every other address leads.
    pub catch_all: Option<Alias>,
    /// The keys that sign its mail; every one of them signs.
    pub dkim: Vec<Arc<DkimKey>>,
}

/// Where mail for a served domain ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Receive {
    /// Here, at the addresses of its folder.
    #[default]
    Here,
    /// At its MX, which is another host.
    Elsewhere,
}

impl ServedDomain {
    /// The alias of a local part, by the key that [`Names::key`] gives: itself, or that without its suffix.
    pub fn alias(&self, names: &Names, key: &str) -> Option<&Alias> {
        self.aliases
            .get(key)
            .or_else(|| self.aliases.get(names.without_suffix(key)))
    }
}

/// What is done about mail that fails DMARC; the stricter, the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dmarc {
    /// It is not looked up.
    Off,
    /// The result is written into the message.
    Report,
    /// The policy is followed.
    #[default]
    Enforce,
}

/// What the policy of a domain asks of senders (RFC 8461 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MtaSts {
    /// There is no policy.
    #[default]
    Off,
    /// There is one no more: those who remember it are to forget it.
    None,
    /// Failures are reported.
    Testing,
    /// Mail is delivered over verified TLS or not at all.
    Enforce,
}

impl MtaSts {
    /// The word in the policy.
    pub const fn mode(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::None => Some("none"),
            Self::Testing => Some("testing"),
            Self::Enforce => Some("enforce"),
        }
    }
}

/// What is done about mail that is to be quarantined; the stricter, the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Quarantine {
    /// It goes on with a field that says so.
    #[default]
    Mark,
    /// It is refused.
    Refuse,
}

/// A key under `dkim/`.
#[derive(Clone, Debug)]
pub struct DkimKey {
    /// The selector, which is the file's name.
    pub selector: Box<str>,
    /// The key.
    pub key: Arc<SigningKey>,
}

impl Config {
    /// Reads the folder; or says everything that is wrong with it.
    pub fn parse(folder: &Folder, defaults: &SystemDefaults) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Errors::default();
        let settings = settings::read(folder, defaults, &mut errors);
        let domains = domains::read(folder, &settings, &mut errors);
        circles::find(&domains, &settings.names, &mut errors);
        let hook = hook(folder, &mut errors);
        let routes = routes::read(folder, &settings.routes, &mut errors);
        let (warnings, errors) = errors.into_parts();
        if !errors.is_empty() {
            return Err(errors);
        }
        let Some(hostname) = settings.hostname else {
            return Err(errors); // never: without a hostname there is an error
        };
        Ok(Self {
            hostname,
            state_dir: settings.state_dir,
            runtime_dir: settings.runtime_dir,
            admin: settings.admin,
            accounts: Accounts::default(),
            user: settings.user,
            max_message_size: settings.max_message_size,
            max_memory: settings.max_memory,
            listen: settings.listen,
            relay: settings.relay,
            mended: settings.mended,
            long_lines: settings.long_lines,
            bcc: settings.bcc,
            proxies: settings.proxies,
            dns: settings.dns,
            dns_source: settings.dns_source,
            delivery: settings.delivery,
            limits: settings.limits,
            names: settings.names,
            trusted_sealers: settings.trusted_sealers,
            abuse: settings.abuse,
            acme: settings.acme,
            domains,
            routes,
            hook,
            warnings,
        })
    }

    /// The user with this login.
    pub fn user(&self, login: &Mailbox) -> Option<&User> {
        self.domains
            .get(login.domain())?
            .users
            .get(&login.local_key())
    }

    /// The domain, where mail to it ends here.
    pub fn receiving(&self, domain: &Domain) -> Option<&ServedDomain> {
        self.domains
            .get(domain)
            .filter(|served| served.receive == Receive::Here)
    }

    /// The keys that sign mail of this domain.
    pub fn signing_keys(&self, domain: &Domain) -> &[Arc<DkimKey>] {
        self.domains
            .get(domain)
            .map_or(&[], |served| served.dkim.as_slice())
    }
}

/// Shows which configuration it is, and none of what it holds.
impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Config({})", self.hostname)
    }
}

/// Whether the folder has the hook. What else lies there is never run.
fn hook(folder: &Folder, errors: &mut Errors) -> bool {
    let names = folder.files_in(HOOKS).chain(folder.children(HOOKS));
    for name in names.filter(|name| ![POST_DATA, DNS_01].contains(name)) {
        errors.warn(&format!("{HOOKS}/{name}"), Problem::Unused);
    }
    for name in [POST_DATA, DNS_01] {
        let path = format!("{HOOKS}/{name}");
        if folder
            .rights(&path)
            .is_some_and(|rights| !rights.is_executable)
        {
            errors.push(&path, Problem::HookMode);
        }
    }
    folder.file(&format!("{HOOKS}/{POST_DATA}")).is_some()
}

/// Warns of a secret that everybody on the machine may read.
fn keep_secret(folder: &Folder, path: &str, errors: &mut Errors) {
    if folder
        .rights(path)
        .is_some_and(|rights| rights.is_read_by_all)
    {
        errors.warn(path, Problem::ReadByAll);
    }
}

/// The folder of hooks.
pub const HOOKS: &str = "hooks";
const POST_DATA: &str = "post-data";
/// The hook of DNS-01.
const DNS_01: &str = "dns-01";

#[cfg(test)]
mod tests;
