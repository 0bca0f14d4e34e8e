//! A record as it should be, and as people write it into zone files and web panels.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::address::Domain;
use crate::auth::dkim::record::zone_strings;
use crate::dns::{Mx, Srv, Tlsa, ZoneData, ZoneKind, ZoneRecord};

/// A DNS record that the operator publishes: its owner name, type and data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsRecord {
    /// The owner name.
    pub name: Domain,
    /// The data.
    pub value: RecordValue,
}

/// The data of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordValue {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(Domain),
    /// PTR.
    Pointer(Domain),
    Mx(Mx),
    /// TXT, its strings joined.
    Text(String),
    Service(Srv),
    Association(Tlsa),
}

impl RecordValue {
    /// The type of the record.
    pub const fn kind(&self) -> ZoneKind {
        match self {
            Self::Address(IpAddr::V4(_)) => ZoneKind::A,
            Self::Address(IpAddr::V6(_)) => ZoneKind::Aaaa,
            Self::Alias(_) => ZoneKind::Cname,
            Self::Pointer(_) => ZoneKind::Ptr,
            Self::Mx(_) => ZoneKind::Mx,
            Self::Text(_) => ZoneKind::Txt,
            Self::Service(_) => ZoneKind::Srv,
            Self::Association(_) => ZoneKind::Tlsa,
        }
    }

    /// The value of a record that a server has; `None` for kinds that are not looked at.
    pub fn of(record: &ZoneRecord) -> Option<Self> {
        Some(match &record.data {
            ZoneData::Address(address) => Self::Address(*address),
            ZoneData::Name(Some(name)) if record.code == ZoneKind::Cname.code() => {
                Self::Alias(name.clone())
            }
            ZoneData::Name(Some(name)) if record.code == ZoneKind::Ptr.code() => {
                Self::Pointer(name.clone())
            }
            ZoneData::Mx(mx) => Self::Mx(mx.clone()),
            ZoneData::Txt(strings) => {
                Self::Text(String::from_utf8_lossy(&strings.concat()).into_owned())
            }
            ZoneData::Srv(service) => Self::Service(service.clone()),
            ZoneData::Tlsa(association) => Self::Association(association.clone()),
            ZoneData::Name(_) | ZoneData::Other(_) => return None,
        })
    }

    /// The value on one line, as a field of a web panel takes it: a text without quotes, names without the last dot.
    pub fn line(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Alias(name) | Self::Pointer(name) => name.to_string(),
            Self::Mx(mx) => format!("{} {}", mx.preference, bare(mx.host.as_ref())),
            Self::Text(text) => text.clone(),
            Self::Service(srv) => {
                let target = bare(srv.target.as_ref());
                format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
            }
            Self::Association(tlsa) => association(tlsa),
        }
    }

    /// The data in zone file form (RFC 1035 section 5.1), on one line: names with their last dot, a text in strings of
    /// at most 255 bytes.
    pub fn zone_data(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Alias(name) | Self::Pointer(name) => format!("{name}."),
            Self::Mx(mx) => format!("{} {}", mx.preference, dotted(mx.host.as_ref())),
            Self::Text(text) => quoted(text.as_bytes()),
            Self::Service(srv) => {
                let target = dotted(srv.target.as_ref());
                format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
            }
            Self::Association(tlsa) => association(tlsa),
        }
    }
}

impl DnsRecord {
    /// A record of the name and value; its TTL is left to the zone.
    pub const fn new(name: Domain, value: RecordValue) -> Self {
        Self { name, value }
    }

    /// The name as a web panel of the zone expects it: the part before the zone, `@` for the zone itself.
    pub fn label(&self, zone: &Domain) -> String {
        label(&self.name, zone)
    }
}

/// A name relative to its zone; `@` for the zone itself.
pub fn label(name: &Domain, zone: &Domain) -> String {
    if name == zone {
        return "@".to_owned();
    }
    let front = name.as_str().strip_suffix(zone.as_str());
    let front = front.and_then(|front| front.strip_suffix('.'));
    front.unwrap_or(name.as_str()).to_owned()
}

fn bare(host: Option<&Domain>) -> &str {
    host.map_or(".", Domain::as_str)
}

fn dotted(host: Option<&Domain>) -> String {
    host.map_or_else(|| ".".to_owned(), |host| format!("{host}."))
}

fn association(tlsa: &Tlsa) -> String {
    let mut text = format!("{} {} {} ", tlsa.usage, tlsa.selector, tlsa.matching);
    for byte in &tlsa.data {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
    }
    text
}

/// Strings of at most 255 bytes between quotes, on one line.
pub fn quoted(text: &[u8]) -> String {
    zone_strings(text).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    #[test]
    fn values_are_written_for_panels_and_for_zone_files() {
        let host = Some(name("mail.example.com"));
        let cases = [
            (
                RecordValue::Address("192.0.2.1".parse().expect("an address")),
                "192.0.2.1",
                "192.0.2.1",
            ),
            (
                RecordValue::Mx(Mx {
                    preference: 10,
                    host: host.clone(),
                }),
                "10 mail.example.com",
                "10 mail.example.com.",
            ),
            (
                RecordValue::Mx(Mx {
                    preference: 0,
                    host: None,
                }),
                "0 .",
                "0 .",
            ),
            (
                RecordValue::Service(Srv {
                    priority: 0,
                    weight: 1,
                    port: 587,
                    target: host,
                }),
                "0 1 587 mail.example.com",
                "0 1 587 mail.example.com.",
            ),
            (
                RecordValue::Association(Tlsa {
                    usage: 3,
                    selector: 1,
                    matching: 1,
                    data: vec![0xAB, 0x01],
                }),
                "3 1 1 ab01",
                "3 1 1 ab01",
            ),
            (
                RecordValue::Text("a \"b\" \\ ü".to_owned()),
                "a \"b\" \\ ü",
                "\"a \\\"b\\\" \\\\ \\195\\188\"",
            ),
            (RecordValue::Text(String::new()), "", "\"\""),
        ];
        for (value, line, data) in cases {
            assert_eq!(
                (value.line().as_str(), value.zone_data().as_str()),
                (line, data)
            );
        }
    }

    #[test]
    fn a_long_text_is_one_line_of_strings_of_255_bytes() {
        let data = RecordValue::Text("x".repeat(600)).zone_data();
        let strings: Vec<usize> = data.split('"').skip(1).step_by(2).map(str::len).collect();
        assert_eq!(strings, [255, 255, 90]);
        assert!(!data.contains('\n'));
    }

    #[test]
    fn a_name_is_told_relative_to_its_zone() {
        let zone = name("example.com");
        for (text, expected) in [
            ("example.com", "@"),
            ("_dmarc.example.com", "_dmarc"),
            ("s._domainkey.lists.example.com", "s._domainkey.lists"),
            ("notexample.com", "notexample.com"),
            ("mail.example.net", "mail.example.net"),
        ] {
            assert_eq!(label(&name(text), &zone), expected);
        }
    }
}
