//! Outgoing connections to port 25.

use std::net::IpAddr;

use crate::setup::doctor::checks::{OUTBOUND_V4, OUTBOUND_V6, RESOLVER, SOURCE};
use crate::setup::doctor::finding::Finding;
use crate::setup::doctor::judge::resolver::ROUTE;
use crate::setup::machine::is_public;

/// The result of one attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectAttempt {
    pub target: String,
    /// The first line and the address it went out from, or why there is none.
    pub result: Result<(String, IpAddr), String>,
}

/// Whether hosts can be reached by one family of addresses.
#[derive(Clone, Debug)]
pub struct FamilyReach {
    /// Whether it is IPv4.
    pub is_v4: bool,
    /// Whether `[delivery]` uses it.
    pub is_used: bool,
    /// Whether the machine has a route.
    pub has_route: bool,
    /// The attempts. The first that succeeds counts.
    pub attempts: Vec<ConnectAttempt>,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// IPv4 and IPv6.
    pub ways: Vec<FamilyReach>,
    /// The addresses that the records are about.
    pub addresses: Vec<IpAddr>,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.ways.iter().map(way).collect();
    found.extend(sources(facts));
    found
}

fn way(way: &FamilyReach) -> Finding {
    let (check, family, key) = match way.is_v4 {
        true => (&OUTBOUND_V4, "IPv4", "ipv6"),
        false => (&OUTBOUND_V6, "IPv6", "ipv4"),
    };
    if !way.is_used {
        return check.skipped("", "ip in [delivery] of chopar.toml says not to use it");
    }
    if !way.has_route {
        return match way.is_v4 {
            true => check.bad(
                "",
                "the machine has no route to the Internet by IPv4",
                ROUTE,
            ),
            false => check.skipped("", "the machine has no route to the Internet by IPv6"),
        };
    }
    let reached = way
        .attempts
        .iter()
        .filter_map(|attempt| Some((attempt, attempt.result.as_ref().ok()?)));
    let mut reached = reached.peekable();
    let first = reached.peek().cloned();
    if let Some((attempt, (line, from))) = reached.find(|(_, (line, _))| line.starts_with("220")) {
        return check.good("", format!("{} greets {from}: {line}", attempt.target));
    }
    if let Some((attempt, (line, from))) = first {
        return check.bad(
            "",
            format!("{} turns {from} away: {line}", attempt.target),
            "ask as the reply says to have the address taken off the list, or send by a route: see [[route]] in chopar.toml(5)",
        );
    }
    if way.attempts.is_empty() {
        return check
            .unknown(
                "",
                "no host to try could be looked up",
                "name one with chopar doctor --probe HOST:25",
            )
            .for_want_of(&RESOLVER);
    }
    let tried: Vec<String> = way
        .attempts
        .iter()
        .map(|attempt| {
            let why = attempt.result.as_ref().err().map_or("", String::as_str);
            format!("{}: {why}", attempt.target)
        })
        .collect();
    check.bad(
        "",
        format!("no host can be reached: {}", tried.join("; ")),
        format!(
            "ask the provider of the server to open outgoing port 25 by {family}; if only {family} is blocked, set \
             ip = \"{key}\" in [delivery] of chopar.toml"
        ),
    )
}

fn sources(facts: &Facts) -> Vec<Finding> {
    let used = |is_v4: bool| {
        let ways = facts.ways.iter().filter(move |way| way.is_v4 == is_v4);
        let attempts = ways.flat_map(|way| &way.attempts);
        let mut from = attempts.filter_map(|attempt| Some(attempt.result.as_ref().ok()?.1));
        from.next()
    };
    [true, false]
        .into_iter()
        .filter_map(used)
        .map(|address| source(facts, address))
        .collect()
}

fn source(facts: &Facts, address: IpAddr) -> Finding {
    if facts.addresses.contains(&address) {
        return SOURCE.good(address, "the records are about this address");
    }
    let known: Vec<String> = facts.addresses.iter().map(IpAddr::to_string).collect();
    let known = known.join(", ");
    if !is_public(address) {
        return SOURCE.warning(
            address,
            format!(
                "the host is behind address translation; others see another address, and the records name {known}"
            ),
            "send a message with chopar send YOU@gmail.com and compare: \"Show original\" says by which address it came",
        );
    }
    SOURCE.bad(
        address,
        format!("mail leaves from this address, and the records are about {known}"),
        format!(
            "set {} in [delivery] of chopar.toml to the address that the records are about, or publish records for {address}",
            if address.is_ipv4() { "bind4" } else { "bind6" }
        ),
    )
}
