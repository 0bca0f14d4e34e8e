//! The post-data hook: a program of the operator judges each message that would be accepted, before the client gets a
//! reply.
//!
//! ```text
//!   waits for the disk --written--> waits for its turn --Connect--> is sent: facts, message --answer--> taken or not
//! ```
//!
//! A message that was streamed to the disk is read back block by block; each block is read when the helper has taken
//! the one before. Invariants: every question ends in a verdict, at the latest by its deadline; when a client
//! disconnects, its question is dropped.

use super::acceptance::Acceptance;
use super::examination::Checked;
use super::question::{Asking, Hooking};
use super::session::{Server, ServerSession};
use crate::engine::connections::{ConnEvent, Owner};
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Endpoint};
use crate::engine::log::{Level, Line};
use crate::engine::timers::Timer;
use crate::hook::{Fact, HOOK, Hook, HookVerdict};
use crate::limits::HOOKS_MAX;
use crate::policy::shares::Resource;
use crate::queue::{ReadContent, ReadError};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;

impl Server {
    /// Sends an otherwise accepted message to the hook, if there is one.
    pub(super) fn judge_by_hook(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        mut checked: Checked,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let id = checked.id;
        if !fx.config.content.hook {
            self.spilling.remove(&id);
            return self.message_wanted(conn, inbound, checked, fx);
        }
        let mut unwritten = checked.whole.in_flight;
        if checked.whole.spilled && !checked.whole.rest.is_empty() {
            let bytes = std::mem::take(&mut checked.whole.rest);
            unwritten = unwritten.saturating_add(bytes.len());
            self.store_block(id, inbound.holder(), bytes, fx);
        }
        inbound.acceptance = Acceptance::AtHook(Box::new(Hooking {
            checked,
            unwritten,
            asking: None,
        }));
        match unwritten {
            0 => self.ask_hook(conn, inbound, fx),
            _ => Ok(()),
        }
    }

    /// A block is on the disk, or could not be written.
    pub(super) fn hook_written(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        result: Result<usize, Reply>,
        fx: &mut Effects,
    ) {
        let asked = result.and_then(|bytes| match inbound.acceptance.at_hook() {
            Some(hooking) => {
                hooking.unwritten = hooking.unwritten.saturating_sub(bytes);
                match hooking.unwritten {
                    0 => self.ask_hook(conn, &mut inbound, fx),
                    _ => Ok(()),
                }
            }
            None => Ok(()),
        });
        match asked {
            Ok(()) => self.put_back(conn, inbound, fx),
            Err(reply) => self.message_refused(conn, inbound, &reply, fx),
        }
    }

    fn ask_hook(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let Some(hooking) = inbound.acceptance.at_hook() else {
            return Ok(());
        };
        let (id, whole) = (hooking.checked.id, &hooking.checked.whole);
        self.spilling.remove(&id);
        let holder = inbound.holding.holder();
        let Ok(share) = fx.shares.of(Resource::Hooks).take(holder, 1) else {
            return Err(self.hook_defers(id, "too many messages wait for the hook", fx));
        };
        let asking = fx.conns.reserve(Owner::Hook);
        hooking.asking = Some(asking);
        let turn = self.hooks.waiting.put(holder.lane(), asking);
        let question = Asking {
            owner: conn,
            _share: share,
            id,
            hook: None,
            unread: 0..if whole.spilled { whole.size } else { 0 },
            reading: false,
            deadline: None,
            turn: Some(turn),
        };
        self.askings.put(asking, Box::new(question));
        Ok(())
    }

    /// Starts as many questions as may run at a time.
    pub(in crate::engine) fn start_hooks(&mut self, fx: &mut Effects) {
        while self.hooks.running.len() < HOOKS_MAX
            && let Some(conn) = self.hooks.waiting.take()
        {
            let Some(asking) = self.askings.get_mut(conn) else {
                continue;
            };
            let deadline = asking.wait(fx.now);
            fx.timers.set(deadline, Timer::Conn(conn));
            self.hooks.running.insert(conn);
            fx.actions.push_back(Action::Connect {
                conn,
                to: Endpoint::Helper(HOOK.into()),
                from: None,
            });
        }
    }

    /// Handles an event of a question.
    pub(in crate::engine) fn on_hook(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        fx: &mut Effects,
    ) {
        let Some(asking) = self.askings.take(conn) else {
            return;
        };
        match event {
            ConnEvent::Connected => self.hook_connected(conn, asking, fx),
            ConnEvent::Bytes(bytes) => self.hook_bytes(conn, asking, bytes, fx),
            ConnEvent::Drained => self.hook_drained(conn, asking, fx),
            ConnEvent::Closed(_) => self.hook_lost(conn, asking, fx),
            ConnEvent::Read(id, result) if id == asking.id => {
                self.hook_read(conn, asking, result, fx)
            }
            ConnEvent::Timeout(_) => self.hook_expired(conn, asking, fx),
            // Its session decides when it ends; the other events were not requested.
            ConnEvent::Stop
            | ConnEvent::Read(..)
            | ConnEvent::TlsReady(_)
            | ConnEvent::Kept(_)
            | ConnEvent::Answer(..) => self.askings.put(conn, asking),
        }
    }

    /// The helper is connected.
    fn hook_connected(&mut self, conn: ConnId, mut asking: Box<Asking>, fx: &mut Effects) {
        let mut out = Vec::new();
        if let Some(inbound) = self.sessions.get(asking.owner)
            && let Acceptance::AtHook(hooking) = &inbound.acceptance
        {
            let whole = &hooking.checked.whole;
            let facts = self.facts(inbound, &hooking.checked, fx);
            let facts: Vec<(Fact, &str)> = facts
                .iter()
                .map(|(fact, value)| (*fact, value.as_str()))
                .collect();
            let mut hook = Hook::new(&facts, &mut out);
            if !whole.spilled {
                hook.on_body(&whole.rest, &mut out);
                hook.on_body_end(&mut out);
            }
            asking.hook = Some(hook);
        }
        fx.send(conn, out);
        self.askings.put(conn, asking);
    }

    /// The helper has taken all output: the next block can be read.
    fn hook_drained(&mut self, conn: ConnId, mut asking: Box<Asking>, fx: &mut Effects) {
        if asking.hook.is_some() && !asking.unread.is_empty() && !asking.reading {
            asking.reading = true;
            let left = asking.unread.end.saturating_sub(asking.unread.start);
            fx.actions.push_back(Action::ReadBody {
                conn,
                id: asking.id,
                offset: asking.unread.start,
                len: u32::try_from(left).unwrap_or(u32::MAX).min(BLOCK_BYTES),
            });
        }
        self.askings.put(conn, asking);
    }

    /// A block was read back.
    fn hook_read(
        &mut self,
        conn: ConnId,
        mut asking: Box<Asking>,
        result: Result<ReadContent, ReadError>,
        fx: &mut Effects,
    ) {
        let (Ok(ReadContent::Body { bytes, .. }), Some(hook)) = (result, asking.hook.as_mut())
        else {
            return self.hook_fails(conn, asking, "the message cannot be read", fx);
        };
        let mut out = Vec::new();
        hook.on_body(&bytes, &mut out);
        asking.reading = false;
        asking.unread.start = asking.unread.start.saturating_add(bytes.len() as u64);
        if asking.unread.is_empty() {
            hook.on_body_end(&mut out);
        }
        asking.wait(fx.now);
        fx.send(conn, out);
        self.askings.put(conn, asking);
    }

    /// The helper has sent bytes.
    fn hook_bytes(
        &mut self,
        conn: ConnId,
        mut asking: Box<Asking>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        match asking.hook.as_mut().and_then(|hook| hook.on_bytes(bytes)) {
            Some(verdict) => {
                fx.actions.push_back(Action::Abort { conn });
                self.hook_answered(conn, asking, verdict, fx);
            }
            None => self.askings.put(conn, asking),
        }
    }

    /// The helper is gone, or could not be reached.
    fn hook_lost(&mut self, conn: ConnId, asking: Box<Asking>, fx: &mut Effects) {
        let text = "the helper gave no answer".to_owned();
        self.hook_answered(conn, asking, HookVerdict::Defer { text }, fx);
    }

    /// A deadline may have passed.
    fn hook_expired(&mut self, conn: ConnId, asking: Box<Asking>, fx: &mut Effects) {
        match asking.deadline {
            Some(deadline) if deadline > fx.now.instant => {
                fx.timers.set(deadline, Timer::Conn(conn));
                self.askings.put(conn, asking);
            }
            _ => self.hook_fails(conn, asking, "no answer in time", fx),
        }
    }

    fn hook_fails(&mut self, conn: ConnId, asking: Box<Asking>, why: &str, fx: &mut Effects) {
        fx.actions.push_back(Action::Abort { conn });
        let text = why.to_owned();
        self.hook_answered(conn, asking, HookVerdict::Defer { text }, fx);
    }

    /// Handles the result of a question whose connection is already closed.
    fn hook_answered(
        &mut self,
        conn: ConnId,
        asking: Box<Asking>,
        verdict: HookVerdict,
        fx: &mut Effects,
    ) {
        fx.conns.release(conn);
        self.hooks.running.remove(&conn);
        let (id, owner) = (asking.id, asking.owner);
        // Its share is free for what the session asks next.
        drop(asking);
        let Some(mut inbound) = self.sessions.take(owner) else {
            return;
        };
        // The session may have dropped that message, and have another at the hook: the result is not about that one.
        let hooking = inbound.acceptance.at_hook();
        let Some(hooking) = hooking.filter(|hooking| hooking.asking == Some(conn)) else {
            return self.put_back(owner, inbound, fx);
        };
        hooking.asking = None;
        let reply = match verdict {
            HookVerdict::Accept { fields, junk } => {
                if junk {
                    self.note_hook(id, "it wrote something that is not a header field", fx);
                }
                if let Some(hooking) = inbound.acceptance.take_at_hook() {
                    let mut checked = hooking.checked;
                    checked.hooked = fields;
                    if let Err(reply) = self.message_wanted(owner, &mut inbound, checked, fx) {
                        return self.message_refused(owner, inbound, &reply, fx);
                    }
                }
                return self.put_back(owner, inbound, fx);
            }
            HookVerdict::Refuse { text } => {
                count_up(&mut fx.counters.hook_refused, 1);
                Reply::hook(&text)
            }
            HookVerdict::Defer { text } => self.hook_defers(id, &text, fx),
        };
        self.message_refused(owner, inbound, &reply, fx);
    }

    fn hook_defers(&mut self, id: QueueId, why: &str, fx: &mut Effects) -> Reply {
        count_up(&mut fx.counters.hook_deferred, 1);
        self.note_hook(id, why, fx);
        Reply::HOOK_DEFERS
    }

    fn note_hook(&mut self, id: QueueId, why: &str, fx: &mut Effects) {
        let line = Line::new(Level::Warning, "hook").with("id", id);
        fx.log(line.with("why", why));
    }

    /// Drops a question whose answer is no longer needed.
    pub(super) fn drop_question(&mut self, hooking: &Hooking, fx: &mut Effects) {
        if let Some(conn) = hooking.asking
            && let Some(asking) = self.askings.take(conn)
        {
            fx.conns.release(conn);
            if self.hooks.running.remove(&conn) {
                fx.actions.push_back(Action::Abort { conn });
            } else if let Some(turn) = asking.turn {
                self.hooks.waiting.forget(turn);
            }
        }
    }

    /// The facts about a message for the hook.
    fn facts(
        &self,
        inbound: &ServerSession,
        checked: &Checked,
        fx: &Effects,
    ) -> Vec<(Fact, String)> {
        let one = |is_so: bool| if is_so { "1" } else { "" }.to_owned();
        let path = &checked.transaction.reverse_path;
        let is_own = path
            .mailbox()
            .is_some_and(|mailbox| fx.config.domains.contains_key(mailbox.domain()));
        let recipients: Vec<&str> = inbound.envelope.named.iter().map(String::as_str).collect();
        let mut facts = vec![
            (
                Fact::RemoteAddr,
                inbound
                    .address()
                    .map_or_else(String::new, |address| address.to_string()),
            ),
            (
                Fact::EhloDomain,
                inbound
                    .session
                    .greeting()
                    .map_or("", |(_, name)| name)
                    .to_owned(),
            ),
            (Fact::MailFrom, path.as_str().to_owned()),
            (Fact::RcptTo, recipients.join(" ")),
            (
                Fact::AuthAs,
                inbound
                    .login
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
            ),
            (Fact::OnTls, one(inbound.tls.is_some())),
            (Fact::FromLocalDomain, one(is_own)),
            (Fact::QueueId, checked.id.to_string()),
        ];
        facts.extend(checked.facts.iter().cloned());
        facts
    }
}

/// Bytes of a message that are read back and sent at a time.
const BLOCK_BYTES: u32 = 64 * 1024;
