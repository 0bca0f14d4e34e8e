//! Redacts the log for readers of the status page, which every user of this machine may open.
//!
//! Redaction keeps only what is known to identify nobody, rather than removing what is known to: keys of a list, valid
//! host names, and the codes of a reply. From text that the relay wrote for people it removes the local parts of
//! addresses.

use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::engine::log::fields;

/// A log line for the public: only keys that identify nobody, the domains of addresses, the codes of replies.
pub(super) fn public_event(line: &str, bytes_max: usize) -> String {
    let mut shown = String::new();
    for (key, value) in fields(line) {
        let value = match key.as_str() {
            "event" => value,
            "from" | "to" | "orig_to" => domains(&value),
            "host" | "hop" => host_or_here(&value).to_owned(),
            "reply" => codes(&value).unwrap_or_default(),
            key if PLAIN.contains(&key) && value.chars().all(is_plain) => value,
            _ => continue,
        };
        if value.is_empty() {
            continue;
        }
        if !shown.is_empty() {
            shown.push(' ');
            shown.push_str(&key);
            shown.push('=');
        }
        shown.push_str(&value);
    }
    cut(shown, bytes_max)
}

/// A cause for the public: its place, if that is a host; the codes of a reply, or our own words.
pub(super) fn public_cause(cause: &FailureCause, bytes_max: usize) -> String {
    let at = match &cause.at {
        Some(place @ FailurePlace::Host { .. }) => format!("{place}: "),
        // The operator's path, arguments and output are private.
        Some(FailurePlace::Socket(_) | FailurePlace::Program(_)) => {
            return "a program, mailbox or socket of this machine; mailq says more".to_owned();
        }
        None => String::new(),
    };
    let words = match &cause.words {
        QuotedWords::Reply(reply) => {
            codes(reply).unwrap_or_else(|| "a reply without a code".to_owned())
        }
        QuotedWords::Ours(text) => redacted(text, bytes_max),
    };
    cut(format!("{at}{words}"), bytes_max)
}

/// The text with every local part of an address as `…`, cut to `bytes_max` bytes. Local parts that every domain has
/// stay.
pub fn redacted(text: &str, bytes_max: usize) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once('@') {
        let (before, local) = front
            .split_at_checked(local_part(front))
            .unwrap_or((front, ""));
        shown.push_str(before);
        let is_role = ROLES.iter().any(|role| local.eq_ignore_ascii_case(role));
        shown.push_str(if is_role || local.is_empty() {
            local
        } else {
            "…"
        });
        shown.push('@');
        rest = behind;
    }
    shown.push_str(rest);
    cut(shown, bytes_max)
}

/// Where the local part at the end of a text begins: at its opening quote, or after a character that it cannot contain.
fn local_part(front: &str) -> usize {
    for quote in ["\\\"", "\""] {
        if let Some(inner) = front.strip_suffix(quote) {
            return inner.rfind(quote).unwrap_or(0);
        }
    }
    let end = front.char_indices().rev().find(|(_, c)| is_boundary(*c));
    end.map_or(0, |(at, c)| at.saturating_add(c.len_utf8()))
}

/// Whether an unquoted local part cannot go on here.
const fn is_boundary(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '"' | '\''
        )
}

/// The domains of the addresses in a value.
fn domains(value: &str) -> String {
    let each = value.split(',').filter_map(|one| {
        let (_, domain) = one.rsplit_once('@')?;
        let domain = domain.trim_end_matches('>');
        is_host(domain).then(|| format!("…@{domain}"))
    });
    let shown: Vec<String> = each.collect();
    match shown.is_empty() {
        true => "…".to_owned(),
        false => shown.join(","),
    }
}

/// A host as it is; anything else is a target of this machine.
fn host_or_here(value: &str) -> &str {
    if is_host(value) || value.starts_with("route#") {
        value
    } else {
        "here"
    }
}

fn is_host(value: &str) -> bool {
    let value = value.trim_matches(['[', ']']);
    let may_stand = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    !value.is_empty() && value.contains(['.', ':']) && value.chars().all(may_stand)
}

/// The code of a reply, and its enhanced status code if it has one.
fn codes(reply: &str) -> Option<String> {
    let (code, rest) = reply.split_at_checked(3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '-']);
    let enhanced = rest.split(' ').next().unwrap_or_default();
    let is_enhanced = enhanced.starts_with(['2', '4', '5'])
        && enhanced.split('.').count() == 3
        && enhanced
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    Some(match is_enhanced {
        true => format!("{code} {enhanced}"),
        false => code.to_owned(),
    })
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '[' | ']' | ',' | '+' | '#')
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let room = bytes_max.saturating_sub("…".len());
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

/// Keys whose values identify nobody.
const PLAIN: [&str; 24] = [
    "id", "status", "code", "size", "rcpts", "tls", "address", "seconds", "waiting", "messages",
    "segments", "torn", "landlock", "seccomp", "served", "before", "as", "on", "next", "keys",
    "what", "version", "bytes", "count",
];
/// Local parts that identify nobody (RFC 2142, and those of this program).
const ROLES: [&str; 7] = [
    "postmaster",
    "abuse",
    "hostmaster",
    "root",
    "reports",
    "mailer-daemon",
    "*",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::log::{Level, Line};

    #[test]
    fn an_event_says_what_happened_and_to_nobody() {
        let line = |text: &str| public_event(text, 1_000);
        let queued = Line::new(Level::Info, "queued")
            .with("id", "00TRCE7TG0000")
            .with("from", "<ann@a.test>")
            .with("to", "bob+x@b.test,carl@c.test")
            .with("rcpts", 2)
            .with("origin", "uid=0");
        assert_eq!(
            line(&queued.text),
            "queued id=00TRCE7TG0000 from=…@a.test to=…@b.test,…@c.test rcpts=2"
        );
        let failed = Line::new(Level::Warning, "failed")
            .with("to", "\"mary<top,secret;x\"@b.test")
            .with("host", "mx.b.test")
            .with("reply", "550 5.1.1 bob: unknown user <bob@b.test>");
        assert_eq!(
            line(&failed.text),
            "failed to=…@b.test host=mx.b.test reply=550 5.1.1"
        );
        for (text, shown) in [
            (
                "event=deferred host=\"| /opt/x --password=hunter2\" reply=\"451 see /home/ann/Maildir\"",
                "deferred host=here reply=451",
            ),
            ("event=auth user=ann peer=192.0.2.1 result=failed", "auth"),
            (
                "event=queued id=1 to=r1@a.test,r6.xxxxxx",
                "queued id=1 to=…@a.test",
            ),
            ("event=queued id=1 to=r6.xxxxxx", "queued id=1 to=…"),
            (
                "event=listening on=/run/chopar/submit.sock as=submit",
                "listening as=submit",
            ),
            (
                "event=listening on=127.0.0.1:25 as=smtp",
                "listening on=127.0.0.1:25 as=smtp",
            ),
            (
                "event=next-hop-paused hop=/var/mail/ann seconds=65",
                "next-hop-paused hop=here seconds=65",
            ),
        ] {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn a_cause_has_the_host_and_the_codes() {
        let host = FailurePlace::Host {
            name: "mx.b.test".into(),
            address: "192.0.2.1".parse().ok(),
        };
        let reply = |text: &str| QuotedWords::Reply(text.into());
        let shown = |cause: FailureCause| public_cause(&cause, 1_000);
        let greylisted = FailureCause::at(
            host.clone(),
            reply("450 4.2.0 <bob@b.test>: Greylisted for bob"),
        );
        assert_eq!(shown(greylisted), "mx.b.test [192.0.2.1]: 450 4.2.0");
        assert_eq!(
            shown(FailureCause::at(
                host,
                QuotedWords::ours("connection refused")
            )),
            "mx.b.test [192.0.2.1]: connection refused"
        );
        for place in [
            FailurePlace::Program("| /opt/x --password=hunter2".into()),
            FailurePlace::Socket("/run/ann/lmtp".into()),
        ] {
            let text = shown(FailureCause::at(place, reply("451 /home/ann is full")));
            assert!(!text.contains("hunter2") && !text.contains("ann"), "{text}");
        }
        assert_eq!(
            shown(FailureCause::here("no answer about b.test")),
            "no answer about b.test"
        );
    }

    #[test]
    fn words_lose_local_parts_and_keep_those_of_every_domain() {
        for (text, shown) in [
            (
                "550 5.1.1 <bob@b.test>: unknown",
                "550 5.1.1 <…@b.test>: unknown",
            ),
            (
                "to \"john secret\"@b.test, b@c.test",
                "to …@b.test, …@c.test",
            ),
            ("from=\"<\\\"john secret\\\"@b.test>\"", "from=\"<…@b.test>"),
            (
                "alias add postmaster@b.test reports:",
                "alias add postmaster@b.test reports:",
            ),
            ("rua=mailto:ann@b.test", "rua=mailto:…@b.test"),
            ("nobody", "nobody"),
        ] {
            assert_eq!(
                redacted(text, 1_000).trim_end_matches('"'),
                shown.trim_end_matches('"')
            );
        }
        assert_eq!(redacted("a long line", 8), "a lon…");
    }

    proptest! {
        #[test]
        fn no_local_part_is_left(
            local in prop_oneof!["[a-z0-9.+=-]{12,20}", "\"[a-z <>,;:]{12,20}\""],
            front in "[ -~&&[^@\"]]{0,20}",
            behind in "[ -~]{0,20}",
            max in 8_usize..200,
        ) {
            let text = format!("{front} <{local}@x.test> {behind}");
            let shown = redacted(&text, max);
            let inner = local.trim_matches('"');
            prop_assert!(!shown.contains(inner), "{}", shown);
            prop_assert!(shown.len() <= max, "{}", shown);
        }

        #[test]
        fn no_event_names_anybody(local in "[a-z0-9.+-]{12,20}", quoted in "[a-z <>,;:]{12,20}", max in 8_usize..300) {
            let line = Line::new(Level::Info, "queued")
                .with("from", format_args!("<\"{quoted}\"@a.test>"))
                .with("to", format_args!("{local}@b.test,{local}@c.test"))
                .with("user", &local)
                .with("reply", format_args!("550 {local}: unknown"));
            for kept in [line.text.as_str(), line.text.get(..max.min(line.text.len())).unwrap_or_default()] {
                let shown = public_event(kept, max);
                prop_assert!(!shown.contains(&local) && !shown.contains(&quoted), "{}", shown);
            }
        }
    }
}
