//! Queries and replies on the wire (RFC 1035 section 4, EDNS0 RFC 6891, the AD bit in queries RFC 6840 section 5.7).
//!
//! simple-dns writes the queries. Replies are parsed here: simple-dns refuses a reply to a TLSA question and one with a
//! record of an unknown class, and it allocates memory by the counts that a packet claims.
//!
//! Invariant: parsing costs at most a small multiple of the packet's length, and never panics.

use std::net::{Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::OPT;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as WireQuestion, TYPE};

use super::answer::{Mx, RecordKind, Records, Tlsa};
use super::name::{NameError, WireName};
use crate::address::Domain;
use crate::entropy::Entropy;
use crate::limits::{DNS_NAME_BYTES_MAX, DNS_RECORDS_MAX, DNS_TEXTS_MAX, DNS_UDP_BYTES_MAX};
use crate::workload::{Unit, count};

/// Whether a query carries an OPT record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Edns {
    /// It carries one, which announces [`DNS_UDP_BYTES_MAX`].
    On,
    /// For a server that does not know EDNS0.
    Off,
}

/// Writes a query with a random id and random letter case (draft-vixie-dnsext-dns0x20). `None`: the name cannot be
/// encoded.
pub(super) fn query(
    name: &Domain,
    kind: RecordKind,
    edns: Edns,
    entropy: &mut dyn Entropy,
) -> Option<Vec<u8>> {
    write_query(name, type_code(kind), edns, entropy)
}

/// [`query`] for any type of records.
pub(super) fn write_query(
    name: &Domain,
    code: u16,
    edns: Edns,
    entropy: &mut dyn Entropy,
) -> Option<Vec<u8>> {
    // An encoded name has two octets more than its text.
    if name.is_literal() || name.as_str().len().saturating_add(2) > DNS_NAME_BYTES_MAX {
        return None;
    }
    let mut id = [0; 2];
    entropy.fill(&mut id);
    let cased = random_case(name.as_str(), entropy);
    let mut packet = Packet::new_query(u16::from_be_bytes(id));
    packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::AUTHENTIC_DATA);
    packet.questions.push(WireQuestion::new(
        Name::new_unchecked(&cased),
        QTYPE::TYPE(TYPE::from(code)),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    if edns == Edns::On {
        *packet.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: DNS_UDP_BYTES_MAX,
            version: 0,
        });
    }
    packet.build_bytes_vec().ok()
}

/// How a packet relates to a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Match {
    /// It answers the query.
    Exact,
    /// Everything but the letter case of the name matches: the server does not preserve case, or an attacker guesses.
    OtherCase,
    /// Only a header, which says that the server did not understand the query.
    NotUnderstood,
    /// It does not answer the query.
    None,
}

/// Whether `packet` answers `query`: the id, the response bit, the operation and the question.
pub(super) fn match_reply(query: &[u8], packet: &[u8]) -> Match {
    let (Some(id), Some(flags)) = (u16_at(packet, 0), u16_at(packet, 2)) else {
        return Match::None;
    };
    if u16_at(query, 0) != Some(id) || flags & (RESPONSE | OPCODE) != RESPONSE {
        return Match::None;
    }
    let counts = (u16_at(packet, 4), packet.len());
    if counts == (Some(0), HEADER_BYTES) && matches!(flags & RCODE, FORMERR | NOTIMP) {
        return Match::NotUnderstood;
    }
    let Ok((_, end)) = WireName::read(query, HEADER_BYTES) else {
        return Match::None;
    };
    let question = HEADER_BYTES..end.saturating_add(4);
    let (Some(asked), Some(echoed)) = (query.get(question.clone()), packet.get(question)) else {
        return Match::None;
    };
    if counts.0 != Some(1) || !asked.eq_ignore_ascii_case(echoed) {
        Match::None
    } else if asked == echoed {
        Match::Exact
    } else {
        Match::OtherCase
    }
}

/// The header of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// The response code, without the upper bits of the OPT record.
    pub(super) code: u16,
    /// The server is authoritative for the zone (AA).
    pub(super) authoritative: bool,
    /// The packet was truncated (TC).
    pub(super) truncated: bool,
    /// The server has validated the answer (AD).
    pub(super) authentic: bool,
}

/// Reads the header.
pub(super) fn received(packet: &[u8]) -> Result<Received, Malformed> {
    let flags = u16_at(packet, 2).ok_or(Malformed::Short)?;
    Ok(Received {
        code: flags & RCODE,
        authoritative: flags & AUTHORITATIVE != 0,
        truncated: flags & TRUNCATED != 0,
        authentic: flags & AUTHENTIC != 0,
    })
}

/// A parsed reply.
#[derive(Debug)]
pub(super) struct Reply {
    /// The response code, with the upper bits of the OPT record.
    pub(super) code: u16,
    /// The packet was truncated (TC).
    pub(super) truncated: bool,
    /// The server has validated the answer (AD).
    pub(super) authentic: bool,
    /// The server is authoritative, or recurses. An empty answer from any other server is ignored.
    pub(super) competent: bool,
    /// For how many seconds the absence of records may be cached, if the authority section says so (RFC 2308).
    pub(super) negative_ttl: Option<u32>,
    /// The aliases of the answer section.
    cnames: Vec<(WireName, u32, WireName)>,
    /// Records of the kind that was asked for.
    found: Vec<(WireName, u32, Record)>,
}

/// The data of a name in the answer section.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Found {
    /// The number of aliases that were followed.
    pub(super) links: usize,
    /// The lowest TTL of the chain, in seconds; `None` if there are no records.
    pub(super) ttl: Option<u32>,
    /// The last name of the chain.
    pub(super) name: WireName,
    pub(super) records: Option<Records>,
}

/// Why a packet is not a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Malformed {
    /// It ends too early, or contains fewer records than it claims.
    Short,
    /// A name in it is malformed.
    Name,
    /// A record's data does not fit its type.
    Data,
}

impl From<NameError> for Malformed {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Short => Self::Short,
            NameError::Pointer | NameError::Label | NameError::TooLong => Self::Name,
        }
    }
}

#[derive(Debug)]
enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx(Mx),
    Txt(Vec<u8>),
    Ptr(Domain),
    Tlsa(Tlsa),
}

impl Reply {
    /// Parses a packet that [`match_reply`] accepted as an answer to a question of this kind.
    pub(super) fn parse(packet: &[u8], kind: RecordKind) -> Result<Self, Malformed> {
        count(Unit::Byte, packet.len());
        let field = |at| u16_at(packet, at).ok_or(Malformed::Short);
        let flags = field(2)?;
        let mut reply = Self {
            code: flags & RCODE,
            truncated: flags & TRUNCATED != 0,
            authentic: flags & AUTHENTIC != 0,
            competent: flags & (AUTHORITATIVE | RECURSION_AVAILABLE) != 0,
            negative_ttl: None,
            cnames: Vec::new(),
            found: Vec::new(),
        };
        let mut at = HEADER_BYTES;
        for _ in 0..field(4)? {
            let (_, end) = WireName::read(packet, at)?;
            at = end.saturating_add(4);
        }
        if reply.truncated {
            return Ok(reply); // the rest is not used, and may well be cut
        }
        for _ in 0..field(6)? {
            at = reply.read_answer(packet, at, kind)?;
        }
        for _ in 0..field(8)? {
            let (header, data) = Header::read(packet, at)?;
            if header.kind == SOA && header.class == IN {
                reply.negative_ttl = Some(soa_ttl(packet, &header)?);
            }
            at = data;
        }
        for _ in 0..field(10)? {
            let (header, data) = Header::read(packet, at)?;
            if header.kind == OPT_TYPE {
                reply.code |= u16::try_from(header.raw_ttl >> 24).unwrap_or(0) << 4;
            }
            at = data;
        }
        Ok(reply)
    }

    fn read_answer(
        &mut self,
        packet: &[u8],
        at: usize,
        kind: RecordKind,
    ) -> Result<usize, Malformed> {
        let (header, end) = Header::read(packet, at)?;
        if header.class != IN {
            return Ok(end);
        }
        if header.kind == CNAME {
            let (to, _) = WireName::read(packet, header.data_at)?;
            if self.cnames.len() < DNS_RECORDS_MAX {
                self.cnames.push((header.owner, header.ttl, to));
            }
        } else if header.kind == type_code(kind) {
            let record = read_record(packet, &header, kind)?;
            // Most TXT records do not concern a relay, and those that do may follow them.
            let most = match kind {
                RecordKind::Txt => DNS_TEXTS_MAX,
                _ => DNS_RECORDS_MAX,
            };
            if let Some(record) = record
                && self.found.len() < most
            {
                self.found.push((header.owner, header.ttl, record));
            }
        }
        Ok(end)
    }

    /// Follows the aliases from `name` through the answer section. `None`: they form a loop.
    pub(super) fn follow(mut self, name: &Domain, links_max: usize) -> Option<Found> {
        let mut here = WireName::of(name);
        let mut ttl: Option<u32> = None;
        let mut links: usize = 0;
        while let Some((_, link_ttl, to)) = self.cnames.iter().find(|(owner, ..)| *owner == here) {
            links = links.saturating_add(1);
            if links > links_max {
                return None;
            }
            ttl = Some(ttl.map_or(*link_ttl, |ttl| ttl.min(*link_ttl)));
            here = to.clone();
        }
        self.found.retain(|(owner, ..)| *owner == here);
        for (_, record_ttl, _) in &self.found {
            ttl = Some(ttl.map_or(*record_ttl, |ttl| ttl.min(*record_ttl)));
        }
        let records = collect(self.found.into_iter().map(|(.., record)| record));
        Some(Found {
            links,
            ttl,
            name: here,
            records,
        })
    }
}

/// The part of a record before its data.
pub(super) struct Header {
    pub(super) owner: WireName,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    raw_ttl: u32,
    pub(super) data_at: usize,
    data_end: usize,
}

impl Header {
    /// Reads the record at `at`; returns it with the offset after it.
    pub(super) fn read(packet: &[u8], at: usize) -> Result<(Self, usize), Malformed> {
        let (owner, at) = WireName::read(packet, at)?;
        let field =
            |offset: usize| u16_at(packet, at.saturating_add(offset)).ok_or(Malformed::Short);
        let raw_ttl = u32::from(field(4)?) << 16 | u32::from(field(6)?);
        let data_at = at.saturating_add(10);
        let data_end = data_at.saturating_add(usize::from(field(8)?));
        if data_end > packet.len() {
            return Err(Malformed::Short);
        }
        let header = Self {
            owner,
            kind: field(0)?,
            class: field(2)?,
            // RFC 2181 section 8: with the upper bit set it counts as zero.
            ttl: i32::try_from(raw_ttl).map_or(0, i32::unsigned_abs),
            raw_ttl,
            data_at,
            data_end,
        };
        Ok((header, data_end))
    }

    pub(super) fn data<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.data_at..self.data_end).unwrap_or_default()
    }
}

/// Reads the data of a record of the requested kind. `None`: it is well-formed, but not usable here.
fn read_record(
    packet: &[u8],
    header: &Header,
    kind: RecordKind,
) -> Result<Option<Record>, Malformed> {
    let data = header.data(packet);
    let record = match kind {
        RecordKind::A => {
            let octets: [u8; 4] = data.try_into().map_err(|_| Malformed::Data)?;
            Record::A(octets.into())
        }
        RecordKind::Aaaa => {
            let octets: [u8; 16] = data.try_into().map_err(|_| Malformed::Data)?;
            Record::Aaaa(octets.into())
        }
        RecordKind::Mx => {
            let preference = u16_at(data, 0).ok_or(Malformed::Data)?;
            let name = name_in(packet, header, header.data_at.saturating_add(2))?;
            if name.is_root() {
                Record::Mx(Mx {
                    preference,
                    host: None,
                })
            } else if let Some(host) = name.to_domain() {
                Record::Mx(Mx {
                    preference,
                    host: Some(host),
                })
            } else {
                return Ok(None);
            }
        }
        RecordKind::Txt => Record::Txt(strings(data)?.concat()),
        RecordKind::Ptr => match name_in(packet, header, header.data_at)?.to_domain() {
            Some(name) => Record::Ptr(name),
            None => return Ok(None),
        },
        RecordKind::Tlsa => {
            let [usage, selector, matching, data @ ..] = data else {
                return Err(Malformed::Data);
            };
            Record::Tlsa(Tlsa {
                usage: *usage,
                selector: *selector,
                matching: *matching,
                data: data.to_vec(),
            })
        }
    };
    Ok(Some(record))
}

/// A name that must end where the record's data ends.
pub(super) fn name_in(packet: &[u8], header: &Header, at: usize) -> Result<WireName, Malformed> {
    let (name, end) = WireName::read(packet, at)?;
    if end == header.data_end {
        Ok(name)
    } else {
        Err(Malformed::Data)
    }
}

/// The character-strings of a TXT record.
pub(super) fn strings(mut data: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut strings = Vec::new();
    while let Some((&len, rest)) = data.split_first() {
        let (string, rest) = rest
            .split_at_checked(usize::from(len))
            .ok_or(Malformed::Data)?;
        strings.push(string);
        data = rest;
    }
    Ok(strings)
}

/// For how many seconds an SOA record allows to cache the absence of records (RFC 2308 section 5).
fn soa_ttl(packet: &[u8], header: &Header) -> Result<u32, Malformed> {
    let (_, at) = WireName::read(packet, header.data_at)?;
    let (_, at) = WireName::read(packet, at)?;
    let minimum_at = at.saturating_add(16);
    if minimum_at.saturating_add(4) != header.data_end {
        return Err(Malformed::Data);
    }
    let half = |at: usize| u16_at(packet, at).map(u32::from).ok_or(Malformed::Short);
    let minimum = half(minimum_at)? << 16 | half(minimum_at.saturating_add(2))?;
    Ok(header.ttl.min(minimum))
}

fn collect(records: impl Iterator<Item = Record>) -> Option<Records> {
    let mut all: Option<Records> = None;
    for record in records {
        match (&mut all, record) {
            (None, Record::A(one)) => all = Some(Records::A(vec![one])),
            (None, Record::Aaaa(one)) => all = Some(Records::Aaaa(vec![one])),
            (None, Record::Mx(one)) => all = Some(Records::Mx(vec![one])),
            (None, Record::Txt(one)) => all = Some(Records::Txt(vec![one])),
            (None, Record::Ptr(one)) => all = Some(Records::Ptr(vec![one])),
            (None, Record::Tlsa(one)) => all = Some(Records::Tlsa(vec![one])),
            (Some(Records::A(list)), Record::A(one)) => list.push(one),
            (Some(Records::Aaaa(list)), Record::Aaaa(one)) => list.push(one),
            (Some(Records::Mx(list)), Record::Mx(one)) => list.push(one),
            (Some(Records::Txt(list)), Record::Txt(one)) => list.push(one),
            (Some(Records::Ptr(list)), Record::Ptr(one)) => list.push(one),
            (Some(Records::Tlsa(list)), Record::Tlsa(one)) => list.push(one),
            (Some(_), _) => {} // one reply holds records of one kind only
        }
    }
    all
}

fn random_case(name: &str, entropy: &mut dyn Entropy) -> String {
    let mut coins = vec![0; name.len().div_ceil(8)];
    entropy.fill(&mut coins);
    name.char_indices()
        .map(|(at, c)| match coins.get(at / 8) {
            Some(byte) if byte >> (at % 8) & 1 == 1 => c.to_ascii_uppercase(),
            _ => c,
        })
        .collect()
}

/// Two octets as a number.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

const fn type_code(kind: RecordKind) -> u16 {
    match kind {
        RecordKind::A => 1,
        RecordKind::Ptr => 12,
        RecordKind::Mx => 15,
        RecordKind::Txt => 16,
        RecordKind::Aaaa => 28,
        RecordKind::Tlsa => 52,
    }
}

/// Response codes (RFC 1035 section 4.1.1, RFC 6891 section 9).
pub(super) const NOERROR: u16 = 0;
pub(super) const FORMERR: u16 = 1;
pub(super) const NXDOMAIN: u16 = 3;
pub(super) const NOTIMP: u16 = 4;
pub(super) const BADVERS: u16 = 16;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_AVAILABLE: u16 = 0x0080;
const AUTHENTIC: u16 = 0x0020;
const RCODE: u16 = 0x000F;
const IN: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT_TYPE: u16 = 41;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::SeededEntropy;

    fn ask(name: &str, kind: RecordKind) -> Vec<u8> {
        let name = Domain::parse(name).expect("a domain");
        query(&name, kind, Edns::On, &mut SeededEntropy::new(7)).expect("a query")
    }

    #[test]
    fn a_query_asks_for_recursion_with_edns_and_random_case() {
        let bytes = ask("mail.example.com", RecordKind::Mx);
        let packet = Packet::parse(&bytes).expect("a packet");
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::AUTHENTIC_DATA));
        assert_eq!(packet.opt().map(|opt| opt.udp_packet_size), Some(1232));
        let name = packet.questions[0].qname.to_string();
        assert_ne!(name, "mail.example.com");
        assert!(name.eq_ignore_ascii_case("mail.example.com"));
        assert_ne!(
            ask("a.example", RecordKind::Tlsa),
            ask("a.example", RecordKind::A)
        );
    }

    #[test]
    fn a_name_without_wire_form_makes_no_query() {
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(62),
        ]
        .join(".");
        for name in [long.as_str(), "[192.0.2.1]"] {
            let name = Domain::parse(name).expect("a domain");
            let written = query(&name, RecordKind::A, Edns::On, &mut SeededEntropy::new(1));
            assert_eq!(written, None);
        }
    }

    #[test]
    fn false_counts_are_malformed() {
        let mut packet = ask("example.com", RecordKind::A);
        packet[2] |= 0x80;
        for count in [6, 8, 10] {
            let mut packet = packet.clone();
            packet[count] = 0xFF;
            packet[count + 1] = 0xFF;
            let error = Reply::parse(&packet, RecordKind::A).expect_err("false count");
            assert_eq!(error, Malformed::Short);
        }
        packet[4] = 0xFF;
        assert!(Reply::parse(&packet, RecordKind::A).is_err());
    }

    #[test]
    fn data_that_does_not_fit_its_type_is_malformed() {
        let with_data = |kind: RecordKind, data: &[u8]| {
            let mut packet = ask("a.example", kind);
            packet.truncate(packet.len() - 11); // the OPT record
            packet[2] |= 0x80;
            packet[7] = 1;
            packet[11] = 0;
            packet.extend_from_slice(b"\xC0\x0C");
            packet.extend_from_slice(&type_code(kind).to_be_bytes());
            packet.extend_from_slice(b"\0\x01\0\0\0\x3C");
            packet.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
            packet.extend_from_slice(data);
            Reply::parse(&packet, kind).map(|reply| reply.found.len())
        };
        assert_eq!(with_data(RecordKind::A, &[192, 0, 2, 1]), Ok(1));
        assert_eq!(with_data(RecordKind::A, &[192, 0, 2]), Err(Malformed::Data));
        assert_eq!(with_data(RecordKind::Aaaa, &[0; 17]), Err(Malformed::Data));
        assert_eq!(with_data(RecordKind::Txt, b"\x05abc"), Err(Malformed::Data));
        assert_eq!(with_data(RecordKind::Txt, b"\x03abc\x01d"), Ok(1));
        assert_eq!(
            with_data(RecordKind::Tlsa, b"\x03\x01"),
            Err(Malformed::Data)
        );
        assert_eq!(with_data(RecordKind::Tlsa, b"\x03\x01\x01\xAB"), Ok(1));
        assert_eq!(with_data(RecordKind::Mx, b"\0\x0A\0"), Ok(1));
        assert_eq!(
            with_data(RecordKind::Mx, b"\0\x0A\0\0"),
            Err(Malformed::Data)
        );
        assert_eq!(with_data(RecordKind::Mx, b"\0"), Err(Malformed::Data));
        assert_eq!(
            with_data(RecordKind::Mx, b"\0\x0A\xC0\xFF"),
            Err(Malformed::Name)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for kind in [RecordKind::A, RecordKind::Mx, RecordKind::Txt, RecordKind::Tlsa] {
                let query = ask("example.com", kind);
                let _ = match_reply(&query, &bytes);
                if let Ok(reply) = Reply::parse(&bytes, kind) {
                    let _ = reply.follow(&Domain::parse("example.com").expect("a domain"), 8);
                }
            }
        }

        #[test]
        fn flipped_bytes_are_read_or_refused(at in 0_usize..60, value: u8, cut in 0_usize..80) {
            let mut packet = ask("example.com", RecordKind::Mx);
            packet[2] |= 0x80;
            packet[7] = 1;
            packet.extend_from_slice(b"\xC0\x0C\0\x0F\0\x01\0\0\0\x3C\0\x09\0\x0A\x04mail\xC0\x0C");
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
            packet.truncate(cut.max(packet.len().saturating_sub(40)));
            if let Ok(reply) = Reply::parse(&packet, RecordKind::Mx) {
                let _ = reply.follow(&Domain::parse("example.com").expect("a domain"), 8);
            }
        }
    }
}
