//! `[delivery]`: how mail leaves.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::problem::{ConfigProblem, ValueProblem};
use crate::limits::{
    CLIENT_SESSIONS_DEFAULT, GIVE_UP_AFTER_DEFAULT, SESSIONS_PER_HOP_DEFAULT, WARN_AFTER_DEFAULT,
};

/// How mail leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeliverySettings {
    /// The port of mail exchangers.
    pub port: u16,
    /// Which addresses are tried.
    pub ip: AddressFamily,
    /// Whether a mail exchanger may have an address of this machine, or none that a host can have; for tests.
    pub loopback: bool,
    /// Source address for IPv4.
    pub bind4: Option<Ipv4Addr>,
    /// Source address for IPv6.
    pub bind6: Option<Ipv6Addr>,
    /// How long a message is tried.
    pub give_up_after: Duration,
    /// Age at which the delay DSN is sent.
    pub warn_after: Duration,
    /// Client sessions at a time to one next hop.
    pub sessions_per_hop: usize,
    /// Client sessions at a time to all next hops.
    pub sessions: usize,
}

/// Which addresses of a next hop are tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressFamily {
    /// Both families.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeliveryText {
    port: Option<u16>,
    ip: Option<Spanned<String>>,
    loopback: bool,
    bind4: Option<Spanned<String>>,
    bind6: Option<Spanned<String>>,
    give_up_after: Option<Spanned<String>>,
    warn_after: Option<Spanned<String>>,
    sessions_per_hop: Option<Spanned<u32>>,
    sessions: Option<Spanned<u32>>,
}

impl Check<'_> {
    pub(super) fn delivery(&mut self, raw: &DeliveryText) -> DeliverySettings {
        let ip = match raw.ip.as_ref().map(|ip| ip.get_ref().as_str()) {
            None | Some("any") => AddressFamily::Any,
            Some("ipv4") => AddressFamily::Ipv4,
            Some("ipv6") => AddressFamily::Ipv6,
            Some(other) => {
                let text = other.to_owned();
                if let Some(at) = &raw.ip {
                    self.problem(at, ConfigProblem::Value(ValueProblem::Family { text }));
                }
                AddressFamily::Any
            }
        };
        DeliverySettings {
            port: raw.port.unwrap_or(25),
            ip,
            loopback: raw.loopback,
            bind4: self.address::<Ipv4Addr>(raw.bind4.as_ref()),
            bind6: self.address::<Ipv6Addr>(raw.bind6.as_ref()),
            give_up_after: self.duration(raw.give_up_after.as_ref(), GIVE_UP_AFTER_DEFAULT),
            warn_after: self.duration(raw.warn_after.as_ref(), WARN_AFTER_DEFAULT),
            sessions_per_hop: self.count(raw.sessions_per_hop.as_ref(), SESSIONS_PER_HOP_DEFAULT),
            sessions: self.count(raw.sessions.as_ref(), CLIENT_SESSIONS_DEFAULT),
        }
    }

    fn address<A: std::str::FromStr>(&mut self, text: Option<&Spanned<String>>) -> Option<A> {
        let text = text?;
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let there = text.get_ref().clone();
            self.problem(
                text,
                ConfigProblem::Value(ValueProblem::IpAddress { text: there }),
            );
        }
        address
    }
}
