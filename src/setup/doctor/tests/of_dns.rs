//! The records of the domain.

use super::*;

pub(super) fn cases() -> Vec<Case> {
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
            State::Unknown,
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
            "dns-web",
            State::Warning,
            "missing",
            "publish:",
            missing(Purpose::MtaSts),
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
