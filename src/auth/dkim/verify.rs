//! Verifying signatures (RFC 6376 section 6; results RFC 8601 section 2.7.1).
//!
//! [`DkimVerification::new`] reads the signatures of a header, [`DkimVerification::on_body`] hashes the body stream,
//! [`DkimVerification::missing`] returns the questions for keys, and [`DkimVerification::judge`] returns the verdicts.
//! Only `judge` verifies signatures, each once. A signature whose body hash is wrong causes no look-up.
//!
//! Stricter than RFC 6376: at most [`DKIM_SIGNATURES_MAX`] signatures are verified, from the top. Refused are RSA keys
//! outside 1,024 to 4,096 bits and rsa-sha1 (RFC 8301), RSA keys with an exponent that is even or not within 3 to
//! 65,537, and signatures beyond the [`VerificationCost`] allowed for one message. `l=` is accepted and reported,
//! because anyone could have added the text after the signed part. Not supported: `q=` other than dns/txt.

use super::bodies::Bodies;
use super::claim::{Reported, SignatureField};
use super::cost::VerificationCost;
use super::signature::{Fields, Signature};
use super::verdict::{DkimFailure, SignatureVerdict};
use crate::date::Timestamp;
use crate::dns::{Answer, Question, Step};
use crate::limits::DKIM_SIGNATURES_MAX;
use crate::mail::header::Header;
use crate::workload::{Unit, count};

/// The verification of one message.
pub struct DkimVerification {
    slots: Vec<Slot>,
    bodies: Bodies,
}

struct Slot {
    field: usize, // among all fields of the header
    reported: Reported,
    state: Result<Signature, DkimFailure>,
}

impl DkimVerification {
    /// Reads the signatures of a message that is verified at `at`.
    pub fn new(header: &Header, at: Timestamp) -> Self {
        let mut bodies = Bodies::default();
        let slots = header
            .fields()
            .enumerate()
            .filter(|(_, field)| field.is(FIELD_NAME))
            .take(DKIM_SIGNATURES_MAX)
            .map(|(nth, field)| {
                let mut reported = Reported::default();
                let state = Signature::parse(
                    field.value(),
                    SignatureField::Dkim,
                    at,
                    &mut reported,
                    &mut bodies,
                );
                Slot {
                    field: nth,
                    reported,
                    state,
                }
            })
            .collect();
        Self { slots, bodies }
    }

    /// Takes the next piece of the body.
    pub fn on_body(&mut self, chunk: &[u8]) {
        self.bodies.update(chunk);
    }

    /// The keys that may be needed. They can be looked up while the body arrives.
    pub fn questions(&self) -> Vec<Question> {
        let mut questions: Vec<Question> = self
            .slots
            .iter()
            .filter_map(|slot| slot.state.as_ref().ok())
            .map(|signature| signature.claim.question.clone())
            .collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    /// The keys that are missing. The complete body must have been taken before.
    pub fn missing(&mut self, answers: &[(Question, Answer)]) -> Vec<Question> {
        self.finish_bodies();
        let mut missing = self.questions();
        missing.retain(|question| answer(answers, question).is_none());
        missing
    }

    /// Whether [`DkimVerification::judge`] has signatures to verify.
    pub fn has_work(&self) -> bool {
        self.slots.iter().any(|slot| slot.state.is_ok())
    }

    /// The verdicts, in the order of the fields, once no key is missing. `header` must be the one given to
    /// [`DkimVerification::new`].
    pub fn judge(
        self,
        header: &Header,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> Vec<SignatureVerdict> {
        self.verdicts(header, answers, cost)
    }

    /// [`DkimVerification::missing`] and [`DkimVerification::judge`] in one, for callers that need no worker.
    pub fn resume(
        &mut self,
        header: &Header,
        answers: &[(Question, Answer)],
    ) -> Step<Vec<SignatureVerdict>> {
        let missing = self.missing(answers);
        if missing.is_empty() {
            Step::Done(self.verdicts(header, answers, &mut VerificationCost::default()))
        } else {
            Step::Ask(missing)
        }
    }

    fn verdicts(
        &self,
        header: &Header,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> Vec<SignatureVerdict> {
        let fields = Fields::new(header);
        let verdict = |slot: &Slot| {
            let mut testing = false;
            let outcome = slot.state.as_ref().map_err(|failure| *failure);
            let outcome = outcome.and_then(|signature| {
                let claim = &signature.claim;
                let answer = answer(answers, &claim.question).ok_or(DkimFailure::KeyUnavailable)?;
                let data = || signature.data(&fields, slot.field);
                testing = claim.verify(answer, cost, data)?.testing;
                Ok(())
            });
            slot.verdict(&self.bodies, outcome, testing)
        };
        self.slots.iter().map(verdict).collect()
    }

    fn finish_bodies(&mut self) {
        self.bodies.finish();
        for slot in &mut self.slots {
            if let Ok(signature) = &slot.state
                && let Err(failure) = signature.check_body(&self.bodies)
            {
                slot.state = Err(failure);
            }
        }
    }
}

impl Slot {
    fn verdict(
        &self,
        bodies: &Bodies,
        outcome: Result<(), DkimFailure>,
        testing: bool,
    ) -> SignatureVerdict {
        let partial = self.state.as_ref().ok();
        let partial = partial.and_then(|signature| signature.partial(bodies));
        let reported = self.reported.clone();
        SignatureVerdict {
            domain: reported.domain,
            selector: reported.selector,
            algorithm: reported.algorithm,
            b_start: reported.b_start,
            testing,
            partial,
            outcome,
        }
    }
}

/// The answer to a question, if it is known.
pub(in crate::auth) fn answer<'a>(
    answers: &'a [(Question, Answer)],
    question: &Question,
) -> Option<&'a Answer> {
    count(Unit::Name, answers.len());
    answers
        .iter()
        .find(|(other, _)| other == question)
        .map(|(_, answer)| answer)
}

const FIELD_NAME: &str = "DKIM-Signature";

#[cfg(test)]
mod tests;
