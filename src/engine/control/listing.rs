//! Lists and shows messages, one read from the journal at a time.

use std::collections::VecDeque;
use std::mem;

use super::tools::{Control, Job, Listing, Tool};
use super::wire::{ControlResponse, ListedMessage, ListedRecipient};
use crate::date::Timestamp;
use crate::engine::delivery::Delivery;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, MessageReader};
use crate::envelope::Envelope;
use crate::limits::DSN_READ_BYTES;
use crate::mail::header::split;
use crate::queue::{Part, Phase, ReadContent, ReadError};
use crate::queue_id::QueueId;

impl Control {
    pub(super) fn begin_list(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        left: VecDeque<QueueId>,
        showing: bool,
        fx: &mut Effects,
    ) {
        control.work = Job::List(Listing {
            left,
            reading: None,
            showing,
            listed: 0,
            portion: 0,
            errors: Vec::new(),
        });
        self.list_next(conn, control, fx);
    }

    /// Reads the next message of the list, or ends the list.
    pub(super) fn list_next(&mut self, conn: ConnId, control: &mut Tool, fx: &mut Effects) {
        let Job::List(listing) = &mut control.work else {
            return;
        };
        // A long list is sent in portions: the next one when this one has been sent.
        if listing.reading.is_some() || listing.portion >= LISTED_AT_ONCE {
            return;
        }
        while let Some(id) = listing.left.pop_front() {
            if let Some(entry) = fx.index.get(id) {
                listing.reading = Some(id);
                let (reader, location) = (MessageReader::Conn { conn, id }, entry.location);
                fx.actions.push_back(Action::Read {
                    reader,
                    id,
                    location,
                    part: Part::Head,
                });
                return;
            }
        }
        let (listed, errors) = (listing.listed, mem::take(&mut listing.errors));
        control.work = Job::None;
        self.end(conn, listed, errors, fx);
    }

    /// A part of a listed message was read.
    pub(super) fn on_read(
        &mut self,
        conn: ConnId,
        asked: QueueId,
        result: Result<ReadContent, ReadError>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(mut control) = self.tools.take(conn) else {
            return;
        };
        let mut goes_on = false;
        if let Job::List(listing) = &mut control.work
            && let Some(id) = listing.reading.take_if(|id| *id == asked)
        {
            match result {
                Ok(ReadContent::Head { envelope, fields }) => {
                    self.list_one(conn, listing, id, Ok(&envelope), delivery, fx);
                    goes_on = listing.showing && self.show_header(conn, id, &fields, fx);
                }
                Ok(ReadContent::Body { bytes, .. }) => {
                    let (header, _) = split(&bytes);
                    self.respond_header(conn, header, fx);
                }
                Ok(ReadContent::Whole { .. }) => {}
                // It is listed, and only its header cannot be shown.
                Err(error) if listing.showing && listing.listed > 0 => listing
                    .errors
                    .push(format!("the header of {id} cannot be read: {error}")),
                // Without its envelope, the data in memory are shown.
                Err(error) => self.list_one(conn, listing, id, Err(error), delivery, fx),
            }
            if goes_on {
                listing.reading = Some(id);
            }
        }
        if !goes_on {
            self.list_next(conn, &mut control, fx);
        }
        self.go_on(conn, control, delivery, fx);
    }

    /// Lists one message, unless it has left the queue.
    pub(super) fn list_one(
        &mut self,
        conn: ConnId,
        listing: &mut Listing,
        id: QueueId,
        envelope: Result<&Envelope, ReadError>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(entry) = fx.index.get(id) else {
            return;
        };
        let known = envelope.ok();
        let recipients = entry.recipients.iter().enumerate().map(|(at, state)| {
            let recipient = known.and_then(|envelope| envelope.recipients.get(at));
            let why = delivery.latest_cause(state);
            ListedRecipient {
                to: recipient.map_or_else(String::new, |recipient| recipient.mailbox.to_string()),
                state: phase_text(state.phase).to_owned(),
                attempts: state.attempts,
                why: why
                    .filter(|_| state.phase != Phase::Closed)
                    .map_or_else(String::new, |why| why.to_string()),
                next: delivery
                    .next_attempt(entry, state, fx)
                    .map(Timestamp::seconds),
            }
        });
        let listed = ListedMessage {
            id: id.to_string(),
            arrived: entry.arrived.seconds(),
            size: entry.size,
            from: known.map_or_else(String::new, |envelope| envelope.reverse_path.to_string()),
            origin: known.map_or_else(String::new, |envelope| envelope.origin.to_string()),
            held: entry.held,
            recipients: recipients.collect(),
            unreadable: envelope.err().map(|error| error.to_string()),
        };
        listing.listed = listing.listed.saturating_add(1);
        let addresses = entry.recipients.len().saturating_add(1);
        listing.portion = listing.portion.saturating_add(addresses);
        self.respond(conn, &ControlResponse::Message(listed), fx);
    }

    /// Shows the added fields, and requests the header; returns whether it did.
    pub(super) fn show_header(
        &mut self,
        conn: ConnId,
        id: QueueId,
        fields: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let Some(location) = fx.index.get(id).map(|entry| entry.location) else {
            return false;
        };
        self.respond_header(conn, fields, fx);
        fx.actions.push_back(Action::Read {
            reader: MessageReader::Conn { conn, id },
            id,
            location,
            part: Part::Body {
                offset: 0,
                len: DSN_READ_BYTES,
            },
        });
        true
    }

    pub(super) fn respond_header(&mut self, conn: ConnId, bytes: &[u8], fx: &mut Effects) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.respond(conn, &ControlResponse::Header { text }, fx);
    }

    /// All that was listed is out.
    pub(super) fn on_drained(&mut self, conn: ConnId, delivery: &Delivery, fx: &mut Effects) {
        let Some(mut control) = self.tools.take(conn) else {
            return;
        };
        match &mut control.work {
            Job::List(listing) => listing.portion = 0,
            Job::Follow { unread } => *unread = 0,
            Job::None | Job::Commit(_) | Job::Reload => {}
        }
        self.list_next(conn, &mut control, fx);
        self.go_on(conn, control, delivery, fx);
    }
}

const fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::InFlight => "sending",
        Phase::Closed => "done",
    }
}

/// Messages and recipients that are listed before the tool must have read them.
const LISTED_AT_ONCE: usize = 256;
