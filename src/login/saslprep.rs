//! SASLprep (RFC 4013), the profile of stringprep (RFC 3454) in which SCRAM compares passwords.
//!
//! RFC 5802 section 2.2 requires SCRAM clients to derive keys from this form, so stored keys must be derived from it
//! too. The later profile OpaqueString (RFC 8265) differs: it refuses a soft hyphen, which SASLprep removes, and keeps
//! ligatures, which SASLprep decomposes.
//!
//! Not supported: the rule about right-to-left text (RFC 3454 section 6) and code points added after Unicode 3.2. A
//! password that a client would refuse for these reasons is accepted here.

use icu_normalizer::ComposingNormalizerBorrowed;
use zeroize::Zeroizing;

/// The prepared form; `None` if the text cannot be a password (RFC 4013 section 2.3).
pub fn saslprep(text: &str) -> Option<Zeroizing<String>> {
    let mapped: Zeroizing<String> = Zeroizing::new(text.chars().filter_map(map).collect());
    let normal = ComposingNormalizerBorrowed::new_nfkc().normalize(&mapped);
    let normal = Zeroizing::new(normal.into_owned());
    let is_taken = !normal.is_empty() && !normal.chars().any(is_prohibited);
    is_taken.then_some(normal)
}

/// Section 2.1: other spaces become a space (table C.1.2), and some characters are removed (table B.1).
const fn map(c: char) -> Option<char> {
    match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Some(' ')
        }
        '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}' | '\u{200c}' | '\u{200d}' => {
            None
        }
        '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => None,
        c => Some(c),
    }
}

/// Section 2.3: tables C.2 to C.9.
fn is_prohibited(c: char) -> bool {
    let point = u32::from(c);
    let is_other = matches!(
        point,
        0x6dd | 0x70f | 0x180e | 0x2028 | 0x2029 | 0x2061..=0x2063 | 0x206a..=0x206f | 0x1_d173..=0x1_d17a
    );
    let is_private = matches!(point, 0xe000..=0xf8ff | 0xf_0000..=0xf_fffd | 0x10_0000..=0x10_fffd);
    let is_no_character = matches!(point, 0xfdd0..=0xfdef) || point & 0xfffe == 0xfffe;
    let is_for_layout = matches!(
        point,
        0x340 | 0x341 | 0x200e | 0x200f | 0x202a..=0x202e | 0x2ff0..=0x2ffb | 0xfff9..=0xfffd
    );
    let is_tag = matches!(point, 0xe_0001 | 0xe_0020..=0xe_007f);
    c.is_control() || is_other || is_private || is_no_character || is_for_layout || is_tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Option<String> {
        saslprep(text).map(|text| text.to_string())
    }

    #[test]
    fn the_examples_of_rfc_4013_section_3() {
        assert_eq!(prepared("I\u{ad}X").as_deref(), Some("IX"));
        assert_eq!(prepared("user").as_deref(), Some("user"));
        assert_eq!(prepared("USER").as_deref(), Some("USER"));
        assert_eq!(prepared("\u{aa}").as_deref(), Some("a"));
        assert_eq!(prepared("\u{2168}").as_deref(), Some("IX"));
        assert_eq!(prepared("\u{7}"), None);
    }

    #[test]
    fn one_password_typed_on_two_systems_is_one() {
        for (one, other) in [
            ("cafe\u{301}", "caf\u{e9}"),
            ("a\u{a0}b", "a b"),
            ("pass\u{ad}word", "password"),
            ("\u{fb01}n", "fin"),
        ] {
            assert_eq!(prepared(one), prepared(other));
        }
        assert_ne!(prepared("Secret"), prepared("secret"));
        for text in ["\u{ad}", "\u{e000}", "a\u{202e}b", "\u{fffe}", "\u{e0041}"] {
            assert_eq!(prepared(text), None, "{text:?}");
        }
    }
}
