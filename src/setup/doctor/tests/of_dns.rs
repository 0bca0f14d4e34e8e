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
            CheckState::Bad,
            "missing",
            "publish: mail.example.com. A 203.0.113.7",
            missing(Purpose::Address),
        ),
        (
            "dns-address",
            CheckState::Unknown,
            "no address",
            "--address",
            in_dns(|facts| facts.zone.addresses.clear()),
        ),
        (
            "dns-ptr",
            CheckState::Bad,
            "missing",
            "reverse name (PTR) of 203.0.113.7 to mail.example.com",
            missing(Purpose::Pointer),
        ),
        (
            "dns-mx",
            CheckState::Bad,
            "missing",
            "publish: example.com. MX 10 mail.example.com.",
            missing(Purpose::Mx),
        ),
        (
            "dns-mx",
            CheckState::Good,
            "received elsewhere, at mx.example.net",
            "",
            elsewhere(&["mx.example.net"]),
        ),
        (
            "dns-mx",
            CheckState::Bad,
            "no MX record names the host",
            "publish the MX record",
            elsewhere(&[]),
        ),
        (
            "dns-mx",
            CheckState::Bad,
            "which does not accept it",
            "take receive = false out",
            elsewhere(&["mail.example.com"]),
        ),
        (
            "dns-spf",
            CheckState::Bad,
            "missing",
            "TXT \"v=spf1 mx -all\"",
            missing(Purpose::Spf),
        ),
        (
            "dns-spf-helo",
            CheckState::Warning,
            "missing",
            "publish: mail.example.com. TXT",
            missing(Purpose::SpfHelo),
        ),
        (
            "dns-dkim",
            CheckState::Bad,
            "missing",
            "publish: s1._domainkey.example.com. TXT",
            missing(Purpose::Dkim),
        ),
        (
            "dns-dmarc",
            CheckState::Bad,
            "missing",
            "publish: _dmarc.example.com. TXT",
            missing(Purpose::Dmarc),
        ),
        (
            "dns-dmarc-reports",
            CheckState::Warning,
            "missing",
            "publish:",
            missing(Purpose::DmarcReports),
        ),
        (
            "dns-tls-reports",
            CheckState::Warning,
            "missing",
            "publish:",
            missing(Purpose::TlsReports),
        ),
        (
            "dns-web",
            CheckState::Warning,
            "missing",
            "publish:",
            missing(Purpose::MtaSts),
        ),
        (
            "dns-submission",
            CheckState::Warning,
            "missing",
            "SRV 0 1 587",
            missing(Purpose::Submission),
        ),
        (
            "dns-tlsa",
            CheckState::Warning,
            "missing",
            "TLSA 3 1 1",
            missing(Purpose::Association),
        ),
        (
            "dns-spf",
            CheckState::Bad,
            "a record that it leads to does not name this host",
            "address records of the host first",
            in_dns(|facts| {
                facts.rows[3].state = zone::RecordState::Differs;
                facts.rows[3].found = vec![facts.rows[3].record.value.clone()];
            }),
        ),
        (
            "dns-spf",
            CheckState::Bad,
            "something else is there: v=spf1 -all",
            "instead of",
            in_dns(|facts| {
                facts.rows[3].state = zone::RecordState::Differs;
                facts.rows[3].found = vec![RecordValue::Text("v=spf1 -all".to_owned())];
            }),
        ),
        (
            "dns-mx",
            CheckState::Bad,
            "on its way",
            "--watch",
            in_dns(|facts| facts.rows[2].state = zone::RecordState::OnItsWay),
        ),
        (
            "dns-mx",
            CheckState::Unknown,
            "could not be looked up",
            "again",
            in_dns(|facts| facts.rows[2].state = zone::RecordState::Unknown),
        ),
        (
            "spf",
            CheckState::Bad,
            "none: there is no policy",
            "v=spf1 mx -all",
            policy(spf::SpfResult::None),
        ),
        (
            "spf",
            CheckState::Bad,
            "fail (no record says so)",
            "v=spf1 mx -all",
            policy(spf::SpfResult::Fail),
        ),
        (
            "spf",
            CheckState::Bad,
            "softfail",
            "v=spf1 mx -all",
            policy(spf::SpfResult::SoftFail),
        ),
        (
            "spf",
            CheckState::Bad,
            "neutral",
            "v=spf1 mx -all",
            policy(spf::SpfResult::Neutral),
        ),
        (
            "spf",
            CheckState::Bad,
            "cannot be understood",
            "v=spf1 mx -all",
            policy(spf::SpfResult::PermError),
        ),
        (
            "spf",
            CheckState::Unknown,
            "could not be looked up",
            "again",
            policy(spf::SpfResult::TempError),
        ),
        (
            "spf-helo",
            CheckState::Warning,
            "fail",
            "v=spf1 a -all",
            in_dns(|facts| facts.policies[0].of_host.0 = spf::SpfResult::Fail),
        ),
        (
            "dmarc-rua",
            CheckState::Warning,
            "does not arrive: no such",
            "chopar alias add",
            in_dns(|facts| {
                facts.reports[0].1 = dns::MailboxReach::Refused("no such".to_owned());
            }),
        ),
        (
            "dmarc-rua",
            CheckState::Unknown,
            "no answer",
            "again",
            in_dns(|facts| {
                facts.reports[0].1 = dns::MailboxReach::Unknown("no answer".to_owned());
            }),
        ),
        (
            "dkim-key",
            CheckState::Bad,
            "there is none",
            "chopar dkim keygen",
            signing::judge(&with(good_signing(), |facts| facts.keys.clear())),
        ),
        (
            "dkim-signature",
            CheckState::Bad,
            "not verified",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.keys[0].outcome = Err((DkimResult::PermError, DkimFailure::NoKey));
            })),
        ),
        (
            "dkim-signature",
            CheckState::Unknown,
            "could not be looked up",
            "again",
            signing::judge(&with(good_signing(), |facts| {
                facts.keys[0].outcome = Err((DkimResult::TempError, DkimFailure::KeyUnavailable));
            })),
        ),
        (
            "dmarc",
            CheckState::Bad,
            "fail",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::DmarcResult::Fail
            })),
        ),
        (
            "dmarc",
            CheckState::Bad,
            "no policy",
            "chopar dns example.com",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::DmarcResult::None
            })),
        ),
        (
            "dmarc",
            CheckState::Unknown,
            "could not",
            "again",
            signing::judge(&with(good_signing(), |facts| {
                facts.dmarc = dmarc::DmarcResult::TempError
            })),
        ),
    ]
}
