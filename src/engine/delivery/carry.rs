//! Carrying a message: which is next, what is read of it, what is sent.

use std::collections::BTreeMap;

use super::session::{BLOCK_BYTES, Delivery, DeliverySession, Heard, Load, Stage};
use crate::address::ReversePath;
use crate::cause::Words;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Reader};
use crate::engine::log::{Level, Line, Named};
use crate::envelope::Envelope;
use crate::limits::{
    CLIENT_IDLE_TIMEOUT, CLIENT_MESSAGES_MAX, DELIVERY_SESSION_TIMEOUT, DELIVERY_TURN,
    DELIVERY_TURN_MESSAGES,
};
use crate::policy::shares::Resource;
use crate::queue::{Content, Part, Phase, ReadError};
use crate::queue_id::QueueId;
use crate::smtp::client::{About, Fate, Mail, Rcpt, Session};
use crate::status::EnhancedCode;

impl Delivery {
    /// Takes the next message that is due, or waits for one, or goes home.
    pub(super) fn take_next_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let sent = delivery.session.as_ref().map_or(0, Session::messages);
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
            delivery.load = Some(Box::new(Load {
                id,
                location: entry.location,
                size: entry.size,
                indices: indices
                    .into_iter()
                    .filter_map(|at| u32::try_from(at).ok())
                    .collect(),
                fields: Vec::new(),
                body: None,
                sent: 0,
                sum: crc32fast::Hasher::new(),
                reading: true,
                dsn: Vec::new(),
                names: BTreeMap::new(),
                earlier: BTreeMap::new(),
                arrived: entry.arrived,
                since: entry.since,
            }));
            delivery.begins_attempt(fx.now);
            return self.read_message(conn, delivery, fx);
        }
        delivery.stage = Stage::Idle;
        delivery.pace.deadline = Some(fx.now.instant.after(CLIENT_IDLE_TIMEOUT));
        self.hops.add_idle(delivery.hop, conn);
        self.put_back(conn, delivery, fx);
    }

    /// Whether a delivery session has to make room: it has had its turn, and another next hop waits that can have its place.
    /// (One that waits because its share is used up waits for its own.)
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

    /// Reads the envelope of what is carried, to offer it to the host where the delivery session is.
    pub(super) fn read_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let known = delivery.load.as_ref().and_then(|load| {
            let entry = fx.index.get(load.id)?;
            (!entry.held).then_some((load.id, entry.location, entry.size))
        });
        let Some((id, location, size)) = known else {
            return self.take_other_message(conn, delivery, fx);
        };
        if let Some(load) = delivery.load.as_mut() {
            load.location = location;
            load.reading = true;
            load.sent = 0;
            load.sum = crc32fast::Hasher::new();
            load.body = None;
        }
        delivery.stage = Stage::Reading;
        delivery.pace.deadline = None;
        // What is short is read whole, and goes out with its dot in one write.
        let short = !location.body_is_file() && size <= u64::from(BLOCK_BYTES);
        let part = if short { Part::Whole } else { Part::Head };
        fx.actions.push_back(Action::Read {
            reader: Reader::Conn(conn),
            id,
            location,
            part,
        });
        self.put_back(conn, delivery, fx);
    }

    /// What is carried was held or taken out of the queue before it was offered: it is put back, or forgotten.
    fn take_other_message(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let kept = delivery.load.as_ref().map(|load| load.id);
        match kept.filter(|id| fx.index.get(*id).is_some()) {
            Some(_) => self.defer_message(&mut delivery, fx),
            None => delivery.load = None,
        }
        delivery.stage = Stage::Talking;
        self.take_next_message(conn, delivery, fx);
    }

    /// Whether what is carried may still be offered: nobody holds it, nobody took it out of the queue.
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
        result: Result<Content, ReadError>,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        let id = delivery.load.as_ref().map(|load| load.id);
        let begins = !matches!(result, Ok(Content::Body { .. }));
        if begins && id.is_some_and(|id| !self.is_wanted(id, fx)) && result.is_ok() {
            return self.take_other_message(conn, delivery, fx);
        }
        if id.is_some_and(|id| fx.index.get(id).is_none()) {
            // It was taken out of the queue: it gets no dot.
            delivery.load = None;
            fx.actions.push_back(Action::Abort { conn });
            return self.end_session(conn, delivery, fx);
        }
        match result {
            Ok(Content::Head { envelope, fields }) => {
                self.begin_transaction(&mut delivery, &envelope, fields, None, &mut out, fx)
            }
            Ok(Content::Whole {
                envelope,
                fields,
                body,
            }) => {
                self.begin_transaction(&mut delivery, &envelope, fields, Some(body), &mut out, fx);
            }
            Ok(Content::Body { bytes, crc32 }) => {
                let Some(load) = delivery.load.as_mut() else {
                    return self.put_back(conn, delivery, fx);
                };
                load.reading = false;
                load.sent = load.sent.saturating_add(bytes.len() as u64);
                load.sum.update(&bytes);
                let last = load.sent >= load.size || bytes.is_empty();
                // What has changed on the disk is never given a dot.
                if last && load.sum.clone().finalize() != crc32 {
                    return self.on_unreadable(conn, delivery, ReadError::Damaged, fx);
                }
                if let Some(session) = delivery.session.as_mut() {
                    session.on_body(&bytes, &mut out);
                    // The dot goes with the last block: one segment, no wait for an acknowledgement.
                    if last {
                        session.on_body_end(&mut out);
                    }
                }
            }
            Err(error) => return self.on_unreadable(conn, delivery, error, fx),
        }
        self.serve_requests(conn, delivery, out, fx);
    }

    pub(super) fn begin_transaction(
        &mut self,
        delivery: &mut DeliverySession,
        envelope: &Envelope,
        fields: Vec<u8>,
        body: Option<Vec<u8>>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let (Some(load), Some(session)) = (delivery.load.as_mut(), delivery.session.as_mut())
        else {
            return;
        };
        load.reading = false;
        let path = |at: &u32| {
            let recipient = envelope.recipients.get(*at as usize);
            recipient.map(|recipient| envelope.reverse_path_for(recipient))
        };
        // A transaction has one reverse-path. Recipients that have another wait for a transaction of their own.
        let first = load.indices.first().and_then(path);
        let (same, others): (Vec<u32>, Vec<u32>) =
            (load.indices.iter().copied()).partition(|at| path(at) == first);
        load.indices = same;
        let id = load.id;
        let recipients: Vec<Rcpt> = load
            .indices
            .iter()
            .filter_map(|at| envelope.recipients.get(*at as usize))
            .map(|recipient| Rcpt {
                mailbox: recipient.mailbox.clone(),
                notify: recipient.notify,
                original: recipient.original.clone(),
            })
            .collect();
        load.dsn = load
            .indices
            .iter()
            .zip(&recipients)
            .filter_map(|(at, recipient)| recipient.notify.wants_success().then_some(*at))
            .collect();
        let names = (load.indices.iter())
            .filter_map(|at| envelope.recipients.get(*at as usize))
            .map(Named::of);
        load.names = (load.indices.iter().copied()).zip(names).collect();
        let size = load.size.saturating_add(fields.len() as u64);
        load.fields = fields;
        load.body = body;
        delivery.stage = Stage::Talking;
        let mail = Mail {
            reverse_path: first.unwrap_or(ReversePath::Null),
            recipients,
            size,
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            dsn_return: envelope.dsn_return,
            envelope_id: envelope.envelope_id.clone(),
        };
        session.begin(mail, out);
        if !others.is_empty() {
            self.try_again(id, &others, delivery.hop, fx);
        }
    }

    /// The message cannot be read: it stays queued, and an operator is told.
    pub(super) fn on_unreadable(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        error: ReadError,
        fx: &mut Effects,
    ) {
        let line = Line::new(Level::Error, "unreadable")
            .with_some("id", delivery.load.as_ref().map(|load| load.id))
            .with("why", error);
        fx.log(line);
        if let Some(load) = delivery.load.take() {
            let heard = Heard {
                fate: Fate::Deferred {
                    about: About::Recipient,
                    status: EnhancedCode::new(4, 3, 0),
                    words: Words::ours("the message cannot be read"),
                },
                at: None,
            };
            let fates = load.indices.iter().map(|index| (*index, heard.clone()));
            self.record_results(None, &delivery, &load, fates.collect(), fx);
        }
        // Half a body may be out: the connection is cut, not closed in order.
        fx.actions.push_back(Action::Abort { conn });
        self.end_session(conn, delivery, fx);
    }

    pub(super) fn send_body(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let Some(load) = delivery.load.as_mut() else {
            return;
        };
        let fields = std::mem::take(&mut load.fields);
        let Some(session) = delivery.session.as_mut() else {
            return;
        };
        session.on_body(&fields, out);
        if let Some(body) = load.body.take() {
            session.on_body(&body, out);
            return session.on_body_end(out);
        }
        let (id, sent) = (load.id, load.sent);
        load.reading = true;
        let location = fx
            .index
            .get(id)
            .map_or(load.location, |entry| entry.location);
        let part = Part::Body {
            offset: sent,
            len: BLOCK_BYTES,
        };
        fx.send(conn, std::mem::take(out));
        fx.actions.push_back(Action::Read {
            reader: Reader::Conn(conn),
            id,
            location,
            part,
        });
    }

    /// All output is out: the next block of the body can be read.
    pub(super) fn on_drained(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let wants = delivery.session.as_ref().is_some_and(Session::wants_body);
        if let Some(load) = delivery.load.as_mut()
            && wants
            && !load.reading
            && load.sent > 0
        {
            load.reading = true;
            let part = Part::Body {
                offset: load.sent,
                len: BLOCK_BYTES,
            };
            let id = load.id;
            // A message that was taken out of the queue meanwhile cannot be read, which ends the session.
            let location = fx
                .index
                .get(id)
                .map_or(load.location, |entry| entry.location);
            fx.actions.push_back(Action::Read {
                reader: Reader::Conn(conn),
                id,
                location,
                part,
            });
            delivery.begins_to_wait(fx.now);
        }
        self.put_back(conn, delivery, fx);
    }
}
