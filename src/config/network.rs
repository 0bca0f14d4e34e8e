//! IP networks in the notation of RFC 4632 section 3.1 and RFC 4291 section 2.3.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: all addresses that share a prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Some networks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks(pub(super) Vec<Network>);

impl Networks {
    /// Whether one of the networks contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NetworkError {
    Form,
    /// It has bits behind the prefix; this is the network that contains it.
    HostBits(Network),
}

impl Network {
    /// Reads `192.0.2.0/24`; a single address is a network of its own.
    pub(super) fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or(NetworkError::Form)?,
        };
        // A mapped network becomes the IPv4 network (RFC 4291 section 2.5.5.2), because addresses are compared in that
        // form.
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(MAPPED_BITS)) {
            (mapped @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => (mapped, prefix),
            _ => (address, prefix),
        };
        let network = Self::of(address, prefix);
        if network.first == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits(network))
        }
    }

    /// The network of this prefix length that contains an address.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        let first = match address {
            IpAddr::V4(address) => {
                let behind = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & !behind).into()
            }
            IpAddr::V6(address) => {
                let behind = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & !behind).into()
            }
        };
        Self { first, prefix }
    }

    /// Whether it has all addresses of its kind.
    pub(super) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Whether the network contains the address; an IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::of(address, self.prefix) == *self
    }
}

impl Networks {
    /// The first of these that overlaps another network.
    pub(super) fn sharing(&self, other: &Network) -> Option<Network> {
        let shares = |one: &&Network| one.contains(other.first) || other.contains(one.first);
        self.0.iter().find(shares).copied()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.first, self.prefix)
    }
}

/// Bits before the address that is mapped.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network)
            .expect("a network")
            .contains(address.parse().expect("an address"))
    }

    #[test]
    fn holds_what_shares_the_prefix() {
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.7"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("::/0", "::1") && contains("::1/128", "::1"));
    }

    #[test]
    fn a_mapped_network_is_what_it_maps() {
        assert!(contains("::ffff:192.0.2.0/120", "192.0.2.7"));
        assert!(contains("::ffff:127.0.0.1", "127.0.0.1"));
        assert!(contains("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!contains("::ffff:192.0.2.0/120", "192.0.3.7"));
        let shown = Network::parse("::ffff:10.0.0.0/104").map(|network| network.to_string());
        assert_eq!(shown, Ok("10.0.0.0/8".to_owned()));
    }

    #[test]
    fn networks_that_share_an_address_are_found() {
        let networks = |list: &[&str]| {
            Networks(
                list.iter()
                    .map(|text| Network::parse(text).expect("a network"))
                    .collect(),
            )
        };
        let relay = networks(&["192.0.2.0/24", "10.0.0.0/8", "2001:db8::1"]);
        let shared = |proxy: &str| {
            let found = relay.sharing(&Network::parse(proxy).expect("a network"));
            found.map(|network| network.to_string())
        };
        assert_eq!((shared("198.51.100.1"), shared("192.0.3.1")), (None, None));
        assert_eq!(shared("10.1.2.3").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(shared("::/0").as_deref(), Some("2001:db8::1/128"));
    }

    #[test]
    fn refuses_what_is_none_and_names_what_was_meant() {
        for bad in [
            "",
            "192.0.2.0/33",
            "192.0.2/24",
            "example.com",
            "::/129",
            "192.0.2.0/",
        ] {
            assert_eq!(Network::parse(bad), Err(NetworkError::Form), "{bad:?}");
        }
        let Err(NetworkError::HostBits(meant)) = Network::parse("192.0.2.7/24") else {
            panic!("taken");
        };
        assert_eq!(meant.to_string(), "192.0.2.0/24");
    }
}
