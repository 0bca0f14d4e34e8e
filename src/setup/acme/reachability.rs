//! Looks up where the names of a certificate lead; [`crate::acme::reachability`] judges the result.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use super::https::resolvers;
use super::managed::Managed;
use super::store::Store;
use super::wanted::Wanted;
use crate::acme::Name;
use crate::acme::reachability::{AddressOwner, NameReach, is_by_address};
use crate::config::Config;
use crate::dns::ZoneKind;
use crate::limits::ACME_LOOK_TIMEOUT;
use crate::setup::dns_client::DnsClient;
use crate::setup::machine;
use crate::setup::record::RecordValue;
use crate::setup::zone::PublishedRecords;

/// Where the names of a certificate lead, according to the servers of their zones, because no cache delays a recent
/// change there. It ends after [`ACME_LOOK_TIMEOUT`], whatever those servers do.
pub fn look(wanted: &Wanted, config: &Config) -> NameReach {
    let asker = DnsClient::new(resolvers(config), config.acme.zone_port);
    let asker = asker.until(Instant::now() + ACME_LOOK_TIMEOUT);
    let leads = wanted.names.iter().map(|name| {
        let found = addresses(&asker, name);
        let judged = found.map(|addresses| {
            let judged = addresses.into_iter().map(|one| (one, whose(one)));
            judged.collect()
        });
        NameReach::of(name, judged)
    });
    NameReach::worst(leads)
}

/// Where the names of the hostname's certificate lead, if the daemon is to obtain it and has not yet. `None` if it
/// exists, is not to be obtained, its names are proven otherwise, or the caller may not see the files.
pub fn lead_to_missing(config: &Config) -> Option<NameReach> {
    let managed = Managed::read(config, &Store::new(&config.state_dir)).ok()?;
    let is_for_host = |one: &&Wanted| {
        one.names
            .iter()
            .any(|name| name.domain() == &config.hostname)
    };
    let missing = managed.wanted.iter().find(is_for_host)?;
    let is_there = managed.summary(missing).is_some();
    (!is_there && is_by_address(missing.kind)).then(|| look(missing, config))
}

fn addresses(asker: &DnsClient, name: &Name) -> Result<BTreeSet<IpAddr>, String> {
    let mut found = BTreeSet::new();
    for kind in [ZoneKind::A, ZoneKind::Aaaa] {
        let of_value = |value: RecordValue| match value {
            RecordValue::Address(address) => Some(address),
            _ => None,
        };
        let published = match asker.published(name.domain(), kind) {
            // Without the servers of the zone the resolver must do.
            PublishedRecords::Unknown(_) => asker.resolved(name.domain(), kind),
            published => published,
        };
        match published {
            PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => {
                found.extend(values.into_iter().filter_map(of_value));
            }
            PublishedRecords::Divided(servers) => {
                let values = servers.into_iter().flat_map(|(_, values)| values);
                found.extend(values.filter_map(of_value));
            }
            PublishedRecords::Nothing => {}
            PublishedRecords::Unknown(cause) => return Err(cause),
        }
    }
    Ok(found)
}

/// The owner of an address: the system lets no process bind an address that is not its own.
fn whose(address: IpAddr) -> AddressOwner {
    let is_own = !address.is_unspecified() && UdpSocket::bind(SocketAddr::new(address, 0)).is_ok();
    if is_own {
        return AddressOwner::Ours;
    }
    match machine::routed(address.is_ipv4()) {
        Some(own) if !machine::is_public(own) && machine::is_public(address) => {
            AddressOwner::Untold
        }
        Some(_) | None => AddressOwner::Theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_told_from_those_of_others() {
        let whose = |text: &str| super::whose(text.parse().expect("an address"));
        assert_eq!(whose("127.0.0.1"), AddressOwner::Ours);
        assert_eq!(whose("0.0.0.0"), AddressOwner::Theirs);
        // In the documentation's network nobody lives.
        assert_ne!(whose("192.0.2.1"), AddressOwner::Ours);
        assert_ne!(whose("2001:db8::1"), AddressOwner::Ours);
    }
}
