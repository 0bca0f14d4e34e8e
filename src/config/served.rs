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
    /// Handling of mail that fails the policy of its author's domain.
    pub dmarc: Dmarc,
    /// Handling of mail that the policy wants quarantined.
    pub quarantine: Quarantine,
    /// Whether an MTA-STS policy is published, which tells senders that the mail exchanger has TLS (RFC 8461).
    pub mta_sts: MtaSts,
    /// The server where users read their mail, for mail programs that configure themselves.
    pub incoming: Option<Incoming>,
    /// Users that may log in, by the key of the local part.
    pub users: BTreeMap<String, User>,
    /// Aliases, by the key of the local part.
    pub aliases: BTreeMap<String, Alias>,
    /// The targets of every other address.
    pub catch_all: Option<Alias>,
    /// The keys that sign its mail; every one of them signs.
    pub dkim: Vec<Arc<DkimKey>>,
}

impl ServedDomain {
    /// The alias of a local part, by its [`NameRules::key`]: its own, or that of the local part without suffix.
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

/// Where mail for a served domain is delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Receive {
    /// Here, at the addresses of its folder.
    #[default]
    Here,
    /// At its MX, which is another host.
    Elsewhere,
}

/// Handling of mail that fails DMARC; the stricter, the greater.
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

/// Handling of mail to be quarantined; the stricter, the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Quarantine {
    /// It is sent on with a header field that says so.
    #[default]
    Mark,
    /// It is refused.
    Refuse,
}

/// The mode of a domain's MTA-STS policy (RFC 8461 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MtaSts {
    /// There is no policy.
    #[default]
    Off,
    /// The policy was withdrawn: senders that remember it should forget it.
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
