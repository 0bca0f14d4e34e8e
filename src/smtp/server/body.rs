//! DATA and BDAT on the server's side: a body comes in, is held to its bounds, and is handed over or swallowed.

use std::mem;

use super::{Chunks, Request, Session, Settings, State, Subject, Tolerance, Waiting};
use crate::smtp::data::{BodyFault, Decoder, Framing, LineEnd, LineEnds};
use crate::smtp::reply::Reply;

impl Session {
    /// Answers [`Request::BeginBody`]: whether there is room for a body.
    pub fn on_body_ready(
        &mut self,
        verdict: Result<(), Reply>,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) {
        self.subject = Subject::Message;
        let line_ends = self.line_ends();
        let decoder = |framing| Decoder::mending(framing, line_ends, settings.long_lines);
        let State::Waiting(Waiting::Body { transaction, chunk }) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match (verdict, chunk) {
            (Ok(()), None) => {
                Reply::START_BODY.write(out);
                self.state = State::Data {
                    transaction,
                    decoder: decoder(Framing::Dot),
                    size: 0,
                };
            }
            (Err(reply), None) => {
                self.stay(State::Greeted, &reply, out);
            }
            (verdict, Some((len, last))) => {
                self.state = State::Bdat(Box::new(Chunks {
                    transaction,
                    decoder: decoder(Framing::Counted),
                    size: 0,
                    remaining: Some(len),
                    last,
                    failed: verdict.err(),
                }));
            }
        }
    }

    /// Takes bytes of DATA; asks to store the message behind its final dot.
    /// Decides RFC 5321 section 4.1.1.4.
    pub(super) fn data(
        &mut self,
        input: &mut &[u8],
        settings: &Settings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<Request> {
        let State::Data { decoder, size, .. } = &mut self.state else {
            return None;
        };
        let (before, offered) = (body.len(), input.len());
        let ended = decoder.decode(input, body);
        *size = size.saturating_add(body.len().saturating_sub(before) as u64);
        let too_big = *size > settings.message_bytes_max;
        let fault = decoder.fault();
        if too_big || fault.is_some() {
            body.truncate(before);
            self.swallow(offered.saturating_sub(input.len()), out);
            if matches!(self.state, State::Closed) {
                let reply = fault.map_or(Reply::TOO_BIG, Reply::from);
                return Some(Request::RefuseAndClose(reply));
            }
        }
        if !ended {
            return None;
        }
        let State::Data { transaction, .. } = mem::replace(&mut self.state, State::Closed) else {
            return None;
        };
        match fault {
            Some(fault @ (BodyFault::BareNewline | BodyFault::Nul)) => {
                let reply = Reply::from(fault);
                self.say(&reply, Subject::Message, out);
                Some(Request::RefuseAndClose(reply))
            }
            Some(fault @ BodyFault::LongLine) => {
                let reply = Reply::from(fault);
                self.stay(State::Greeted, &reply, out);
                Some(Request::Refuse(reply))
            }
            None if too_big => {
                self.stay(State::Greeted, &Reply::TOO_BIG, out);
                Some(Request::Refuse(Reply::TOO_BIG))
            }
            None => {
                self.state = State::Waiting(Waiting::Store);
                Some(Request::Store(transaction))
            }
        }
    }

    /// Takes bytes of a chunk; asks to store the message behind the last.
    /// Decides RFC 3030 section 2.
    pub(super) fn chunk(
        &mut self,
        input: &mut &[u8],
        settings: &Settings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<Request> {
        let State::Bdat(chunks) = &mut self.state else {
            return None;
        };
        let remaining = chunks.remaining.unwrap_or(0);
        let take = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let (mut part, rest) = input.split_at_checked(take)?;
        *input = rest;
        let left = remaining.saturating_sub(take as u64);
        chunks.remaining = Some(left);
        if chunks.failed.is_none() {
            let before = body.len();
            chunks.decoder.decode(&mut part, body);
            if left == 0 && chunks.last {
                chunks.decoder.finish(body);
            }
            chunks.size = chunks
                .size
                .saturating_add(body.len().saturating_sub(before) as u64);
            chunks.failed = match chunks.decoder.fault() {
                Some(fault) => Some(Reply::from(fault)),
                None if chunks.size > settings.message_bytes_max => Some(Reply::TOO_BIG),
                None => None,
            };
            if chunks.failed.is_some() {
                body.truncate(before);
            }
        }
        let failed = chunks.failed.clone();
        if let Some(reply) = &failed {
            self.swallow(take, out);
            if matches!(self.state, State::Closed) {
                return Some(Request::RefuseAndClose(reply.clone()));
            }
        }
        if left > 0 {
            return None;
        }
        let State::Bdat(mut chunks) = mem::replace(&mut self.state, State::Closed) else {
            return None;
        };
        chunks.remaining = None;
        match failed {
            // The chunk is known by its length, so that nothing behind it can be smuggled: the session goes on.
            Some(reply) => {
                self.stay(
                    if self.greeting.is_some() {
                        State::Greeted
                    } else {
                        State::Connected
                    },
                    &reply,
                    out,
                );
                Some(Request::Refuse(reply))
            }
            None if chunks.last => {
                self.state = State::Waiting(Waiting::Store);
                Some(Request::Store(chunks.transaction))
            }
            None => {
                self.stay(State::Bdat(chunks), &Reply::CHUNK_OK, out);
                None
            }
        }
    }

    /// Which line ends a body may have: where they are mended, the client has shown at its last command which it knows.
    fn line_ends(&self) -> LineEnds {
        match (self.tolerance, self.last_line_end) {
            (Tolerance::LineEnds, LineEnd::Lf) => LineEnds::Any,
            (Tolerance::LineEnds, LineEnd::CrLf) => LineEnds::Mended,
            (Tolerance::None | Tolerance::Form, _) => LineEnds::Strict,
        }
    }

    /// Answers [`Request::Store`]: the reply says whether the message is on the disk.
    pub fn on_stored(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if matches!(self.state, State::Waiting(Waiting::Store)) {
            if reply.is_positive() {
                self.idle_commands = 0;
            }
            self.stay(State::Greeted, reply, out);
        }
    }
}
