//! What an alias leads to.
//!
//! ```text
//! target  = address [ "via" hosts ]          ; a name alone is one of the same domain
//!         / "*@" domain [ "via" hosts ]      ; the same local part there
//!         / "lmtp:" ( path / host ":" port ) / "maildir:" path / "discard:" / "reports:"
//!         / "|" command                      ; the rest of the line
//! hosts   = host [ ":" port ] *( "/" host [ ":" port ] )
//! ```

use super::problem::{AliasProblem, ConfigProblem, NameProblem};
use super::text::outside_quotes;
use crate::address::{AddressError, Domain, Mailbox};
use crate::destination::{Destination, DestinationError};

/// The target of an alias: an address, a program, a maildir or an LMTP server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AliasTarget {
    /// Another address, which may be an alias again.
    Address(To),
    /// An address with hosts of its own to send to.
    Via(To, Destination),
    /// Something on this machine or beside it: the address itself stays as it is.
    Here(Destination),
}

/// The address that a target names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum To {
    /// This one.
    Mailbox(Mailbox),
    /// The same local part at this domain.
    Domain(Domain),
}

impl To {
    /// The address, for mail to `mailbox`.
    pub fn resolve(&self, mailbox: &Mailbox) -> Option<Mailbox> {
        match self {
            Self::Mailbox(to) => Some(to.clone()),
            Self::Domain(domain) => Mailbox::new(mailbox.local_part(), domain).ok(),
        }
    }
}

impl AliasTarget {
    /// Reads a target of an alias of `domain`; hosts without a port have `port`.
    pub(super) fn parse(text: &str, domain: &Domain, port: u16) -> Result<Self, ConfigProblem> {
        if text.is_empty() {
            return Err(ConfigProblem::Alias(AliasProblem::Empty));
        }
        if text.starts_with("\"|") {
            return Err(ConfigProblem::Alias(AliasProblem::Quoted));
        }
        if text.starts_with('/') {
            return Err(ConfigProblem::Alias(AliasProblem::File));
        }
        if text.starts_with(':') {
            let text = text.to_owned();
            return Err(ConfigProblem::Alias(AliasProblem::Target { text }));
        }
        if text.starts_with('|') || text.split_once(':').is_some_and(is_kind) {
            return Ok(Self::Here(Destination::read(text, port)?));
        }
        // An address holds no space outside of quotes.
        let space = outside_quotes(text, ' ');
        let (address, rest) = text.split_at_checked(space).unwrap_or((text, ""));
        let to = match address.strip_prefix("*@") {
            Some(name) => To::Domain(read_domain(name)?),
            None => To::Mailbox(read_mailbox(address, domain)?),
        };
        let rest = rest.trim();
        if rest.is_empty() {
            return Ok(Self::Address(to));
        }
        match rest.strip_prefix("via").map(str::trim_start) {
            Some(hosts) if rest.starts_with("via ") => {
                Ok(Self::Via(to, Destination::hosts(hosts, port)?))
            }
            _ => {
                let text = text.to_owned();
                Err(ConfigProblem::Alias(AliasProblem::Target { text }))
            }
        }
    }

    /// The address that it names, if it is a plain address.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Address(To::Mailbox(mailbox)) => Some(mailbox),
            _ => None,
        }
    }
}

impl From<DestinationError> for ConfigProblem {
    fn from(error: DestinationError) -> Self {
        match error {
            DestinationError::Form(text) => Self::Alias(AliasProblem::Target { text }),
            DestinationError::Command => Self::Alias(AliasProblem::Command),
        }
    }
}

fn is_kind((kind, _): (&str, &str)) -> bool {
    matches!(kind, "lmtp" | "maildir" | "discard" | "reports")
}

fn read_domain(name: &str) -> Result<Domain, ConfigProblem> {
    Domain::parse(name)
        .and_then(|domain| {
            if domain.is_literal() {
                Err(AddressError::Domain)
            } else {
                Ok(domain)
            }
        })
        .map_err(|error| {
            ConfigProblem::Name(NameProblem::Domain {
                text: name.to_owned(),
                error,
            })
        })
}

fn read_mailbox(text: &str, domain: &Domain) -> Result<Mailbox, ConfigProblem> {
    let parsed = match Mailbox::parse(text) {
        Err(AddressError::NoDomain) => Mailbox::new(text, domain),
        parsed => parsed,
    };
    match parsed {
        Ok(mailbox) if mailbox.domain().is_literal() => {
            Err(ConfigProblem::Name(NameProblem::Mailbox {
                text: text.to_owned(),
                error: AddressError::Domain,
            }))
        }
        Ok(mailbox) => Ok(mailbox),
        Err(error) => Err(ConfigProblem::Name(NameProblem::Mailbox {
            text: text.to_owned(),
            error,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<AliasTarget, ConfigProblem> {
        AliasTarget::parse(text, &Domain::parse("example.com").expect("a domain"), 25)
    }

    #[test]
    fn what_is_written_into_the_queue_reads_back() {
        for (text, written) in [
            ("lmtp:/run/dovecot/lmtp", "lmtp:/run/dovecot/lmtp"),
            ("lmtp:mail.example.org:24", "lmtp:mail.example.org:24"),
            ("lmtp:[::1]:24", "lmtp:[::1]:24"),
            ("lmtp:127.0.0.1:2424", "lmtp:127.0.0.1:2424"),
            ("maildir:/home/ann/Mail dir", "maildir:/home/ann/Mail dir"),
            ("discard:", "discard:"),
            ("reports:", "reports:"),
            (
                "|/usr/bin/procmail -d \"a b\"",
                "| /usr/bin/procmail -d \"a b\"",
            ),
        ] {
            let Ok(AliasTarget::Here(destination)) = target(text) else {
                panic!("{text}: {:?}", target(text));
            };
            assert_eq!(destination.to_string(), written);
            assert_eq!(Destination::parse(written), Some(destination));
        }
        let Ok(AliasTarget::Via(To::Domain(domain), hosts)) =
            target("*@example.org via one.example/127.0.0.1:2525/[::1]")
        else {
            panic!("no hosts");
        };
        assert_eq!(domain.as_str(), "example.org");
        let written = "via one.example:25/127.0.0.1:2525/[::1]:25";
        assert_eq!(hosts.to_string(), written);
        assert_eq!(Destination::parse(written), Some(hosts));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "/var/mail/ann",
            ":include:/x",
            "lmtp:",
            "lmtp:host",
            "lmtp:host:0",
            "maildir:relative",
            "maildir:",
            "discard:x",
            "reports:x",
            "| relative",
            "|",
            "| /bin/x \"open",
            "a@b.example via",
            "a@b.example via ",
            "a@b.example by host",
            "a@[192.0.2.1]",
            "*@[192.0.2.1]",
            "*@",
            "a b",
        ] {
            assert!(target(text).is_err(), "{text}: {:?}", target(text));
        }
    }
}
