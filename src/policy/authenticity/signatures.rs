//! Verification of a message's signatures, from its header to the results.
//!
//! ```text
//!   Open --all keys have arrived--> Out --verified--> Judged
//! ```
//!
//! First the keys are requested. When the last key has arrived, [`Verifying`] holds all inputs, and a worker verifies
//! the signatures. Invariant: each signature is verified at most once, because verification consumes its inputs.

use std::sync::Arc;

use crate::auth::dkim::cost::VerificationCost;
use crate::auth::dkim::verdict::SignatureVerdict;
use crate::auth::{arc, dkim};
use crate::date::Timestamp;
use crate::dns::{Answer, Question};
use crate::mail::header::Header;

/// Progress of the verification.
pub(super) enum Signatures {
    /// Keys are missing.
    Open(Box<Open>),
    /// A worker verifies them.
    Out,
    /// The results are known.
    Judged(Box<Verified>),
}

/// Signatures that wait for their keys.
pub(super) struct Open {
    dkim: dkim::verify::DkimVerification,
    arc: arc::ArcVerification,
}

/// Signatures with their keys, ready to be verified. Verification takes milliseconds of processor time, so the event
/// loop leaves it to a worker.
pub struct Verifying {
    open: Open,
    header: Arc<Header>,
    answers: Vec<(Question, Answer)>,
}

/// The results of all signatures of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The results of the DKIM signatures, from the top of the header.
    pub(super) dkim: Vec<SignatureVerdict>,
    /// The result of the ARC chain.
    pub(super) arc: arc::ArcVerdict,
    /// The number of verifications and the bytes that they hashed.
    pub cost: VerificationCost,
}

impl Signatures {
    pub(super) fn new(header: &Header, at: Timestamp) -> Self {
        Self::Open(Box::new(Open {
            dkim: dkim::verify::DkimVerification::new(header, at),
            arc: arc::ArcVerification::new(header, at),
        }))
    }

    /// Takes the next piece of the body.
    pub(super) fn on_body(&mut self, chunk: &[u8]) {
        if let Self::Open(open) = self {
            open.dkim.on_body(chunk);
            open.arc.on_body(chunk);
        }
    }

    /// Continues with the answers so far: returns the signatures to verify, once; questions for missing keys go to
    /// `missing`.
    pub(super) fn resume(
        &mut self,
        header: &Arc<Header>,
        answers: &[(Question, Answer)],
        missing: &mut Vec<Question>,
    ) -> Option<Box<Verifying>> {
        let Self::Open(open) = self else { return None };
        let keys = [open.dkim.missing(answers), open.arc.missing(answers)].concat();
        if !keys.is_empty() {
            missing.extend(keys);
            return None;
        }
        let Self::Open(open) = std::mem::replace(self, Self::Out) else {
            return None;
        };
        let has_work = open.dkim.has_work() || open.arc.has_work();
        let verifying = Box::new(Verifying::new(*open, Arc::clone(header), answers));
        if has_work {
            return Some(verifying);
        }
        self.on_verified(verifying.perform());
        None
    }

    /// Takes the results of [`Verifying::perform`].
    pub(super) fn on_verified(&mut self, verified: Verified) {
        if let Self::Out = self {
            *self = Self::Judged(Box::new(verified));
        }
    }

    /// The results, once they are known.
    pub(super) fn verified(&self) -> Option<&Verified> {
        match self {
            Self::Judged(verified) => Some(verified),
            Self::Open(_) | Self::Out => None,
        }
    }
}

impl Verifying {
    fn new(open: Open, header: Arc<Header>, answers: &[(Question, Answer)]) -> Self {
        let keys = [open.dkim.questions(), open.arc.questions()].concat();
        let answers = answers.iter();
        Self {
            answers: answers
                .filter(|(question, _)| keys.contains(question))
                .cloned()
                .collect(),
            open,
            header,
        }
    }

    /// Verifies the signatures.
    pub fn perform(self) -> Verified {
        let Self {
            open: Open { dkim, arc },
            header,
            answers,
        } = self;
        let mut cost = VerificationCost::default();
        Verified {
            dkim: dkim.judge(&header, &answers, &mut cost),
            arc: arc.judge(&header, &answers, &mut cost),
            cost,
        }
    }
}
