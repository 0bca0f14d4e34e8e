//! Server messages, from JSON to types (RFC 8555 section 7.1, RFC 9773). Unknown fields are ignored, missing ones are
//! `None`; an invalid message is an error of the server.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::date::Timestamp;
use crate::limits::{ACME_NAMES_MAX, ACME_TEXT_CHARS_MAX, ACME_URL_BYTES_MAX};

/// The directory (section 7.1.1).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AcmeDirectory {
    /// URL for nonces.
    pub new_nonce: Url,
    pub new_account: Url,
    pub new_order: Url,
    /// URL for revocations.
    pub revoke_cert: Url,
    /// URL of the renewal information (RFC 9773).
    pub renewal_info: Option<Url>,
    /// Requirements of the server.
    #[serde(default)]
    pub meta: Meta,
}

/// Requirements of the server.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// URL of the terms.
    pub terms_of_service: Option<String>,
    /// Whether the server requires external account binding.
    pub external_account_required: bool,
}

/// An https URL without white space or control characters.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Url(String);

impl Url {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The directory of Let's Encrypt.
impl Default for Url {
    fn default() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".to_owned())
    }
}

/// Text that is not an https URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotHttps;

impl std::fmt::Display for NotHttps {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("expected a URL that begins with https://")
    }
}

impl TryFrom<String> for Url {
    type Error = NotHttps;

    fn try_from(text: String) -> Result<Self, NotHttps> {
        let rest = text.strip_prefix("https://").ok_or(NotHttps)?;
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if is_plain && !authority.is_empty() && text.len() <= ACME_URL_BYTES_MAX {
            Ok(Self(text))
        } else {
            Err(NotHttps)
        }
    }
}

/// The state of an order (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// It waits for the client.
    Pending,
    /// All names are authorized.
    Ready,
    /// The server is working on it.
    Processing,
    Valid,
    /// It failed.
    Invalid,
    /// The client deactivated it (authorizations).
    Deactivated,
    Expired,
    /// The server revoked it.
    Revoked,
}

/// An order (section 7.1.3).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct OrderObject {
    pub status: OrderStatus,
    /// The required authorizations.
    #[serde(default)]
    pub authorizations: Vec<Url>,
    /// URL for the certificate request.
    pub finalize: Url,
    pub certificate: Option<Url>,
    /// Why it failed.
    pub error: Option<AcmeProblem>,
}

/// An authorization (section 7.1.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Authorization {
    pub identifier: Identifier,
    pub status: OrderStatus,
    /// The challenge types that the server offers, with their tokens.
    #[serde(default)]
    pub challenges: Vec<OfferedChallenge>,
}

/// A name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Identifier {
    /// The name, without `*.`.
    pub value: String,
}

/// A challenge (section 7.1.5).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct OfferedChallenge {
    /// Its kind, as the server writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// URL for the answer.
    pub url: Url,
    /// The token to present.
    #[serde(default)]
    pub token: String,
    /// Why it failed.
    pub error: Option<AcmeProblem>,
}

/// An account (section 7.1.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct AcmeAccount {
    /// Whether it can be used.
    pub status: OrderStatus,
}

/// An error that the server reports (RFC 7807; section 6.7).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct AcmeProblem {
    /// Its kind: a URN.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Text for people.
    #[serde(default)]
    pub detail: String,
    /// Problems of single names.
    #[serde(default)]
    pub subproblems: Vec<Subproblem>,
}

/// The problem of one name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Subproblem {
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Text for people.
    #[serde(default)]
    pub detail: String,
    pub identifier: Option<Identifier>,
}

impl AcmeProblem {
    /// The kind without the common prefix; `None` if it is not one of ACME's.
    pub fn acme_kind(&self) -> Option<&str> {
        self.kind.strip_prefix("urn:ietf:params:acme:error:")
    }
}

impl std::fmt::Display for AcmeProblem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.acme_kind().unwrap_or(&self.kind);
        let kind = if kind.is_empty() {
            "no cause given"
        } else {
            kind
        };
        write!(out, "{}", plain(kind))?;
        if !self.detail.is_empty() {
            write!(out, ": {}", plain(&self.detail))?;
        }
        for one in self.subproblems.iter().take(SUBPROBLEMS_SHOWN) {
            let name = one.identifier.as_ref().map_or("", |name| &name.value);
            write!(out, "; {}: {}", plain(name), plain(&one.detail))?;
        }
        Ok(())
    }
}

/// Text from a server in a form for the log: on one line, limited in length, without control characters.
pub fn plain(text: &str) -> String {
    let shown = text.chars().take(ACME_TEXT_CHARS_MAX);
    let mut plain: String = shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(ACME_TEXT_CHARS_MAX).is_some() {
        plain.push('…');
    }
    plain
}

/// When to renew (RFC 9773 section 4.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalInfo {
    /// From when on.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// URL of an explanation.
    pub explanation: Option<String>,
}

impl RenewalInfo {
    /// Reads it; a window that ends before it begins is none.
    pub fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Text {
            suggested_window: WindowText,
            #[serde(rename = "explanationURL")]
            explanation_url: Option<String>,
        }
        #[derive(Deserialize)]
        struct WindowText {
            start: String,
            end: String,
        }
        let text: Text = serde_json::from_slice(body).ok()?;
        let start = Timestamp::parse_rfc3339(&text.suggested_window.start)?;
        let end = Timestamp::parse_rfc3339(&text.suggested_window.end)?;
        let explanation = text.explanation_url.as_deref().map(plain);
        (start < end).then_some(Self {
            start,
            end,
            explanation,
        })
    }
}

/// Reads an object, or returns its error.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| plain(&error.to_string()))
}

/// Reads an order, of a size that can be worked with.
pub fn read_order(body: &[u8]) -> Result<OrderObject, String> {
    let order: OrderObject = read(body)?;
    if order.authorizations.len() > ACME_NAMES_MAX {
        return Err(format!("more than {ACME_NAMES_MAX} authorizations"));
    }
    Ok(order)
}

/// How long to wait (RFC 9110 section 10.2.3): seconds, or until a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit exceeds every bound.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    Some(Timestamp::parse_http(text)?.since(now))
}

/// Names that a message lists at most.
const SUBPROBLEMS_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let now = Timestamp::from_seconds(784_111_700);
        let secs = |text| retry_after(text, now).map(|after| after.as_secs());
        assert_eq!(secs("120"), Some(120));
        assert_eq!(secs(" 0 "), Some(0));
        assert_eq!(secs("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(secs("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77));
        assert_eq!(secs("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "it is past");
        for text in ["", "-1", "1.5", "soon", "Sun, 06 Nov 1994 08:49:37 +0100"] {
            assert_eq!(secs(text), None, "{text}");
        }
    }

    #[test]
    fn a_problem_is_shown_on_one_line_and_in_bounds() {
        let problem = AcmeProblem {
            kind: "urn:ietf:params:acme:error:dns".into(),
            detail: format!("bad\r\nX: {}", "y".repeat(10_000)),
            subproblems: Vec::new(),
        };
        let shown = problem.to_string();
        assert!(shown.starts_with("dns: bad  X: yyy"), "{shown}");
        assert!(shown.chars().count() < ACME_TEXT_CHARS_MAX + 20);
    }

    #[test]
    fn only_https_can_be_asked() {
        let is_url = |text: &str| Url::try_from(text.to_owned()).is_ok();
        assert!(is_url("https://ca.example/dir?x=1"));
        for text in [
            "http://ca.example/",
            "https://",
            "https:///x",
            "https://a b/",
            "https://a/\r\nX: y",
            "ca",
        ] {
            assert!(!is_url(text), "{text:?}");
        }
        assert!(!is_url(&format!(
            "https://a/{}",
            "x".repeat(ACME_URL_BYTES_MAX)
        )));
    }

    #[test]
    fn a_window_is_read_and_one_that_is_turned_round_is_none() {
        let info = |start, end| {
            let text = format!(
                "{{\"suggestedWindow\":{{\"start\":\"{start}\",\"end\":\"{end}\"}},\"explanationURL\":\"https://x/y\"}}"
            );
            RenewalInfo::parse(text.as_bytes())
        };
        let window = info("2026-01-02T04:00:00Z", "2026-01-03T04:00:00.5+01:00").expect("a window");
        assert_eq!(window.start.rfc3339().to_string(), "2026-01-02T04:00:00Z");
        assert_eq!(window.end.rfc3339().to_string(), "2026-01-03T03:00:00Z");
        assert_eq!(info("2026-01-03T04:00:00Z", "2026-01-02T04:00:00Z"), None);
        assert_eq!(info("yesterday", "2026-01-02T04:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(read::<AcmeDirectory>(&bytes));
            drop(read_order(&bytes));
            drop(read::<Authorization>(&bytes));
            drop(read::<AcmeProblem>(&bytes));
            drop(RenewalInfo::parse(&bytes));
            let _ = retry_after(&String::from_utf8_lossy(&bytes), Timestamp::default());
        }
    }
}
