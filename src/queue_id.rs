//! The name of a queued message.

use std::fmt;
use std::str::FromStr;

/// Names one message from its acceptance to its last recipient; unique within a spool, never reused.
///
/// It is printed as 13 characters of Crockford base 32 without padding surprises: fixed width, sorts by age,
/// safe in file names, log lines and header fields.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QueueId(u64);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const WIDTH: usize = 13; // 65 bits of room for 64

impl QueueId {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number as the journal stores it.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; WIDTH];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            *slot = DIGITS.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        out.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The text is not a queue id: expected 13 characters of `0-9 A-Z` without I, L, O, U.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadQueueId;

impl fmt::Display for BadQueueId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(
            "expected a queue id of 13 letters and digits, as `chopar queue list` prints it",
        )
    }
}

impl std::error::Error for BadQueueId {}

impl FromStr for QueueId {
    type Err = BadQueueId;

    fn from_str(text: &str) -> Result<Self, BadQueueId> {
        if text.len() != WIDTH {
            return Err(BadQueueId);
        }
        let mut number: u64 = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit = DIGITS
                .iter()
                .position(|&digit| digit == byte.to_ascii_uppercase())
                .ok_or(BadQueueId)?;
            if at == 0 && digit > 15 {
                return Err(BadQueueId); // would need a 65th bit
            }
            number = number << 5 | digit as u64;
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for number in [0, 1, 31, 32, 0x0123_4567_89AB_CDEF, u64::MAX] {
            let id = QueueId::new(number);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn later_ids_sort_later_as_text() {
        assert!(QueueId::new(31).to_string() < QueueId::new(32).to_string());
    }

    #[test]
    fn rejects_what_is_no_id() {
        for text in [
            "",
            "0",
            "../../etc/pass",
            "000000000000U",
            "Z000000000000",
            "0000000000000\n",
        ] {
            assert_eq!(text.parse::<QueueId>(), Err(BadQueueId), "{text}");
        }
    }
}
