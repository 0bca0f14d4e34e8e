//! Errors of DKIM keys.

use std::fmt;

use crate::auth::dkim::key::KeyError;
use crate::limits::DKIM_KEYS_PER_DOMAIN_MAX;

/// An error of a DKIM key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DkimProblem {
    /// No key that can sign.
    Key(KeyError),
    /// A key that is shorter than it should be (a warning).
    ShortKey {
        /// Bits of its modulus.
        bits: usize,
    },
    Selector {
        text: String,
    },
    /// Too many keys.
    Keys,
}

impl fmt::Display for DkimProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => {
                write!(out, "{error}; create a new key with chopar dkim keygen")
            }
            Self::ShortKey { bits } => write!(
                out,
                "the RSA key has {bits} bits: chopar signs with it, but receivers may distrust the signature (RFC 8301 section 3.2); \
                 create another with chopar dkim keygen, publish its record, and remove this file some days later"
            ),
            Self::Selector { text } => write!(
                out,
                "{text:?} is not a selector; name the file with letters, digits and hyphens, like 2026a.pem"
            ),
            Self::Keys => write!(
                out,
                "the domain has more than {DKIM_KEYS_PER_DOMAIN_MAX} keys, and all of them sign; remove old ones"
            ),
        }
    }
}
