use chopar::auth::results::claims_id;

const ID: &str = "mx.us.example";

/// A value of Authentication-Results. chopar recognizes one in its own name whatever follows, and whatever comment,
/// white space, case or odd character surrounds it.
pub fn claims(data: &[u8]) {
    let is_claimed = |parts: &[&[u8]]| claims_id(&parts.concat(), ID);
    assert!(is_claimed(&[b"mx.us.example;", data]));
    if !data.iter().any(|byte| b"()\\".contains(byte)) {
        assert!(is_claimed(&[b"(", data, b") \"MX.us.example.\" ;"]));
    }
    if data.iter().all(u8::is_ascii_control) {
        assert!(is_claimed(&[data, b"mx.us.example", data, b"; x"]));
    }
    if claims_id(data, ID) {
        assert!(is_claimed(&[b" \r\n\t(c) ", data]));
    }
}
