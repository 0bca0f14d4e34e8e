//! Queries block lists.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;

use crate::address::Domain;
use crate::dns::{ZoneData, ZoneKind, reverse_name};
use crate::setup::dns_client::DnsClient;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::reputation::{BlockList, LISTS, ListAnswer, ListQuestion};
use crate::setup::machine::is_public;

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Vec<ListQuestion> {
    let asker = &examination.asker;
    let addresses: Vec<IpAddr> = examination
        .addresses()
        .iter()
        .copied()
        .filter(|address| is_public(*address))
        .collect();
    let of_list = |list: &'static BlockList| {
        let of_test = ask(asker, list, IpAddr::V4(TEST));
        let asked = addresses
            .iter()
            .filter(|address| list.has_v6 || address.is_ipv4());
        let asked = asked.map(|address| ListQuestion {
            list,
            address: *address,
            word: ask(asker, list, *address),
            of_test: of_test.clone(),
        });
        asked.collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let lists: Vec<_> = LISTS
            .iter()
            .map(|list| scope.spawn(move || of_list(list)))
            .collect();
        let joined = lists
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default());
        joined.collect()
    })
}

fn ask(asker: &DnsClient, list: &BlockList, address: IpAddr) -> ListAnswer {
    // In the order of a reverse name, below the list in place of in-addr.arpa or ip6.arpa.
    let reverse = reverse_name(address);
    let front = reverse.as_str().trim_end_matches(".in-addr.arpa");
    let front = front.trim_end_matches(".ip6.arpa");
    let name = match Domain::parse(&format!("{front}.{}", list.zone)) {
        Ok(name) => name,
        Err(error) => return ListAnswer::Nothing(error.to_string()),
    };
    match asker.resolve(&name, ZoneKind::A) {
        Ok(reply) => ListAnswer::Answers(
            reply
                .answers
                .into_iter()
                .filter_map(|record| match record.data {
                    ZoneData::Address(IpAddr::V4(address)) => Some(address),
                    _ => None,
                })
                .collect(),
        ),
        Err(cause) => ListAnswer::Nothing(cause),
    }
}

const TEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
