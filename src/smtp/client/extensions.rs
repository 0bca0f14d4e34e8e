//! What a server's reply to EHLO offers (RFC 5321 section 4.1.1.1).

use crate::smtp::reply::RemoteReply;

/// The extensions that the server offers.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one flag for each extension that a server may announce"
)]
pub(super) struct Extensions {
    pub(super) pipelining: bool,
    pub(super) starttls: bool,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
    pub(super) dsn: bool,
    pub(super) size: Option<u64>,
    pub(super) recipients_max: Option<usize>,
    pub(super) auth_plain: bool,
    pub(super) auth_login: bool,
}

impl Extensions {
    /// Reads the lines behind the first.
    pub(super) fn parse(reply: &RemoteReply) -> Self {
        let mut known = Self::default();
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => known.pipelining = true,
                "STARTTLS" => known.starttls = true,
                "8BITMIME" => known.eight_bit = true,
                "SMTPUTF8" => known.smtputf8 = true,
                "DSN" => known.dsn = true,
                "SIZE" => {
                    known.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0))
                }
                "AUTH" => words.for_each(|word| known.add_mechanism(word)),
                // An old spelling, which is the only one of some servers.
                keyword if keyword.starts_with("AUTH=") => {
                    let first = keyword.get("AUTH=".len()..).unwrap_or_default();
                    known.add_mechanism(first);
                    words.for_each(|word| known.add_mechanism(word));
                }
                "LIMITS" => {
                    for word in words {
                        if let Some(max) = word.to_ascii_uppercase().strip_prefix("RCPTMAX=") {
                            known.recipients_max = max.parse().ok();
                        }
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn add_mechanism(&mut self, name: &str) {
        self.auth_plain |= name.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= name.eq_ignore_ascii_case("LOGIN");
    }
}
