//! Outgoing mail.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let fail = |facts: &mut outbound::Facts, at: usize| {
        facts.ways[at].attempts[0].result = Err("no answer".to_owned());
    };
    vec![
        (
            "outbound-v4",
            CheckState::Bad,
            "no host can be reached: mx.example.net: no answer",
            "open outgoing port 25 by IPv4",
            in_outbound(|facts| fail(facts, 0)),
        ),
        (
            "outbound-v6",
            CheckState::Bad,
            "no host can be reached",
            "ip = \"ipv4\"",
            in_outbound(|facts| fail(facts, 1)),
        ),
        (
            "outbound-v4",
            CheckState::Bad,
            "turns 203.0.113.7 away: 554 listed",
            "as the reply says",
            in_outbound(|facts| {
                facts.ways[0].attempts[0].result =
                    Ok(("554 listed".to_owned(), address("203.0.113.7")));
            }),
        ),
        (
            "outbound-v4",
            CheckState::Bad,
            "no route",
            "ip route",
            in_outbound(|facts| facts.ways[0].has_route = false),
        ),
        (
            "outbound-v6",
            CheckState::Skipped,
            "no route",
            "",
            in_outbound(|facts| facts.ways[1].has_route = false),
        ),
        (
            "outbound-v6",
            CheckState::Skipped,
            "says not to use it",
            "",
            in_outbound(|facts| facts.ways[1].is_used = false),
        ),
        (
            "outbound-v4",
            CheckState::Unknown,
            "no host to try",
            "--probe",
            in_outbound(|facts| facts.ways[0].attempts.clear()),
        ),
        (
            "outbound-source",
            CheckState::Bad,
            "leaves from this address",
            "bind4",
            in_outbound(|facts| facts.addresses.retain(IpAddr::is_ipv6)),
        ),
        (
            "outbound-source",
            CheckState::Warning,
            "address translation",
            "chopar send",
            in_outbound(|facts| {
                facts.ways[0].attempts[0].result = Ok(("220 x".to_owned(), address("10.0.0.2")));
            }),
        ),
    ]
}
