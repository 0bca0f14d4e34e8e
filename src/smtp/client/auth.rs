//! AUTH (RFC 4954) on the client side.

use std::collections::VecDeque;

use super::login::{AuthAt, Exchange, Way, say_base64, ways};
use super::{Session, SessionRefusal, State, TlsPolicy};
use crate::smtp::reply::RemoteReply;

impl Session {
    /// Continues after TLS, or without it: with AUTH if it is required.
    pub(super) fn after_tls(&mut self, out: &mut Vec<u8>) {
        let Some(login) = &self.terms.login else {
            return self.ready();
        };
        // A password is sent only over TLS or to this machine.
        if self.tls != TlsPolicy::Active && !self.terms.private {
            return self.refuse(SessionRefusal::NoTls(None));
        }
        match Exchange::begin(ways(&self.extensions), login, out) {
            Some(exchange) => self.state = State::Auth(exchange),
            None => self.refuse(SessionRefusal::NoAuth),
        }
    }

    /// Takes a reply to AUTH, or to a response of the exchange.
    pub(super) fn on_auth_reply(
        &mut self,
        exchange: Exchange,
        reply: RemoteReply,
        out: &mut Vec<u8>,
    ) {
        let Some(login) = &self.terms.login else {
            return self.refuse(SessionRefusal::Login(reply));
        };
        let at = match (exchange.at, reply.code) {
            (AuthAt::End, 235) => return self.ready(),
            (AuthAt::Plain, 334) => {
                login.say_plain(out);
                AuthAt::End
            }
            (AuthAt::LoginUser, 334) => {
                say_base64(&login.user, out);
                AuthAt::LoginPassword
            }
            (AuthAt::LoginPassword, 334) => {
                say_base64(&login.password, out);
                AuthAt::End
            }
            _ => return self.log_in_otherwise(exchange.ways, reply, out),
        };
        self.state = State::Auth(Exchange { at, ..exchange });
    }

    /// Handles a refusal of AUTH: tries the next mechanism if the refusal may concern only this one.
    fn log_in_otherwise(&mut self, ways: VecDeque<Way>, reply: RemoteReply, out: &mut Vec<u8>) {
        let next = (self.terms.login.as_ref())
            .filter(|_| is_of_the_way(&reply))
            .and_then(|login| Exchange::begin(ways, login, out));
        match next {
            Some(exchange) => {
                self.unheeded = Some(reply);
                self.state = State::Auth(exchange);
            }
            None => self.refuse(SessionRefusal::Login(reply)),
        }
    }
}

/// Whether a refusal of AUTH concerns the mechanism, not the credentials: another mechanism may succeed.
/// Decides RFC 4954 section 6.
fn is_of_the_way(reply: &RemoteReply) -> bool {
    matches!(reply.code, 500..=504 | 534)
}
