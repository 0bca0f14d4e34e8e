//! The control socket: what the queue tools ask, and what they are told.
//!
//! One JSON object a line in both directions. A request is answered by any number of [`Response::Message`] lines and
//! one [`Response::End`]. A line that is no request gets an `End` with the error, and its sender is dropped.
//!
//! Every user of this machine may connect; who that is, the kernel says. Root and the account of the relay may ask for
//! everything. Another user sees the messages that were submitted under that uid and nothing else, may ask once a
//! connection, and gets [`Response::Denied`] for what changes anything.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::connections::{ConnEvent, Owner, Sessions};
use super::delivery::Delivery;
use super::effects::{Effects, ROOT};
use super::event::{Action, ConnId, Peer, Reader};
use super::log::{Level, Line};
use super::note::{Note, Removal};
pub use super::stats::Stats;
use super::stats::stats;
use super::status::{Status, status};
use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::limits::{
    COMMAND_LINE_BYTES_MAX, FOLLOWER_BYTES_MAX, NOTICE_READ_BYTES, QUEUE_READERS_MAX,
    QUEUE_READERS_PER_USER_MAX,
};
use crate::mail::header::{HeaderEnd, header_end};
use crate::queue::{Content, JournalError, Part, Phase, Queued, ReadError};
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
    /// The state of the relay.
    Status {},
    /// Read the configuration again.
    Reload {},
    /// Tell what was logged of a message, and what will be, until the tool hangs up.
    Follow {
        /// Its id.
        id: String,
    },
    /// Tell of messages that are accepted for an address, until the tool hangs up.
    Expect {
        /// The address, as the client names it.
        recipient: String,
    },
    /// Log refusals and failed handshakes of clients at these addresses at the level `debug` and do not slow them, until the tool
    /// hangs up: they are its own attempts, from addresses of this host.
    Examine {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
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
    /// The state of the relay.
    Status(Box<Status>),
    /// A line of the log about the message that is followed.
    Event {
        /// `event=… id=… key=value …`.
        text: String,
    },
    /// Something to know that is no error.
    Note {
        /// A sentence.
        text: String,
    },
    /// The user of the tool may not ask for that.
    Denied {
        /// A sentence.
        text: String,
    },
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
    /// Why its envelope cannot be read: then its addresses and its origin are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
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
    /// When it is tried next, in seconds since 1970; nothing where it is not known, or is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The tools that are connected.
#[derive(Default)]
pub(super) struct Control {
    tools: Sessions<Box<Tool>>,
}

/// One connection of a tool.
struct Tool {
    peer: Peer,
    /// Whether it has asked for something.
    has_asked: bool,
    /// What came and was not taken as a request yet.
    input: Vec<u8>,
    /// What the tool waits for; one request at a time.
    work: Job,
}

/// A request under way.
enum Job {
    /// None.
    None,
    /// Messages are listed.
    List(Listing),
    /// Changes are on their way to the disk.
    Commit(Pending),
    /// The configuration is being read.
    Reload,
    /// A message is followed.
    Follow {
        /// Bytes of lines that went out since the tool had last taken all.
        unread: usize,
    },
}

/// A list on its way out.
struct Listing {
    /// Messages that are still to be listed.
    left: VecDeque<QueueId>,
    /// The one that is being read. There is one read at a time, and an answer is of this one.
    reading: Option<QueueId>,
    /// Whether the header is wanted too.
    showing: bool,
    listed: usize,
    /// How many messages and recipients went out since the tool had last taken all.
    portion: usize,
    /// What could not be shown, a sentence each: of one message.
    errors: Vec<String>,
}

/// Changes that a tool waits for.
struct Pending {
    /// Messages whose change is not on the disk yet.
    left: BTreeSet<QueueId>,
    changed: usize,
    errors: Vec<String>,
}

impl Tool {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            has_asked: false,
            input: Vec::new(),
            work: Job::None,
        }
    }

    fn uid(&self) -> Option<u32> {
        match self.peer {
            Peer::Process { uid } => Some(uid),
            Peer::Network { .. } => None,
        }
    }

    fn wants_input(&self) -> bool {
        matches!(self.work, Job::None | Job::Follow { .. })
    }

    /// The next line of what came.
    fn line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.input.iter().position(|&byte| byte == b'\n');
        if end.unwrap_or(self.input.len()) > CONTROL_LINE_BYTES_MAX {
            return Err(TooLong);
        }
        let Some(end) = end else { return Ok(None) };
        let rest = self.input.split_off(end.saturating_add(1));
        Ok(Some(std::mem::replace(&mut self.input, rest)))
    }
}

/// A request is longer than any.
struct TooLong;

impl Control {
    /// A tool has connected.
    pub(super) fn admit(&mut self, peer: Peer, fx: &mut Effects) -> ConnId {
        let conn = fx.conns.reserve(Owner::Control);
        self.tools.put(conn, Box::new(Tool::new(peer)));
        conn
    }

    /// Whether bytes of a tool may be read now.
    pub(super) fn wants_input(&self, conn: ConnId) -> bool {
        self.tools.get(conn).is_some_and(|tool| tool.wants_input())
    }

    /// The connection is gone.
    fn on_closed(&mut self, conn: ConnId, fx: &mut Effects) {
        self.tools.take(conn);
        fx.conns.release(conn);
    }

    /// Something has happened to a tool.
    pub(super) fn on_tool(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        match event {
            ConnEvent::Bytes(bytes) => self.on_bytes(conn, bytes, delivery, fx),
            ConnEvent::Drained => self.on_drained(conn, delivery, fx),
            ConnEvent::Read(result) => self.on_read(conn, result, delivery, fx),
            ConnEvent::Closed(_) => self.on_closed(conn, fx),
            ConnEvent::Stop => self.close(conn, fx),
            // Nothing of the kind was asked for.
            ConnEvent::Connected
            | ConnEvent::TlsReady(_)
            | ConnEvent::Kept(_)
            | ConnEvent::Answer(..)
            | ConnEvent::Timeout(_) => {}
        }
    }

    /// A line about a message that a tool follows.
    pub(super) fn on_followed(&mut self, conn: ConnId, text: String, fx: &mut Effects) {
        let Some(tool) = self.tools.get_mut(conn) else {
            return;
        };
        let Job::Follow { unread } = &mut tool.work else {
            return;
        };
        *unread = unread.saturating_add(text.len());
        if *unread > FOLLOWER_BYTES_MAX {
            self.drop_tool(conn, UNREAD, fx);
        } else {
            self.respond(conn, &Response::Event { text }, fx);
        }
    }

    /// A tool sent something.
    fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], delivery: &Delivery, fx: &mut Effects) {
        let Some(mut control) = self.tools.take(conn) else {
            return;
        };
        if matches!(control.work, Job::Follow { .. }) {
            return self.drop_tool(
                conn,
                "nothing more can be asked while a message is followed",
                fx,
            );
        }
        control.input.extend_from_slice(bytes);
        self.go_on(conn, control, delivery, fx);
    }

    /// Takes up the requests that have come, until one has to wait.
    fn go_on(
        &mut self,
        conn: ConnId,
        mut control: Box<Tool>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let is_user = !fx.is_operator(control.uid());
        while matches!(control.work, Job::None) {
            if is_user && control.has_asked {
                return self.close(conn, fx);
            }
            let line = match control.line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(TooLong) => return self.drop_tool(conn, "the request is too long", fx),
            };
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => {
                    control.has_asked = true;
                    if is_user {
                        self.user_request(conn, &mut control, &request, fx);
                    } else {
                        self.request(conn, &mut control, request, delivery, fx);
                    }
                }
                Err(error) => return self.drop_tool(conn, &format!("no request: {error}"), fx),
            }
        }
        self.tools.put(conn, control);
    }

    pub(super) fn drop_tool(&mut self, conn: ConnId, error: &str, fx: &mut Effects) {
        self.respond(
            conn,
            &Response::End {
                count: 0,
                errors: vec![error.to_owned()],
            },
            fx,
        );
        self.close(conn, fx);
    }

    fn close(&mut self, conn: ConnId, fx: &mut Effects) {
        self.on_closed(conn, fx);
        fx.actions.push_back(Action::Close { conn });
    }

    /// Whether a tool of this user may connect: operators always may, other users as far as there is room for them.
    pub(super) fn admits_tool(&mut self, uid: u32, fx: &mut Effects) -> bool {
        if fx.is_operator(Some(uid)) {
            return true;
        }
        let (mut own, mut all) = (0, 0);
        for tool in self.tools.iter() {
            if !fx.is_operator(tool.uid()) {
                all = usize::saturating_add(all, 1);
                own = usize::saturating_add(own, usize::from(tool.uid() == Some(uid)));
            }
        }
        let has_room = own < QUEUE_READERS_PER_USER_MAX && all < QUEUE_READERS_MAX;
        if !has_room {
            self.log_denied(
                uid,
                "connect",
                "too many queue tools of users at a time",
                fx,
            );
        }
        has_room
    }

    fn log_denied(&mut self, uid: u32, what: &str, why: &str, fx: &mut Effects) {
        let line = Line::new(Level::Warning, "reject").with("peer", format_args!("uid={uid}"));
        fx.log_refusal(line.with("what", what).with("why", why));
    }

    /// A user who is no operator asks: for messages of their own, as the uid says under which they were submitted.
    fn user_request(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        request: &Request,
        fx: &mut Effects,
    ) {
        let uid = control.uid();
        let is_own = |entry: &Queued| uid.is_some() && entry.submitter == uid;
        match request {
            Request::List {} => {
                let own = fx.index.entries().filter(|(_, entry)| is_own(entry));
                let mut ids: Vec<QueueId> = own.map(|(id, _)| id).collect();
                ids.sort_unstable();
                self.begin_list(conn, control, ids.into(), false, fx);
            }
            Request::Show { id } => match id.parse::<QueueId>() {
                Ok(id) if fx.index.get(id).is_some_and(is_own) => {
                    self.begin_list(conn, control, [id].into(), true, fx);
                }
                // The same for what is there and belongs to somebody else.
                Ok(_) => self.end(conn, 0, vec![format!("{id} is not in the queue")], fx),
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")], fx),
            },
            Request::Flush { .. } => self.deny(conn, uid, "flush", fx),
            Request::Hold { .. } => self.deny(conn, uid, "hold", fx),
            Request::Release { .. } => self.deny(conn, uid, "release", fx),
            Request::Remove { .. } => self.deny(conn, uid, "remove", fx),
            Request::Stats {} => self.deny(conn, uid, "stats", fx),
            Request::Status {} => self.deny(conn, uid, "status", fx),
            Request::Reload {} => self.deny(conn, uid, "reload", fx),
            Request::Follow { .. } => self.deny(conn, uid, "follow", fx),
            Request::Expect { .. } => self.deny(conn, uid, "expect", fx),
            Request::Examine { .. } => self.deny(conn, uid, "examine", fx),
        }
    }

    fn deny(&mut self, conn: ConnId, uid: Option<u32>, what: &str, fx: &mut Effects) {
        if let Some(uid) = uid {
            self.log_denied(uid, what, "not root, nor the account of the daemon", fx);
        }
        let text = "only root and the account of the daemon may do that; use sudo".to_owned();
        self.respond(conn, &Response::Denied { text }, fx);
    }

    fn request(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        request: Request,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let uid = control.uid().unwrap_or(ROOT);
        if let Peer::Process { uid } = control.peer {
            let line = Line::new(Level::Debug, "control").with("uid", uid);
            fx.log(line.with(
                "request",
                serde_json::to_string(&request).unwrap_or_default(),
            ));
        }
        match request {
            Request::List {} => {
                let ids = fx.index.ids();
                self.begin_list(conn, control, ids.into(), false, fx);
            }
            Request::Show { id } => match id.parse::<QueueId>() {
                Ok(id) if fx.index.get(id).is_some() => {
                    self.begin_list(conn, control, [id].into(), true, fx);
                }
                Ok(_) => self.end(conn, 0, vec![format!("{id} is not in the queue")], fx),
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")], fx),
            },
            Request::Flush { which } => {
                let (ids, errors) = self.selected(&which, fx);
                let is_tried = |id: &&QueueId| fx.index.get(**id).is_some_and(|entry| !entry.held);
                let tried = ids.iter().filter(is_tried).count();
                fx.note(Note::Flush { ids });
                self.end(conn, tried, errors, fx);
            }
            Request::Hold { which } => {
                self.commit_each(
                    conn,
                    control,
                    &which,
                    |id| Note::Mark {
                        id,
                        held: true,
                        tool: conn,
                    },
                    fx,
                );
            }
            Request::Release { which } => {
                self.commit_each(
                    conn,
                    control,
                    &which,
                    |id| Note::Mark {
                        id,
                        held: false,
                        tool: conn,
                    },
                    fx,
                );
            }
            Request::Remove { which } => {
                self.commit_each(
                    conn,
                    control,
                    &which,
                    |id| Note::Remove {
                        id,
                        removal: Removal { tool: conn, uid },
                    },
                    fx,
                );
            }
            Request::Stats {} => {
                let stats = stats(delivery, fx);
                self.respond(conn, &Response::Stats(stats), fx);
                self.end(conn, stats.queued, Vec::new(), fx);
            }
            Request::Status {} => {
                let status = Box::new(status(delivery, fx));
                self.respond(conn, &Response::Status(status), fx);
                self.end(conn, fx.index.len(), Vec::new(), fx);
            }
            Request::Follow { id } => match id.parse::<QueueId>() {
                Ok(id) => match fx.logging.following.follow(conn, id, &fx.conns) {
                    Some(known) => {
                        control.work = Job::Follow { unread: 0 };
                        for text in known {
                            self.respond(conn, &Response::Event { text }, fx);
                        }
                    }
                    None => {
                        let error = "too many messages are followed at a time".to_owned();
                        self.end(conn, 0, vec![error], fx);
                    }
                },
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")], fx),
            },
            Request::Expect { recipient } if recipient.is_empty() => {
                self.end(conn, 0, vec!["the recipient is empty".to_owned()], fx);
            }
            Request::Expect { recipient } => match fx
                .logging
                .following
                .expect_message(conn, recipient, &fx.conns)
            {
                true => control.work = Job::Follow { unread: 0 },
                false => {
                    let error = "too many messages are followed at a time".to_owned();
                    self.end(conn, 0, vec![error], fx);
                }
            },
            Request::Examine { addresses } => match fx
                .logging
                .following
                .expect_probes(conn, addresses, &fx.conns)
            {
                true => {
                    control.work = Job::Follow { unread: 0 };
                    let text = "attempts from these addresses are expected".to_owned();
                    self.respond(conn, &Response::Note { text }, fx);
                }
                false => {
                    let error = "too many addresses, or too many examinations at a time".to_owned();
                    self.end(conn, 0, vec![error], fx);
                }
            },
            Request::Reload {} => {
                control.work = Job::Reload;
                fx.actions.push_back(Action::Reload { conn: Some(conn) });
            }
        }
    }

    /// The messages that are meant, and a sentence for each that is not there.
    fn selected(&self, which: &Selection, fx: &Effects) -> (Vec<QueueId>, Vec<String>) {
        let texts = match which {
            Selection::All => return (fx.index.ids(), Vec::new()),
            Selection::Ids(texts) => texts,
        };
        let (mut ids, mut errors) = (Vec::new(), Vec::new());
        for text in texts {
            match text.parse::<QueueId>() {
                Ok(id) if fx.index.get(id).is_some() => ids.push(id),
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
        control: &mut Tool,
        which: &Selection,
        note: impl Fn(QueueId) -> Note,
        fx: &mut Effects,
    ) {
        let (ids, errors) = self.selected(which, fx);
        if ids.is_empty() {
            return self.end(conn, 0, errors, fx);
        }
        let left: BTreeSet<QueueId> = ids.into_iter().collect();
        for id in &left {
            fx.note(note(*id));
        }
        control.work = Job::Commit(Pending {
            left,
            changed: 0,
            errors,
        });
    }

    /// A change that a tool asked for is on the disk, or the disk refused it.
    pub(super) fn on_changed(
        &mut self,
        conn: ConnId,
        (id, result): (QueueId, Result<(), JournalError>),
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(mut control) = self.tools.take(conn) else {
            return; // the tool did not wait
        };
        if let Job::Commit(pending) = &mut control.work
            && pending.left.remove(&id)
        {
            match result {
                Ok(()) => pending.changed = pending.changed.saturating_add(1),
                Err(error) => {
                    pending.errors.truncate(COMMIT_ERRORS_MAX);
                    let error = format!("the disk refused a change: {error}");
                    pending.errors.push(error);
                }
            }
            if pending.left.is_empty() {
                let (count, errors) = (pending.changed, std::mem::take(&mut pending.errors));
                self.end(conn, count, errors, fx);
                control.work = Job::None;
            }
        }
        self.go_on(conn, control, delivery, fx);
    }

    fn begin_list(
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

    /// Reads the next message that is to be listed, or ends the list.
    fn list_next(&mut self, conn: ConnId, control: &mut Tool, fx: &mut Effects) {
        let Job::List(listing) = &mut control.work else {
            return;
        };
        // A long list goes out in portions: the next one once this one is out.
        if listing.reading.is_some() || listing.portion >= LISTED_AT_ONCE {
            return;
        }
        while let Some(id) = listing.left.pop_front() {
            if let Some(entry) = fx.index.get(id) {
                listing.reading = Some(id);
                let (reader, location) = (Reader::Conn(conn), entry.location);
                fx.actions.push_back(Action::Read {
                    reader,
                    id,
                    location,
                    part: Part::Head,
                });
                return;
            }
        }
        let (listed, errors) = (listing.listed, std::mem::take(&mut listing.errors));
        control.work = Job::None;
        self.end(conn, listed, errors, fx);
    }

    /// A part of a message that is to be listed was read.
    fn on_read(
        &mut self,
        conn: ConnId,
        result: Result<Content, ReadError>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(mut control) = self.tools.take(conn) else {
            return;
        };
        let mut goes_on = false;
        if let Job::List(listing) = &mut control.work
            && let Some(id) = listing.reading.take()
        {
            match result {
                Ok(Content::Head { envelope, fields }) => {
                    self.list_one(conn, listing, id, Ok(&envelope), delivery, fx);
                    goes_on = listing.showing && self.show_header(conn, id, &fields, fx);
                }
                Ok(Content::Body { bytes, .. }) => {
                    let header = match header_end(&bytes) {
                        HeaderEnd::EmptyLine { at, .. } => bytes.get(..at).unwrap_or_default(),
                        _ => &bytes,
                    };
                    self.respond_header(conn, header, fx);
                }
                Ok(Content::Whole { .. }) => {}
                // It is listed, and only its header cannot be shown.
                Err(error) if listing.showing && listing.listed > 0 => listing
                    .errors
                    .push(format!("the header of {id} cannot be read: {error}")),
                // What is known of it without its envelope is in memory.
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
    fn list_one(
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
        let listed = Listed {
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
        self.respond(conn, &Response::Message(listed), fx);
    }

    /// Shows the fields that were added, and has the header read; says whether it is.
    fn show_header(&mut self, conn: ConnId, id: QueueId, fields: &[u8], fx: &mut Effects) -> bool {
        let Some(location) = fx.index.get(id).map(|entry| entry.location) else {
            return false;
        };
        self.respond_header(conn, fields, fx);
        fx.actions.push_back(Action::Read {
            reader: Reader::Conn(conn),
            id,
            location,
            part: Part::Body {
                offset: 0,
                len: NOTICE_READ_BYTES,
            },
        });
        true
    }

    fn respond_header(&mut self, conn: ConnId, bytes: &[u8], fx: &mut Effects) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.respond(conn, &Response::Header { text }, fx);
    }

    /// All that was listed is out.
    fn on_drained(&mut self, conn: ConnId, delivery: &Delivery, fx: &mut Effects) {
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

    /// A reload that a tool asked for is over.
    pub(super) fn on_reloaded(
        &mut self,
        conn: ConnId,
        errors: &[String],
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        if let Some(mut control) = self.tools.take(conn) {
            control.work = Job::None;
            self.end(conn, usize::from(errors.is_empty()), errors.to_vec(), fx);
            self.go_on(conn, control, delivery, fx);
        }
    }

    /// These keys stay as they were until a restart.
    pub(super) fn tell_restart_needed(&mut self, conn: ConnId, keys: &[&str], fx: &mut Effects) {
        for key in keys {
            let text = format!("{key} has changed: that takes effect at the next restart");
            self.respond(conn, &Response::Note { text }, fx);
        }
    }

    /// The configuration could not be read: the old one goes on.
    pub(super) fn on_reload_failed(
        &mut self,
        conn: Option<ConnId>,
        errors: &[String],
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        for error in errors {
            fx.log(Line::new(Level::Error, "reload-failed").with("why", error));
        }
        if let Some(conn) = conn {
            self.on_reloaded(conn, errors, delivery, fx);
        }
    }

    fn end(&mut self, conn: ConnId, count: usize, errors: Vec<String>, fx: &mut Effects) {
        self.respond(conn, &Response::End { count, errors }, fx);
    }

    pub(super) fn respond(&mut self, conn: ConnId, response: &Response, fx: &mut Effects) {
        let mut bytes = serde_json::to_vec(response).unwrap_or_default();
        bytes.push(b'\n');
        fx.send(conn, bytes);
    }
}

const fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::InFlight => "sending",
        Phase::Closed => "done",
    }
}

/// What a tool is told that does not read what it has asked for.
const UNREAD: &str =
    "too much was said of the message without being read; ask again, the newest lines are kept";

/// Failures of the disk that a tool is told of.
const COMMIT_ERRORS_MAX: usize = 8;

/// Messages and recipients that are listed before the tool has to have taken them.
const LISTED_AT_ONCE: usize = 256;

/// Bytes of one request: room for some hundred ids.
const CONTROL_LINE_BYTES_MAX: usize = 16 * COMMAND_LINE_BYTES_MAX;
