//! What an alias leads to.
//!
//! ```text
//! target  = address [ "via" hosts ]          ; a name alone is one of the same domain
//!         / "*@" domain [ "via" hosts ]      ; the same local part there
//!         / "lmtp:" ( path / host ":" port ) / "maildir:" path / "discard:" / "reports:"
//!         / "|" command                      ; the rest of the line
//! hosts   = host [ ":" port ] *( "/" host [ ":" port ] )
//! ```
//!
//! A [`Destination`] is written into the queue as text, and read back from it: [`Destination::parse`] and its `Display`
//! belong together.

use std::fmt;

use super::next_hop::{Scheme, Via, parse_host};
use super::problem::{AliasProblem, NameProblem, Problem};
use super::text::outside_quotes;
use crate::address::{AddressError, Domain, Mailbox};

/// One target of an alias.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Another address, which may be an alias again.
    Address(To),
    /// An address that is sent to hosts of its own.
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

/// Where a message goes other than by routes and MX.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Destination {
    /// To these hosts, tried in this order.
    Hosts(Box<[Via]>),
    /// To an LMTP server behind a socket of this path.
    LmtpSocket(Box<str>),
    /// To an LMTP server behind a port.
    Lmtp(Box<Via>),
    /// Into the maildir of this path.
    Maildir(Box<str>),
    /// Into a program: its path and its arguments, as they are written.
    Pipe(Box<str>),
    /// Into the counts of what others report ([`crate::report`]); what is not a report goes to `admin`.
    Reports,
    /// Nowhere.
    Discard,
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

impl Target {
    /// Reads a target of an alias of `domain`; hosts without a port have `port`.
    pub(super) fn parse(text: &str, domain: &Domain, port: u16) -> Result<Self, Problem> {
        if text.is_empty() {
            return Err(Problem::Alias(AliasProblem::Empty));
        }
        if text.starts_with("\"|") {
            return Err(Problem::Alias(AliasProblem::Quoted));
        }
        if text.starts_with('/') {
            return Err(Problem::Alias(AliasProblem::File));
        }
        if text.starts_with(':') {
            let text = text.to_owned();
            return Err(Problem::Alias(AliasProblem::Target { text }));
        }
        if text.starts_with('|') || text.split_once(':').is_some_and(is_kind) {
            return Destination::read(text, port).map(Self::Here);
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
                Err(Problem::Alias(AliasProblem::Target { text }))
            }
        }
    }

    /// The address that it names, if it is no more than one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Address(To::Mailbox(mailbox)) => Some(mailbox),
            _ => None,
        }
    }
}

impl Destination {
    /// Whether a password would go there in clear: by `smtp` to another machine, or by LMTP.
    pub(super) fn is_clear(&self) -> bool {
        match self {
            Self::Hosts(hosts) => hosts.iter().any(|via| {
                let here = via.address.is_some_and(|address| address.is_loopback());
                via.scheme == Scheme::Smtp && !here
            }),
            _ => true,
        }
    }

    /// Reads what was written.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("via ") {
            Some(hosts) => Self::hosts(hosts, Scheme::Smtp.port()).ok(),
            None => Self::read(text, Scheme::Smtp.port()).ok(),
        }
    }

    fn read(text: &str, port: u16) -> Result<Self, Problem> {
        let bad = || {
            Problem::Alias(AliasProblem::Target {
                text: text.to_owned(),
            })
        };
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
                false => Err(Problem::Alias(AliasProblem::Command)),
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

    fn hosts(text: &str, port: u16) -> Result<Self, Problem> {
        text.split('/')
            .map(|host| {
                let (name, own) = parse_host(host.trim())?;
                Via::new(Scheme::Smtp, name, own.unwrap_or(port))
            })
            .collect::<Option<Vec<Via>>>()
            .filter(|hosts| !hosts.is_empty())
            .map(|hosts| Self::Hosts(hosts.into()))
            .ok_or_else(|| {
                Problem::Alias(AliasProblem::Target {
                    text: format!("via {text}"),
                })
            })
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

/// The words of a command: white space divides them, double quotes hold together, and inside of them a backslash takes
/// the next character as it is. `None` where a quote is not closed. There is no shell, and nothing else is special.
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

fn is_kind((kind, _): (&str, &str)) -> bool {
    matches!(kind, "lmtp" | "maildir" | "discard" | "reports")
}

fn read_domain(name: &str) -> Result<Domain, Problem> {
    Domain::parse(name)
        .and_then(|domain| {
            if domain.is_literal() {
                Err(AddressError::Domain)
            } else {
                Ok(domain)
            }
        })
        .map_err(|error| {
            Problem::Name(NameProblem::Domain {
                text: name.to_owned(),
                error,
            })
        })
}

fn read_mailbox(text: &str, domain: &Domain) -> Result<Mailbox, Problem> {
    let parsed = match Mailbox::parse(text) {
        Err(AddressError::NoDomain) => Mailbox::new(text, domain),
        parsed => parsed,
    };
    match parsed {
        Ok(mailbox) if mailbox.domain().is_literal() => Err(Problem::Name(NameProblem::Mailbox {
            text: text.to_owned(),
            error: AddressError::Domain,
        })),
        Ok(mailbox) => Ok(mailbox),
        Err(error) => Err(Problem::Name(NameProblem::Mailbox {
            text: text.to_owned(),
            error,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, Problem> {
        Target::parse(text, &Domain::parse("example.com").expect("a domain"), 25)
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
            let Ok(Target::Here(destination)) = target(text) else {
                panic!("{text}: {:?}", target(text));
            };
            assert_eq!(destination.to_string(), written);
            assert_eq!(Destination::parse(written), Some(destination));
        }
        let Ok(Target::Via(To::Domain(domain), hosts)) =
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
