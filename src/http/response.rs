//! Responses. Their header fields forbid loading other resources, caching, framing and content sniffing.

use super::{HttpMethod, HttpRefusal};

/// The type of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentKind {
    /// Words.
    Text,
    /// A page.
    Html,
    /// The style of a page.
    Css,
    /// The program of a page.
    JavaScript,
    /// A picture.
    Svg,
    /// Data for a program.
    Json,
    /// Settings for a mail client.
    Xml,
    /// Binary data for a program.
    Bytes,
    /// Figures for Prometheus, in version 0.0.4 of its text format.
    Metrics,
}

impl ContentKind {
    /// The value of Content-Type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Css => "text/css; charset=utf-8",
            Self::JavaScript => "text/javascript; charset=utf-8",
            Self::Svg => "image/svg+xml",
            Self::Json => "application/json",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Bytes => "application/octet-stream",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A whole response: the status line, the fields and the body, which HEAD leaves out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpResponse {
    status: u16,
    phrase: &'static str,
    kind: ContentKind,
    body: Vec<u8>,
}

impl HttpResponse {
    /// The requested content.
    pub fn ok(kind: ContentKind, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            phrase: "OK",
            kind,
            body: body.into(),
        }
    }

    /// Another status, with a sentence for the reader.
    pub fn other((status, phrase): (u16, &'static str), sentence: &str) -> Self {
        Self {
            status,
            phrase,
            kind: ContentKind::Text,
            body: format!("{sentence}\n").into_bytes(),
        }
    }

    /// There is nothing of that path.
    pub fn not_found() -> Self {
        Self::other((404, "Not Found"), "There is no such page.")
    }

    /// A request that is not answered.
    pub fn refused(refusal: HttpRefusal) -> Self {
        let (status, phrase) = refusal.status();
        Self::other((status, phrase), phrase)
    }

    /// The status code (RFC 9110 section 15).
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The response bytes for a request with this method; a request that could not be read counts as GET.
    pub fn into_bytes(self, method: HttpMethod) -> Vec<u8> {
        let Self {
            status,
            phrase,
            kind,
            body,
        } = self;
        let (media_type, len) = (kind.media_type(), body.len());
        // RFC 9110 section 15.5.6 requires the list of supported methods.
        let allow = if status == 405 {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let mut bytes = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: {media_type}\r\nContent-Length: {len}\r\n{allow}{FIELDS}\r\n"
        )
        .into_bytes();
        if method != HttpMethod::Head {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

const FIELDS: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_has_the_header_of_get_and_no_body() {
        let response = HttpResponse::ok(ContentKind::Json, "{}");
        let got = response.clone().into_bytes(HttpMethod::Get);
        let head = response.into_bytes(HttpMethod::Head);
        assert_eq!(got, [head.as_slice(), b"{}"].concat());
        let text = String::from_utf8(head).expect("text");
        assert!(text.starts_with(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        ));
        assert!(
            text.contains("\r\nConnection: close\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn other_methods_hear_which_there_are() {
        let bytes = HttpResponse::refused(HttpRefusal::Method).into_bytes(HttpMethod::Get);
        let text = String::from_utf8(bytes).expect("text");
        assert!(
            text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
    }
}
