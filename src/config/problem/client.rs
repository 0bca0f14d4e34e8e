//! Errors of the addresses that clients connect to, and of the networks that may.

use std::fmt;

use crate::limits::DNSBL_ZONES_MAX;

/// An error of a listener, a network or a list of clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientProblem {
    SocketAddress {
        text: String,
    },
    /// Neither a list of addresses nor `systemd`.
    ListenWord {
        text: String,
    },
    /// The port is closed to IPv4 (a warning).
    Ipv6Only {
        /// The address to add.
        address: String,
    },
    Network {
        text: String,
    },
    /// A network with bits behind its prefix.
    NetworkHostBits {
        /// The network that contains it.
        network: String,
    },
    /// All of the Internet may relay (a warning).
    OpenRelay {
        network: String,
    },
    /// Proxies whose own addresses may relay.
    TrustedProxy {
        /// The proxies.
        proxy: String,
        /// The network that holds them.
        network: String,
    },
    /// A port for proxies, and no proxies.
    NoProxies,
    /// More lists of bad addresses than are asked.
    Zones,
    /// No answer of a list of bad addresses.
    ListReply {
        text: String,
    },
    /// No client could retry in time.
    GreylistWindow,
}

impl fmt::Display for ClientProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SocketAddress { text } => write!(
                out,
                "{text:?} is not an address with a port; write it like \"0.0.0.0:25\" or \"[::]:25\""
            ),
            Self::ListenWord { text } => write!(
                out,
                "{text:?} is neither a list of addresses nor \"systemd\"; write it like [\"0.0.0.0:25\"]"
            ),
            Self::Ipv6Only { address } => write!(
                out,
                "[::] accepts IPv6 only; add {address:?} for IPv4"
            ),
            Self::Network { text } => write!(
                out,
                "{text:?} is not a network; write it like \"192.0.2.0/24\" or \"2001:db8::/32\""
            ),
            Self::NetworkHostBits { network } => write!(
                out,
                "the address has bits set after the prefix; write {network:?} for the network"
            ),
            Self::OpenRelay { network } => write!(
                out,
                "{network} is all of the Internet, so anyone could relay through this host; write the \
                 networks of your own machines"
            ),
            Self::TrustedProxy { proxy, network } => write!(
                out,
                "the proxy {proxy} is in {network} of [relay] networks; remove it there: it could relay \
                 to anywhere through another port, and the port for proxies does not count its own address"
            ),
            Self::NoProxies => out.write_str(
                "no proxy may connect there; list the proxies, like networks = [\"10.0.0.1\"] under [proxy]",
            ),
            Self::Zones => write!(
                out,
                "more than {DNSBL_ZONES_MAX} lists are configured; remove some"
            ),
            Self::ListReply { text } => write!(
                out,
                "{text:?} is not an answer of a list; write it like \"127.0.0.2\" or \"127.0.0.2-11\""
            ),
            Self::GreylistWindow => out.write_str(
                "no client could retry in time; make greylist_window longer than greylist_delay",
            ),
        }
    }
}
