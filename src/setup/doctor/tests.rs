//! Every check is seen good, and red by one fact alone; the words are held together here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::checks::{ALL, Need};
use super::finding::{Finding, State};
use super::judge::{
    dns, machine, names, outbound, ports, relay, reputation, resolver, rules, service, signing, tls,
};
use crate::address::Domain;
use crate::auth::dkim::verdict::{Failure, Verdict};
use crate::auth::{dmarc, spf};
use crate::date::Timestamp;
use crate::dns::Mx;
use crate::setup::record::{Record, Value};
use crate::setup::zone;
use crate::shell::handshake::Shown;

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A mutation of facts that are all good, and what is found then.
fn with<Facts>(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

fn good_names() -> names::Facts {
    names::Facts {
        host: name("mail.example.com"),
        in_hosts_file: vec![address("203.0.113.7")],
        pointers: vec![(address("203.0.113.7"), Ok(vec![name("mail.example.com")]))],
        published_v6: Ok(vec![address("2001:db8::7")]),
        routed_v6: Some(address("2001:db8::7")),
        sends_v6: true,
    }
}

fn good_ports() -> ports::Facts {
    let roles = [
        ports::Role::Smtp,
        ports::Role::Submission,
        ports::Role::Submissions,
    ];
    ports::Facts {
        ports: roles
            .iter()
            .map(|role| ports::Port {
                role: *role,
                configured: vec![role.port()],
            })
            .collect(),
        listeners: roles
            .iter()
            .map(|role| ports::Listener {
                at: (Ipv4Addr::UNSPECIFIED, role.port()).into(),
                holder: Some("chopar".to_owned()),
            })
            .collect(),
        families: (true, false),
        receives: true,
    }
}

fn good_outbound() -> outbound::Facts {
    let way = |is_v4, from: &str| outbound::Way {
        is_v4,
        is_used: true,
        has_route: true,
        attempts: vec![outbound::Attempt {
            target: "mx.example.net".to_owned(),
            result: Ok(("220 mx.example.net ESMTP".to_owned(), address(from))),
        }],
    };
    outbound::Facts {
        ways: vec![way(true, "203.0.113.7"), way(false, "2001:db8::7")],
        addresses: vec![address("203.0.113.7"), address("2001:db8::7")],
    }
}

fn row(purpose: zone::Purpose, need: zone::Need, owner: &str, value: Value) -> zone::Row {
    zone::Row {
        purpose,
        need,
        record: Record::new(name(owner), value),
        state: zone::State::There,
        found: Vec::new(),
        notes: Vec::new(),
    }
}

fn good_dns() -> dns::Facts {
    use zone::Need::{Advised, Required};
    use zone::Purpose;
    let text = |text: &str| Value::Text(text.to_owned());
    let host = "mail.example.com";
    let service = crate::dns::Srv {
        priority: 0,
        weight: 1,
        port: 587,
        target: Some(name(host)),
    };
    let association = crate::dns::Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![7; 32],
    };
    let mx = Mx {
        preference: 10,
        host: Some(name(host)),
    };
    dns::Facts {
        zone: zone::Facts {
            host: name(host),
            addresses: vec![address("203.0.113.7")],
            domain: name("example.com"),
            receives: true,
            keys: Vec::new(),
            reports: "postmaster@example.com".to_owned(),
            submission: Some(587),
            submissions: Some(465),
            key_digest: None,
        },
        rows: vec![
            row(
                Purpose::Address,
                Required,
                host,
                Value::Address(address("203.0.113.7")),
            ),
            row(
                Purpose::Pointer,
                Required,
                "7.113.0.203.in-addr.arpa",
                Value::Pointer(name(host)),
            ),
            row(Purpose::Mx, Required, "example.com", Value::Mx(mx)),
            row(
                Purpose::Spf,
                Required,
                "example.com",
                text("v=spf1 mx -all"),
            ),
            row(Purpose::SpfHelo, Advised, host, text("v=spf1 a -all")),
            row(
                Purpose::Dkim,
                Required,
                "s1._domainkey.example.com",
                text("v=DKIM1; k=ed25519; p=x"),
            ),
            row(
                Purpose::Dmarc,
                Required,
                "_dmarc.example.com",
                text("v=DMARC1; p=none"),
            ),
            row(
                Purpose::DmarcReports,
                Advised,
                "example.com._report._dmarc.example.net",
                text("v=DMARC1"),
            ),
            row(
                Purpose::TlsReports,
                Advised,
                "_smtp._tls.example.com",
                text("v=TLSRPTv1; rua=mailto:a@example.com"),
            ),
            row(
                Purpose::Submission,
                Advised,
                "_submission._tcp.example.com",
                Value::Service(service),
            ),
            row(
                Purpose::Association,
                Advised,
                "_25._tcp.mail.example.com",
                Value::Association(association),
            ),
        ],
        policies: vec![dns::Policy {
            address: address("203.0.113.7"),
            of_domain: (spf::Outcome::Pass, Some("mx".to_owned())),
            of_host: (spf::Outcome::Pass, Some("a".to_owned())),
        }],
        elsewhere: Ok(Vec::new()),
        reports: vec![("postmaster@example.com".to_owned(), dns::Delivery::Here)],
    }
}

fn good_signing() -> signing::Facts {
    signing::Facts {
        domain: name("example.com"),
        keys: vec![signing::Signed {
            selector: "s1".to_owned(),
            kind: "Ed25519".to_owned(),
            outcome: Ok(()),
        }],
        dmarc: dmarc::Outcome::Pass,
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_795_478_400);

fn good_tls() -> tls::Facts {
    let said = |in_clear: Option<Vec<&str>>| tls::Said {
        in_clear: in_clear.map(|offers| offers.into_iter().map(str::to_owned).collect()),
        handshake: Ok(Shown {
            version: "TLSv1.3",
            chain: Ok(()),
            has_name: true,
            names: vec!["mail.example.com".into()],
            validity: Some((
                Timestamp::from_seconds(NOW.seconds() - 86_400),
                NOW.after(Duration::from_secs(60 * 86_400)),
            )),
            is_self_signed: false,
        }),
        under_tls: vec!["AUTH PLAIN".to_owned()],
        versions: vec![
            ("TLSv1.0", Some(false)),
            ("TLSv1.1", Some(false)),
            ("TLSv1.2", Some(true)),
            ("TLSv1.3", Some(true)),
        ],
    };
    tls::Facts {
        host: name("mail.example.com"),
        now: NOW,
        coming: tls::Coming::Nothing,
        ports: vec![
            (ports::Role::Submission, Ok(said(Some(vec!["STARTTLS"])))),
            (ports::Role::Submissions, Ok(said(None))),
        ],
    }
}

fn good_relay() -> relay::Facts {
    let all = relay::disguises(
        &name("mail.example.com"),
        &name("example.com"),
        address("203.0.113.7"),
        "example.net",
    );
    let refused = relay::Reply::Said(550, "5.7.1 no".to_owned());
    relay::Facts {
        from: Some(address("203.0.113.7")),
        is_trusted: false,
        tried: all
            .into_iter()
            .map(|disguise| (disguise, refused.clone()))
            .collect(),
        is_open: true,
    }
}

fn good_reputation() -> reputation::Asked {
    reputation::Asked {
        list: &reputation::LISTS[0],
        address: address("203.0.113.7"),
        word: reputation::Word::Answers(Vec::new()),
        of_test: reputation::Word::Answers(vec![Ipv4Addr::new(127, 0, 0, 2)]),
    }
}

fn good_resolver() -> resolver::Asked {
    resolver::Asked {
        server: "127.0.0.1:53".parse().expect("an address"),
        answers: Ok(()),
        validates: Ok(true),
    }
}

fn good_machine() -> machine::Facts {
    machine::Facts {
        state_dir: "/var/lib/chopar".to_owned(),
        clock: machine::Clock::Server(0.1),
        disk: Ok(machine::Disk {
            free: 8 << 30,
            total: 10 << 30,
            inodes_free: 90_000,
            inodes: 100_000,
        }),
        sync: Ok(Duration::from_millis(2)),
        foreign_owner: None,
        message_bytes_max: 50 << 20,
        memory_max: 64 << 20,
        memory: Some((1 << 30, "the memory of the machine")),
    }
}

fn good_service() -> service::Facts {
    service::Facts {
        errors: Vec::new(),
        warnings: Vec::new(),
        daemon: service::Daemon::Runs(Some(service::Queue::default())),
        unit: Some(service::Unit {
            enabled: "enabled".to_owned(),
            active: "active".to_owned(),
            exposure: Some(1.3),
        }),
        hook: Some(Ok(())),
        admin: Some(service::Admin {
            address: "ann@example.com".to_owned(),
            ends: vec![("ann@example.net".to_owned(), dns::Delivery::Elsewhere)],
        }),
        lost_bounces: Vec::new(),
        accounts: 4,
    }
}

/// All findings where all is well.
fn all_good() -> Vec<Finding> {
    let mut found = service::judge(&good_service());
    found.extend(names::judge(&good_names()));
    found.extend(ports::judge(&good_ports()));
    found.extend(outbound::judge(&good_outbound()));
    found.extend(dns::judge(&good_dns()));
    found.extend(signing::judge(&good_signing()));
    found.extend(tls::judge(&good_tls()));
    found.extend(relay::judge(&good_relay()));
    found.extend(reputation::judge(&[good_reputation()]));
    found.extend(resolver::judge(&[good_resolver()]));
    found.extend(machine::judge(&good_machine()));
    found.extend(rules::judge(&found));
    found
}

/// A record that is missing.
fn missing(purpose: zone::Purpose) -> Vec<Finding> {
    dns::judge(&with(good_dns(), |facts| {
        let row = facts.rows.iter_mut().find(|row| row.purpose == purpose);
        row.expect("a record").state = zone::State::Missing;
    }))
}

fn handshake(change: impl FnOnce(&mut Shown)) -> Vec<Finding> {
    tls::judge(&with(good_tls(), |facts| {
        let said = facts.ports[0].1.as_mut().expect("a port");
        change(said.handshake.as_mut().expect("a handshake"));
    }))
}

fn said(change: impl FnOnce(&mut tls::Said)) -> Vec<Finding> {
    tls::judge(&with(good_tls(), |facts| {
        change(facts.ports[0].1.as_mut().expect("a port"));
    }))
}

fn in_service(change: impl FnOnce(&mut service::Facts)) -> Vec<Finding> {
    service::judge(&with(good_service(), change))
}

fn in_machine(change: impl FnOnce(&mut machine::Facts)) -> Vec<Finding> {
    machine::judge(&with(good_machine(), change))
}

fn in_names(change: impl FnOnce(&mut names::Facts)) -> Vec<Finding> {
    names::judge(&with(good_names(), change))
}

fn in_ports(change: impl FnOnce(&mut ports::Facts)) -> Vec<Finding> {
    ports::judge(&with(good_ports(), change))
}

fn in_dns(change: impl FnOnce(&mut dns::Facts)) -> Vec<Finding> {
    dns::judge(&with(good_dns(), change))
}

fn in_outbound(change: impl FnOnce(&mut outbound::Facts)) -> Vec<Finding> {
    outbound::judge(&with(good_outbound(), change))
}

fn in_relay(change: impl FnOnce(&mut relay::Facts)) -> Vec<Finding> {
    relay::judge(&with(good_relay(), change))
}

fn in_list(change: impl FnOnce(&mut reputation::Asked)) -> Vec<Finding> {
    reputation::judge(&[with(good_reputation(), change)])
}

fn in_resolver(change: impl FnOnce(&mut resolver::Asked)) -> Vec<Finding> {
    resolver::judge(&[with(good_resolver(), change)])
}

/// One thing that is wrong: the check that says so, how urgent it is, a part of what was seen and of what mends it.
type Case = (
    &'static str,
    State,
    &'static str,
    &'static str,
    Vec<Finding>,
);

fn service_cases() -> Vec<Case> {
    let why = || "it is gone".to_owned();
    vec![
        (
            "configuration",
            State::Bad,
            "it is gone; and 1 more",
            "chopar check",
            in_service(|facts| facts.errors = vec![why(), why()]),
        ),
        (
            "configuration-advice",
            State::Warning,
            "it is gone",
            "chopar check",
            in_service(|facts| facts.warnings = vec![why()]),
        ),
        (
            "daemon",
            State::Bad,
            "it is gone",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            State::Unknown,
            "does not answer",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            State::Unknown,
            "only root",
            "sudo chopar doctor",
            in_service(|facts| facts.daemon = service::Daemon::Runs(None)),
        ),
        (
            "queue-age",
            State::Warning,
            "has waited 9 hours: no answer",
            "chopar queue show AB",
            in_service(|facts| {
                let oldest = Some((
                    "AB".to_owned(),
                    Duration::from_secs(9 * 3_600),
                    "no answer".to_owned(),
                ));
                facts.daemon = service::Daemon::Runs(Some(service::Queue {
                    messages: 1,
                    oldest,
                }));
            }),
        ),
        (
            "unit",
            State::Warning,
            "disabled, active",
            "systemctl enable --now",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").enabled = "disabled".to_owned();
            }),
        ),
        (
            "sandbox",
            State::Warning,
            "9.6 of 10",
            "unit that chopar ships",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").exposure = Some(9.6);
            }),
        ),
        (
            "unit",
            State::Skipped,
            "systemd does not run",
            "",
            in_service(|facts| facts.unit = None),
        ),
        (
            "hooks",
            State::Bad,
            "it is gone",
            "chmod 755",
            in_service(|facts| facts.hook = Some(Err(why()))),
        ),
        (
            "hooks",
            State::Skipped,
            "there is none",
            "",
            in_service(|facts| facts.hook = None),
        ),
        (
            "admin",
            State::Bad,
            "none is named",
            "set admin",
            in_service(|facts| facts.admin = None),
        ),
        (
            "admin",
            State::Bad,
            "does not arrive: it is gone",
            "set admin",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 = dns::Delivery::Refused(why());
            }),
        ),
        (
            "admin",
            State::Unknown,
            "is not known: it is gone",
            "again",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 = dns::Delivery::Unknown(why());
            }),
        ),
        (
            "bounces",
            State::Bad,
            "what root@example.com cannot deliver is lost",
            "set admin",
            in_service(|facts| {
                facts.lost_bounces = vec![("root@example.com".to_owned(), why())];
            }),
        ),
    ]
}

fn names_cases() -> Vec<Case> {
    vec![
        (
            "hostname",
            State::Bad,
            "mail.localdomain is no name",
            "set hostname",
            in_names(|facts| facts.host = name("mail.localdomain")),
        ),
        (
            "hostname",
            State::Bad,
            "mail is no name",
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
            "nobody listens",
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
            "nobody listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(1))),
        ),
        (
            "port-465",
            State::Warning,
            "nobody listens",
            "systemctl start",
            in_ports(|facts| drop(facts.listeners.remove(2))),
        ),
    ]
}

fn outbound_cases() -> Vec<Case> {
    let fail = |facts: &mut outbound::Facts, at: usize| {
        facts.ways[at].attempts[0].result = Err("no answer".to_owned());
    };
    vec![
        (
            "outbound-v4",
            State::Bad,
            "nobody can be reached: mx.example.net: no answer",
            "open outgoing port 25 by IPv4",
            in_outbound(|facts| fail(facts, 0)),
        ),
        (
            "outbound-v6",
            State::Bad,
            "nobody can be reached",
            "ip = \"ipv4\"",
            in_outbound(|facts| fail(facts, 1)),
        ),
        (
            "outbound-v4",
            State::Bad,
            "turns 203.0.113.7 away: 554 listed",
            "as the reply says",
            in_outbound(|facts| {
                facts.ways[0].attempts[0].result =
                    Ok(("554 listed".to_owned(), address("203.0.113.7")));
            }),
        ),
        (
            "outbound-v4",
            State::Bad,
            "no route",
            "ip route",
            in_outbound(|facts| facts.ways[0].has_route = false),
        ),
        (
            "outbound-v6",
            State::Skipped,
            "no route",
            "",
            in_outbound(|facts| facts.ways[1].has_route = false),
        ),
        (
            "outbound-v6",
            State::Skipped,
            "says not to use it",
            "",
            in_outbound(|facts| facts.ways[1].is_used = false),
        ),
        (
            "outbound-v4",
            State::Unknown,
            "no host to try",
            "--probe",
            in_outbound(|facts| facts.ways[0].attempts.clear()),
        ),
        (
            "outbound-source",
            State::Bad,
            "leaves from this address",
            "bind4",
            in_outbound(|facts| facts.addresses.retain(IpAddr::is_ipv6)),
        ),
        (
            "outbound-source",
            State::Warning,
            "address translation",
            "chopar send",
            in_outbound(|facts| {
                facts.ways[0].attempts[0].result = Ok(("220 x".to_owned(), address("10.0.0.2")));
            }),
        ),
    ]
}

fn dns_cases() -> Vec<Case> {
    use zone::Purpose;
    let elsewhere = |hosts: &[&str]| {
        let hosts: Vec<Domain> = hosts.iter().map(|host| name(host)).collect();
        in_dns(|facts| {
            facts.zone.receives = false;
            facts.rows.retain(|row| row.purpose != Purpose::Mx);
            facts.elsewhere = Ok(hosts);
        })
    };
    let policy = |outcome| in_dns(|facts| facts.policies[0].of_domain = (outcome, None));
    vec![
        (
            "dns-address",
            State::Bad,
            "missing",
            "publish: mail.example.com. A 203.0.113.7",
            missing(Purpose::Address),
        ),
        (
            "dns-address",
            State::Bad,
            "no address",
            "--address",
            in_dns(|facts| facts.zone.addresses.clear()),
        ),
        (
            "dns-ptr",
            State::Bad,
            "missing",
            "reverse name (PTR) of 203.0.113.7 to mail.example.com",
            missing(Purpose::Pointer),
        ),
        (
            "dns-mx",
            State::Bad,
            "missing",
            "publish: example.com. MX 10 mail.example.com.",
            missing(Purpose::Mx),
        ),
        (
            "dns-mx",
            State::Good,
            "received elsewhere, at mx.example.net",
            "",
            elsewhere(&["mx.example.net"]),
        ),
        (
            "dns-mx",
            State::Bad,
            "no MX record says where",
            "publish the MX record",
            elsewhere(&[]),
        ),
        (
            "dns-mx",
            State::Bad,
            "which does not take it",
            "take receive = false out",
            elsewhere(&["mail.example.com"]),
        ),
        (
            "dns-spf",
            State::Bad,
            "missing",
            "TXT \"v=spf1 mx -all\"",
            missing(Purpose::Spf),
        ),
        (
            "dns-spf-helo",
            State::Warning,
            "missing",
            "publish: mail.example.com. TXT",
            missing(Purpose::SpfHelo),
        ),
        (
            "dns-dkim",
            State::Bad,
            "missing",
            "publish: s1._domainkey.example.com. TXT",
            missing(Purpose::Dkim),
        ),
        (
            "dns-dmarc",
            State::Bad,
            "missing",
            "publish: _dmarc.example.com. TXT",
            missing(Purpose::Dmarc),
        ),
        (
            "dns-dmarc-reports",
            State::Warning,
            "missing",
            "publish:",
            missing(Purpose::DmarcReports),
        ),
        (
            "dns-tls-reports",
            State::Warning,
            "missing",
            "publish:",
            missing(Purpose::TlsReports),
        ),
        (
            "dns-submission",
            State::Warning,
            "missing",
            "SRV 0 1 587",
            missing(Purpose::Submission),
        ),
        (
            "dns-tlsa",
            State::Warning,
            "missing",
            "TLSA 3 1 1",
            missing(Purpose::Association),
        ),
        (
            "dns-spf",
            State::Bad,
            "a record that it leads to does not name this host",
            "address records of the host first",
            in_dns(|facts| {
                facts.rows[3].state = zone::State::Differs;
                facts.rows[3].found = vec![facts.rows[3].record.value.clone()];
            }),
        ),
        (
            "dns-spf",
            State::Bad,
            "something else is there: v=spf1 -all",
            "in place of",
            in_dns(|facts| {
                facts.rows[3].state = zone::State::Differs;
                facts.rows[3].found = vec![Value::Text("v=spf1 -all".to_owned())];
            }),
        ),
        (
            "dns-mx",
            State::Bad,
            "on its way",
            "--watch",
            in_dns(|facts| facts.rows[2].state = zone::State::OnItsWay),
        ),
        (
            "dns-mx",
            State::Unknown,
            "could not be looked up",
            "again",
            in_dns(|facts| facts.rows[2].state = zone::State::Unknown),
        ),
        (
            "spf",
            State::Bad,
            "none: there is no policy",
            "v=spf1 mx -all",
            policy(spf::Outcome::None),
        ),
        (
            "spf",
            State::Bad,
            "fail (no record says so)",
            "v=spf1 mx -all",
            policy(spf::Outcome::Fail),
        ),
        (
            "spf",
            State::Bad,
            "softfail",
            "v=spf1 mx -all",
            policy(spf::Outcome::SoftFail),
        ),
        (
            "spf",
            State::Bad,
            "neutral",
            "v=spf1 mx -all",
            policy(spf::Outcome::Neutral),
        ),
        (
            "spf",
            State::Bad,
            "cannot be understood",
            "v=spf1 mx -all",
            policy(spf::Outcome::PermError),
        ),
        (
            "spf",
            State::Unknown,
            "could not be looked up",
            "again",
            policy(spf::Outcome::TempError),
        ),
        (
            "spf-helo",
            State::Warning,
            "fail",
            "v=spf1 a -all",
            in_dns(|facts| facts.policies[0].of_host.0 = spf::Outcome::Fail),
        ),
        (
            "dmarc-rua",
            State::Warning,
            "does not arrive: no such",
            "chopar alias add",
            in_dns(|facts| {
                facts.reports[0].1 = dns::Delivery::Refused("no such".to_owned());
            }),
        ),
        (
            "dmarc-rua",
            State::Unknown,
            "no answer",
            "again",
            in_dns(|facts| {
                facts.reports[0].1 = dns::Delivery::Unknown("no answer".to_owned());
            }),
        ),
        (
            "dkim-key",
            State::Bad,
            "there is none",
            "chopar dkim keygen",
            signing::judge(&with(good_signing(), |facts| facts.keys.clear())),
        ),
        (
            "dkim-signature",
            State::Bad,
            "not verified",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.keys[0].outcome = Err((Verdict::PermError, Failure::NoKey));
            })),
        ),
        (
            "dkim-signature",
            State::Unknown,
            "could not be looked up",
            "again",
            signing::judge(&with(good_signing(), |facts| {
                facts.keys[0].outcome = Err((Verdict::TempError, Failure::KeyUnavailable));
            })),
        ),
        (
            "dmarc",
            State::Bad,
            "fail",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::Outcome::Fail
            })),
        ),
        (
            "dmarc",
            State::Bad,
            "no policy",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::Outcome::None
            })),
        ),
        (
            "dmarc",
            State::Unknown,
            "could not",
            "again",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::Outcome::TempError
            })),
        ),
    ]
}

fn tls_cases() -> Vec<Case> {
    let at = |seconds: u64| Timestamp::from_seconds(seconds);
    let now = NOW.seconds();
    let self_signed = |coming: tls::Coming| {
        tls::judge(&with(good_tls(), |facts| {
            facts.coming = coming;
            for (_, said) in &mut facts.ports {
                if let Ok(shown) = &mut said.as_mut().expect("a port").handshake {
                    (shown.chain, shown.is_self_signed) = (Err("unknown issuer".to_owned()), true);
                }
            }
        }))
    };
    vec![
        (
            "tls-handshake",
            State::Bad,
            "it fails: no cipher",
            "chopar check",
            said(|said| said.handshake = Err("no cipher".to_owned())),
        ),
        (
            "tls-handshake",
            State::Unknown,
            "could not be spoken to: refused",
            "systemctl start",
            tls::judge(&with(good_tls(), |facts| {
                facts.ports[0].1 = Err("refused".to_owned());
            })),
        ),
        (
            "tls-chain",
            State::Bad,
            "self-signed",
            "obtain a certificate for mail.example.com",
            handshake(|shown| {
                (shown.chain, shown.is_self_signed) = (Err("unknown issuer".to_owned()), true);
            }),
        ),
        (
            "tls-chain",
            State::Bad,
            "the certificate is waiting for the name to lead here (mail.example.com has no A or AAAA record)",
            "add the records that chopar dns prints",
            self_signed(tls::Coming::Waits(
                "mail.example.com has no A or AAAA record".to_owned(),
            )),
        ),
        (
            "tls-chain",
            State::Bad,
            "self-signed: no authority",
            "the daemon obtains one by itself",
            self_signed(tls::Coming::Soon),
        ),
        (
            "tls-chain",
            State::Bad,
            "unknown issuer",
            "obtain",
            handshake(|shown| shown.chain = Err("unknown issuer".to_owned())),
        ),
        (
            "tls-name",
            State::Bad,
            "it is for www.example.com, and not",
            "obtain",
            handshake(|shown| {
                (shown.has_name, shown.names) = (false, vec!["www.example.com".into()]);
            }),
        ),
        (
            "tls-days",
            State::Bad,
            "it ended at",
            "renew",
            handshake(|shown| shown.validity = Some((at(0), at(now - 1)))),
        ),
        (
            "tls-days",
            State::Warning,
            "19 days left",
            "renew",
            handshake(|shown| shown.validity = Some((at(0), at(now + 20 * 86_400 - 1)))),
        ),
        (
            "tls-days",
            State::Bad,
            "not valid before",
            "clock",
            handshake(|shown| shown.validity = Some((at(now + 9), at(now + 99)))),
        ),
        (
            "tls-days",
            State::Unknown,
            "cannot be read",
            "obtain",
            handshake(|shown| shown.validity = None),
        ),
        (
            "tls-versions",
            State::Bad,
            "TLSv1.0 is spoken",
            "ss -ltnp",
            said(|said| said.versions[0].1 = Some(true)),
        ),
        (
            "tls-versions",
            State::Bad,
            "TLSv1.3 is not spoken",
            "ss -ltnp",
            said(|said| said.versions[3].1 = Some(false)),
        ),
        (
            "tls-versions",
            State::Unknown,
            "TLSv1.2 could not be tried",
            "again",
            said(|said| said.versions[2].1 = None),
        ),
        (
            "starttls",
            State::Bad,
            "does not name it",
            "ss -ltnp",
            said(|said| said.in_clear = Some(Vec::new())),
        ),
        (
            "auth",
            State::Bad,
            "under TLS",
            "ss -ltnp",
            said(|said| said.under_tls.clear()),
        ),
        (
            "auth-clear",
            State::Bad,
            "before TLS",
            "ss -ltnp",
            said(|said| {
                said.in_clear
                    .as_mut()
                    .expect("offers")
                    .push("AUTH LOGIN".to_owned());
            }),
        ),
        (
            "auth-clear",
            State::Bad,
            "on port 25",
            "ss -ltnp",
            tls::judge(&with(good_tls(), |facts| {
                facts.ports[0].0 = ports::Role::Smtp
            })),
        ),
        (
            "relay",
            State::Bad,
            "percent hack: MAIL FROM:<relay-test@example.org> RCPT TO:<relay-test%example.net@example.com>",
            "networks",
            in_relay(|facts| {
                facts.tried[4].1 = relay::Reply::Said(250, "ok".to_owned());
            }),
        ),
        (
            "relay",
            State::Unknown,
            "1 of 12 attempts",
            "again",
            in_relay(|facts| {
                facts.tried[4].1 = relay::Reply::Said(451, "later".to_owned());
            }),
        ),
        (
            "relay",
            State::Unknown,
            "no answer",
            "again",
            in_relay(|facts| {
                facts.tried[4].1 = relay::Reply::Nothing("no answer".to_owned());
            }),
        ),
        (
            "relay",
            State::Unknown,
            "may relay",
            "out of networks",
            in_relay(|facts| facts.is_trusted = true),
        ),
        (
            "relay",
            State::Unknown,
            "could not be reached",
            "systemctl start",
            in_relay(|facts| facts.from = None),
        ),
        (
            "relay",
            State::Skipped,
            "no port 25",
            "",
            in_relay(|facts| facts.is_open = false),
        ),
    ]
}

fn world_cases() -> Vec<Case> {
    let answers = |last: [u8; 4]| reputation::Word::Answers(vec![last.into()]);
    let why = || "no answer".to_owned();
    vec![
        (
            "dnsbl",
            State::Bad,
            "listed (127.0.0.4)",
            "check.spamhaus.org",
            in_list(|asked| asked.word = answers([127, 0, 0, 4])),
        ),
        (
            "dnsbl",
            State::Warning,
            "large public resolvers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 254])),
        ),
        (
            "dnsbl",
            State::Warning,
            "asked too much",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 255])),
        ),
        (
            "dnsbl",
            State::Warning,
            "makes up answers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([192, 0, 2, 1])),
        ),
        (
            "dnsbl",
            State::Warning,
            "test entry",
            "apt install unbound",
            in_list(|asked| asked.of_test = reputation::Word::Answers(Vec::new())),
        ),
        (
            "dnsbl",
            State::Unknown,
            "no answer",
            "again",
            in_list(|asked| asked.word = reputation::Word::Nothing(why())),
        ),
        (
            "resolver",
            State::Bad,
            "no answer",
            "resolv.conf",
            in_resolver(|asked| asked.answers = Err(why())),
        ),
        (
            "resolver",
            State::Bad,
            "none is named",
            "resolv.conf",
            resolver::judge(&[]),
        ),
        (
            "resolver-dnssec",
            State::Warning,
            "does not say",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Ok(false)),
        ),
        (
            "resolver-dnssec",
            State::Unknown,
            "no answer",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Err(why())),
        ),
        (
            "resolver-place",
            State::Warning,
            "large public",
            "apt install unbound",
            in_resolver(|asked| {
                asked.server = "8.8.8.8:53".parse().expect("an address");
            }),
        ),
        (
            "clock",
            State::Warning,
            "-90.0 s",
            "timedatectl",
            in_machine(|facts| facts.clock = machine::Clock::Server(-90.0)),
        ),
        (
            "clock",
            State::Unknown,
            "no answer",
            "timedatectl",
            in_machine(|facts| facts.clock = machine::Clock::Nothing(why())),
        ),
        (
            "disk-space",
            State::Bad,
            "9 MiB of 10.0 GiB free",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 9 << 20),
        ),
        (
            "disk-space",
            State::Warning,
            "500 MiB",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 500 << 20),
        ),
        (
            "disk-space",
            State::Unknown,
            "no answer",
            "spool",
            in_machine(|facts| facts.disk = Err(why())),
        ),
        (
            "disk-inodes",
            State::Bad,
            "9 of 100000",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 9),
        ),
        (
            "disk-inodes",
            State::Warning,
            "4000 of",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 4_000),
        ),
        (
            "spool",
            State::Bad,
            "nothing can be written: no answer",
            "ls -ld",
            in_machine(|facts| facts.sync = Err(why())),
        ),
        (
            "spool",
            State::Bad,
            "belongs to root",
            "chown",
            in_machine(|facts| facts.foreign_owner = Some("root".to_owned())),
        ),
        (
            "disk-sync",
            State::Warning,
            "300 ms",
            "faster disk",
            in_machine(|facts| facts.sync = Ok(Duration::from_millis(300))),
        ),
        (
            "memory",
            State::Bad,
            "is 64 MiB",
            "max_memory = \"8MiB\"",
            in_machine(|facts| facts.memory = Some((64 << 20, "the limit"))),
        ),
        (
            "memory",
            State::Warning,
            "128 MiB",
            "max_memory = \"32MiB\"",
            in_machine(|facts| facts.memory = Some((128 << 20, "the limit"))),
        ),
        (
            "memory",
            State::Unknown,
            "could not be read",
            "max_memory",
            in_machine(|facts| facts.memory = None),
        ),
        (
            "rules-gmail",
            State::Warning,
            "not met: see dns-dmarc",
            "publish: _dmarc",
            rules::judge(&missing(zone::Purpose::Dmarc)),
        ),
        (
            "rules-yahoo",
            State::Unknown,
            "cannot be told: see spf",
            "",
            rules::judge(&[]),
        ),
        (
            "rules-outlook",
            State::Warning,
            "not met: see dns-mx",
            "publish: example.com. MX",
            rules::judge(&missing(zone::Purpose::Mx)),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut all = service_cases();
    all.extend(names_cases());
    all.extend(outbound_cases());
    all.extend(dns_cases());
    all.extend(tls_cases());
    all.extend(world_cases());
    all
}

#[test]
fn where_all_is_well_nothing_is_red_and_every_check_has_its_word() {
    let found = all_good();
    let ids: BTreeSet<&str> = found.iter().map(|finding| finding.check.id).collect();
    for check in ALL {
        assert!(ids.contains(check.id), "{} is not made", check.id);
    }
    for finding in &found {
        let expected = matches!(finding.state, State::Good | State::Skipped);
        assert!(expected, "{}", finding.text());
        assert!(finding.mend.is_empty(), "{}", finding.text());
        assert!(!finding.is_red());
    }
}

#[test]
fn one_thing_that_is_wrong_is_seen_and_mended_by_its_check_alone() {
    let good = all_good();
    for (id, state, seen, mend, found) in cases() {
        let of_check = |finding: &&Finding| {
            finding.check.id == id && finding.state == state && finding.seen.contains(seen)
        };
        let finding = found.iter().find(of_check).unwrap_or_else(|| {
            let all: Vec<String> = found.iter().map(Finding::text).collect();
            panic!("no {id} {state:?} with {seen:?}:\n{}", all.concat())
        });
        assert!(finding.mend.contains(mend), "{}", finding.text());
        // Nothing else turns red along with it, but for what follows from it.
        let is_new = |other: &&Finding| {
            other.is_red()
                && !good
                    .iter()
                    .any(|was| was.check == other.check && was.is_red())
                && other.check.subject == finding.check.subject
                && other.check.id != id
        };
        let others: Vec<&str> = found
            .iter()
            .filter(is_new)
            .map(|other| other.check.id)
            .collect();
        assert!(
            others.is_empty() || FOLLOWS.contains(&id),
            "{id} {seen:?}: {others:?}"
        );
    }
}

/// Where one fact makes more than one finding red.
const FOLLOWS: [&str; 5] = [
    "disk-space",
    "queue-age",
    "disk-sync",
    "dkim-key",
    "dns-address",
];

#[test]
fn every_check_is_seen_otherwise_than_good() {
    let cases = cases();
    for check in ALL {
        let is_red = |(id, state, ..): &&Case| {
            *id == check.id
                && match check.need {
                    Need::Required => *state == State::Bad,
                    Need::Advised => *state == State::Warning,
                }
        };
        let ways = cases.iter().filter(|case| case.0 == check.id);
        assert!(ways.count() > 0, "{} is never seen red", check.id);
        let is_rule = check.id.starts_with("rules-");
        assert!(
            is_rule || cases.iter().any(|case| is_red(&case)),
            "{} is never seen bad",
            check.id
        );
    }
}

#[test]
fn all_words_are_of_one_voice() {
    let mut all = all_good();
    all.extend(cases().into_iter().flat_map(|case| case.4));
    for finding in &all {
        let check = finding.check;
        for text in [check.title, check.why, &finding.seen, &finding.mend] {
            assert!(
                !text.ends_with('.') || text.ends_with("com.") || text.ends_with("arpa."),
                "{text:?} ends with a period"
            );
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
        }
        assert!(
            !finding.seen.is_empty() && !check.why.is_empty(),
            "{}",
            check.id
        );
        let is_open = matches!(finding.state, State::Bad | State::Warning | State::Unknown);
        let is_rule = check.id.starts_with("rules-");
        assert!(
            is_rule || is_open != finding.mend.is_empty(),
            "{}",
            finding.text()
        );
        // One shape.
        let json = finding.json();
        let mut keys: Vec<&str> = json
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "about", "id", "mend", "required", "seen", "state", "title", "why"
            ]
        );
    }
    let ids: BTreeSet<&str> = ALL.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), ALL.len());
}

#[test]
fn what_is_late_is_unknown_and_red() {
    for subject in super::SUBJECTS {
        let found = super::late(&(subject, Some(name("example.com"))));
        assert!(!found.is_empty());
        for finding in found {
            assert_eq!(finding.state, State::Unknown);
            assert_eq!(finding.is_red(), finding.check.need == Need::Required);
        }
    }
}
