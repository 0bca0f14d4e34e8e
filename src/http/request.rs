//! Incremental parser for the head of a request.
//!
//! Lines must end with CRLF: a lenient parser would read a different request than the proxy in front of it.

use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_FIELDS_MAX, HTTP_HEAD_BYTES_MAX};

/// The method of a request (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpMethod {
    /// The resource.
    Get,
    /// Its header alone.
    Head,
    /// A request with data. Only a few resources accept it ([`Reads::Posts`]), and none reads the data.
    Post,
}

/// The methods that a page accepts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reads {
    /// Requests without a body.
    #[default]
    Gets,
    /// POST too, with a body of at most [`HTTP_BODY_BYTES_MAX`] whose length is given.
    Posts,
}

/// The front of a request: its method and its path. Fields that do not count are dropped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpRequest {
    pub method: HttpMethod,
    /// The path, from the first slash to the query: visible ASCII, as it came.
    pub path: String,
    /// The text after the question mark.
    pub query: Option<String>,
    /// The host, in small letters and without the port. HTTP/1.0 need not name one.
    pub host: Option<String>,
}

/// Why bytes are no request that is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpRefusal {
    /// They are no request.
    Malformed,
    /// A method that is not supported, known or unknown.
    Method,
    /// The head is too long.
    TooLong,
    /// A body, present or announced.
    Body,
    /// Another version than 1.0 and 1.1.
    Version,
}

impl HttpRefusal {
    /// The status code and its phrase (RFC 9110 section 15, RFC 6585 section 5).
    pub const fn status(self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (400, "Bad Request"),
            Self::Method => (405, "Method Not Allowed"),
            Self::TooLong => (431, "Request Header Fields Too Large"),
            Self::Body => (413, "Content Too Large"),
            Self::Version => (505, "HTTP Version Not Supported"),
        }
    }
}

/// Collects a request.
#[derive(Clone, Debug, Default)]
pub struct RequestReader {
    reads: Reads,
    head: Vec<u8>,
    /// A request whose body is being received, and the number of missing bytes.
    posted: Option<(HttpRequest, usize)>,
}

impl RequestReader {
    /// A reader that also accepts bodies, which it skips.
    pub fn with_posts() -> Self {
        Self {
            reads: Reads::Posts,
            ..Self::default()
        }
    }

    /// Takes input; `None` while the head is incomplete. Input after the head is ignored.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<HttpRequest>, HttpRefusal> {
        if self.posted.is_some() {
            return Ok(self.pass_over(bytes.len()));
        }
        let mut all = self.head.len().saturating_add(bytes.len());
        // The end may lie across the old and the new input.
        let from = self.head.len().saturating_sub(END.len());
        let room = HTTP_HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        // Empty lines before a request are passed over (RFC 9112 section 2.2).
        if from == 0 {
            let empty = self.head.chunks(2).take_while(|line| *line == b"\r\n");
            let empty = empty.count().saturating_mul(2);
            self.head.drain(..empty);
            all = all.saturating_sub(empty);
        }
        let behind = self.head.get(from..).unwrap_or(&self.head);
        let found = behind.windows(END.len()).position(|window| window == END);
        match found {
            Some(at) => {
                let end = from.saturating_add(at).min(self.head.len());
                let (request, body) = parse(self.head.get(..end).unwrap_or_default(), self.reads)?;
                let head = end.saturating_add(END.len());
                let behind = all.saturating_sub(head);
                self.posted = Some((request, body));
                Ok(self.pass_over(behind))
            }
            None if self.head.len() >= HTTP_HEAD_BYTES_MAX => Err(HttpRefusal::TooLong),
            None => Ok(None),
        }
    }

    /// This number of bytes of the body has arrived.
    fn pass_over(&mut self, bytes: usize) -> Option<HttpRequest> {
        let (_, left) = self.posted.as_mut()?;
        *left = left.saturating_sub(bytes);
        match left {
            0 => self.posted.take().map(|(request, _)| request),
            _ => None,
        }
    }
}

const END: &[u8] = b"\r\n\r\n";

/// Reads a head without the empty line at its end; with how many bytes follow it.
fn parse(head: &[u8], reads: Reads) -> Result<(HttpRequest, usize), HttpRefusal> {
    let text = std::str::from_utf8(head).map_err(|_| HttpRefusal::Malformed)?;
    let mut lines = text.split("\r\n");
    let (method, target, is_newer) = request_line(lines.next().unwrap_or_default(), reads)?;
    let mut host = None;
    let mut body = None;
    for (count, line) in lines.enumerate() {
        if count >= HTTP_FIELDS_MAX {
            return Err(HttpRefusal::TooLong);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case("host") {
            if host.is_some() {
                return Err(HttpRefusal::Malformed);
            }
            host = Some(host_name(value)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(HttpRefusal::Body);
        } else if name.eq_ignore_ascii_case("content-length") {
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || body.is_some() {
                return Err(HttpRefusal::Malformed);
            }
            let most = match method {
                HttpMethod::Post => HTTP_BODY_BYTES_MAX,
                HttpMethod::Get | HttpMethod::Head => 0,
            };
            let len = value.parse().ok().filter(|len| *len <= most);
            body = Some(len.ok_or(HttpRefusal::Body)?);
        }
    }
    // RFC 9112 section 3.2.
    if is_newer && host.is_none() {
        return Err(HttpRefusal::Malformed);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let request = HttpRequest {
        method,
        path: path.to_owned(),
        query,
        host,
    };
    Ok((request, body.unwrap_or_default()))
}

/// The method, the target, and whether the version is 1.1.
fn request_line(line: &str, reads: Reads) -> Result<(HttpMethod, &str, bool), HttpRefusal> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HttpRefusal::Malformed);
    };
    if !is_token(method) {
        return Err(HttpRefusal::Malformed);
    }
    let is_newer = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        other if other.starts_with("HTTP/") => return Err(HttpRefusal::Version),
        _ => return Err(HttpRefusal::Malformed),
    };
    let method = match method {
        "GET" => HttpMethod::Get,
        "HEAD" => HttpMethod::Head,
        "POST" if reads == Reads::Posts => HttpMethod::Post,
        _ => return Err(HttpRefusal::Method),
    };
    let is_origin_form =
        target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_origin_form || target.contains('#') {
        return Err(HttpRefusal::Malformed);
    }
    Ok((method, target, is_newer))
}

/// The name and the value of a field; a folded line is none (RFC 9112 section 5.2).
fn field(line: &str) -> Result<(&str, &str), HttpRefusal> {
    let (name, value) = line.split_once(':').ok_or(HttpRefusal::Malformed)?;
    let value = value.trim_matches([' ', '\t']);
    let is_clean = |c: char| c == '\t' || !c.is_control();
    if is_token(name) && value.chars().all(is_clean) {
        Ok((name, value))
    } else {
        Err(HttpRefusal::Malformed)
    }
}

/// A host without its port: a name, an address, or an IPv6 address in brackets.
fn host_name(value: &str) -> Result<String, HttpRefusal> {
    let (name, port) = match value.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(HttpRefusal::Malformed)?,
        None => match value.split_once(':') {
            Some((name, _)) => (name, value.get(name.len()..).unwrap_or_default()),
            None => (value, ""),
        },
    };
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let may_stand =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if is_port && name.bytes().all(may_stand) {
        Ok(name.trim_end_matches('.').to_ascii_lowercase())
    } else {
        Err(HttpRefusal::Malformed)
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(may_stand)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<HttpRequest>, HttpRefusal> {
        RequestReader::default().read(text.as_bytes())
    }

    fn get(path: &str, query: Option<&str>, host: Option<&str>) -> HttpRequest {
        HttpRequest {
            method: HttpMethod::Get,
            path: path.into(),
            query: query.map(Into::into),
            host: host.map(Into::into),
        }
    }

    #[test]
    fn a_request_is_read() {
        assert_eq!(
            read("GET /where?q=now HTTP/1.1\r\nHost: www.Example.com\r\n\r\n"),
            Ok(Some(get("/where", Some("q=now"), Some("www.example.com"))))
        );
        assert_eq!(
            read("GET / HTTP/1.0\r\n\r\n"),
            Ok(Some(get("/", None, None)))
        );
        assert_eq!(
            read("\r\n\r\nGET / HTTP/1.1\r\nhost:[::1]:8025\r\n\r\n"),
            Ok(Some(get("/", None, Some("::1"))))
        );
        let head =
            read("HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1:8025\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            head,
            Ok(Some(HttpRequest {
                method: HttpMethod::Head,
                ..get("/metrics", None, Some("127.0.0.1"))
            }))
        );
        assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn what_is_not_answered_is_refused_with_its_status() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HTTP_HEAD_BYTES_MAX));
        let many = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "a: b\r\n".repeat(HTTP_FIELDS_MAX + 1)
        );
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("EHLO a\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
                413,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                413,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                400,
            ),
            (long.as_str(), 431),
            (many.as_str(), 431),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ] {
            let refused = read(text).expect_err(text);
            assert_eq!(refused.status().0, status, "{text:?}");
        }
    }

    #[test]
    fn a_body_is_passed_over_where_it_is_taken() {
        let mut reader = RequestReader::with_posts();
        let head = b"POST /a HTTP/1.1\r\nHost: c\r\nContent-Length: 5\r\n\r\nab";
        assert_eq!(reader.read(head), Ok(None));
        assert_eq!(reader.read(b"c"), Ok(None));
        let request = reader.read(b"de").expect("taken").expect("whole");
        assert_eq!(
            (request.method, request.path.as_str()),
            (HttpMethod::Post, "/a")
        );
        let long = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
        let refused = RequestReader::with_posts().read(long.as_bytes());
        assert_eq!(refused, Err(HttpRefusal::Body));
    }

    proptest! {
        #[test]
        fn no_matter_how_it_is_cut(
            bytes in prop::collection::vec(prop::sample::select(b"GET / HTTP/1.1\r\nHost: a:0\r\n\r\n".to_vec()), 0..80),
            whole in any::<bool>(),
            at in 0_usize..100,
        ) {
            let mut input = b"GET /a?b HTTP/1.1\r\nHost: c\r\n".to_vec();
            if !whole { input.clear(); }
            input.extend_from_slice(&bytes);
            let once = RequestReader::default().read(&input);
            let mut reader = RequestReader::default();
            let (front, behind) = input.split_at(at.min(input.len()));
            let cut = match reader.read(front) {
                Ok(None) => reader.read(behind),
                other => other,
            };
            prop_assert_eq!(once, cut);
        }
    }
}
