//! Whether the argument of EHLO or HELO is acceptable (RFC 5321 section 4.1.1.1): a domain or an address literal, but
//! not our own hostname or address.
//!
//! Wider than the standard: names without a dot and names with underscores are accepted, because many hosts have no
//! better one. Whether the name resolves to the client's address is not checked.

use std::net::IpAddr;

use crate::address::Domain;

/// A fault in the argument of EHLO or HELO.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EhloFault {
    /// Neither a domain nor an address literal.
    Syntax,
    /// Our own name or address, which only a forger uses.
    Ours,
}

/// Judges the EHLO or HELO argument of another host. `hostname` and `local` are the name and the address of this host.
pub fn judge(name: &str, hostname: &Domain, local: IpAddr) -> Result<(), EhloFault> {
    let domain = Domain::parse(name).map_err(|_| EhloFault::Syntax)?;
    // A top-level domain contains a letter. A name without one is an address without its brackets.
    let last = domain.as_str().rsplit('.').next().unwrap_or_default();
    if !domain.is_literal() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EhloFault::Syntax);
    }
    if domain == *hostname || literal(&domain) == Some(local.to_canonical()) {
        return Err(EhloFault::Ours);
    }
    Ok(())
}

/// The address of an address literal.
fn literal(domain: &Domain) -> Option<IpAddr> {
    let inner = domain.as_str().strip_prefix('[')?.strip_suffix(']')?;
    match inner.split_once(':') {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => address.parse().ok(),
        _ => inner.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, local: &str) -> Result<(), EhloFault> {
        let hostname = Domain::parse("mx.example.com").expect("a name");
        judge(name, &hostname, local.parse().expect("an address"))
    }

    #[test]
    fn takes_domains_and_address_literals() {
        for name in [
            "client.example",
            "client",
            "my_host.example",
            "client.example.",
            "bücher.example",
            "[192.0.2.7]",
            "[IPv6:2001:db8::7]",
            "example.com",
        ] {
            assert_eq!(judged(name, "192.0.2.1"), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_is_neither() {
        for name in [
            "192.0.2.7",
            "[192.0.2]",
            "[2001:db8::7",
            "a..b",
            "-x.example",
            "(client)",
            "a@b.example",
            "{hostname}",
            "1",
        ] {
            assert_eq!(
                judged(name, "192.0.2.1"),
                Err(EhloFault::Syntax),
                "{name:?}"
            );
        }
    }

    #[test]
    fn refuses_our_name_and_our_address() {
        for (name, local) in [
            ("MX.example.com", "192.0.2.1"),
            ("[192.0.2.1]", "192.0.2.1"),
            ("[192.0.2.1]", "::ffff:192.0.2.1"),
            ("[IPv6:2001:DB8:0::1]", "2001:db8::1"),
        ] {
            assert_eq!(judged(name, local), Err(EhloFault::Ours), "{name:?}");
        }
    }
}
