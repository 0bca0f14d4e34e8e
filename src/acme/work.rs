//! Inputs and outputs of the state machine: work, actions, outcomes.

use std::time::Duration;

use super::challenge::ChallengeKind;
use super::error::AcmeError;
use super::jws::{ExternalAccount, digest_of, dns_value};
use super::name::Name;
use super::wire::RenewalInfo;

/// What the ACME client is asked for: an account, a certificate, or its end.
pub enum AcmeWork {
    Obtain(Box<CertificateOrder>),
    /// Revoke one; the key of the machine is that of the certificate (RFC 8555 section 7.6).
    Revoke {
        /// The certificate in DER.
        certificate: Vec<u8>,
        /// Why (RFC 5280 section 5.3.1).
        reason: u8,
    },
    /// Ask when to renew (RFC 9773).
    Ask {
        /// What the server knows the certificate by.
        certificate: String,
    },
}

/// A certificate that is wanted.
pub struct CertificateOrder {
    /// What it is to be for.
    pub names: Vec<Name>,
    /// How the names are proven.
    pub kind: ChallengeKind,
    /// The signed request in DER (RFC 2986).
    pub request: Vec<u8>,
    /// Where the CA writes to.
    pub email: Option<String>,
    /// Whether the CA's terms are agreed to.
    pub terms: Terms,
    /// What binds the account to one that the CA knows.
    pub external: Option<ExternalAccount>,
    /// The certificate that this one takes the place of, as [`AcmeWork::Ask`] has it.
    pub replaces: Option<String>,
}

impl CertificateOrder {
    /// Whether it is to be for a name, as the CA writes it.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let mut names = self.names.iter();
        names.any(|one| one.domain().as_str().eq_ignore_ascii_case(name))
    }
}

/// Whether the CA's terms are agreed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Terms {
    /// They are.
    Agreed,
    /// Nobody has said so; an account that is there already has agreed.
    Open,
}

/// Something to be shown to the world.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChallengeProof {
    pub kind: ChallengeKind,
    /// The domain that is proven.
    pub domain: String,
    /// The token, a base64url word.
    pub token: String,
    /// What HTTP-01 shows.
    pub key_authorization: String,
}

impl ChallengeProof {
    /// What TLS-ALPN-01 shows.
    pub fn digest(&self) -> [u8; 32] {
        digest_of(&self.key_authorization)
    }

    /// What DNS-01 shows.
    pub fn dns_value(&self) -> String {
        dns_value(&self.key_authorization)
    }
}

/// Methods of HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AcmeMethod {
    Get,
    Head,
    /// POST, with `application/jose+json`.
    Post,
}

/// One HTTPS request to the CA, with its body; without an answer nothing else is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcmeRequest {
    pub method: AcmeMethod,
    /// Where it goes; always https.
    pub url: String,
    /// The body of a POST.
    pub body: Option<String>,
}

/// What to do next.
#[must_use]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AcmeAction {
    Send(AcmeRequest),
    /// Show this.
    Present(ChallengeProof),
    /// Do not show it any more.
    Withdraw(ChallengeProof),
    Wait(Duration),
    Done(AcmeOutcome),
    Failed(AcmeError),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AcmeOutcome {
    /// A certificate and its chain, in PEM as the server sent them.
    Chain(Vec<u8>),
    Revoked,
    /// When to renew, and how soon to ask again.
    Window(RenewalInfo, Duration),
    /// The server does not say when to renew.
    NoWindow,
}
