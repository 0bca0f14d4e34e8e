//! What the log says of one message, told to a person as it happens.

use crate::engine::log::fields;

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Every recipient's server has it.
    Delivered,
    /// A server refused it for good, for one recipient at least.
    Failed,
}

/// The story of a message so far.
#[derive(Debug, Default)]
pub struct Trace {
    recipients: usize,
    delivered: usize,
    failed: usize,
    is_signed: bool,
}

impl Trace {
    /// What a line of the log adds, in words; nothing for what is of no interest to whoever has sent the message.
    pub fn tell(&mut self, line: &str) -> Vec<String> {
        let fields = fields(line);
        let value = |key: &str| {
            let found = fields.iter().find(|(name, _)| name == key);
            found.map_or("", |(_, value)| value.as_str())
        };
        let host = match (value("host"), value("address")) {
            ("", _) => String::new(),
            (host, "") => host.to_owned(),
            (host, address) => {
                let family = if address.contains(':') {
                    "IPv6"
                } else {
                    "IPv4"
                };
                format!("{host} ({address}, {family})")
            }
        };
        let words = [value("reply"), value("why"), value("cause")];
        let words = words.into_iter().find(|text| !text.is_empty());
        let words = words.unwrap_or("no cause was logged");
        match value("event") {
            // No host was reached.
            "failed" | "expired" if host.is_empty() => {
                self.failed = self.failed.saturating_add(1);
                let mut told = vec![format!("given up: {words}")];
                told.extend(explain(value("status"), words).map(meaning));
                told
            }
            "deferred" | "next-host" if host.is_empty() => {
                let mut told = vec![format!("waits: {words}")];
                told.extend(explain(value("status"), words).map(meaning));
                told.extend(next_attempt(value("next")));
                told
            }
            "signed" if value("keys").is_empty() => Vec::new(),
            "signed" => {
                self.is_signed = true;
                vec![format!("signed by {}", value("keys").replace(',', " and "))]
            }
            "unsigned" => vec![format!(
                "not signed: {}; receivers will trust it less",
                value("why")
            )],
            "queued" => {
                self.recipients = value("rcpts").parse().unwrap_or(1);
                vec![format!("queued for {}, on the disk", value("to"))]
            }
            "connect" | "connected" => vec![format!("connected to {host}")],
            "delivered" => {
                self.delivered = self.delivered.saturating_add(1);
                vec![
                    format!("{host} has it, {}", tls(value("tls"))),
                    format!("it replied: {}", value("reply")),
                ]
            }
            "failed" | "expired" => {
                self.failed = self.failed.saturating_add(1);
                let mut told = vec![format!("refused for good by {host}, {}", tls(value("tls")))];
                told.extend(reasons(value("status"), words));
                told
            }
            "deferred" | "next-host" => {
                let mut told = vec![format!("not taken by {host}, {}", tls(value("tls")))];
                told.extend(reasons(value("status"), words));
                told.extend(next_attempt(value("next")));
                told
            }
            "next-hop-paused" | "tls-failed" => {
                let mut told = vec![format!("not taken: {words}")];
                told.extend(explain(value("status"), words).map(meaning));
                told
            }
            _ => Vec::new(),
        }
    }

    /// Whether a key of ours has signed it.
    pub fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Whether it has ended, and how.
    pub fn end(&self) -> Option<End> {
        let ended = self.delivered.saturating_add(self.failed);
        if self.recipients == 0 || ended < self.recipients {
            return None;
        }
        Some(if self.failed > 0 {
            End::Failed
        } else {
            End::Delivered
        })
    }
}

fn reasons(status: &str, words: &str) -> Vec<String> {
    let is_reply = words
        .split(' ')
        .next()
        .is_some_and(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()));
    let mut told = vec![match is_reply {
        true => format!("it replied: {words}"),
        false => format!("what happened: {words}"),
    }];
    told.extend(explain(status, words).map(meaning));
    told
}

/// When it is tried again, where the line says so.
fn next_attempt(next: &str) -> Option<String> {
    (!next.is_empty()).then(|| {
        format!("it is tried again at {next}, and stays in the queue until then: also when you stop watching (Ctrl-C)")
    })
}

fn meaning(text: &str) -> String {
    format!("what that means: {text}")
}

fn tls(text: &str) -> String {
    match text.split(':').collect::<Vec<&str>>().as_slice() {
        ["none" | ""] => "in clear text: it offers no TLS".to_owned(),
        [version, cipher, "verified"] => {
            format!("over {version} ({cipher}), its certificate is good")
        }
        [version, cipher, ..] => {
            format!("over {version} ({cipher}), its certificate is not verified")
        }
        _ => format!("over {text}"),
    }
}

/// What a reply of a large receiver, or a failure on the way, means, and what to do: nothing where its words say enough.
pub fn explain(status: &str, reply: &str) -> Option<&'static str> {
    let lower = reply.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // Subject and detail of the enhanced status code, whatever its class.
    let is = |code: &str| status.split_once('.').is_some_and(|(_, rest)| rest == code);
    // What the words say goes before the code: many use 5.7.1 for everything.
    let explanations: [(bool, &str); 13] = [
        (
            says(&["greylist", "graylist"]),
            "the receiver does not know this host yet and wants a second attempt: chopar retries",
        ),
        (
            says(&[
                "ptr record",
                "reverse dns",
                "5.7.25",
                "rdns",
                "reverse hostname",
                "no reverse",
            ]),
            "the address of this host has no name that leads back to it (PTR): set it in the panel of the server's provider; \
             `chopar doctor` shows it",
        ),
        (
            says(&[
                "spamhaus",
                "blocklist",
                "blacklist",
                "block list",
                "black list",
                "blocked using",
                "listed",
                "barracuda",
                "s3150",
                "s3140",
                "dnsbl",
                "rbl",
            ]),
            "the address of this host is on a block list, often because of a former owner: `chopar doctor` \
             says which list, and the page of the list says how to be removed",
        ),
        (
            says(&["dmarc", "5.7.40"]),
            "the policy of the domain in From (DMARC) is not met or missing: `chopar dns` shows what to publish",
        ),
        (
            says(&[
                "5.7.26",
                "5.7.27",
                "5.7.30",
                "unauthenticated",
                "spf",
                "dkim",
            ]),
            "neither SPF nor DKIM passes for the domain in From: `chopar dns` shows what is missing, `chopar doctor` tries it",
        ),
        (
            says(&[
                "user unknown",
                "no such user",
                "does not exist",
                "recipient rejected",
                "unknown user",
                "mailbox unavailable",
            ]) || is("1.1"),
            "the address does not exist there: check the spelling",
        ),
        (
            says(&["mailbox full", "over quota", "quota exceeded"]) || is("2.2"),
            "the mailbox is full",
        ),
        (
            is("3.4") || says(&["too large", "size limit", "message size"]),
            "the message is larger than the receiver accepts",
        ),
        (
            says(&[
                "rate limit",
                "unusual rate",
                "too many",
                "5.7.28",
                "4.7.28",
                "throttl",
                "temporarily deferred",
                "reputation",
            ]),
            "the receiver limits mail from an address that it does not know yet: send less for some days, to people who \
             want it; chopar retries deferred mail",
        ),
        (
            says(&["timed out", "no answer", "timeout"]),
            "no connection was made: most providers block outgoing port 25 until they are asked; `chopar doctor` \
             tests this, and chopar-setup(7) says what to write to them",
        ),
        (
            says(&["network is unreachable", "no route"]),
            "this host has no route to that address; with ip = \"ipv4\" in [delivery] of chopar.toml IPv6 is not tried",
        ),
        (
            says(&["connection refused"]),
            "the receiver's host accepts no mail on that port: try again later, or ask its owner",
        ),
        (
            says(&["spam", "content", "policy"]),
            "the receiver considers it spam or against its rules: `chopar doctor` checks for possible causes; a new address needs \
             some days to become known",
        ),
    ];
    explanations
        .iter()
        .find(|(is_it, _)| *is_it)
        .map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::escape::Quoted;

    #[test]
    fn a_delivery_is_told_from_the_signature_to_the_reply() {
        let mut trace = Trace::default();
        let lines = [
            "event=signed id=1 keys=s1.example.com,s2.example.com",
            "event=queued id=1 from=<a@example.com> to=you@gmail.com rcpts=1 size=10 origin=uid=0",
            "event=delivered id=1 to=you@gmail.com host=gmail-smtp-in.l.google.com address=2001:db8::1b \
             tls=TLSv1.3:AES:verified reply=\"250 2.0.0 OK \\\"x\\\"\"",
        ];
        let told: Vec<String> = lines.iter().flat_map(|line| trace.tell(line)).collect();
        assert_eq!(
            told,
            [
                "signed by s1.example.com and s2.example.com",
                "queued for you@gmail.com, on the disk",
                "gmail-smtp-in.l.google.com (2001:db8::1b, IPv6) has it, over TLSv1.3 (AES), its certificate is good",
                "it replied: 250 2.0.0 OK \"x\"",
            ]
        );
        assert_eq!(trace.end(), Some(End::Delivered));
    }

    #[test]
    fn a_failure_of_one_recipient_is_a_failure() {
        let mut trace = Trace::default();
        assert_eq!(trace.end(), None);
        trace.tell("event=queued id=1 rcpts=2");
        trace.tell("event=delivered id=1 host=a address=192.0.2.1 tls=none reply=\"250 ok\"");
        assert_eq!(trace.end(), None);
        let told = trace.tell("event=failed id=1 status=5.1.1 host=a address=192.0.2.1 tls=none reply=\"550 5.1.1 unknown\"");
        assert!(
            told.iter().any(|text| text.contains("check the spelling")),
            "{told:?}"
        );
        assert_eq!(trace.end(), Some(End::Failed));
    }

    #[test]
    fn what_waits_is_told_with_the_time_of_the_next_attempt() {
        let mut trace = Trace::default();
        let told = trace.tell(
            "event=deferred id=1 to=you@gmail.com status=4.4.3 hop=gmail.com next=2026-11-29T22:06:16Z why=\"no answer\"",
        );
        assert_eq!(told[0], "waits: no answer");
        let last = told.last().expect("a line");
        assert!(
            last.contains("tried again at 2026-11-29T22:06:16Z"),
            "{last}"
        );
        assert_eq!(trace.end(), None);
    }

    #[test]
    fn replies_of_large_receivers_are_explained() {
        for (reply, expected) in [
            (
                "550 5.7.26 Your email has been blocked because the sender is unauthenticated.",
                "neither SPF nor DKIM",
            ),
            (
                "550 5.7.25 The IP address sending this message does not have a PTR record",
                "PTR",
            ),
            (
                "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3150).",
                "block list",
            ),
            ("421 4.7.28 unusual rate of unsolicited mail", "some days"),
            (
                "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred",
                "some days",
            ),
            ("the connection timed out", "port 25"),
            ("450 4.2.0 Greylisted", "second attempt"),
        ] {
            let text = explain("", reply).unwrap_or_default();
            assert!(text.contains(expected), "{reply}: {text}");
        }
        assert_eq!(explain("4.3.0", "451 4.3.0 queue file write error"), None);
    }

    proptest! {
        #[test]
        fn what_the_log_quotes_is_read_back(value in "[ -~]{0,60}", other in "[a-z]{1,9}") {
            let line = format!("event=x reply={} to={other}", Quoted(value.as_bytes()));
            let fields = fields(&line);
            let found = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            prop_assert_eq!(found("reply"), Some(value));
            prop_assert_eq!(found("to"), Some(other));
        }

        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,200}") {
            let _ = Trace::default().tell(&line);
        }
    }
}
