//! Looks up where the names of a certificate lead, for [`crate::acme::arrival`] to judge.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use super::https::resolvers;
use super::managed::Managed;
use super::store::Store;
use super::wanted::Wanted;
use crate::acme::Name;
use crate::acme::arrival::{NameLead, Whose, is_by_address};
use crate::config::Config;
use crate::dns::ZoneKind;
use crate::limits::ACME_LOOK_TIMEOUT;
use crate::setup::asking::Asker;
use crate::setup::machine;
use crate::setup::record::RecordValue;
use crate::setup::zone::PublishedRecords;

/// Where the names of a certificate lead: as the servers of their zones say, since no cache holds up there what was added a
/// minute ago. Whoever runs those servers, it ends after [`ACME_LOOK_TIMEOUT`].
pub fn look(wanted: &Wanted, config: &Config) -> NameLead {
    let asker = Asker::new(resolvers(config), config.acme.zone_port);
    let asker = asker.until(Instant::now() + ACME_LOOK_TIMEOUT);
    let leads = wanted.names.iter().map(|name| {
        let found = addresses(&asker, name);
        let judged = found.map(|addresses| {
            let judged = addresses.into_iter().map(|one| (one, whose(one)));
            judged.collect()
        });
        NameLead::of(name, judged)
    });
    NameLead::worst(leads)
}

/// Where the names of the hostname's certificate lead, which the daemon is to obtain and has not yet; nothing where it is
/// there, nobody is to obtain it, its names are proven otherwise, or the caller may not see what is there.
pub fn lead_to_missing(config: &Config) -> Option<NameLead> {
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

fn addresses(asker: &Asker, name: &Name) -> Result<BTreeSet<IpAddr>, String> {
    let mut found = BTreeSet::new();
    for kind in [ZoneKind::A, ZoneKind::Aaaa] {
        let of_value = |value: RecordValue| match value {
            RecordValue::Address(address) => Some(address),
            _ => None,
        };
        let published = match asker.published(name.domain(), kind) {
            // Without the servers of the zone the resolver has to do.
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

/// Whose an address is: the system lets nobody bind one that is not its own.
fn whose(address: IpAddr) -> Whose {
    let is_own = !address.is_unspecified() && UdpSocket::bind(SocketAddr::new(address, 0)).is_ok();
    if is_own {
        return Whose::Ours;
    }
    match machine::routed(address.is_ipv4()) {
        Some(own) if !machine::is_public(own) && machine::is_public(address) => Whose::Untold,
        Some(_) | None => Whose::Theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_told_from_those_of_others() {
        let whose = |text: &str| super::whose(text.parse().expect("an address"));
        assert_eq!(whose("127.0.0.1"), Whose::Ours);
        assert_eq!(whose("0.0.0.0"), Whose::Theirs);
        // In the documentation's network nobody lives.
        assert_ne!(whose("192.0.2.1"), Whose::Ours);
        assert_ne!(whose("2001:db8::1"), Whose::Ours);
    }
}
