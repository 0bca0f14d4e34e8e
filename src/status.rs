//! Enhanced mail system status codes (RFC 3463; registry of RFC 5248).

use std::fmt;
use std::str::FromStr;

/// A status code `class.subject.detail`. Class 2 is success, 4 a persistent transient failure, 5 a permanent one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// The code `class.subject.detail`; use classes 2, 4 and 5 and numbers below 1000 only (RFC 3463 section 2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject < 1000 && detail < 1000);
        Self {
            class,
            subject,
            detail,
        }
    }

    /// The code in its wire form, as our tables write it.
    pub const fn written(text: &str) -> Self {
        let (mut class, mut subject, mut detail) = (0, 0, 0_u16);
        let mut rest = text.as_bytes();
        while let Some((&byte, behind)) = rest.split_first() {
            if byte == b'.' {
                (class, subject, detail) = (subject, detail, 0);
            } else {
                assert!(byte.is_ascii_digit());
                detail = detail
                    .saturating_mul(10)
                    .saturating_add(byte.saturating_sub(b'0') as u16);
            }
            rest = behind;
        }
        assert!(class < 6);
        Self::new(class as u8, subject, detail)
    }

    /// 2, 4 or 5.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// The second number, the subject (RFC 3463 section 2).
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The third number, the detail (RFC 3463 section 2).
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// Whether another attempt may succeed (class 4).
    pub const fn is_transient(self) -> bool {
        self.class == 4
    }

    /// The same subject and detail in class 5, for a transient failure that has lasted too long.
    #[must_use]
    pub const fn as_permanent(self) -> Self {
        Self { class: 5, ..self }
    }

    /// The same subject and detail in class 4, for a permanent failure that may pass.
    #[must_use]
    pub const fn as_transient(self) -> Self {
        Self { class: 4, ..self }
    }

    /// Reads a code from the front of reply text; `None` if there is none. Returns the text behind the code, with one
    /// space removed.
    pub fn split_from(text: &str) -> Option<(Self, &str)> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (code, rest) = text.split_at_checked(end)?;
        let code = code.parse().ok()?;
        Some((code, rest.strip_prefix(' ').unwrap_or(rest)))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The text is not a status code of RFC 3463 section 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadEnhancedCode;

impl FromStr for EnhancedCode {
    type Err = BadEnhancedCode;

    /// Reads `class.subject.detail` and nothing else.
    /// Decides RFC 3463 section 2.
    fn from_str(text: &str) -> Result<Self, BadEnhancedCode> {
        let number = |part: &str| -> Result<u16, BadEnhancedCode> {
            if part.is_empty() || part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit())
            {
                return Err(BadEnhancedCode);
            }
            part.parse().map_err(|_| BadEnhancedCode)
        };
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadEnhancedCode);
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return Err(BadEnhancedCode),
        };
        Ok(Self {
            class,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_code_from_reply_text() {
        let (code, rest) = EnhancedCode::split_from("5.1.1 no such user").expect("a code");
        assert_eq!((code.to_string().as_str(), rest), ("5.1.1", "no such user"));
        assert_eq!(EnhancedCode::split_from("5.1 no"), None);
        assert_eq!(EnhancedCode::split_from("3.1.1 no"), None);
        assert_eq!(EnhancedCode::split_from("5.1.1111 no"), None);
        assert_eq!(EnhancedCode::split_from(""), None);
    }
}
