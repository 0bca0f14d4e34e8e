//! Validation of a chain (RFC 8617 section 5.2, steps 4 to 7).

use super::sets::{ArcFailure, ArcResult, ArcVerdict, Chain, SEAL, SealedSet, Set, split_results};
use crate::auth::dkim::bodies::Bodies;
use crate::auth::dkim::canonical::{Canonicalization, append_field, append_relaxed};
use crate::auth::dkim::claim::{Reported, SignatureClaim, SignatureField};
use crate::auth::dkim::cost::VerificationCost;
use crate::auth::dkim::signature::{Fields, Signature, without_b};
use crate::auth::dkim::tag::TagList;
use crate::auth::dkim::verdict::DkimFailure as SignatureFailure;
use crate::auth::dkim::verify::answer;
use crate::date::Timestamp;
use crate::dns::{Answer, Question, Step};
use crate::mail::header::{Field, Header};

/// The verification of the chain of one message.
///
/// [`ArcVerification::new`] reads the sets, [`ArcVerification::on_body`] hashes the body stream,
/// [`ArcVerification::missing`] returns the questions for keys, and [`ArcVerification::judge`] returns the verdict.
/// Only `judge` verifies signatures, each once. A chain that fails regardless of its keys causes no look-up.
pub struct ArcVerification {
    highest: u64,
    broken: Option<ArcFailure>,
    links: Vec<Link>,
    bodies: Bodies,
}

/// One set with its signatures.
struct Link {
    set: Set,
    message: Result<Signature, SignatureFailure>,
    seal: Result<SignatureClaim, SignatureFailure>,
    report: SealedSet,
}

impl ArcVerification {
    /// Reads the sets of a message that is verified at `at`.
    pub fn new(header: &Header, at: Timestamp) -> Self {
        let chain = Chain::collect(header);
        let (sets, broken) = match chain.sets {
            Ok(sets) => (sets, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let fields: Vec<Field<'_>> = header.fields().collect();
        let mut bodies = Bodies::default();
        let newest = sets.len();
        let mut links = Vec::new();
        for (set, instance) in sets.into_iter().zip(1_u8..) {
            let age = if usize::from(instance) == newest {
                Age::Newest
            } else {
                Age::Older
            };
            links.extend(Link::read(&fields, set, instance, age, at, &mut bodies));
        }
        Self {
            highest: chain.highest,
            broken,
            links,
            bodies,
        }
    }

    /// Takes the next piece of the body.
    pub fn on_body(&mut self, chunk: &[u8]) {
        self.bodies.update(chunk);
    }

    /// The keys that may be needed. They can be looked up while the body arrives.
    pub fn questions(&self) -> Vec<Question> {
        if self.broken.is_some() || self.unreadable().is_some() {
            return Vec::new();
        }
        let seals = self.links.iter().filter_map(|link| link.seal.as_ref().ok());
        let newest = self
            .links
            .last()
            .and_then(|link| link.message.as_ref().ok());
        let mut questions: Vec<Question> = seals
            .chain(newest.map(|signature| &signature.claim))
            .map(|claim| claim.question.clone())
            .collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    /// The keys that are missing. The complete body must have been taken before.
    pub fn missing(&mut self, answers: &[(Question, Answer)]) -> Vec<Question> {
        self.bodies.finish();
        for link in &mut self.links {
            if let Ok(signature) = &link.message
                && let Err(failure) = signature.check_body(&self.bodies)
            {
                link.message = Err(failure);
            }
        }
        let mut missing = self.questions();
        missing.retain(|question| answer(answers, question).is_none());
        missing
    }

    /// Whether [`ArcVerification::judge`] has signatures to verify.
    pub fn has_work(&self) -> bool {
        !self.questions().is_empty()
    }

    /// The verdict, once no key is missing. `header` must be the one given to [`ArcVerification::new`].
    ///
    /// A key that cannot be fetched now breaks the chain too (section 5.2.1). The failure says so, because a receiver
    /// may prefer to defer the message. Older message signatures are verified within the limits on computation; beyond
    /// them, the message counts as changed since.
    /// Decides RFC 8617 section 5.2.1.
    pub fn judge(
        mut self,
        header: &Header,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> ArcVerdict {
        self.verdict(header, answers, cost)
    }

    /// [`ArcVerification::missing`] and [`ArcVerification::judge`] in one, for callers that need no worker.
    pub fn resume(&mut self, header: &Header, answers: &[(Question, Answer)]) -> Step<ArcVerdict> {
        let missing = self.missing(answers);
        if missing.is_empty() {
            Step::Done(self.verdict(header, answers, &mut VerificationCost::default()))
        } else {
            Step::Ask(missing)
        }
    }

    fn verdict(
        &mut self,
        header: &Header,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> ArcVerdict {
        ArcVerdict {
            outcome: self.outcome(header, answers, cost),
            sets: self.links.iter().map(|link| link.report.clone()).collect(),
            partial: self.links.last().and_then(|link| {
                let signature = link.message.as_ref().ok()?;
                signature.partial(&self.bodies)
            }),
            highest: self.highest,
        }
    }

    /// The result of the chain: the newest message signature, then each seal.
    /// Decides RFC 8617 section 5.2.
    fn outcome(
        &mut self,
        header: &Header,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> ArcResult {
        if let Some(failure) = self.broken {
            return ArcResult::Fail(failure);
        }
        if let Some(failure) = self.unreadable() {
            self.report_unreadable();
            return ArcResult::Fail(failure);
        }
        let Some(newest) = self.links.last_mut() else {
            return ArcResult::None;
        };
        let instance = newest.report.instance;
        let fields = Fields::new(header);
        if let Err(why) = newest.verify_message(&fields, answers, cost) {
            return ArcResult::Fail(ArcFailure::Message { instance, why });
        }
        let sets: Vec<Set> = self.links.iter().map(|link| link.set).collect();
        for link in self.links.iter_mut().rev() {
            let instance = link.report.instance;
            let sealed = sets.get(..usize::from(instance)).unwrap_or(&sets);
            let data = || seal_data(fields.all(), sealed);
            if let Err(why) = link.verify_seal(answers, cost, data) {
                return ArcResult::Fail(ArcFailure::Seal { instance, why });
            }
        }
        ArcResult::Pass {
            oldest_pass: self.oldest_pass(&fields, answers, cost),
        }
    }

    /// Section 5.2 step 5.
    fn oldest_pass(
        &mut self,
        fields: &Fields<'_>,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> u8 {
        for link in self.links.iter_mut().rev().skip(1) {
            if link.verify_message(fields, answers, cost).is_err() {
                return link.report.instance.saturating_add(1);
            }
        }
        0
    }

    /// A failure of the chain that does not depend on keys.
    fn unreadable(&self) -> Option<ArcFailure> {
        let newest = self.links.last()?;
        if let Err(why) = newest.message {
            let instance = newest.report.instance;
            return Some(ArcFailure::Message { instance, why });
        }
        self.links.iter().rev().find_map(|link| {
            let why = link.seal.as_ref().err().copied()?;
            let instance = link.report.instance;
            Some(ArcFailure::Seal { instance, why })
        })
    }

    fn report_unreadable(&mut self) {
        for link in &mut self.links {
            link.report.message = link.message.as_ref().err().copied().map(Err);
            link.report.seal = link.seal.as_ref().err().copied().map(Err);
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Age {
    Newest,
    Older,
}

impl Link {
    fn read(
        fields: &[Field<'_>],
        set: Set,
        instance: u8,
        age: Age,
        at: Timestamp,
        bodies: &mut Bodies,
    ) -> Option<Self> {
        let mut reported = Reported::default();
        let seal = read_seal(fields.get(set.seal)?.value(), &mut reported);
        let message = read_message(fields.get(set.message)?.value(), age, at, bodies);
        let (_, payload) = split_results(fields.get(set.results)?.value())?;
        let results = String::from_utf8_lossy(payload.trim_ascii()).replace("\r\n", "");
        let report = SealedSet {
            instance,
            sealer: reported.domain,
            selector: reported.selector,
            results,
            message: None,
            seal: None,
        };
        Some(Self {
            set,
            message,
            seal,
            report,
        })
    }

    fn verify_message(
        &mut self,
        fields: &Fields<'_>,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
    ) -> Result<(), SignatureFailure> {
        let signature = self.message.as_ref().map_err(|failure| *failure);
        let result = signature.and_then(|signature| {
            let claim = &signature.claim;
            let answer =
                answer(answers, &claim.question).ok_or(SignatureFailure::KeyUnavailable)?;
            let data = || signature.data(fields, self.set.message);
            claim.verify(answer, cost, data)
        });
        let result = result.map(|_| ());
        self.report.message = Some(result);
        result
    }

    fn verify_seal(
        &mut self,
        answers: &[(Question, Answer)],
        cost: &mut VerificationCost,
        data: impl Fn() -> Vec<u8>,
    ) -> Result<(), SignatureFailure> {
        let claim = self.seal.as_ref().map_err(|failure| *failure);
        let result = claim.and_then(|claim| {
            let answer =
                answer(answers, &claim.question).ok_or(SignatureFailure::KeyUnavailable)?;
            claim.verify(answer, cost, data)
        });
        let result = result.map(|_| ());
        self.report.seal = Some(result);
        result
    }
}

/// A seal has no `h=`: it cannot choose which fields it covers (section 4.1.3).
/// Decides RFC 8617 section 4.1.3.
fn read_seal(value: &[u8], reported: &mut Reported) -> Result<SignatureClaim, SignatureFailure> {
    let tags = TagList::parse(value).map_err(SignatureFailure::Tags)?;
    let claim = SignatureClaim::parse(&tags, SignatureField::Arc, reported)?;
    if tags.value("h").is_some() {
        return Err(SignatureFailure::Tag { name: "h" });
    }
    Ok(claim)
}

/// A message signature does not cover seals (section 4.1.2).
/// Decides RFC 8617 section 4.1.2.
fn read_message(
    value: &[u8],
    age: Age,
    at: Timestamp,
    bodies: &mut Bodies,
) -> Result<Signature, SignatureFailure> {
    if age == Age::Older && TagList::parse(value).is_ok_and(|tags| tags.value("l").is_some()) {
        return Err(SignatureFailure::Tag { name: "l" });
    }
    let signature = Signature::parse(
        value,
        SignatureField::Arc,
        at,
        &mut Reported::default(),
        bodies,
    )?;
    if signature.covers(SEAL) {
        return Err(SignatureFailure::Tag { name: "h" });
    }
    Ok(signature)
}

/// The data that the last of `sets` seals: all sets in the order of their instances, in relaxed form, and the seal
/// itself without the value of `b=` (section 5.1.1).
/// Decides RFC 8617 section 5.1.1.
fn seal_data(fields: &[Field<'_>], sets: &[Set]) -> Vec<u8> {
    let mut data = Vec::new();
    let Some((last, earlier)) = sets.split_last() else {
        return data;
    };
    for set in earlier {
        append_set(&mut data, fields, *set);
    }
    for place in [last.results, last.message] {
        append(&mut data, fields, place);
    }
    if let Some(seal) = fields.get(last.seal) {
        append_relaxed(&mut data, seal.name(), &without_b(seal.value()));
    }
    data
}

/// A complete set in the form that a later seal covers.
pub(super) fn append_set(data: &mut Vec<u8>, fields: &[Field<'_>], set: Set) {
    for place in [set.results, set.message, set.seal] {
        append(data, fields, place);
    }
}

fn append(data: &mut Vec<u8>, fields: &[Field<'_>], place: usize) {
    if let Some(field) = fields.get(place) {
        append_field(data, *field, Canonicalization::Relaxed);
    }
}
