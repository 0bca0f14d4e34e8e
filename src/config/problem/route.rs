//! Errors of routes and of the secrets of next hops.

use std::fmt;

/// An error of a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteProblem {
    /// No pattern of a route.
    Pattern { text: String },
    /// No next hop.
    Via { text: String },
    /// A route without a next hop.
    ViaEmpty,
    /// A password would be sent in clear.
    AuthInClear,
    /// The secret is outside the folder.
    SecretPath { path: String },
    SecretMissing {
        /// Its expected path.
        path: String,
    },
    /// The secret is not a login and a password.
    SecretForm,
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { text } => write!(
                out,
                "{text:?} matches nothing; write \"*\", \"example.org\", \"*.example.org\" or \"from:example.org\""
            ),
            Self::Via { text } => write!(
                out,
                "{text:?} is not a next hop; write it like \"smtp+starttls://relay.example.com:587\" (smtp, \
                 smtp+starttls, smtps, lmtp with a port or a path, or maildir with a path)"
            ),
            Self::ViaEmpty => out.write_str("the route has no next hop; set via"),
            Self::AuthInClear => out.write_str(
                "the password would be sent in clear; use smtp+starttls:// or smtps:// with auth",
            ),
            Self::SecretPath { path } => write!(
                out,
                "{path:?} leads out of the configuration folder; write a path below it, like \"secrets/relay\""
            ),
            Self::SecretMissing { path } => write!(
                out,
                "there is no file {path}; write login and password into it, on two lines"
            ),
            Self::SecretForm => {
                out.write_str("expected login and password, on two lines or with a space between")
            }
        }
    }
}
