//! The names and addresses of the host, and its ports.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    vec![
        (
            "hostname",
            CheckState::Bad,
            "mail.localdomain is not a name",
            "set hostname",
            in_names(|facts| facts.host = name("mail.localdomain")),
        ),
        (
            "hostname",
            CheckState::Bad,
            "mail is not a name",
            "set hostname",
            in_names(|facts| facts.host = name("mail")),
        ),
        (
            "hosts-file",
            CheckState::Warning,
            "to 127.0.1.1",
            "out of the line 127.0.1.1",
            in_names(|facts| facts.in_hosts_file = vec![address("127.0.1.1")]),
        ),
        (
            "ptr-name",
            CheckState::Warning,
            "203-0-113-7.isp.example",
            "(PTR) of 203.0.113.7",
            in_names(|facts| {
                facts.pointers[0].1 = Ok(vec![name("203-0-113-7.isp.example")]);
            }),
        ),
        (
            "ptr-name",
            CheckState::Unknown,
            "no answer",
            "again",
            in_names(|facts| facts.pointers[0].1 = Err("no answer".to_owned())),
        ),
        (
            "ptr-name",
            CheckState::Skipped,
            "no reverse name",
            "",
            in_names(|facts| facts.pointers[0].1 = Ok(Vec::new())),
        ),
        (
            "ipv6-route",
            CheckState::Bad,
            "no route",
            "AAAA 2001:db8::7 out of",
            in_names(|facts| facts.routed_v6 = None),
        ),
        (
            "ipv6-route",
            CheckState::Bad,
            "not in the DNS",
            "ip = \"ipv4\"",
            in_names(|facts| facts.published_v6 = Ok(Vec::new())),
        ),
        (
            "ipv6-route",
            CheckState::Skipped,
            "IPv4 only",
            "",
            in_names(|facts| (facts.published_v6, facts.routed_v6) = (Ok(Vec::new()), None)),
        ),
        (
            "ipv6-route",
            CheckState::Unknown,
            "no answer",
            "again",
            in_names(|facts| facts.published_v6 = Err("no answer".to_owned())),
        ),
        (
            "port-25",
            CheckState::Bad,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(0))),
        ),
        (
            "port-25",
            CheckState::Bad,
            "master uses it",
            "disable --now postfix",
            in_ports(|facts| facts.listeners[0].holder = Some("master".to_owned())),
        ),
        (
            "port-25",
            CheckState::Bad,
            "at an address that others reach",
            "\"0.0.0.0:25\"",
            in_ports(|facts| {
                facts.listeners[0].at = (Ipv4Addr::LOCALHOST, 25).into();
            }),
        ),
        (
            "port-25",
            CheckState::Bad,
            "by IPv6",
            "\"[::]:25\"",
            in_ports(|facts| facts.families = (true, true)),
        ),
        (
            "port-25",
            CheckState::Bad,
            "turned off",
            "set smtp = ",
            in_ports(|facts| facts.ports[0].configured.clear()),
        ),
        (
            "port-25",
            CheckState::Warning,
            "on port 2525 instead",
            "set smtp = ",
            in_ports(|facts| facts.ports[0].configured = vec![2525]),
        ),
        (
            "port-587",
            CheckState::Warning,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(1))),
        ),
        (
            "port-465",
            CheckState::Warning,
            "no program listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(2))),
        ),
    ]
}
