//! Repairs of a submitted message (RFC 6409 section 8): adds a missing From, Date or Message-ID.
//!
//! Fields that are present are not changed, even if they are wrong, because the message may be signed already. Fields
//! that must not be sent on (Bcc, a From without an author) are removed before.

use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::entropy::Entropy;
use crate::mail::header::Header;
use crate::queue_id::QueueId;

/// The values for missing fields.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// The author, if known from elsewhere than the header.
    pub author: Option<&'a Mailbox>,
    /// Its name here.
    pub id: QueueId,
    /// The name of this host.
    pub hostname: &'a Domain,
    /// When it arrived.
    pub at: Timestamp,
}

impl Added<'_> {
    /// The fields that `header` lacks, to be put before it; empty if it lacks none.
    /// Decides RFC 6409 section 8.2.
    pub fn missing_fields(&self, header: &Header, entropy: &mut dyn Entropy) -> Vec<u8> {
        let mut fields = String::new();
        if let Some(author) = self.author
            && !header.has("From")
        {
            fields.push_str(&format!("From: {author}\r\n"));
        }
        if !header.has("Date") {
            fields.push_str(&format!("Date: {}\r\n", self.at.rfc5322()));
        }
        if !header.has("Message-ID") {
            fields.push_str(&format!(
                "Message-ID: {}\r\n",
                message_id(self.id, self.hostname, entropy)
            ));
        }
        fields.into_bytes()
    }
}

/// A new message identifier (RFC 5322 section 3.6.4), in its angle brackets.
/// Decides RFC 6409 section 8.3.
pub fn message_id(id: QueueId, hostname: &Domain, entropy: &mut dyn Entropy) -> String {
    format!("<{id}.{:016x}@{hostname}>", entropy.next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn added(header: &str) -> String {
        let added = Added {
            author: Some(&Mailbox::parse("ann@example.com").expect("a mailbox")),
            id: QueueId::new(1),
            hostname: &Domain::parse("mx.example.com").expect("a domain"),
            at: Timestamp::from_seconds(0),
        };
        let header = Header::parse(header.into()).expect("a header");
        let fields = added.missing_fields(&header, &mut SeededEntropy::new(1));
        String::from_utf8(fields).expect("text")
    }

    #[test]
    fn adds_what_is_missing_and_nothing_else() {
        let both = added("From: a@b\r\n");
        assert!(
            both.starts_with("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <0000000000001.")
        );
        assert!(both.ends_with("@mx.example.com>\r\n"));
        assert_eq!(added("DATE: x\r\n").matches("Date").count(), 0);
        assert!(added("Date: x\r\n").starts_with("From: ann@example.com\r\nMessage-ID: "));
        assert_eq!(added("message-id: x\r\ndate:\r\nfrom:a@b\r\n"), "");
    }
}
