//! AUTH (RFC 4954) on the server side: the framing of the exchange. The session's owner verifies the credentials.

use zeroize::Zeroizing;

use super::state::{State, Waiting};
use super::{AuthStep, Encryption, PortRole, ServerRequest, Session};
use crate::limits::SESSION_AUTH_FAILURES_MAX;
use crate::smtp::reply::Reply;

impl Session {
    /// Begins an exchange, if AUTH is allowed.
    /// Decides RFC 4954 section 4.
    pub(super) fn auth(
        &mut self,
        state: State,
        mechanism: Box<str>,
        initial: Option<Box<str>>,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        if self.role != PortRole::Submission {
            return self.stay(state, &Reply::AUTH_NOT_OFFERED, out);
        }
        if self.encryption != Encryption::Active {
            return self.stay(state, &Reply::AUTH_NEEDS_TLS, out);
        }
        if self.authenticated || !matches!(state, State::Greeted) {
            return self.stay(state, &Reply::AUTH_OUT_OF_ORDER, out);
        }
        if !matches!(mechanism.as_ref(), "PLAIN" | "LOGIN" | "SCRAM-SHA-256") {
            return self.stay(state, &Reply::AUTH_MECHANISM, out);
        }
        let initial = initial.map(|text| Zeroizing::new(String::from(text)));
        let initial = match initial.as_ref().map(|text| text.as_str()) {
            None => None,
            Some("=") => Some(Vec::new()), // RFC 4954 section 4: an empty response
            Some(text) => match decode_base64(text.as_bytes()) {
                Some(bytes) => Some(bytes),
                None => return self.stay(state, &Reply::AUTH_MALFORMED, out),
            },
        };
        self.state = State::Waiting(Waiting::Auth);
        Some(ServerRequest::Authenticate { mechanism, initial })
    }

    /// Takes a response of the client; `*` cancels the exchange.
    /// Decides RFC 4954 section 4.
    pub(super) fn on_auth_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<ServerRequest> {
        if line == b"*" {
            return self.stay(State::Greeted, &Reply::AUTH_CANCELLED, out);
        }
        match decode_base64(line) {
            Some(response) => {
                self.state = State::Waiting(Waiting::Auth);
                Some(ServerRequest::Respond(response))
            }
            None => self.stay(State::Greeted, &Reply::AUTH_MALFORMED, out),
        }
    }

    /// Answers [`ServerRequest::Authenticate`] and [`ServerRequest::Respond`].
    pub fn on_auth(&mut self, step: AuthStep, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Waiting(Waiting::Auth)) {
            return;
        }
        self.state = State::Greeted;
        match step {
            AuthStep::Challenge(challenge) => {
                use base64::Engine as _;
                Reply::challenge(base64::engine::general_purpose::STANDARD.encode(challenge))
                    .write(out);
                self.state = State::Auth;
            }
            AuthStep::Success => {
                self.authenticated = true;
                Reply::AUTHENTICATED.write(out);
            }
            AuthStep::Failure(reply) => {
                self.counts.auth_failures = self.counts.auth_failures.saturating_add(1);
                self.reply(&reply, out);
                if self.counts.auth_failures >= SESSION_AUTH_FAILURES_MAX {
                    self.end(&Reply::TOO_MANY_AUTH_FAILURES, out);
                }
            }
            AuthStep::Refusal(reply) => self.reply(&reply, out),
            AuthStep::End(reply) => self.end(&reply, out),
        }
    }
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
