//! Transfers a message: selects the next one, reads its parts from the journal, and sends them.

use std::mem;

use super::load::{Heard, Load};
use super::session::{Delivery, DeliverySession, ServerLink, State};
use crate::cause::QuotedWords;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, MessageReader};
use crate::engine::log::{Level, Line};
use crate::envelope::Envelope;
use crate::limits::{
    CLIENT_IDLE_TIMEOUT, CLIENT_MESSAGES_MAX, DELIVERY_SESSION_TIMEOUT, DELIVERY_TURN,
    DELIVERY_TURN_MESSAGES,
};
use crate::policy::shares::Resource;
use crate::queue::{Part, Phase, ReadContent, ReadError};
use crate::queue_id::QueueId;
use crate::smtp::client::{RecipientResult, RefusalScope};
use crate::status::EnhancedCode;

impl Delivery {
    /// Takes the next message that is due, waits for one, or ends the session.
    pub(super) fn take_next_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let link = delivery.state.link();
        let sent = link.map_or(0, |link| link.session.messages());
        let old = fx.now.instant.since(delivery.pace.began) > DELIVERY_SESSION_TIMEOUT;
        let enough = sent >= CLIENT_MESSAGES_MAX
            || old
            || delivery.detour
            || self.has_to_yield(&delivery, sent, fx);
        let elsewhere = self.hops.is_stale(delivery.hop);
        if fx.stopping || enough || elsewhere || fx.disk.is_stuck {
            return self.quit(conn, delivery, fx);
        }
        while let Some(id) = self.hops.pop_ready(delivery.hop) {
            let Some(entry) = fx.index.get_mut(id) else {
                continue;
            };
            if entry.held {
                continue;
            }
            let indices: Vec<usize> = entry.due_for(delivery.hop).collect();
            if indices.is_empty() {
                continue;
            }
            for at in &indices {
                if let Some(state) = entry.recipients.get_mut(*at) {
                    state.phase = Phase::InFlight;
                }
            }
            delivery.carry(Load::new(id, entry, &indices));
            delivery.begins_attempt(fx.now);
            return self.read_message(conn, delivery, fx);
        }
        let (link, _) = delivery.state.end();
        let Some(link) = link else {
            return self.end_session(conn, delivery, fx);
        };
        let until = fx.now.instant.after(CLIENT_IDLE_TIMEOUT);
        delivery.state = State::Idle { link, until };
        self.hops.add_idle(delivery.hop, conn);
        self.put_back(conn, delivery, fx);
    }

    /// Whether a delivery session must make room: it has had its turn, and another waiting next hop could use its
    /// place. (A next hop that waits because its share is used up waits for its own sessions.)
    fn has_to_yield(&self, delivery: &DeliverySession, sent: u32, fx: &Effects) -> bool {
        let is_late = fx.now.instant.since(delivery.pace.began) >= DELIVERY_TURN;
        if sent < DELIVERY_TURN_MESSAGES && !(sent > 0 && is_late) {
            return false;
        }
        let pool = fx.shares.of(Resource::Deliveries);
        let is_full = pool.used() >= pool.capacity();
        let helps = |other| pool.free(other) == 0 && (is_full || delivery.standing() <= other);
        self.hops.wanting_beside(delivery.hop).any(helps)
    }

    /// Reads the envelope of the carried message, to offer it to the current host.
    pub(super) fn read_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let known = delivery.state.load().and_then(|load| {
            let entry = fx.index.get(load.id)?;
            (!entry.held).then_some((load.id, entry.location, entry.size))
        });
        let Some((id, location, size)) = known else {
            return self.take_other_message(conn, delivery, fx);
        };
        if let Some(load) = delivery.state.load_mut() {
            load.begin(location);
        }
        // A short message is read whole, and is sent with its dot in one write.
        let short = !location.body_is_file() && size <= u64::from(BLOCK_BYTES);
        let part = if short { Part::Whole } else { Part::Head };
        fx.actions.push_back(Action::Read {
            reader: MessageReader::Conn { conn, id },
            id,
            location,
            part,
        });
        self.put_back(conn, delivery, fx);
    }

    /// The carried message was held or removed before it was offered: puts it back, or forgets it.
    fn take_other_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let kept = delivery.state.load().map(|load| load.id);
        match kept.filter(|id| fx.index.get(*id).is_some()) {
            Some(_) => self.defer_message(&mut delivery, fx),
            None => drop(delivery.state.take_load()),
        }
        self.take_next_message(conn, delivery, fx);
    }

    /// Whether the carried message may still be offered: it is neither held nor removed from the queue.
    pub(super) fn is_wanted(&self, id: QueueId, fx: &Effects) -> bool {
        fx.index.get(id).is_some_and(|entry| !entry.held)
    }

    /// Something is due for the hop that an idle delivery session is at.
    pub(super) fn wake(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(delivery) = self.sessions.take(conn) {
            self.take_next_message(conn, delivery, fx);
        }
    }

    /// A piece of the message was read.
    pub(super) fn on_read(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        asked: QueueId,
        result: Result<ReadContent, ReadError>,
        fx: &mut Effects,
    ) {
        // The session that asked for any other read has moved on.
        let Some(id) = delivery.state.reads().filter(|id| *id == asked) else {
            return self.put_back(conn, delivery, fx);
        };
        let begins = !matches!(result, Ok(ReadContent::Body { .. }));
        if begins && !self.is_wanted(id, fx) && result.is_ok() {
            return self.take_other_message(conn, delivery, fx);
        }
        if fx.index.get(id).is_none() {
            // It was taken out of the queue: it gets no dot.
            delivery.state.end();
            fx.actions.push_back(Action::Abort { conn });
            return self.end_session(conn, delivery, fx);
        }
        let mut out = Vec::new();
        let read = match result {
            Ok(ReadContent::Head { envelope, fields }) => {
                self.begin_transaction(&mut delivery, &envelope, (fields, None), &mut out, fx);
                Ok(())
            }
            Ok(ReadContent::Whole {
                envelope,
                fields,
                body,
            }) => {
                let content = (fields, Some(body));
                self.begin_transaction(&mut delivery, &envelope, content, &mut out, fx);
                Ok(())
            }
            Ok(ReadContent::Body { bytes, crc32 }) => match &mut delivery.state {
                State::Talking {
                    link,
                    load: Some(load),
                } => send_block(link, load, &bytes, crc32, &mut out),
                _ => Ok(()),
            },
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => self.serve_requests(conn, delivery, out, fx),
            Err(error) => self.on_unreadable(conn, delivery, error, fx),
        }
    }

    /// Offers a message whose envelope was read: its fields, and its body if that is short.
    fn begin_transaction(
        &mut self,
        delivery: &mut DeliverySession,
        envelope: &Envelope,
        (fields, body): (Vec<u8>, Option<Vec<u8>>),
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let (mut link, mut load) = match mem::take(&mut delivery.state) {
            State::Reading { link, load } => (link, load),
            other => {
                delivery.state = other;
                return;
            }
        };
        load.reading = false;
        let others = load.keep_one_sender(envelope);
        let mail = load.offer(envelope, &fields);
        load.fields = fields;
        load.body = body;
        link.session.begin(mail, out);
        let id = load.id;
        let load = Some(load);
        delivery.state = State::Talking { link, load };
        if !others.is_empty() {
            self.try_again(id, &others, delivery.hop, fx);
        }
    }

    /// The message cannot be read: it stays queued, and the log tells the operator.
    pub(super) fn on_unreadable(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        error: ReadError,
        fx: &mut Effects,
    ) {
        let line = Line::new(Level::Error, "unreadable")
            .with_some("id", delivery.state.load().map(|load| load.id))
            .with("why", error);
        fx.log(line);
        if let Some(load) = delivery.state.take_load() {
            let heard = Heard {
                result: RecipientResult::Deferred {
                    about: RefusalScope::Recipient,
                    status: EnhancedCode::new(4, 3, 0),
                    words: QuotedWords::ours("the message cannot be read"),
                },
                at: None,
            };
            let results = load.indices.iter().map(|index| (*index, heard.clone()));
            self.record_results(None, &delivery, &load, results.collect(), fx);
        }
        // Half a body may be out: the connection is cut, not closed in order.
        fx.actions.push_back(Action::Abort { conn });
        self.end_session(conn, delivery, fx);
    }

    /// The server wants the body.
    pub(super) fn send_body(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let State::Talking {
            link,
            load: Some(load),
        } = &mut delivery.state
        else {
            return;
        };
        link.session.on_body(&mem::take(&mut load.fields), out);
        if let Some(body) = load.body.take() {
            link.session.on_body(&body, out);
            return link.session.on_body_end(out);
        }
        fx.send(conn, mem::take(out));
        read_block(conn, load, fx);
    }

    /// All output is out: the next block of the body can be read.
    pub(super) fn on_drained(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if let State::Talking {
            link,
            load: Some(load),
        } = &mut delivery.state
            && link.session.wants_body()
            && !load.reading
            && load.sent > 0
        {
            read_block(conn, load, fx);
            delivery.begins_to_wait(fx.now);
        }
        self.put_back(conn, delivery, fx);
    }
}

/// Reads the next block of a body. A message that was taken out of the queue meanwhile cannot be read, which ends the
/// session.
fn read_block(conn: ConnId, load: &mut Load, fx: &mut Effects) {
    load.reading = true;
    let entry = fx.index.get(load.id);
    fx.actions.push_back(Action::Read {
        reader: MessageReader::Conn { conn, id: load.id },
        id: load.id,
        location: entry.map_or(load.location, |entry| entry.location),
        part: Part::Body {
            offset: load.sent,
            len: BLOCK_BYTES,
        },
    });
}

/// Sends a block of the body. `crc32` is the sum of the whole, which the message had when it was accepted.
fn send_block(
    link: &mut ServerLink,
    load: &mut Load,
    bytes: &[u8],
    crc32: u32,
    out: &mut Vec<u8>,
) -> Result<(), ReadError> {
    load.reading = false;
    load.sent = load.sent.saturating_add(bytes.len() as u64);
    load.sum.update(bytes);
    let is_last = load.sent >= load.size || bytes.is_empty();
    // A body that has changed on the disk never gets a dot.
    if is_last && load.sum.clone().finalize() != crc32 {
        return Err(ReadError::Damaged);
    }
    link.session.on_body(bytes, out);
    // The dot goes with the last block: one segment, no wait for an acknowledgement.
    if is_last {
        link.session.on_body_end(out);
    }
    Ok(())
}

/// Bytes of a body that are read and sent at a time.
const BLOCK_BYTES: u32 = 64 * 1024;
