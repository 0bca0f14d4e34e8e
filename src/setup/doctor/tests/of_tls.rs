//! Certificates, handshakes, and relaying.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let at = |seconds: u64| Timestamp::from_seconds(seconds);
    let now = NOW.seconds();
    let self_signed = |coming: tls::AutomaticCertificate| {
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
            CheckState::Bad,
            "it fails: no cipher",
            "chopar check",
            said(|said| said.handshake = Err("no cipher".to_owned())),
        ),
        (
            "tls-handshake",
            CheckState::Unknown,
            "could not be spoken to: refused",
            "systemctl start",
            tls::judge(&with(good_tls(), |facts| {
                facts.ports[0].1 = Err("refused".to_owned());
            })),
        ),
        (
            "tls-chain",
            CheckState::Bad,
            "self-signed",
            "obtain a certificate for mail.example.com",
            handshake(|shown| {
                (shown.chain, shown.is_self_signed) = (Err("unknown issuer".to_owned()), true);
            }),
        ),
        (
            "tls-chain",
            CheckState::Bad,
            "the certificate is waiting for the name to lead here (mail.example.com has no A or AAAA record)",
            "add the records that chopar dns prints",
            self_signed(tls::AutomaticCertificate::Waits(
                "mail.example.com has no A or AAAA record".to_owned(),
            )),
        ),
        (
            "tls-chain",
            CheckState::Bad,
            "self-signed: no CA",
            "the daemon obtains one itself",
            self_signed(tls::AutomaticCertificate::Soon),
        ),
        (
            "tls-chain",
            CheckState::Bad,
            "unknown issuer",
            "obtain",
            handshake(|shown| shown.chain = Err("unknown issuer".to_owned())),
        ),
        (
            "tls-name",
            CheckState::Bad,
            "it is for www.example.com, and not",
            "obtain",
            handshake(|shown| {
                (shown.has_name, shown.names) = (false, vec!["www.example.com".into()]);
            }),
        ),
        (
            "tls-days",
            CheckState::Bad,
            "it ended at",
            "renew",
            handshake(|shown| shown.validity = Some((at(0), at(now - 1)))),
        ),
        (
            "tls-days",
            CheckState::Warning,
            "19 days left",
            "renew",
            handshake(|shown| shown.validity = Some((at(0), at(now + 20 * 86_400 - 1)))),
        ),
        (
            "tls-days",
            CheckState::Bad,
            "not valid before",
            "clock",
            handshake(|shown| shown.validity = Some((at(now + 9), at(now + 99)))),
        ),
        (
            "tls-days",
            CheckState::Unknown,
            "cannot be read",
            "obtain",
            handshake(|shown| shown.validity = None),
        ),
        (
            "tls-versions",
            CheckState::Bad,
            "TLSv1.0 is spoken",
            "ss -ltnp",
            said(|said| said.versions[0].1 = Some(true)),
        ),
        (
            "tls-versions",
            CheckState::Bad,
            "TLSv1.3 is not spoken",
            "ss -ltnp",
            said(|said| said.versions[3].1 = Some(false)),
        ),
        (
            "tls-versions",
            CheckState::Unknown,
            "TLSv1.2 could not be tried",
            "again",
            said(|said| said.versions[2].1 = None),
        ),
        (
            "starttls",
            CheckState::Bad,
            "does not name it",
            "ss -ltnp",
            said(|said| said.in_clear = Some(Vec::new())),
        ),
        (
            "auth",
            CheckState::Bad,
            "under TLS",
            "ss -ltnp",
            said(|said| said.under_tls.clear()),
        ),
        (
            "auth-clear",
            CheckState::Bad,
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
            CheckState::Bad,
            "on port 25",
            "ss -ltnp",
            tls::judge(&with(good_tls(), |facts| {
                facts.ports[0].0 = ports::CheckedRole::Smtp
            })),
        ),
        (
            "relay",
            CheckState::Bad,
            "percent hack: MAIL FROM:<relay-test@example.org> RCPT TO:<relay-test%example.net@example.com>",
            "networks",
            in_relay(|facts| {
                facts.tried[4].1 = relay::AttemptReply::Said(250, "ok".to_owned());
            }),
        ),
        (
            "relay",
            CheckState::Unknown,
            "1 of 12 attempts",
            "again",
            in_relay(|facts| {
                facts.tried[4].1 = relay::AttemptReply::Said(451, "later".to_owned());
            }),
        ),
        (
            "relay",
            CheckState::Unknown,
            "no answer",
            "again",
            in_relay(|facts| {
                facts.tried[4].1 = relay::AttemptReply::Nothing("no answer".to_owned());
            }),
        ),
        (
            "relay",
            CheckState::Unknown,
            "may relay",
            "out of networks",
            in_relay(|facts| facts.is_trusted = true),
        ),
        (
            "relay",
            CheckState::Unknown,
            "could not be reached",
            "systemctl start",
            in_relay(|facts| facts.from = None),
        ),
        (
            "relay",
            CheckState::Skipped,
            "no port 25",
            "",
            in_relay(|facts| facts.is_open = false),
        ),
    ]
}
