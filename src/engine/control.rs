//! The control socket: what the queue tools ask, and what they are told.
//!
//! One JSON object a line in both directions. A request is answered by any number of [`Response::Message`] lines and
//! one [`Response::End`]. A line that is no request gets an `End` with the error, and its sender is dropped.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::event::{Action, ConnId, Peer, Reader};
use super::log::{Level, Line};
use super::{Conn, Engine};
use crate::clock::Now;
use crate::limits::COMMAND_LINE_BYTES_MAX;
use crate::queue::{Content, JournalError, Part, Phase, ReadError};
use crate::queue_id::QueueId;

/// What a tool asks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// All messages, oldest first.
    List {},
    /// One message with its header.
    Show {
        /// Its id.
        id: String,
    },
    /// Try again now: one message, those for a domain, or all.
    Flush {
        /// Which.
        which: Selection,
    },
    /// Do not try.
    Hold {
        /// Which.
        which: Selection,
    },
    /// Try again.
    Release {
        /// Which.
        which: Selection,
    },
    /// Take out of the queue without a word to the sender.
    Remove {
        /// Which.
        which: Selection,
    },
    /// Numbers.
    Stats {},
    /// Read the configuration again.
    Reload {},
}

/// Which messages are meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// All.
    All,
    /// These.
    Ids(Vec<String>),
}

/// A line of the answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Response {
    /// A message.
    Message(Listed),
    /// The header of a message that is shown.
    Header {
        /// As text; bytes that are no UTF-8 are replaced.
        text: String,
    },
    /// Numbers.
    Stats(Stats),
    /// The answer is whole.
    End {
        /// How many messages were meant.
        count: usize,
        /// What went wrong, a sentence each.
        errors: Vec<String>,
    },
}

/// A message as it is listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// When it was accepted, in seconds since 1970.
    pub arrived: u64,
    /// Bytes.
    pub size: u64,
    /// The reverse-path; empty for the null one.
    pub from: String,
    /// Who brought it.
    pub origin: String,
    /// Whether it is held.
    pub held: bool,
    /// Its recipients.
    pub recipients: Vec<ListedRecipient>,
}

/// A recipient as it is listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListedRecipient {
    /// The mailbox.
    pub to: String,
    /// `waiting`, `sending` or `done`.
    pub state: String,
    /// Attempts so far.
    pub attempts: u16,
    /// Why it still waits.
    pub why: String,
}

/// Numbers since the start, and of now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// Messages queued.
    pub queued: usize,
    /// Messages held.
    pub held: usize,
    /// Next hops in the table.
    pub hops: usize,
    /// Sessions that came in, now.
    pub sessions: usize,
    /// Sessions that go out, now.
    pub couriers: usize,
    /// Bytes in buffers.
    pub buffered: usize,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Commands refused.
    pub refused: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Attempts put off.
    pub deferred: u64,
    /// Recipients failed.
    pub failed: u64,
    /// Notifications sent.
    pub notices: u64,
    /// Recipients that were forwarded with a rewritten reverse-path.
    pub forwarded: u64,
    /// Messages that failed DMARC.
    pub dmarc_failed: u64,
    /// Messages that were refused for it.
    pub dmarc_refused: u64,
    /// Messages that the hook refused.
    pub hook_refused: u64,
    /// Messages that the hook put off.
    pub hook_deferred: u64,
    /// Connections, messages and recipients of strangers who had had enough.
    pub throttled: u64,
    /// Recipients refused because a list has the client.
    pub listed: u64,
    /// Recipients put off by greylisting.
    pub greylisted: u64,
    /// Replies held back.
    pub slowed: u64,
}

/// One connection of a tool.
pub(super) struct Control {
    peer: Peer,
    line: Vec<u8>,
    /// Messages that are still to be listed.
    listing: VecDeque<QueueId>,
    /// Whether the header is wanted too.
    showing: bool,
    listed: usize,
    busy: bool,
    /// What was asked for and is not on the disk yet.
    committing: Option<Pending>,
}

/// Changes that a tool waits for.
struct Pending {
    left: usize,
    count: usize,
    errors: Vec<String>,
}

impl Control {
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            peer,
            line: Vec::new(),
            listing: VecDeque::new(),
            showing: false,
            listed: 0,
            busy: false,
            committing: None,
        }
    }

    pub(super) fn wants_input(&self) -> bool {
        !self.busy
    }
}

impl Engine {
    /// A tool sent something.
    pub(super) fn control_bytes(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        bytes: &[u8],
        now: Now,
    ) {
        control.line.extend_from_slice(bytes);
        let end = control.line.iter().position(|&byte| byte == b'\n');
        let line = match end {
            Some(end) => {
                let rest = control.line.split_off(end.saturating_add(1));
                std::mem::replace(&mut control.line, rest)
            }
            None if control.line.len() > CONTROL_LINE_BYTES_MAX => {
                return self.control_drop(conn, "the request is too long");
            }
            None => return self.conns.put(conn, Conn::Control(control)),
        };
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => self.control_request(conn, control, request, now),
            Err(error) => self.control_drop(conn, &format!("no request: {error}")),
        }
    }

    fn control_drop(&mut self, conn: ConnId, error: &str) {
        self.respond(
            conn,
            &Response::End {
                count: 0,
                errors: vec![error.to_owned()],
            },
        );
        self.conns.remove(conn);
        self.actions.push_back(Action::Close { conn });
    }

    fn control_request(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        request: Request,
        now: Now,
    ) {
        if let Peer::Process { uid } = control.peer {
            let line = Line::new(Level::Debug, "control").with("uid", uid);
            self.log(line.with(
                "request",
                serde_json::to_string(&request).unwrap_or_default(),
            ));
        }
        match request {
            Request::List {} => {
                control.listing = self.index.ids().into();
                control.busy = true;
                return self.list_next(conn, control);
            }
            Request::Show { id } => match id.parse::<QueueId>() {
                Ok(id) if self.index.get(id).is_some() => {
                    control.listing.push_back(id);
                    control.showing = true;
                    control.busy = true;
                    return self.list_next(conn, control);
                }
                Ok(_) => self.end(conn, 0, vec![format!("{id} is not in the queue")]),
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")]),
            },
            Request::Flush { which } => {
                self.hops.resume_all();
                let (ids, errors) = self.selected(&which);
                for id in &ids {
                    let hops = self.index.get(*id).map(|entry| entry.waiting_hops());
                    for hop in hops.unwrap_or_default() {
                        self.make_ready(*id, hop);
                    }
                }
                self.end(conn, ids.len(), errors);
            }
            Request::Hold { which } => {
                return self.commit_each(conn, control, &which, |engine, id| {
                    engine.mark(id, true, conn);
                });
            }
            Request::Release { which } => {
                return self.commit_each(conn, control, &which, |engine, id| {
                    engine.mark(id, false, conn);
                });
            }
            Request::Remove { which } => {
                return self.commit_each(conn, control, &which, |engine, id| {
                    engine.remove_message(id, conn);
                });
            }
            Request::Stats {} => {
                let stats = self.stats();
                self.respond(conn, &Response::Stats(stats));
                self.end(conn, stats.queued, Vec::new());
            }
            Request::Reload {} => {
                control.busy = true;
                self.actions.push_back(Action::Reload { conn: Some(conn) });
            }
        }
        let _ = now;
        self.conns.put(conn, Conn::Control(control));
    }

    /// The messages that are meant, and a sentence for each that is not there.
    fn selected(&self, which: &Selection) -> (Vec<QueueId>, Vec<String>) {
        let texts = match which {
            Selection::All => return (self.index.ids(), Vec::new()),
            Selection::Ids(texts) => texts,
        };
        let (mut ids, mut errors) = (Vec::new(), Vec::new());
        for text in texts {
            match text.parse::<QueueId>() {
                Ok(id) if self.index.get(id).is_some() => ids.push(id),
                Ok(_) => errors.push(format!("{text} is not in the queue")),
                Err(error) => errors.push(format!("{text}: {error}")),
            }
        }
        (ids, errors)
    }

    /// Has a change of each message written; the tool is told when all are on the disk.
    fn commit_each(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        which: &Selection,
        mut act: impl FnMut(&mut Self, QueueId),
    ) {
        let (ids, errors) = self.selected(which);
        let count = ids.len();
        if count == 0 {
            self.end(conn, 0, errors);
            return self.conns.put(conn, Conn::Control(control));
        }
        let left = count;
        control.busy = true;
        control.committing = Some(Pending {
            left,
            count,
            errors,
        });
        self.conns.put(conn, Conn::Control(control));
        for id in ids {
            act(self, id);
        }
    }

    /// A change that a tool asked for is on the disk, or the disk refused it.
    pub(super) fn control_committed(&mut self, conn: ConnId, result: Result<(), JournalError>) {
        let Some(Conn::Control(control)) = self.conns.get_mut(conn) else {
            return; // the tool did not wait
        };
        let Some(pending) = &mut control.committing else {
            return;
        };
        pending.left = pending.left.saturating_sub(1);
        if let Err(error) = result {
            pending.count = pending.count.saturating_sub(1);
            pending.errors.truncate(COMMIT_ERRORS_MAX);
            pending
                .errors
                .push(format!("the disk refused a change: {error}"));
        }
        if pending.left > 0 {
            return;
        }
        control.busy = false;
        if let Some(Pending { count, errors, .. }) = control.committing.take() {
            self.end(conn, count, errors);
        }
    }

    /// Reads the next message that is to be listed, or ends the list.
    fn list_next(&mut self, conn: ConnId, mut control: Box<Control>) {
        while let Some(id) = control.listing.front().copied() {
            if let Some(entry) = self.index.get(id) {
                let (reader, location) = (Reader::Conn(conn), entry.location);
                self.actions.push_back(Action::Read {
                    reader,
                    id,
                    location,
                    part: Part::Head,
                });
                return self.conns.put(conn, Conn::Control(control));
            }
            control.listing.pop_front();
        }
        control.busy = false;
        control.showing = false;
        self.end(conn, std::mem::take(&mut control.listed), Vec::new());
        self.conns.put(conn, Conn::Control(control));
    }

    /// A part of a message that is to be listed was read.
    pub(super) fn control_read(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        result: Result<Content, ReadError>,
        _now: Now,
    ) {
        let Some(id) = control.listing.front().copied() else {
            return self.list_next(conn, control);
        };
        match (result, self.index.get(id)) {
            (Ok(Content::Head { envelope, fields }), Some(entry)) => {
                let listed = Listed {
                    id: id.to_string(),
                    arrived: entry.arrived.seconds(),
                    size: entry.size,
                    from: envelope.reverse_path.to_string(),
                    origin: envelope.origin.to_string(),
                    held: entry.held,
                    recipients: envelope
                        .recipients
                        .iter()
                        .zip(entry.recipients.iter())
                        .map(|(recipient, state)| {
                            let trouble =
                                self.hops.get(state.hop).and_then(|hop| hop.trouble.clone());
                            let why = state.text.clone().or(trouble);
                            ListedRecipient {
                                to: recipient.mailbox.to_string(),
                                state: phase_text(state.phase).to_owned(),
                                attempts: state.attempts,
                                why: why
                                    .filter(|_| state.phase != Phase::Closed)
                                    .unwrap_or_default()
                                    .to_string(),
                            }
                        })
                        .collect(),
                };
                control.listed += 1;
                let location = entry.location;
                self.respond(conn, &Response::Message(listed));
                if control.showing {
                    self.respond(
                        conn,
                        &Response::Header {
                            text: String::from_utf8_lossy(&fields).into_owned(),
                        },
                    );
                    let part = Part::Body {
                        offset: 0,
                        len: crate::limits::NOTICE_READ_BYTES,
                    };
                    self.actions.push_back(Action::Read {
                        reader: Reader::Conn(conn),
                        id,
                        location,
                        part,
                    });
                    return self.conns.put(conn, Conn::Control(control));
                }
            }
            (Ok(Content::Body { bytes, .. }), _) => {
                let header = match crate::mail::header::header_end(&bytes) {
                    crate::mail::header::HeaderEnd::EmptyLine { at, .. } => {
                        bytes.get(..at).unwrap_or_default()
                    }
                    _ => &bytes,
                };
                self.respond(
                    conn,
                    &Response::Header {
                        text: String::from_utf8_lossy(header).into_owned(),
                    },
                );
            }
            (Ok(_) | Err(_), _) => {}
        }
        control.listing.pop_front();
        // A long list goes out in portions: the next one once this one is out.
        if control.listed.is_multiple_of(LISTED_AT_ONCE) && !control.listing.is_empty() {
            return self.conns.put(conn, Conn::Control(control));
        }
        self.list_next(conn, control);
    }

    /// All that was listed is out.
    pub(super) fn control_drained(&mut self, conn: ConnId, control: Box<Control>) {
        let resting =
            control.busy && control.listed.is_multiple_of(LISTED_AT_ONCE) && control.listed > 0;
        if resting && !control.showing && !control.listing.is_empty() {
            return self.list_next(conn, control);
        }
        self.conns.put(conn, Conn::Control(control));
    }

    /// A reload that a tool asked for is over.
    pub(super) fn control_reloaded(&mut self, conn: ConnId, errors: &[String]) {
        if let Some(Conn::Control(control)) = self.conns.get_mut(conn) {
            control.busy = false;
            self.end(conn, usize::from(errors.is_empty()), errors.to_vec());
        }
    }

    /// The configuration could not be read: the old one goes on.
    pub(super) fn reload_failed(&mut self, conn: Option<ConnId>, errors: &[String]) {
        for error in errors {
            self.log(Line::new(Level::Error, "reload-failed").with("why", error));
        }
        if let Some(conn) = conn {
            self.control_reloaded(conn, errors);
        }
    }

    /// Numbers of now and since the start.
    pub fn stats(&self) -> Stats {
        let counters = self.counters;
        Stats {
            queued: self.index.len(),
            held: self.index.entries().filter(|(_, entry)| entry.held).count(),
            hops: self.hops.len(),
            sessions: self.sessions(),
            couriers: self.courier_sessions,
            buffered: self.memory(),
            sessions_total: counters.sessions,
            accepted: counters.accepted,
            refused: counters.refused,
            delivered: counters.delivered,
            deferred: counters.deferred,
            failed: counters.failed,
            notices: counters.notices,
            forwarded: counters.forwarded,
            dmarc_failed: counters.dmarc_failed,
            dmarc_refused: counters.dmarc_refused,
            hook_refused: counters.hook_refused,
            hook_deferred: counters.hook_deferred,
            throttled: counters.throttled,
            listed: counters.listed,
            greylisted: counters.greylisted,
            slowed: counters.slowed,
        }
    }

    fn end(&mut self, conn: ConnId, count: usize, errors: Vec<String>) {
        self.respond(conn, &Response::End { count, errors });
    }

    fn respond(&mut self, conn: ConnId, response: &Response) {
        let mut bytes = serde_json::to_vec(response).unwrap_or_default();
        bytes.push(b'\n');
        self.send(conn, bytes);
    }
}

const fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::InFlight => "sending",
        Phase::Closed => "done",
    }
}

/// Failures of the disk that a tool is told of.
const COMMIT_ERRORS_MAX: usize = 8;

/// Messages that are listed before the tool has to have taken them.
const LISTED_AT_ONCE: usize = 256;

/// Bytes of one request: room for some hundred ids.
const CONTROL_LINE_BYTES_MAX: usize = 16 * COMMAND_LINE_BYTES_MAX;
