//! Explains the log of one message to a person while it is written.

mod explanation;

use crate::engine::log::fields;

pub use explanation::explain;

/// How a traced delivery ended: delivered, failed, or still open when the command gave up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The server of every recipient has accepted it.
    Delivered,
    /// A server refused it permanently, for at least one recipient.
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
    /// The sentences for a log line; none for a line that does not interest the sender.
    pub fn tell(&mut self, line: &str) -> Vec<String> {
        let entry = Entry(fields(line));
        match entry.value("event") {
            "signed" => self.signed(&entry),
            "unsigned" => vec![format!(
                "not signed: {}; receivers will trust it less",
                entry.value("why")
            )],
            "queued" => {
                self.recipients = entry.value("rcpts").parse().unwrap_or(1);
                vec![format!("queued for {}, on the disk", entry.value("to"))]
            }
            "connect" | "connected" => vec![format!("connected to {}", entry.host())],
            "delivered" => {
                self.delivered = self.delivered.saturating_add(1);
                vec![
                    format!("{} has it, {}", entry.host(), entry.tls()),
                    format!("it replied: {}", entry.value("reply")),
                ]
            }
            "failed" | "expired" => {
                self.failed = self.failed.saturating_add(1);
                entry.failed()
            }
            "deferred" | "next-host" => entry.deferred(),
            "next-hop-paused" | "tls-failed" => entry.with_meaning("not taken"),
            _ => Vec::new(),
        }
    }

    fn signed(&mut self, entry: &Entry) -> Vec<String> {
        let keys = entry.value("keys");
        if keys.is_empty() {
            return Vec::new();
        }
        self.is_signed = true;
        vec![format!("signed by {}", keys.replace(',', " and "))]
    }

    /// Whether chopar has signed it with DKIM.
    pub fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// The end of the delivery; `None` while it continues.
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

/// One line of the log.
struct Entry(Vec<(String, String)>);

impl Entry {
    fn value(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The host that was reached; empty if there was none.
    fn host(&self) -> String {
        match (self.value("host"), self.value("address")) {
            ("", _) => String::new(),
            (host, "") => host.to_owned(),
            (host, address) => {
                let family = match address.contains(':') {
                    true => "IPv6",
                    false => "IPv4",
                };
                format!("{host} ({address}, {family})")
            }
        }
    }

    /// The reply of the host, or the event.
    fn words(&self) -> &str {
        let words = [self.value("reply"), self.value("why"), self.value("cause")];
        let words = words.into_iter().find(|text| !text.is_empty());
        words.unwrap_or("no cause was logged")
    }

    /// How the connection was encrypted.
    fn tls(&self) -> String {
        tls(self.value("tls"))
    }

    fn failed(&self) -> Vec<String> {
        let host = self.host();
        if host.is_empty() {
            return self.with_meaning("given up");
        }
        let told = format!("refused for good by {host}, {}", self.tls());
        self.with_reasons(told)
    }

    fn deferred(&self) -> Vec<String> {
        let host = self.host();
        let mut told = match host.is_empty() {
            true => self.with_meaning("waits"),
            false => self.with_reasons(format!("not taken by {host}, {}", self.tls())),
        };
        told.extend(next_attempt(self.value("next")));
        told
    }

    /// A word or two, the event, and its meaning.
    fn with_meaning(&self, what: &str) -> Vec<String> {
        let mut told = vec![format!("{what}: {}", self.words())];
        told.extend(self.meaning());
        told
    }

    /// A sentence, then the reply of the host or the event, and its meaning.
    fn with_reasons(&self, sentence: String) -> Vec<String> {
        let words = self.words();
        let is_reply = words
            .split(' ')
            .next()
            .is_some_and(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()));
        let reason = match is_reply {
            true => format!("it replied: {words}"),
            false => format!("what happened: {words}"),
        };
        let mut told = vec![sentence, reason];
        told.extend(self.meaning());
        told
    }

    fn meaning(&self) -> Option<String> {
        explain(self.value("status"), self.words()).map(|text| format!("what that means: {text}"))
    }
}

/// The time of the next attempt, if the line has it.
fn next_attempt(next: &str) -> Option<String> {
    (!next.is_empty()).then(|| {
        format!("it is tried again at {next}, and stays in the queue until then: also when you stop watching (Ctrl-C)")
    })
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
