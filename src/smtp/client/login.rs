//! The login for a next hop, and the mechanisms that send it: PLAIN and LOGIN, in the forms that existing servers
//! accept.

use std::collections::VecDeque;

use super::extensions::Extensions;

/// Login and password for a next hop.
#[derive(Clone)]
pub struct ClientLogin {
    pub user: zeroize::Zeroizing<String>,
    pub password: zeroize::Zeroizing<String>,
}

/// A mechanism and its form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// AUTH PLAIN with an initial response.
    PlainAtOnce,
    /// AUTH PLAIN with the response after the server's challenge.
    Plain,
    /// AUTH LOGIN.
    Login,
}

/// An exchange of AUTH under way.
pub(super) struct Exchange {
    /// The response that the next challenge of the server gets.
    pub(super) at: AuthAt,
    /// Mechanisms that have not been tried.
    pub(super) ways: VecDeque<Way>,
}

#[derive(Clone, Copy)]
pub(super) enum AuthAt {
    Plain,
    LoginUser,
    LoginPassword,
    End,
}

impl Exchange {
    /// Begins AUTH with the first mechanism.
    pub(super) fn begin(
        mut ways: VecDeque<Way>,
        login: &ClientLogin,
        out: &mut Vec<u8>,
    ) -> Option<Self> {
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

impl ClientLogin {
    /// The response of PLAIN (RFC 4616).
    pub(super) fn say_plain(&self, out: &mut Vec<u8>) {
        let (user, password) = (self.user.as_str(), self.password.as_str());
        let response = zeroize::Zeroizing::new(format!("\0{user}\0{password}"));
        say_base64(&response, out);
    }
}

/// The mechanisms that a server offers, in the order in which they are tried.
pub(super) fn ways(extensions: &Extensions) -> VecDeque<Way> {
    let ways = [
        (extensions.auth_plain, Way::PlainAtOnce),
        (extensions.auth_plain, Way::Plain),
        (extensions.auth_login, Way::Login),
    ];
    let ways = ways.into_iter().filter_map(|(is, way)| is.then_some(way));
    ways.collect()
}

pub(super) fn say_base64(text: &str, out: &mut Vec<u8>) {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(text.as_bytes());
    out.extend_from_slice(coded.as_bytes());
    out.extend_from_slice(b"\r\n");
}
