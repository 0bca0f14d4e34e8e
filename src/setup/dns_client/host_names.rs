//! Names of hosts, by the resolvers. A name counts only if it leads back to the host, because the owner of an address
//! can publish any name for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DnsClient, each};
use crate::address::Domain;
use crate::config::Toggle;
use crate::policy::client_dns::ClientDnsCheck;

impl DnsClient {
    /// The names of these hosts. Hosts whose name no resolver has returned in time are left out, like hosts without
    /// one.
    pub fn host_names(&self, addresses: &[IpAddr]) -> BTreeMap<IpAddr, Domain> {
        let found = Mutex::new(BTreeMap::new());
        each(addresses, |&address| {
            let (mut client_dns, mut questions) =
                ClientDnsCheck::begin(address, &Arc::default(), Toggle::On);
            while let Some(question) = questions.pop() {
                let answer = self.answer_by(&question, |name, kind| self.resolved(name, kind));
                questions.extend(client_dns.on_answer(&question, &answer, &mut |_| {}));
            }
            if let Some(name) = client_dns.name() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(address, name.clone());
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
