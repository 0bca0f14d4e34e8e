//! The envelope of a message (RFC 5321 section 2.3.1), with the parameters of DSN (RFC 3461) and SMTPUTF8 (RFC 6531).

use std::fmt;
use std::net::IpAddr;

use crate::address::{Mailbox, ReversePath};
use crate::date::Timestamp;
use crate::destination::Assigned;
use crate::queue_id::QueueId;

/// The data that accompany a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// The recipient of DSNs.
    pub reverse_path: ReversePath,
    /// The recipients after alias expansion; never empty once a message is queued.
    pub recipients: Vec<Recipient>,
    /// ENVID, xtext decoded (RFC 3461 section 4.4): printable ASCII.
    pub envelope_id: Option<Box<str>>,
    /// RET (RFC 3461 section 4.3).
    pub dsn_return: Option<DsnReturn>,
    /// BODY (RFC 6152).
    pub body: BodyKind,
    /// Whether the client requested SMTPUTF8 (RFC 6531 section 3.4).
    pub smtputf8: bool,
    /// When the message was accepted.
    pub arrived: Timestamp,
    /// The originator.
    pub origin: MessageOrigin,
}

/// The originator of a message. Its text is used in logs, in the queue listing and in the queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageOrigin {
    /// A user who has logged in, by the login.
    Login(Box<str>),
    /// A process of this machine, by its uid.
    Process(u32),
    /// An unauthenticated client, by its address.
    Client(IpAddr),
    /// This relay, for a DSN about this message.
    Dsn(QueueId),
    /// This relay, for a report to `admin` about damage in the spool.
    Damage,
}

impl MessageOrigin {
    /// Parses the text form. A login contains a domain, so no user can choose one that reads as another origin.
    pub fn read(text: &str) -> Self {
        let known = match text.split_once('=') {
            Some(("uid", uid)) => uid.parse().ok().map(Self::Process),
            Some(("notice", id)) => id.parse().ok().map(Self::Dsn),
            _ if text == "damage" => Some(Self::Damage),
            _ => text.parse().ok().map(Self::Client),
        };
        // Only if the parsed value is written as the same text again.
        let known = known.filter(|known| known.to_string() == text);
        known.unwrap_or_else(|| Self::Login(text.into()))
    }
}

impl From<&str> for MessageOrigin {
    fn from(text: &str) -> Self {
        Self::read(text)
    }
}

impl fmt::Display for MessageOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(login) => out.write_str(login),
            Self::Process(uid) => write!(out, "uid={uid}"),
            Self::Client(address) => address.fmt(out),
            Self::Dsn(id) => write!(out, "notice={id}"),
            Self::Damage => out.write_str("damage"),
        }
    }
}

/// One recipient, with the DSNs that its sender requested.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient {
    /// The address that the message is sent to.
    pub mailbox: Mailbox,
    /// NOTIFY (RFC 3461 section 4.1).
    pub notify: Notify,
    /// ORCPT, `addr-type;address` with the address xtext decoded (RFC 3461 section 4.2): printable ASCII or UTF-8.
    pub original: Option<Box<str>>,
    /// Its destination if routes and MX do not determine it: the target of an alias when the message was accepted.
    pub destination: Option<Assigned>,
    /// The reverse-path for this recipient: rewritten (SRS) if SPF would fail with that of the message.
    pub reverse_path: Option<Box<Mailbox>>,
}

impl Recipient {
    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let of = |mailbox: &Mailbox| mailbox.as_str().len();
        let path = (self.reverse_path.as_ref())
            .map_or(0, |path| size_of::<Mailbox>().saturating_add(of(path)));
        size_of::<Self>()
            .saturating_add(of(&self.mailbox))
            .saturating_add(text(&self.original))
            .saturating_add(self.destination.as_ref().map_or(0, Assigned::memory))
            .saturating_add(path)
    }

    /// A recipient whose destination routes and MX determine, with the reverse-path of the message.
    pub const fn new(mailbox: Mailbox, notify: Notify, original: Option<Box<str>>) -> Self {
        Self {
            mailbox,
            notify,
            original,
            destination: None,
            reverse_path: None,
        }
    }
}

impl Envelope {
    /// The reverse-path for MAIL: the rewritten one (SRS), if the recipient has one.
    pub fn reverse_path_for(&self, recipient: &Recipient) -> ReversePath {
        match &recipient.reverse_path {
            Some(mailbox) => ReversePath::Mailbox(mailbox.as_ref().clone()),
            None => self.reverse_path.clone(),
        }
    }
}

/// The DSNs that the sender requested for a recipient.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notify {
    /// No NOTIFY: failure DSNs, and delay DSNs at our discretion (RFC 3461 section 4.1).
    Default,
    /// `NOTIFY=NEVER`.
    Never,
    /// Nothing shows that the sender sent the message: failures only, and one DSN for the whole message.
    Once,
    /// The listed ones.
    On {
        success: bool,
        failure: bool,
        delay: bool,
    },
}

impl Notify {
    /// Whether a failure DSN is sent.
    pub const fn wants_failure(self) -> bool {
        matches!(
            self,
            Self::Default | Self::Once | Self::On { failure: true, .. }
        )
    }

    /// Whether a delay DSN is sent.
    pub const fn wants_delay(self) -> bool {
        matches!(self, Self::Default | Self::On { delay: true, .. })
    }

    /// Whether a success DSN is sent.
    pub const fn wants_success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }
}

/// How much of the message a failure DSN returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DsnReturn {
    /// `RET=FULL`.
    Full,
    /// `RET=HDRS`.
    Headers,
}

/// The type of the body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BodyKind {
    /// `BODY=7BIT`, or no BODY.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_it_was_read() {
        for (text, origin) in [
            ("uid=1000", MessageOrigin::Process(1000)),
            (
                "192.0.2.1",
                MessageOrigin::Client("192.0.2.1".parse().expect("an address")),
            ),
            (
                "2001:db8::1",
                MessageOrigin::Client("2001:db8::1".parse().expect("an address")),
            ),
            ("damage", MessageOrigin::Damage),
            (
                "ann@example.com",
                MessageOrigin::Login("ann@example.com".into()),
            ),
            // Not as it would be written: nothing is lost of it.
            ("uid=01000", MessageOrigin::Login("uid=01000".into())),
            ("notice=?", MessageOrigin::Login("notice=?".into())),
        ] {
            assert_eq!(MessageOrigin::read(text), origin);
            assert_eq!(origin.to_string(), text);
        }
        let dsn = MessageOrigin::Dsn(QueueId::new(7));
        assert_eq!(MessageOrigin::read(&dsn.to_string()), dsn);
    }
}
