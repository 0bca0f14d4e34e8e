//! The names and addresses of the host, and its ports.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    vec![
        (
            "hostname",
            State::Bad,
            "mail.localdomain is not a name",
            "set hostname",
            in_names(|facts| facts.host = name("mail.localdomain")),
        ),
        (
            "hostname",
            State::Bad,
            "mail is not a name",
            "set hostname",
            in_names(|facts| facts.host = name("mail")),
        ),
        (
            "hosts-file",
            State::Warning,
            "to 127.0.1.1",
            "out of the line 127.0.1.1",
            in_names(|facts| facts.in_hosts_file = vec![address("127.0.1.1")]),
        ),
        (
            "ptr-name",
            State::Warning,
            "203-0-113-7.isp.example",
            "(PTR) of 203.0.113.7",
            in_names(|facts| {
                facts.pointers[0].1 = Ok(vec![name("203-0-113-7.isp.example")]);
            }),
        ),
        (
            "ptr-name",
            State::Unknown,
            "no answer",
            "again",
            in_names(|facts| facts.pointers[0].1 = Err("no answer".to_owned())),
        ),
        (
            "ptr-name",
            State::Skipped,
            "no reverse name",
            "",
            in_names(|facts| facts.pointers[0].1 = Ok(Vec::new())),
        ),
        (
            "ipv6-route",
            State::Bad,
            "no route",
            "AAAA 2001:db8::7 out of",
            in_names(|facts| facts.routed_v6 = None),
        ),
        (
            "ipv6-route",
            State::Bad,
            "not in the DNS",
            "ip = \"ipv4\"",
            in_names(|facts| facts.published_v6 = Ok(Vec::new())),
        ),
        (
            "ipv6-route",
            State::Skipped,
            "IPv4 only",
            "",
            in_names(|facts| (facts.published_v6, facts.routed_v6) = (Ok(Vec::new()), None)),
        ),
        (
            "ipv6-route",
            State::Unknown,
            "no answer",
            "again",
            in_names(|facts| facts.published_v6 = Err("no answer".to_owned())),
        ),
        (
            "port-25",
            State::Bad,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(0))),
        ),
        (
            "port-25",
            State::Bad,
            "master holds it",
            "disable --now postfix",
            in_ports(|facts| facts.listeners[0].holder = Some("master".to_owned())),
        ),
        (
            "port-25",
            State::Bad,
            "at an address that others reach",
            "\"0.0.0.0:25\"",
            in_ports(|facts| {
                facts.listeners[0].at = (Ipv4Addr::LOCALHOST, 25).into();
            }),
        ),
        (
            "port-25",
            State::Bad,
            "by IPv6",
            "\"[::]:25\"",
            in_ports(|facts| facts.families = (true, true)),
        ),
        (
            "port-25",
            State::Bad,
            "turned off",
            "set smtp = ",
            in_ports(|facts| facts.ports[0].configured.clear()),
        ),
        (
            "port-25",
            State::Warning,
            "on port 2525 instead",
            "set smtp = ",
            in_ports(|facts| facts.ports[0].configured = vec![2525]),
        ),
        (
            "port-587",
            State::Warning,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(1))),
        ),
        (
            "port-465",
            State::Warning,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(2))),
        ),
    ]
}
