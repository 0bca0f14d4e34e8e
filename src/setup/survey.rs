//! Gathers the facts about a domain from the configuration, the machine and the DNS, for [`zone`](super::zone) to
//! judge.

use std::net::IpAddr;
use std::path::Path;

use super::dns_client::DnsClient;
use super::record::RecordValue;
use super::zone::{PublishedKey, PublishedRecords, ZoneFacts, ZoneView, questions};
use super::{machine, spf_record};
use crate::address::Domain;
use crate::auth::dkim::record::record_text;
use crate::auth::spf::{self, Sender, SpfResult};
use crate::config::{AliasTarget, Config, Listen, Receive};
use crate::destination::Destination;
use crate::dns::{RecordKind, ZoneKind};
use crate::entropy::Entropy as _;
use crate::limits::SPF_TERMS_MAX;
use crate::policy::published;
use crate::shell::files::loading;
use crate::shell::process::time::{SystemEntropy, wall};

/// The public addresses that the machine sends from and receives at. `given` are the addresses that an operator names
/// if the machine is behind NAT.
pub fn addresses(config: &Config, given: &[IpAddr], asker: &DnsClient) -> Vec<IpAddr> {
    let own = machine::source_addresses(config);
    seen_by_others(own, given, &config.hostname, asker)
}

/// The same, from the machine's own addresses.
pub(super) fn seen_by_others(
    own: Vec<IpAddr>,
    given: &[IpAddr],
    host: &Domain,
    asker: &DnsClient,
) -> Vec<IpAddr> {
    let mut addresses = if given.is_empty() {
        own
    } else {
        given.to_vec()
    };
    // Behind NAT, other hosts see the addresses of the name.
    if given.is_empty() && !addresses.iter().copied().any(machine::is_public) {
        let named = asker.addresses(host);
        if named.iter().copied().any(machine::is_public) {
            addresses = named;
        }
    }
    // Private addresses are in no zone, if there is a public one.
    if given.is_empty() && addresses.iter().copied().any(machine::is_public) {
        addresses.retain(|address| machine::is_public(*address));
    }
    addresses.dedup();
    addresses
}

/// SHA-256 of the public key that port 25 presents for the hostname; `None` if the certificate is self-signed, or the
/// caller may not read it.
pub fn key_digest(folder: &Path) -> Option<Vec<u8>> {
    let loaded = loading::load(folder).ok()?;
    let (host, now) = (&loaded.config.hostname, wall());
    let tls = loaded.tls(now).ok()?;
    tls.key_digest(host, now)
}

/// The facts of a domain that the configuration serves, or is to serve, at these addresses.
pub fn facts_of(config: &Config, domain: &Domain, addresses: Vec<IpAddr>) -> ZoneFacts {
    let served = config.domains.get(domain);
    let port = |listen: &Listen, default: u16| match listen {
        Listen::Addresses(list) => list.first().map(|address| address.port()),
        Listen::Systemd => Some(default),
    };
    ZoneFacts {
        host: config.hostname.clone(),
        addresses,
        domain: domain.clone(),
        receives: served.is_none_or(|served| served.receive == Receive::Here),
        keys: config
            .signing_keys(domain)
            .iter()
            .map(|key| PublishedKey {
                selector: key.selector.to_string(),
                text: record_text(&key.key),
            })
            .collect(),
        reports: reports_to(config, domain),
        submission: port(&config.listen.submission, 587),
        submissions: port(&config.listen.submissions, 465),
        key_digest: None,
        web: published::names(config)
            .into_iter()
            .filter(|name| name.parent().as_ref() == Some(domain))
            .collect(),
        policy_record: published::policy(config, domain)
            .map(|policy| published::policy_record(&policy)),
    }
}

/// The recipient of reports: the address of the domain that leads to `reports:`; otherwise `admin`, if that is in a
/// domain of this host; otherwise postmaster of the domain, whose mail goes to `admin`. An address elsewhere would need
/// that domain's permission (RFC 7489 section 7.1).
fn reports_to(config: &Config, domain: &Domain) -> String {
    let served = config.domains.get(domain);
    let mut aliases = served.into_iter().flat_map(|served| &served.aliases);
    let counted = aliases.find(|(_, alias)| {
        let reports = AliasTarget::Here(Destination::Reports);
        alias.targets.contains(&reports)
    });
    if let Some((name, _)) = counted {
        return format!("{name}@{domain}");
    }
    match &config.admin {
        Some(admin) if config.receiving(admin.domain()).is_some() => admin.to_string(),
        Some(_) | None => format!("postmaster@{domain}"),
    }
}

/// Looks up the published records.
pub fn look(facts: &ZoneFacts, asker: &DnsClient) -> ZoneView {
    let mut all = questions(facts);
    let random = random_label();
    let probes: Vec<Domain> = ["", "_domainkey."]
        .iter()
        .filter_map(|front| Domain::parse(&format!("{random}.{front}{}", facts.domain)).ok())
        .collect();
    all.extend(probes.iter().map(|name| (name.clone(), ZoneKind::Txt)));
    let records = asker.all(&all);
    let wildcards = probes
        .iter()
        .filter(|name| {
            let found = records.get(&((*name).clone(), ZoneKind::Txt));
            matches!(
                found,
                Some(PublishedRecords::Records(_) | PublishedRecords::Alias(..))
            )
        })
        .filter_map(Domain::parent)
        .collect();
    let mut seen = ZoneView {
        records,
        wildcards,
        ..ZoneView::default()
    };
    let domain = facts.domain.clone();
    seen.spf_passes = passes(facts, asker, &domain);
    seen.helo_passes = passes(facts, asker, &facts.host);
    seen.spf_lookups = match seen.get(&domain, ZoneKind::Txt) {
        PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => {
            let record = values.iter().find_map(|value| match value {
                RecordValue::Text(text) if spf_record::is_one(text) => Some(text.clone()),
                _ => None,
            });
            record.map(|record| count_lookups(&record, asker))
        }
        _ => None,
    };
    seen.signed = asker
        .resolve(&facts.host, ZoneKind::Soa)
        .is_ok_and(|reply| reply.authentic);
    seen
}

/// Whether mail from each of our addresses passes the policy of a domain; `None` if the DNS failed.
fn passes(facts: &ZoneFacts, asker: &DnsClient, domain: &Domain) -> Option<bool> {
    if facts.addresses.is_empty() {
        return None;
    }
    let mut all = true;
    for address in &facts.addresses {
        let path = format!("postmaster@{domain}");
        let helo = facts.host.as_str();
        let sender = Sender::new(*address, helo, &path, helo, wall());
        match asker
            .verdict(|answers| spf::check(&sender, answers))
            .outcome
        {
            SpfResult::Pass => {}
            SpfResult::TempError => return None,
            SpfResult::None
            | SpfResult::Neutral
            | SpfResult::Fail
            | SpfResult::SoftFail
            | SpfResult::PermError => all = false,
        }
    }
    Some(all)
}

/// The cost of all terms of a record, including the records that it refers to; stops when it is too much anyway.
fn count_lookups(record: &str, asker: &DnsClient) -> usize {
    let (mut total, mut leads) = spf_record::lookups(record);
    while let Some(name) = leads.pop() {
        if total > SPF_TERMS_MAX.saturating_mul(2) {
            break;
        }
        let Ok(name) = Domain::parse_lookup(&name) else {
            continue;
        };
        let answer = asker.answer(&crate::dns::Question {
            name,
            kind: RecordKind::Txt,
        });
        let Ok(records) = answer.records else {
            continue;
        };
        let crate::dns::Records::Txt(texts) = records.as_ref() else {
            continue;
        };
        let texts = texts.iter().map(|text| String::from_utf8_lossy(text));
        for text in texts.filter(|text| spf_record::is_one(text)).take(1) {
            let (own, more) = spf_record::lookups(&text);
            total = total.saturating_add(own);
            leads.extend(more);
        }
    }
    total
}

/// A label that has no record.
fn random_label() -> String {
    let mut bytes = [0; 6];
    SystemEntropy::default().fill(&mut bytes);
    let mut label = "chopar-".to_owned();
    for byte in bytes {
        label.push_str(&format!("{byte:02x}"));
    }
    label
}
