//! The PROXY protocol, versions 1 and 2 (HAProxy's specification, proxy-protocol.txt, sections 2.1 and 2.2): a proxy
//! sends the address of its client in front of everything else.
//!
//! Stricter than section 2.1: one space between the words, no leading zeros, and only addresses in their standard form.
//! Not supported from section 2.2, and refused: datagrams and Unix sockets, which never carry mail. The parser checks
//! the lengths of all values (TLVs) and the checksum, if there is one; it uses no value. Invariant: no byte after the
//! header is consumed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_LINE_BYTES_MAX};

/// The client behind the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The client that the proxy names.
    Client {
        /// The address of the client.
        remote: SocketAddr,
        /// The address that the client connected to.
        local: SocketAddr,
    },
    /// The proxy itself (a health check), or a client that it cannot name: the address of the connection is used.
    Proxy,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyError {
    /// It begins with neither signature.
    Signature,
    /// It is longer than its version or our limit allows.
    TooLong,
    /// The line of version 1 is malformed.
    Line,
    /// A version that does not exist.
    Version,
    /// A command that does not exist.
    Command,
    /// A family or transport that does not carry mail.
    Family,
    /// The addresses are longer than the header says.
    Addresses,
    /// A value is longer than the header says, or has the wrong length for its type.
    Value,
    /// The checksum is wrong.
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Signature => "no PROXY header",
            Self::TooLong => "the PROXY header is too long",
            Self::Line => "the PROXY line is malformed",
            Self::Version => "the PROXY version is unknown",
            Self::Command => "the PROXY command is unknown",
            Self::Family => "the PROXY header is not about a TCP connection",
            Self::Addresses => "the PROXY header is too short for its addresses",
            Self::Value => "a value of the PROXY header has a wrong length",
            Self::Checksum => "the checksum of the PROXY header is wrong",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads a header that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub struct HeaderReader {
    taken: Vec<u8>,
}

impl HeaderReader {
    /// Takes bytes off the front of `input` until the header is complete.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Origin>, ProxyError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.taken.push(byte);
            if let Some(origin) = self.look()? {
                return Ok(Some(origin));
            }
        }
        Ok(None)
    }

    /// Parses the bytes so far; refuses at once what can no longer become a header.
    fn look(&self) -> Result<Option<Origin>, ProxyError> {
        let taken = self.taken.as_slice();
        if begins(taken, LINE_START) {
            if let Some(line) = taken.strip_suffix(b"\r\n") {
                return line_origin(line).map(Some);
            }
            return match taken.len() < PROXY_LINE_BYTES_MAX {
                true => Ok(None),
                false => Err(ProxyError::TooLong),
            };
        }
        if !begins(taken, SIGNATURE) {
            return Err(ProxyError::Signature);
        }
        let Some((head, block)) = taken.split_at_checked(HEAD_BYTES) else {
            return Ok(None);
        };
        let [.., command, family, high, low] = head else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if HEAD_BYTES.saturating_add(len) > PROXY_HEADER_BYTES_MAX {
            return Err(ProxyError::TooLong);
        }
        if block.len() < len {
            return Ok(None);
        }
        self.block_origin(*command, *family, block).map(Some)
    }

    /// Section 2.2, behind the signature.
    /// Decides PROXY protocol section 2.2.
    fn block_origin(&self, command: u8, family: u8, block: &[u8]) -> Result<Origin, ProxyError> {
        if command >> 4 != 2 {
            return Err(ProxyError::Version);
        }
        match command & 0xF {
            0 => return Ok(Origin::Proxy), // LOCAL: the rest is to be skipped, whatever it is
            1 => {}
            _ => return Err(ProxyError::Command),
        }
        let (origin, values) = match family {
            0x00 => (Origin::Proxy, block),
            0x11 => {
                let (from, rest) = octets::<4>(block)?;
                let (to, rest) = octets::<4>(rest)?;
                ends(Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), rest)?
            }
            0x21 => {
                let (from, rest) = octets::<16>(block)?;
                let (to, rest) = octets::<16>(rest)?;
                ends(Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), rest)?
            }
            _ => return Err(ProxyError::Family),
        };
        self.check_values(values)?;
        Ok(origin)
    }

    /// Checks the values after the addresses, including the checksum.
    /// Decides PROXY protocol section 2.2.3.
    fn check_values(&self, values: &[u8]) -> Result<(), ProxyError> {
        let mut rest = values;
        let mut sum = None;
        while !rest.is_empty() {
            let (kind, value, behind) = split_value(rest)?;
            match kind {
                TYPE_CHECKSUM => {
                    let told = value.try_into().map_err(|_| ProxyError::Value)?;
                    let at = self
                        .taken
                        .len()
                        .saturating_sub(behind.len())
                        .saturating_sub(value.len());
                    if sum.replace((u32::from_be_bytes(told), at)).is_some() {
                        return Err(ProxyError::Value);
                    }
                }
                TYPE_TLS => {
                    let mut inner = value.get(TLS_BYTES..).ok_or(ProxyError::Value)?;
                    while !inner.is_empty() {
                        (_, _, inner) = split_value(inner)?;
                    }
                }
                _ => {}
            }
            rest = behind;
        }
        match sum {
            Some((told, at)) if told != checksum(&self.taken, at) => Err(ProxyError::Checksum),
            _ => Ok(()),
        }
    }
}

/// Whether one of the two is a prefix of the other.
fn begins(taken: &[u8], start: &[u8]) -> bool {
    taken.iter().zip(start).all(|(one, other)| one == other)
}

/// Section 2.1, without the line end.
/// Decides PROXY protocol section 2.1.
fn line_origin(line: &[u8]) -> Result<Origin, ProxyError> {
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Origin::Proxy); // whatever follows is to be ignored
    }
    let words: Vec<&str> = words.collect();
    let [from, to, from_port, to_port] = words.as_slice() else {
        return Err(ProxyError::Line);
    };
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            Some("TCP4") => text.parse().map(IpAddr::V4).map_err(|_| ProxyError::Line),
            Some("TCP6") => text.parse().map(IpAddr::V6).map_err(|_| ProxyError::Line),
            _ => Err(ProxyError::Line),
        }
    };
    Ok(Origin::Client {
        remote: SocketAddr::new(address(from)?.to_canonical(), port(from_port)?),
        local: SocketAddr::new(address(to)?.to_canonical(), port(to_port)?),
    })
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(ProxyError::Line)
}

fn octets<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), ProxyError> {
    let (front, rest) = bytes.split_first_chunk().ok_or(ProxyError::Addresses)?;
    Ok((*front, rest))
}

/// The addresses and ports of both ends of a connection, and the remaining bytes.
fn ends(from: IpAddr, to: IpAddr, rest: &[u8]) -> Result<(Origin, &[u8]), ProxyError> {
    let (from_port, rest) = octets::<2>(rest)?;
    let (to_port, rest) = octets::<2>(rest)?;
    let origin = Origin::Client {
        remote: SocketAddr::new(from.to_canonical(), u16::from_be_bytes(from_port)),
        local: SocketAddr::new(to.to_canonical(), u16::from_be_bytes(to_port)),
    };
    Ok((origin, rest))
}

/// The type and the bytes of the first value, and the rest.
fn split_value(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), ProxyError> {
    let ([kind, high, low], rest) = bytes.split_first_chunk().ok_or(ProxyError::Value)?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, behind) = rest.split_at_checked(len).ok_or(ProxyError::Value)?;
    Ok((*kind, value, behind))
}

/// CRC-32C (RFC 9260 appendix A) of the header, with its own four bytes at `at` taken as zero. It uses no table,
/// because a header is short and occurs once per connection.
fn checksum(header: &[u8], at: usize) -> u32 {
    let mut sum = u32::MAX;
    for (index, byte) in header.iter().enumerate() {
        let own = index.checked_sub(at).is_some_and(|within| within < 4);
        sum ^= if own { 0 } else { u32::from(*byte) };
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !sum
}

/// The signature of version 1.
const LINE_START: &[u8] = b"PROXY ";
/// The signature of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of the signature, command, family and length.
const HEAD_BYTES: usize = 16;
/// The type of the checksum (section 2.2.3).
const TYPE_CHECKSUM: u8 = 0x03;
/// The type for TLS data (section 2.2.5): a few bytes, then further values.
const TYPE_TLS: u8 = 0x20;
/// The number of those bytes.
const TLS_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Origin>, ProxyError> {
        HeaderReader::default().read(&mut &bytes[..])
    }

    fn client(remote: &str, local: &str) -> Result<Option<Origin>, ProxyError> {
        Ok(Some(Origin::Client {
            remote: remote.parse().expect("an address"),
            local: local.parse().expect("an address"),
        }))
    }

    /// A header of version 2.
    fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family], &len, block].concat()
    }

    const FOUR: &[u8] = &[192, 0, 2, 7, 203, 0, 113, 1, 0x9C, 0x40, 0, 25];

    /// A header with addresses, these values and a checksum behind them.
    fn summed(values: &[u8]) -> Vec<u8> {
        let block = [FOUR, values, &[TYPE_CHECKSUM, 0, 4, 0, 0, 0, 0]].concat();
        let mut bytes = header(0x21, 0x11, &block);
        let at = bytes.len() - 4;
        let sum = checksum(&bytes, at).to_be_bytes();
        bytes[at..].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn the_line_names_the_client() {
        assert_eq!(
            read(b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\nEHLO x\r\n"),
            client("192.0.2.7:40000", "203.0.113.1:25")
        );
        assert_eq!(
            read(b"PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n"),
            client("[2001:db8::7]:0", "[2001:db8::1]:65535")
        );
        assert_eq!(
            read(b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:203.0.113.1 1 2\r\n"),
            client("192.0.2.7:1", "203.0.113.1:2")
        );
        for unknown in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        ] {
            assert_eq!(read(unknown), Ok(Some(Origin::Proxy)));
        }
    }

    #[test]
    fn a_line_that_is_not_exactly_right_is_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 40000\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 40000 25 \r\n",
            "PROXY TCP4  192.0.2.7 203.0.113.1 40000 25\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 40000 +25\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 040 25\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 65536 25\r\n",
            "PROXY TCP4 192.0.2.07 203.0.113.1 40000 25\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 203.0.113.1 1 2\r\n",
            "PROXY tcp4 192.0.2.7 203.0.113.1 40000 25\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\n\r\n",
            "PROXY UDP4 192.0.2.7 203.0.113.1 40000 25\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(ProxyError::Line), "{line:?}");
        }
        for other in [
            &b"EHLO x\r\n"[..],
            b"PROXY\r\n",
            b"\r\nEHLO",
            b"\x16\x03\x01",
        ] {
            assert_eq!(read(other), Err(ProxyError::Signature), "{other:?}");
        }
    }

    #[test]
    fn a_line_has_107_bytes_at_most() {
        let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        assert_eq!(read(line(107).as_bytes()), Ok(Some(Origin::Proxy)));
        assert_eq!(read(line(108).as_bytes()), Err(ProxyError::TooLong));
    }

    #[test]
    fn the_binary_form_names_the_client() {
        assert_eq!(
            read(&header(0x21, 0x11, FOUR)),
            client("192.0.2.7:40000", "203.0.113.1:25")
        );
        let six = [
            &[0x20, 1, 0xD, 0xB8][..],
            &[0; 12],
            &[0xFE; 16],
            &[0, 9, 0, 25],
        ]
        .concat();
        assert_eq!(
            read(&header(0x21, 0x21, &six)),
            client(
                "[2001:db8::]:9",
                "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:25"
            )
        );
    }

    #[test]
    fn a_health_check_and_an_unknown_client_keep_the_address_of_the_connection() {
        for bytes in [
            header(0x20, 0x00, b""),
            header(0x20, 0x11, FOUR),
            header(0x20, 0x77, b"anything"),
            header(0x21, 0x00, b""),
        ] {
            assert_eq!(read(&bytes), Ok(Some(Origin::Proxy)), "{bytes:?}");
        }
    }

    #[test]
    fn a_binary_header_that_lies_is_refused() {
        for (bytes, error) in [
            (header(0x11, 0x11, FOUR), ProxyError::Version),
            (header(0x22, 0x11, FOUR), ProxyError::Command),
            (header(0x21, 0x12, FOUR), ProxyError::Family),
            (header(0x21, 0x31, &[0; 216]), ProxyError::Family),
            (header(0x21, 0x41, FOUR), ProxyError::Family),
            (header(0x21, 0x11, &FOUR[..11]), ProxyError::Addresses),
            (header(0x21, 0x21, FOUR), ProxyError::Addresses),
            (
                header(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX - 15]),
                ProxyError::TooLong,
            ),
        ] {
            assert_eq!(read(&bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn values_are_walked_to_their_end() {
        let with = |values: &[u8]| read(&header(0x21, 0x11, &[FOUR, values].concat()));
        for good in [
            &[0x04, 0, 0][..],
            &[0x02, 0, 2, b'a', b'b', 0xEE, 0, 1, 7],
            &[0x20, 0, 9, 1, 0, 0, 0, 0, 0x21, 0, 1, b'x'],
            &[0x20, 0, 5, 1, 0, 0, 0, 0],
        ] {
            assert!(with(good).is_ok(), "{good:?}");
        }
        for bad in [
            &[0x04][..],
            &[0x04, 0],
            &[0x04, 0, 1],
            &[0x02, 0, 2, b'a', b'b', 0xEE],
            &[0x20, 0, 4, 1, 0, 0, 0],
            &[0x20, 0, 9, 1, 0, 0, 0, 0, 0x21, 0, 2, b'x'],
            &[0x03, 0, 3, 1, 2, 3],
        ] {
            assert_eq!(with(bad), Err(ProxyError::Value), "{bad:?}");
        }
    }

    #[test]
    fn the_checksum_must_be_right() {
        // RFC 3720 appendix B.4.
        assert_eq!(checksum(&[0; 32], 32), 0x8A91_36AA);
        assert_eq!(checksum(&[0xFF; 32], 32), 0x62A8_AB43);
        let good = summed(&[0x02, 0, 1, b'a']);
        assert_eq!(read(&good), client("192.0.2.7:40000", "203.0.113.1:25"));
        for at in (HEAD_BYTES..good.len()).filter(|at| good.len() - at != 7) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(read(&bad).is_err(), "byte {at}");
        }
        let again = [TYPE_CHECKSUM, 0, 4, 0, 0, 0, 0];
        assert_eq!(read(&summed(&again)), Err(ProxyError::Value));
    }

    #[test]
    fn nothing_behind_the_header_is_taken() {
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), summed(&[])] {
            let bytes = [header.as_slice(), b"QUIT\r\n"].concat();
            let mut input = bytes.as_slice();
            let origin = HeaderReader::default().read(&mut input).expect("a header");
            assert!(origin.is_some() && input == b"QUIT\r\n");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_read_like_the_whole(
            command in prop::sample::select(vec![0x20_u8, 0x21, 0x22, 0x11]),
            family in prop::sample::select(vec![0_u8, 0x11, 0x21, 0x31]),
            block in prop::collection::vec(any::<u8>(), 0..60),
            piece in 1_usize..9,
        ) {
            let bytes = header(command, family, &block);
            let whole = read(&bytes);
            let mut reader = HeaderReader::default();
            let mut found = Ok(None);
            for mut part in bytes.chunks(piece) {
                found = reader.read(&mut part);
                if found != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"PROXY ", bytes.as_slice()].concat());
            let _ = read(&header(0x21, 0x11, &bytes));
        }
    }
}
