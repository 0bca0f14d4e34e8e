//! The resolver.

use std::net::{IpAddr, SocketAddr};

use crate::setup::doctor::checks::{RESOLVER, RESOLVER_DNSSEC, RESOLVER_PLACE};
use crate::setup::doctor::finding::Finding;
use crate::setup::machine::is_public;

/// One resolver of the configuration, and how it answered.
#[derive(Clone, Debug)]
pub struct AskedResolver {
    /// Its address.
    pub server: SocketAddr,
    /// Whether the machine has a route to it.
    pub has_route: bool,
    /// Whether it has answered a question about this host; otherwise the error.
    pub answers: Result<(), String>,
    /// Whether it reports a signed name as validated.
    pub validates: Result<bool, String>,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(asked: &[AskedResolver]) -> Vec<Finding> {
    if asked.is_empty() {
        let mend = "write nameserver ADDRESS into /etc/resolv.conf, or set addresses in [dns] of chopar.toml";
        return vec![RESOLVER.bad("", "none is named", mend)];
    }
    let can_answer = asked.iter().any(|one| one.answers.is_ok());
    let mut found = Vec::new();
    for one in asked {
        let server = one.server.ip();
        found.push(match &one.answers {
            Ok(()) => RESOLVER.good(server, "it does"),
            // The next one is asked instead, after a wait.
            Err(why) if can_answer => RESOLVER.warning(server, why, REMOVE),
            Err(why) if !one.has_route => RESOLVER.bad(server, why, ROUTE),
            Err(why) => RESOLVER.bad(server, why, REMOVE),
        });
        if one.answers.is_ok() {
            found.push(match &one.validates {
                Ok(true) => RESOLVER_DNSSEC.good(server, "it has validated the zone org"),
                Ok(false) => RESOLVER_DNSSEC.bad(
                    server,
                    "it does not say that it has validated the zone org, which is signed",
                    OWN,
                ),
                Err(why) => RESOLVER_DNSSEC.unknown(server, why, OWN),
            });
            found.push(place(server));
        }
    }
    found
}

fn place(server: IpAddr) -> Finding {
    match server {
        _ if server.is_loopback() => RESOLVER_PLACE.good(server, "it is on this machine"),
        _ if PUBLIC.contains(&server.to_string().as_str()) => {
            RESOLVER_PLACE.bad(server, "it is a large public one", OWN)
        }
        _ if is_public(server) => RESOLVER_PLACE.good(
            server,
            "it is another host's, and none of the large public ones",
        ),
        _ => RESOLVER_PLACE.good(server, "it is in this network"),
    }
}

/// The resolvers of Google, Cloudflare, Quad9, OpenDNS and AdGuard.
const PUBLIC: [&str; 18] = [
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
    "1.1.1.1",
    "1.0.0.1",
    "2606:4700:4700::1111",
    "2606:4700:4700::1001",
    "9.9.9.9",
    "149.112.112.112",
    "9.9.9.10",
    "2620:fe::fe",
    "2620:fe::9",
    "208.67.222.222",
    "208.67.220.220",
    "94.140.14.14",
    "94.140.15.15",
    "4.2.2.2",
];
const OWN: &str = "run a resolver on this machine (apt install unbound) and name it: servers = [\"127.0.0.1\"] in [dns] of chopar.toml; an existing one must query the zones itself and forward to no other";
/// The remedy for a machine that reaches no resolver.
pub const ROUTE: &str =
    "have the machine get its route to the Internet: ip route show default says whether it has one";
const REMOVE: &str = "name a resolver that answers in /etc/resolv.conf, or in [dns] of chopar.toml";
