//! The clients that may relay by Postfix's `mynetworks`, as far as chopar can express it: networks without exceptions.
//!
//! Invariant: a client that may not relay there may not relay here. A network with an exception in it, or with one that
//! cannot be resolved, is not taken.

use std::net::IpAddr;

/// The result for an item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is this network.
    Taken(String),
    /// It is none, such as a table.
    Left,
    /// It is an exception, `!` and a network.
    Exception,
    /// It may have that exception in it, or be in it.
    Excepted(String),
    /// It takes in much of the Internet.
    TooWide,
}

/// Judges each item, in order.
pub(super) fn judge(items: &[&str]) -> Vec<Verdict> {
    let exceptions: Vec<(&str, Option<Block>)> = items
        .iter()
        .filter_map(|item| Some((*item, Block::parse(item.strip_prefix('!')?))))
        .collect();
    let one = |item: &&str| {
        if item.starts_with('!') {
            return Verdict::Exception;
        }
        let (Some(network), Some(block)) = (network(item), Block::parse(item)) else {
            return Verdict::Left;
        };
        if block.is_too_wide() {
            return Verdict::TooWide;
        }
        let mut touching = exceptions
            .iter()
            .filter(|(_, exception)| exception.is_none_or(|exception| block.touches(exception)));
        match touching.next() {
            Some((exception, _)) => Verdict::Excepted((*exception).to_owned()),
            None => Verdict::Taken(network),
        }
    };
    items.iter().map(one).collect()
}

/// Addresses with the same prefix, those of IPv4 in their IPv6 form (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy)]
struct Block {
    bits: u128,
    prefix: u8,
}

impl Block {
    fn parse(item: &str) -> Option<Self> {
        let (address, prefix) = parts(item)?;
        let (bits, before) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), IPV4.prefix),
            IpAddr::V6(address) => (address.to_bits(), 0),
        };
        let prefix = prefix.map_or(128, |prefix| prefix.saturating_add(before));
        (prefix <= 128).then_some(Self { bits, prefix })
    }

    /// Whether an address is in both: one is in the other.
    fn touches(self, other: Self) -> bool {
        let differing = 128_u32.saturating_sub(self.prefix.min(other.prefix).into());
        let front = |bits: u128| bits.checked_shr(differing).unwrap_or(0);
        front(self.bits) == front(other.bits)
    }

    fn is_too_wide(self) -> bool {
        match (IPV4.prefix <= self.prefix, self.touches(IPV4)) {
            (true, true) => self.prefix < IPV4.prefix.saturating_add(IPV4_PREFIX_MIN),
            (false, true) => true,
            (_, false) => self.prefix < IPV6_PREFIX_MIN,
        }
    }
}

fn parts(item: &str) -> Option<(IpAddr, Option<u8>)> {
    let plain = plain(item)?;
    let (address, prefix) = match plain.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (plain.as_str(), None),
    };
    Some((address.parse().ok()?, prefix))
}

/// Without brackets.
fn plain(item: &str) -> Option<String> {
    match item.strip_prefix('[') {
        Some(rest) => {
            let (address, prefix) = rest.split_once(']')?;
            Some(format!("{address}{prefix}"))
        }
        None => Some(item.to_owned()),
    }
}

/// A network as chopar writes it.
fn network(item: &str) -> Option<String> {
    let (address, prefix) = parts(item)?;
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    if prefix.is_some_and(|prefix| prefix > most) {
        return None;
    }
    let bits = |prefix: u8| {
        let address = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        address.checked_shl(u32::from(prefix)).unwrap_or(0) == 0
    };
    prefix.is_none_or(bits).then(|| plain(item)).flatten()
}

/// The addresses of IPv4.
const IPV4: Block = Block {
    bits: 0xffff << 32,
    prefix: 96,
};
/// No organization has a network wider than 10.0.0.0/8.
const IPV4_PREFIX_MIN: u8 = 8;
/// Nor is it wider than fc00::/7.
const IPV6_PREFIX_MIN: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_is_taken_with_an_exception_in_it_or_with_the_internet() {
        let taken = |items: &str| -> Vec<String> {
            let items: Vec<&str> = items.split(' ').collect();
            let verdicts = judge(&items).into_iter();
            verdicts
                .filter_map(|verdict| match verdict {
                    Verdict::Taken(network) => Some(network),
                    _ => None,
                })
                .collect()
        };
        for (items, expected) in [
            (
                "127.0.0.0/8 [::1]/128 10.0.0.0/8 fc00::/7",
                "127.0.0.0/8 ::1/128 10.0.0.0/8 fc00::/7",
            ),
            ("127.0.0.0/8 192.0.2.0/24 !192.0.2.7", "127.0.0.0/8"),
            ("!192.0.2.7/32 192.0.2.0/24 192.0.3.0/24", "192.0.3.0/24"),
            ("!10.0.0.0/8 10.1.0.0/16 127.0.0.1", "127.0.0.1"),
            ("!192.0.2.7 [::ffff:192.0.2.0]/120 192.0.3.1", "192.0.3.1"),
            (
                "![2001:db8::7] [2001:db8::]/32 192.0.2.0/24",
                "192.0.2.0/24",
            ),
            ("127.0.0.0/8 !hash:/etc/postfix/not", ""),
            ("127.0.0.0/8 ! 192.0.2.7", ""),
            (
                "0.0.0.0/0 [::]/0 [::ffff:0.0.0.0]/96 0.0.0.0/1 128.0.0.0/1 [2000::]/3 127.0.0.1",
                "127.0.0.1",
            ),
            ("192.0.2.1/24 hash:/x 192.0.2.0/33", ""),
        ] {
            let expected: Vec<&str> = expected
                .split(' ')
                .filter(|item| !item.is_empty())
                .collect();
            assert_eq!(taken(items), expected, "{items}");
        }
        let verdicts = judge(&["192.0.2.0/24", "!192.0.2.7", "0.0.0.0/0"]);
        let excepted = Verdict::Excepted("!192.0.2.7".to_owned());
        assert_eq!(verdicts, [excepted, Verdict::Exception, Verdict::TooWide]);
    }
}
