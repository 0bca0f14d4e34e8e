//! The names of the host and of its addresses.

use std::fs;
use std::net::IpAddr;

use crate::config::AddressFamily;
use crate::dns::{ZoneKind, reverse_name};
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::names::Facts;
use crate::setup::machine;
use crate::setup::record::RecordValue;
use crate::setup::zone::PublishedRecords;

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let host = &examination.config.hostname;
    let pointers = examination.addresses().iter().map(|address| {
        let name = reverse_name(*address);
        let names = values(examination.asker.published(&name, ZoneKind::Ptr));
        let names = names.map(|values| {
            let names = values.into_iter().filter_map(|value| match value {
                RecordValue::Pointer(name) => Some(name),
                _ => None,
            });
            names.collect()
        });
        (*address, names)
    });
    let published = values(examination.asker.published(host, ZoneKind::Aaaa));
    Facts {
        host: host.clone(),
        in_hosts_file: in_hosts_file(
            &fs::read_to_string("/etc/hosts").unwrap_or_default(),
            host.as_str(),
        ),
        pointers: pointers.collect(),
        published_v6: published.map(|values| {
            let addresses = values.into_iter().filter_map(|value| match value {
                RecordValue::Address(address) => Some(address),
                _ => None,
            });
            addresses.collect()
        }),
        routed_v6: machine::routed(false).filter(|address| machine::is_public(*address)),
        sends_v6: examination.config.delivery.ip != AddressFamily::Ipv4,
    }
}

/// The values under a name; those of the first server if the servers differ.
pub(super) fn values(published: PublishedRecords) -> Result<Vec<RecordValue>, String> {
    match published {
        PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => Ok(values),
        PublishedRecords::Nothing => Ok(Vec::new()),
        PublishedRecords::Divided(servers) => Ok(servers
            .into_iter()
            .next()
            .map(|(_, values)| values)
            .unwrap_or_default()),
        PublishedRecords::Unknown(cause) => Err(cause),
    }
}

/// The addresses that a text like /etc/hosts has for a name.
fn in_hosts_file(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_hosts_file() {
        let text = "127.0.0.1 localhost\n127.0.1.1\tMail.example.com mail # ours\n# 192.0.2.1 mail.example.com\nx mail.example.com\n";
        let expected: IpAddr = "127.0.1.1".parse().expect("an address");
        assert_eq!(in_hosts_file(text, "mail.example.com"), [expected]);
    }
}
