//! The source addresses of the machine's mail, as the machine itself knows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::{AddressFamily, Config};

/// The source addresses of mail, IPv4 first: those that `[delivery]` binds, otherwise those that the system uses for a
/// packet to the Internet. No packet is sent. A family without a route has none.
pub fn source_addresses(config: &Config) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    if config.delivery.ip != AddressFamily::Ipv6 {
        let bound = config.delivery.bind4.map(IpAddr::V4);
        addresses.extend(bound.or_else(|| source(FAR_V4, Ipv4Addr::UNSPECIFIED.into())));
    }
    if config.delivery.ip != AddressFamily::Ipv4 {
        let bound = config.delivery.bind6.map(IpAddr::V6);
        addresses.extend(bound.or_else(|| source(FAR_V6, Ipv6Addr::UNSPECIFIED.into())));
    }
    addresses
}

/// The source address of a packet to the Internet by IPv4 or IPv6, whatever the configuration says.
pub fn routed(is_v4: bool) -> Option<IpAddr> {
    match is_v4 {
        true => source(FAR_V4, Ipv4Addr::UNSPECIFIED.into()),
        false => source(FAR_V6, Ipv6Addr::UNSPECIFIED.into()),
    }
}

/// The source address that the system gives a socket to `far`.
fn source(far: IpAddr, any: IpAddr) -> Option<IpAddr> {
    let udp = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    udp.connect(SocketAddr::new(far, FAR_PORT)).ok()?;
    let address = udp.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Whether other hosts can reach an address: not private, local to the machine, or unassigned.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second); // RFC 6598
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || is_shared
                || first == 0)
        }
        IpAddr::V6(address) => {
            let first = address.segments().first().copied().unwrap_or_default();
            let is_local = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
            !(is_local
                || address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast())
        }
    }
}

/// An address of a.root-servers.net: a destination of the default route.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30));
const FAR_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_reach_are_told_from_those_that_stay_at_home() {
        for (text, expected) in [
            ("198.51.100.7", true),
            ("2001:db8::7", true),
            ("10.0.0.1", false),
            ("100.64.1.1", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("::ffff:10.0.0.1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(
                is_public(text.parse().expect("an address")),
                expected,
                "{text}"
            );
        }
    }
}
