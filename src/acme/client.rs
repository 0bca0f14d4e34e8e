//! The client's side of ACME: what to send next, what to show, how long to wait.
//!
//! | action | answered with |
//! | --- | --- |
//! | `Send` | `on_response`, or `on_failure` where there was none |
//! | `Present` | `on_presented`, or `on_not_presented` |
//! | `Withdraw` | `on_withdrawn` |
//! | `Wait` | `on_waited` |
//! | `Done`, `Failed` | nothing: the machine has ended |
//!
//! Requests that meet `badNonce` (RFC 8555 section 6.5) and servers that fail for a moment are repeated here, in bounds; a
//! rate limit ends the attempt, and its end is in the error.

use std::collections::VecDeque;
use std::time::Duration;

use ring::rand::SecureRandom;
use serde_json::{Value, json};

use super::challenge::ChallengeKind;
use super::error::Error;
use super::http::Response;
use super::jws::{
    AccountKey, ExternalAccount, KnownBy, base64url, digest_of, dns_value, is_token,
    key_authorization,
};
use super::name::Name;
use super::wire::{self, Account, Authorization, Directory, Problem, RenewalInfo, Status, Url};
use crate::date::Timestamp;
use crate::limits::{
    ACME_NONCE_TRIES, ACME_POLL_PAUSE_MAX, ACME_POLL_PAUSE_MIN, ACME_POLL_TIMEOUT, ACME_TRIES,
};

/// What is to be done.
pub enum Work {
    /// Obtain a certificate.
    Obtain(Box<Order>),
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
pub struct Order {
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
    /// The certificate that this one takes the place of, as [`Work::Ask`] has it.
    pub replaces: Option<String>,
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
pub struct Challenge {
    /// The kind.
    pub kind: ChallengeKind,
    /// The domain that is proven.
    pub domain: String,
    /// The token, a base64url word.
    pub token: String,
    /// What HTTP-01 shows.
    pub key_authorization: String,
}

impl Challenge {
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
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST, with `application/jose+json`.
    Post,
}

/// A request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes; always https.
    pub url: String,
    /// The body of a POST.
    pub body: Option<String>,
}

/// What to do next.
#[must_use]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Send this.
    Send(Request),
    /// Show this.
    Present(Challenge),
    /// Do not show it any more.
    Withdraw(Challenge),
    /// Wait.
    Wait(Duration),
    /// It is done.
    Done(Outcome),
    /// It failed.
    Failed(Error),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A certificate and its chain, in PEM as the server sent them.
    Chain(Vec<u8>),
    /// It is revoked.
    Revoked,
    /// When to renew, and how soon to ask again.
    Window(RenewalInfo, Duration),
    /// The server does not say when to renew.
    NoWindow,
}

/// The machine.
pub struct Client {
    work: Work,
    key: AccountKey,
    directory_url: Url,
    directory: Option<Directory>,
    kid: Option<String>,
    nonce: Option<String>,
    state: State,
    order: Placed,
    presented: Option<Challenge>,
    poll: Poll,
}

/// An order that was placed.
#[derive(Default)]
struct Placed {
    url: Option<Url>,
    finalize: Option<Url>,
    /// How often the certificate was asked for.
    finalized: u32,
    authorizations: VecDeque<Url>,
}

/// Looking again and again.
#[derive(Clone, Copy, Debug, Default)]
struct Poll {
    pause: Duration,
    until: Option<Timestamp>,
}

enum State {
    /// A request is on its way.
    Asked(Call),
    /// A nonce is fetched for it.
    Nonce(Call),
    /// It is sent after a wait.
    Waiting(Call),
    /// A challenge is being shown; this tells the server to look.
    Presenting(Call),
    /// A challenge is being taken away.
    Withdrawing(Then),
    /// It is over.
    Ended,
}

/// What follows a withdrawal.
enum Then {
    Next,
    Fail(Error),
}

/// A request, with what it is for.
#[derive(Clone)]
struct Call {
    step: Step,
    url: Url,
    payload: Payload,
    /// How often a nonce was refused, and how often the server failed.
    nonces: u32,
    tries: u32,
}

#[derive(Clone)]
enum Payload {
    /// A plain GET.
    None,
    /// A POST-as-GET.
    Empty,
    /// A POST with this.
    Json(Value),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
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
    /// What it is, for an error.
    const fn what(self) -> &'static str {
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

impl Client {
    /// A machine, and what it wants first.
    pub fn new(directory: Url, key: AccountKey, work: Work) -> (Self, Action) {
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
            Some(error) => Action::Failed(error),
            None => client.send_plain(call, Method::Get),
        };
        (client, action)
    }

    /// A name that cannot be proven in the way that is configured.
    fn wildcard(&self) -> Option<Error> {
        let Work::Obtain(order) = &self.work else {
            return None;
        };
        let mut names = order.names.iter();
        let name = names.find(|name| name.is_wildcard() && order.kind != ChallengeKind::Dns01)?;
        Some(Error::Wildcard { name: name.clone() })
    }

    /// The server has answered.
    pub fn on_response(
        &mut self,
        response: &Response,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> Action {
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

    /// There was no answer.
    pub fn on_failure(&mut self, text: &str) -> Action {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Asked(call) | State::Nonce(call) => {
                let error = Error::Unreachable {
                    url: call.url.as_str().to_owned(),
                    text: text.to_owned(),
                };
                self.again_or(call, error)
            }
            other => self.ignore(other),
        }
    }

    /// The challenge is shown: the server may look.
    pub fn on_presented(&mut self, chance: &dyn SecureRandom) -> Action {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Presenting(call) => self.send(call, chance),
            other => self.ignore(other),
        }
    }

    /// The challenge cannot be shown.
    pub fn on_not_presented(&mut self, text: &str) -> Action {
        let name = self.presented.as_ref().map(|one| one.domain.clone());
        self.fail(Error::NotPresented {
            name: name.unwrap_or_default(),
            text: text.to_owned(),
        })
    }

    /// The challenge is not shown any more.
    pub fn on_withdrawn(&mut self, chance: &dyn SecureRandom) -> Action {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Withdrawing(Then::Next) => self.next_authorization(chance),
            State::Withdrawing(Then::Fail(error)) => Action::Failed(error),
            other => self.ignore(other),
        }
    }

    /// The wait is over.
    pub fn on_waited(&mut self, chance: &dyn SecureRandom) -> Action {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting(call) => self.send(call, chance),
            other => self.ignore(other),
        }
    }

    /// Nobody should have said that now; the machine has ended, which is the safe end.
    fn ignore(&mut self, state: State) -> Action {
        drop(state);
        self.fail(Error::NotSupported {
            what: "what happened out of its turn",
        })
    }

    fn fail(&mut self, error: Error) -> Action {
        match self.presented.take() {
            Some(challenge) => {
                self.state = State::Withdrawing(Then::Fail(error));
                Action::Withdraw(challenge)
            }
            None => {
                self.state = State::Ended;
                Action::Failed(error)
            }
        }
    }

    /// Sends it, by a nonce that is at hand or is fetched first.
    fn send(&mut self, call: Call, chance: &dyn SecureRandom) -> Action {
        let payload = match &call.payload {
            Payload::None => return self.send_plain(call, Method::Get),
            Payload::Empty => None,
            Payload::Json(value) => Some(value),
        };
        let Some(nonce) = self.nonce.take() else {
            return match &self.directory {
                Some(directory) => {
                    let url = directory.new_nonce.as_str().to_owned();
                    self.state = State::Nonce(call);
                    Action::Send(Request {
                        method: Method::Head,
                        url,
                        body: None,
                    })
                }
                None => self.fail(Error::NotSupported { what: "nonces" }),
            };
        };
        let known_by = match &self.kid {
            Some(kid) => KnownBy::Account(kid),
            None => KnownBy::Key,
        };
        let url = call.url.as_str().to_owned();
        let Some(body) = self.key.sign(&url, &nonce, known_by, payload, chance) else {
            return self.fail(Error::Signature);
        };
        self.state = State::Asked(call);
        Action::Send(Request {
            method: Method::Post,
            url,
            body: Some(body),
        })
    }

    fn send_plain(&mut self, call: Call, method: Method) -> Action {
        let url = call.url.as_str().to_owned();
        self.state = State::Asked(call);
        Action::Send(Request {
            method,
            url,
            body: None,
        })
    }

    fn on_no_nonce(&mut self, call: Call, response: &Response, now: Timestamp) -> Action {
        let error = match response.status {
            200..=299 => Error::Malformed {
                url: call.url.as_str().to_owned(),
                text: "expected a Replay-Nonce".to_owned(),
            },
            _ => failure(&call, response, now),
        };
        self.again_or(call, error)
    }

    /// Repeats a request after a moment, unless that has been tried often enough or would be of no use.
    fn again_or(&mut self, mut call: Call, error: Error) -> Action {
        let is_passing = match &error {
            Error::Unreachable { .. } => true,
            Error::Server { retry_at, .. } => retry_at.is_none(),
            _ => false,
        };
        call.tries = call.tries.saturating_add(1);
        if !is_passing || call.tries >= ACME_TRIES {
            return self.fail(error);
        }
        let pause = ACME_POLL_PAUSE_MIN.saturating_mul(1 << call.tries.min(5));
        self.state = State::Waiting(call);
        Action::Wait(pause)
    }

    fn on_answer(
        &mut self,
        mut call: Call,
        response: &Response,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> Action {
        if (200..300).contains(&response.status) {
            return self.on_success(call, response, now, chance);
        }
        let problem = problem(response);
        match problem.as_ref().and_then(Problem::acme_kind) {
            Some("badNonce") => {
                call.nonces = call.nonces.saturating_add(1);
                match call.nonces < ACME_NONCE_TRIES {
                    true => self.send(call, chance),
                    false => self.fail(Error::Nonces),
                }
            }
            // Another try was heard although its answer was not (RFC 8555 section 7.4), or it is still at work.
            Some("orderNotReady") if call.step == Step::Finalize => self.poll_order(response, now),
            Some("accountDoesNotExist") if call.step == Step::FindAccount => {
                self.new_account(chance)
            }
            // Replaced before, of another account, of another CA: what counts is the order (RFC 9773 section 5).
            Some(_)
                if call.step == Step::NewOrder && self.is_replacing() && response.status != 429 =>
            {
                if let Work::Obtain(order) = &mut self.work {
                    order.replaces = None;
                }
                self.new_order(chance)
            }
            Some("alreadyRevoked") if call.step == Step::Revoke => Action::Done(Outcome::Revoked),
            // RFC 9773 section 4.1: a server that cannot tell is as good as one that does not do it.
            _ if call.step == Step::Window && response.status < 500 && response.status != 429 => {
                Action::Done(Outcome::NoWindow)
            }
            _ => {
                let error = failure(&call, response, now);
                self.again_or(call, error)
            }
        }
    }

    fn is_replacing(&self) -> bool {
        matches!(&self.work, Work::Obtain(order) if order.replaces.is_some())
    }

    fn on_success(
        &mut self,
        call: Call,
        response: &Response,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> Action {
        let malformed = |text: String| Error::Malformed {
            url: call.url.as_str().to_owned(),
            text,
        };
        match call.step {
            Step::Directory => match wire::read::<Directory>(&response.body) {
                Ok(directory) => self.on_directory(directory, chance),
                Err(text) => self.fail(malformed(text)),
            },
            Step::Window => match RenewalInfo::parse(&response.body) {
                Some(info) => {
                    let again = response.retry_after.as_deref();
                    let again = again.and_then(|text| wire::retry_after(text, now));
                    Action::Done(Outcome::Window(info, again.unwrap_or_default()))
                }
                None => Action::Done(Outcome::NoWindow),
            },
            Step::FindAccount | Step::NewAccount => {
                let account = wire::read::<Account>(&response.body);
                if account.is_ok_and(|account| account.status != Status::Valid) {
                    return self.fail(Error::AccountUnusable);
                }
                match location(response) {
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
            // What the challenge says now is said better by its authorization.
            Step::Answer => self.poll_authorization(response, now),
            Step::Finalize | Step::OrderAgain => match wire::read_order(&response.body) {
                Ok(order) => self.on_order(call.step, order, response, now, chance),
                Err(text) => self.fail(malformed(text)),
            },
            Step::Chain => Action::Done(Outcome::Chain(response.body.clone())),
            Step::Revoke => Action::Done(Outcome::Revoked),
        }
    }

    fn on_directory(&mut self, directory: Directory, chance: &dyn SecureRandom) -> Action {
        let call = match &self.work {
            Work::Obtain(_) => Call::new(
                Step::FindAccount,
                directory.new_account.clone(),
                Payload::Json(json!({"onlyReturnExisting": true})),
            ),
            Work::Revoke {
                certificate,
                reason,
            } => {
                let certificate = base64url(certificate);
                Call::new(
                    Step::Revoke,
                    directory.revoke_cert.clone(),
                    Payload::Json(json!({"certificate": certificate, "reason": reason})),
                )
            }
            Work::Ask { certificate } => {
                let url = directory.renewal_info.as_ref().and_then(|front| {
                    let front = front.as_str().trim_end_matches('/');
                    Url::try_from(format!("{front}/{certificate}")).ok()
                });
                match url {
                    Some(url) => Call::new(Step::Window, url, Payload::None),
                    None => return Action::Done(Outcome::NoWindow),
                }
            }
        };
        self.directory = Some(directory);
        self.send(call, chance)
    }

    fn new_account(&mut self, chance: &dyn SecureRandom) -> Action {
        let (Some(directory), Work::Obtain(order)) = (&self.directory, &self.work) else {
            return self.fail(Error::NotSupported { what: "accounts" });
        };
        if let (Some(url), Terms::Open) = (&directory.meta.terms_of_service, order.terms) {
            let url = url.clone();
            return self.fail(Error::Terms { url });
        }
        let mut account = json!({"termsOfServiceAgreed": true});
        if let Some(fields) = account.as_object_mut() {
            if let Some(email) = &order.email {
                fields.insert("contact".into(), json!([format!("mailto:{email}")]));
            }
            match &order.external {
                Some(external) => {
                    let bound = self.key.bind(external, directory.new_account.as_str());
                    fields.insert("externalAccountBinding".into(), bound);
                }
                None if directory.meta.external_account_required => {
                    return self.fail(Error::ExternalAccount);
                }
                None => {}
            }
        }
        let url = directory.new_account.clone();
        self.send(
            Call::new(Step::NewAccount, url, Payload::Json(account)),
            chance,
        )
    }

    fn new_order(&mut self, chance: &dyn SecureRandom) -> Action {
        let (Some(directory), Work::Obtain(order)) = (&self.directory, &self.work) else {
            return self.fail(Error::NotSupported { what: "orders" });
        };
        let identifiers: Vec<Value> = order
            .names
            .iter()
            .map(|name| json!({"type": "dns", "value": name.to_string()}))
            .collect();
        let mut payload = json!({"identifiers": identifiers});
        if let (Some(fields), Some(replaces), true) = (
            payload.as_object_mut(),
            &order.replaces,
            directory.renewal_info.is_some(),
        ) {
            fields.insert("replaces".into(), replaces.as_str().into());
        }
        let url = directory.new_order.clone();
        self.send(
            Call::new(Step::NewOrder, url, Payload::Json(payload)),
            chance,
        )
    }

    fn on_order(
        &mut self,
        step: Step,
        order: wire::Order,
        response: &Response,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> Action {
        self.order.finalize = Some(order.finalize);
        match (order.status, order.certificate) {
            (Status::Pending, _) if !self.order.authorizations.is_empty() => {
                self.next_authorization(chance)
            }
            // It has not noticed yet that all names are authorized.
            (Status::Pending, _) => self.poll_order(response, now),
            (Status::Ready, _) if self.order.finalized == 0 => {
                self.poll = Poll::default();
                self.finalize(chance)
            }
            // It was not heard; once more, after a pause and within the same time.
            (Status::Ready, _) if step == Step::OrderAgain && self.order.finalized < ACME_TRIES => {
                match self.poll.until.is_some_and(|until| now < until) {
                    true => self.finalize(chance),
                    false => self.poll_order(response, now),
                }
            }
            (Status::Ready, _) => self.poll_order(response, now),
            (Status::Processing, _) => self.poll_order(response, now),
            (Status::Valid, Some(url)) => {
                self.send(Call::new(Step::Chain, url, Payload::Empty), chance)
            }
            (Status::Valid, None) => self.poll_order(response, now),
            _ => self.fail(Error::OrderInvalid {
                problem: order.error.unwrap_or_default(),
            }),
        }
    }

    /// The next name; after the last, the order is looked at again: it should be ready.
    fn next_authorization(&mut self, chance: &dyn SecureRandom) -> Action {
        self.poll = Poll::default();
        match (self.order.authorizations.front(), &self.order.url) {
            (Some(url), _) => {
                let call = Call::new(Step::Authorization, url.clone(), Payload::Empty);
                self.send(call, chance)
            }
            (None, Some(url)) if self.order.finalize.is_some() => {
                let call = Call::new(Step::OrderAgain, url.clone(), Payload::Empty);
                self.send(call, chance)
            }
            _ => self.fail(Error::NotSupported { what: "orders" }),
        }
    }

    fn on_authorization(
        &mut self,
        call: Call,
        authorization: &Authorization,
        response: &Response,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> Action {
        let name = &authorization.identifier.value;
        let Work::Obtain(order) = &self.work else {
            return self.fail(Error::NotSupported { what: "orders" });
        };
        let kind = order.kind;
        // The server is not to lead us to prove what was not asked for.
        let mut names = order.names.iter();
        if !names.any(|one| one.domain().as_str().eq_ignore_ascii_case(name)) {
            return self.fail(Error::Malformed {
                url: call.url.as_str().to_owned(),
                text: "an authorization for a name that was not ordered".to_owned(),
            });
        }
        let challenges = &authorization.challenges;
        let challenge = challenges.iter().find(|one| one.kind == kind.word());
        match authorization.status {
            Status::Valid => {
                self.order.authorizations.pop_front();
                match self.presented.take() {
                    Some(challenge) => {
                        self.state = State::Withdrawing(Then::Next);
                        Action::Withdraw(challenge)
                    }
                    None => self.next_authorization(chance),
                }
            }
            Status::Pending if call.step == Step::AuthorizationAgain => {
                self.poll_authorization(response, now)
            }
            Status::Pending => match challenge {
                Some(challenge) if is_token(&challenge.token) => {
                    let presented = Challenge {
                        kind,
                        domain: name.to_ascii_lowercase(),
                        token: challenge.token.clone(),
                        key_authorization: key_authorization(&challenge.token, &self.key),
                    };
                    let answer = Payload::Json(json!({}));
                    self.presented = Some(presented.clone());
                    self.state =
                        State::Presenting(Call::new(Step::Answer, challenge.url.clone(), answer));
                    Action::Present(presented)
                }
                Some(_) => self.fail(Error::Malformed {
                    url: call.url.as_str().to_owned(),
                    text: "the token is not base64url of 128 bits or more".to_owned(),
                }),
                None => {
                    let offered: Vec<&str> = challenges.iter().map(|one| &*one.kind).collect();
                    self.fail(Error::NotOffered {
                        name: wire::plain(name),
                        kind,
                        offered: offered.join(", "),
                    })
                }
            },
            _ => {
                let problem = challenges.iter().find_map(|one| one.error.clone());
                self.fail(Error::Validation {
                    name: wire::plain(name),
                    kind,
                    problem: problem.unwrap_or_default(),
                })
            }
        }
    }

    fn finalize(&mut self, chance: &dyn SecureRandom) -> Action {
        let (Some(url), Work::Obtain(order)) = (self.order.finalize.clone(), &self.work) else {
            return self.fail(Error::NotSupported { what: "orders" });
        };
        let payload = Payload::Json(json!({"csr": base64url(&order.request)}));
        self.order.finalized = self.order.finalized.saturating_add(1);
        self.send(Call::new(Step::Finalize, url, payload), chance)
    }

    fn poll_authorization(&mut self, response: &Response, now: Timestamp) -> Action {
        match self.order.authorizations.front().cloned() {
            Some(url) => self.poll(Step::AuthorizationAgain, url, response, now),
            None => self.fail(Error::NotSupported { what: "orders" }),
        }
    }

    fn poll_order(&mut self, response: &Response, now: Timestamp) -> Action {
        match self.order.url.clone() {
            Some(url) => self.poll(Step::OrderAgain, url, response, now),
            None => self.fail(Error::NotSupported { what: "orders" }),
        }
    }

    /// Looks again after a while: as long as the server says, else longer each time.
    fn poll(&mut self, step: Step, url: Url, response: &Response, now: Timestamp) -> Action {
        let until = *self
            .poll
            .until
            .get_or_insert_with(|| now.after(ACME_POLL_TIMEOUT));
        if now >= until {
            return self.fail(Error::TooSlow { what: step.what() });
        }
        let longer = self.poll.pause.saturating_mul(2);
        self.poll.pause = longer.clamp(ACME_POLL_PAUSE_MIN, ACME_POLL_PAUSE_MAX);
        let asked = response.retry_after.as_deref();
        let asked = asked.and_then(|text| wire::retry_after(text, now));
        let pause = asked.map_or(self.poll.pause, |asked| {
            asked.clamp(ACME_POLL_PAUSE_MIN, ACME_POLL_PAUSE_MAX)
        });
        self.state = State::Waiting(Call::new(step, url, Payload::Empty));
        Action::Wait(pause)
    }

    /// The directory that is asked.
    pub fn directory(&self) -> &str {
        self.directory_url.as_str()
    }
}

impl Call {
    fn new(step: Step, url: Url, payload: Payload) -> Self {
        Self {
            step,
            url,
            payload,
            nonces: 0,
            tries: 0,
        }
    }
}

fn location(response: &Response) -> Option<Url> {
    Url::try_from(response.location.clone()?).ok()
}

/// The problem document of a response that is none of success.
fn problem(response: &Response) -> Option<Problem> {
    wire::read::<Problem>(&response.body)
        .ok()
        .filter(|problem| !problem.kind.is_empty() || !problem.detail.is_empty())
}

fn failure(call: &Call, response: &Response, now: Timestamp) -> Error {
    let retry_at = response
        .retry_after
        .as_deref()
        .and_then(|text| wire::retry_after(text, now))
        .map(|after| now.after(after));
    match (problem(response), response.status) {
        (Some(problem), status) if status == 429 || problem.acme_kind() == Some("rateLimited") => {
            Error::RateLimited { problem, retry_at }
        }
        (problem, status) if status >= 500 || status == 429 => Error::Server {
            url: call.url.as_str().to_owned(),
            status,
            problem,
            retry_at,
        },
        (Some(problem), _) if problem.acme_kind() == Some("externalAccountRequired") => {
            Error::ExternalAccount
        }
        (Some(problem), _) => Error::Refused {
            what: call.step.what(),
            problem,
        },
        (None, status) => Error::Malformed {
            url: call.url.as_str().to_owned(),
            text: format!("status {status} without a problem document"),
        },
    }
}

/// A nonce is base64url (RFC 8555 section 6.5.1).
fn is_nonce(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= NONCE_BYTES_MAX && text.bytes().all(is_base64url)
}

const NONCE_BYTES_MAX: usize = 1_024;
