//! The name servers, and the order in which they are asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::limits::{DNS_ROUNDS, DNS_SERVER_TIMEOUT, DNS_SERVERS_MAX};

/// The name servers, with timeout and attempts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Servers {
    /// In the order of use; at most [`DNS_SERVERS_MAX`] are used.
    pub addresses: Vec<SocketAddr>,
    /// Whether the AD bit of servers outside loopback is trusted (`options trust-ad`).
    pub trust_ad: bool,
    /// How long to wait for one server.
    pub timeout: Duration,
    /// How often the list is tried.
    pub rounds: usize,
}

impl Servers {
    /// These servers, with the times of `limits`.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            ..Self::default()
        }
    }

    /// Whether the AD bit of `server` is trusted.
    pub(super) fn trusts(&self, server: SocketAddr) -> bool {
        self.trust_ad || server.ip().to_canonical().is_loopback()
    }

    pub(super) fn used(&self) -> &[SocketAddr] {
        self.addresses
            .get(..DNS_SERVERS_MAX)
            .unwrap_or(&self.addresses)
    }
}

/// The server of this machine, which is the default of resolv.conf(5).
impl Default for Servers {
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT)],
            trust_ad: false,
            timeout: DNS_SERVER_TIMEOUT,
            rounds: DNS_ROUNDS,
        }
    }
}

/// The port of a name server.
pub(super) const DNS_PORT: u16 = 53;
