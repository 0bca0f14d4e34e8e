//! The content of a zone, for commands that inspect zones and do not deliver mail: more record types than the relay
//! needs, each character-string of a TXT record separately, and the authority and additional sections.
//!
//! The resolver of the relay ([`Resolver`](super::Resolver)) follows aliases and caches answers. Here one server gets
//! one question, and its answer is returned unchanged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::answer::{Mx, Tlsa};
use super::message::{
    Edns, HEADER_BYTES, Header, Malformed, Match, Received, match_reply, name_in, received,
    strings, u16_at, write_query,
};
use super::name::WireName;
use crate::address::Domain;
use crate::entropy::Entropy;
use crate::limits::ZONE_RECORDS_MAX;

/// The record types that are read.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ZoneKind {
    /// IPv4 addresses.
    A,
    /// Name servers.
    Ns,
    /// An alias.
    Cname,
    /// Start of authority.
    Soa,
    /// Names of an address.
    Ptr,
    /// Mail exchangers.
    Mx,
    /// Texts.
    Txt,
    /// IPv6 addresses.
    Aaaa,
    /// Services (RFC 2782).
    Srv,
    /// Certificate associations (RFC 6698).
    Tlsa,
    /// CAs that may issue certificates (RFC 8659).
    Caa,
}

impl ZoneKind {
    /// Its number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Tlsa => 52,
            Self::Caa => 257,
        }
    }

    /// Its name in zone files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Ns => "NS",
            Self::Cname => "CNAME",
            Self::Soa => "SOA",
            Self::Ptr => "PTR",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
            Self::Tlsa => "TLSA",
            Self::Caa => "CAA",
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A service (RFC 2782).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Srv {
    /// Lower values are tried first.
    pub priority: u16,
    /// Relative weight among equal priorities.
    pub weight: u16,
    pub port: u16,
    /// The host; `None` is the root name, which means that the service does not exist.
    pub target: Option<Domain>,
}

/// The data of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ZoneData {
    /// An address of kind A or AAAA.
    Address(IpAddr),
    /// The name in an NS, CNAME or PTR record; `None` if it is not a host name.
    Name(Option<Domain>),
    /// A mail exchanger.
    Mx(Mx),
    /// The character-strings of a text.
    Txt(Vec<Vec<u8>>),
    /// A service.
    Srv(Srv),
    /// A certificate association.
    Tlsa(Tlsa),
    /// Any other data, unparsed.
    Other(Vec<u8>),
}

/// A record in a reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneRecord {
    /// The owner name; `None` if it is not a host name.
    pub owner: Option<Domain>,
    /// The type ([`ZoneKind::code`]).
    pub code: u16,
    /// TTL in seconds.
    pub ttl: u32,
    pub data: ZoneData,
}

/// The reply of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneReply {
    /// The response code: 0 for success, 3 for a name that does not exist.
    pub code: u16,
    /// The server is authoritative for the zone (AA).
    pub authoritative: bool,
    /// The reply was truncated (TC).
    pub truncated: bool,
    /// The server has validated the answer (AD); meaningful only from a trusted server.
    pub authentic: bool,
    /// The answer section, aliases included.
    pub answers: Vec<ZoneRecord>,
    /// The authority section: the NS records of a referral, or the SOA of a denial.
    pub authority: Vec<ZoneRecord>,
    /// The additional section: addresses of the servers of a referral.
    pub additional: Vec<ZoneRecord>,
}

/// Whether the server should recurse, or answer from its own data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recursion {
    /// Recurse.
    Desired,
    /// Answer from its own data.
    No,
}

/// A query. `None`: the name cannot be encoded.
pub fn zone_query(
    name: &Domain,
    kind: ZoneKind,
    recursion: Recursion,
    entropy: &mut dyn Entropy,
) -> Option<Vec<u8>> {
    let mut query = write_query(name, kind.code(), Edns::On, entropy)?;
    if recursion == Recursion::No
        && let Some(flags) = query.get_mut(2)
    {
        *flags &= !RECURSION_DESIRED_HIGH;
    }
    Some(query)
}

/// The parsed reply to a query; `None` if the packet does not answer it or is malformed.
pub fn zone_reply(query: &[u8], packet: &[u8]) -> Option<ZoneReply> {
    match match_reply(query, packet) {
        Match::Exact | Match::OtherCase => read(packet).ok(),
        Match::NotUnderstood | Match::None => None,
    }
}

fn read(packet: &[u8]) -> Result<ZoneReply, Malformed> {
    let Received {
        code,
        authoritative,
        truncated,
        authentic,
    } = received(packet)?;
    let field = |at| u16_at(packet, at).ok_or(Malformed::Short);
    let mut at = HEADER_BYTES;
    for _ in 0..field(4)? {
        let (_, end) = WireName::read(packet, at)?;
        at = end.saturating_add(4);
    }
    let mut sections: [Vec<ZoneRecord>; 3] = [const { Vec::new() }; 3];
    for (section, count_at) in sections.iter_mut().zip([6, 8, 10]) {
        if truncated {
            break; // it is asked again over TCP
        }
        for _ in 0..field(count_at)? {
            let (header, end) = Header::read(packet, at)?;
            if header.class == IN && section.len() < ZONE_RECORDS_MAX {
                section.push(record(packet, &header)?);
            }
            at = end;
        }
    }
    let [answers, authority, additional] = sections;
    Ok(ZoneReply {
        code,
        authoritative,
        truncated,
        authentic,
        answers,
        authority,
        additional,
    })
}

fn record(packet: &[u8], header: &Header) -> Result<ZoneRecord, Malformed> {
    let data = header.data(packet);
    let code = header.kind;
    let is = |kind: ZoneKind| kind.code() == code;
    let data = if is(ZoneKind::A) {
        let octets: [u8; 4] = data.try_into().map_err(|_| Malformed::Data)?;
        ZoneData::Address(Ipv4Addr::from(octets).into())
    } else if is(ZoneKind::Aaaa) {
        let octets: [u8; 16] = data.try_into().map_err(|_| Malformed::Data)?;
        ZoneData::Address(Ipv6Addr::from(octets).into())
    } else if is(ZoneKind::Ns) || is(ZoneKind::Cname) || is(ZoneKind::Ptr) {
        ZoneData::Name(name_in(packet, header, header.data_at)?.to_domain())
    } else if is(ZoneKind::Mx) {
        let preference = u16_at(data, 0).ok_or(Malformed::Data)?;
        let name = name_in(packet, header, header.data_at.saturating_add(2))?;
        ZoneData::Mx(Mx {
            preference,
            host: name.to_domain(),
        })
    } else if is(ZoneKind::Txt) {
        ZoneData::Txt(strings(data)?.into_iter().map(<[u8]>::to_vec).collect())
    } else if is(ZoneKind::Srv) {
        let number = |at| u16_at(data, at).ok_or(Malformed::Data);
        let name = name_in(packet, header, header.data_at.saturating_add(6))?;
        ZoneData::Srv(Srv {
            priority: number(0)?,
            weight: number(2)?,
            port: number(4)?,
            target: name.to_domain(),
        })
    } else if is(ZoneKind::Tlsa) {
        let [usage, selector, matching, rest @ ..] = data else {
            return Err(Malformed::Data);
        };
        ZoneData::Tlsa(Tlsa {
            usage: *usage,
            selector: *selector,
            matching: *matching,
            data: rest.to_vec(),
        })
    } else {
        ZoneData::Other(data.to_vec())
    };
    Ok(ZoneRecord {
        owner: header.owner.to_domain(),
        code,
        ttl: header.ttl,
        data,
    })
}

const IN: u16 = 1;

/// The bit of the third octet of a packet (RFC 1035 section 4.1.1).
const RECURSION_DESIRED_HIGH: u8 = 0x01;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::rdata::{RData, SOA, SRV, TXT};
    use simple_dns::{CLASS, Name, Packet, PacketFlag, ResourceRecord};

    use super::*;
    use crate::entropy::SeededEntropy;

    fn name(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn ask(kind: ZoneKind, recursion: Recursion) -> Vec<u8> {
        zone_query(
            &name("example.com"),
            kind,
            recursion,
            &mut SeededEntropy::new(1),
        )
        .expect("a query")
    }

    /// A reply with these answers.
    fn reply(query: &[u8], answers: &[(&str, RData<'static>)]) -> Vec<u8> {
        let asked = Packet::parse(query).expect("a packet");
        let mut packet = Packet::new_reply(asked.id());
        packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        packet.questions = asked.questions;
        for (owner, data) in answers {
            packet.answers.push(ResourceRecord::new(
                Name::new_unchecked(owner),
                CLASS::IN,
                300,
                data.clone(),
            ));
        }
        packet.build_bytes_vec().expect("bytes")
    }

    #[test]
    fn a_server_is_asked_for_its_own_zone_or_to_recurse() {
        for (recursion, desired) in [(Recursion::Desired, true), (Recursion::No, false)] {
            let query = ask(ZoneKind::Soa, recursion);
            let packet = Packet::parse(&query).expect("a packet");
            assert_eq!(packet.has_flags(PacketFlag::RECURSION_DESIRED), desired);
        }
    }

    #[test]
    fn strings_of_a_text_stay_apart_and_kinds_beside_the_one_asked_for_are_kept() {
        let query = ask(ZoneKind::Txt, Recursion::No);
        let text = TXT::new()
            .with_string("v=DKIM1; ")
            .expect("a string")
            .with_string("p=AAAA")
            .expect("a string");
        let alias = RData::CNAME(Name::new_unchecked("other.example.com").into());
        let packet = reply(
            &query,
            &[
                ("example.com", alias),
                ("other.example.com", RData::TXT(text)),
            ],
        );
        let reply = zone_reply(&query, &packet).expect("a reply");
        assert!(reply.authoritative && !reply.truncated && reply.code == 0);
        assert_eq!(reply.answers.len(), 2);
        assert_eq!(
            reply.answers[0].data,
            ZoneData::Name(Some(name("other.example.com")))
        );
        assert_eq!(
            reply.answers[1].data,
            ZoneData::Txt(vec![b"v=DKIM1; ".to_vec(), b"p=AAAA".to_vec()])
        );
    }

    #[test]
    fn services_and_authorities_are_read() {
        let query = ask(ZoneKind::Srv, Recursion::No);
        let service = SRV {
            priority: 0,
            weight: 1,
            port: 587,
            target: Name::new_unchecked("mail.example.com"),
        };
        let soa = SOA {
            mname: Name::new_unchecked("ns.example.com"),
            rname: Name::new_unchecked("hostmaster.example.com"),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 1,
        };
        let packet = reply(
            &query,
            &[
                ("example.com", RData::SRV(service)),
                ("example.com", RData::SOA(soa)),
            ],
        );
        let reply = zone_reply(&query, &packet).expect("a reply");
        let expected = Srv {
            priority: 0,
            weight: 1,
            port: 587,
            target: Some(name("mail.example.com")),
        };
        assert_eq!(reply.answers[0].data, ZoneData::Srv(expected));
        assert_eq!(reply.answers[1].code, ZoneKind::Soa.code());
    }

    #[test]
    fn the_reply_to_another_question_is_none() {
        let packet = reply(&ask(ZoneKind::Mx, Recursion::No), &[]);
        assert_eq!(
            zone_reply(&ask(ZoneKind::Txt, Recursion::No), &packet),
            None
        );
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let query = ask(ZoneKind::Txt, Recursion::No);
            let mut packet = query.clone();
            packet[2] |= 0x80;
            packet[7] = 3;
            packet.extend(tail);
            if let Some(reply) = zone_reply(&query, &packet) {
                prop_assert!(reply.answers.len() <= ZONE_RECORDS_MAX);
            }
        }
    }
}
