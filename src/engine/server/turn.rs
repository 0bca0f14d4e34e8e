//! A turn of a session: processes the input command by command, until a command has to wait or there is enough to send.

use std::time::Duration;

use super::acceptance::Acceptance;
use super::guard::{Accepted, Verdict};
use super::intake::Intake;
use super::session::{KEPT_CAPACITY_BYTES_MAX, Server, ServerSession};
use crate::address::ReversePath;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, TlsSide};
use crate::envelope::Notify;
use crate::limits::{
    COMMAND_LINE_BYTES_MAX, DATA_RATE_BYTES_MIN, OUTPUT_BYTES_MAX, REQUESTS_PER_TURN_MAX,
};
use crate::policy::authority::Grants;
use crate::smtp::command::ForwardPath;
use crate::smtp::reply::Reply;
use crate::smtp::server::ServerRequest;

impl Server {
    /// Continues with the kept input, once an answer has arrived.
    pub(super) fn resume(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        out: Vec<u8>,
        fx: &mut Effects,
    ) {
        let kept = zeroize::Zeroizing::new(std::mem::take(&mut inbound.buffers.kept));
        self.drive_with(conn, inbound, &kept, out, fx);
    }

    pub(super) fn drive(
        &mut self,
        conn: ConnId,
        inbound: Box<ServerSession>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        self.drive_with(conn, inbound, bytes, Vec::new(), fx);
    }

    pub(super) fn drive_with(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        bytes: &[u8],
        mut out: Vec<u8>,
        fx: &mut Effects,
    ) {
        let mut input = bytes;
        let mut requests = 0_usize;
        loop {
            let request = self.next_request(conn, &mut inbound, &mut input, &mut out, fx);
            let Some(request) = request else { break };
            inbound.pace.touched = fx.now.instant;
            match request {
                ServerRequest::Close => {
                    self.answer(conn, &mut inbound, out, fx);
                    return self.close_session(conn, *inbound, fx);
                }
                ServerRequest::RefuseAndClose(reply) => {
                    self.note_refusal(&mut inbound, "message", "", Some(&reply), fx);
                    self.answer(conn, &mut inbound, out, fx);
                    return self.close_session(conn, *inbound, fx);
                }
                ServerRequest::StartTls => {
                    // Bytes behind STARTTLS were sent in clear, possibly by an attacker: they are dropped with `input`.
                    self.answer(conn, &mut inbound, std::mem::take(&mut out), fx);
                    fx.actions.push_back(Action::StartTls {
                        conn,
                        side: TlsSide::Server,
                    });
                    inbound.pace.since = fx.now.instant;
                    return self.put_back(conn, inbound, fx);
                }
                request => self.on_request(conn, &mut inbound, request, &mut out, fx),
            }
            requests = requests.saturating_add(1);
            // The rest has its turn once these replies are out.
            let is_long = requests >= REQUESTS_PER_TURN_MAX && !out.is_empty();
            if is_long || out.len() > OUTPUT_BYTES_MAX {
                inbound.buffers.is_full = true;
                break;
            }
        }
        inbound.buffers.kept = input.to_vec();
        self.end_turn(conn, inbound, out, fx);
    }

    /// The next request of the session; body bytes that come before it are taken.
    fn next_request(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) -> Option<ServerRequest> {
        let mut body = std::mem::take(&mut inbound.buffers.body);
        let request = inbound
            .session
            .advance(input, &self.settings, out, &mut body);
        if !body.is_empty() {
            inbound.pace.touched = fx.now.instant;
            self.intake_take(conn, inbound, &mut body, fx);
        }
        body.clear();
        inbound.buffers.body = if body.capacity() > KEPT_CAPACITY_BYTES_MAX {
            Vec::new()
        } else {
            body
        };
        request
    }

    /// Ends the processing of input: replies are sent, and the session waits or is over.
    fn end_turn(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        out: Vec<u8>,
        fx: &mut Effects,
    ) {
        // The front of a line alone gives the client no more time for the rest.
        let is_ours = inbound.session.timeout().is_none();
        if !out.is_empty() || inbound.session.is_in_body() || is_ours {
            inbound.pace.since = fx.now.instant;
        }
        self.answer(conn, &mut inbound, out, fx);
        if inbound.is_slowed() && inbound.buffers.kept.len() > COMMAND_LINE_BYTES_MAX {
            return self.end_session(conn, inbound, &Reply::TOO_MANY_ERRORS, fx);
        }
        if self.is_too_slow(&inbound, fx) {
            return self.end_session(conn, inbound, &Reply::TIMEOUT, fx);
        }
        if fx.stopping && !inbound.session.is_busy() {
            return self.end_session(conn, inbound, &Reply::SHUTTING_DOWN, fx);
        }
        self.put_back(conn, inbound, fx);
    }

    pub(super) fn is_too_slow(&self, inbound: &ServerSession, fx: &Effects) -> bool {
        let elapsed = fx.now.instant.since(inbound.pace.body_began);
        inbound.session.is_in_body()
            && elapsed > Duration::from_secs(60)
            && inbound.pace.body_bytes < elapsed.as_secs().saturating_mul(DATA_RATE_BYTES_MIN)
    }

    pub(super) fn on_request(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        request: ServerRequest,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        match request {
            ServerRequest::Hello { name } => self.ehlo_request(inbound, &name, out, fx),
            ServerRequest::Sender { from, size } => {
                self.sender_request(inbound, &from, size, out, fx)
            }
            ServerRequest::Recipient {
                to,
                notify,
                original,
            } => {
                self.forward_path_request(inbound, &to, (notify, original), out, fx);
            }
            ServerRequest::Authenticate { mechanism, initial } => {
                self.begin_auth(conn, inbound, &mechanism, initial, out, fx);
            }
            ServerRequest::Respond(response) => {
                self.continue_auth(conn, inbound, response, out, fx)
            }
            ServerRequest::BeginBody => self.body_request(inbound, out, fx),
            ServerRequest::Store(transaction) => {
                if let Err(reply) = self.message_whole(conn, inbound, *transaction, fx) {
                    self.note_refusal(inbound, "message", "", Some(&reply), fx);
                    self.drop_body(inbound, fx);
                    inbound.session.on_stored(&reply, out);
                }
            }
            ServerRequest::Forget => self.drop_body(inbound, fx),
            ServerRequest::Refuse(reply) => {
                self.note_refusal(inbound, "message", "", Some(&reply), fx);
                self.drop_body(inbound, fx);
            }
            // The caller, which owns the connection, handles these.
            ServerRequest::Close | ServerRequest::RefuseAndClose(_) | ServerRequest::StartTls => {}
        }
    }

    /// MAIL.
    fn sender_request(
        &mut self,
        inbound: &mut ServerSession,
        from: &ReversePath,
        size: Option<u64>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        inbound.pace.body_began = fx.now.instant;
        inbound.envelope.grants = Grants::default();
        inbound.envelope.named.clear();
        inbound.envelope.recipient_bytes = 0;
        let verdict = self
            .sender_verdict(inbound, from, size, fx)
            .and_then(|()| self.may_begin(inbound, fx));
        let refusal = verdict.as_ref().err();
        self.note_refusal(inbound, "sender", from.as_str(), refusal, fx);
        self.tell(inbound, Verdict::Sender(verdict), out, fx);
    }

    /// RCPT.
    fn forward_path_request(
        &mut self,
        inbound: &mut ServerSession,
        to: &ForwardPath,
        (notify, original): (Notify, Option<Box<str>>),
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let shown = match to {
            ForwardPath::Mailbox(mailbox) | ForwardPath::SourceRoute(mailbox) => {
                mailbox.to_string()
            }
            ForwardPath::Bare(local) => local.to_string(),
        };
        let verdict = self
            .recipient_verdict(inbound, to, notify, original, fx)
            .map(|(grant, recipients)| Accepted {
                recipients,
                grant,
                named: fx.config.content.hook.then(|| shown.clone()),
            });
        self.recipient_request(inbound, shown, verdict, out, fx);
    }

    /// DATA.
    fn body_request(&mut self, inbound: &mut ServerSession, out: &mut Vec<u8>, fx: &mut Effects) {
        let verdict = self.room_verdict(inbound.holding.holder(), None, fx);
        if verdict.is_ok() {
            let sender = inbound.session.reverse_path();
            let sender = sender.and_then(ReversePath::mailbox).cloned();
            let id = fx.ids.next(fx.now.wall);
            inbound.acceptance = Acceptance::Receiving(Box::new(Intake::new(id, sender)));
            inbound.pace.body_began = fx.now.instant;
            inbound.pace.body_bytes = 0;
        }
        self.note_refusal(inbound, "message", "", verdict.as_ref().err(), fx);
        inbound.session.on_body_ready(verdict, &self.settings, out);
    }
}
