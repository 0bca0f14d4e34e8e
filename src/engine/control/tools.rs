//! The connected queue tools, and what each of them is waiting for.

use std::collections::{BTreeSet, VecDeque};
use std::mem;

use super::wire::{ControlRequest, ControlResponse};
use crate::engine::connections::{ConnEvent, Owner, Sessions};
use crate::engine::delivery::Delivery;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Peer};
use crate::engine::log::{Level, Line};
use crate::limits::{
    COMMAND_LINE_BYTES_MAX, FOLLOWER_BYTES_MAX, QUEUE_READERS_MAX, QUEUE_READERS_PER_USER_MAX,
};
use crate::queue_id::QueueId;

/// The tools that are connected.
#[derive(Default)]
pub(in crate::engine) struct Control {
    pub(super) tools: Sessions<Box<Tool>>,
}

/// One connection of a tool.
pub(super) struct Tool {
    pub(super) peer: Peer,
    /// Whether it has asked for something.
    pub(super) has_asked: bool,
    /// Input that has not been taken as a request yet.
    pub(super) input: Vec<u8>,
    /// What the tool waits for; one request at a time.
    pub(super) work: Job,
}

/// A request under way.
pub(super) enum Job {
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
    pub(super) left: VecDeque<QueueId>,
    /// The message that is being read. There is one read at a time, so an answer belongs to it.
    pub(super) reading: Option<QueueId>,
    /// Whether the header is wanted too.
    pub(super) showing: bool,
    pub(super) listed: usize,
    /// How many messages and recipients went out since the tool had last taken all.
    pub(super) portion: usize,
    /// Parts of one message that could not be shown, one sentence each.
    pub(super) errors: Vec<String>,
}

/// Changes that a tool waits for.
pub(super) struct Pending {
    /// Messages whose change is not on the disk yet.
    pub(super) left: BTreeSet<QueueId>,
    pub(super) changed: usize,
    pub(super) errors: Vec<String>,
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

    pub(super) fn uid(&self) -> Option<u32> {
        match self.peer {
            Peer::Process { uid } => Some(uid),
            Peer::Network { .. } => None,
        }
    }

    fn wants_input(&self) -> bool {
        matches!(self.work, Job::None | Job::Follow { .. })
    }

    /// The next line of input.
    fn line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.input.iter().position(|&byte| byte == b'\n');
        if end.unwrap_or(self.input.len()) > CONTROL_LINE_BYTES_MAX {
            return Err(TooLong);
        }
        let Some(end) = end else { return Ok(None) };
        let rest = self.input.split_off(end.saturating_add(1));
        Ok(Some(mem::replace(&mut self.input, rest)))
    }
}

/// A request is longer than any.
struct TooLong;

impl Control {
    /// A tool has connected.
    pub(in crate::engine) fn admit(&mut self, peer: Peer, fx: &mut Effects) -> ConnId {
        let conn = fx.conns.reserve(Owner::Control);
        self.tools.put(conn, Box::new(Tool::new(peer)));
        conn
    }

    /// Whether bytes of a tool may be read now.
    pub(in crate::engine) fn wants_input(&self, conn: ConnId) -> bool {
        self.tools.get(conn).is_some_and(|tool| tool.wants_input())
    }

    /// The connection is gone.
    fn on_closed(&mut self, conn: ConnId, fx: &mut Effects) {
        self.tools.take(conn);
        fx.conns.release(conn);
    }

    /// Something has happened to a tool.
    pub(in crate::engine) fn on_tool(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        match event {
            ConnEvent::Bytes(bytes) => self.on_bytes(conn, bytes, delivery, fx),
            ConnEvent::Drained => self.on_drained(conn, delivery, fx),
            ConnEvent::Read(id, result) => self.on_read(conn, id, result, delivery, fx),
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
    pub(in crate::engine) fn on_followed(&mut self, conn: ConnId, text: String, fx: &mut Effects) {
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
            self.respond(conn, &ControlResponse::Event { text }, fx);
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

    /// Handles the received requests, until one has to wait.
    pub(super) fn go_on(
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
            match serde_json::from_slice::<ControlRequest>(&line) {
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

    pub(in crate::engine) fn drop_tool(&mut self, conn: ConnId, error: &str, fx: &mut Effects) {
        self.respond(
            conn,
            &ControlResponse::End {
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
    pub(in crate::engine) fn admits_tool(&mut self, uid: u32, fx: &mut Effects) -> bool {
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

    pub(super) fn log_denied(&mut self, uid: u32, what: &str, why: &str, fx: &mut Effects) {
        let line = Line::new(Level::Warning, "reject").with("peer", format_args!("uid={uid}"));
        fx.log_refusal(line.with("what", what).with("why", why));
    }

    pub(super) fn end(
        &mut self,
        conn: ConnId,
        count: usize,
        errors: Vec<String>,
        fx: &mut Effects,
    ) {
        self.respond(conn, &ControlResponse::End { count, errors }, fx);
    }

    pub(super) fn respond(&mut self, conn: ConnId, response: &ControlResponse, fx: &mut Effects) {
        let mut bytes = serde_json::to_vec(response).unwrap_or_default();
        bytes.push(b'\n');
        fx.send(conn, bytes);
    }
}

/// Error for a tool that does not read the responses to its requests.
const UNREAD: &str =
    "there were more lines about the message than could be kept; ask again for the newest";

/// Bytes of one request: room for some hundred ids.
const CONTROL_LINE_BYTES_MAX: usize = 16 * COMMAND_LINE_BYTES_MAX;
