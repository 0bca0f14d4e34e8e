//! Tools that follow a message through the log lines about it, and tools that wait for a message to an address.
//!
//! The newest lines that name a message are kept, within bounds, so that a tool that asks right after its message was
//! accepted misses nothing. Lines are kept and reported at every log level.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::connections::Connections;
use super::event::ConnId;
use crate::limits::{
    FOLLOWED_LINES_BYTES_MAX, FOLLOWED_LINES_MAX, FOLLOWERS_MAX, PROBED_ADDRESSES_MAX,
};
use crate::queue_id::QueueId;

/// The newest lines about messages, and the tools that follow further ones.
#[derive(Default)]
pub(super) struct Following {
    lines: VecDeque<(QueueId, String)>,
    bytes: usize,
    followers: Vec<(ConnId, Wanted)>,
}

/// The lines that a tool follows.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Wanted {
    Message(QueueId),
    /// Messages to this address, as the client names it, once they are accepted.
    Recipient(String),
    /// Nothing: it makes attempts from these addresses itself.
    Probes(Vec<IpAddr>),
}

impl Wanted {
    fn is(&self, id: QueueId, text: &str) -> bool {
        match self {
            Self::Message(wanted) => *wanted == id,
            // `to` follows `from`, which may be the same address in a message to an echo address.
            Self::Recipient(address) => {
                let recipients = text.split_once(" to=").map_or("", |(_, rest)| rest);
                text.starts_with("event=queued ") && recipients.contains(address)
            }
            Self::Probes(_) => false,
        }
    }
}

impl Following {
    /// Keeps a line that names a message; returns the tools that follow it.
    pub(super) fn keep(&mut self, id: QueueId, text: &str) -> Vec<ConnId> {
        self.bytes = self.bytes.saturating_add(text.len());
        self.lines.push_back((id, text.to_owned()));
        while self.lines.len() > FOLLOWED_LINES_MAX || self.bytes > FOLLOWED_LINES_BYTES_MAX {
            let Some((_, text)) = self.lines.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(text.len());
        }
        let whose = self.followers.iter();
        let whose = whose.filter(|(_, wanted)| wanted.is(id, text));
        whose.map(|(conn, _)| *conn).collect()
    }

    /// Bytes that are kept.
    #[cfg(test)]
    fn kept(&self) -> (usize, usize) {
        (
            self.lines.len(),
            self.lines.iter().map(|(_, text)| text.len()).sum(),
        )
    }
}

impl Following {
    /// Makes a tool follow a message; returns the lines about it so far, or `None` if there is no room for one more.
    pub(super) fn follow(
        &mut self,
        conn: ConnId,
        id: QueueId,
        conns: &Connections,
    ) -> Option<Vec<String>> {
        if !self.admit(conn, Wanted::Message(id), conns) {
            return None;
        }
        let known = self.lines.iter().filter(|(of, _)| *of == id);
        Some(known.map(|(_, text)| text.clone()).collect())
    }

    /// Makes a tool wait for messages to an address; false if there is no room for it.
    pub(super) fn expect_message(
        &mut self,
        conn: ConnId,
        recipient: String,
        conns: &Connections,
    ) -> bool {
        self.admit(conn, Wanted::Recipient(recipient), conns)
    }

    /// Registers the addresses from which a tool makes attempts, until it disconnects; false if there is no room for
    /// it.
    pub(super) fn expect_probes(
        &mut self,
        conn: ConnId,
        addresses: Vec<IpAddr>,
        conns: &Connections,
    ) -> bool {
        addresses.len() <= PROBED_ADDRESSES_MAX
            && self.admit(conn, Wanted::Probes(addresses), conns)
    }

    /// Whether a tool makes attempts from this address.
    pub(super) fn is_probe(&self, client: IpAddr, conns: &Connections) -> bool {
        self.followers.iter().any(|(conn, wanted)| {
            matches!(wanted, Wanted::Probes(addresses) if addresses.contains(&client))
                && conns.is_live(*conn)
        })
    }

    fn admit(&mut self, conn: ConnId, wanted: Wanted, conns: &Connections) -> bool {
        self.followers
            .retain(|(follower, _)| conns.is_live(*follower));
        if self.followers.len() >= FOLLOWERS_MAX {
            return false;
        }
        self.followers.push((conn, wanted));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_kept_and_the_newest_stays() {
        let mut following = Following::default();
        for number in 0..3 * FOLLOWED_LINES_MAX as u64 {
            let text = "x".repeat(if number % 2 == 0 { 2_000 } else { 10 });
            following.keep(QueueId::new(number), &text);
            let (lines, bytes) = following.kept();
            assert!(lines <= FOLLOWED_LINES_MAX && bytes <= FOLLOWED_LINES_BYTES_MAX);
            assert_eq!(following.bytes, bytes);
        }
        let last = following.lines.back().map(|(id, _)| *id);
        assert_eq!(last, Some(QueueId::new(3 * FOLLOWED_LINES_MAX as u64 - 1)));
    }

    #[test]
    fn who_waits_for_an_address_hears_of_messages_that_are_accepted_for_it() {
        let id = QueueId::new(77);
        let wanted = Wanted::Recipient("a+x@example.com".to_owned());
        assert!(wanted.is(
            id,
            "event=queued id=1 to=b@example.net orig_to=a+x@example.com"
        ));
        // Not for messages from it.
        assert!(!wanted.is(
            id,
            "event=queued id=1 from=<a+x@example.com> to=b@example.net rcpts=1"
        ));
        assert!(!wanted.is(id, "event=queued id=1 to=b@example.net"));
        assert!(!wanted.is(id, "event=signed id=1 to=a+x@example.com"));
    }

    #[test]
    fn a_line_tells_which_message_it_is_about_and_a_peer_cannot() {
        use crate::engine::log::{Level, Line};
        let id = QueueId::new(77);
        let of = |line: Line| line.message();
        assert_eq!(
            of(Line::new(Level::Info, "queued").with("id", id)),
            Some(id)
        );
        assert_eq!(
            of(Line::new(Level::Info, "reject").with("helo", format!("x id={id}"))),
            None
        );
        assert_eq!(of(Line::new(Level::Info, "reject").with("helo", "x")), None);
    }
}
