//! The control socket: what the queue tools ask, and what they are told.
//!
//! One JSON object a line in both directions. A request is answered by any number of [`Response::Message`] lines and
//! one [`Response::End`]. A line that is no request gets an `End` with the error, and its sender is dropped.
//!
//! Every user of this machine may connect; who that is, the kernel says. Root and the account of the relay may ask for
//! everything. Another user sees the messages that were submitted under that uid and nothing else, may ask once a
//! connection, and gets [`Response::Denied`] for what changes anything.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Action, ConnId, Peer, Reader};
use super::hops::Hop;
use super::log::{Level, Line};
use super::status::Status;
use super::store::Removal;
use super::{Conn, Engine};
use crate::cause::Cause;
use crate::clock::Now;
use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::limits::{
    COMMAND_LINE_BYTES_MAX, NOTICE_READ_BYTES, QUEUE_READERS_MAX, QUEUE_READERS_PER_USER_MAX,
};
use crate::mail::header::{HeaderEnd, header_end};
use crate::queue::{Content, JournalError, Part, Phase, Queued, ReadError, RecipientState};
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
    /// Microseconds of the longest turn of the event loop since the start.
    pub longest_turn_us: u64,
    /// When it began, in seconds since 1970; 0 where there was none.
    pub longest_turn_at: u64,
}

/// One connection of a tool.
pub(super) struct Control {
    peer: Peer,
    /// Whether it has asked for something.
    has_asked: bool,
    /// What came and was not taken as a request yet.
    input: Vec<u8>,
    /// What the tool waits for; one request at a time.
    pub(super) work: Job,
}

/// A request under way.
pub(super) enum Job {
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
pub(super) struct Listing {
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
pub(super) struct Pending {
    left: usize,
    count: usize,
    errors: Vec<String>,
}

impl Control {
    pub(super) fn new(peer: Peer) -> Self {
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

    pub(super) fn wants_input(&self) -> bool {
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

impl Engine {
    /// A tool sent something.
    pub(super) fn control_bytes(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        bytes: &[u8],
        now: Now,
    ) {
        if matches!(control.work, Job::Follow { .. }) {
            return self.control_drop(
                conn,
                "nothing more can be asked while a message is followed",
            );
        }
        control.input.extend_from_slice(bytes);
        self.control_on(conn, control, now);
    }

    /// Takes up the requests that have come, until one has to wait.
    fn control_on(&mut self, conn: ConnId, mut control: Box<Control>, now: Now) {
        let is_user = !self.is_operator(control.uid());
        while matches!(control.work, Job::None) {
            if is_user && control.has_asked {
                return self.control_close(conn);
            }
            let line = match control.line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(TooLong) => return self.control_drop(conn, "the request is too long"),
            };
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => {
                    control.has_asked = true;
                    if is_user {
                        self.control_user_request(conn, &mut control, &request);
                    } else {
                        self.control_request(conn, &mut control, request, now);
                    }
                }
                Err(error) => return self.control_drop(conn, &format!("no request: {error}")),
            }
        }
        self.conns.put(conn, Conn::Control(control));
    }

    pub(super) fn control_drop(&mut self, conn: ConnId, error: &str) {
        self.respond(
            conn,
            &Response::End {
                count: 0,
                errors: vec![error.to_owned()],
            },
        );
        self.control_close(conn);
    }

    fn control_close(&mut self, conn: ConnId) {
        self.conns.remove(conn);
        self.actions.push_back(Action::Close { conn });
    }

    /// Whether a tool of this user may ask for everything.
    pub(super) fn is_operator(&self, uid: Option<u32>) -> bool {
        uid.is_some_and(|uid| uid == ROOT || uid == self.operator)
    }

    /// Whether a tool of this user may connect: operators always may, other users as far as there is room for them.
    pub fn admits_tool(&mut self, uid: u32) -> bool {
        if self.is_operator(Some(uid)) {
            return true;
        }
        let (mut own, mut all) = (0, 0);
        for conn in self.conns.iter() {
            if let Conn::Control(control) = conn
                && !self.is_operator(control.uid())
            {
                all += 1;
                own += usize::from(control.uid() == Some(uid));
            }
        }
        let has_room = own < QUEUE_READERS_PER_USER_MAX && all < QUEUE_READERS_MAX;
        if !has_room {
            self.log_denied(uid, "connect", "too many queue tools of users at a time");
        }
        has_room
    }

    fn log_denied(&mut self, uid: u32, what: &str, why: &str) {
        let line = Line::new(Level::Warning, "reject").with("peer", format_args!("uid={uid}"));
        self.log_refusal(line.with("what", what).with("why", why));
    }

    /// A user who is no operator asks: for messages of their own, as the uid says under which they were submitted.
    fn control_user_request(&mut self, conn: ConnId, control: &mut Control, request: &Request) {
        let uid = control.uid();
        let is_own = |entry: &Queued| uid.is_some() && entry.submitter == uid;
        match request {
            Request::List {} => {
                let own = self.index.entries().filter(|(_, entry)| is_own(entry));
                let mut ids: Vec<QueueId> = own.map(|(id, _)| id).collect();
                ids.sort_unstable();
                self.begin_list(conn, control, ids.into(), false);
            }
            Request::Show { id } => match id.parse::<QueueId>() {
                Ok(id) if self.index.get(id).is_some_and(is_own) => {
                    self.begin_list(conn, control, [id].into(), true);
                }
                // The same for what is there and belongs to somebody else.
                Ok(_) => self.end(conn, 0, vec![format!("{id} is not in the queue")]),
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")]),
            },
            Request::Flush { .. } => self.deny(conn, uid, "flush"),
            Request::Hold { .. } => self.deny(conn, uid, "hold"),
            Request::Release { .. } => self.deny(conn, uid, "release"),
            Request::Remove { .. } => self.deny(conn, uid, "remove"),
            Request::Stats {} => self.deny(conn, uid, "stats"),
            Request::Status {} => self.deny(conn, uid, "status"),
            Request::Reload {} => self.deny(conn, uid, "reload"),
            Request::Follow { .. } => self.deny(conn, uid, "follow"),
            Request::Expect { .. } => self.deny(conn, uid, "expect"),
            Request::Examine { .. } => self.deny(conn, uid, "examine"),
        }
    }

    fn deny(&mut self, conn: ConnId, uid: Option<u32>, what: &str) {
        if let Some(uid) = uid {
            self.log_denied(uid, what, "not root, nor the account of the daemon");
        }
        let text = "only root and the account of the daemon may do that; use sudo".to_owned();
        self.respond(conn, &Response::Denied { text });
    }

    fn control_request(&mut self, conn: ConnId, control: &mut Control, request: Request, now: Now) {
        let uid = control.uid().unwrap_or(ROOT);
        if let Peer::Process { uid } = control.peer {
            let line = Line::new(Level::Debug, "control").with("uid", uid);
            self.log(line.with(
                "request",
                serde_json::to_string(&request).unwrap_or_default(),
            ));
        }
        match request {
            Request::List {} => {
                let ids = self.index.ids();
                self.begin_list(conn, control, ids.into(), false);
            }
            Request::Show { id } => match id.parse::<QueueId>() {
                Ok(id) if self.index.get(id).is_some() => {
                    self.begin_list(conn, control, [id].into(), true);
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
                        self.message_due(*id, hop, now);
                    }
                }
                let is_tried =
                    |id: &&QueueId| self.index.get(**id).is_some_and(|entry| !entry.held);
                let tried = ids.iter().filter(is_tried).count();
                self.end(conn, tried, errors);
            }
            Request::Hold { which } => {
                self.commit_each(conn, control, &which, |engine, id| {
                    engine.mark(id, true, conn);
                });
            }
            Request::Release { which } => {
                self.commit_each(conn, control, &which, |engine, id| {
                    engine.mark(id, false, conn);
                });
            }
            Request::Remove { which } => {
                self.commit_each(conn, control, &which, |engine, id| {
                    engine.remove_message(id, Removal { tool: conn, uid });
                });
            }
            Request::Stats {} => {
                let stats = self.stats();
                self.respond(conn, &Response::Stats(stats));
                self.end(conn, stats.queued, Vec::new());
            }
            Request::Status {} => {
                let status = Box::new(self.status(now));
                self.respond(conn, &Response::Status(status));
                self.end(conn, self.index.len(), Vec::new());
            }
            Request::Follow { id } => match id.parse::<QueueId>() {
                Ok(id) if self.follow(conn, id) => control.work = Job::Follow { unread: 0 },
                Ok(_) => {
                    let error = "too many messages are followed at a time".to_owned();
                    self.end(conn, 0, vec![error]);
                }
                Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")]),
            },
            Request::Expect { recipient } if recipient.is_empty() => {
                self.end(conn, 0, vec!["the recipient is empty".to_owned()]);
            }
            Request::Expect { recipient } => match self.expect_message(conn, recipient) {
                true => control.work = Job::Follow { unread: 0 },
                false => {
                    let error = "too many messages are followed at a time".to_owned();
                    self.end(conn, 0, vec![error]);
                }
            },
            Request::Examine { addresses } => match self.expect_probes(conn, addresses) {
                true => {
                    control.work = Job::Follow { unread: 0 };
                    let text = "attempts from these addresses are expected".to_owned();
                    self.respond(conn, &Response::Note { text });
                }
                false => {
                    let error = "too many addresses, or too many examinations at a time".to_owned();
                    self.end(conn, 0, vec![error]);
                }
            },
            Request::Reload {} => {
                control.work = Job::Reload;
                self.actions.push_back(Action::Reload { conn: Some(conn) });
            }
        }
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
        control: &mut Control,
        which: &Selection,
        mut act: impl FnMut(&mut Self, QueueId),
    ) {
        let (ids, errors) = self.selected(which);
        let count = ids.len();
        if count == 0 {
            return self.end(conn, 0, errors);
        }
        control.work = Job::Commit(Pending {
            left: count,
            count,
            errors,
        });
        for id in ids {
            act(self, id);
        }
    }

    /// A change that a tool asked for is on the disk, or the disk refused it.
    pub(super) fn control_committed(
        &mut self,
        conn: ConnId,
        result: Result<(), JournalError>,
        now: Now,
    ) {
        let Some(mut control) = self.take_control(conn) else {
            return; // the tool did not wait
        };
        if let Job::Commit(pending) = &mut control.work {
            pending.left = pending.left.saturating_sub(1);
            if let Err(error) = result {
                pending.count = pending.count.saturating_sub(1);
                pending.errors.truncate(COMMIT_ERRORS_MAX);
                pending
                    .errors
                    .push(format!("the disk refused a change: {error}"));
            }
            if pending.left == 0 {
                let (count, errors) = (pending.count, std::mem::take(&mut pending.errors));
                self.end(conn, count, errors);
                control.work = Job::None;
            }
        }
        self.control_on(conn, control, now);
    }

    fn take_control(&mut self, conn: ConnId) -> Option<Box<Control>> {
        match self.conns.take(conn) {
            Some(Conn::Control(control)) => Some(control),
            Some(other) => {
                self.conns.put(conn, other);
                None
            }
            None => None,
        }
    }

    fn begin_list(
        &mut self,
        conn: ConnId,
        control: &mut Control,
        left: VecDeque<QueueId>,
        showing: bool,
    ) {
        control.work = Job::List(Listing {
            left,
            reading: None,
            showing,
            listed: 0,
            portion: 0,
            errors: Vec::new(),
        });
        self.list_next(conn, control);
    }

    /// Reads the next message that is to be listed, or ends the list.
    fn list_next(&mut self, conn: ConnId, control: &mut Control) {
        let Job::List(listing) = &mut control.work else {
            return;
        };
        // A long list goes out in portions: the next one once this one is out.
        if listing.reading.is_some() || listing.portion >= LISTED_AT_ONCE {
            return;
        }
        while let Some(id) = listing.left.pop_front() {
            if let Some(entry) = self.index.get(id) {
                listing.reading = Some(id);
                let (reader, location) = (Reader::Conn(conn), entry.location);
                self.actions.push_back(Action::Read {
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
        self.end(conn, listed, errors);
    }

    /// A part of a message that is to be listed was read.
    pub(super) fn control_read(
        &mut self,
        conn: ConnId,
        mut control: Box<Control>,
        result: Result<Content, ReadError>,
        now: Now,
    ) {
        let mut goes_on = false;
        if let Job::List(listing) = &mut control.work
            && let Some(id) = listing.reading.take()
        {
            match result {
                Ok(Content::Head { envelope, fields }) => {
                    self.list_one(conn, listing, id, Ok(&envelope), now);
                    goes_on = listing.showing && self.show_header(conn, id, &fields);
                }
                Ok(Content::Body { bytes, .. }) => {
                    let header = match header_end(&bytes) {
                        HeaderEnd::EmptyLine { at, .. } => bytes.get(..at).unwrap_or_default(),
                        _ => &bytes,
                    };
                    self.respond_header(conn, header);
                }
                Ok(Content::Whole { .. }) => {}
                // It is listed, and only its header cannot be shown.
                Err(error) if listing.showing && listing.listed > 0 => listing
                    .errors
                    .push(format!("the header of {id} cannot be read: {error}")),
                // What is known of it without its envelope is in memory.
                Err(error) => self.list_one(conn, listing, id, Err(error), now),
            }
            if goes_on {
                listing.reading = Some(id);
            }
        }
        if !goes_on {
            self.list_next(conn, &mut control);
        }
        self.control_on(conn, control, now);
    }

    /// Lists one message, unless it has left the queue.
    fn list_one(
        &mut self,
        conn: ConnId,
        listing: &mut Listing,
        id: QueueId,
        envelope: Result<&Envelope, ReadError>,
        now: Now,
    ) {
        let Some(entry) = self.index.get(id) else {
            return;
        };
        let known = envelope.ok();
        let recipients = entry.recipients.iter().enumerate().map(|(at, state)| {
            let recipient = known.and_then(|envelope| envelope.recipients.get(at));
            let why = self.latest_cause(state);
            ListedRecipient {
                to: recipient.map_or_else(String::new, |recipient| recipient.mailbox.to_string()),
                state: phase_text(state.phase).to_owned(),
                attempts: state.attempts,
                why: why
                    .filter(|_| state.phase != Phase::Closed)
                    .map_or_else(String::new, |why| why.to_string()),
                next: self.next_attempt(entry, state, now).map(Timestamp::seconds),
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
        listing.listed += 1;
        listing.portion += 1 + entry.recipients.len();
        self.respond(conn, &Response::Message(listed));
    }

    /// Why a recipient waits: a next hop that could not be reached, be it for another message, is the latest that is known.
    pub(super) fn latest_cause(&self, state: &RecipientState) -> Option<Arc<Cause>> {
        let trouble = self.hops.get(state.hop).and_then(|hop| hop.trouble.clone());
        trouble.or_else(|| state.why.clone())
    }

    /// When a recipient is tried next, if that is later than now.
    pub(super) fn next_attempt(
        &self,
        entry: &Queued,
        state: &RecipientState,
        now: Now,
    ) -> Option<Timestamp> {
        if entry.held || state.phase != Phase::Waiting {
            return None;
        }
        let hop = self.hops.get(state.hop).and_then(Hop::next_attempt);
        let hop = hop.map(|at| now.wall.after(at.since(now.instant)));
        hop.into_iter()
            .chain([state.until])
            .max()
            .filter(|at| *at > now.wall)
    }

    /// Shows the fields that were added, and has the header read; says whether it is.
    fn show_header(&mut self, conn: ConnId, id: QueueId, fields: &[u8]) -> bool {
        let Some(location) = self.index.get(id).map(|entry| entry.location) else {
            return false;
        };
        self.respond_header(conn, fields);
        self.actions.push_back(Action::Read {
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

    fn respond_header(&mut self, conn: ConnId, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.respond(conn, &Response::Header { text });
    }

    /// All that was listed is out.
    pub(super) fn control_drained(&mut self, conn: ConnId, mut control: Box<Control>, now: Now) {
        match &mut control.work {
            Job::List(listing) => listing.portion = 0,
            Job::Follow { unread } => *unread = 0,
            Job::None | Job::Commit(_) | Job::Reload => {}
        }
        self.list_next(conn, &mut control);
        self.control_on(conn, control, now);
    }

    /// A reload that a tool asked for is over.
    pub(super) fn control_reloaded(&mut self, conn: ConnId, errors: &[String], now: Now) {
        if let Some(mut control) = self.take_control(conn) {
            control.work = Job::None;
            self.end(conn, usize::from(errors.is_empty()), errors.to_vec());
            self.control_on(conn, control, now);
        }
    }

    /// These keys stay as they were until a restart.
    pub(super) fn control_restart_needed(&mut self, conn: ConnId, keys: &[&str]) {
        for key in keys {
            let text = format!("{key} has changed: that takes effect at the next restart");
            self.respond(conn, &Response::Note { text });
        }
    }

    /// The configuration could not be read: the old one goes on.
    pub(super) fn reload_failed(&mut self, conn: Option<ConnId>, errors: &[String], now: Now) {
        for error in errors {
            self.log(Line::new(Level::Error, "reload-failed").with("why", error));
        }
        if let Some(conn) = conn {
            self.control_reloaded(conn, errors, now);
        }
    }

    /// Numbers of now and since the start.
    pub fn stats(&self) -> Stats {
        let counters = self.counters;
        let took = counters
            .longest_turn
            .map_or(Duration::ZERO, |turn| turn.took);
        Stats {
            queued: self.index.len(),
            held: self.index.entries().filter(|(_, entry)| entry.held).count(),
            hops: self.hops.len(),
            sessions: self.sessions(),
            couriers: self.couriers(),
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
            longest_turn_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            longest_turn_at: counters.longest_turn.map_or(0, |turn| turn.at.seconds()),
        }
    }

    fn end(&mut self, conn: ConnId, count: usize, errors: Vec<String>) {
        self.respond(conn, &Response::End { count, errors });
    }

    pub(super) fn respond(&mut self, conn: ConnId, response: &Response) {
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

/// The uid that may do everything.
pub(super) const ROOT: u32 = 0;

/// Messages and recipients that are listed before the tool has to have taken them.
const LISTED_AT_ONCE: usize = 256;

/// Bytes of one request: room for some hundred ids.
const CONTROL_LINE_BYTES_MAX: usize = 16 * COMMAND_LINE_BYTES_MAX;
