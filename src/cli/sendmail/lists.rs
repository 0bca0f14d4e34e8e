//! Lists of addresses as people and programs really write them, converted to the form of RFC 5322 section 3.4.

/// The list with commas in place of the semicolons between addresses that users of Outlook write. The semicolon that
/// ends a group stays.
pub(super) fn with_commas(list: &[u8]) -> Vec<u8> {
    let (mut at, mut comments, mut in_group) = (At::Words, 0_usize, false);
    let mut is_escaped = false;
    let mut out = Vec::with_capacity(list.len());
    for &byte in list {
        let mut written = byte;
        match (at, byte) {
            _ if is_escaped => is_escaped = false,
            (At::Quotes, b'\\') => is_escaped = true,
            (At::Words | At::Angle, b'\\') if comments > 0 => is_escaped = true,
            (At::Quotes, b'"') => at = At::Words,
            (At::Quotes, _) => {}
            (_, b'(') => comments = comments.saturating_add(1),
            (_, b')') => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            (At::Words, b'"') => at = At::Quotes,
            (At::Words, b'<') => at = At::Angle,
            (At::Words, b'[') => at = At::Literal,
            (At::Angle, b'>') | (At::Literal, b']') => at = At::Words,
            (At::Words, b':') => in_group = true,
            (At::Words, b';') if in_group => in_group = false,
            (At::Words, b';') => written = b',',
            _ => {}
        }
        out.push(written);
    }
    out
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Words,
    Quotes,
    Angle,
    Literal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_between_addresses_separate_them() {
        for (list, made) in [
            ("a@x; b@y", "a@x, b@y"),
            ("a@x;b@y;", "a@x,b@y,"),
            ("Team: a@x, b@y;, c@z", "Team: a@x, b@y;, c@z"),
            ("Team: a@x; b@y; c@z", "Team: a@x; b@y, c@z"),
            ("\"a;b\" <c@x>; d@y", "\"a;b\" <c@x>, d@y"),
            ("\"a\\\";b\" <c@x>", "\"a\\\";b\" <c@x>"),
            ("a@x (b; c); d@y", "a@x (b; c), d@y"),
            ("a@[IPv6:::1]; b@y", "a@[IPv6:::1], b@y"),
            ("<@a:b@c>; d@e", "<@a:b@c>, d@e"),
        ] {
            let found = with_commas(list.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), made, "{list}");
        }
    }
}
