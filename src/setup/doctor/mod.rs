//! Whether sending and receiving mail works: checks, each with the finding, the reason why it matters, and the remedy.
//!
//! [`gather`] collects facts about all subjects at the same time and within [`DOCTOR_TIMEOUT`]; [`judge`] interprets
//! them and is pure; [`checks`] has the texts. Invariant: a fact that was not found in time is unknown, never good.

pub mod checks;
mod command;
pub mod finding;
pub mod gather;
pub mod judge;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::dns_client::DnsClient;
use super::{machine, survey};
use crate::address::Domain;
use crate::config::Config;
use crate::dns::ZoneReply;
use crate::limits::DOCTOR_TIMEOUT;
use checks::{ALL, CheckSubject};
use finding::{Finding, told_once};

/// A host whose port is tried instead of those of large providers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// Its name or address.
    pub host: String,
    pub port: u16,
}

/// The scope of the examination.
pub struct DoctorScope {
    /// The configuration folder.
    pub folder: PathBuf,
    pub config: Config,
    pub domains: Vec<Domain>,
    pub resolvers: Vec<SocketAddr>,
    /// Asks the resolvers and the servers of zones.
    pub asker: DnsClient,
    /// Hosts that the way out is tried with.
    pub probes: Vec<Probe>,
    /// SHA-256 of the public key of the host's certificate.
    pub key_digest: Option<Vec<u8>>,
    given: Vec<IpAddr>,
    addresses: OnceLock<Vec<IpAddr>>,
    heard: OnceLock<Vec<Heard>>,
}

/// A resolver, and its answer to a question about this host.
pub type Heard = (SocketAddr, Result<ZoneReply, String>);

impl DoctorScope {
    /// For these domains. `given` are the addresses that an operator names; the servers of zones answer on `zone_port`.
    pub fn new(
        folder: &Path,
        config: Config,
        domains: Vec<Domain>,
        resolvers: Vec<SocketAddr>,
        zone_port: u16,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            config,
            domains,
            asker: DnsClient::new(resolvers.clone(), zone_port),
            resolvers,
            probes: Vec::new(),
            key_digest: survey::key_digest(folder),
            given: Vec::new(),
            addresses: OnceLock::new(),
            heard: OnceLock::new(),
        }
    }

    /// The same, with addresses that the machine does not know itself.
    #[must_use]
    pub fn at(mut self, given: Vec<IpAddr>) -> Self {
        self.given = given;
        self
    }

    /// The resolvers, each asked once; from then on those that do not answer are not asked again.
    pub fn heard(&self) -> &[Heard] {
        let host = &self.config.hostname;
        self.heard.get_or_init(|| self.asker.hear(host))
    }

    /// The addresses by which mail leaves and comes.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.get_or_init(|| match self.given.is_empty() {
            true => machine::source_addresses(&self.config),
            false => self.given.clone(),
        })
    }
}

/// One task: a subject, and the domain if it is about one.
type Task = (CheckSubject, Option<Domain>);

/// Examines these subjects, once it is known whether the DNS answers, and [`CheckSubject::Rules`] if all others are
/// included; `progress` gets the number of finished tasks and of all. A late thread is abandoned: it ends by its own
/// deadlines, or with the process.
pub fn examine(
    examination: &Arc<DoctorScope>,
    subjects: &[CheckSubject],
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Finding> {
    let end = Instant::now() + DOCTOR_TIMEOUT;
    examination.heard();
    learn_addresses(examination);
    let announced = gather::announce::announce(&examination.config);
    let mut waiting: Vec<Task> = Vec::new();
    for subject in subjects {
        match subject {
            CheckSubject::Rules => {}
            CheckSubject::Dns | CheckSubject::Signing => {
                let domains = examination.domains.iter();
                waiting.extend(domains.map(|domain| (*subject, Some(domain.clone()))));
            }
            _ => waiting.push((*subject, None)),
        }
    }
    let all = waiting.len();
    let (send, received) = mpsc::channel();
    for task in waiting.clone() {
        let (examination, send) = (Arc::clone(examination), send.clone());
        thread::spawn(move || {
            let found = look(&examination, &task);
            // The receiver no longer waits for a late result.
            drop(send.send((task, found)));
        });
    }
    drop(send);
    let mut found = Vec::new();
    while !waiting.is_empty() {
        progress(all.saturating_sub(waiting.len()), all);
        let left = end.saturating_duration_since(Instant::now());
        let Ok((task, findings)) = received.recv_timeout(left) else {
            break;
        };
        waiting.retain(|other| *other != task);
        found.extend(findings);
    }
    progress(all, all);
    drop(announced);
    found.extend(waiting.iter().flat_map(late));
    found.sort_by_key(|finding| (finding.state, finding.check.subject));
    told_once(&mut found);
    if subjects.contains(&CheckSubject::Rules) {
        found.extend(judge::rules::judge(&found));
    }
    found.sort_by_key(|finding| (finding.state, finding.check.subject));
    for finding in &mut found {
        finding.mend = command::for_folder(&finding.mend, &examination.folder);
    }
    found
}

/// Behind an address translation the DNS must be asked, and may not answer.
fn learn_addresses(examination: &Arc<DoctorScope>) {
    if examination.addresses.get().is_some() || !examination.given.is_empty() {
        return;
    }
    let (send, received) = mpsc::channel();
    let asked = Arc::clone(examination);
    thread::spawn(move || {
        drop(send.send(survey::addresses(&asked.config, &[], &asked.asker)));
    });
    if let Ok(addresses) = received.recv_timeout(ADDRESSES_TIMEOUT) {
        // Set once: it has not been set before.
        drop(examination.addresses.set(addresses));
    }
}

fn look(examination: &DoctorScope, (subject, domain): &Task) -> Vec<Finding> {
    match (subject, domain) {
        (CheckSubject::Dns, Some(domain)) => {
            judge::dns::judge(&gather::dns::gather(examination, domain))
        }
        (CheckSubject::Signing, Some(domain)) => {
            judge::signing::judge(&gather::signing::gather(examination, domain))
        }
        (CheckSubject::Service, _) => judge::service::judge(&gather::service::gather(examination)),
        (CheckSubject::Names, _) => judge::names::judge(&gather::names::gather(examination)),
        (CheckSubject::Ports, _) => judge::ports::judge(&gather::ports::gather(examination)),
        (CheckSubject::Outbound, _) => {
            judge::outbound::judge(&gather::outbound::gather(examination))
        }
        (CheckSubject::Tls, _) => judge::tls::judge(&gather::tls::gather(examination)),
        (CheckSubject::Relay, _) => judge::relay::judge(&gather::relay::gather(examination)),
        (CheckSubject::Reputation, _) => {
            judge::reputation::judge(&gather::reputation::gather(examination))
        }
        (CheckSubject::Resolver, _) => {
            judge::resolver::judge(&gather::resolver::gather(examination))
        }
        (CheckSubject::Machine, _) => judge::machine::judge(&gather::machine::gather(examination)),
        (CheckSubject::Dns | CheckSubject::Signing | CheckSubject::Rules, _) => Vec::new(),
    }
}

/// The findings for a subject whose facts were not known in time.
fn late((subject, domain): &Task) -> Vec<Finding> {
    let about = domain.as_ref().map(Domain::to_string).unwrap_or_default();
    let seen = format!("no answer within {} s", DOCTOR_TIMEOUT.as_secs());
    let of_subject = ALL.iter().filter(|check| check.subject == *subject);
    of_subject
        .map(|check| {
            let mend = "run chopar doctor again";
            let late = check.unknown(&about, seen.clone(), mend);
            match subject {
                CheckSubject::Resolver => late,
                _ => late.for_want_of(&checks::RESOLVER),
            }
        })
        .collect()
}

/// The findings if the configuration cannot be read, on which everything else depends.
pub fn unreadable(folder: &Path) -> Vec<Finding> {
    let (errors, warnings) = gather::service::configuration(folder);
    let mut found = judge::service::configuration(&errors, &warnings);
    found.retain(|finding| finding.state == finding::CheckState::Bad);
    for finding in &mut found {
        finding.mend = command::for_folder(&finding.mend, folder);
    }
    found
}

/// In the order in which they are shown.
pub const SUBJECTS: [CheckSubject; 12] = [
    CheckSubject::Service,
    CheckSubject::Names,
    CheckSubject::Ports,
    CheckSubject::Outbound,
    CheckSubject::Dns,
    CheckSubject::Signing,
    CheckSubject::Tls,
    CheckSubject::Relay,
    CheckSubject::Reputation,
    CheckSubject::Resolver,
    CheckSubject::Machine,
    CheckSubject::Rules,
];

const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(4);
