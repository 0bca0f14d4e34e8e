//! Sender authentication of an incoming message, and its effect: the message is refused, deferred, or accepted with the
//! results in its header, and with an ARC seal if it is forwarded.
//!
//! The examination itself is [`crate::policy::authenticity`]. This file sends its questions to the DNS and its
//! signatures to the workers.

use std::ops::Range;
use std::sync::Arc;

use super::acceptance::Acceptance;
use super::examination::{Checked, Checking, Seal};
use super::intake::{Plan, Whole};
use super::session::{Server, ServerSession};
use crate::address::{Domain, Mailbox};
use crate::auth::arc::{self, Sealing};
use crate::auth::dkim::key::{Algorithm, SigningKey};
use crate::auth::dkim::sign::Signer;
use crate::auth::results::claims_id;
use crate::auth::spf;
use crate::config::{Bcc, DkimKey, Dmarc};
use crate::dns::{Answer, Question};
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::ConnId;
use crate::engine::log::{Level, Line};
use crate::engine::signing::Keys;
use crate::hook::Fact;
use crate::limits::DNS_QUESTIONS_PER_SESSION_MAX;
use crate::mail::authors::{AuthorsError, authors};
use crate::mail::header::{Field, Front, Header};
use crate::policy::authenticity::{Examination, ExaminationStep, Findings, MessageContext};
use crate::policy::authority::Mark;
use crate::policy::relay::RelayClient;
use crate::queue::JournalCommand;
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

impl Server {
    /// The plan for a message of an unauthenticated client: it is examined. It is refused if its authors cannot be
    /// determined and that matters ([`crate::policy::authority`] would refuse it after its final dot).
    pub(super) fn plan_for_client(
        &self,
        inbound: &ServerSession,
        front: &Front,
        fx: &Effects,
    ) -> Result<Plan, Reply> {
        let header = &front.header;
        let id = fx.config.hostname.as_str();
        let mut claims = header.disputed("Authentication-Results");
        if claims.any(|value| claims_id(value, id)) {
            return Err(Reply::HEADER_DISPUTED);
        }
        // It would continue one of the fields that are put before it.
        let is_continued = matches!(front.text.first(), Some(b' ' | b'\t'));
        if header.as_bytes().is_empty() && is_continued {
            return Err(Reply::HEADER_MALFORMED);
        }
        let mode = inbound.envelope.grants.rules(&fx.config).0;
        if mode == Dmarc::Enforce || inbound.envelope.grants.leaves() {
            authors(header).map_err(authors_reply)?;
        }
        Ok(self.plan_to_examine(inbound, header, fx))
    }

    fn plan_to_examine(&self, inbound: &ServerSession, header: &Header, fx: &Effects) -> Plan {
        Plan {
            is_hashed: inbound.envelope.grants.leaves() && self.sealer(inbound, fx).is_some(),
            examination: Some(Box::new(Examination::new(header, fx.now.wall))),
            ..Plan::default()
        }
    }

    /// The plan for a message of a trusted sender: it is signed, and if an alias forwards it, sealed, whatever chain it
    /// has.
    pub(super) fn plan_for_trusted(
        &self,
        inbound: &ServerSession,
        header: &Header,
        keys: Keys,
        fx: &Effects,
    ) -> Plan {
        if !inbound.envelope.grants.leaves() || self.sealer(inbound, fx).is_none() {
            return Plan {
                is_hashed: !keys.is_empty(),
                keys,
                ..Plan::default()
            };
        }
        Plan {
            keys,
            ..self.plan_to_examine(inbound, header, fx)
        }
    }

    /// Examines a complete message if necessary; `Err` is the reply to the client.
    pub(super) fn examine(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        id: QueueId,
        mut whole: Whole,
        mut transaction: Transaction,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let Some(examination) = whole.examination.take() else {
            let released = self.release(inbound, &mut transaction, None, fx);
            let released = released.inspect_err(|_| self.discard(id, &whole, fx))?;
            let checked = Checked {
                id,
                whole,
                transaction,
                released,
                fields: Vec::new(),
                facts: Vec::new(),
                hooked: Vec::new(),
                seal: None,
            };
            return self.judge_by_hook(conn, inbound, checked, fx);
        };
        let helo = inbound.session.greeting().map_or("", |(_, name)| name);
        let is_unauthenticated = matches!(self.client(inbound, fx), RelayClient::Anonymous { .. });
        let known = MessageContext {
            address: inbound.address().filter(|_| is_unauthenticated),
            login: inbound.login.as_ref().map(|login| login.as_str().into()),
            helo: helo.into(),
            path: transaction.reverse_path.as_str().into(),
            receiver: fx.config.hostname.clone(),
            at: fx.now.wall,
            dmarc: match is_unauthenticated {
                true => inbound
                    .envelope
                    .grants
                    .look_up(&fx.config, examination.authors()),
                false => Dmarc::Off,
            },
        };
        inbound.acceptance = Acceptance::Examining(Box::new(Checking {
            id,
            whole,
            transaction,
            known,
            examination,
            asked: Vec::new(),
            unasked: Vec::new(),
            turn: None,
        }));
        self.examine_on(conn, inbound, fx)
    }

    /// Drops the part of a message that was streamed to the disk.
    pub(super) fn discard(&mut self, id: QueueId, whole: &Whole, fx: &mut Effects) {
        self.spilling.remove(&id);
        if whole.spilled {
            fx.store(JournalCommand::BodyDiscard { id });
        }
    }

    /// Continues an examination as far as the answers allow.
    pub(super) fn examine_on(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        loop {
            if !self.has_memory(inbound, fx) {
                return Err(Reply::NO_MEMORY);
            }
            let holder = inbound.holding.holder();
            let Some(checking) = inbound.acceptance.examining() else {
                return Ok(());
            };
            while checking.asked.len() < DNS_QUESTIONS_PER_SESSION_MAX
                && let Some(question) = checking.unasked.pop()
            {
                match fx.ask(conn, holder, question.clone()) {
                    Some(answer) => checking.examination.on_answer(question, answer),
                    None => checking.asked.push(question),
                }
            }
            if !checking.asked.is_empty() {
                return Ok(());
            }
            let next = checking
                .examination
                .resume(&checking.whole.header, &checking.known);
            match next {
                ExaminationStep::Done(findings) => {
                    return self.examined(conn, inbound, &findings, fx);
                }
                ExaminationStep::Wait => return Ok(()),
                ExaminationStep::Verify(verifying) => {
                    let id = checking.id;
                    checking.turn = Some(self.verify(conn, id, holder.lane(), verifying, fx));
                }
                ExaminationStep::Ask(questions) => checking.unasked = questions,
            }
        }
    }

    /// Handles a DNS answer.
    pub(super) fn examination_answer(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        question: &Question,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        let Some(checking) = inbound.acceptance.examining() else {
            return self.put_back(conn, inbound, fx);
        };
        let Some(at) = checking.asked.iter().position(|asked| asked == question) else {
            return self.put_back(conn, inbound, fx);
        };
        checking.asked.swap_remove(at);
        checking
            .examination
            .on_answer(question.clone(), answer.clone());
        self.examination_goes_on(conn, inbound, fx);
    }

    /// Refuses a complete message.
    pub(super) fn message_refused(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        reply: &Reply,
        fx: &mut Effects,
    ) {
        self.note_refusal(&mut inbound, "message", "", Some(reply), fx);
        self.drop_body(&mut inbound, fx);
        self.answer_message(conn, inbound, reply, fx);
    }

    fn examined(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        findings: &Findings,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let Some(mut checking) = inbound.acceptance.take_examining() else {
            return Ok(());
        };
        self.log_findings(inbound, checking.id, findings, fx);
        count_up(
            &mut fx.counters.dmarc_failed,
            u64::from(findings.has_failed()),
        );
        for outcome in findings.dmarc_outcomes() {
            fx.observed.dmarc(outcome);
        }
        let released = match self.release(inbound, &mut checking.transaction, Some(findings), fx) {
            Ok(released) => released,
            Err(reply) => {
                inbound.acceptance = Acceptance::Examining(checking);
                return Err(reply);
            }
        };
        let results = findings.results(&fx.config.hostname, &checking.known);
        let mut fields = results.field().into_bytes();
        if released.mark() == Mark::Suspect {
            fields.extend_from_slice(b"X-Spam-Flag: YES\r\n");
        }
        let sealer = checking
            .whole
            .body_hash
            .and_then(|_| self.sealer(inbound, fx));
        let seal = sealer.map(|(domain, key)| {
            Box::new(Seal {
                domain,
                key,
                results,
                chain: findings.arc.clone(),
            })
        });
        let Checking {
            id,
            whole,
            transaction,
            ..
        } = *checking;
        let checked = Checked {
            id,
            whole,
            transaction,
            released,
            fields,
            facts: facts(findings),
            hooked: Vec::new(),
            seal,
        };
        self.judge_by_hook(conn, inbound, checked, fx)
    }

    /// The ARC set that is added to a forwarded message (RFC 8617) with the fields `added` on top. Its header is the
    /// one that is sent.
    pub(super) fn sealing(
        &mut self,
        whole: &Whole,
        added: &[u8],
        seal: &Seal,
        fx: &mut Effects,
    ) -> Option<(Arc<SigningKey>, Box<Sealing>)> {
        let hash = whole.body_hash?;
        let signer = Signer {
            domain: &seal.domain,
            selector: &seal.key.selector,
            algorithm: Algorithm::RsaSha256,
            at: fx.now.wall,
        };
        match arc::prepare(
            &whole.header,
            added,
            &hash,
            &seal.results,
            &seal.chain,
            &signer,
        ) {
            Ok(sealing) => Some((Arc::clone(&seal.key.key), Box::new(sealing))),
            Err(refusal) => {
                fx.debug(|| Line::new(Level::Debug, "unsealed").with("why", refusal));
                None
            }
        }
    }

    /// The domain that seals, and its key: that of the first recipient with an RSA key, which every verifier supports.
    fn sealer(&self, inbound: &ServerSession, fx: &Effects) -> Option<(Domain, Arc<DkimKey>)> {
        inbound
            .envelope
            .grants
            .sealers(&fx.config)
            .into_iter()
            .find_map(|domain| {
                let keys = fx.config.signing_keys(domain).iter();
                let mut keys = keys.filter(|key| key.key.algorithm() == Algorithm::RsaSha256);
                keys.next().map(|key| (domain.clone(), Arc::clone(key)))
            })
    }

    /// Positions of fields that are removed. From every sender: those that claim to be our own results (RFC 8601
    /// section 5). From a trusted sender: Bcc, unless it is to stay, and a From without an author if `author` replaces
    /// it.
    pub(super) fn left_out(
        &self,
        inbound: &ServerSession,
        header: &Header,
        author: Option<&Mailbox>,
        fx: &Effects,
    ) -> Vec<Range<usize>> {
        let id = fx.config.hostname.as_str();
        let drops_bcc =
            self.client(inbound, fx).is_trusted() && fx.config.content.bcc == Bcc::Remove;
        let is_left_out = |field: &Field<'_>| {
            field.is("Authentication-Results") && claims_id(field.value(), id)
                || drops_bcc && (field.is("Bcc") || field.is("Resent-Bcc"))
                || author.is_some() && field.is("From")
        };
        let mut start = 0_usize;
        let mut found = Vec::new();
        for field in header.fields() {
            let end = start.saturating_add(field.raw().len());
            if is_left_out(&field) {
                found.push(start..end);
            }
            start = end;
        }
        found
    }

    fn log_findings(
        &mut self,
        inbound: &ServerSession,
        id: QueueId,
        findings: &Findings,
        fx: &mut Effects,
    ) {
        let dmarc = findings.dmarc.first();
        let outcome = dmarc.map_or("none", |(_, verdict)| verdict.outcome.as_str());
        let line = Line::new(Level::Info, "examined")
            .with("id", id)
            .with("peer", inbound.peer_text())
            .with_some("spf", findings.spf.as_ref().map(|spf| spf.outcome.as_str()))
            .with("dkim", signers(findings).join(","))
            .with_some("author", dmarc.map(|(author, _)| author))
            .with("dmarc", outcome)
            .with("arc", findings.arc.status().as_str());
        fx.log(line);
    }
}

/// The findings, as facts for the hook.
fn facts(findings: &Findings) -> Vec<(Fact, String)> {
    let passed = if findings.spf_is(spf::SpfResult::Pass) {
        "1"
    } else {
        ""
    };
    let spf = findings.spf.as_ref().map_or("", |spf| spf.outcome.as_str());
    let dmarc = findings.dmarc.first();
    let dmarc = dmarc.map_or("", |(_, verdict)| verdict.outcome.as_str());
    vec![
        (Fact::SpfPass, passed.to_owned()),
        (Fact::SpfResult, spf.to_owned()),
        (Fact::DkimPass, signers(findings).join(" ")),
        (Fact::DmarcResult, dmarc.to_owned()),
    ]
}

/// The domains of the valid signatures.
fn signers(findings: &Findings) -> Vec<&str> {
    let right = findings.dkim.iter().filter(|found| found.outcome.is_ok());
    right
        .filter_map(|signature| signature.domain.as_ref())
        .map(Domain::as_str)
        .collect()
}

/// The reply to a client whose message cannot be judged.
fn authors_reply(error: AuthorsError) -> Reply {
    match error {
        AuthorsError::Missing | AuthorsError::Empty => Reply::FROM_MISSING,
        AuthorsError::Duplicate => Reply::FROM_DUPLICATE,
        AuthorsError::Disputed => Reply::HEADER_DISPUTED,
        AuthorsError::Ambiguous { .. } => Reply::FROM_AMBIGUOUS,
        AuthorsError::TooMany => Reply::FROM_TOO_MANY,
    }
}

/// The header as it is sent, which is signed and sealed: without the ranges `removed`, which are in order.
pub(super) fn without(header: &Header, removed: &[Range<usize>]) -> Header {
    let mut start = 0_usize;
    let mut next = removed.iter().peekable();
    let kept = header.fields().filter(|field| {
        let at = start;
        start = start.saturating_add(field.raw().len());
        next.next_if(|range| range.start == at).is_none()
    });
    let bytes: Vec<u8> = kept.flat_map(Field::raw).copied().collect();
    Header::parse(bytes).unwrap_or_default()
}
