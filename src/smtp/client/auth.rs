//! AUTH (RFC 4954) on the client's side: PLAIN and LOGIN, in the ways that servers are known to take.

use std::collections::VecDeque;

use super::extensions::Extensions;
use super::{Refusal, Session, State, Tls};
use crate::smtp::reply::RemoteReply;

/// Login and password for a next hop.
#[derive(Clone)]
pub struct Login {
    /// The login.
    pub user: zeroize::Zeroizing<String>,
    /// The password.
    pub password: zeroize::Zeroizing<String>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// AUTH PLAIN with an initial response.
    PlainAtOnce,
    /// The same, with the response when it is asked for.
    Plain,
    /// AUTH LOGIN.
    Login,
}

/// An exchange of AUTH under way.
pub(super) struct Exchange {
    /// What is sent when the server asks for more.
    at: AuthAt,
    /// Ways to log in that have not been tried.
    ways: VecDeque<Way>,
}

#[derive(Clone, Copy)]
enum AuthAt {
    Plain,
    LoginUser,
    LoginPassword,
    End,
}

impl Session {
    /// TLS is on or done without: on to AUTH, where it is owed.
    pub(super) fn after_tls(&mut self, out: &mut Vec<u8>) {
        let Some(login) = &self.terms.login else {
            return self.ready();
        };
        // A password goes over TLS, or to this machine, or not at all.
        if self.tls != Tls::Active && !self.terms.private {
            return self.refuse(Refusal::NoTls(None));
        }
        match Exchange::begin(ways(&self.extensions), login, out) {
            Some(exchange) => self.state = State::Auth(exchange),
            None => self.refuse(Refusal::NoAuth),
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
            return self.refuse(Refusal::Login(reply));
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

    /// AUTH was refused: tries the next way, where the refusal may be of the last.
    fn log_in_otherwise(&mut self, ways: VecDeque<Way>, reply: RemoteReply, out: &mut Vec<u8>) {
        let next = (self.terms.login.as_ref())
            .filter(|_| is_of_the_way(&reply))
            .and_then(|login| Exchange::begin(ways, login, out));
        match next {
            Some(exchange) => {
                self.unheeded = Some(reply);
                self.state = State::Auth(exchange);
            }
            None => self.refuse(Refusal::Login(reply)),
        }
    }
}

impl Exchange {
    /// Begins to log in by the first way.
    fn begin(mut ways: VecDeque<Way>, login: &Login, out: &mut Vec<u8>) -> Option<Self> {
        let way = ways.pop_front()?;
        let (command, at) = match way {
            Way::PlainAtOnce => ("AUTH PLAIN ", AuthAt::End),
            Way::Plain => ("AUTH PLAIN\r\n", AuthAt::Plain),
            Way::Login => ("AUTH LOGIN\r\n", AuthAt::LoginUser),
        };
        out.extend_from_slice(command.as_bytes());
        if way == Way::PlainAtOnce {
            login.say_plain(out);
        }
        Some(Self { at, ways })
    }
}

impl Login {
    /// The response of PLAIN (RFC 4616).
    fn say_plain(&self, out: &mut Vec<u8>) {
        let (user, password) = (self.user.as_str(), self.password.as_str());
        let response = zeroize::Zeroizing::new(format!("\0{user}\0{password}"));
        say_base64(&response, out);
    }
}

/// The ways to log in that a server offers, in the order in which they are tried.
fn ways(extensions: &Extensions) -> VecDeque<Way> {
    let ways = [
        (extensions.auth_plain, Way::PlainAtOnce),
        (extensions.auth_plain, Way::Plain),
        (extensions.auth_login, Way::Login),
    ];
    let ways = ways.into_iter().filter_map(|(is, way)| is.then_some(way));
    ways.collect()
}

fn say_base64(text: &str, out: &mut Vec<u8>) {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(text.as_bytes());
    out.extend_from_slice(coded.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether a refusal of AUTH is of how it was said, not of who said it: another way may do.
/// Decides RFC 4954 section 6.
fn is_of_the_way(reply: &RemoteReply) -> bool {
    matches!(reply.code, 500..=504 | 534)
}
