//! xtext (RFC 3461 section 4), the coding of ENVID, ORCPT and AUTH= values.

/// Decodes xtext; `None` where it is malformed or holds anything but printable ASCII once decoded.
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => {
                let high = upper_hex(bytes.next()?)?;
                let low = upper_hex(bytes.next()?)?;
                high << 4 | low
            }
            b'=' => return None,
            byte => byte,
        };
        // Stricter than RFC 3461 section 4: a control character has no honest use in these values.
        if !(b' '..=b'~').contains(&byte) {
            return None;
        }
        decoded.push(char::from(byte));
    }
    Some(decoded)
}

/// Encodes text as xtext; what is not ASCII is coded byte by byte.
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

fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        for text in ["", "plain", "a+b=c d", "rfc822;Bob+Tag@example.org"] {
            assert_eq!(decode_xtext(&encode_xtext(text)).as_deref(), Some(text));
        }
    }

    #[test]
    fn rejects_malformed_and_control_bytes() {
        for text in ["+", "+4", "+4g", "+0d", "+0D+0A", "a=b", "+00", "\u{e9}"] {
            assert_eq!(decode_xtext(text), None, "{text:?}");
        }
    }
}
