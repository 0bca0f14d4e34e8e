//! Authentication of a message from an unauthenticated client: SPF, DKIM, ARC and DMARC together, and what follows.
//!
//! [`Examination`] is built from the header and reads the body as it passes. It is resumable: [`Examination::resume`]
//! returns the findings, the missing DNS questions, or the signatures to verify. [`Findings::judge`] then applies the
//! policy of the author's domain (RFC 9989 section 5.4), unless a trusted sealer received the message before it was
//! changed on the way (RFC 8617 section 7.2.1).
//!
//! The authors are all that some mail reader could display ([`crate::mail::authors`]).
//!
//! Stricter than RFC 9989: a message without a recognizable author counts as one without an author. A signature over
//! only part of the body is not evidence. If there are several authors, the one whose domain has the worst DMARC result
//! counts. A sealer vouches only for the author that its results name.

mod signatures;

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Domain;
use crate::auth::dkim::verdict::{DkimResult, SignatureVerdict};
use crate::auth::results::{AuthMethod, AuthenticationResults, MethodResult, says_dmarc_passed};
use crate::auth::{arc, dmarc, spf};
use crate::config::{Dmarc, Quarantine};
use crate::date::Timestamp;
use crate::dns::{Answer, NoRecords, Question, Step};
use crate::mail::authors::{AuthorsError, authors};
use crate::mail::header::Header;

use signatures::Signatures;
pub use signatures::{Verified, Verifying};

/// What a receiver knows about a message besides its content.
#[derive(Clone, Debug)]
pub struct MessageContext {
    /// The address of the client; `None` if the client is trusted, because its address does not identify the sender.
    pub address: Option<IpAddr>,
    /// The login, if any.
    pub login: Option<Box<str>>,
    /// The name after HELO or EHLO.
    pub helo: Box<str>,
    /// The reverse-path without brackets; empty for the null one.
    pub path: Box<str>,
    /// The hostname of this server.
    pub receiver: Domain,
    /// Time of arrival.
    pub at: Timestamp,
    /// Whether DMARC is looked up at all.
    pub dmarc: Dmarc,
}

/// The examination of one message.
pub struct Examination {
    authors: Result<Vec<Domain>, AuthorsError>,
    signatures: Signatures,
    answers: Vec<(Question, Answer)>,
    spf: spf::SpfProgress,
    /// Whether DMARC had all its policies at its last evaluation. Then it is evaluated again once nothing else is
    /// missing.
    has_policies: bool,
}

/// The next step of an examination.
#[must_use]
pub enum ExaminationStep {
    /// Ask these questions; answer with [`Examination::on_answer`].
    Ask(Vec<Question>),
    /// Verify these signatures, while other questions are asked; answer with [`Examination::on_verified`].
    Verify(Box<Verifying>),
    /// Wait for [`Examination::on_verified`].
    Wait,
    Done(Box<Findings>),
}

/// The results of an examination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Findings {
    /// The SPF result for the reverse-path, if it was checked.
    pub spf: Option<spf::SpfVerdict>,
    /// The DKIM results, from the top of the header.
    pub dkim: Vec<SignatureVerdict>,
    /// The result of the ARC chain of earlier hosts.
    pub arc: arc::ArcVerdict,
    /// The domains of From with their DMARC results, the worst first; empty if there is no author or DMARC was not
    /// checked.
    pub dmarc: Vec<(Domain, dmarc::DmarcVerdict)>,
    /// The domains of the authors; empty if they cannot be determined.
    pub authors: Vec<Domain>,
    /// Whether the authors cannot be determined because mail readers would disagree about them.
    pub ambiguous: bool,
    /// Whether a question was not asked because this host lacked room for it.
    pub starved: bool,
}

/// The decision about the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// Accept the message.
    Take,
    /// Accept the message and mark it as suspicious.
    Mark,
    /// Refuse the message: the policy of its author's domain demands it.
    Refuse,
    /// The author cannot be determined.
    Ambiguous,
    /// The DNS answers do not suffice: try again later.
    Defer,
}

impl Examination {
    /// Begins the examination of a message with this header, received at `at`.
    pub fn new(header: &Header, at: Timestamp) -> Self {
        Self {
            authors: authors(header),
            signatures: Signatures::new(header, at),
            answers: Vec::new(),
            spf: spf::SpfProgress::default(),
            has_policies: false,
        }
    }

    /// The domains of the authors; empty if they cannot be determined.
    pub fn authors(&self) -> &[Domain] {
        self.authors.as_deref().unwrap_or_default()
    }

    /// Takes the next piece of the body.
    pub fn on_body(&mut self, chunk: &[u8]) {
        self.signatures.on_body(chunk);
    }

    /// Bytes of the answers.
    pub fn memory(&self) -> usize {
        self.answers.iter().map(|(_, answer)| answer.bytes()).sum()
    }

    /// Takes an answer.
    pub fn on_answer(&mut self, question: Question, answer: Answer) {
        self.answers.push((question, answer));
    }

    /// Takes the result of [`ExaminationStep::Verify`].
    pub fn on_verified(&mut self, verified: Verified) {
        self.signatures.on_verified(verified);
    }

    /// The findings, or the questions that are still missing. The whole body must have been passed before; `header`
    /// must be the one given to [`Examination::new`].
    pub fn resume(&mut self, header: &Arc<Header>, known: &MessageContext) -> ExaminationStep {
        let mut missing = Vec::new();
        let answers = &self.answers;
        if let Some(verifying) = self.signatures.resume(header, answers, &mut missing) {
            return ExaminationStep::Verify(verifying);
        }
        let (helo, path) = (known.helo.as_ref(), known.path.as_ref());
        let spf = known.address.and_then(|address| {
            let receiver = known.receiver.as_str();
            let sender = spf::Sender::new(address, helo, path, receiver, known.at);
            done(self.spf.resume(&sender, answers), &mut missing)
        });
        let verified = self.signatures.verified();
        let authors: &[Domain] = match (&self.authors, known.dmarc) {
            (Ok(authors), Dmarc::Enforce | Dmarc::Report) => authors,
            _ => &[],
        };
        let signatures = verified.map_or(&[][..], |verified| &verified.dkim);
        let aligned: Vec<Domain> = signatures.iter().filter_map(evidence).collect();
        let spf_domain = spf.as_ref().and_then(|verdict| {
            let passed = verdict.outcome == spf::SpfResult::Pass;
            verdict.domain.as_ref().filter(|_| passed)
        });
        let mut verdicts: Vec<(Domain, dmarc::DmarcVerdict)> = Vec::new();
        let missing_else = missing.len();
        let waits = self.has_policies && missing_else > 0;
        for author in authors.iter().filter(|_| !waits) {
            let evidence = dmarc::Evidence {
                author,
                spf: spf_domain,
                dkim: &aligned,
            };
            let verdict = done(dmarc::evaluate(&evidence, answers), &mut missing);
            verdicts.extend(verdict.map(|verdict| (author.clone(), verdict)));
        }
        self.has_policies = waits || missing.len() == missing_else;
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return ExaminationStep::Ask(missing);
        }
        let Some(verified) = verified else {
            return ExaminationStep::Wait;
        };
        verdicts.sort_by_key(|(_, verdict)| std::cmp::Reverse(rank(verdict)));
        ExaminationStep::Done(Box::new(Findings {
            spf,
            dkim: verified.dkim.clone(),
            arc: verified.arc.clone(),
            dmarc: verdicts,
            authors: self.authors.clone().unwrap_or_default(),
            ambiguous: self.authors.is_err(),
            starved: (self.answers.iter())
                .any(|(_, answer)| answer.records == Err(NoRecords::NoRoom)),
        }))
    }
}

impl Findings {
    /// The decision about the message by the DMARC settings.
    /// Decides RFC 9989 section 5.4.
    pub fn judge(&self, mode: Dmarc, quarantine: Quarantine, trusted: &[Domain]) -> Judgement {
        if mode != Dmarc::Enforce {
            return Judgement::Take;
        }
        if self.ambiguous {
            return Judgement::Ambiguous;
        }
        let Some((_, verdict)) = self.failed(trusted) else {
            return Judgement::Take;
        };
        let wanted = match (verdict.policy, quarantine) {
            (dmarc::DmarcPolicy::None, _) => return Judgement::Take,
            (dmarc::DmarcPolicy::Quarantine, Quarantine::Mark) => return Judgement::Mark,
            (dmarc::DmarcPolicy::Quarantine, Quarantine::Refuse)
            | (dmarc::DmarcPolicy::Reject, _) => Judgement::Refuse,
        };
        if self.is_open() {
            Judgement::Defer
        } else {
            wanted
        }
    }

    /// The author with the worst DMARC failure, among those for whom no trusted sealer vouches.
    pub fn failed(&self, trusted: &[Domain]) -> Option<&(Domain, dmarc::DmarcVerdict)> {
        let mut failed = self
            .dmarc
            .iter()
            .filter(|(_, verdict)| verdict.outcome == dmarc::DmarcResult::Fail);
        failed.find(|(author, _)| !self.is_vouched_for(author, trusted))
    }

    /// Whether a check may still pass once the DNS answers: until then the message is not refused permanently.
    pub fn is_open(&self) -> bool {
        let open = |signature: &SignatureVerdict| signature.verdict() == DkimResult::TempError;
        self.spf_is(spf::SpfResult::TempError) || self.dkim.iter().any(open)
    }

    /// Whether the SPF result is this one.
    pub fn spf_is(&self, outcome: spf::SpfResult) -> bool {
        self.spf.as_ref().is_some_and(|spf| spf.outcome == outcome)
    }

    /// Whether SPF or a signature shows that this domain, a parent or a subdomain of it sent the message.
    pub fn shows(&self, domain: &Domain) -> bool {
        self.has_passed(|other| other.is_under(domain) || domain.is_under(other))
    }

    /// Whether SPF or a signature shows that this domain or a parent of it sent the message. A subdomain does not
    /// suffice: its owner does not speak for other mailboxes of the domain, which would get the DSNs.
    pub fn answers_for(&self, domain: &Domain) -> bool {
        self.has_passed(|other| domain.is_under(other))
    }

    /// Whether SPF or a signature passed for a domain that `of` accepts.
    fn has_passed(&self, of: impl Fn(&Domain) -> bool) -> bool {
        let passed = self.spf_is(spf::SpfResult::Pass);
        let spf = self.spf.as_ref().filter(|_| passed);
        let spf = spf.and_then(|spf| spf.domain.as_ref());
        spf.is_some_and(&of) || self.dkim.iter().filter_map(evidence).any(|one| of(&one))
    }

    /// A served domain that the message claims as its author's or its `sender`'s, without evidence that this domain
    /// sent the message. If this host forwarded the message, SPF would pass for that domain, and therefore DMARC too,
    /// whatever its policy is.
    pub fn spoofing<'a>(
        &'a self,
        sender: Option<&'a Domain>,
        is_ours: impl Fn(&Domain) -> bool,
        trusted: &[Domain],
    ) -> Option<&'a Domain> {
        let is_pretended = |domain: &Domain| is_ours(domain) && !self.shows(domain);
        let mut authors = self.authors.iter();
        let author =
            authors.find(|author| is_pretended(author) && !self.is_vouched_for(author, trusted));
        author.or_else(|| {
            // A forwarder's return address is its own; its ARC seal shows that it forwarded the message.
            let is_sealed = |sender| {
                let mut sets = self.vouching(trusted);
                sets.any(|set| set.sealer.as_ref() == Some(sender))
            };
            sender.filter(|sender| {
                is_pretended(sender) && !self.is_vouched_for(sender, trusted) && !is_sealed(sender)
            })
        })
    }

    /// Whether a DSN to the sender would reach a victim: SPF of the sender's domain denies the client, and no signature
    /// passes for the domain.
    pub fn sender_is_forged(&self, sender: &Domain) -> bool {
        let disowned = self.spf_is(spf::SpfResult::Fail) || self.spf_is(spf::SpfResult::SoftFail);
        disowned && !self.answers_for(sender)
    }

    /// Whether the message failed DMARC.
    pub fn has_failed(&self) -> bool {
        let mut outcomes = self.dmarc.iter().map(|(_, verdict)| verdict.outcome);
        outcomes.any(|outcome| outcome == dmarc::DmarcResult::Fail)
    }

    /// The DMARC result for each domain in From.
    pub fn dmarc_outcomes(&self) -> impl Iterator<Item = dmarc::DmarcResult> {
        self.dmarc.iter().map(|(_, verdict)| verdict.outcome)
    }

    /// The Authentication-Results of the host with this name, for mail systems behind it.
    pub fn results(&self, id: &Domain, known: &MessageContext) -> AuthenticationResults {
        let (path, helo) = (known.path.as_ref(), known.helo.as_ref());
        let mut results = AuthenticationResults::new(id.as_str());
        if let Some(login) = &known.login {
            results = results.with(MethodResult::auth(login));
        }
        if let Some(spf) = &self.spf {
            results = results.with(MethodResult::spf(spf.outcome, path, helo));
        }
        for signature in &self.dkim {
            results = results.with(MethodResult::dkim(signature));
        }
        if self.dkim.is_empty() {
            results = results.with(MethodResult::new(AuthMethod::Dkim, "none"));
        }
        if let Some((author, verdict)) = self.dmarc.first() {
            results = results.with(MethodResult::dmarc(verdict.outcome, author));
        }
        results.with(MethodResult::arc(&self.arc))
    }

    /// Whether a trusted sealer reports that DMARC passed for this author.
    pub(super) fn is_vouched_for(&self, author: &Domain, trusted: &[Domain]) -> bool {
        let mut sets = self.vouching(trusted);
        sets.any(|set| says_dmarc_passed(&set.results, author))
    }

    /// The ARC sets of trusted sealers that received the message as we did: nobody changed it since, or only other
    /// trusted hosts did.
    /// Decides RFC 8617 section 7.2.1.
    fn vouching<'a>(&'a self, trusted: &'a [Domain]) -> impl Iterator<Item = &'a arc::SealedSet> {
        let oldest_pass = match self.arc.outcome {
            arc::ArcResult::Pass { oldest_pass } if self.arc.partial.is_none() => Some(oldest_pass),
            _ => None,
        };
        let is_trusted = |set: &arc::SealedSet| {
            let sealer = set.sealer.as_ref();
            sealer.is_some_and(|name| trusted.contains(name))
        };
        let sets = self.arc.sets.iter().enumerate();
        let vouching = sets.filter(move |(at, set)| {
            let later = self.arc.sets.get(*at..).unwrap_or_default();
            let is_whole = oldest_pass.is_some_and(|oldest| oldest <= set.instance);
            let is_handed_on = oldest_pass.is_some() && later.iter().all(is_trusted);
            is_trusted(set) && (is_whole || is_handed_on)
        });
        vouching.map(|(_, set)| set)
    }
}

/// The verdict, if there is one; otherwise the question goes to `missing`.
fn done<T>(step: Step<T>, missing: &mut Vec<Question>) -> Option<T> {
    match step {
        Step::Done(verdict) => Some(verdict),
        Step::Ask(questions) => {
            missing.extend(questions);
            None
        }
    }
}

/// The domain that a signature shows to have signed the whole message.
fn evidence(signature: &SignatureVerdict) -> Option<Domain> {
    let whole = signature.partial.is_none() && signature.verdict() == DkimResult::Pass;
    signature.domain.clone().filter(|_| whole)
}

/// Ranks a verdict: the higher, the worse.
fn rank(verdict: &dmarc::DmarcVerdict) -> u8 {
    match (verdict.outcome, verdict.policy) {
        (dmarc::DmarcResult::Pass, _) => 0,
        (dmarc::DmarcResult::None, _) => 1,
        (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::None) => 2,
        (dmarc::DmarcResult::TempError, _) => 3,
        (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::Quarantine) => 4,
        (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::Reject) => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
    use crate::auth::dkim::verdict::DkimFailure;
    use crate::digest::sha256;
    use crate::dns::{RecordKind, Records};
    use crate::limits::{DKIM_KEY_RECORDS_MAX, DKIM_SIGNATURES_MAX};

    fn known(path: &str) -> MessageContext {
        MessageContext {
            address: Some(Ipv4Addr::new(192, 0, 2, 7).into()),
            login: None,
            helo: "client.example".into(),
            path: path.into(),
            receiver: Domain::parse("mx.example.com").expect("a domain"),
            at: Timestamp::from_seconds(1_790_000_000),
            dmarc: Dmarc::Enforce,
        }
    }

    fn answer(question: &Question, zone: &[(&str, &str)]) -> Answer {
        let texts: Vec<Vec<u8>> = zone
            .iter()
            .filter(|(name, _)| *name == question.name.as_str())
            .map(|(_, text)| text.as_bytes().to_vec())
            .collect();
        let failing = texts.iter().any(|text| text == b"SERVFAIL");
        let records = match (question.kind, failing) {
            (_, true) => Err(NoRecords::ServerFailure),
            (RecordKind::Txt, _) if !texts.is_empty() => Ok(Arc::new(Records::Txt(texts))),
            _ => Err(NoRecords::NoData),
        };
        Answer {
            records,
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    fn findings(header: &str, path: &str, zone: &[(&str, &str)]) -> Findings {
        let known = known(path);
        let header = Arc::new(Header::parse(header.as_bytes().to_vec()).expect("a header"));
        let mut examination = Examination::new(&header, known.at);
        examination.on_body(b"hello\r\n");
        for _ in 0..20 {
            match examination.resume(&header, &known) {
                ExaminationStep::Done(findings) => return *findings,
                ExaminationStep::Verify(verifying) => examination.on_verified(verifying.perform()),
                ExaminationStep::Wait => panic!("it waits for nothing"),
                ExaminationStep::Ask(questions) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        let answer = answer(&question, zone);
                        examination.on_answer(question, answer);
                    }
                }
            }
        }
        panic!("it never ends");
    }

    fn judged(header: &str, path: &str, zone: &[(&str, &str)]) -> Judgement {
        findings(header, path, zone).judge(Dmarc::Enforce, Quarantine::Mark, &[])
    }

    const REJECT: (&str, &str) = ("_dmarc.bank.example", "v=DMARC1; p=reject");

    /// The record of an RSA key of 4,096 bits that has signed nothing.
    fn record_of_4096_bits() -> String {
        let head = [0x30, 0x82, 0x02, 0x0a, 0x02, 0x82, 0x02, 0x01, 0x00];
        let key = [&head[..], &[0xff; 512], &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
        format!("v=DKIM1; p={}", STANDARD.encode(key))
    }

    #[test]
    fn each_signature_is_verified_once_however_often_the_dns_answers() {
        let mut hasher = BodyHasher::new(Canonicalization::Simple);
        hasher.update(b"hello\r\n");
        let hash = STANDARD.encode(hasher.finish().hash);
        let b = STANDARD.encode([7; 512]);
        let field = |number| {
            format!(
                "DKIM-Signature: v=1; a=rsa-sha256; d=evil.example; s=s{number}; h=from; bh={hash}; b={b}\r\n"
            )
        };
        let fields: String = (0..110).map(field).collect();
        let header = format!("{fields}From: x@evil.example\r\n");
        let header = Arc::new(Header::parse(header.into_bytes()).expect("a header"));
        let record = record_of_4096_bits();
        let names: Vec<String> = (0..110)
            .map(|number| format!("s{number}._domainkey.evil.example"))
            .collect();
        let keys = names.iter().map(|name| (name.as_str(), record.as_str()));
        let mut zone: Vec<(&str, &str)> = keys.flat_map(|key| [key; 6]).collect();
        // Each answer about SPF leads to one more question.
        let policies: Vec<(String, String)> = (0..11)
            .map(|number| {
                let name = |number: usize| match number {
                    0 => "evil.example".to_owned(),
                    _ => format!("p{number}.evil.example"),
                };
                let include = format!("v=spf1 include:{} -all", name(number + 1));
                match number {
                    10 => (name(10), "v=spf1 -all".to_owned()),
                    _ => (name(number), include),
                }
            })
            .collect();
        zone.extend(
            policies
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        );

        let known = known("x@evil.example");
        let mut examination = Examination::new(&header, known.at);
        examination.on_body(b"hello\r\n");
        let (mut rounds, mut efforts) = (0, Vec::new());
        let found = loop {
            match examination.resume(&header, &known) {
                ExaminationStep::Done(found) => break found,
                ExaminationStep::Wait => panic!("it waits for nothing"),
                ExaminationStep::Verify(verifying) => {
                    let verified = verifying.perform();
                    efforts.push(verified.cost);
                    examination.on_verified(verified);
                }
                ExaminationStep::Ask(questions) => {
                    rounds += 1;
                    for question in questions {
                        let answer = answer(&question, &zone);
                        examination.on_answer(question, answer);
                    }
                }
            }
        };
        assert!(rounds >= 10, "{rounds}");
        // Ten signatures, each with the first four of its keys, once.
        let [cost] = efforts[..] else {
            panic!("{efforts:?}");
        };
        assert_eq!(cost.checks, DKIM_SIGNATURES_MAX * DKIM_KEY_RECORDS_MAX);
        assert_eq!(found.dkim.len(), DKIM_SIGNATURES_MAX);
        let failed = |one: &SignatureVerdict| one.outcome == Err(DkimFailure::Signature);
        assert!(found.dkim.iter().all(failed));
    }

    #[test]
    fn the_dns_is_asked_while_signatures_are_verified_and_both_are_waited_for() {
        let hash = STANDARD.encode([7; 32]);
        let header = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=evil.example; s=s; l=0; h=from; bh={hash}; b=AAAA\r\n\
             From: x@evil.example\r\n"
        );
        let hash_of_nothing = STANDARD.encode(sha256(b""));
        let header = header.replace(&hash, &hash_of_nothing).into_bytes();
        let header = Arc::new(Header::parse(header).expect("a header"));
        let zone = [
            ("evil.example", "v=spf1 include:other.example -all"),
            ("other.example", "v=spf1 +all"),
        ];
        let known = known("x@evil.example");
        let mut examination = Examination::new(&header, known.at);
        examination.on_body(b"hello\r\n");
        let mut verifying = None;
        let verified = loop {
            match examination.resume(&header, &known) {
                ExaminationStep::Done(_) => panic!("it is over without the signatures"),
                ExaminationStep::Wait => {
                    break verifying.take().map(|one: Box<Verifying>| one.perform());
                }
                ExaminationStep::Verify(one) => assert!(verifying.replace(one).is_none()),
                ExaminationStep::Ask(questions) => {
                    for question in questions {
                        let answer = answer(&question, &zone);
                        examination.on_answer(question, answer);
                    }
                }
            }
        };
        examination.on_verified(verified.expect("signatures to verify"));
        let ExaminationStep::Done(found) = examination.resume(&header, &known) else {
            panic!("something is missing");
        };
        assert!(found.spf_is(spf::SpfResult::Pass));
        assert_eq!(found.dkim[0].outcome, Err(DkimFailure::NoKey));
    }

    #[test]
    fn a_spoof_is_refused_and_what_spf_shows_is_taken() {
        let header = "From: Boss <boss@bank.example>\r\n";
        assert_eq!(
            judged(header, "x@evil.example", &[REJECT]),
            Judgement::Refuse
        );
        let allowed = ("bank.example", "v=spf1 ip4:192.0.2.7 -all");
        assert_eq!(
            judged(header, "x@bank.example", &[REJECT, allowed]),
            Judgement::Take
        );
        // SPF passes for another domain: not aligned.
        let other = ("evil.example", "v=spf1 +all");
        assert_eq!(
            judged(header, "x@evil.example", &[REJECT, other]),
            Judgement::Refuse
        );
        assert_eq!(judged(header, "x@evil.example", &[]), Judgement::Take);
        let mild = ("_dmarc.bank.example", "v=DMARC1; p=quarantine");
        assert_eq!(judged(header, "", &[mild]), Judgement::Mark);
        let found = findings(header, "", &[mild]);
        assert_eq!(
            found.judge(Dmarc::Enforce, Quarantine::Refuse, &[]),
            Judgement::Refuse
        );
        assert_eq!(
            found.judge(Dmarc::Report, Quarantine::Refuse, &[]),
            Judgement::Take
        );
    }

    #[test]
    fn what_the_dns_leaves_open_is_not_refused_for_good() {
        let header = "From: boss@bank.example\r\n";
        let failing = ("bank.example", "SERVFAIL");
        assert_eq!(
            judged(header, "x@bank.example", &[REJECT, failing]),
            Judgement::Defer
        );
        let failing = ("_dmarc.bank.example", "SERVFAIL");
        assert_eq!(
            judged(header, "x@evil.example", &[failing]),
            Judgement::Take
        );
    }

    #[test]
    fn authors_cannot_hide_behind_each_other() {
        let two = "From: a@friend.example, boss@bank.example\r\n";
        assert_eq!(judged(two, "x@evil.example", &[REJECT]), Judgement::Refuse);
        let twice = "From: a@friend.example\r\nFrom: boss@bank.example\r\n";
        assert_eq!(
            judged(twice, "x@evil.example", &[REJECT]),
            Judgement::Ambiguous
        );
        let many: Vec<String> = (0..9)
            .map(|number| format!("a@b{number}.example"))
            .collect();
        let many = format!("From: {}\r\n", many.join(", "));
        assert_eq!(judged(&many, "x@evil.example", &[]), Judgement::Ambiguous);
        for nobody in ["Subject: none\r\n", "From: Boss <boss@bank.example\r\n"] {
            assert_eq!(
                judged(nobody, "x@evil.example", &[REJECT]),
                Judgement::Ambiguous
            );
        }
        let hidden = "From: \"Boss <boss@bank.example>\" <a@friend.example>\r\n";
        assert_eq!(
            judged(hidden, "x@evil.example", &[REJECT]),
            Judgement::Refuse
        );
    }

    #[test]
    fn a_sealer_that_is_trusted_vouches_for_what_nobody_has_changed_since() {
        let mut found = findings("From: boss@bank.example\r\n", "x@list.example", &[REJECT]);
        let sealer = |instance, name: &str, results: &str| arc::SealedSet {
            instance,
            sealer: Some(Domain::parse(name).expect("a domain")),
            selector: None,
            results: results.to_owned(),
            message: None,
            seal: None,
        };
        let passed =
            "list.example; dkim=pass header.d=bank.example; dmarc=pass header.from=bank.example";
        found.arc.sets = vec![
            sealer(1, "list.example", passed),
            sealer(2, "other.example", "other.example; arc=pass"),
        ];
        let trusted = [Domain::parse("list.example").expect("a domain")];
        let judge = |found: &Findings, trusted: &[Domain]| {
            found.judge(Dmarc::Enforce, Quarantine::Mark, trusted)
        };
        assert_eq!(
            judge(&found, &trusted),
            Judgement::Refuse,
            "the chain is none"
        );
        found.arc.outcome = arc::ArcResult::Pass { oldest_pass: 0 };
        assert_eq!(judge(&found, &trusted), Judgement::Take);
        assert_eq!(judge(&found, &[]), Judgement::Refuse);
        // The second sealer, which is not trusted, changed it.
        found.arc.outcome = arc::ArcResult::Pass { oldest_pass: 2 };
        assert_eq!(judge(&found, &trusted), Judgement::Refuse);
        let both =
            ["list.example", "other.example"].map(|name| Domain::parse(name).expect("a domain"));
        assert_eq!(judge(&found, &both), Judgement::Take);
        found.arc.sets[0].results = "list.example; dmarc=pass header.from=evil.example".to_owned();
        assert_eq!(judge(&found, &both), Judgement::Refuse, "it saw another");
        found.arc.sets[0].results = "list.example; dmarc=fail reason=\"; dmarc=pass\"".to_owned();
        assert_eq!(judge(&found, &both), Judgement::Refuse);
    }

    #[test]
    fn who_writes_in_our_name_has_to_show_it() {
        let header = "From: boss@us.example\r\n";
        let us = Domain::parse("us.example").expect("a domain");
        let ours = |domain: &Domain| *domain == us;
        let spf = ("us.example", "v=spf1 ip4:192.0.2.7 -all");
        let pretends =
            |found: &Findings, sender: Option<&Domain>| found.spoofing(sender, ours, &[]).is_some();
        assert!(pretends(&findings(header, "x@evil.example", &[]), None));
        let other = findings("From: x@evil.example\r\n", "boss@us.example", &[]);
        assert!(pretends(&other, Some(&us)));
        assert!(!pretends(&other, None));
        let shown = findings(header, "boss@us.example", &[spf]);
        assert!(!pretends(&shown, Some(&us)));
        let none = ("us.example", "v=spf1 -all");
        let forged = findings(header, "boss@us.example", &[none]);
        assert!(pretends(&forged, Some(&us)) && forged.sender_is_forged(&us));
        assert!(!shown.sender_is_forged(&us) && !other.sender_is_forged(&us));
        let failing = ("us.example", "SERVFAIL");
        let later = findings(header, "boss@us.example", &[failing]);
        assert!(pretends(&later, Some(&us)) && later.is_open() && !forged.is_open());
    }

    #[test]
    fn the_results_are_written_for_those_further_in() {
        let path = "x@evil.example";
        let found = findings("From: boss@bank.example\r\n", path, &[REJECT]);
        let id = Domain::parse("mx.example.com").expect("a domain");
        assert_eq!(
            found.results(&id, &known(path)).to_string(),
            "mx.example.com;\r\n\tspf=none\r\n\tsmtp.mailfrom=x@evil.example;\r\n\tdkim=none;\r\n\tdmarc=fail\r\n\t\
             header.from=bank.example;\r\n\tarc=none"
        );
    }
}
