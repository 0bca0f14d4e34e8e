//! The steps from the directory to the certificate: account, order, authorizations, and polling.

use ring::rand::SecureRandom;
use serde_json::{Value, json};

use super::call::{Call, Payload, Step};
use super::{AcmeClient, Poll, State, Then};
use crate::acme::error::{AcmeError, ProofError};
use crate::acme::http::AcmeResponse;
use crate::acme::jws::{base64url, is_token, key_authorization};
use crate::acme::wire::{self, AcmeDirectory, Authorization, OrderStatus, Url};
use crate::acme::work::{AcmeAction, AcmeOutcome, AcmeWork, ChallengeProof, Terms};
use crate::date::Timestamp;
use crate::limits::{ACME_POLL_PAUSE_MAX, ACME_POLL_PAUSE_MIN, ACME_POLL_TIMEOUT, ACME_TRIES};

impl AcmeClient {
    pub(super) fn on_directory(
        &mut self,
        directory: AcmeDirectory,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        let call = match &self.work {
            AcmeWork::Obtain(_) => Call::new(
                Step::FindAccount,
                directory.new_account.clone(),
                Payload::Json(json!({"onlyReturnExisting": true})),
            ),
            AcmeWork::Revoke {
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
            AcmeWork::Ask { certificate } => {
                let url = directory.renewal_info.as_ref().and_then(|front| {
                    let front = front.as_str().trim_end_matches('/');
                    Url::try_from(format!("{front}/{certificate}")).ok()
                });
                match url {
                    Some(url) => Call::new(Step::Window, url, Payload::None),
                    None => return AcmeAction::Done(AcmeOutcome::NoWindow),
                }
            }
        };
        self.directory = Some(directory);
        self.send(call, chance)
    }

    pub(super) fn new_account(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        let (Some(directory), AcmeWork::Obtain(order)) = (&self.directory, &self.work) else {
            return self.fail(AcmeError::NotSupported { what: "accounts" });
        };
        if let (Some(url), Terms::Open) = (&directory.meta.terms_of_service, order.terms) {
            let url = url.clone();
            return self.fail(AcmeError::Terms { url });
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
                    return self.fail(AcmeError::ExternalAccount);
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

    pub(super) fn new_order(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        let (Some(directory), AcmeWork::Obtain(order)) = (&self.directory, &self.work) else {
            return self.fail(AcmeError::NotSupported { what: "orders" });
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

    pub(super) fn on_order(
        &mut self,
        step: Step,
        order: wire::OrderObject,
        response: &AcmeResponse,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        self.order.finalize = Some(order.finalize);
        match (order.status, order.certificate) {
            (OrderStatus::Pending, _) if !self.order.authorizations.is_empty() => {
                self.next_authorization(chance)
            }
            // It has not noticed yet that all names are authorized.
            (OrderStatus::Pending, _) => self.poll_order(response, now),
            (OrderStatus::Ready, _) if self.order.finalized == 0 => {
                self.poll = Poll::default();
                self.finalize(chance)
            }
            // The request was lost: sends it again, after a pause and within the same time limit.
            (OrderStatus::Ready, _)
                if step == Step::OrderAgain && self.order.finalized < ACME_TRIES =>
            {
                match self.poll.until.is_some_and(|until| now < until) {
                    true => self.finalize(chance),
                    false => self.poll_order(response, now),
                }
            }
            (OrderStatus::Ready, _) => self.poll_order(response, now),
            (OrderStatus::Processing, _) => self.poll_order(response, now),
            (OrderStatus::Valid, Some(url)) => {
                self.send(Call::new(Step::Chain, url, Payload::Empty), chance)
            }
            (OrderStatus::Valid, None) => self.poll_order(response, now),
            _ => self.fail(AcmeError::OrderInvalid {
                problem: order.error.unwrap_or_default(),
            }),
        }
    }

    /// The next name; after the last, the order is looked at again: it should be ready.
    pub(super) fn next_authorization(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
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
            _ => self.fail(AcmeError::NotSupported { what: "orders" }),
        }
    }

    pub(super) fn on_authorization(
        &mut self,
        call: Call,
        authorization: &Authorization,
        response: &AcmeResponse,
        now: Timestamp,
        chance: &dyn SecureRandom,
    ) -> AcmeAction {
        let name = &authorization.identifier.value;
        let AcmeWork::Obtain(order) = &self.work else {
            return self.fail(AcmeError::NotSupported { what: "orders" });
        };
        // The server must not make us prove a name that was not requested.
        if !order.is_for(name) {
            return self.fail(AcmeError::Malformed {
                url: call.url.as_str().to_owned(),
                text: "an authorization for a name that was not ordered".to_owned(),
            });
        }
        let kind = order.kind;
        let challenges = &authorization.challenges;
        let challenge = challenges.iter().find(|one| one.kind == kind.word());
        match authorization.status {
            OrderStatus::Valid => self.proven(chance),
            OrderStatus::Pending if call.step == Step::AuthorizationAgain => {
                self.poll_authorization(response, now)
            }
            OrderStatus::Pending => match challenge {
                Some(challenge) if is_token(&challenge.token) => {
                    let presented = ChallengeProof {
                        kind,
                        domain: name.to_ascii_lowercase(),
                        token: challenge.token.clone(),
                        key_authorization: key_authorization(&challenge.token, &self.key),
                    };
                    self.present(presented, challenge.url.clone())
                }
                Some(_) => self.fail(AcmeError::Malformed {
                    url: call.url.as_str().to_owned(),
                    text: "the token is not base64url of 128 bits or more".to_owned(),
                }),
                None => {
                    let offered: Vec<&str> = challenges.iter().map(|one| &*one.kind).collect();
                    self.fail(AcmeError::Name(ProofError::NotOffered {
                        name: wire::plain(name),
                        kind,
                        offered: offered.join(", "),
                    }))
                }
            },
            _ => {
                let problem = challenges.iter().find_map(|one| one.error.clone());
                self.fail(AcmeError::Name(ProofError::Validation {
                    name: wire::plain(name),
                    kind,
                    problem: problem.unwrap_or_default(),
                }))
            }
        }
    }

    /// A name is authorized: withdraws its proof and continues with the next name.
    fn proven(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        self.order.authorizations.pop_front();
        match self.presented.take() {
            Some(challenge) => {
                self.state = State::Withdrawing(Then::Next);
                AcmeAction::Withdraw(challenge)
            }
            None => self.next_authorization(chance),
        }
    }

    /// Presents a proof, before the server is asked to check it.
    fn present(&mut self, presented: ChallengeProof, url: Url) -> AcmeAction {
        let answer = Payload::Json(json!({}));
        self.presented = Some(presented.clone());
        self.state = State::Presenting(Call::new(Step::Answer, url, answer));
        AcmeAction::Present(presented)
    }

    pub(super) fn finalize(&mut self, chance: &dyn SecureRandom) -> AcmeAction {
        let (Some(url), AcmeWork::Obtain(order)) = (self.order.finalize.clone(), &self.work) else {
            return self.fail(AcmeError::NotSupported { what: "orders" });
        };
        let payload = Payload::Json(json!({"csr": base64url(&order.request)}));
        self.order.finalized = self.order.finalized.saturating_add(1);
        self.send(Call::new(Step::Finalize, url, payload), chance)
    }

    pub(super) fn poll_authorization(
        &mut self,
        response: &AcmeResponse,
        now: Timestamp,
    ) -> AcmeAction {
        match self.order.authorizations.front().cloned() {
            Some(url) => self.poll(Step::AuthorizationAgain, url, response, now),
            None => self.fail(AcmeError::NotSupported { what: "orders" }),
        }
    }

    pub(super) fn poll_order(&mut self, response: &AcmeResponse, now: Timestamp) -> AcmeAction {
        match self.order.url.clone() {
            Some(url) => self.poll(Step::OrderAgain, url, response, now),
            None => self.fail(AcmeError::NotSupported { what: "orders" }),
        }
    }

    /// Polls again after a pause: as long as the server says, otherwise longer each time.
    pub(super) fn poll(
        &mut self,
        step: Step,
        url: Url,
        response: &AcmeResponse,
        now: Timestamp,
    ) -> AcmeAction {
        let until = *self
            .poll
            .until
            .get_or_insert_with(|| now.after(ACME_POLL_TIMEOUT));
        if now >= until {
            return self.fail(AcmeError::TooSlow { what: step.what() });
        }
        let longer = self.poll.pause.saturating_mul(2);
        self.poll.pause = longer.clamp(ACME_POLL_PAUSE_MIN, ACME_POLL_PAUSE_MAX);
        let asked = response.retry_after.as_deref();
        let asked = asked.and_then(|text| wire::retry_after(text, now));
        let pause = asked.map_or(self.poll.pause, |asked| {
            asked.clamp(ACME_POLL_PAUSE_MIN, ACME_POLL_PAUSE_MAX)
        });
        self.state = State::Waiting(Call::new(step, url, Payload::Empty));
        AcmeAction::Wait(pause)
    }
}
