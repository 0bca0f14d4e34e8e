//! The server where people read their mail, for mail programs that configure themselves.

use crate::address::Domain;

/// How mail is read there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IncomingProtocol {
    Imap,
    /// POP3.
    Pop3,
}

/// A server on which mail is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// How.
    pub protocol: IncomingProtocol,
    /// Whether TLS is spoken from the first byte; else after STARTTLS.
    pub is_tls: bool,
    pub host: Domain,
    pub port: u16,
}

impl Incoming {
    /// Reads `imaps://HOST`, `imap://HOST:PORT` and their like of POP3; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (protocol, is_tls, usual) = match scheme {
            "imaps" => (IncomingProtocol::Imap, true, 993),
            "imap" => (IncomingProtocol::Imap, false, 143),
            "pop3s" => (IncomingProtocol::Pop3, true, 995),
            "pop3" => (IncomingProtocol::Pop3, false, 110),
            _ => return None,
        };
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (rest, usual),
        };
        Some(Self {
            protocol,
            is_tls,
            host: Domain::parse(host).ok()?,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_how_and_the_usual_port() {
        let read = |text| {
            let incoming = Incoming::parse(text)?;
            let host = incoming.host.to_string();
            Some((incoming.protocol, incoming.is_tls, host, incoming.port))
        };
        let gmail = || "imap.gmail.com".to_owned();
        assert_eq!(
            read("imaps://imap.gmail.com"),
            Some((IncomingProtocol::Imap, true, gmail(), 993))
        );
        assert_eq!(
            read("imap://imap.gmail.com:1143"),
            Some((IncomingProtocol::Imap, false, gmail(), 1143))
        );
        assert_eq!(
            read("pop3s://imap.gmail.com"),
            Some((IncomingProtocol::Pop3, true, gmail(), 995))
        );
        for wrong in [
            "imap.gmail.com",
            "smtp://a.test",
            "imaps://",
            "imaps://a.test:0",
            "imaps://a.test/x",
            "imaps://a b",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
