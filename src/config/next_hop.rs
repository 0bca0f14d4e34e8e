//! A next hop: how to speak to it, its host and its port, as routes and aliases name it.

use std::fmt;
use std::net::IpAddr;

use crate::address::Domain;

/// A next hop.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Via {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Its name; an address literal where `address` is given.
    pub host: Domain,
    /// Its address, where it was written as one.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// How to speak to a next hop.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// `smtp://`: STARTTLS where it is offered; port 25.
    Smtp,
    /// `smtp+starttls://`: STARTTLS, or not at all; port 587.
    SmtpStartTls,
    /// `smtps://`: TLS from the first byte; port 465.
    Smtps,
    /// LMTP (RFC 2033), which has no port of its own.
    Lmtp,
}

impl Scheme {
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Lmtp => 24,
            Self::SmtpStartTls => 587,
            Self::Smtps => 465,
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::SmtpStartTls => "smtp+starttls",
            Self::Smtps => "smtps",
            Self::Lmtp => "lmtp",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://", self.scheme.as_str())?;
        self.write_host(out)
    }
}

impl Via {
    /// A host by its name or address.
    pub(super) fn new(scheme: Scheme, host: &str, port: u16) -> Option<Self> {
        let address: Option<IpAddr> = host.parse().ok();
        let name = match address {
            Some(IpAddr::V4(address)) => format!("[{address}]"),
            Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            None => host.to_owned(),
        };
        let host = Domain::parse(&name).ok()?;
        let known = address.is_some() || !host.is_literal();
        known.then_some(Self {
            scheme,
            host,
            address,
            port,
        })
    }

    /// Writes host and port.
    pub(super) fn write_host(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            Some(IpAddr::V4(address)) => write!(out, "{address}:{}", self.port),
            None => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
pub(super) fn parse_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, behind) = bracketed.split_once(']')?;
            address.parse::<IpAddr>().ok()?;
            let port = match behind {
                "" => None,
                behind => Some(behind.strip_prefix(':')?),
            };
            (address, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host, port))
}
