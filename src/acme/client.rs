//! The client side of ACME as a state machine: it says what to send, what to present and how long to wait.
//!
//! | action | answered with |
//! | --- | --- |
//! | `Send` | `on_response`, or `on_failure` if there was none |
//! | `Present` | `on_presented`, or `on_not_presented` |
//! | `Withdraw` | `on_withdrawn` |
//! | `Wait` | `on_waited` |
//! | `Done`, `Failed` | nothing: the machine has ended |
//!
//! Requests that fail with `badNonce` (RFC 8555 section 6.5) and temporary server errors are retried here, within
//! bounds. A rate limit ends the attempt; the error says until when it applies.

use std::collections::VecDeque;
use std::time::Duration;

use ring::rand::SecureRandom;

use self::call::{Call, Payload, Step, failure, is_nonce, location, problem};
use super::challenge::ChallengeKind;
use super::error::{AcmeError, ProofError};
use super::http::AcmeResponse;
use super::jws::{AccountKey, KnownBy};
use super::wire::{
    self, AcmeAccount, AcmeDirectory, AcmeProblem, Authorization, OrderStatus, RenewalInfo, Url,
};
use super::work::{AcmeAction, AcmeMethod, AcmeOutcome, AcmeRequest, AcmeWork, ChallengeProof};
use crate::date::Timestamp;
use crate::limits::{ACME_NONCE_TRIES, ACME_POLL_PAUSE_MIN, ACME_TRIES};

/// The machine.
pub struct AcmeClient {
    work: AcmeWork,
    key: AccountKey,
    directory_url: Url,
    directory: Option<AcmeDirectory>,
    kid: Option<String>,
    nonce: Option<String>,
    state: State,
    order: Placed,
    presented: Option<ChallengeProof>,
    poll: Poll,
}

/// An order that was placed.
#[derive(Default)]
struct Placed {
    url: Option<Url>,
    finalize: Option<Url>,
    /// How often the certificate was requested.
    finalized: u32,
    authorizations: VecDeque<Url>,
}

/// Polling an order or an authorization.
#[derive(Clone, Copy, Debug, Default)]
struct Poll {
    pause: Duration,
    until: Option<Timestamp>,
}

enum State {
    /// A request was sent.
    Asked(Call),
    /// A nonce is fetched for it.
    Nonce(Call),
    /// It is sent after a wait.
    Waiting(Call),
    /// A challenge is being presented; this request then tells the server to check it.
    Presenting(Call),
    /// A challenge is being withdrawn.
    Withdrawing(Then),
    Ended,
}

/// The step after a withdrawal.
enum Then {
    Next,
    Fail(AcmeError),
}

impl AcmeClient {
    /// A state machine, and its first action.
    pub fn new(directory: Url, key: AccountKey, work: AcmeWork) -> (Self, AcmeAction) {
        let call = Call::new(Step::Directory, directory.clone(), Payload::None);
        let mut client = Self {
            work,
            key,
            directory_url: directory,
            directory: None,
            kid: None,
            nonce: None,
            state: State::Ended,
            order: Placed::default(),
            presented: None,
            poll: Poll::default(),
        };
        let action = match client.wildcard() {
            Some(error) => AcmeAction::Failed(error),
            None => client.send_plain(call, AcmeMethod::Get),
        };
        (client, action)
    }

    /// The error for a name that the configured challenge type cannot prove.
    fn wildcard(&self) -> Option<AcmeError> {
        let AcmeWork::Obtain(order) = &self.work else {
            return None;
        };
        let mut names = order.names.iter();
        let name = names.find(|name| name.is_wildcard() && order.kind != ChallengeKind::Dns01)?;
        Some(AcmeError::Name(ProofError::Wildcard { name: name.clone() }))
    }

    /// Takes the server's response.
    pub fn on_response(
        &mut self,
        response: &AcmeResponse,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        if let Some(nonce) = response.nonce.clone().filter(|nonce| is_nonce(nonce)) {
            self.nonce = Some(nonce);
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Nonce(call) if self.nonce.is_some() => self.send(call, chance),
            State::Nonce(call) => self.on_no_nonce(call, response, now),
            State::Asked(call) => self.on_answer(call, response, now, chance),
            other => self.ignore(other),
        }
    }

    /// A request got no response.
    pub fn on_failure(&mut self, text: &str) -> AcmeAction {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Asked(call) | State::Nonce(call) => {
                let error = AcmeError::Unreachable {
                    url: call.url.as_str().to_owned(),
                    text: text.to_owned(),
                };
                self.again_or(call, error)
            }
            other => self.ignore(other),
        }
    }

    /// The challenge is presented: tells the server to check it.
    pub fn on_presented(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Presenting(call) => self.send(call, chance),
            other => self.ignore(other),
        }
    }

    /// The challenge cannot be presented.
    pub fn on_not_presented(&mut self, text: &str) -> AcmeAction {
        let name = self.presented.as_ref().map(|one| one.domain.clone());
        self.fail(AcmeError::Name(ProofError::NotPresented {
            name: name.unwrap_or_default(),
            text: text.to_owned(),
        }))
    }

    /// The challenge is withdrawn.
    pub fn on_withdrawn(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Withdrawing(Then::Next) => self.next_authorization(chance),
            State::Withdrawing(Then::Fail(error)) => AcmeAction::Failed(error),
            other => self.ignore(other),
        }
    }

    /// The wait is over.
    pub fn on_waited(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting(call) => self.send(call, chance),
            other => self.ignore(other),
        }
    }

    /// An unexpected call; the machine has ended, which is safe.
    fn ignore(&mut self, state: State) -> AcmeAction {
        drop(state);
        self.fail(AcmeError::NotSupported {
            what: "what happened out of its turn",
        })
    }

    fn fail(&mut self, error: AcmeError) -> AcmeAction {
        match self.presented.take() {
            Some(challenge) => {
                self.state = State::Withdrawing(Then::Fail(error));
                AcmeAction::Withdraw(challenge)
            }
            None => {
                self.state = State::Ended;
                AcmeAction::Failed(error)
            }
        }
    }

    /// Sends a request, with a stored nonce or after fetching one.
    fn send(&mut self, call: Call, chance: &dyn SecureRandom) -> AcmeAction {
        let payload = match &call.payload {
            Payload::None => return self.send_plain(call, AcmeMethod::Get),
            Payload::Empty => None,
            Payload::Json(value) => Some(value),
        };
        let Some(nonce) = self.nonce.take() else {
            return match &self.directory {
                Some(directory) => {
                    let url = directory.new_nonce.as_str().to_owned();
                    self.state = State::Nonce(call);
                    AcmeAction::Send(AcmeRequest {
                        method: AcmeMethod::Head,
                        url,
                        body: None,
                    })
                }
                None => self.fail(AcmeError::NotSupported { what: "nonces" }),
            };
        };
        let known_by = match &self.kid {
            Some(kid) => KnownBy::Account(kid),
            None => KnownBy::Key,
        };
        let url = call.url.as_str().to_owned();
        let Some(body) = self.key.sign(&url, &nonce, known_by, payload, chance) else {
            return self.fail(AcmeError::Signature);
        };
        self.state = State::Asked(call);
        AcmeAction::Send(AcmeRequest {
            method: AcmeMethod::Post,
            url,
            body: Some(body),
        })
    }

    fn send_plain(&mut self, call: Call, method: AcmeMethod) -> AcmeAction {
        let url = call.url.as_str().to_owned();
        self.state = State::Asked(call);
        AcmeAction::Send(AcmeRequest {
            method,
            url,
            body: None,
        })
    }

    fn on_no_nonce(&mut self, call: Call, response: &AcmeResponse, now: Timestamp) -> AcmeAction {
        let error = match response.status {
            200..=299 => AcmeError::Malformed {
                url: call.url.as_str().to_owned(),
                text: "expected a Replay-Nonce".to_owned(),
            },
            _ => failure(&call, response, now),
        };
        self.again_or(call, error)
    }

    /// Repeats a request after a pause, unless the limit is reached or a repetition cannot succeed.
    fn again_or(&mut self, mut call: Call, error: AcmeError) -> AcmeAction {
        let is_passing = match &error {
            AcmeError::Unreachable { .. } => true,
            AcmeError::Server { retry_at, .. } => retry_at.is_none(),
            _ => false,
        };
        call.tries = call.tries.saturating_add(1);
        if !is_passing || call.tries >= ACME_TRIES {
            return self.fail(error);
        }
        let pause = ACME_POLL_PAUSE_MIN.saturating_mul(1 << call.tries.min(5));
        self.state = State::Waiting(call);
        AcmeAction::Wait(pause)
    }

    fn on_answer(
        &mut self,
        mut call: Call,
        response: &AcmeResponse,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        if (200..300).contains(&response.status) {
            return self.on_success(call, response, now, chance);
        }
        let problem = problem(response);
        match problem.as_ref().and_then(AcmeProblem::acme_kind) {
            Some("badNonce") => {
                call.nonces = call.nonces.saturating_add(1);
                match call.nonces < ACME_NONCE_TRIES {
                    true => self.send(call, chance),
                    false => self.fail(AcmeError::Nonces),
                }
            }
            // An earlier attempt arrived although its response was lost (RFC 8555 section 7.4), or the server is still
            // working on it.
            Some("orderNotReady") if call.step == Step::Finalize => self.poll_order(response, now),
            Some("accountDoesNotExist") if call.step == Step::FindAccount => {
                self.new_account(chance)
            }
            // Replaced before, or of another account or CA: the order is more important (RFC 9773 section 5).
            Some(_)
                if call.step == Step::NewOrder && self.is_replacing() && response.status != 429 =>
            {
                if let AcmeWork::Obtain(order) = &mut self.work {
                    order.replaces = None;
                }
                self.new_order(chance)
            }
            Some("alreadyRevoked") if call.step == Step::Revoke => {
                AcmeAction::Done(AcmeOutcome::Revoked)
            }
            // RFC 9773 section 4.1: a server that cannot answer is treated like one without renewal information.
            _ if call.step == Step::Window && response.status < 500 && response.status != 429 => {
                AcmeAction::Done(AcmeOutcome::NoWindow)
            }
            _ => {
                let error = failure(&call, response, now);
                self.again_or(call, error)
            }
        }
    }

    fn is_replacing(&self) -> bool {
        matches!(&self.work, AcmeWork::Obtain(order) if order.replaces.is_some())
    }

    fn on_success(
        &mut self,
        call: Call,
        response: &AcmeResponse,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        let malformed = |text: String| AcmeError::Malformed {
            url: call.url.as_str().to_owned(),
            text,
        };
        match call.step {
            Step::Directory => match wire::read::<AcmeDirectory>(&response.body) {
                Ok(directory) => self.on_directory(directory, chance),
                Err(text) => self.fail(malformed(text)),
            },
            Step::Window => AcmeAction::Done(window(response, now)),
            Step::FindAccount | Step::NewAccount => {
                let account = wire::read::<AcmeAccount>(&response.body);
                match location(response) {
                    _ if account.is_ok_and(|account| account.status != OrderStatus::Valid) => {
                        self.fail(AcmeError::AccountUnusable)
                    }
                    Some(kid) => {
                        self.kid = Some(kid.as_str().to_owned());
                        self.new_order(chance)
                    }
                    None => self.fail(malformed("expected a Location".to_owned())),
                }
            }
            Step::NewOrder => match (wire::read_order(&response.body), location(response)) {
                (Ok(order), Some(url)) => {
                    self.order.url = Some(url);
                    self.order.authorizations = order.authorizations.iter().cloned().collect();
                    self.on_order(call.step, order, response, now, chance)
                }
                (Ok(_), None) => self.fail(malformed("expected a Location".to_owned())),
                (Err(text), _) => self.fail(malformed(text)),
            },
            Step::Authorization | Step::AuthorizationAgain => {
                match wire::read::<Authorization>(&response.body) {
                    Ok(authorization) => {
                        self.on_authorization(call, &authorization, response, now, chance)
                    }
                    Err(text) => self.fail(malformed(text)),
                }
            }
            // The authorization reports the state of the challenge better.
            Step::Answer => self.poll_authorization(response, now),
            Step::Finalize | Step::OrderAgain => match wire::read_order(&response.body) {
                Ok(order) => self.on_order(call.step, order, response, now, chance),
                Err(text) => self.fail(malformed(text)),
            },
            Step::Chain => AcmeAction::Done(AcmeOutcome::Chain(response.body.clone())),
            Step::Revoke => AcmeAction::Done(AcmeOutcome::Revoked),
        }
    }

    /// The directory that is asked.
    pub fn directory(&self) -> &str {
        self.directory_url.as_str()
    }
}

/// When to renew a certificate, if the server says so.
fn window(response: &AcmeResponse, now: Timestamp) -> AcmeOutcome {
    match RenewalInfo::parse(&response.body) {
        Some(info) => {
            let again = response.retry_after.as_deref();
            let again = again.and_then(|text| wire::retry_after(text, now));
            AcmeOutcome::Window(info, again.unwrap_or_default())
        }
        None => AcmeOutcome::NoWindow,
    }
}

mod call;
mod order;
