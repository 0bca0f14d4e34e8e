//! Why a recipient has not received the message: the text and its source (RFC 3464 sections 2.3.5 and 2.3.6).
//!
//! A reply and the name of the host that sent it are kept apart, from the session to the log, the queue and the DSN.
//! Only `Display` joins them, for people.

use std::fmt;
use std::net::IpAddr;

/// A text with its source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum QuotedWords {
    /// The reply of a server, as it came: its code, then its text.
    Reply(Box<str>),
    Ours(Box<str>),
}

/// The next hop, or its host, where the event occurred.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FailurePlace {
    Host {
        /// Its name, from the DNS or the configuration.
        name: Box<str>,
        /// The address that was tried, if any.
        address: Option<IpAddr>,
    },
    /// A server behind a Unix socket of this machine.
    Socket(Box<str>),
    /// A program or a mailbox of this machine.
    Program(Box<str>),
}

/// Why a recipient has not received the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureCause {
    /// The place; `None`: this host.
    pub at: Option<FailurePlace>,
    /// The event or the reply.
    pub words: QuotedWords,
}

impl QuotedWords {
    /// A text of this host, without a place.
    pub fn ours(text: impl Into<Box<str>>) -> Self {
        Self::Ours(text.into())
    }

    /// The words alone.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Reply(text) | Self::Ours(text) => text,
        }
    }

    /// Whether a server sent the text.
    pub const fn is_reply(&self) -> bool {
        matches!(self, Self::Reply(_))
    }

    /// The same with a text in front; the source stays the same.
    #[must_use]
    pub fn behind(&self, front: &str) -> Self {
        let text = format!("{front}{}", self.as_str()).into();
        match self {
            Self::Reply(_) => Self::Reply(text),
            Self::Ours(_) => Self::Ours(text),
        }
    }
}

impl FailureCause {
    /// An event on this host, with a text of ours.
    pub fn here(text: impl Into<Box<str>>) -> Self {
        Self {
            at: None,
            words: QuotedWords::ours(text),
        }
    }

    /// An event or a reply at another host.
    pub const fn at(place: FailurePlace, words: QuotedWords) -> Self {
        Self {
            at: Some(place),
            words,
        }
    }

    /// The same with this in front of the text.
    #[must_use]
    pub fn behind(&self, front: &str) -> Self {
        Self {
            at: self.at.clone(),
            words: self.words.behind(front),
        }
    }

    /// The same without this in front of the text, if it begins with it.
    pub fn without(&self, front: &str) -> Option<Self> {
        let text = self.words.as_str().strip_prefix(front)?;
        let words = match self.words {
            QuotedWords::Reply(_) => QuotedWords::Reply(text.into()),
            QuotedWords::Ours(_) => QuotedWords::ours(text),
        };
        let at = self.at.clone();
        Some(Self { at, words })
    }

    /// The words alone.
    pub fn text(&self) -> &str {
        self.words.as_str()
    }
}

impl fmt::Display for QuotedWords {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for FailurePlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host {
                name,
                address: Some(address),
            } if !is_literal(name, *address) => write!(out, "{name} [{address}]"),
            Self::Host { name, .. } | Self::Socket(name) | Self::Program(name) => {
                out.write_str(name)
            }
        }
    }
}

/// Whether a name is the address itself, bare or as a literal (RFC 5321 section 4.1.3).
fn is_literal(name: &str, address: IpAddr) -> bool {
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = inner.unwrap_or(name);
    let tag = bare
        .get(..5)
        .filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let bare = bare.get(tag.map_or(0, str::len)..).unwrap_or_default();
    bare.parse() == Ok(address)
}

impl fmt::Display for FailureCause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(place) => write!(out, "{place}: {}", self.words),
            None => self.words.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_each_host_once() {
        let place = |name: &str| FailurePlace::Host {
            name: name.into(),
            address: Some("192.0.2.1".parse().expect("an address")),
        };
        let refused = QuotedWords::Reply("554 5.7.1 no".into());
        let named = FailureCause::at(place("mx.example"), refused.clone());
        assert_eq!(named.to_string(), "mx.example [192.0.2.1]: 554 5.7.1 no");
        let unnamed = FailureCause::at(place("192.0.2.1"), refused);
        assert_eq!(unnamed.to_string(), "192.0.2.1: 554 5.7.1 no");
        assert_eq!(place("[192.0.2.1]").to_string(), "[192.0.2.1]");
        assert_eq!(place("[192.0.2.2]").to_string(), "[192.0.2.2] [192.0.2.1]");
        let six = FailurePlace::Host {
            name: "[IPv6:2001:db8:0::1]".into(),
            address: Some("2001:db8::1".parse().expect("an address")),
        };
        assert_eq!(six.to_string(), "[IPv6:2001:db8:0::1]");
        assert_eq!(FailureCause::here("no room").to_string(), "no room");
    }
}
