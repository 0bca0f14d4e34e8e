//! Trace fields (RFC 5321 section 4.4; protocol names RFC 3848 and RFC 6531 section 3.7.3).
//!
//! Deviation from RFC 5321: the `from` clause is left out for authenticated clients and for local submission, because
//! recipients need not know the address of a user's device.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::limits::DOMAIN_BYTES_MAX;
use crate::mail::header::Header;
use crate::queue_id::QueueId;

/// The content of a Received field.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The sender of the message.
    pub source: ReceivedFrom<'a>,
    pub by: &'a Domain,
    /// Protocol version and cipher suite, in words.
    pub tls: Option<&'a str>,
    pub id: QueueId,
    /// The recipient, if there is only one; more would reveal them to each other.
    pub recipient: Option<&'a Mailbox>,
    /// When it was accepted.
    pub at: Timestamp,
}

/// The sender of a message.
#[derive(Clone, Copy, Debug)]
pub enum ReceivedFrom<'a> {
    /// A client that did not authenticate.
    Peer {
        /// The name in EHLO or HELO.
        hello: &'a [u8],
        /// Its name in the DNS, if that leads back to it.
        name: Option<&'a Domain>,
        address: IpAddr,
        /// How it spoke.
        protocol: WithProtocol,
    },
    /// A client that did.
    Authenticated {
        /// How it spoke.
        protocol: WithProtocol,
    },
    /// A process of this host.
    Local { uid: u32 },
}

/// The protocol of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WithProtocol {
    /// The client said HELO.
    Smtp,
    /// The client said EHLO.
    Esmtp {
        /// Under TLS.
        tls: bool,
        /// After AUTH.
        auth: bool,
        /// With SMTPUTF8 for this message.
        utf8: bool,
    },
}

impl WithProtocol {
    /// The name in the registry of mail transmission types.
    pub const fn as_str(self) -> &'static str {
        let Self::Esmtp { tls, auth, utf8 } = self else {
            return "SMTP";
        };
        match (utf8, tls, auth) {
            (false, false, false) => "ESMTP",
            (false, false, true) => "ESMTPA",
            (false, true, false) => "ESMTPS",
            (false, true, true) => "ESMTPSA",
            (true, false, false) => "UTF8SMTP",
            (true, false, true) => "UTF8SMTPA",
            (true, true, false) => "UTF8SMTPS",
            (true, true, true) => "UTF8SMTPSA",
        }
    }

    const fn is_utf8(self) -> bool {
        matches!(self, Self::Esmtp { utf8: true, .. })
    }
}

impl Received<'_> {
    /// The whole field, folded, with its line end.
    /// Decides RFC 5321 section 4.4.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut field = Folded::new("Received:");
        let protocol = match self.source {
            ReceivedFrom::Peer {
                hello,
                name,
                address,
                protocol,
            } => {
                let (hello, literal) = (sanitised(hello), literal(address));
                field.add(&match name {
                    Some(name) => format!("from {hello} ({name} {literal})"),
                    None => format!("from {hello} ({literal})"),
                });
                Some(protocol)
            }
            ReceivedFrom::Authenticated { protocol } => Some(protocol),
            ReceivedFrom::Local { .. } => None,
        };
        field.add(&format!("by {}", self.by));
        match (self.source, protocol) {
            (ReceivedFrom::Local { uid }, _) => field.add(&format!("(chopar, uid {uid})")),
            (_, Some(protocol)) => field.add(&format!("(chopar) with {}", protocol.as_str())),
            (_, None) => {}
        }
        if let Some(tls) = self.tls {
            field.add(&format!("({})", sanitised(tls.as_bytes())));
        }
        field.add(&format!("id {}", self.id));
        let utf8 = protocol.is_some_and(WithProtocol::is_utf8);
        if let Some(recipient) = self
            .recipient
            .filter(|recipient| utf8 || recipient.as_str().is_ascii())
        {
            field.add(&format!("for <{recipient}>"));
        }
        field.text.push(';');
        field.add(&self.at.rfc5322().to_string());
        field.finish()
    }
}

/// How many hosts a message has passed, by its Received fields.
pub fn received_count(header: &Header) -> usize {
    header.count("Received")
}

/// A field built from clauses, none of which is broken across lines.
struct Folded {
    text: String,
    line_start: usize,
}

impl Folded {
    fn new(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            line_start: 0,
        }
    }

    fn add(&mut self, clause: &str) {
        let column = self.text.len().saturating_sub(self.line_start);
        // One is left for a semicolon, and a tab is counted as eight columns.
        if column.saturating_add(clause.len()) >= LINE_COLUMNS - 2 {
            self.text.push_str("\r\n\t");
            self.line_start = self.text.len().saturating_sub(TAB_COLUMNS);
        } else {
            self.text.push(' ');
        }
        self.text.push_str(clause);
    }

    fn finish(mut self) -> Vec<u8> {
        self.text.push_str("\r\n");
        self.text.into_bytes()
    }
}

/// Peer bytes for a clause or a comment: printable ASCII without special characters.
fn sanitised(bytes: &[u8]) -> String {
    let clean = |&byte: &u8| match byte {
        b'(' | b')' | b'<' | b'>' | b'"' | b'\\' | b';' | b',' => '?',
        b' '..=b'~' => char::from(byte),
        _ => '?',
    };
    let text: String = bytes.iter().take(DOMAIN_BYTES_MAX).map(clean).collect();
    let text = text.trim();
    if text.is_empty() {
        "unknown".to_owned()
    } else {
        text.to_owned()
    }
}

fn literal(address: IpAddr) -> String {
    let mut text = String::from("[");
    // Writing to a String cannot fail.
    let _ = match address.to_canonical() {
        IpAddr::V4(address) => write!(text, "{address}"),
        IpAddr::V6(address) => write!(text, "IPv6:{address}"),
    };
    text.push(']');
    text
}

const LINE_COLUMNS: usize = 78; // RFC 5322 section 2.1.1
const TAB_COLUMNS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const ESMTPS: WithProtocol = WithProtocol::Esmtp {
        tls: true,
        auth: false,
        utf8: false,
    };

    fn field(source: ReceivedFrom<'_>, recipient: Option<&str>) -> String {
        let recipient = recipient.map(|text| Mailbox::parse(text).expect("a mailbox"));
        let bytes = Received {
            source,
            by: &Domain::parse("mx.example.com").expect("a domain"),
            tls: Some("TLSv1.3 TLS13_AES_256_GCM_SHA384"),
            id: QueueId::new(7),
            recipient: recipient.as_ref(),
            at: Timestamp::from_seconds(1_795_527_131),
        }
        .to_bytes();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn tells_who_brought_a_message_from_outside() {
        let source = ReceivedFrom::Peer {
            hello: b"client.example.org",
            name: None,
            address: "2001:db8::1".parse().expect("an address"),
            protocol: ESMTPS,
        };
        assert_eq!(
            field(source, Some("bob@example.com")),
            "Received: from client.example.org ([IPv6:2001:db8::1]) by mx.example.com\r\n\
             \t(chopar) with ESMTPS (TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\
             \tid 0000000000007 for <bob@example.com>;\r\n\
             \tTue, 24 Nov 2026 13:32:11 +0000\r\n"
        );
    }

    #[test]
    fn keeps_the_address_of_an_authenticated_client_to_itself() {
        let protocol = WithProtocol::Esmtp {
            tls: true,
            auth: true,
            utf8: false,
        };
        let text = field(ReceivedFrom::Authenticated { protocol }, None);
        assert!(text.starts_with("Received: by mx.example.com (chopar) with ESMTPSA"));
        assert!(!text.contains("from") && !text.contains("for"));
        let text = field(ReceivedFrom::Local { uid: 1000 }, None);
        assert!(
            text.starts_with("Received: by mx.example.com (chopar, uid 1000)"),
            "{text}"
        );
    }

    #[test]
    fn no_byte_of_a_peer_gets_out_of_its_place() {
        let hello: Vec<u8> = (0..=255).collect();
        for hello in [&hello[..], b"", b"x\r\nEvil: y", b"a (b) <c>; d"] {
            let source = ReceivedFrom::Peer {
                hello,
                name: None,
                address: "::ffff:192.0.2.1".parse().expect("an address"),
                protocol: WithProtocol::Smtp,
            };
            let text = field(source, Some("ü@example.com"));
            let header = Header::parse(text.clone().into_bytes()).expect("a header");
            assert_eq!(header.fields().len(), 1);
            assert_eq!(text.matches(';').count(), 1);
            assert!(text.is_ascii() && text.contains("([192.0.2.1])"), "{text}");
            assert_eq!(received_count(&header), 1);
        }
    }

    #[test]
    fn protocols_have_their_registered_names() {
        let name = |tls, auth, utf8| WithProtocol::Esmtp { tls, auth, utf8 }.as_str();
        assert_eq!(name(false, false, false), "ESMTP");
        assert_eq!(name(true, true, false), "ESMTPSA");
        assert_eq!(name(true, true, true), "UTF8SMTPSA");
        assert_eq!(WithProtocol::Smtp.as_str(), "SMTP");
    }
}
