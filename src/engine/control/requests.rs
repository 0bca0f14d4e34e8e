//! The requests of the queue tools, and how each is carried out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::tools::{Control, Job, Pending, Tool};
use super::wire::{ControlRequest, ControlResponse, Selection};
use crate::engine::delivery::Delivery;
use crate::engine::effects::{Effects, ROOT};
use crate::engine::event::{Action, ConnId, Peer};
use crate::engine::log::{Level, Line};
use crate::engine::note::{Note, Removal};
use crate::engine::stats::stats;
use crate::engine::status::status;
use crate::queue::{JournalError, Queued};
use crate::queue_id::QueueId;

impl Control {
    /// A request of a user who is not an operator, about messages submitted under their uid.
    pub(super) fn user_request(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        request: &ControlRequest,
        fx: &mut Effects,
    ) {
        let uid = control.uid();
        let is_own = |entry: &Queued| uid.is_some() && entry.submitter == uid;
        match request {
            ControlRequest::List {} => {
                let own = fx.index.entries().filter(|(_, entry)| is_own(entry));
                let mut ids: Vec<QueueId> = own.map(|(id, _)| id).collect();
                ids.sort_unstable();
                self.begin_list(conn, control, ids.into(), false, fx);
            }
            // A missing message and a message of another user get the same answer.
            ControlRequest::Show { id } => self.show(conn, control, id, &is_own, fx),
            ControlRequest::Flush { .. } => self.deny(conn, uid, "flush", fx),
            ControlRequest::Hold { .. } => self.deny(conn, uid, "hold", fx),
            ControlRequest::Release { .. } => self.deny(conn, uid, "release", fx),
            ControlRequest::Remove { .. } => self.deny(conn, uid, "remove", fx),
            ControlRequest::Stats {} => self.deny(conn, uid, "stats", fx),
            ControlRequest::Status {} => self.deny(conn, uid, "status", fx),
            ControlRequest::Reload {} => self.deny(conn, uid, "reload", fx),
            ControlRequest::Follow { .. } => self.deny(conn, uid, "follow", fx),
            ControlRequest::Expect { .. } => self.deny(conn, uid, "expect", fx),
            ControlRequest::Examine { .. } => self.deny(conn, uid, "examine", fx),
        }
    }

    fn deny(&mut self, conn: ConnId, uid: Option<u32>, what: &str, fx: &mut Effects) {
        if let Some(uid) = uid {
            self.log_denied(uid, what, "not root, nor the account of the daemon", fx);
        }
        let text = "only root and the account of the daemon may do that; use sudo".to_owned();
        self.respond(conn, &ControlResponse::Denied { text }, fx);
    }

    /// An operator asks.
    pub(super) fn request(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        request: ControlRequest,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let uid = control.uid().unwrap_or(ROOT);
        note_request(control, &request, fx);
        let tool = conn;
        match request {
            ControlRequest::List {} => {
                self.begin_list(conn, control, fx.index.ids().into(), false, fx)
            }
            ControlRequest::Show { id } => self.show(conn, control, &id, &|_| true, fx),
            ControlRequest::Flush { which } => self.flush(conn, &which, fx),
            ControlRequest::Hold { which } => self.mark(conn, control, &which, true, fx),
            ControlRequest::Release { which } => self.mark(conn, control, &which, false, fx),
            ControlRequest::Remove { which } => {
                let removal = Removal { tool, uid };
                self.commit_each(conn, control, &which, |id| Note::Remove { id, removal }, fx);
            }
            ControlRequest::Stats {} => {
                let stats = stats(delivery, fx);
                self.respond(conn, &ControlResponse::Stats(stats), fx);
                self.end(conn, stats.queued, Vec::new(), fx);
            }
            ControlRequest::Status {} => {
                let status = Box::new(status(delivery, fx));
                self.respond(conn, &ControlResponse::Status(status), fx);
                self.end(conn, fx.index.len(), Vec::new(), fx);
            }
            ControlRequest::Follow { id } => self.follow(conn, control, &id, fx),
            ControlRequest::Expect { recipient } => self.expect(conn, control, recipient, fx),
            ControlRequest::Examine { addresses } => self.examine(conn, control, addresses, fx),
            ControlRequest::Reload {} => {
                control.work = Job::Reload;
                fx.actions.push_back(Action::Reload { conn: Some(conn) });
            }
        }
    }

    /// Shows a message that the tool may see.
    fn show(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        id: &str,
        may_see: &dyn Fn(&Queued) -> bool,
        fx: &mut Effects,
    ) {
        match id.parse::<QueueId>() {
            Ok(id) if fx.index.get(id).is_some_and(may_see) => {
                self.begin_list(conn, control, [id].into(), true, fx);
            }
            Ok(id) => self.end(conn, 0, vec![format!("{id} is not in the queue")], fx),
            Err(error) => self.end(conn, 0, vec![format!("{id}: {error}")], fx),
        }
    }

    /// Tries messages now.
    fn flush(&mut self, conn: ConnId, which: &Selection, fx: &mut Effects) {
        let (ids, errors) = self.selected(which, fx);
        let is_tried = |id: &&QueueId| fx.index.get(**id).is_some_and(|entry| !entry.held);
        let tried = ids.iter().filter(is_tried).count();
        fx.note(Note::Flush { ids });
        self.end(conn, tried, errors, fx);
    }

    /// Sends the log lines about a message, past and future.
    fn follow(&mut self, conn: ConnId, control: &mut Tool, id: &str, fx: &mut Effects) {
        let id = match id.parse::<QueueId>() {
            Ok(id) => id,
            Err(error) => return self.end(conn, 0, vec![format!("{id}: {error}")], fx),
        };
        let Some(known) = fx.logging.following.follow(conn, id, &fx.conns) else {
            return self.end(conn, 0, vec![TOO_MANY_FOLLOWED.to_owned()], fx);
        };
        control.work = Job::Follow { unread: 0 };
        for text in known {
            self.respond(conn, &ControlResponse::Event { text }, fx);
        }
    }

    /// Reports messages that are accepted for an address.
    fn expect(&mut self, conn: ConnId, control: &mut Tool, recipient: String, fx: &mut Effects) {
        if recipient.is_empty() {
            return self.end(conn, 0, vec!["the recipient is empty".to_owned()], fx);
        }
        let following = &mut fx.logging.following;
        match following.expect_message(conn, recipient, &fx.conns) {
            true => control.work = Job::Follow { unread: 0 },
            false => self.end(conn, 0, vec![TOO_MANY_FOLLOWED.to_owned()], fx),
        }
    }

    /// Takes clients at these addresses for the tool's own attempts.
    fn examine(
        &mut self,
        conn: ConnId,
        control: &mut Tool,
        addresses: Vec<IpAddr>,
        fx: &mut Effects,
    ) {
        let following = &mut fx.logging.following;
        if !following.expect_probes(conn, addresses, &fx.conns) {
            let error = "too many addresses, or too many examinations at a time".to_owned();
            return self.end(conn, 0, vec![error], fx);
        }
        control.work = Job::Follow { unread: 0 };
        let text = "attempts from these addresses are expected".to_owned();
        self.respond(conn, &ControlResponse::Note { text }, fx);
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

    /// Holds or releases the selected messages, each once the change is on the disk.
    fn mark(
        &mut self,
        tool: ConnId,
        control: &mut Tool,
        which: &Selection,
        held: bool,
        fx: &mut Effects,
    ) {
        self.commit_each(tool, control, which, |id| Note::Mark { id, held, tool }, fx);
    }

    /// Writes a change of each message; the tool gets the response when all are on the disk.
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
    pub(in crate::engine) fn on_changed(
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

    /// A reload that a tool asked for is over.
    pub(in crate::engine) fn on_reloaded(
        &mut self,
        conn: ConnId,
        errors: &[String],
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let Some(mut control) = self.tools.take(conn) else {
            return;
        };
        if matches!(control.work, Job::Reload) {
            control.work = Job::None;
            self.end(conn, usize::from(errors.is_empty()), errors.to_vec(), fx);
        }
        self.go_on(conn, control, delivery, fx);
    }

    /// These keys stay as they were until a restart.
    pub(in crate::engine) fn tell_restart_needed(
        &mut self,
        conn: ConnId,
        keys: &[&str],
        fx: &mut Effects,
    ) {
        for key in keys {
            let text = format!("{key} has changed: that takes effect at the next restart");
            self.respond(conn, &ControlResponse::Note { text }, fx);
        }
    }

    /// The configuration could not be read: the old one stays.
    pub(in crate::engine) fn on_reload_failed(
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
}

/// Logs the request at debug level.
fn note_request(control: &Tool, request: &ControlRequest, fx: &mut Effects) {
    if let Peer::Process { uid } = control.peer {
        let line = Line::new(Level::Debug, "control").with("uid", uid);
        fx.log(line.with(
            "request",
            serde_json::to_string(request).unwrap_or_default(),
        ));
    }
}

const TOO_MANY_FOLLOWED: &str = "too many messages are followed at a time";

/// Failures of the disk that are reported to a tool.
const COMMIT_ERRORS_MAX: usize = 8;
