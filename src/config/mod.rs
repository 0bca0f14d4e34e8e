//! The configuration folder, from text to typed values.
//!
//! ```text
//!   Folder (paths and bytes, read by the shell) ──> Config (immutable, shared by Arc)
//!                                              └──> every error, with file, line and column
//! ```
//!
//! The whole folder is read at once and accepted completely or not at all: a reload that does not parse changes
//! nothing. Keys, files and their forms are described in chopar.toml(5).
//!
//! Invariant: past [`Config::parse`] nothing is checked again.

mod abuse;
mod accounts;
mod acme;
pub mod alias_edit;
mod alias_loops;
mod aliases;
mod allowances;
mod check;
mod delivery;
mod document;
mod domains;
mod error;
mod folder;
mod glance;
mod incoming;
mod listeners;
mod names;
mod network;
mod problem;
pub mod quantity;
mod relaying;
mod routes;
mod sections;
mod served;
mod settings;
mod target;
pub mod text;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use abuse::{Abuse, DnsList, Greylisting, Lists, Toggle};
pub use accounts::Accounts;
pub use acme::{Acme, Binding, Renewal};
pub use aliases::Alias;
pub use allowances::Limits;
pub use delivery::{AddressFamily, DeliverySettings};
pub use error::ConfigError;
pub use folder::{Folder, Rights, SystemDefaults};
pub use glance::glance;
pub use incoming::{Incoming, IncomingProtocol};
pub use listeners::{Listen, Listeners};
pub use names::NameRules;
pub use network::{Network, Networks};
pub use problem::{
    AliasProblem, CertificateProblem, ClientProblem, ConfigProblem, DkimProblem, NameProblem,
    RouteProblem, UserProblem, ValueProblem,
};
pub use quantity::size as parse_size;
pub use relaying::Trust;
pub use routes::{Route, RouteLogin, RoutePattern};
pub use served::{DkimKey, Dmarc, MtaSts, Quarantine, Receive, ServedDomain};
pub use settings::{Bcc, Content, Dns, DnsSource};
pub use target::{AliasTarget, To};
pub use users::{SendAs, User};

use crate::address::{Domain, Mailbox};
use error::Errors;

/// Everything that the operator decides.
pub struct Config {
    /// The name in the banner and in EHLO.
    pub hostname: Domain,
    /// Folder for the queue and all other persistent state.
    pub state_dir: PathBuf,
    /// Folder for the sockets.
    pub runtime_dir: PathBuf,
    /// Recipient of the mail for root, postmaster and abuse.
    pub admin: Option<Mailbox>,
    /// The accounts of this machine; none if the system was not asked.
    pub accounts: Accounts,
    /// The account that the daemon runs as once it has bound its ports.
    pub user: String,
    /// Listening sockets.
    pub listen: Listeners,
    /// Clients and proxies that are trusted without a password.
    pub trust: Trust,
    /// Handling of the content of messages.
    pub content: Content,
    /// Name servers.
    pub dns: Dns,
    /// How mail leaves.
    pub delivery: DeliverySettings,
    /// Limits of peers and users.
    pub limits: Limits,
    /// Which local parts of served domains are equal.
    pub names: NameRules,
    /// Limits for unauthenticated clients.
    pub abuse: Abuse,
    /// How certificates are obtained.
    pub acme: Acme,
    pub domains: BTreeMap<Domain, ServedDomain>,
    /// Destinations other than by MX; the first match wins.
    pub routes: Vec<Route>,
    /// Settings that are probably not intended, but work.
    pub warnings: Vec<ConfigError>,
}

impl Config {
    /// Reads the folder; or returns all of its errors.
    pub fn parse(folder: &Folder, defaults: &SystemDefaults) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Errors::default();
        let settings = settings::read(folder, defaults, &mut errors);
        let domains = domains::read(folder, &settings, &mut errors);
        alias_loops::find(&domains, &settings.names, &mut errors);
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
            listen: settings.listen,
            trust: settings.trust,
            content: Content {
                hook,
                ..settings.content
            },
            dns: settings.dns,
            delivery: settings.delivery,
            limits: settings.limits,
            names: settings.names,
            abuse: settings.abuse,
            acme: settings.acme,
            domains,
            routes,
            warnings,
        })
    }

    /// Finds a user of a served domain by the address that is the login.
    pub fn user(&self, login: &Mailbox) -> Option<&User> {
        self.domains
            .get(login.domain())?
            .users
            .get(&login.local_key())
    }

    /// The domain, if mail for it is delivered here.
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

/// Shows which configuration it is, but none of its content.
impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Config({})", self.hostname)
    }
}

/// Whether the folder has the hook. Other files there are never run.
fn hook(folder: &Folder, errors: &mut Errors) -> bool {
    let names = folder.files_in(HOOKS).chain(folder.children(HOOKS));
    for name in names.filter(|name| ![POST_DATA, DNS_01].contains(name)) {
        errors.warn(&format!("{HOOKS}/{name}"), ConfigProblem::Unused);
    }
    for name in [POST_DATA, DNS_01] {
        let path = format!("{HOOKS}/{name}");
        if folder
            .rights(&path)
            .is_some_and(|rights| !rights.is_executable)
        {
            errors.push(
                &path,
                ConfigProblem::Certificate(CertificateProblem::HookMode),
            );
        }
    }
    folder.file(&format!("{HOOKS}/{POST_DATA}")).is_some()
}

/// The folder of hooks.
pub const HOOKS: &str = "hooks";

const POST_DATA: &str = "post-data";

/// The hook of DNS-01.
const DNS_01: &str = "dns-01";

#[cfg(test)]
impl Config {
    /// The configuration of these files, on a host named mail.example.com.
    pub(crate) fn of_files(files: &[(&str, &str)]) -> Self {
        let mut folder = Folder::default();
        for (path, text) in files {
            folder.insert_file(path, text.as_bytes().to_vec());
        }
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        Self::parse(&folder, &defaults).expect("a configuration")
    }
}

#[cfg(test)]
mod tests;
