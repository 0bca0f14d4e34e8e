//! A served domain: its users, its aliases, and the settings for its mail.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::aliases::Alias;
use super::incoming::Incoming;
use super::names::NameRules;
use super::users::User;
use crate::auth::dkim::key::SigningKey;

/// A domain with a folder under `domains/`.
#[derive(Debug, Default)]
pub struct ServedDomain {
    /// Whether mail to it ends here; else it is sent to its MX like any other.
    pub receive: Receive,
    /// What is done about mail that fails the policy of its author's domain.
    pub dmarc: Dmarc,
    /// What is done where that policy asks for quarantine.
    pub quarantine: Quarantine,
    /// Whether senders are told that its mail exchanger has TLS (RFC 8461).
    pub mta_sts: MtaSts,
    /// Where its people read their mail, for mail programs that set themselves up.
    pub incoming: Option<Incoming>,
    /// Who may log in, by the key of the local part.
    pub users: BTreeMap<String, User>,
    /// Where addresses lead, by the key of the local part.
    pub aliases: BTreeMap<String, Alias>,
    /// Where every other address leads.
    pub catch_all: Option<Alias>,
    /// The keys that sign its mail; every one of them signs.
    pub dkim: Vec<Arc<DkimKey>>,
}

impl ServedDomain {
    /// The alias of a local part, by the key that [`NameRules::key`] gives: itself, or that without its suffix.
    pub fn alias(&self, names: &NameRules, key: &str) -> Option<&Alias> {
        self.aliases
            .get(key)
            .or_else(|| self.aliases.get(names.without_suffix(key)))
    }
}

/// A key under `dkim/`.
#[derive(Clone, Debug)]
pub struct DkimKey {
    /// The selector, which is the file's name.
    pub selector: Box<str>,
    pub key: Arc<SigningKey>,
}

/// Where mail for a served domain ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Receive {
    /// Here, at the addresses of its folder.
    #[default]
    Here,
    /// At its MX, which is another host.
    Elsewhere,
}

/// What is done about mail that fails DMARC; the stricter, the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dmarc {
    /// It is not looked up.
    Off,
    /// The result is written into the message.
    Report,
    /// The policy is followed.
    #[default]
    Enforce,
}

/// What is done about mail that is to be quarantined; the stricter, the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Quarantine {
    /// It goes on with a field that says so.
    #[default]
    Mark,
    /// It is refused.
    Refuse,
}

/// What the policy of a domain asks of senders (RFC 8461 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MtaSts {
    /// There is no policy.
    #[default]
    Off,
    /// There is one no more: those who remember it are to forget it.
    None,
    /// Failures are reported.
    Testing,
    /// Mail is delivered over verified TLS or not at all.
    Enforce,
}

impl MtaSts {
    /// The word in the policy.
    pub const fn mode(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::None => Some("none"),
            Self::Testing => Some("testing"),
            Self::Enforce => Some("enforce"),
        }
    }
}
