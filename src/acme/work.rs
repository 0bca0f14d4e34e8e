//! Inputs and outputs of the state machine: work, actions, results.

use std::time::Duration;

use super::challenge::ChallengeKind;
use super::error::AcmeError;
use super::jws::{ExternalAccount, digest_of, dns_value};
use super::name::Name;
use super::wire::RenewalInfo;

/// A task of the ACME client: an account, a certificate, or a revocation.
pub enum AcmeWork {
    Obtain(Box<CertificateOrder>),
    /// Revoke a certificate; the machine's key is that of the certificate (RFC 8555 section 7.6).
    Revoke {
        /// The certificate in DER.
        certificate: Vec<u8>,
        /// Why (RFC 5280 section 5.3.1).
        reason: u8,
    },
    /// Ask for the renewal window (RFC 9773).
    Ask {
        /// The server's identifier of the certificate.
        certificate: String,
    },
}

/// A certificate that is wanted.
pub struct CertificateOrder {
    pub names: Vec<Name>,
    /// The challenge type.
    pub kind: ChallengeKind,
    /// The signed request in DER (RFC 2986).
    pub request: Vec<u8>,
    /// The address for mail from the CA.
    pub email: Option<String>,
    /// Whether the CA's terms are agreed to.
    pub terms: Terms,
    /// The binding of the account to a customer of the CA.
    pub external: Option<ExternalAccount>,
    /// The certificate that this one replaces, as in [`AcmeWork::Ask`].
    pub replaces: Option<String>,
}

impl CertificateOrder {
    /// Whether it is for a name, as the CA writes it.
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
    /// Unknown; an existing account has agreed.
    Open,
}

/// Data to present for a challenge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChallengeProof {
    pub kind: ChallengeKind,
    /// The domain whose control is proven.
    pub domain: String,
    /// The token, a base64url word.
    pub token: String,
    /// The content for HTTP-01.
    pub key_authorization: String,
}

impl ChallengeProof {
    /// The digest for TLS-ALPN-01.
    pub fn digest(&self) -> [u8; 32] {
        digest_of(&self.key_authorization)
    }

    /// The value for DNS-01.
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
    /// The URL; always https.
    pub url: String,
    /// The body of a POST.
    pub body: Option<String>,
}

/// The next action.
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

/// The result.
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
