//! Why no certificate was obtained; each cause says what to do about it.

use std::fmt;

use super::challenge::ChallengeKind;
use super::name::Name;
use super::wire::{AcmeProblem, plain};
use crate::date::Timestamp;

/// Why it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AcmeError {
    /// The server could not be reached, or did not send HTTP.
    Unreachable { url: String, text: String },
    /// The server failed, with a status and perhaps a problem document.
    Server {
        url: String,
        status: u16,
        problem: Option<AcmeProblem>,
        /// When to try again.
        retry_at: Option<Timestamp>,
    },
    /// The response is not ACME.
    Malformed {
        url: String,
        /// The error in it.
        text: String,
    },
    /// The CA's rate limit is reached.
    RateLimited {
        problem: AcmeProblem,
        /// When to try again.
        retry_at: Option<Timestamp>,
    },
    Refused {
        /// The request.
        what: &'static str,
        problem: AcmeProblem,
    },
    /// Its terms have not been agreed to.
    Terms {
        /// The URL of the terms.
        url: String,
    },
    /// The CA requires external account binding.
    ExternalAccount,
    /// The account is no longer valid.
    AccountUnusable,
    /// A name could not be proven.
    Name(ProofError),
    /// The order failed as a whole.
    OrderInvalid { problem: AcmeProblem },
    /// It was not completed in time.
    TooSlow {
        /// The step that failed.
        what: &'static str,
    },
    /// The server refused every nonce.
    Nonces,
    /// The server does not support this step.
    NotSupported {
        /// The step.
        what: &'static str,
    },
    /// A request could not be signed.
    Signature,
}

/// Why control of a name could not be proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProofError {
    /// The server offers no challenge of the configured type.
    NotOffered {
        name: String,
        kind: ChallengeKind,
        offered: String,
    },
    /// Only DNS-01 can prove a wildcard.
    Wildcard { name: Name },
    /// The server checked and did not find the proof.
    Validation {
        name: String,
        kind: ChallengeKind,
        /// The problem that the CA reported.
        problem: AcmeProblem,
    },
    /// The proof could not be presented.
    NotPresented { name: String, text: String },
}

impl AcmeError {
    /// When the server wants to be asked again, at the earliest.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::RateLimited { retry_at, .. } | Self::Server { retry_at, .. } => *retry_at,
            _ => None,
        }
    }

    /// Whether a person must change something before another attempt can succeed; otherwise waiting may suffice.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Terms { .. }
                | Self::ExternalAccount
                | Self::AccountUnusable
                | Self::Name(ProofError::NotOffered { .. } | ProofError::Wildcard { .. })
                | Self::NotSupported { .. }
        )
    }
}

impl fmt::Display for AcmeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { url, text } => write!(
                out,
                "{url}: {text}; see whether this host can reach that server by HTTPS, and whether acme.directory is right"
            ),
            Self::Server {
                url,
                status,
                problem,
                retry_at,
            } => {
                write!(out, "{url}: the server failed with status {status}")?;
                if let Some(problem) = problem {
                    write!(out, " ({problem})")?;
                }
                write!(out, "; {}", Later(*retry_at))
            }
            Self::Malformed { url, text } => write!(
                out,
                "{url}: this is not what an ACME server says: {text}; see whether acme.directory is the URL of a directory"
            ),
            Self::RateLimited { problem, retry_at } => write!(
                out,
                "the server refuses more for now: {problem}; {}",
                Later(*retry_at)
            ),
            Self::Refused { what, problem } => {
                write!(out, "the server refuses {what}: {problem}; {}", cure(problem))
            }
            Self::Terms { url } => write!(
                out,
                "the CA has terms of service: read {}, and run `chopar cert obtain --agree` or set acme.enabled = true if you \
                 agree to them",
                plain(url)
            ),
            Self::ExternalAccount => out.write_str(
                "the CA takes only its customers: have it give you a key ID and an HMAC key, and set acme.eab_kid and \
                 acme.eab_key_file",
            ),
            Self::AccountUnusable => out.write_str(
                "the account at the CA is closed; remove its key under acme/ in state_dir, and another is made",
            ),
            Self::Name(error) => error.fmt(out),
            Self::OrderInvalid { problem } => {
                write!(out, "the CA has given the order up: {problem}; {}", cure(problem))
            }
            Self::TooSlow { what } => write!(
                out,
                "{what} took too long; try again later, or see the CA's page about its state"
            ),
            Self::Nonces => out.write_str(
                "the server refuses each of its own nonces; try again later, or see the CA's page about its state",
            ),
            Self::NotSupported { what } => write!(out, "the server does not support {what}"),
            Self::Signature => out.write_str("the request could not be signed; see that the account's key is whole"),
        }
    }
}

impl fmt::Display for ProofError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered {
                name,
                kind,
                offered,
            } => write!(
                out,
                "the CA does not offer {kind} for {name}, but {}; set acme.challenge to one of these",
                plain(offered)
            ),
            Self::Wildcard { name } => write!(
                out,
                "{name} can be proven by DNS-01 alone: set acme.challenge = \"dns-01\" and write hooks/dns-01"
            ),
            Self::Validation {
                name,
                kind,
                problem,
            } => write!(
                out,
                "the CA could not verify {name} by {kind}: {problem}; {}",
                kind.cure()
            ),
            Self::NotPresented { name, text } => {
                write!(out, "the proof for {name} could not be shown: {text}")
            }
        }
    }
}

impl std::error::Error for AcmeError {}

/// When to try again.
struct Later(Option<Timestamp>);

impl fmt::Display for Later {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(out, "try again after {}", at.rfc3339()),
            None => out.write_str("try again later"),
        }
    }
}

/// The remedy for a problem, by its kind (RFC 8555 section 6.7).
fn cure(problem: &AcmeProblem) -> &'static str {
    match problem.acme_kind() {
        Some("caa") => "add a CAA record that allows this CA, or remove the one that does not",
        Some("rejectedIdentifier" | "unsupportedIdentifier") => {
            "the CA does not issue for this name: correct acme.names"
        }
        Some("dns" | "connection" | "tls" | "incorrectResponse") => {
            "check that the names lead to this host and that its ports are reachable from outside"
        }
        Some("invalidContact" | "unsupportedContact") => "correct acme.email",
        Some("externalAccountRequired") => "set acme.eab_kid and acme.eab_key_file",
        Some("userActionRequired") => "follow the CA's instructions, and try again",
        Some("unauthorized") => {
            "see that the account is in order (acme.eab_kid, or remove its key under acme/ in state_dir)"
        }
        Some("badCSR" | "badPublicKey") => {
            "have another key made with chopar cert obtain --new-key"
        }
        _ => "correct what it says, and try again",
    }
}
