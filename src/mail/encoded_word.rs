//! Encoded words (RFC 2047), as far as needed to know whether one could contain an at sign.
//!
//! Mail readers decode encoded words wherever they stand, and some decode them before they look for addresses. A word
//! that cannot be decoded therefore counts as an at sign. For display, a word in an unknown charset stays as it is.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Whether an encoded word of a text could hold an at sign.
pub fn may_hold_at_sign(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"=?") {
        let behind = rest.get(at.saturating_add(2)..).unwrap_or_default();
        let Some((word, after)) = Word::parse(behind) else {
            return true;
        };
        if word.may_hold_at_sign() {
            return true;
        }
        rest = after;
    }
    false
}

/// Text with its encoded words decoded, as far as they are in UTF-8, ASCII or Latin-1.
pub fn decode(text: &str) -> String {
    let mut shown = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut is_behind_word = false;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"=?") {
        let (front, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let found = Word::parse(behind.get(2..).unwrap_or_default());
        let found = found.and_then(|(word, after)| word.shown().map(|text| (text, after)));
        // Section 6.2: the space between two of them is not shown.
        let is_between = is_behind_word && front.iter().all(u8::is_ascii_whitespace);
        is_behind_word = found.is_some();
        if !(is_between && is_behind_word) {
            shown.extend_from_slice(front);
        }
        match found {
            Some((text, after)) => {
                shown.extend(text.into_bytes());
                rest = after;
            }
            None => {
                shown.extend_from_slice(b"=?");
                rest = behind.get(2..).unwrap_or_default();
            }
        }
    }
    shown.extend_from_slice(rest);
    String::from_utf8_lossy(&shown).into_owned()
}

/// `=?charset?encoding?text?=`.
struct Word<'a> {
    charset: &'a [u8],
    encoding: &'a [u8],
    text: &'a [u8],
}

impl<'a> Word<'a> {
    /// Parses a word after its first two characters; returns it and the rest.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (charset, rest) = split_once(text, b"?")?;
        let (encoding, rest) = split_once(rest, b"?")?;
        let (text, rest) = split_once(rest, b"?=")?;
        let word = Self {
            charset,
            encoding,
            text,
        };
        Some((word, rest))
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        match self.encoding {
            b"Q" | b"q" => Some(quoted_printable(self.text)),
            b"B" | b"b" => LENIENT.decode(self.text).ok(),
            _ => None,
        }
    }

    /// The decoded text, if it can be decoded.
    fn shown(&self) -> Option<String> {
        let bytes = match self.encoding {
            b"Q" | b"q" => {
                let spaced = |byte: &u8| if *byte == b'_' { b' ' } else { *byte };
                quoted_printable(&self.text.iter().map(spaced).collect::<Vec<u8>>())
            }
            _ => self.bytes()?,
        };
        let name = self.charset.split(|byte| *byte == b'*').next()?;
        match name.to_ascii_lowercase().as_slice() {
            b"utf-8" | b"utf8" | b"us-ascii" => String::from_utf8(bytes).ok(),
            b"iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
            _ => None,
        }
    }

    fn may_hold_at_sign(&self) -> bool {
        match (self.bytes(), Charset::named(self.charset)) {
            (Some(bytes), Some(charset)) => charset.has_at_sign(&bytes),
            _ => true,
        }
    }
}

/// Where a charset has ASCII.
enum Charset {
    /// A byte below 128 is the ASCII character.
    Plain,
    /// A byte from 129 on begins a pair.
    Pairs,
    /// Pairs of bytes between escape sequences.
    Shifted,
}

impl Charset {
    /// `None` if the charset could encode an at sign in any way.
    fn named(name: &[u8]) -> Option<Self> {
        // RFC 2231 section 5 lets a language follow.
        let name = name.split(|byte| *byte == b'*').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        let starts = |fronts: &[&str]| fronts.iter().any(|one| name.starts_with(one.as_bytes()));
        if starts(PLAIN) {
            Some(Self::Plain)
        } else if starts(PAIRS) {
            Some(Self::Pairs)
        } else if starts(SHIFTED) {
            Some(Self::Shifted)
        } else {
            None
        }
    }

    fn has_at_sign(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Plain => bytes.contains(&b'@'),
            Self::Pairs => {
                let mut bytes = bytes.iter();
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'@' => return true,
                        0x81.. => {
                            let _ = bytes.next();
                        }
                        _ => {}
                    }
                }
                false
            }
            Self::Shifted => {
                let mut in_pairs = false;
                let mut rest = bytes;
                while let Some((byte, after)) = rest.split_first() {
                    match (byte, after.first()) {
                        (0x1B, Some(b'$')) => in_pairs = true,
                        (0x1B, _) => in_pairs = false,
                        (b'@', _) if !in_pairs => return true,
                        _ => {}
                    }
                    // `ESC $ @` is a sequence too.
                    let taken =
                        usize::from(*byte == 0x1B && after.starts_with(b"$@")).saturating_mul(2);
                    rest = after.get(taken..).unwrap_or_default();
                }
                false
            }
        }
    }
}

/// The Q encoding (section 4.2); a character that is not an escape is itself.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = after.split_first_chunk::<2>().filter(|_| *byte == b'=');
        match escaped.and_then(|(digits, behind)| hex(digits).map(|value| (value, behind))) {
            Some((value, behind)) => {
                out.push(value);
                rest = behind;
            }
            None => out.push(*byte),
        }
    }
    out
}

fn hex(digits: &[u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

fn split_once<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|part| part == by)?;
    let (front, rest) = text.split_at_checked(at)?;
    Some((front, rest.get(by.len()..)?))
}

const PLAIN: &[&str] = &[
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "iso-8859-",
    "iso8859",
    "latin",
    "windows-125",
    "cp125",
    "koi8-",
    "windows-874",
    "tis-620",
    "euc-",
];
const PAIRS: &[&str] = &[
    "shift_jis",
    "shift-jis",
    "sjis",
    "windows-31j",
    "cp932",
    "gb2312",
    "gbk",
    "gb18030",
    "cp936",
    "big5",
    "cp950",
    "ks_c_5601",
    "cp949",
];
const SHIFTED: &[&str] = &["iso-2022-jp"];
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_as_a_reader_shows_them() {
        for (text, shown) in [
            ("plain", "plain"),
            ("=?utf-8?Q?f=C3=BCr_dich?=", "für dich"),
            ("=?UTF-8?B?w7w=?= =?iso-8859-1?q?=FC?= x", "üü x"),
            ("a =?koi8-r?B?8NLJ?= b", "a =?koi8-r?B?8NLJ?= b"),
            ("=?utf-8?Q?=FF?= =?", "=?utf-8?Q?=FF?= =?"),
        ] {
            assert_eq!(decode(text), shown);
        }
    }

    #[test]
    fn an_at_sign_is_found_wherever_it_could_be() {
        for text in [
            "x =?utf-8?q?a=40b?= y",
            "=?UTF-8*de?Q?a@b?=",
            "=?utf-8?b?YUBi?=",
            "=?utf-8?q?a?= =?utf-8?B?QA?=",
            "=?shift_jis?q?=83=83@?=",
            "=?iso-2022-jp?q?=1B$B@=2E=1B(B@?=",
            "=?utf-7?q?a+AEA-b?=",
            "=?utf-16?b?AEA=?=",
            "=?utf-8?b?*?=",
            "=?utf-8?x?a?=",
            "=?utf-8?q?a",
            "=?=?utf-8?q?a=40?=",
        ] {
            assert!(may_hold_at_sign(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn names_hold_none() {
        for text in [
            "",
            "a@b = ?",
            "=?utf-8?q?J=C3=BCrgen_=4?=",
            "=?utf-8?B?R3Jvw58=?= =?utf-8?B?R3Jvw58?=",
            "=?shift_jis?q?=83@=83C?=",
            "=?ISO-2022-JP?B?GyRCQEAbKEI=?=",
            "=?iso-2022-jp?q?=1B$@@A=1B(B?=",
            "=?windows-1252?q?B=F6ss?=",
        ] {
            assert!(!may_hold_at_sign(text.as_bytes()), "{text}");
        }
    }
}
