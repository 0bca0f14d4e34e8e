//! DATA and BDAT on the server side: receives a body, enforces its limits, and passes it on or discards it.

use std::mem;

use super::state::{Chunk, Incoming, Opening, State, Waiting};
use super::{RefusalSubject, ServerRequest, ServerSettings, Session, Tolerance};
use crate::smtp::data::{Decoder, Framing, LineEnd, LineEnds};
use crate::smtp::reply::Reply;

impl Session {
    /// Answers [`ServerRequest::BeginBody`]: whether there is room for a body.
    pub fn on_body_ready(
        &mut self,
        verdict: Result<(), Reply>,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) {
        self.subject = RefusalSubject::Message;
        let line_ends = self.line_ends();
        let State::Waiting(Waiting::Body(transaction, opening)) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let incoming = |framing| {
            let decoder = Decoder::mending(framing, line_ends, settings.long_lines);
            Box::new(Incoming::new(transaction, decoder))
        };
        match (opening, verdict) {
            (Opening::Data, Ok(())) => {
                Reply::START_BODY.write(out);
                self.state = State::Data(incoming(Framing::Dot));
            }
            (Opening::Data, Err(reply)) => {
                self.stay(State::Greeted, &reply, out);
            }
            (Opening::Bdat(chunk), verdict) => {
                self.state = State::Chunk(Box::new(Chunk {
                    message: verdict.map(|()| incoming(Framing::Counted)),
                    left: chunk.len,
                    last: chunk.last,
                }));
            }
        }
    }

    /// Takes bytes of DATA; after the final dot requests that the message is stored.
    /// Decides RFC 5321 section 4.1.1.4.
    pub(super) fn data(
        &mut self,
        input: &mut &[u8],
        settings: &ServerSettings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        let State::Data(incoming) = &mut self.state else {
            return None;
        };
        let (before, offered) = (body.len(), input.len());
        let is_whole = incoming.take(input, body);
        let refusal = incoming.refusal(settings);
        if let Some(reply) = &refusal {
            body.truncate(before);
            self.swallow(offered.saturating_sub(input.len()), out);
            if matches!(self.state, State::Closed) {
                return Some(ServerRequest::RefuseAndClose(reply.clone()));
            }
        }
        if !is_whole {
            return None;
        }
        let State::Data(incoming) = mem::replace(&mut self.state, State::Closed) else {
            return None;
        };
        match refusal {
            None => {
                self.state = State::Waiting(Waiting::Store);
                Some(ServerRequest::Store(incoming.transaction))
            }
            Some(reply) if incoming.may_smuggle() => {
                self.say(&reply, RefusalSubject::Message, out);
                Some(ServerRequest::RefuseAndClose(reply))
            }
            Some(reply) => {
                self.stay(State::Greeted, &reply, out);
                Some(ServerRequest::Refuse(reply))
            }
        }
    }

    /// Takes bytes of a chunk; after the last chunk requests that the message is stored.
    /// Decides RFC 3030 section 2.
    pub(super) fn chunk(
        &mut self,
        input: &mut &[u8],
        settings: &ServerSettings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        let State::Chunk(chunk) = &mut self.state else {
            return None;
        };
        let len = chunk.take(input, settings, body);
        if let Err(reply) = &chunk.message {
            let reply = reply.clone();
            self.swallow(len, out);
            if matches!(self.state, State::Closed) {
                return Some(ServerRequest::RefuseAndClose(reply));
            }
        }
        match mem::replace(&mut self.state, State::Closed) {
            State::Chunk(chunk) if chunk.left == 0 => self.end_chunk(*chunk, out),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Replies to a complete chunk.
    fn end_chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Option<ServerRequest> {
        match chunk.message {
            // The chunk has a known length, so the client cannot smuggle commands in it: the session continues.
            Err(reply) => {
                let next = match self.greeting {
                    Some(_) => State::Greeted,
                    None => State::Connected,
                };
                self.stay(next, &reply, out);
                Some(ServerRequest::Refuse(reply))
            }
            Ok(incoming) if chunk.last => {
                self.state = State::Waiting(Waiting::Store);
                Some(ServerRequest::Store(incoming.transaction))
            }
            Ok(incoming) => self.stay(State::Bdat(incoming), &Reply::CHUNK_OK, out),
        }
    }

    /// The line ends that a body may have. If bare LF is tolerated, the line end of the client's last command decides.
    fn line_ends(&self) -> LineEnds {
        match (self.tolerance, self.lines.last_end) {
            (Tolerance::LineEnds, LineEnd::Lf) => LineEnds::Any,
            (Tolerance::LineEnds, LineEnd::CrLf) => LineEnds::Mended,
            (Tolerance::None | Tolerance::Form, _) => LineEnds::Strict,
        }
    }

    /// Answers [`ServerRequest::Store`]: the reply says whether the message is on the disk.
    pub fn on_stored(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if matches!(self.state, State::Waiting(Waiting::Store)) {
            if reply.is_positive() {
                self.counts.idle_commands = 0;
            }
            self.stay(State::Greeted, reply, out);
        }
    }
}

impl Chunk {
    /// Consumes input, at most up to the end of the chunk, and returns the number of bytes.
    fn take(&mut self, input: &mut &[u8], settings: &ServerSettings, body: &mut Vec<u8>) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = left.min(input.len());
        let (mut part, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
        *input = rest;
        self.left = self.left.saturating_sub(len as u64);
        if let Ok(incoming) = &mut self.message {
            let before = body.len();
            incoming.take(&mut part, body);
            if self.left == 0 && self.last {
                incoming.finish(body);
            }
            if let Some(reply) = incoming.refusal(settings) {
                body.truncate(before);
                self.message = Err(reply);
            }
        }
        len
    }
}
