//! Destinations other than the MX of the recipient's domain, as routes and aliases name them: hosts, or a local target.
//!
//! The queue stores a [`Destination`] as text: what its `Display` writes, [`Destination::parse`] must read.

use std::fmt;
use std::net::IpAddr;

use crate::address::Domain;

/// The destination of a message, if not by routes and MX.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Destination {
    /// These hosts, tried in this order.
    Hosts(Box<[Via]>),
    /// The LMTP server at this Unix socket.
    LmtpSocket(Box<str>),
    /// The LMTP server at this host and port.
    Lmtp(Box<Via>),
    /// The maildir at this path.
    Maildir(Box<str>),
    /// A program: its path and arguments, as they are written.
    Pipe(Box<str>),
    /// The counts of other hosts' reports ([`crate::report`]); a message that is not a report goes to `admin`.
    Reports,
    /// Nowhere.
    Discard,
}

/// Why a text is not a destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DestinationError {
    Form(String),
    /// The command does not begin with the absolute path of a program.
    Command,
}

/// The destination of a queued message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Assigned {
    /// A destination that this version can read.
    Known(Destination),
    /// A text that this version cannot read: a later version wrote it.
    Unreadable(Box<str>),
}

/// A next hop.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Via {
    /// The protocol and use of TLS.
    pub scheme: Scheme,
    /// Its name; an address literal if `address` is given.
    pub host: Domain,
    /// Its address, if it was written as an address.
    pub address: Option<IpAddr>,
    pub port: u16,
}

/// The protocol of a next hop, and its use of TLS.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// `smtp://`: opportunistic STARTTLS; port 25.
    Smtp,
    /// `smtp+starttls://`: mandatory STARTTLS; port 587.
    SmtpStartTls,
    /// `smtps://`: implicit TLS; port 465.
    Smtps,
    /// LMTP (RFC 2033), which has no default port.
    Lmtp,
}

impl Scheme {
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Lmtp => 24,
            Self::SmtpStartTls => 587,
            Self::Smtps => 465,
        }
    }

    /// The scheme as it is written.
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
    pub(crate) fn new(scheme: Scheme, host: &str, port: u16) -> Option<Self> {
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
    fn write_host(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            Some(IpAddr::V4(address)) => write!(out, "{address}:{}", self.port),
            None => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
pub(crate) fn parse_host(text: &str) -> Option<(&str, Option<u16>)> {
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

impl Destination {
    /// Whether a password would be sent there in clear: by `smtp` to another machine, or by LMTP.
    pub(crate) fn is_clear(&self) -> bool {
        match self {
            Self::Hosts(hosts) => hosts.iter().any(|via| {
                let here = via.address.is_some_and(|address| address.is_loopback());
                via.scheme == Scheme::Smtp && !here
            }),
            _ => true,
        }
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("via ") {
            Some(hosts) => Self::hosts(hosts, Scheme::Smtp.port()).ok(),
            None => Self::read(text, Scheme::Smtp.port()).ok(),
        }
    }

    /// The same, with the error if it cannot be parsed; hosts without a port get `port`.
    pub(crate) fn read(text: &str, port: u16) -> Result<Self, DestinationError> {
        let bad = || DestinationError::Form(text.to_owned());
        if text == "discard:" {
            return Ok(Self::Discard);
        }
        if text == "reports:" {
            return Ok(Self::Reports);
        }
        if let Some(command) = text.strip_prefix('|').map(str::trim) {
            let known = words(command)
                .is_some_and(|words| words.first().is_some_and(|path| path.starts_with('/')));
            return match known {
                true => Ok(Self::Pipe(command.into())),
                false => Err(DestinationError::Command),
            };
        }
        let (kind, place) = text.split_once(':').ok_or_else(bad)?;
        let path = place.starts_with('/') && !place.contains('\0');
        match kind {
            "maildir" if path => Ok(Self::Maildir(place.into())),
            "lmtp" if path => Ok(Self::LmtpSocket(place.into())),
            "lmtp" => {
                let (host, own_port) = parse_host(place).ok_or_else(bad)?;
                let port = own_port.ok_or_else(bad)?;
                let via = Via::new(Scheme::Lmtp, host, port).ok_or_else(bad)?;
                Ok(Self::Lmtp(Box::new(via)))
            }
            "via" => Self::hosts(place.trim(), port),
            _ => Err(bad()),
        }
    }

    /// Reads hosts separated by `/`.
    pub(crate) fn hosts(text: &str, port: u16) -> Result<Self, DestinationError> {
        text.split('/')
            .map(|host| {
                let (name, own) = parse_host(host.trim())?;
                Via::new(Scheme::Smtp, name, own.unwrap_or(port))
            })
            .collect::<Option<Vec<Via>>>()
            .filter(|hosts| !hosts.is_empty())
            .map(|hosts| Self::Hosts(hosts.into()))
            .ok_or_else(|| DestinationError::Form(format!("via {text}")))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(hosts) => {
                for (at, via) in hosts.iter().enumerate() {
                    out.write_str(if at == 0 { "via " } else { "/" })?;
                    via.write_host(out)?;
                }
                Ok(())
            }
            Self::LmtpSocket(path) => write!(out, "lmtp:{path}"),
            Self::Lmtp(via) => {
                out.write_str("lmtp:")?;
                via.write_host(out)
            }
            Self::Maildir(path) => write!(out, "maildir:{path}"),
            Self::Pipe(command) => write!(out, "| {command}"),
            Self::Reports => out.write_str("reports:"),
            Self::Discard => out.write_str("discard:"),
        }
    }
}

impl Assigned {
    /// Reads the text that the queue stores.
    pub fn read(text: &str) -> Self {
        Destination::parse(text).map_or_else(|| Self::Unreadable(text.into()), Self::Known)
    }

    /// Bytes that it holds, beside itself.
    pub fn memory(&self) -> usize {
        match self {
            Self::Known(Destination::Hosts(hosts)) => size_of_val(&**hosts),
            Self::Known(Destination::Lmtp(via)) => size_of_val(&**via),
            Self::Known(
                Destination::LmtpSocket(text)
                | Destination::Maildir(text)
                | Destination::Pipe(text),
            )
            | Self::Unreadable(text) => text.len(),
            Self::Known(Destination::Reports | Destination::Discard) => 0,
        }
    }
}

impl fmt::Display for Assigned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(destination) => destination.fmt(out),
            Self::Unreadable(text) => out.write_str(text),
        }
    }
}

/// The words of a command, separated by white space. Double quotes group, and inside of them a backslash quotes the
/// next character. `None` if a quote is not closed. No shell is involved, and no other character is special.
pub fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        c => word.push(c),
                    }
                }
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_without_a_shell() {
        let split = |text| words(text).expect("words");
        assert_eq!(
            split("/bin/x  -a\t$HOME;`id`"),
            ["/bin/x", "-a", "$HOME;`id`"]
        );
        assert_eq!(
            split("/bin/x \"a b\"c \"\" \"\\\"\""),
            ["/bin/x", "a bc", "", "\""]
        );
        assert_eq!(words("/bin/x \"a"), None);
        assert_eq!(words("/bin/x \"a\\"), None);
        assert_eq!(split("   "), [""; 0]);
    }
}
