//! The name server of the world: answers a query packet with records made from the name.

use std::net::Ipv4Addr;

/// Number of the domain `dN.example` or host `mxN.example`.
fn number(label: &str, prefix: &str) -> Option<u8> {
    label.strip_prefix(prefix)?.parse().ok()
}

/// Domains of the world: `d0.example` and so on, each with `mxN.example` at `203.0.113.N`, and `sender.example`.
pub const DOMAINS: u8 = 5;

/// The address of a host of the world.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

/// The host that takes the mail of `sender.example`.
pub const SENDER_HOST: u8 = 100;

enum Data {
    A(Ipv4Addr),
    Mx(u16, String),
}

/// The reply to a query, or `None` where the name server says nothing.
pub fn reply(query: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8(query.get(at..at + len)?.to_ascii_lowercase()).ok()?);
        at += len;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let end = at + 4;
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let (data, exists) = match (labels.as_slice(), kind) {
        ([label, "example"], 15) if number(label, "d").is_some_and(|n| n < DOMAINS) => {
            let n = number(label, "d")?;
            (
                vec![
                    Data::Mx(10, format!("mx{n}")),
                    Data::Mx(20, format!("mx{}", n + 20)),
                ],
                true,
            )
        }
        (["sender", "example"], 15) => (vec![Data::Mx(10, format!("mx{SENDER_HOST}"))], true),
        ([label, "example"], 1) if number(label, "mx").is_some() => {
            (vec![Data::A(address(number(label, "mx")?))], true)
        }
        (["sender", "example"], _) => (vec![], true),
        ([label, "example"], _) => (
            vec![],
            number(label, "mx").is_some() || number(label, "d").is_some(),
        ),
        _ => (vec![], false),
    };
    let mut packet = Vec::new();
    packet.extend_from_slice(query.get(..2)?);
    packet.extend_from_slice(&[0x81, if exists { 0x80 } else { 0x83 }, 0, 1]);
    packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0]);
    packet.extend_from_slice(query.get(12..end)?);
    for data in data {
        packet.extend_from_slice(&[0xC0, 12]);
        packet.extend_from_slice(&kind.to_be_bytes());
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        let bytes = match data {
            Data::A(address) => address.octets().to_vec(),
            Data::Mx(preference, host) => {
                let mut bytes = preference.to_be_bytes().to_vec();
                for label in [host.as_str(), "example"] {
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
    Some(packet)
}
