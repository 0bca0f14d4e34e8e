//! From the end of a body to the disk: the fields that are added, the signatures, the record.

use std::sync::Arc;

use super::authentication::{Checked, without};
use super::{Inbound, Signing};
use crate::address::{Domain, Mailbox};
use crate::auth::dkim::tag::TagList;
use crate::clock::Now;
use crate::engine::event::{Action, ConnId, Peer, Work, WorkResult};
use crate::engine::intake::{Plan, Separator, Whole};
use crate::engine::log::{Level, Line};
use crate::engine::signing::{authors_of, signing_inputs};
use crate::engine::status::Version;
use crate::engine::store::{Committing, Owner};
use crate::engine::{Conn, Engine, JobOwner};
use crate::envelope::{Envelope, Recipient};
use crate::limits::{SESSION_KEPT_BYTES, SYSTEM_UID_FACTOR};
use crate::mail::header::Front;
use crate::mail::received::{Protocol, Received, Source};
use crate::mail::submission::Added;
use crate::policy::authority::Released;
use crate::policy::rates::Submitter;
use crate::queue::{Body, Command, MessageRecord, Record};
use crate::queue_id::QueueId;
use crate::smtp::command::Greeting;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

impl Engine {
    /// Gives up a body, what was streamed out of it too.
    pub(super) fn drop_body(&mut self, inbound: &mut Inbound) {
        if let Some(claim) = inbound.claimed.take() {
            self.logins.users.give_back(&claim);
        }
        inbound.recipient_bytes = 0;
        inbound.holding.give_spool(&mut self.shares);
        if let Some(intake) = inbound.intake.take()
            && intake.is_spilled()
        {
            self.spilling.remove(&intake.id());
            self.store(Command::BodyDiscard { id: intake.id() });
        }
        if let Some(checking) = inbound.checking.take() {
            if let Some(turn) = checking.turn() {
                self.verifications.forget(turn);
            }
            if checking.is_spilled() {
                self.spilling.remove(&checking.id());
                self.store(Command::BodyDiscard { id: checking.id() });
            }
        }
        if let Some(hooking) = inbound.hooking.take() {
            self.drop_hooking(&hooking);
        }
        if let Some(signing) = inbound.signing.take() {
            // It will not be stored: the uses that it has taken came to nothing.
            for id in std::mem::take(&mut inbound.used) {
                self.strangers.returns.give_back(id);
            }
            if let Body::File { .. } = signing.record.body {
                let id = signing.record.id;
                self.store(Command::BodyDiscard { id });
            }
        }
    }

    pub(super) fn intake_take(
        &mut self,
        conn: ConnId,
        inbound: &mut Inbound,
        body: &mut Vec<u8>,
        now: Now,
    ) {
        let Some(mut intake) = inbound.intake.take() else {
            return;
        };
        let is_over = inbound.is_over;
        let block = intake.take(body, is_over, &mut |front, sender| {
            self.on_header(inbound, front, sender, now)
        });
        if let Some(bytes) = block {
            match (inbound.holding).take_spool(&mut self.shares, bytes.len() as u64) {
                Ok(()) => {
                    self.spilling.insert(intake.id(), conn);
                    self.store_block(intake.id(), inbound.holder(), bytes);
                }
                Err(reply) => {
                    intake.on_written(bytes.len());
                    intake.refuse(reply);
                }
            }
        }
        inbound.intake = Some(intake);
        if !self.has_memory(inbound)
            && let Some(intake) = inbound.intake.as_mut()
        {
            intake.refuse(Reply::NO_MEMORY);
        }
    }

    /// Counts the message for whoever submits it, whose limit others of the same moment may have reached since MAIL. It is
    /// counted out again where it is not taken.
    fn claim(&mut self, inbound: &mut Inbound, now: Now) -> Result<(), Reply> {
        self.rate_verdict(inbound, now)?;
        if let Some((submitter, _)) = self.submitter(inbound) {
            inbound.claimed = Some(self.logins.users.sent(submitter, now.instant));
        }
        Ok(())
    }

    /// Whether whoever submits here may submit one more message in this hour.
    pub(super) fn rate_verdict(&mut self, inbound: &Inbound, now: Now) -> Result<(), Reply> {
        let Some((submitter, per_hour)) = self.submitter(inbound) else {
            return Ok(());
        };
        match (self.logins.users).may_send(&submitter, per_hour, now.instant) {
            true => Ok(()),
            false => Err(Reply::RATE_EXCEEDED),
        }
    }

    /// Whom the messages of a session are counted for, and how many there may be in an hour.
    fn submitter(&self, inbound: &Inbound) -> Option<(Submitter, u32)> {
        let limits = &self.config.limits;
        match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => {
                let per_hour = limits.messages_per_uid_hour;
                Some(match self.is_operator(Some(uid)) {
                    true => (
                        Submitter::Uid(uid),
                        per_hour.saturating_mul(SYSTEM_UID_FACTOR),
                    ),
                    false if self.config.accounts.has_uid(uid) => (Submitter::Uid(uid), per_hour),
                    false => (Submitter::OtherUids, per_hour),
                })
            }
            (_, Some(login)) => Some((Submitter::user(login), limits.messages_per_user_hour)),
            (Peer::Network { .. }, None) => None,
        }
    }

    /// The body has ended: whose it is is found out, fields are added, signatures asked for, and it is stored.
    pub(super) fn message_whole(
        &mut self,
        conn: ConnId,
        inbound: &mut Inbound,
        transaction: Transaction,
        now: Now,
    ) -> Result<(), Reply> {
        self.claim(inbound, now)?;
        let intake = inbound.intake.take().ok_or(Reply::STORE_FAILED)?;
        let id = intake.id();
        let spilled = intake.is_spilled();
        let whole = intake
            .finish(&mut |front, sender| self.on_header(inbound, front, sender, now))
            .inspect_err(|_| {
                if spilled {
                    self.spilling.remove(&id);
                    self.actions
                        .push_back(Action::Store(Command::BodyDiscard { id }));
                }
            })?;
        self.examine(conn, inbound, id, whole, transaction, now)
    }

    /// The message is wanted: adds the fields, asks for the signatures or stores at once.
    pub(super) fn message_wanted(
        &mut self,
        conn: ConnId,
        inbound: &mut Inbound,
        checked: Checked,
        now: Now,
    ) -> Result<(), Reply> {
        self.use_returns(inbound, now)
            .inspect_err(|_| self.discard(checked.id, &checked.whole))?;
        let Checked {
            id,
            mut whole,
            transaction,
            released,
            fields: mut found,
            mut hooked,
            seal,
            ..
        } = checked;
        if !whole.removed.is_empty() {
            whole.header = Arc::new(without(&whole.header, &whole.removed));
        }
        if self.client(inbound).is_trusted() {
            let added = Added {
                author: whole.author.as_ref(),
                id,
                hostname: &self.config.hostname,
                at: now.wall,
            };
            hooked.append(&mut added.missing_fields(&whole.header, &mut *self.entropy));
            self.note_unsigned(inbound, id, &transaction, &whole);
        }
        let mut added = hooked;
        let seal = seal.and_then(|seal| self.sealing(&whole, &added, &seal, now));
        let inputs = whole.body_hash.map_or_else(Vec::new, |hash| {
            signing_inputs(&whole.keys, &whole.header, &added, &hash, now)
        });
        let recipients = released.recipients();
        let mut fields = self.received_field(inbound, id, &transaction, recipients, now);
        fields.append(&mut found);
        fields.append(&mut added);
        let record = self.message_record(inbound, id, transaction, released, fields, &whole, now);
        let Whole {
            size,
            rest,
            spilled,
            ..
        } = whole;
        let record = MessageRecord {
            body: match spilled {
                false => Body::Inline(rest),
                true => {
                    if !rest.is_empty() {
                        self.store_block(id, inbound.holder(), rest);
                    }
                    Body::File {
                        len: size,
                        crc32: 0,
                    }
                }
            },
            ..record
        };
        self.debug(|| {
            Line::new(Level::Debug, "accepted")
                .with("id", id)
                .with("size", size)
                .with("keys", inputs.len())
        });
        inbound.signing = Some(Box::new(Signing { record, size }));
        if inputs.is_empty() && seal.is_none() {
            self.message_signed(conn, inbound);
        } else {
            self.work(JobOwner::Sign { conn }, Work::Sign(inputs, seal));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all of it goes into one record")]
    pub(super) fn message_record(
        &self,
        inbound: &Inbound,
        id: QueueId,
        transaction: Transaction,
        released: Released,
        fields: Vec<u8>,
        whole: &Whole,
        now: Now,
    ) -> MessageRecord {
        let Transaction { parameters, .. } = transaction;
        let dsn_return = released.dsn_return(parameters.dsn_return);
        let (reverse_path, recipients) = released.into_parts();
        // SMTPUTF8 is owed to the next hop only where something needs it (RFC 6531 section 3.4 lets us see). What only
        // some recipients need is asked for with them: the others may be at hosts that do not know it.
        let needed = !reverse_path.as_str().is_ascii() || !whole.header.as_bytes().is_ascii();
        MessageRecord {
            id,
            envelope: Envelope {
                reverse_path,
                recipients,
                envelope_id: parameters.envelope_id,
                dsn_return,
                body: parameters.body,
                smtputf8: parameters.smtputf8 && needed,
                arrived: now.wall,
                origin: match &inbound.login {
                    Some(login) => login.as_str().into(),
                    None => inbound.peer_text().into(),
                },
            },
            fields,
            body: Body::Inline(Vec::new()),
        }
    }

    /// What a header says about its message: whether it is taken, and which keys sign it: those of the domain of From,
    /// if it is served, for whoever may relay. What a stranger brings is examined.
    fn on_header(
        &self,
        inbound: &Inbound,
        front: &Front,
        sender: Option<&Mailbox>,
        now: Now,
    ) -> Result<Plan, Reply> {
        let header = &front.header;
        let author = self.author_verdict(inbound, header, sender)?;
        let plan = if self.client(inbound).is_trusted() {
            let keys = match &author {
                Some(author) => self.keys_of(author.domain()),
                None => self.keys_for(header),
            };
            Plan {
                separator: Separator::Added,
                ..self.plan_for_trusted(inbound, header, keys, now)
            }
        } else {
            self.plan_for_stranger(inbound, front, now)?
        };
        Ok(Plan {
            removed: self.left_out(inbound, header, author.as_ref()),
            author,
            ..plan
        })
    }

    /// Says of a message of somebody who may relay that it goes out unsigned, although a domain that it could be from has
    /// keys: the next host may well take it for forged.
    fn note_unsigned(
        &mut self,
        inbound: &Inbound,
        id: QueueId,
        transaction: &Transaction,
        whole: &Whole,
    ) {
        if !whole.keys.is_empty() {
            return;
        }
        let sender = transaction.reverse_path.mailbox();
        let mut senders = [sender, inbound.login.as_ref()].into_iter().flatten();
        let has_keys = senders.any(|sender| !self.keys_of(sender.domain()).is_empty());
        let (authors, why) = match authors_of(&whole.header) {
            Ok(authors) => (authors, "no key is there for the domain of From"),
            Err(_) => (Vec::new(), "From cannot be read in one way"),
        };
        if !has_keys && !self.is_mentioned(&whole.header) {
            return;
        }
        let authors: Vec<&str> = authors.iter().map(Domain::as_str).collect();
        self.log(
            Line::new(Level::Warning, "unsigned")
                .with("id", id)
                .with("peer", inbound.peer_text())
                .with_some("user", inbound.login.as_ref())
                .with("from", transaction.reverse_path.as_str())
                .with("author", authors.join(","))
                .with("why", why),
        );
    }

    pub(super) fn received_field(
        &self,
        inbound: &Inbound,
        id: QueueId,
        transaction: &Transaction,
        recipients: &[Recipient],
        now: Now,
    ) -> Vec<u8> {
        let (greeting, name) = inbound
            .session
            .greeting()
            .unwrap_or((Greeting::Ehlo, "unknown"));
        let protocol = match greeting {
            Greeting::Helo => Protocol::Smtp,
            Greeting::Ehlo => Protocol::Esmtp {
                tls: inbound.tls.is_some(),
                auth: inbound.login.is_some(),
                utf8: transaction.parameters.smtputf8,
            },
        };
        let source = match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => Source::Local { uid },
            (Peer::Network { .. }, Some(_)) => Source::Authenticated { protocol },
            (Peer::Network { remote, .. }, None) => Source::Peer {
                hello: name.as_bytes(),
                name: inbound.confirmed_name(),
                address: remote.ip().to_canonical(),
                protocol,
            },
        };
        let single = match recipients {
            [only] if only.original.is_none() => Some(&only.mailbox),
            _ => None,
        };
        let tls = inbound
            .tls
            .as_ref()
            .map(|tls| format!("{} {}", tls.version, tls.cipher));
        let by = &self.config.hostname;
        Received {
            source,
            by,
            tls: tls.as_deref(),
            id,
            recipient: single,
            at: now.wall,
        }
        .to_bytes()
    }

    /// A worker signed the message.
    pub(in crate::engine) fn inbound_signed(&mut self, conn: ConnId, result: WorkResult, now: Now) {
        let mut inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        let Some(signing) = inbound.signing.as_mut() else {
            return self.inbound_put(conn, inbound);
        };
        let WorkResult::Signed(Ok(mut fields)) = result else {
            self.log(Line::new(Level::Error, "signing-failed").with("id", signing.record.id));
            self.drop_body(&mut inbound);
            return self.inbound_stored(conn, inbound, &Reply::SIGNING_FAILED, now);
        };
        let id = signing.record.id;
        let keys = signed_by(&fields);
        fields.append(&mut signing.record.fields);
        signing.record.fields = fields;
        self.log(
            Line::new(Level::Debug, "signed")
                .with("id", id)
                .with("keys", keys),
        );
        self.message_signed(conn, &mut inbound);
        self.inbound_put(conn, inbound);
    }

    /// All signatures are there: the message goes to the disk.
    pub(super) fn message_signed(&mut self, conn: ConnId, inbound: &mut Inbound) {
        let Some(signing) = inbound.signing.take() else {
            return;
        };
        let Signing { record, size } = *signing;
        // From here on the disk says whether it counts, also where the client does not wait for that.
        let charge = self.charge(inbound.holder(), &record, inbound.claimed.take());
        let owner = Owner::Client(conn, charge);
        let committing = Committing::message(&record, size, owner);
        let ticket = self.ticket(committing);
        self.store(Command::Append {
            ticket,
            record: Record::Message(record),
        });
    }

    /// The disk has answered.
    pub(in crate::engine) fn inbound_committed(
        &mut self,
        conn: ConnId,
        result: Result<QueueId, Reply>,
        now: Now,
    ) {
        let inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return, // the client did not wait: the message is queued all the same
        };
        if result.is_ok() {
            // The session has waited since the end of the message.
            self.observed.committed(now.instant.since(inbound.touched));
            if let Peer::Network { .. } = inbound.peer {
                let version = inbound.tls.as_ref().map(|tls| tls.version);
                self.observed.received(Version::of(version));
            }
        }
        let reply = result.map_or_else(|reply| reply, Reply::queued);
        self.inbound_stored(conn, inbound, &reply, now);
    }

    pub(super) fn inbound_stored(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        reply: &Reply,
        now: Now,
    ) {
        let mut out = Vec::new();
        self.settle_returns(&mut inbound, reply);
        if let (Some(address), Some(_), false) =
            (inbound.address(), &inbound.guard, reply.code() >= 300)
        {
            self.strangers.conduct.good(address, now.instant);
        }
        inbound.recipient_bytes = 0;
        inbound.holding.give_spool(&mut self.shares);
        inbound.session.on_stored(reply, &mut out);
        // Nothing comes between this answer and its client, not even the answers to what was sent behind the message.
        if self.account(&mut inbound) && inbound.kept.len() > SESSION_KEPT_BYTES {
            self.answer(conn, &mut inbound, out);
            return self.inbound_crowded_out(conn, inbound, &Reply::NO_ROOM_FOR_SESSION);
        }
        self.inbound_resume(conn, inbound, out, now);
    }

    /// A block of a body is on the disk, or could not be written.
    pub(in crate::engine) fn body_written(
        &mut self,
        id: QueueId,
        result: Result<usize, Reply>,
        now: Now,
    ) {
        self.block_stored(id, result.as_ref().ok().copied());
        let Some(conn) = self.spilling.get(&id).copied() else {
            return;
        };
        let mut inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        if let Some(intake) = inbound.intake.as_mut() {
            match result {
                Ok(bytes) => intake.on_written(bytes),
                Err(reply) => intake.on_lost(reply),
            }
        } else if let Some(checking) = inbound.checking.as_mut() {
            checking.on_written(result);
        } else if inbound.hooking.is_some() {
            return self.hook_written(conn, inbound, result, now);
        }
        self.inbound_resume(conn, inbound, Vec::new(), now);
    }
}

/// The keys that have made the signatures in front of a message: `selector.domain`, with commas between.
fn signed_by(fields: &[u8]) -> String {
    let text = String::from_utf8_lossy(fields);
    let signatures = text.split(SIGNATURE).skip(1);
    let keys: Vec<String> = signatures
        .filter_map(|value| {
            let tags = TagList::parse(value.as_bytes()).ok()?;
            Some(format!("{}.{}", tags.value("s")?, tags.value("d")?))
        })
        .collect();
    keys.join(",")
}

const SIGNATURE: &str = "DKIM-Signature:";
