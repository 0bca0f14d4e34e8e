//! HTTP/1.1 responses (RFC 9112), limited to what ACME servers send: a status, three fields and a body of bounded size.
//!
//! Not supported: trailers and interim responses (both are skipped), and compression (it is not requested). Invariant:
//! an incomplete message never becomes a response.

use std::fmt;

use crate::limits::{ACME_HEAD_BYTES_MAX, ACME_INTERIM_MAX, ACME_RESPONSE_BYTES_MAX};

/// A response, with the fields that ACME needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AcmeResponse {
    pub status: u16,
    /// `Replay-Nonce` (RFC 8555 section 6.5.1).
    pub nonce: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    pub body: Vec<u8>,
}

/// Whether there will be a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyWanted {
    /// As the head announces it.
    Expected,
    /// Never: the answer to HEAD.
    None,
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// It can.
    MayFollow,
    /// The connection is closed.
    Closed,
}

/// Why bytes are not a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpError {
    /// The status line is malformed.
    StatusLine,
    /// A field is malformed.
    Field,
    HeadTooLong,
    BodyTooLong,
    /// The length of the body cannot be determined.
    Length,
    /// There are too many interim responses.
    Interim,
    /// The connection was closed too early.
    CutShort,
}

impl fmt::Display for HttpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusLine => out.write_str("expected the status line of HTTP/1.1"),
            Self::Field => out.write_str("a header field is malformed"),
            Self::HeadTooLong => write!(out, "the head is longer than {ACME_HEAD_BYTES_MAX} bytes"),
            Self::BodyTooLong => {
                write!(
                    out,
                    "the body is longer than {ACME_RESPONSE_BYTES_MAX} bytes"
                )
            }
            Self::Length => out.write_str("the length of the body is not understood"),
            Self::Interim => write!(
                out,
                "there are more than {ACME_INTERIM_MAX} interim responses"
            ),
            Self::CutShort => {
                out.write_str("the connection was closed before the response was whole")
            }
        }
    }
}

/// How the end of the body is recognized.
enum Length {
    Bytes(usize),
    Chunked,
    UntilClose,
}

/// Parses the input so far; `None` while it is incomplete.
pub fn response(
    bytes: &[u8],
    body: BodyWanted,
    rest: Rest,
) -> Result<Option<AcmeResponse>, HttpError> {
    match whole(bytes, body, rest)? {
        None if rest == Rest::Closed => Err(HttpError::CutShort),
        found => Ok(found),
    }
}

fn whole(
    mut bytes: &[u8],
    body: BodyWanted,
    rest: Rest,
) -> Result<Option<AcmeResponse>, HttpError> {
    for _ in 0..=ACME_INTERIM_MAX {
        let Some((head, behind)) = head(bytes)? else {
            return Ok(None);
        };
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status = status(lines.next().unwrap_or_default())?;
        if !(100..200).contains(&status) {
            return last(status, lines, behind, body, rest);
        }
        // Interim (RFC 9110 section 15.2): the final response follows.
        bytes = behind;
    }
    Err(HttpError::Interim)
}

/// The head of a response, and the rest; `None` before its end.
fn head(bytes: &[u8]) -> Result<Option<(&str, &[u8])>, HttpError> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return match bytes.len() > ACME_HEAD_BYTES_MAX {
            true => Err(HttpError::HeadTooLong),
            false => Ok(None),
        };
    };
    if end > ACME_HEAD_BYTES_MAX {
        return Err(HttpError::HeadTooLong);
    }
    let (head, behind) = bytes
        .split_at_checked(end.saturating_add(4))
        .unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| HttpError::Field)?;
    Ok(Some((head, behind)))
}

/// The response that is none of the interim ones.
fn last<'a>(
    status: u16,
    lines: impl Iterator<Item = &'a str>,
    behind: &[u8],
    body: BodyWanted,
    rest: Rest,
) -> Result<Option<AcmeResponse>, HttpError> {
    let mut response = AcmeResponse {
        status,
        ..AcmeResponse::default()
    };
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(HttpError::Field)?;
        let value = value.trim_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HttpError::Field);
        }
        match name.to_ascii_lowercase().as_str() {
            "replay-nonce" => response.nonce = Some(value.to_owned()),
            "location" => response.location = Some(value.to_owned()),
            "retry-after" => response.retry_after = Some(value.to_owned()),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                length = Some(Length::Chunked);
            }
            "transfer-encoding" => return Err(HttpError::Length),
            // Chunked takes precedence if both are present (RFC 9112 section 6.3).
            "content-length" if !matches!(length, Some(Length::Chunked)) => {
                let len = value.parse().map_err(|_| HttpError::Length)?;
                length = Some(Length::Bytes(len));
            }
            _ => {}
        }
    }
    if body == BodyWanted::None || matches!(status, 204 | 304) {
        return Ok(Some(response));
    }
    let found = match length.unwrap_or(Length::UntilClose) {
        Length::Bytes(len) if len > ACME_RESPONSE_BYTES_MAX => return Err(HttpError::BodyTooLong),
        Length::Bytes(len) => behind.get(..len).map(<[u8]>::to_vec),
        Length::Chunked => chunks(behind)?,
        Length::UntilClose if behind.len() > ACME_RESPONSE_BYTES_MAX => {
            return Err(HttpError::BodyTooLong);
        }
        Length::UntilClose => (rest == Rest::Closed).then(|| behind.to_vec()),
    };
    Ok(found.map(|body| AcmeResponse { body, ..response }))
}

fn status(line: &str) -> Result<u16, HttpError> {
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))
        .ok_or(HttpError::StatusLine)?;
    let code = rest.split(' ').next().unwrap_or_default();
    code.parse()
        .ok()
        .filter(|code| code_is_legal(*code))
        .ok_or(HttpError::StatusLine)
}

fn code_is_legal(code: u16) -> bool {
    (100..600).contains(&code)
}

/// The content of chunks (RFC 9112 section 7.1); `None` before the last.
fn chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
            return match bytes.len() > CHUNK_LINE_BYTES_MAX {
                true => Err(HttpError::Length),
                false => Ok(None),
            };
        };
        let line = bytes.get(..end).unwrap_or_default();
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits)
            .map_err(|_| HttpError::Length)?
            .trim();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let len = usize::from_str_radix(digits, 16).ok().filter(|_| is_number);
        let len = len.ok_or(HttpError::Length)?;
        if body.len().saturating_add(len) > ACME_RESPONSE_BYTES_MAX {
            return Err(HttpError::BodyTooLong);
        }
        bytes = bytes.get(end.saturating_add(2)..).unwrap_or_default();
        if len == 0 {
            // Trailers would follow, which are not needed.
            return Ok(Some(body));
        }
        let Some((chunk, rest)) = bytes.split_at_checked(len) else {
            return Ok(None);
        };
        match rest.get(..2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(HttpError::Length),
            None => return Ok(None),
        }
        body.extend_from_slice(chunk);
        bytes = rest.get(2..).unwrap_or_default();
    }
}

/// A chunk's length with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<AcmeResponse>, HttpError> {
        response(text.as_bytes(), BodyWanted::Expected, Rest::MayFollow)
    }

    #[test]
    fn a_body_of_known_length_and_the_fields_that_count_are_read() {
        let text = "HTTP/1.1 201 Created\r\nLocation: https://a/1\r\nreplay-nonce:  n1 \r\n\
                    Retry-After: 5\r\nContent-Length: 2\r\n\r\n{}";
        let response = read(text).expect("a response").expect("whole");
        assert_eq!((response.status, &*response.body), (201, &b"{}"[..]));
        assert_eq!(response.nonce.as_deref(), Some("n1"));
        assert_eq!(response.location.as_deref(), Some("https://a/1"));
        assert_eq!(response.retry_after.as_deref(), Some("5"));
        assert_eq!(read(&text[..text.len() - 1]), Ok(None));
    }

    #[test]
    fn chunks_are_put_together_and_an_interim_response_is_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let response = read(text).expect("a response").expect("whole");
        assert_eq!(response.body, b"abcde");
    }

    #[test]
    fn interim_responses_without_end_are_an_error() {
        let real = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let interim = |count| "HTTP/1.1 103 \r\n\r\n".repeat(count);
        let few = format!("{}{real}", interim(ACME_INTERIM_MAX));
        assert!(read(&few).is_ok_and(|found| found.is_some()));
        for count in [ACME_INTERIM_MAX + 1, 100_000] {
            let many = format!("{}{real}", interim(count));
            assert_eq!(read(&many), Err(HttpError::Interim));
        }
    }

    #[test]
    fn the_answer_to_head_has_no_body_and_a_close_may_be_an_end() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        let whole = response(text, BodyWanted::None, Rest::MayFollow).expect("a response");
        assert_eq!(whole.expect("whole").body, b"");
        let cut = response(text, BodyWanted::Expected, Rest::Closed);
        assert_eq!(cut, Err(HttpError::CutShort));
        let text = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(
            response(text, BodyWanted::Expected, Rest::MayFollow),
            Ok(None)
        );
        let closed = response(text, BodyWanted::Expected, Rest::Closed).expect("a response");
        assert_eq!(closed.expect("whole").body, b"abc");
    }

    #[test]
    fn what_is_too_long_or_ambiguous_is_refused() {
        let big = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            ACME_RESPONSE_BYTES_MAX + 1
        );
        assert_eq!(read(&big), Err(HttpError::BodyTooLong));
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n";
        assert_eq!(read(chunk), Err(HttpError::BodyTooLong));
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(ACME_HEAD_BYTES_MAX));
        assert_eq!(read(&head), Err(HttpError::HeadTooLong));
        let gzip = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(read(gzip), Err(HttpError::Length));
        assert_eq!(read("SSH-2.0-x\r\n\r\n"), Err(HttpError::StatusLine));
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nno field\r\n\r\n"),
            Err(HttpError::Field)
        );
    }

    proptest! {
        #[test]
        fn a_response_in_pieces_is_the_whole_response(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0usize..400,
            sizes in proptest::collection::vec(1usize..40, 1..12),
        ) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, behind) = rest.split_at((*size).min(rest.len()));
                text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                text.extend_from_slice(chunk);
                text.extend(b"\r\n");
                rest = behind;
            }
            text.extend(b"0\r\n\r\n");
            let whole = response(&text, BodyWanted::Expected, Rest::MayFollow).expect("a response").expect("whole");
            prop_assert_eq!(&whole.body, &body);
            let cut = cut.min(text.len().saturating_sub(5));
            let part = response(&text[..cut], BodyWanted::Expected, Rest::MayFollow);
            prop_assert_eq!(part, Ok(None));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for rest in [Rest::MayFollow, Rest::Closed] {
                drop(response(&bytes, BodyWanted::Expected, rest));
            }
        }
    }
}
