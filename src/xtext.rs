//! xtext (RFC 3461 section 4), the coding of ENVID, ORCPT and AUTH= values, and that of addresses of the type utf-8
//! (RFC 6533 section 3).

/// Decodes xtext; `None` if it is malformed, or contains a control character or invalid UTF-8 once decoded. Servers
/// also write UTF-8 in it, and some write lower-case digits.
/// Decides RFC 3461 section 4.
pub fn decode_xtext(text: &str) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => {
                let high = hex(bytes.next()?)?;
                let low = hex(bytes.next()?)?;
                high << 4 | low
            }
            b'=' => return None,
            byte => byte,
        };
        decoded.push(byte);
    }
    // Stricter than RFC 3461 section 4: a control character has no honest use in these values.
    let decoded = String::from_utf8(decoded).ok()?;
    (!decoded.contains(char::is_control)).then_some(decoded)
}

/// Encodes text as xtext; non-ASCII is encoded byte by byte.
pub fn encode_xtext(text: &str) -> String {
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b'!'..=b'~').contains(&byte) && byte != b'+' && byte != b'=' {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("+{byte:02X}"));
        }
    }
    coded
}

/// Writes an address of the type utf-8: unchanged if SMTPUTF8 is in force (utf-8-addr-unitext), otherwise with `\x{…}`
/// in place of non-ASCII (utf-8-addr-xtext). A character that is already written in that way is read as the character.
pub fn encode_utf8_address(address: &str, smtputf8: bool) -> String {
    let mut coded = String::with_capacity(address.len());
    for c in embedded(address) {
        let is_plain = matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\');
        if is_plain || !c.is_ascii() && smtputf8 {
            coded.push(c);
        } else {
            coded.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
        }
    }
    coded
}

/// The characters of an address, including those written as `\x{…}`.
fn embedded(address: &str) -> impl Iterator<Item = char> {
    let mut rest = address;
    std::iter::from_fn(move || {
        let code = rest
            .strip_prefix("\\x{")
            .and_then(|rest| rest.split_once('}'));
        let found = code.and_then(|(code, behind)| {
            let c = u32::from_str_radix(code, 16)
                .ok()
                .and_then(char::from_u32)?;
            Some((c, behind))
        });
        let (c, behind) = found.or_else(|| {
            let c = rest.chars().next()?;
            Some((c, rest.get(c.len_utf8()..)?))
        })?;
        rest = behind;
        Some(c)
    })
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        for text in [
            "",
            "plain",
            "a+b=c d",
            "rfc822;Bob+Tag@example.org",
            "andr\u{e9}@d",
        ] {
            assert_eq!(decode_xtext(&encode_xtext(text)).as_deref(), Some(text));
        }
    }

    #[test]
    fn rejects_malformed_and_control_bytes() {
        for text in [
            "+", "+4", "+4g", "+0d", "+0D+0A", "a=b", "+00", "\u{e9}", "+C3", "+C2+85",
        ] {
            assert_eq!(decode_xtext(text), None, "{text:?}");
        }
    }

    #[test]
    fn small_digits_and_utf_8_are_taken() {
        assert_eq!(decode_xtext("a+2bb@d").as_deref(), Some("a+b@d"));
        assert_eq!(
            decode_xtext("andr+C3+A9@d").as_deref(),
            Some("andr\u{e9}@d")
        );
    }

    #[test]
    fn a_utf_8_address_is_written_as_the_session_allows() {
        for stored in ["\u{f6}rig+a@x", "\\x{F6}rig\\x{2B}a@x"] {
            let raw = encode_utf8_address(stored, true);
            assert_eq!(raw, "\u{f6}rig\\x{2B}a@x");
            let coded = encode_utf8_address(stored, false);
            assert_eq!(coded, "\\x{F6}rig\\x{2B}a@x");
        }
        assert_eq!(
            encode_utf8_address("a\\x{zz}b@x", false),
            "a\\x{5C}x{zz}b@x"
        );
    }
}
