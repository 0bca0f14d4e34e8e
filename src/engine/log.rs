//! Log lines: one event each, with fixed keys; bytes of peers are always escaped.
//!
//! A line reads `event=queued id=0000000000001 from=<a@b> rcpts=2`. A value with a space or a quote in it is quoted.
//! There is no method that takes a secret or a message body.

use std::fmt::{self, Display, Write as _};

use crate::address::Mailbox;
use crate::envelope::Recipient;
use crate::escape::{Quoted, is_shown};
use crate::queue_id::QueueId;

/// How urgent a line is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// A failure that an operator must look at.
    Error,
    /// Something was refused or deferred.
    Warning,
    /// Normal operation.
    Info,
    /// Steps on the way.
    Debug,
}

/// A log event under construction: its level, its name and its fields, each escaped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// How urgent it is.
    pub level: Level,
    /// The line without a line end: nothing in it moves a terminal.
    pub text: String,
}

impl Line {
    /// A line about `event`.
    pub fn new(level: Level, event: &str) -> Self {
        Self {
            level,
            text: format!("event={event}"),
        }
    }

    /// Adds `key=value`; the value is escaped and, if necessary, quoted.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        let value = value.to_string();
        let may_stand = |c: char| is_shown(c) && !c.is_whitespace() && !matches!(c, '"' | '\\');
        let plain = !value.is_empty() && value.chars().all(may_stand);
        let written = if plain {
            write!(self.text, " {key}={value}")
        } else {
            write!(self.text, " {key}={}", Quoted(value.as_bytes()))
        };
        debug_assert_eq!(written, Ok(()), "a String takes everything");
        self
    }

    /// Adds the recipient: `to`, and `orig_to` if an alias led there, so that a search for either address finds the
    /// line.
    #[must_use]
    pub fn about(self, recipient: &Named) -> Self {
        self.with("to", &recipient.to)
            .with_some("orig_to", recipient.original.as_ref())
    }

    /// Adds `key=value` if there is a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

impl Line {
    /// The message that the line is about: `id` follows the event directly.
    pub(super) fn message(&self) -> Option<QueueId> {
        let mut words = self.text.split(' ').skip(1);
        words.next()?.strip_prefix("id=")?.parse().ok()
    }
}

/// A recipient as log lines name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    to: Mailbox,
    original: Option<Box<str>>,
}

impl Named {
    /// A recipient of an envelope.
    pub fn of(recipient: &Recipient) -> Self {
        Self {
            to: recipient.mailbox.clone(),
            original: original_address(recipient).map(Box::from),
        }
    }
}

/// The address that the client named, if it differs from the recipient's.
pub fn original_address(recipient: &Recipient) -> Option<&str> {
    let (_, address) = recipient.original.as_deref()?.split_once(';')?;
    (!address.eq_ignore_ascii_case(recipient.mailbox.as_str())).then_some(address)
}

impl Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// The keys and values of a line: `key=value` and `key="quoted value"`, as the log writes them.
pub fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, left) = match behind.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = behind.find(' ').unwrap_or(behind.len());
                let (value, left) = behind.split_at_checked(end).unwrap_or((behind, ""));
                (value.to_owned(), left)
            }
        };
        fields.push((key.to_owned(), value));
        rest = left.trim_start();
    }
    fields
}

/// The text before the closing quote, and the text after it. Escapes of unprintable bytes stay as they are.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at.saturating_add(1)..).unwrap_or_default()),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, c)) => {
                    value.push('\\');
                    value.push(c);
                }
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_bytes_cannot_make_a_second_line_or_key() {
        let line = Line::new(Level::Info, "reject")
            .with("helo", "x\r\nevent=forged \"quoted\"")
            .with("n", 1);
        assert_eq!(
            line.text,
            "event=reject helo=\"x\\r\\nevent=forged \\\"quoted\\\"\" n=1"
        );
    }

    #[test]
    fn words_stay_readable_whatever_their_letters() {
        let line = Line::new(Level::Info, "failed")
            .with("to", "andré@d")
            .with("reply", "550 it's für \u{202e}x");
        assert_eq!(
            line.text,
            "event=failed to=andré@d reply=\"550 it's für \\u{202e}x\""
        );
    }
}
