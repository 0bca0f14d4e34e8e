//! Names on the wire (RFC 1035 section 3.1, compression section 4.1.4).
//!
//! Invariant: a pointer must lead backwards, so no packet can make the parser loop.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::address::Domain;
use crate::limits::{DNS_NAME_BYTES_MAX, DNS_NAME_POINTERS_MAX, LABEL_BYTES_MAX};

/// A name from a packet, in lower case. Bytes that cannot occur in a host name are written as `\DDD` (RFC 1035 section
/// 5.1), so that a chain can pass through a name that is not a [`Domain`] (RFC 2317 creates such names).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct WireName(String);

/// Why bytes are not a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NameError {
    /// The packet ends within the name.
    Short,
    /// A pointer that does not lead backwards, or too many of them.
    Pointer,
    /// A label type that is neither a length nor a pointer (RFC 6891 section 5 retired the others).
    Label,
    /// Over 255 bytes.
    TooLong,
}

impl WireName {
    /// The name of a question.
    pub(super) fn of(domain: &Domain) -> Self {
        let mut text = String::new();
        for label in domain.as_str().split('.') {
            push_label(&mut text, label.as_bytes());
        }
        Self(text)
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The name as a host name, if it is one.
    pub(super) fn to_domain(&self) -> Option<Domain> {
        Domain::parse(&self.0)
            .ok()
            .filter(|name| !name.is_literal())
    }

    /// Reads the name at `at`; returns it with the offset after it.
    pub(super) fn read(packet: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut text = String::new();
        let mut len: usize = 1; // the root's octet
        let mut pointers: usize = 0;
        let mut behind = None;
        let mut from = at; // where the present run of labels began
        let mut at = at;
        loop {
            let octet = usize::from(*packet.get(at).ok_or(NameError::Short)?);
            match octet {
                0 => {
                    let end = behind.unwrap_or(at.saturating_add(1));
                    return Ok((Self(text), end));
                }
                1..=LABEL_BYTES_MAX => {
                    let start = at.saturating_add(1);
                    let end = start.saturating_add(octet);
                    let label = packet.get(start..end).ok_or(NameError::Short)?;
                    len = len.saturating_add(octet).saturating_add(1);
                    if len > DNS_NAME_BYTES_MAX {
                        return Err(NameError::TooLong);
                    }
                    push_label(&mut text, label);
                    at = end;
                }
                0xC0.. => {
                    let low = *packet.get(at.saturating_add(1)).ok_or(NameError::Short)?;
                    let to = (octet & 0x3F) << 8 | usize::from(low);
                    pointers = pointers.saturating_add(1);
                    if to >= from || pointers > DNS_NAME_POINTERS_MAX {
                        return Err(NameError::Pointer);
                    }
                    behind = behind.or(Some(at.saturating_add(2)));
                    from = to;
                    at = to;
                }
                _ => return Err(NameError::Label),
            }
        }
    }
}

/// The reverse name of an address: `1.2.0.192.in-addr.arpa` (RFC 1035 section 3.5), or nibbles under `ip6.arpa` (RFC
/// 3596 section 2.5). An IPv4-mapped IPv6 address has the reverse name of its IPv4 address.
#[expect(
    clippy::expect_used,
    reason = "digits, hexadecimal nibbles and arpa are valid labels, 72 bytes at most"
)]
pub fn reverse_name(address: IpAddr) -> Domain {
    let mut text = String::with_capacity(72);
    let suffix = match address.to_canonical() {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{octet}."); // a String takes everything
            }
            "in-addr.arpa"
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{:x}.{:x}.", octet & 0xF, octet >> 4);
            }
            "ip6.arpa"
        }
    };
    text.push_str(suffix);
    Domain::parse(&text).expect("a reverse name")
}

fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for &byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            b'A'..=b'Z' => text.push(char::from(byte.to_ascii_lowercase())),
            byte => {
                let _ = write!(text, "\\{byte:03}"); // a String takes everything
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packet: &[u8], at: usize) -> Result<(String, usize), NameError> {
        WireName::read(packet, at).map(|(name, end)| (name.0, end))
    }

    #[test]
    fn follows_pointers_backwards() {
        let packet = b"\x07example\x03com\0\x04Mail\xC0\0";
        assert_eq!(read(packet, 0), Ok(("example.com".to_owned(), 13)));
        assert_eq!(read(packet, 13), Ok(("mail.example.com".to_owned(), 20)));
        assert_eq!(read(b"\0", 0), Ok((String::new(), 1)));
    }

    #[test]
    fn refuses_loops_and_forward_pointers() {
        assert_eq!(read(b"\xC0\0", 0), Err(NameError::Pointer));
        assert_eq!(read(b"\x01a\xC0\0", 0), Err(NameError::Pointer));
        assert_eq!(read(b"\x01a\xC0\x04\x01b\0", 0), Err(NameError::Pointer));
        // Two that lead to each other.
        assert_eq!(read(b"\xC0\x02\xC0\0", 2), Err(NameError::Pointer));
        let mut ladder = vec![0, 0];
        for step in 0..200_u16 {
            ladder.extend_from_slice(&(0xC000 | (step * 2)).to_be_bytes());
        }
        assert_eq!(read(&ladder, 400), Err(NameError::Pointer));
    }

    #[test]
    fn refuses_names_that_are_long_cut_or_of_another_label_type() {
        let mut long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(4);
        long.push(0);
        assert_eq!(read(&long, 0), Err(NameError::TooLong));
        assert_eq!(read(b"\x05abc", 0), Err(NameError::Short));
        assert_eq!(read(b"\x01a", 0), Err(NameError::Short));
        assert_eq!(read(b"\x01a\0\xC0", 3), Err(NameError::Short));
        assert_eq!(read(b"", 9), Err(NameError::Short));
        assert_eq!(read(b"\x41abc", 0), Err(NameError::Label));
    }

    #[test]
    fn a_name_that_is_no_host_name_can_still_be_compared() {
        let (name, _) = WireName::read(b"\x040/25\x04arpa\0", 0).expect("a name");
        assert_eq!(name.0, "0\\04725.arpa");
        assert_eq!(name.to_domain(), None);
    }

    #[test]
    fn writes_reverse_names() {
        let name = |text: &str| reverse_name(text.parse().expect("an address")).to_string();
        assert_eq!(name("192.0.2.10"), "10.2.0.192.in-addr.arpa");
        assert_eq!(name("::ffff:192.0.2.10"), "10.2.0.192.in-addr.arpa");
        assert_eq!(
            name("2001:db8::567:89ab"),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
