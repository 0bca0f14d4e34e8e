//! The names of the host and of its addresses.

use std::net::IpAddr;

use crate::address::Domain;
use crate::setup::doctor::checks::{HOSTNAME, HOSTS_FILE, IPV6_ROUTE, PTR_NAME, RESOLVER};
use crate::setup::doctor::finding::Finding;

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name of the host.
    pub host: Domain,
    /// The addresses that /etc/hosts has for it.
    pub in_hosts_file: Vec<IpAddr>,
    /// The names of each address of ours, or why they are not known.
    pub pointers: Vec<(IpAddr, Result<Vec<Domain>, String>)>,
    /// The IPv6 addresses that the DNS has for the host, or why they are not known.
    pub published_v6: Result<Vec<IpAddr>, String>,
    /// The address of the machine that has a route to the Internet by IPv6.
    pub routed_v6: Option<IpAddr>,
    /// Whether mail may be sent by IPv6, by `[delivery]`.
    pub sends_v6: bool,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![hostname(&facts.host), hosts_file(facts), ipv6(facts)];
    found.extend(
        facts
            .pointers
            .iter()
            .map(|(address, names)| pointer(facts, *address, names)),
    );
    found
}

fn hostname(host: &Domain) -> Finding {
    let last = host.as_str().rsplit('.').next().unwrap_or_default();
    let is_private = PRIVATE.contains(&last)
        || PRIVATE_ENDS.iter().any(|end| host.as_str().ends_with(end))
        || host.is_literal();
    if !is_private && host.as_str().contains('.') {
        return HOSTNAME.good("", format!("{host} is a full name"));
    }
    HOSTNAME.bad(
        "",
        format!("{host} is not a name that other hosts can look up"),
        "set hostname in chopar.toml to a name in a domain of yours, such as mail.example.com, and restart chopar",
    )
}

fn hosts_file(facts: &Facts) -> Finding {
    let loopback: Vec<String> = facts
        .in_hosts_file
        .iter()
        .filter(|address| address.to_canonical().is_loopback())
        .map(IpAddr::to_string)
        .collect();
    if loopback.is_empty() {
        return HOSTS_FILE.good("", format!("does not lead {} to loopback", facts.host));
    }
    HOSTS_FILE.bad(
        "",
        format!("leads {} to {}", facts.host, loopback.join(" and ")),
        format!(
            "take {} out of the line {} in /etc/hosts",
            facts.host,
            loopback.join(" and ")
        ),
    )
}

fn pointer(facts: &Facts, address: IpAddr, names: &Result<Vec<Domain>, String>) -> Finding {
    let names = match names {
        Ok(names) => names,
        Err(cause) => {
            return PTR_NAME
                .unknown(
                    address,
                    format!("the reverse name could not be looked up: {cause}"),
                    "run chopar doctor again once the resolver answers",
                )
                .for_want_of(&RESOLVER);
        }
    };
    match names.iter().find(|name| is_generic(name, address)) {
        Some(name) => PTR_NAME.bad(
            address,
            format!("{name} is made of the address, or says that it is one of many"),
            format!(
                "set the reverse name (PTR) of {address} to {} in the panel of the server's provider",
                facts.host
            ),
        ),
        None if names.is_empty() => PTR_NAME.skipped(address, "there is no reverse name"),
        None => {
            let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
            PTR_NAME.good(address, names.join(", "))
        }
    }
}

/// Whether a name looks like those that providers give to all of their addresses.
pub fn is_generic(name: &Domain, address: IpAddr) -> bool {
    let labels: Vec<&str> = name.as_str().split('.').collect();
    // The part before the domain.
    let front = labels.get(..labels.len().saturating_sub(2));
    let front = front.unwrap_or_default();
    let words = || {
        front
            .iter()
            .flat_map(|label| label.split(|c: char| !c.is_ascii_alphanumeric()))
            .filter(|word| !word.is_empty())
    };
    let has_word = words().any(|word| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        GENERIC.contains(&letters) || letters.len() < word.len() && NUMBERED.contains(&letters)
    });
    let front = front.join(".");
    has_word || holds(&front, address)
}

/// Whether a text holds an address: its octets in either order, or in hexadecimal.
fn holds(text: &str, address: IpAddr) -> bool {
    let numbers: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .collect();
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let octets = address.octets().map(|octet| octet.to_string());
            let padded = address.octets().map(|octet| format!("{octet:03}"));
            let is_run = |wanted: &[String]| {
                numbers
                    .windows(wanted.len())
                    .any(|run| run.iter().zip(wanted).all(|(one, other)| one == other))
            };
            let hexadecimal: String = address
                .octets()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            let reversed: Vec<String> = octets.iter().rev().cloned().collect();
            // Three of the octets are enough: the rest may be in the domain.
            is_run(octets.get(1..).unwrap_or_default())
                || is_run(reversed.get(..3).unwrap_or_default())
                || is_run(reversed.get(1..).unwrap_or_default())
                || is_run(octets.get(..3).unwrap_or_default())
                || text.contains(&padded.concat())
                || text.contains(&hexadecimal)
        }
        IpAddr::V6(address) => {
            let groups = address.segments();
            let hexadecimal: String = groups.iter().map(|group| format!("{group:04x}")).collect();
            let dashed: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
            let bare: String = text.chars().filter(char::is_ascii_hexdigit).collect();
            bare.contains(&hexadecimal) || text.contains(&dashed.join("-"))
        }
    }
}

fn ipv6(facts: &Facts) -> Finding {
    let published = match &facts.published_v6 {
        Ok(published) => published,
        Err(cause) => {
            return IPV6_ROUTE
                .unknown(
                    "",
                    format!(
                        "the addresses of {} could not be looked up: {cause}",
                        facts.host
                    ),
                    "run chopar doctor again once the resolver answers",
                )
                .for_want_of(&RESOLVER);
        }
    };
    match (published.first(), facts.routed_v6) {
        (Some(address), None) => IPV6_ROUTE.bad(
            "",
            format!(
                "the DNS leads {} to {address}, and this machine has no route to the Internet by IPv6",
                facts.host
            ),
            format!(
                "take {}. AAAA {address} out of the zone, or have the machine get its IPv6 route",
                facts.host
            ),
        ),
        (Some(_), Some(address)) => {
            IPV6_ROUTE.good("", format!("{address} has a route by IPv6"))
        }
        (None, Some(address)) if facts.sends_v6 => IPV6_ROUTE.bad(
            "",
            format!(
                "mail leaves from {address} too, which is not in the DNS: Gmail refuses mail from such an address"
            ),
            format!(
                "publish {}. AAAA {address} and its reverse name, or set ip = \"ipv4\" in [delivery] of chopar.toml",
                facts.host
            ),
        ),
        (None, _) => IPV6_ROUTE.skipped("", "mail leaves and comes by IPv4 only"),
    }
}

/// Domains that are not in the public DNS (RFC 6761, RFC 6762, RFC 8375, and those that routers and Debian use).
const PRIVATE: [&str; 9] = [
    "localhost",
    "localdomain",
    "local",
    "lan",
    "internal",
    "home",
    "invalid",
    "intranet",
    "corp",
];
const PRIVATE_ENDS: [&str; 1] = [".home.arpa"];

/// Words for one address of many.
const GENERIC: [&str; 14] = [
    "dynamic",
    "dyn",
    "dhcp",
    "static",
    "pool",
    "ppp",
    "dsl",
    "adsl",
    "cable",
    "broadband",
    "dialup",
    "client",
    "customer",
    "unassigned",
];
/// Words that look generic with a number behind them.
const NUMBERED: [&str; 8] = ["vps", "vm", "ip", "host", "server", "node", "cloud", "vmi"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_providers_make_up_are_told_from_names_that_people_give() {
        for (name, address, expected) in [
            ("mail.example.com", "203.0.113.7", false),
            ("mx1.example.com", "203.0.113.7", false),
            ("203-0-113-7.isp.example", "203.0.113.7", true),
            ("7.113.0.203.isp.example.net", "203.0.113.7", true),
            ("static.isp.example.net", "203.0.113.7", true),
            ("vps12345.isp.example", "203.0.113.7", true),
            ("vps.example.com", "203.0.113.7", false),
            ("cb007107.isp.example", "203.0.113.7", true),
            ("ip-203-0-113.isp.example", "203.0.113.7", true),
            ("host12.isp.example", "203.0.113.7", true),
            ("mail7.example.com", "203.0.113.7", false),
            ("mail.example.com", "2001:db8::7", false),
            (
                "20010db8000000000000000000000007.isp.example",
                "2001:db8::7",
                true,
            ),
            ("2001-db8-0-0-0-0-0-7.isp.example", "2001:db8::7", true),
        ] {
            let domain = Domain::parse(name).expect("a domain");
            let address = address.parse().expect("an address");
            assert_eq!(is_generic(&domain, address), expected, "{name}");
        }
    }
}
