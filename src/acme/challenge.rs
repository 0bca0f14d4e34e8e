//! The challenge types by which control of a name is proven (RFC 8555 section 8, RFC 8737).

use std::fmt;

/// A challenge type.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ChallengeKind {
    /// A file on port 80 (RFC 8555 section 8.3).
    #[default]
    Http01,
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn01,
    /// A record in the DNS (RFC 8555 section 8.4).
    Dns01,
}

impl ChallengeKind {
    /// Every variant, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Http01, Self::TlsAlpn01, Self::Dns01];

    /// The word in ACME and in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    /// The type with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What to check when it fails.
    pub(super) const fn cure(self) -> &'static str {
        match self {
            Self::Http01 => {
                "check that the name's A and AAAA records lead to this host, and that port 80 is reachable from \
                 outside"
            }
            Self::TlsAlpn01 => {
                "check that the name's A and AAAA records lead to this host, and that port 443 is reachable from \
                 outside"
            }
            Self::Dns01 => {
                "see that hooks/dns-01 adds the record to the zone that the world asks (chopar dns shows its servers)"
            }
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
