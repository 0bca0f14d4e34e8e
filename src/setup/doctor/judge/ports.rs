//! The processes that listen on the mail ports.

use std::net::{IpAddr, SocketAddr};

use crate::setup::doctor::checks::{DoctorCheck, PORT_SMTP, PORT_SUBMISSION, PORT_SUBMISSIONS};
use crate::setup::doctor::finding::Finding;

/// The purpose of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckedRole {
    /// Other servers deliver to it.
    Smtp,
    /// Users submit, with STARTTLS.
    Submission,
    /// Users submit, with TLS from the first byte.
    Submissions,
}

impl CheckedRole {
    /// The port that others try.
    pub const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Submission => 587,
            Self::Submissions => 465,
        }
    }

    /// The key under `[listen]`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }

    /// The check of whether it is open.
    pub const fn check(self) -> &'static DoctorCheck {
        match self {
            Self::Smtp => &PORT_SMTP,
            Self::Submission => &PORT_SUBMISSION,
            Self::Submissions => &PORT_SUBMISSIONS,
        }
    }
}

/// A listening TCP socket of this machine, and the process behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListeningSocket {
    pub at: SocketAddr,
    /// The name of the program that holds it; `None` if unknown.
    pub holder: Option<String>,
}

/// A configured port, and the result of connecting to it.
#[derive(Clone, Debug)]
pub struct CheckedPort {
    pub role: CheckedRole,
    /// The ports that the configuration names; none turns it off.
    pub configured: Vec<u16>,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Our ports.
    pub ports: Vec<CheckedPort>,
    pub listeners: Vec<ListeningSocket>,
    /// The families of the addresses that others reach: IPv4, IPv6.
    pub families: (bool, bool),
    /// Whether a domain is received here.
    pub receives: bool,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    facts.ports.iter().map(|port| one(facts, port)).collect()
}

fn one(facts: &Facts, port: &CheckedPort) -> Finding {
    if let Some(finding) = misconfigured(facts, port) {
        return finding;
    }
    let check = port.role.check();
    let (standard, key) = (port.role.port(), port.role.key());
    let here: Vec<&ListeningSocket> = facts
        .listeners
        .iter()
        .filter(|listener| listener.at.port() == standard)
        .collect();
    if here.is_empty() {
        return check.bad("", "no program listens", START);
    }
    if let Some(holder) = here.iter().find_map(|listener| foreign(listener)) {
        let text = format!("{holder} uses it, not chopar");
        return check.bad("", text, move_over(holder));
    }
    if let Some((family, address)) = closed_family(facts.families, standard, &here) {
        return check.bad(
            "",
            format!("no program listens on it at an address that others reach by {family}"),
            format!("add \"{address}\" to {key} in [listen] of chopar.toml, and restart chopar"),
        );
    }
    let holder = here
        .iter()
        .find_map(|listener| listener.holder.clone())
        .unwrap_or_else(|| "a program of another account (root can see which)".to_owned());
    let places: Vec<String> = here
        .iter()
        .map(|listener| listener.at.to_string())
        .collect();
    check.good("", format!("{holder} listens on {}", places.join(", ")))
}

/// The finding from the configuration alone: the port is turned off, or replaced by another.
fn misconfigured(facts: &Facts, port: &CheckedPort) -> Option<Finding> {
    let check = port.role.check();
    let (standard, key) = (port.role.port(), port.role.key());
    let cure = || {
        format!(
            "set {key} = [\"0.0.0.0:{standard}\", \"[::]:{standard}\"] in [listen] of chopar.toml"
        )
    };
    if port.configured.is_empty() {
        if port.role == CheckedRole::Smtp && !facts.receives {
            return Some(check.skipped("", "it is turned off, and no domain is received here"));
        }
        let text = format!("it is turned off: {key} in [listen] of chopar.toml is empty");
        return Some(check.bad("", text, cure()));
    }
    if port.configured.contains(&standard) {
        return None;
    }
    // Most listen on the same one by IPv4 and by IPv6.
    let mut ports = port.configured.clone();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let text = format!(
        "chopar listens on port {} instead, which others reach only if port {standard} is forwarded to it",
        ports.join(", ")
    );
    Some(check.warning("", text, cure()))
}

/// The program that holds a socket, if it is not chopar.
fn foreign(listener: &ListeningSocket) -> Option<&str> {
    let holder = listener.holder.as_deref()?;
    // With socket activation systemd holds it too.
    (!matches!(holder, "chopar" | "systemd")).then_some(holder)
}

/// The family by which others reach this host and no socket is open, and the address that would open one.
fn closed_family(
    (v4, v6): (bool, bool),
    standard: u16,
    here: &[&ListeningSocket],
) -> Option<(&'static str, String)> {
    let is_open = |is_v4: bool| {
        here.iter().any(|listener| {
            let address = listener.at.ip();
            // A socket at :: accepts IPv4 too, unless disabled, as chopar does.
            address.is_ipv4() == is_v4 && !address.to_canonical().is_loopback()
        })
    };
    let is_shared = here
        .iter()
        .any(|listener| listener.at.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED));
    if v4 && !is_open(true) && !is_shared {
        return Some(("IPv4", format!("0.0.0.0:{standard}")));
    }
    (v6 && !is_open(false)).then(|| ("IPv6", format!("[::]:{standard}")))
}

/// The listening sockets in a file like /proc/net/tcp: address, and inode number.
pub fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (at, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let inode = fields.nth(5)?.parse().ok()?;
        let (address, port) = at.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (state == LISTEN).then_some((SocketAddr::new(address_of(address)?, port), inode))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// An address in groups of 32 bits, each in the order of the processor.
fn address_of(text: &str) -> Option<IpAddr> {
    let mut octets = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (group, behind) = rest.split_at_checked(8)?;
        octets.extend(u32::from_str_radix(group, 16).ok()?.to_ne_bytes());
        rest = behind;
    }
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

const LISTEN: &str = "0A";
const START: &str = "systemctl start chopar";

/// How another program is made to give up a port: by its unit, if the name of its process tells that.
fn move_over(holder: &str) -> String {
    let unit = match holder {
        "master" => "postfix",
        "exim4" => "exim4",
        "smtpd" => "opensmtpd",
        "chasquid" => "chasquid",
        "sendmail-mta" => "sendmail",
        _ => {
            return format!(
                "stop {holder}, make sure that it does not start again, and run systemctl restart chopar"
            );
        }
    };
    format!("systemctl disable --now {unit} && systemctl restart chopar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_tables_of_the_kernel_are_read() {
        let four = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                    0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
                    1: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        let expected = ("127.0.0.1:25".parse().expect("an address"), 4711);
        assert_eq!(listening(four), [expected]);
        let six = "  sl  local_address\n   0: 00000000000000000000000000000000:01D1 00000000000000000000000000000000:0000 0A \
                   00000000:00000000 00:00000000 00000000  0 0 9 1 0 100 0 0 10 0\nnonsense\n";
        assert_eq!(
            listening(six),
            [("[::]:465".parse().expect("an address"), 9)]
        );
    }
}
