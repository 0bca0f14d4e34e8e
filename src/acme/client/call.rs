//! A request, its purpose, and what follows from a response that is not a success.

use serde_json::Value;

use crate::acme::error::AcmeError;
use crate::acme::http::AcmeResponse;
use crate::acme::wire::{self, AcmeProblem, Url};
use crate::date::Timestamp;

/// A request, with its purpose.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) step: Step,
    pub(super) url: Url,
    pub(super) payload: Payload,
    /// How often a nonce was refused, and how often the server failed.
    pub(super) nonces: u32,
    pub(super) tries: u32,
}

#[derive(Clone)]
pub(super) enum Payload {
    /// A plain GET.
    None,
    /// A POST-as-GET.
    Empty,
    /// A POST with this.
    Json(Value),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Directory,
    Window,
    FindAccount,
    NewAccount,
    NewOrder,
    Authorization,
    Answer,
    AuthorizationAgain,
    Finalize,
    OrderAgain,
    Chain,
    Revoke,
}

impl Step {
    /// The name of the request, for an error.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Directory => "the directory",
            Self::Window => "the renewal window",
            Self::FindAccount | Self::NewAccount => "the account",
            Self::NewOrder | Self::OrderAgain => "the order",
            Self::Authorization | Self::AuthorizationAgain => "the authorization",
            Self::Answer => "the challenge",
            Self::Finalize => "the request for the certificate",
            Self::Chain => "the certificate",
            Self::Revoke => "the revocation",
        }
    }
}

impl Call {
    pub(super) fn new(step: Step, url: Url, payload: Payload) -> Self {
        Self {
            step,
            url,
            payload,
            nonces: 0,
            tries: 0,
        }
    }
}

pub(super) fn location(response: &AcmeResponse) -> Option<Url> {
    Url::try_from(response.location.clone()?).ok()
}

/// The problem document of a response that is none of success.
pub(super) fn problem(response: &AcmeResponse) -> Option<AcmeProblem> {
    wire::read::<AcmeProblem>(&response.body)
        .ok()
        .filter(|problem| !problem.kind.is_empty() || !problem.detail.is_empty())
}

pub(super) fn failure(call: &Call, response: &AcmeResponse, now: Timestamp) -> AcmeError {
    let retry_at = response
        .retry_after
        .as_deref()
        .and_then(|text| wire::retry_after(text, now))
        .map(|after| now.after(after));
    match (problem(response), response.status) {
        (Some(problem), status) if status == 429 || problem.acme_kind() == Some("rateLimited") => {
            AcmeError::RateLimited { problem, retry_at }
        }
        (problem, status) if status >= 500 || status == 429 => AcmeError::Server {
            url: call.url.as_str().to_owned(),
            status,
            problem,
            retry_at,
        },
        (Some(problem), _) if problem.acme_kind() == Some("externalAccountRequired") => {
            AcmeError::ExternalAccount
        }
        (Some(problem), _) => AcmeError::Refused {
            what: call.step.what(),
            problem,
        },
        (None, status) => AcmeError::Malformed {
            url: call.url.as_str().to_owned(),
            text: format!("status {status} without a problem document"),
        },
    }
}

/// A nonce is base64url (RFC 8555 section 6.5.1).
pub(super) fn is_nonce(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= NONCE_BYTES_MAX && text.bytes().all(is_base64url)
}

const NONCE_BYTES_MAX: usize = 1_024;
