//! Surveys the zones of several domains, a few at a time, and all within [`ZONES_TIMEOUT`]. Facts that are not known by
//! then are unknown.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::dns_client::DnsClient;
use super::zone::{WantedRecord, ZoneFacts, ZoneView, compare};
use super::{machine, survey};
use crate::address::Domain;
use crate::config::Config;
use crate::limits::{ZONES_AT_ONCE, ZONES_TIMEOUT};

/// The state of one domain in the DNS.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The facts from the machine.
    pub facts: ZoneFacts,
    /// The zone of the domain; the domain itself if unknown.
    pub zone: Domain,
    pub rows: Vec<WantedRecord>,
}

/// Surveys these domains, in this order. `given` are the addresses that an operator names. A late thread is abandoned:
/// it ends by its own deadlines, or with the process.
pub fn look(
    config: &Config,
    domains: &[Domain],
    given: &[IpAddr],
    key_digest: Option<&Vec<u8>>,
    asker: &Arc<DnsClient>,
) -> Vec<Survey> {
    let end = Instant::now() + ZONES_TIMEOUT;
    let addresses = addresses(config, given, asker);
    let all: Vec<ZoneFacts> = domains
        .iter()
        .map(|domain| ZoneFacts {
            key_digest: key_digest.cloned(),
            ..survey::facts_of(config, domain, addresses.clone())
        })
        .collect();
    let waiting = Arc::new(Mutex::new(
        all.iter().cloned().collect::<VecDeque<ZoneFacts>>(),
    ));
    let (send, received) = mpsc::channel();
    for _ in 0..all.len().min(ZONES_AT_ONCE) {
        let (waiting, asker, send) = (Arc::clone(&waiting), Arc::clone(asker), send.clone());
        thread::spawn(move || {
            let next = || {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.pop_front()
            };
            while let Some(facts) = next() {
                // The receiver no longer waits for a late result.
                if send.send(one(facts, &asker)).is_err() {
                    return;
                }
            }
        });
    }
    drop(send);
    let mut found: Vec<Survey> = Vec::new();
    while found.len() < all.len() {
        let left = end.saturating_duration_since(Instant::now());
        match received.recv_timeout(left) {
            Ok(survey) => found.push(survey),
            Err(_) => break,
        }
    }
    let of = |facts: ZoneFacts| {
        let known = found.iter().find(|one| one.facts.domain == facts.domain);
        known.cloned().unwrap_or_else(|| Survey {
            rows: compare(&facts, &ZoneView::default()),
            zone: facts.domain.clone(),
            facts,
        })
    };
    all.into_iter().map(of).collect()
}

fn one(facts: ZoneFacts, asker: &DnsClient) -> Survey {
    let seen = survey::look(&facts, asker);
    let rows = compare(&facts, &seen);
    let zone = asker.zone(&facts.domain);
    Survey {
        zone: zone.map_or_else(|_| facts.domain.clone(), |zone| zone.apex.clone()),
        facts,
        rows,
    }
}

/// Behind an address translation the DNS must be asked, and may not answer.
fn addresses(config: &Config, given: &[IpAddr], asker: &Arc<DnsClient>) -> Vec<IpAddr> {
    let own = machine::source_addresses(config);
    let (send, received) = mpsc::channel();
    let (asker, host) = (Arc::clone(asker), config.hostname.clone());
    let (mine, named) = (own.clone(), given.to_vec());
    thread::spawn(move || drop(send.send(survey::seen_by_others(mine, &named, &host, &asker))));
    received.recv_timeout(ADDRESSES_TIMEOUT).unwrap_or(own)
}

const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::config::{Folder, SystemDefaults};
    use crate::setup::zone::RecordState;

    /// A resolver that never answers: a socket that nobody reads.
    #[test]
    fn many_domains_take_no_longer_than_the_bound_where_nobody_answers() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let resolver = silent.local_addr().expect("an address");
        let mut folder = Folder::default();
        let settings = b"hostname = \"mail.example.com\"\n";
        folder.insert_file("chopar.toml", settings.to_vec());
        let config = Config::parse(&folder, &SystemDefaults::default()).expect("a configuration");
        let domains: Vec<Domain> = (0..12)
            .map(|number| Domain::parse(&format!("d{number}.example")).expect("a domain"))
            .collect();
        let asker = Arc::new(DnsClient::new(vec![resolver], resolver.port()));
        let given = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
        let started = Instant::now();
        let found = look(&config, &domains, &given, None, &asker);
        assert!(started.elapsed() < ZONES_TIMEOUT + Duration::from_secs(5));
        let named: Vec<&Domain> = found.iter().map(|survey| &survey.facts.domain).collect();
        assert_eq!(named, domains.iter().collect::<Vec<_>>());
        for survey in &found {
            assert!(!survey.rows.is_empty());
            assert!(
                survey
                    .rows
                    .iter()
                    .all(|row| row.state == RecordState::Unknown)
            );
        }
    }
}
