//! Facts that are all good, so that a test can change one of them at a time.

use super::*;

pub(super) fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A mutation of facts that are all good, and what is found then.
pub(super) fn with<Facts>(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

pub(super) fn good_names() -> names::Facts {
    names::Facts {
        host: name("mail.example.com"),
        in_hosts_file: vec![address("203.0.113.7")],
        pointers: vec![(address("203.0.113.7"), Ok(vec![name("mail.example.com")]))],
        published_v6: Ok(vec![address("2001:db8::7")]),
        routed_v6: Some(address("2001:db8::7")),
        sends_v6: true,
    }
}

pub(super) fn good_ports() -> ports::Facts {
    let roles = [
        ports::CheckedRole::Smtp,
        ports::CheckedRole::Submission,
        ports::CheckedRole::Submissions,
    ];
    ports::Facts {
        ports: roles
            .iter()
            .map(|role| ports::CheckedPort {
                role: *role,
                configured: vec![role.port()],
            })
            .collect(),
        listeners: roles
            .iter()
            .map(|role| ports::ListeningSocket {
                at: (Ipv4Addr::UNSPECIFIED, role.port()).into(),
                holder: Some("chopar".to_owned()),
            })
            .collect(),
        families: (true, false),
        receives: true,
    }
}

pub(super) fn good_outbound() -> outbound::Facts {
    let way = |is_v4, from: &str| outbound::FamilyReach {
        is_v4,
        is_used: true,
        has_route: true,
        attempts: vec![outbound::ConnectAttempt {
            target: "mx.example.net".to_owned(),
            result: Ok(("220 mx.example.net ESMTP".to_owned(), address(from))),
        }],
    };
    outbound::Facts {
        ways: vec![way(true, "203.0.113.7"), way(false, "2001:db8::7")],
        addresses: vec![address("203.0.113.7"), address("2001:db8::7")],
    }
}

pub(super) fn row(
    purpose: zone::Purpose,
    need: zone::ZoneNeed,
    owner: &str,
    value: RecordValue,
) -> zone::WantedRecord {
    zone::WantedRecord {
        purpose,
        need,
        record: DnsRecord::new(name(owner), value),
        state: zone::RecordState::There,
        found: Vec::new(),
        notes: Vec::new(),
    }
}

pub(super) fn good_dns() -> dns::Facts {
    use zone::Purpose;
    use zone::ZoneNeed::{Advised, Required};
    let text = |text: &str| RecordValue::Text(text.to_owned());
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
        zone: zone::ZoneFacts {
            host: name(host),
            addresses: vec![address("203.0.113.7")],
            domain: name("example.com"),
            receives: true,
            keys: Vec::new(),
            reports: "postmaster@example.com".to_owned(),
            submission: Some(587),
            submissions: Some(465),
            key_digest: None,
            web: Vec::new(),
            policy_record: None,
        },
        rows: vec![
            row(
                Purpose::Address,
                Required,
                host,
                RecordValue::Address(address("203.0.113.7")),
            ),
            row(
                Purpose::Pointer,
                Required,
                "7.113.0.203.in-addr.arpa",
                RecordValue::Pointer(name(host)),
            ),
            row(Purpose::Mx, Required, "example.com", RecordValue::Mx(mx)),
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
                RecordValue::Service(service),
            ),
            row(
                Purpose::Association,
                Advised,
                "_25._tcp.mail.example.com",
                RecordValue::Association(association),
            ),
            row(
                Purpose::MtaSts,
                Advised,
                "_mta-sts.example.com",
                text("v=STSv1; id=1"),
            ),
        ],
        policies: vec![dns::StsView {
            address: address("203.0.113.7"),
            of_domain: (spf::SpfResult::Pass, Some("mx".to_owned())),
            of_host: (spf::SpfResult::Pass, Some("a".to_owned())),
        }],
        elsewhere: Ok(Vec::new()),
        reports: vec![("postmaster@example.com".to_owned(), dns::MailboxReach::Here)],
    }
}

pub(super) fn good_signing() -> signing::Facts {
    signing::Facts {
        domain: name("example.com"),
        keys: vec![signing::Signed {
            selector: "s1".to_owned(),
            kind: "Ed25519".to_owned(),
            outcome: Ok(()),
        }],
        dmarc: dmarc::DmarcResult::Pass,
    }
}

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_795_478_400);

pub(super) fn good_tls() -> tls::Facts {
    let said = |in_clear: Option<Vec<&str>>| tls::PortAnswer {
        in_clear: in_clear.map(|offers| offers.into_iter().map(str::to_owned).collect()),
        handshake: Ok(HandshakeResult {
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
        coming: tls::AutomaticCertificate::Nothing,
        ports: vec![
            (
                ports::CheckedRole::Submission,
                Ok(said(Some(vec!["STARTTLS"]))),
            ),
            (ports::CheckedRole::Submissions, Ok(said(None))),
        ],
    }
}

pub(super) fn good_relay() -> relay::Facts {
    let all = relay::disguises(
        &name("mail.example.com"),
        &name("example.com"),
        address("203.0.113.7"),
        "example.net",
    );
    let refused = relay::AttemptReply::Said(550, "5.7.1 no".to_owned());
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

pub(super) fn good_reputation() -> reputation::ListQuestion {
    reputation::ListQuestion {
        list: &reputation::LISTS[0],
        address: address("203.0.113.7"),
        word: reputation::ListAnswer::Answers(Vec::new()),
        of_test: reputation::ListAnswer::Answers(vec![Ipv4Addr::new(127, 0, 0, 2)]),
    }
}

pub(super) fn good_resolver() -> resolver::AskedResolver {
    resolver::AskedResolver {
        server: "127.0.0.1:53".parse().expect("an address"),
        has_route: true,
        answers: Ok(()),
        validates: Ok(true),
    }
}

pub(super) fn good_machine() -> machine::Facts {
    machine::Facts {
        state_dir: "/var/lib/chopar".to_owned(),
        clock: machine::ClockState::Server(0.1),
        disk: Ok(machine::SpoolDisk {
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

pub(super) fn good_service() -> service::Facts {
    service::Facts {
        errors: Vec::new(),
        warnings: Vec::new(),
        daemon: service::Daemon::Runs(Some(service::QueueState::default())),
        unit: Some(service::SystemdUnit {
            enabled: Some("enabled".to_owned()),
            active: Some("active".to_owned()),
            exposure: Some(1.3),
        }),
        hook: Some(Ok(())),
        admin: Some(service::Admin {
            address: "ann@example.com".to_owned(),
            ends: vec![("ann@example.net".to_owned(), dns::MailboxReach::Elsewhere)],
        }),
        lost_bounces: Vec::new(),
        accounts: 4,
    }
}

/// All findings where all is well.
pub(super) fn all_good() -> Vec<Finding> {
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
pub(super) fn missing(purpose: zone::Purpose) -> Vec<Finding> {
    dns::judge(&with(good_dns(), |facts| {
        let row = facts.rows.iter_mut().find(|row| row.purpose == purpose);
        row.expect("a record").state = zone::RecordState::Missing;
    }))
}

pub(super) fn handshake(change: impl FnOnce(&mut HandshakeResult)) -> Vec<Finding> {
    tls::judge(&with(good_tls(), |facts| {
        let said = facts.ports[0].1.as_mut().expect("a port");
        change(said.handshake.as_mut().expect("a handshake"));
    }))
}

pub(super) fn said(change: impl FnOnce(&mut tls::PortAnswer)) -> Vec<Finding> {
    tls::judge(&with(good_tls(), |facts| {
        change(facts.ports[0].1.as_mut().expect("a port"));
    }))
}

pub(super) fn in_service(change: impl FnOnce(&mut service::Facts)) -> Vec<Finding> {
    service::judge(&with(good_service(), change))
}

pub(super) fn in_machine(change: impl FnOnce(&mut machine::Facts)) -> Vec<Finding> {
    machine::judge(&with(good_machine(), change))
}

pub(super) fn in_names(change: impl FnOnce(&mut names::Facts)) -> Vec<Finding> {
    names::judge(&with(good_names(), change))
}

pub(super) fn in_ports(change: impl FnOnce(&mut ports::Facts)) -> Vec<Finding> {
    ports::judge(&with(good_ports(), change))
}

pub(super) fn in_dns(change: impl FnOnce(&mut dns::Facts)) -> Vec<Finding> {
    dns::judge(&with(good_dns(), change))
}

pub(super) fn in_outbound(change: impl FnOnce(&mut outbound::Facts)) -> Vec<Finding> {
    outbound::judge(&with(good_outbound(), change))
}

pub(super) fn in_relay(change: impl FnOnce(&mut relay::Facts)) -> Vec<Finding> {
    relay::judge(&with(good_relay(), change))
}

pub(super) fn in_list(change: impl FnOnce(&mut reputation::ListQuestion)) -> Vec<Finding> {
    reputation::judge(&[with(good_reputation(), change)])
}

pub(super) fn in_resolver(change: impl FnOnce(&mut resolver::AskedResolver)) -> Vec<Finding> {
    resolver::judge(&[with(good_resolver(), change)])
}
