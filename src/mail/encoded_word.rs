//! Encoded words (RFC 2047), decoded as the most lenient reader would: anywhere in a text, with any white space between
//! them, and behind any name of a charset.
//!
//! This is not for showing: it finds what others could show. ASCII comes out as it is in every charset that is known;
//! what cannot be told without tables comes out as [`OPAQUE`], which is part of no name. A word whose ASCII cannot be
//! told makes the text [`Undecodable`]: in UTF-7, UTF-16 or EBCDIC an at sign may be written with any bytes.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::limits::ENCODED_WORD_BYTES_MAX;

/// A character whose meaning is not known; private to us (U+F8FF).
pub const OPAQUE: char = '\u{F8FF}';

/// A text whose ASCII characters cannot be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undecodable;

/// What a text is once its encoded words are decoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decoded {
    /// The whole text.
    pub text: String,
    /// What stood in encoded words.
    pub words: String,
}

/// Decodes a text; `None` where no encoded word is in it.
pub fn decode(text: &str) -> Result<Option<Decoded>, Undecodable> {
    let mut found: Option<Decoded> = None;
    let mut rest = text;
    let mut front = String::new();
    while let Some(at) = rest.find("=?") {
        let (before, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let Some((word, after)) = Word::at(behind)? else {
            let (kept, after) = behind.split_at_checked(1).unwrap_or((behind, ""));
            front.push_str(before);
            front.push_str(kept);
            rest = after;
            continue;
        };
        front.push_str(before);
        let decoded = found.get_or_insert_default();
        // White space between two words is not part of the text (section 6.2).
        let is_between = !decoded.words.is_empty() && front.trim().is_empty();
        if !is_between {
            decoded.text.push_str(&front);
        }
        front.clear();
        let inside = word.decode()?;
        decoded.text.push_str(&inside);
        decoded.words.push_str(&inside);
        rest = after;
    }
    Ok(found.map(|mut decoded| {
        decoded.text.push_str(&front);
        decoded.text.push_str(rest);
        decoded
    }))
}

/// `=?charset?encoding?text?=`.
struct Word<'a> {
    charset: &'a str,
    is_base64: bool,
    text: &'a str,
}

impl<'a> Word<'a> {
    /// The word at the front, and what follows it.
    fn at(text: &'a str) -> Result<Option<(Self, &'a str)>, Undecodable> {
        let end = text.floor_char_boundary(ENCODED_WORD_BYTES_MAX);
        let near = text.get(..end).unwrap_or(text);
        match Self::find(near) {
            Some((word, len)) => Ok(Some((word, text.get(len..).unwrap_or_default()))),
            // What does not end near by is not looked through again from each place where one could begin.
            None if end < text.len() && Self::begins(near) => Err(Undecodable),
            None => Ok(None),
        }
    }

    /// The word at the front and its length.
    fn find(text: &'a str) -> Option<(Self, usize)> {
        let (charset, encoding, rest) = Self::head(text)?;
        let is_base64 = encoding.trim().eq_ignore_ascii_case("b");
        // Of `=?x?q?=40?=` the text does not end at its front.
        let skipped = usize::from(rest.starts_with('='));
        let len = rest.get(skipped..)?.find("?=")?.checked_add(skipped)?;
        let word = Self {
            charset,
            is_base64,
            text: rest.get(..len)?,
        };
        let front = text.len().checked_sub(rest.len())?;
        Some((word, front.checked_add(len)?.checked_add(2)?))
    }

    fn begins(text: &'a str) -> bool {
        Self::head(text).is_some()
    }

    /// The charset, the encoding and what follows them.
    fn head(text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let rest = text.strip_prefix("=?")?;
        let (charset, rest) = rest.split_once('?')?;
        let (encoding, rest) = rest.split_once('?')?;
        let is_known = matches!(encoding.trim(), "B" | "b" | "Q" | "q");
        is_known.then_some((charset, encoding, rest))
    }

    fn decode(&self) -> Result<String, Undecodable> {
        let charset = Charset::named(self.charset)?;
        let bytes = match self.is_base64 {
            true => base64(self.text)?,
            false => quoted_printable(self.text),
        };
        Ok(charset.decode(&bytes))
    }
}

fn base64(text: &str) -> Result<Vec<u8>, Undecodable> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let bytes: Vec<u8> = text.bytes().filter(|byte| !is_space(byte)).collect();
    // Readers disagree on what follows a padding and on what is no digit.
    LENIENT.decode(bytes).map_err(|_| Undecodable)
}

/// The Q encoding (section 4.2); what is no escape stands for itself.
fn quoted_printable(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.split_first_chunk::<2>()) {
            (b'_', _) => out.push(b' '),
            (b'=', Some((digits, behind))) => match hex(digits) {
                Some(value) => {
                    out.push(value);
                    rest = behind;
                }
                None => out.push(b'='),
            },
            _ => out.push(*byte),
        }
    }
    out
}

fn hex(digits: &[u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

/// Where the ASCII of a charset is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Charset {
    Utf8,
    /// A byte is a character, and one below 128 is ASCII; of ISO 8859-1 the others are known too.
    Single {
        is_latin1: bool,
    },
    /// A byte from 129 on begins a pair.
    Double,
    /// Pairs stand between escape sequences.
    Shifted,
}

impl Charset {
    fn named(name: &str) -> Result<Self, Undecodable> {
        // RFC 2231 section 5 lets a language follow.
        let name = name.split('*').next().unwrap_or_default();
        let alphanumeric = name.chars().filter(char::is_ascii_alphanumeric);
        let name: String = alphanumeric.map(|c| c.to_ascii_lowercase()).collect();
        let starts = |list: &[&str]| list.iter().any(|front| name.starts_with(front));
        if ["utf8", "unicode11utf8", "csutf8"].contains(&name.as_str()) {
            Ok(Self::Utf8)
        } else if [
            "iso88591",
            "latin1",
            "l1",
            "usascii",
            "ascii",
            "ansix341968",
        ]
        .contains(&name.as_str())
        {
            Ok(Self::Single { is_latin1: true })
        } else if starts(&["iso2022jp", "iso2022kr", "iso2022cn"]) {
            Ok(Self::Shifted)
        } else if starts(SINGLE_BYTE) {
            Ok(Self::Single { is_latin1: false })
        } else if starts(DOUBLE_BYTE) {
            Ok(Self::Double)
        } else {
            Err(Undecodable)
        }
    }

    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Single { is_latin1 } => {
                let decode = |byte: &u8| match byte {
                    0..0x80 => char::from(*byte),
                    0xA0.. if is_latin1 => char::from(*byte),
                    _ => OPAQUE,
                };
                bytes.iter().map(decode).collect()
            }
            Self::Double => pairs(bytes),
            Self::Shifted => shifted(bytes),
        }
    }
}

fn pairs(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte < 0x80 {
            out.push(char::from(*byte));
            continue;
        }
        out.push(OPAQUE);
        if !is_name_behind(after) {
            rest = after.get(1..).unwrap_or_default();
        }
    }
    out
}

fn shifted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_pairs = false;
    while let Some((byte, after)) = rest.split_first() {
        match (byte, after) {
            (0x1B, [b'$', b'(' | b')', _, behind @ ..] | [b'$', _, behind @ ..]) => {
                in_pairs = true;
                rest = behind;
                continue;
            }
            (0x1B, [b'(', _, behind @ ..]) => {
                in_pairs = false;
                rest = behind;
                continue;
            }
            (0x0E, _) => in_pairs = true,
            (0x0F, _) => in_pairs = false,
            _ if *byte >= 0x80 || in_pairs && !is_name_behind(rest) => out.push(OPAQUE),
            _ => out.push(char::from(*byte)),
        }
        rest = after;
    }
    out
}

/// Whether an at sign stands in front with a domain behind it. Half of a pair may look like an at sign; where a domain
/// follows, a reader that knows no such pair could show it.
fn is_name_behind(bytes: &[u8]) -> bool {
    let Some((b'@', rest)) = bytes.split_first() else {
        return false;
    };
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let name: Vec<u8> = rest.iter().take_while(is_part).copied().collect();
    let mut labels = name
        .split(|byte| *byte == b'.')
        .filter(|label| !label.is_empty());
    labels.nth(1).is_some()
}

/// Charsets of one byte a character whose lower half is ASCII, by the beginning of their names.
const SINGLE_BYTE: &[&str] = &[
    "iso8859",
    "latin",
    "windows125",
    "cp125",
    "windows874",
    "cp874",
    "koi8",
    "tis620",
    "macintosh",
    "macroman",
    "maccyrillic",
    "macgreek",
    "macturkish",
    "maciceland",
    "maclatin2",
    "xmac",
    "cp437",
    "ibm437",
    "cp850",
    "ibm850",
    "cp852",
    "ibm852",
    "cp866",
    "ibm866",
    "unknown",
    "xunknown",
];
/// Charsets of pairs whose lower half is ASCII.
const DOUBLE_BYTE: &[&str] = &[
    "gb2312",
    "gbk",
    "gb18030",
    "cp936",
    "xgbk",
    "big5",
    "cp950",
    "shiftjis",
    "sjis",
    "xsjis",
    "cp932",
    "ms932",
    "mskanji",
    "windows31j",
    "eucjp",
    "xeucjp",
    "euckr",
    "ksc5601",
    "cp949",
    "uhc",
    "windows949",
];
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        match decode(text) {
            Ok(Some(decoded)) => decoded.text,
            Ok(None) => text.to_owned(),
            Err(Undecodable) => "?".to_owned(),
        }
    }

    #[test]
    fn words_are_decoded_wherever_they_stand() {
        for (encoded, expected) in [
            ("plain", "plain"),
            ("=?utf-8?q?J=C3=BCrgen?= <a@b>", "Jürgen <a@b>"),
            ("=?UTF-8?Q?a=40b?=", "a@b"),
            ("=?utf-8*de?b?YUBi?=", "a@b"),
            ("\"=?us-ascii?q?a?=\"@b", "\"a\"@b"),
            ("x=?us-ascii?q?_?=y", "x y"),
            ("=?utf-8?q?a=40?= \r\n =?utf-8?q?b?= c", "a@b c"),
            ("=?utf-8?q?=40?=", "@"),
            ("=?utf-8?q?x", "=?utf-8?q?x"),
            ("=?=?utf-8?q?x?=", "=?x"),
            ("=?iso-8859-1?q?=FC?=", "ü"),
            ("=?koi8-r?q?=D0=40b?=", "\u{F8FF}@b"),
            ("=?shift_jis?q?=83@=83C?=", "\u{F8FF}\u{F8FF}"),
            ("=?euc-kr?q?a=81=40b.example?=", "a\u{F8FF}@b.example"),
            ("=?iso-2022-jp?q?=1B$B@=2E=1B(B_a?=", "\u{F8FF}\u{F8FF} a"),
            ("=?utf-7?q?a+AEA-b?=", "?"),
            ("=?cp037?q?a?=", "?"),
            ("=?unicode_escape?q?a?=", "?"),
            ("=?utf-8?b?YUBi=YUBi?=", "?"),
            ("=?utf-8?b?*?=", "?"),
        ] {
            assert_eq!(text(encoded), expected, "{encoded}");
        }
        let endless = "=?utf-8?q?x".repeat(ENCODED_WORD_BYTES_MAX);
        assert_eq!(decode(&endless), Err(Undecodable));
    }
}
