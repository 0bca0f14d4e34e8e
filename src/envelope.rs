//! The envelope of a message (RFC 5321 section 2.3.1) with what DSN (RFC 3461) and SMTPUTF8 (RFC 6531) add to it.

use crate::address::{Mailbox, ReversePath};
use crate::date::Timestamp;

/// Everything that goes with a message but is not in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Where notifications go.
    pub reverse_path: ReversePath,
    /// The forward-paths, after aliases; never empty once a message is queued.
    pub recipients: Vec<Recipient>,
    /// ENVID, xtext decoded (RFC 3461 section 4.4): printable ASCII.
    pub envelope_id: Option<Box<str>>,
    /// RET (RFC 3461 section 4.3).
    pub dsn_return: Option<DsnReturn>,
    /// BODY (RFC 6152).
    pub body: BodyKind,
    /// Whether the client asked for SMTPUTF8 (RFC 6531 section 3.4).
    pub smtputf8: bool,
    /// When the message was accepted.
    pub arrived: Timestamp,
    /// Who brought it, for logs and for the queue listing: a login, `uid=1000`, or an address.
    pub origin: Box<str>,
}

/// One forward-path and what its sender wants to hear of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient {
    /// Where the message is sent.
    pub mailbox: Mailbox,
    /// NOTIFY (RFC 3461 section 4.1).
    pub notify: Notify,
    /// ORCPT, `addr-type;address` with the address xtext decoded (RFC 3461 section 4.2): printable ASCII or UTF-8.
    pub original: Option<Box<str>>,
    /// Where it goes, if not by routes and MX: the target of an alias as it is written (chopar-aliases(5)).
    pub destination: Option<Box<str>>,
    /// The reverse-path that goes with it, where the message's own would fail SPF: a rewritten one (SRS).
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
            .saturating_add(text(&self.destination))
            .saturating_add(path)
    }

    /// A recipient whose mail goes by routes and MX, with the message's own reverse-path.
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
    /// The reverse-path that goes with a recipient.
    pub fn reverse_path_for(&self, recipient: &Recipient) -> ReversePath {
        match &recipient.reverse_path {
            Some(mailbox) => ReversePath::Mailbox(mailbox.as_ref().clone()),
            None => self.reverse_path.clone(),
        }
    }
}

/// Which notifications a recipient's sender asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notify {
    /// No NOTIFY was given: failures, and delays as we see fit (RFC 3461 section 4.1).
    Default,
    /// `NOTIFY=NEVER`.
    Never,
    /// Nothing shows that the sender sent the message: failures, and one notification for the whole message.
    Once,
    /// The ones that are listed.
    On {
        /// SUCCESS.
        success: bool,
        /// FAILURE.
        failure: bool,
        /// DELAY.
        delay: bool,
    },
}

impl Notify {
    /// Whether a failure is to be reported.
    pub const fn wants_failure(self) -> bool {
        matches!(
            self,
            Self::Default | Self::Once | Self::On { failure: true, .. }
        )
    }

    /// Whether a delay is to be reported.
    pub const fn wants_delay(self) -> bool {
        matches!(self, Self::Default | Self::On { delay: true, .. })
    }

    /// Whether a delivery is to be reported.
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

/// What the body may hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BodyKind {
    /// `BODY=7BIT`, or nothing was said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}
