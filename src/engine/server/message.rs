//! From the end of a body to the disk: added header fields, signatures, and the record.

use std::sync::Arc;

use super::acceptance::{Acceptance, Signing};
use super::authentication::without;
use super::examination::Checked;
use super::intake::{Plan, Separator, Whole};
use super::session::{Server, ServerSession};
use crate::address::{Domain, Mailbox};
use crate::auth::dkim::tag::TagList;
use crate::engine::effects::{Effects, JobOwner};
use crate::engine::event::{Action, ConnId, Peer, Work, WorkResult};
use crate::engine::log::{Level, Line};
use crate::engine::note::{CountedUses, MessageOwner, NewRecord, Note};
use crate::engine::signing::{authors_of, is_mentioned, keys_for, keys_of, signing_inputs};
use crate::engine::status::Version;
use crate::envelope::{Envelope, MessageOrigin, Recipient};
use crate::limits::{SESSION_KEPT_BYTES, SYSTEM_UID_FACTOR};
use crate::mail::header::Front;
use crate::mail::received::{Received, ReceivedFrom, WithProtocol};
use crate::mail::submission::Added;
use crate::policy::authority::Released;
use crate::policy::rates::Submitter;
use crate::queue::{JournalCommand, MessageBody, MessageRecord};
use crate::queue_id::QueueId;
use crate::smtp::command::Greeting;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

impl Server {
    /// Drops a body, including the part that was streamed to the disk.
    pub(super) fn drop_body(&mut self, inbound: &mut ServerSession, fx: &mut Effects) {
        self.give_back(std::mem::take(&mut inbound.envelope.uses));
        inbound.envelope.recipient_bytes = 0;
        inbound.holding.give_spool();
        let spilled = match std::mem::take(&mut inbound.acceptance) {
            // Once on its way to the disk, it belongs to the spool.
            Acceptance::Idle | Acceptance::Storing(_) => None,
            Acceptance::Receiving(intake) => intake.is_spilled().then(|| intake.id()),
            Acceptance::Examining(checking) => {
                if let Some(turn) = checking.turn() {
                    self.verifications.forget(turn);
                }
                checking.is_spilled().then(|| checking.id())
            }
            Acceptance::AtHook(hooking) => {
                self.drop_question(&hooking, fx);
                let checked = &hooking.checked;
                checked.whole.spilled.then_some(checked.id)
            }
            Acceptance::Signing(signing) => {
                let is_file = matches!(signing.record.body, MessageBody::File { .. });
                is_file.then_some(signing.record.id)
            }
        };
        if let Some(id) = spilled {
            self.spilling.remove(&id);
            fx.store(JournalCommand::BodyDiscard { id });
        }
    }

    pub(super) fn intake_take(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        body: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let Some(mut intake) = inbound.acceptance.take_receiving() else {
            return;
        };
        let is_over = inbound.is_over;
        let block = intake.take(body, is_over, &mut |front, sender| {
            self.on_header(inbound, front, sender, fx)
        });
        if let Some(bytes) = block {
            match (inbound.holding).take_spool(bytes.len() as u64) {
                Ok(()) => {
                    self.spilling.insert(intake.id(), conn);
                    self.store_block(intake.id(), inbound.holder(), bytes, fx);
                }
                Err(reply) => {
                    intake.on_written(bytes.len());
                    intake.refuse(reply);
                }
            }
        }
        inbound.acceptance = Acceptance::Receiving(intake);
        if !self.has_memory(inbound, fx)
            && let Some(intake) = inbound.acceptance.receiving()
        {
            intake.refuse(Reply::NO_MEMORY);
        }
    }

    /// Counts the message for its submitter, whose limit other sessions may have reached since MAIL. The count is
    /// undone if the message is not accepted.
    fn claim(&mut self, inbound: &mut ServerSession, fx: &mut Effects) -> Result<(), Reply> {
        self.rate_verdict(inbound, fx)?;
        if let Some((submitter, _)) = self.submitter(inbound, fx) {
            let counted = self.logins.users.sent(submitter, fx.now.instant);
            inbound.envelope.uses.submitter = Some(counted);
        }
        Ok(())
    }

    /// Whether the submitter may submit one more message in this hour.
    pub(super) fn rate_verdict(
        &mut self,
        inbound: &ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let Some((submitter, per_hour)) = self.submitter(inbound, fx) else {
            return Ok(());
        };
        match (self.logins.users).may_send(&submitter, per_hour, fx.now.instant) {
            true => Ok(()),
            false => Err(Reply::RATE_EXCEEDED),
        }
    }

    /// The submitter that messages of a session are counted for, and its limit per hour.
    fn submitter(&self, inbound: &ServerSession, fx: &Effects) -> Option<(Submitter, u32)> {
        let limits = &fx.config.limits;
        match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => {
                let per_hour = limits.messages_per_uid_hour;
                Some(match fx.is_operator(Some(uid)) {
                    true => (
                        Submitter::Uid(uid),
                        per_hour.saturating_mul(SYSTEM_UID_FACTOR),
                    ),
                    false if fx.config.accounts.has_uid(uid) => (Submitter::Uid(uid), per_hour),
                    false => (Submitter::OtherUids, per_hour),
                })
            }
            (_, Some(login)) => Some((Submitter::user(login), limits.messages_per_user_hour)),
            (Peer::Network { .. }, None) => None,
        }
    }

    /// The body has ended: starts the examination, adds fields, asks for signatures, and stores.
    pub(super) fn message_whole(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        transaction: Transaction,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        self.claim(inbound, fx)?;
        let intake = inbound.acceptance.take_receiving();
        let intake = intake.ok_or(Reply::STORE_FAILED)?;
        let id = intake.id();
        let spilled = intake.is_spilled();
        let whole = intake
            .finish(&mut |front, sender| self.on_header(inbound, front, sender, fx))
            .inspect_err(|_| {
                if spilled {
                    self.spilling.remove(&id);
                    fx.actions
                        .push_back(Action::Store(JournalCommand::BodyDiscard { id }));
                }
            })?;
        self.examine(conn, inbound, id, whole, transaction, fx)
    }

    /// The message is accepted: adds the fields, and asks for the signatures or stores at once.
    pub(super) fn message_wanted(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        checked: Checked,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        self.use_returns(inbound, fx)
            .inspect_err(|_| self.discard(checked.id, &checked.whole, fx))?;
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
        hooked.append(&mut self.missing_fields(inbound, id, &transaction, &whole, fx));
        let mut added = hooked;
        let seal = seal.and_then(|seal| self.sealing(&whole, &added, &seal, fx));
        let inputs = whole.body_hash.map_or_else(Vec::new, |hash| {
            signing_inputs(&whole.keys, &whole.header, &added, &hash, fx.now)
        });
        let recipients = released.recipients();
        let mut fields = self.received_field(inbound, id, &transaction, recipients, fx);
        fields.append(&mut found);
        fields.append(&mut added);
        let record = self.message_record(inbound, id, transaction, released, fields, &whole, fx);
        let size = whole.size;
        let body = self.body_of(inbound, id, whole, fx);
        let record = MessageRecord { body, ..record };
        fx.debug(|| {
            Line::new(Level::Debug, "accepted")
                .with("id", id)
                .with("size", size)
                .with("keys", inputs.len())
        });
        inbound.acceptance = Acceptance::Signing(Box::new(Signing { record, size }));
        if inputs.is_empty() && seal.is_none() {
            self.message_signed(conn, inbound, fx);
        } else {
            fx.work(JobOwner::Sign { conn, id }, Work::Sign(inputs, seal));
        }
        Ok(())
    }

    /// The body for the record: the bytes, or its file. The rest of a streamed body goes to the disk too.
    fn body_of(
        &mut self,
        inbound: &ServerSession,
        id: QueueId,
        whole: Whole,
        fx: &mut Effects,
    ) -> MessageBody {
        if !whole.spilled {
            return MessageBody::Inline(whole.rest);
        }
        if !whole.rest.is_empty() {
            self.store_block(id, inbound.holder(), whole.rest, fx);
        }
        MessageBody::File {
            len: whole.size,
            crc32: 0,
        }
    }

    /// The fields that a message of a trusted sender lacks.
    fn missing_fields(
        &mut self,
        inbound: &ServerSession,
        id: QueueId,
        transaction: &Transaction,
        whole: &Whole,
        fx: &mut Effects,
    ) -> Vec<u8> {
        if !self.client(inbound, fx).is_trusted() {
            return Vec::new();
        }
        self.note_unsigned(inbound, id, transaction, whole, fx);
        let added = Added {
            author: whole.author.as_ref(),
            id,
            hostname: &fx.config.hostname,
            at: fx.now.wall,
        };
        added.missing_fields(&whole.header, &mut *fx.entropy)
    }

    #[expect(clippy::too_many_arguments, reason = "all of it goes into one record")]
    pub(super) fn message_record(
        &self,
        inbound: &ServerSession,
        id: QueueId,
        transaction: Transaction,
        released: Released,
        fields: Vec<u8>,
        whole: &Whole,
        fx: &Effects,
    ) -> MessageRecord {
        let Transaction { parameters, .. } = transaction;
        let dsn_return = released.dsn_return(parameters.dsn_return);
        let (reverse_path, recipients) = released.into_parts();
        // SMTPUTF8 is required of the next hop only if something needs it (RFC 6531 section 3.4 permits that). If only
        // some recipients need it, it is requested with those: the others may be at hosts without the extension.
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
                arrived: fx.now.wall,
                origin: match (&inbound.login, inbound.peer) {
                    (Some(login), _) => MessageOrigin::Login(login.as_str().into()),
                    (None, Peer::Process { uid }) => MessageOrigin::Process(uid),
                    (None, Peer::Network { remote, .. }) => {
                        MessageOrigin::Client(remote.ip().to_canonical())
                    }
                },
            },
            fields,
            body: MessageBody::Inline(Vec::new()),
        }
    }

    /// Judges a message by its header: whether it is accepted, and which keys sign it: for a trusted sender those of
    /// the domain of From, if it is served. A message of a client is examined.
    fn on_header(
        &self,
        inbound: &ServerSession,
        front: &Front,
        sender: Option<&Mailbox>,
        fx: &Effects,
    ) -> Result<Plan, Reply> {
        let header = &front.header;
        let author = self.author_verdict(inbound, header, sender, fx)?;
        let plan = if self.client(inbound, fx).is_trusted() {
            let keys = match &author {
                Some(author) => keys_of(&fx.config, author.domain()),
                None => keys_for(&fx.config, header),
            };
            Plan {
                separator: Separator::Added,
                ..self.plan_for_trusted(inbound, header, keys, fx)
            }
        } else {
            self.plan_for_client(inbound, front, fx)?
        };
        Ok(Plan {
            removed: self.left_out(inbound, header, author.as_ref(), fx),
            author,
            ..plan
        })
    }

    /// Logs that a message of a trusted sender is sent unsigned although a domain that it may come from has keys: the
    /// next hop may well take it for forged.
    fn note_unsigned(
        &mut self,
        inbound: &ServerSession,
        id: QueueId,
        transaction: &Transaction,
        whole: &Whole,
        fx: &mut Effects,
    ) {
        if !whole.keys.is_empty() {
            return;
        }
        let sender = transaction.reverse_path.mailbox();
        let mut senders = [sender, inbound.login.as_ref()].into_iter().flatten();
        let has_keys = senders.any(|sender| !keys_of(&fx.config, sender.domain()).is_empty());
        let (authors, why) = match authors_of(&whole.header) {
            Ok(authors) => (authors, "no key is there for the domain of From"),
            Err(_) => (Vec::new(), "From cannot be read in one way"),
        };
        if !has_keys && !is_mentioned(&fx.config, &whole.header) {
            return;
        }
        let authors: Vec<&str> = authors.iter().map(Domain::as_str).collect();
        fx.log(
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
        inbound: &ServerSession,
        id: QueueId,
        transaction: &Transaction,
        recipients: &[Recipient],
        fx: &Effects,
    ) -> Vec<u8> {
        let (greeting, name) = inbound
            .session
            .greeting()
            .unwrap_or((Greeting::Ehlo, "unknown"));
        let protocol = match greeting {
            Greeting::Helo => WithProtocol::Smtp,
            Greeting::Ehlo => WithProtocol::Esmtp {
                tls: inbound.tls.is_some(),
                auth: inbound.login.is_some(),
                utf8: transaction.parameters.smtputf8,
            },
        };
        let source = match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => ReceivedFrom::Local { uid },
            (Peer::Network { .. }, Some(_)) => ReceivedFrom::Authenticated { protocol },
            (Peer::Network { remote, .. }, None) => ReceivedFrom::Peer {
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
        let by = &fx.config.hostname;
        Received {
            source,
            by,
            tls: tls.as_deref(),
            id,
            recipient: single,
            at: fx.now.wall,
        }
        .to_bytes()
    }

    /// A worker signed the message.
    pub(in crate::engine) fn on_signed(
        &mut self,
        conn: ConnId,
        id: QueueId,
        result: WorkResult,
        fx: &mut Effects,
    ) {
        let Some(mut inbound) = self.sessions.take(conn) else {
            return;
        };
        // The session may have dropped that message, and have another signed.
        let signing = inbound.acceptance.signing();
        let Some(signing) = signing.filter(|signing| signing.record.id == id) else {
            return self.put_back(conn, inbound, fx);
        };
        let WorkResult::Signed(Ok(mut fields)) = result else {
            fx.log(Line::new(Level::Error, "signing-failed").with("id", id));
            self.drop_body(&mut inbound, fx);
            return self.answer_message(conn, inbound, &Reply::SIGNING_FAILED, fx);
        };
        let keys = signed_by(&fields);
        fields.append(&mut signing.record.fields);
        signing.record.fields = fields;
        fx.log(
            Line::new(Level::Debug, "signed")
                .with("id", id)
                .with("keys", keys),
        );
        self.message_signed(conn, &mut inbound, fx);
        self.put_back(conn, inbound, fx);
    }

    /// All signatures are there: sends the message to the disk.
    pub(super) fn message_signed(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        fx: &mut Effects,
    ) {
        let Some(signing) = inbound.acceptance.take_signed() else {
            return;
        };
        let Signing { record, size } = *signing;
        // From here on the disk decides whether it counts, even if the client does not wait.
        let uses = std::mem::take(&mut inbound.envelope.uses);
        let charge = fx.charge(inbound.holder(), &record, uses);
        fx.note(Note::Append(Box::new(NewRecord {
            record,
            size,
            owner: MessageOwner::Client(conn, charge),
        })));
    }

    /// Handles the answer of the disk.
    pub(in crate::engine) fn on_stored(
        &mut self,
        conn: ConnId,
        id: QueueId,
        result: Result<(), Reply>,
        uses: CountedUses,
        fx: &mut Effects,
    ) {
        self.give_back(uses);
        let Some(inbound) = self.sessions.take(conn) else {
            return; // the client did not wait: the message is queued all the same
        };
        // Nor does the session, if it has another message by now.
        if !inbound.acceptance.is_storing(id) {
            return self.put_back(conn, inbound, fx);
        }
        if result.is_ok() {
            // The session has waited since the end of the message.
            fx.observed
                .committed(fx.now.instant.since(inbound.pace.touched));
            if let Peer::Network { .. } = inbound.peer {
                let version = inbound.tls.as_ref().map(|tls| tls.version);
                fx.observed.received(Version::of(version));
            }
        }
        let reply = result.map_or_else(|reply| reply, |()| Reply::queued(id));
        self.answer_message(conn, inbound, &reply, fx);
    }

    pub(super) fn answer_message(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        reply: &Reply,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        self.give_back(std::mem::take(&mut inbound.envelope.uses));
        if let (Some(address), Some(_), false) =
            (inbound.address(), &inbound.guard, reply.code() >= 300)
        {
            self.clients.client_rates.good(address, fx.now.instant);
        }
        inbound.envelope.recipient_bytes = 0;
        inbound.holding.give_spool();
        inbound.acceptance = Acceptance::Idle;
        inbound.session.on_stored(reply, &mut out);
        // Nothing is sent between this reply and the client, not even replies to what followed the message.
        if self.account(&mut inbound, fx) && inbound.buffers.kept.len() > SESSION_KEPT_BYTES {
            self.answer(conn, &mut inbound, out, fx);
            return self.evict(conn, inbound, &Reply::NO_ROOM_FOR_SESSION, fx);
        }
        self.resume(conn, inbound, out, fx);
    }

    /// A block of a body is on the disk, or could not be written.
    pub(in crate::engine) fn body_written(
        &mut self,
        id: QueueId,
        result: Result<usize, Reply>,
        fx: &mut Effects,
    ) {
        self.blocks.stored(id, result.as_ref().ok().copied());
        let Some(conn) = self.spilling.get(&id).copied() else {
            return;
        };
        let Some(mut inbound) = self.sessions.take(conn) else {
            return;
        };
        let is_asked = inbound.acceptance.id() == Some(id);
        match &mut inbound.acceptance {
            // It belongs to a message that the session has dropped.
            _ if !is_asked => {}
            Acceptance::Receiving(intake) => match result {
                Ok(bytes) => intake.on_written(bytes),
                Err(reply) => intake.on_lost(reply),
            },
            Acceptance::Examining(checking) => checking.on_written(result),
            Acceptance::AtHook(_) => return self.hook_written(conn, inbound, result, fx),
            // No block is waited for here.
            Acceptance::Idle | Acceptance::Signing(_) | Acceptance::Storing(_) => {}
        }
        self.resume(conn, inbound, Vec::new(), fx);
    }
}

/// The keys that made the signatures in front of a message: `selector.domain`, separated by commas.
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
