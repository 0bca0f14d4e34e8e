//! The name server of the world: answers a query packet with records derived from the name, or lies about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::unauthenticated_clients;

/// Domains that accept mail: `d0.example` and so on, with the MX hosts `mxN.example` and `mx(N+20).example`.
pub(crate) const DOMAINS: u8 = 5;
/// Number of a domain with a null MX.
pub(crate) const NULL_MX: u8 = 5;
/// Number of a domain that does not exist.
pub(crate) const NO_DOMAIN: u8 = 6;
/// Number of a domain without MX, which accepts mail at its own address.
pub(crate) const IMPLICIT: u8 = 7;
/// Number of a domain whose MX look-up always fails.
pub(crate) const BROKEN: u8 = 8;
/// Number of a domain with one MX host of two addresses: those of the hosts with this number and the next.
pub(crate) const TWO_ADDRESSES: u8 = 40;
/// The host that accepts the mail of `sender.example`.
pub(crate) const SENDER_HOST: u8 = 100;
/// The host that accepts the mail of all unauthenticated clients.
pub(crate) const OUTSIDE_HOST: u8 = 101;
/// Hosts from this number on are the addresses of domains that have MX records: the relay must not send there.
const TRAPS: u8 = 200;

/// A failure of a name server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    None,
    Silence,
    ServFail,
    Refused,
    Truncated,
    WrongId,
    Garbage,
}

pub(crate) const LIES: [(Lie, &str); 6] = [
    (Lie::Silence, "timeout"),
    (Lie::ServFail, "servfail"),
    (Lie::Refused, "refused"),
    (Lie::Truncated, "truncated"),
    (Lie::WrongId, "wrong id"),
    (Lie::Garbage, "garbage"),
];

/// The address of a host of the world.
pub(crate) fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

/// The host at an address.
pub(crate) fn host_at(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

/// Whether a host is the address of a domain whose mail goes to an MX host.
pub(crate) fn is_trap(host: u8) -> bool {
    host >= TRAPS
}

/// The domain whose mail a host accepts.
pub(crate) fn domain_of(host: u8) -> String {
    match host {
        SENDER_HOST => "sender.example".into(),
        OUTSIDE_HOST => "outside.example".into(),
        host if host / 2 == TWO_ADDRESSES / 2 => format!("d{TWO_ADDRESSES}.example"),
        host => format!("d{}.example", host % 20),
    }
}

/// The name in a query.
pub(crate) fn name(query: &[u8]) -> Option<String> {
    let (labels, _) = labels(query)?;
    Some(labels.join("."))
}

/// Whether a query asks for TXT records.
pub(crate) fn asks_for_texts(query: &[u8]) -> bool {
    labels(query).is_some_and(|(_, at)| query.get(at..at + 2) == Some(&TXT.to_be_bytes()))
}

enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx(u16, String),
    Txt(String),
}

const A: u16 = 1;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NO_NAME: u8 = 3;
const REFUSED: u8 = 5;

fn labels(query: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            return Some((labels, at));
        }
        labels.push(String::from_utf8(query.get(at..at + len)?.to_ascii_lowercase()).ok()?);
        at += len;
    }
}

/// The reply to a query, or `None` if the name server is silent.
pub(crate) fn reply(query: &[u8], lie: Lie) -> Option<Vec<u8>> {
    let (labels, at) = labels(query)?;
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(12..at + 4)?;
    let own_lie = (kind == TXT).then(|| unauthenticated_clients::own_lie(&labels.join(".")));
    let lie = own_lie.flatten().unwrap_or(lie);
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let (data, code) = match lie {
        Lie::Silence => return None,
        Lie::Garbage => return Some(b"\xff\x00\xc0\x0c nonsense".to_vec()),
        Lie::ServFail => (vec![], SERVER_FAILURE),
        Lie::Refused => (vec![], REFUSED),
        Lie::Truncated => (vec![], 0),
        Lie::None | Lie::WrongId => records(&labels, kind),
    };
    let mut packet = query.get(..2)?.to_vec();
    if lie == Lie::WrongId {
        packet[0] ^= 0x55;
    }
    let truncated = if lie == Lie::Truncated { 2 } else { 0 };
    packet.extend_from_slice(&[0x81 | truncated, 0x80 | code, 0, 1]);
    packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0]);
    packet.extend_from_slice(question);
    for data in &data {
        put_record(data, kind, &mut packet);
    }
    Some(packet)
}

fn records(labels: &[&str], kind: u16) -> (Vec<Data>, u8) {
    if kind == TXT
        && let Some(text) = unauthenticated_clients::record(&labels.join("."))
    {
        return (vec![Data::Txt(text)], 0);
    }
    let [label, "example"] = labels else {
        return (vec![], NO_NAME);
    };
    let mx = |preference, host: u8| Data::Mx(preference, format!("mx{host}.example"));
    if *label == "sender" {
        return match kind {
            MX => (vec![mx(10, SENDER_HOST)], 0),
            _ => (vec![], 0),
        };
    }
    if unauthenticated_clients::DOMAINS.contains(label) {
        return match kind {
            MX => (vec![mx(10, OUTSIDE_HOST)], 0),
            _ => (vec![], 0),
        };
    }
    if let Some(host) = label
        .strip_prefix("mx")
        .and_then(|text| text.parse::<u8>().ok())
    {
        return match kind {
            A if host == TWO_ADDRESSES => {
                (vec![Data::A(address(host)), Data::A(address(host + 1))], 0)
            }
            A => (vec![Data::A(address(host))], 0),
            // IPv6 is broken in this world: hosts have addresses that cannot be reached.
            AAAA if host % 2 == 1 => {
                let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into());
                (vec![Data::Aaaa(address)], 0)
            }
            _ => (vec![], 0),
        };
    }
    let Some(domain) = label
        .strip_prefix('d')
        .and_then(|text| text.parse::<u8>().ok())
    else {
        return (vec![], NO_NAME);
    };
    match (domain, kind) {
        (NO_DOMAIN, _) => (vec![], NO_NAME),
        (BROKEN, MX) => (vec![], SERVER_FAILURE),
        (NULL_MX, MX) => (vec![Data::Mx(0, String::new())], 0),
        (TWO_ADDRESSES, MX) => (vec![mx(10, TWO_ADDRESSES)], 0),
        (IMPLICIT, A) => (vec![Data::A(address(IMPLICIT))], 0),
        (IMPLICIT, _) => (vec![], 0),
        (domain, MX) if domain < DOMAINS => (vec![mx(10, domain), mx(20, domain + 20)], 0),
        (domain, A) => (vec![Data::A(address(TRAPS + domain))], 0),
        _ => (vec![], 0),
    }
}

fn put_record(data: &Data, kind: u16, packet: &mut Vec<u8>) {
    packet.extend_from_slice(&[0xC0, 12]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
    let bytes = match data {
        Data::A(address) => address.octets().to_vec(),
        Data::Aaaa(address) => address.octets().to_vec(),
        Data::Txt(text) => [&[text.len() as u8], text.as_bytes()].concat(),
        Data::Mx(preference, host) => {
            let mut bytes = preference.to_be_bytes().to_vec();
            for label in host.split('.').filter(|label| !label.is_empty()) {
                bytes.push(label.len() as u8);
                bytes.extend_from_slice(label.as_bytes());
            }
            bytes.push(0);
            bytes
        }
    };
    packet.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    packet.extend_from_slice(&bytes);
}
