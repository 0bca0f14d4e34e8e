//! Certificates, names and handshakes.

use std::fs;
use std::path::Path;

use rcgen::{DistinguishedName, DnType, KeyPair};
use zeroize::Zeroizing;

use super::*;
use crate::shell::certificates::certificate::PairFault;
use crate::shell::certificates::pairs::PairError;
use crate::shell::certificates::pairs::PairFiles;

pub(super) fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub(super) fn files(folder: &str, names: &[&str]) -> FoundPair {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    FoundPair {
        name: folder.into(),
        pair: Some(PairFiles {
            chain: made.cert.pem().into_bytes(),
            key: Zeroizing::new(made.signing_key.serialize_pem().into_bytes()),
            bare_key: None,
        }),
        error: None,
    }
}

/// A pair whose key does not match.
fn mismatched(folder: &str) -> FoundPair {
    let mut found = files(folder, &["x.example"]);
    let other = files("other", &["y.example"]).pair.unwrap();
    found.pair.as_mut().unwrap().key = other.key;
    found
}

fn unreadable(folder: &str) -> FoundPair {
    let path = PathBuf::from(format!("/etc/chopar/tls/{folder}/privkey.pem"));
    FoundPair {
        name: folder.into(),
        pair: None,
        error: Some(PairError::Denied(path, "run chmod g+r on it".into())),
    }
}

/// The certificate that is presented to a client that asks for this name.
pub(super) fn shown(tls: &Tls, asked: &str, names: &[&'static str]) -> Option<&'static str> {
    let mut client = tls
        .connection(&client_side(asked, CertificateTrust::Any))
        .unwrap();
    drop(handshake(tls, &mut client).unwrap());
    let chain = client.peer_certificates().unwrap().to_vec();
    let parsed = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    let is_for = |name: &&&str| {
        let name = ServerName::try_from(**name).unwrap();
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    };
    names.iter().find(is_for).copied()
}

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub(super) fn causes(tls: &Tls) -> Vec<(String, CertificateCause, ServedInstead)> {
    let findings = tls.findings(&domain("mail.example.com"), NOW);
    let of = |finding: CertificateFinding| (finding.name.into(), finding.cause, finding.shown);
    findings.into_iter().map(of).collect()
}

/// Runs both ends against each other in memory.
fn handshake(tls: &Tls, client: &mut Connection) -> Result<Connection, String> {
    let mut server = tls.connection(&TlsSide::Server)?;
    while server.is_handshaking() || client.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server
                .process_new_packets()
                .map_err(|error| error.to_string())?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client
                .process_new_packets()
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(server)
}

fn client_side(name: &str, trust: CertificateTrust) -> TlsSide {
    TlsSide::Client {
        name: domain(name),
        trust,
    }
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let files = [
        files("a", &["a.example"]),
        files("b", &["mail.example.com", "*.b.example"]),
    ];
    let tls = Tls::new(&files, &domain("mail.example.com")).unwrap();
    assert!(!tls.is_self_signed() && causes(&tls).is_empty());
    let names = ["a.example", "mail.example.com", "x.b.example"];
    let chosen = |asked| shown(&tls, asked, &names);
    assert_eq!(chosen("a.example"), Some("a.example"));
    assert_eq!(chosen("x.b.example"), Some("mail.example.com"));
    assert_eq!(chosen("other.example"), Some("mail.example.com"));
    assert_eq!(chosen("[192.0.2.1]"), Some("mail.example.com"));
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_and_the_others_serve() {
    let good = files("good", &["mail.example.com"]);
    let tls = Tls::new(&[mismatched("broken"), good], &domain("mail.example.com")).unwrap();
    let expected = CertificateCause::Unusable(PairFault::Mismatch);
    assert_eq!(
        causes(&tls),
        [("broken".to_owned(), expected, ServedInstead::Others)]
    );
    assert_eq!(tls.served(), 1);
}

#[test]
fn nothing_but_a_pair_that_works_replaces_one_that_works() {
    let hostname = domain("mail.example.com");
    let names = ["mail.example.com", "new.example"];
    let good = files("a", &["mail.example.com"]);
    let mut tls = Tls::new(&[good], &hostname).unwrap();
    let cut = |keep: fn(&mut PairFiles)| {
        let mut found = files("a", &["new.example"]);
        keep(found.pair.as_mut().unwrap());
        found
    };
    let bad: Vec<(&str, Vec<FoundPair>)> = vec![
        ("cannot be read", vec![unreadable("a")]),
        ("does not match", vec![mismatched("a")]),
        (
            "chain cut short",
            vec![cut(|pair| pair.chain.truncate(100))],
        ),
        ("key cut short", vec![cut(|pair| pair.key.truncate(60))]),
        ("chain empty", vec![cut(|pair| pair.chain.clear())]),
        ("gone", vec![]),
        ("another name", vec![unreadable("b")]),
    ];
    for gone in [Gone::Kept, Gone::Dropped] {
        for (what, found) in &bad {
            tls.take(found, &hostname, gone, NOW).unwrap();
            assert_eq!(shown(&tls, names[0], &names), Some(names[0]), "{what}");
            assert!(!tls.is_self_signed(), "{what}");
            assert!(!causes(&tls).is_empty(), "{what}");
        }
    }
    let renewed = files("a", &["mail.example.com", "new.example"]);
    tls.take(&[renewed], &hostname, Gone::Kept, NOW).unwrap();
    assert_eq!(causes(&tls), []);
    assert_eq!(shown(&tls, "new.example", &names[1..]), Some("new.example"));
}

#[test]
fn a_pair_whose_folder_was_removed_goes_with_a_reload_where_there_is_another() {
    let hostname = domain("mail.example.com");
    let both = || [files("a", &["a.example"]), files("b", &["b.example"])];
    let mut tls = Tls::new(&both(), &hostname).unwrap();
    let [_, b] = both();
    tls.take(&[b], &hostname, Gone::Kept, NOW).unwrap();
    assert_eq!(tls.served(), 2);
    let [_, b] = both();
    tls.take(&[b], &hostname, Gone::Dropped, NOW).unwrap();
    assert_eq!(tls.served(), 1);
}

#[test]
fn a_pair_that_was_obtained_goes_with_its_folder_even_where_there_is_no_other() {
    let hostname = domain("mail.example.com");
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let mut tls = Tls::new(&[files("acme:a.example", &["a.example"])], &hostname).unwrap();
    tls.keep(state).unwrap();
    tls.take(&[], &hostname, Gone::Kept, NOW).unwrap();
    assert!(!tls.is_self_signed());
    tls.take(&[], &hostname, Gone::Dropped, NOW).unwrap();
    assert!(tls.is_self_signed());
    // A restart does not bring it back.
    let kept = last_good::read(state);
    assert_eq!(kept.pairs.len(), 1);
    let tls = Tls::start(&[], &kept, &hostname, NOW).unwrap();
    assert!(tls.is_self_signed());
    last_good::forget(state, "acme:a.example").unwrap();
    last_good::forget(state, "acme:a.example").unwrap();
    assert_eq!(last_good::read(state).pairs.len(), 0);
}

/// A pair for this name with this kind of key, valid from and to these days of 2026.
fn pair(
    folder: &str,
    name: &str,
    kind: &'static rcgen::SignatureAlgorithm,
    days: [(u8, u8); 2],
) -> FoundPair {
    let key = match kind == &rcgen::PKCS_RSA_SHA256 {
        true => rcgen::KeyPair::from_pem(RSA_KEY).unwrap(),
        false => rcgen::KeyPair::generate_for(kind).unwrap(),
    };
    let mut made = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let [from, to] = days.map(|(month, day)| rcgen::date_time_ymd(2026, month, day));
    (made.not_before, made.not_after) = (from, to);
    let made = made.self_signed(&key).unwrap();
    FoundPair {
        name: folder.into(),
        pair: Some(PairFiles {
            chain: made.pem().into_bytes(),
            key: Zeroizing::new(key.serialize_pem().into_bytes()),
            bare_key: None,
        }),
        error: None,
    }
}

const RSA_KEY: &str = include_str!("../../../tests/data/dkim/rsa-2048-pkcs8.pem");
/// 2026-06-15T00:00:00Z
const JUNE: Timestamp = Timestamp::from_seconds(1_781_481_600);

/// The folder of the pair that is shown to a client that can verify these signatures, in June.
fn chosen(tls: &Tls, asked: &str, schemes: &[SignatureScheme]) -> String {
    let certificates = Certificates {
        all: tls
            .served
            .iter()
            .map(|served| Arc::clone(&served.certificate))
            .collect(),
        hostname: Some(domain("mail.example.com")),
    };
    let chosen = certificates.choose(Some(asked), schemes, JUNE).unwrap();
    let mut served = tls.served.iter();
    let found = served.find(|served| served.certificate.certified.cert == chosen.cert);
    found.unwrap().name.to_string()
}

#[test]
fn of_pairs_of_a_name_the_one_that_serves_the_client_best_is_shown() {
    use rcgen::{PKCS_ECDSA_P256_SHA256 as ECDSA, PKCS_RSA_SHA256 as RSA};

    let ec = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let rsa = [
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let both = [&ec[..], &rsa[..]].concat();
    let (past, now, long, future) = (
        [(1, 1), (3, 1)],
        [(5, 1), (8, 1)],
        [(5, 1), (9, 1)],
        [(7, 1), (9, 1)],
    );
    let name = "mail.example.com";
    let start =
        |found: &[FoundPair]| Tls::start(found, &LastGood::default(), &domain(name), JUNE).unwrap();

    let tls = start(&[pair("ec", name, &ECDSA, now), pair("rsa", name, &RSA, now)]);
    assert_eq!(chosen(&tls, name, &both), "ec");
    assert_eq!(chosen(&tls, name, &ec), "ec");
    assert_eq!(chosen(&tls, name, &rsa), "rsa");
    assert_eq!(chosen(&tls, "other.example", &rsa), "rsa");
    let choices = tls.choices(JUNE);
    assert_eq!(
        choices,
        [
            "mail.example.com: clients are shown tls/ec (ECDSA, until 2026-08-01T00:00:00Z), and those that cannot verify \
          ECDSA tls/rsa (RSA, until 2026-08-01T00:00:00Z)"
        ]
    );

    // Valid before the better kind; but a certificate that the client cannot verify at all is useless.
    let tls = start(&[pair("ec", name, &ECDSA, past), pair("rsa", name, &RSA, now)]);
    assert_eq!(chosen(&tls, name, &both), "rsa");
    assert_eq!(chosen(&tls, name, &ec), "ec");

    // As certbot leaves them: NAME has ended, NAME-0001 is renewed.
    for ended in [past, future] {
        let found = [
            pair(name, name, &ECDSA, ended),
            pair("mail.example.com-0001", name, &ECDSA, now),
        ];
        let tls = start(&found);
        assert_eq!(chosen(&tls, name, &both), "mail.example.com-0001");
    }
    let tls = start(&[pair("a", name, &ECDSA, past), pair("b", name, &ECDSA, now)]);
    let findings = tls.findings(&domain(name), JUNE);
    let to = Timestamp::from_seconds(1_772_323_200);
    let expected = CertificateCause::Superseded { to, by: "b".into() };
    assert_eq!(findings[0].cause, expected);
    assert_eq!(findings.len(), 1);

    // The one that expires last.
    let found = [
        pair("a", name, &ECDSA, now),
        pair("b", name, &ECDSA, long),
        pair("c", name, &ECDSA, now),
    ];
    let tls = start(&found);
    assert_eq!(chosen(&tls, name, &both), "b");
    assert!(
        tls.choices(JUNE)[0].ends_with("tls/c (ECDSA, until 2026-08-01T00:00:00Z) is in reserve")
    );
}

/// The stored certificates, as the next start reads them.
pub(super) fn restart(tls: &Tls, state: &Path) -> LastGood {
    tls.keep(state).unwrap();
    last_good::read(state)
}

#[test]
fn the_last_good_pair_outlasts_a_restart() {
    let hostname = domain("mail.example.com");
    let names = ["mail.example.com", "new.example"];
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let first = Tls::new(&[files("a", &["mail.example.com"])], &hostname).unwrap();
    let kept = restart(&first, state);
    let start =
        |found: &[FoundPair], kept: &LastGood| Tls::start(found, kept, &hostname, NOW).unwrap();
    for found in [vec![unreadable("a")], vec![mismatched("a")], vec![]] {
        let tls = start(&found, &kept);
        assert_eq!(shown(&tls, names[0], &names), Some(names[0]));
        assert_eq!(causes(&tls)[0].2, ServedInstead::LastGood);
        // And the next one.
        let kept = restart(&tls, state);
        assert!(!start(&found, &kept).is_self_signed());
    }
    // A working pair replaces it, and one whose folder was removed is dropped if there is another.
    let tls = start(&[files("a", &["new.example"])], &kept);
    assert_eq!(shown(&tls, names[1], &names[1..]), Some(names[1]));
    let tls = start(&[files("b", &["new.example"])], &kept);
    assert_eq!(tls.served(), 1);
    let kept = restart(&tls, state);
    let kept: Vec<&str> = kept.pairs.iter().map(|(name, _)| &**name).collect();
    assert_eq!(kept, ["b"]);
    // An expired one is no better than a self-signed one.
    let past = pair(
        "a",
        "mail.example.com",
        &rcgen::PKCS_ECDSA_P256_SHA256,
        [(1, 1), (3, 1)],
    );
    let kept = restart(&Tls::new(&[past], &hostname).unwrap(), state);
    assert!(start(&[unreadable("a")], &kept).is_self_signed());
}

#[test]
fn a_key_that_root_has_read_is_served_and_not_kept() {
    let hostname = domain("mail.example.com");
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let first = Tls::new(&[files("a", &["mail.example.com"])], &hostname).unwrap();
    let kept = restart(&first, state);
    assert_eq!(kept.pairs.len(), 1);
    let read_by_root = FoundPair {
        pair: files("a", &["mail.example.com"]).pair,
        ..unreadable("a")
    };
    let tls = Tls::start(&[read_by_root], &kept, &hostname, NOW).unwrap();
    assert!(!tls.is_self_signed());
    assert_eq!(restart(&tls, state).pairs.len(), 0);
}

#[test]
fn what_is_kept_is_the_accounts_alone_and_nothing_else_is_believed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let hostname = domain("mail.example.com");
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let tls = Tls::new(&[files("a", &["mail.example.com"])], &hostname).unwrap();
    tls.keep(state).unwrap();
    let folder = state.join("tls-last-good");
    let path = folder.join("a.pem");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    let count = || last_good::read(state).pairs.len();
    assert_eq!(count(), 1);
    symlink(&path, folder.join("b.pem")).unwrap();
    assert_eq!(count(), 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(count(), 0);
    fs::write(folder.join("left-over"), "x").unwrap();
    tls.keep(state).unwrap();
    assert_eq!((count(), fs::read_dir(&folder).unwrap().count()), (1, 1));
}

#[test]
fn the_self_signed_certificate_is_made_once_for_a_name() {
    let hostname = domain("mail.example.com");
    let place = tempfile::tempdir().unwrap();
    let state = place.path();
    let mut tls = Tls::start(&[], &LastGood::default(), &hostname, NOW).unwrap();
    let made = tls.made().unwrap().to_vec();
    tls.take(&[], &hostname, Gone::Dropped, NOW).unwrap();
    assert_eq!(tls.made(), Some(&*made));
    let kept = restart(&tls, state);
    let tls = Tls::start(&[], &kept, &hostname, NOW).unwrap();
    assert_eq!(tls.made(), Some(&*made));
    let text = std::process::Command::new("openssl")
        .args([
            "x509",
            "-noout",
            "-subject",
            "-ext",
            "subjectAltName",
            "-enddate",
            "-in",
        ])
        .arg(state.join("tls-self-signed.pem"))
        .output();
    let text = String::from_utf8(text.unwrap().stdout)
        .unwrap()
        .replace(' ', "");
    assert!(text.contains("subject=CN=mail.example.com\n"), "{text}");
    assert!(text.contains("DNS:mail.example.com\n"), "{text}");
    // It outlasts two years but for a month; another name has another.
    let later = |days: u64| Timestamp::from_seconds(NOW.seconds() + days * 86_400);
    assert!(!tls.is_due(&hostname, later(690)) && tls.is_due(&hostname, later(705)));
    let renewed = Tls::start(&[], &kept, &hostname, later(705)).unwrap();
    assert_ne!(renewed.made(), Some(&*made));
    let renamed = Tls::start(&[], &kept, &domain("mx.example.com"), NOW).unwrap();
    assert_ne!(renamed.made(), Some(&*made));
}

#[test]
fn a_leaf_without_its_issuer_is_said_once_and_one_of_a_known_root_is_not() {
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = |is_root: bool| {
        let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
        ca.distinguished_name = DistinguishedName::new();
        // ISRG Root X1, as the roots have it.
        match is_root {
            true => {
                ca.distinguished_name.push(
                    DnType::CountryName,
                    rcgen::DnValue::PrintableString("US".try_into().unwrap()),
                );
                ca.distinguished_name.push(
                    DnType::OrganizationName,
                    rcgen::DnValue::PrintableString(
                        "Internet Security Research Group".try_into().unwrap(),
                    ),
                );
                ca.distinguished_name.push(
                    DnType::CommonName,
                    rcgen::DnValue::PrintableString("ISRG Root X1".try_into().unwrap()),
                );
            }
            false => ca.distinguished_name.push(DnType::CommonName, "R99"),
        }
        rcgen::Issuer::new(ca, rcgen::KeyPair::generate().unwrap())
    };
    for is_root in [false, true] {
        let server = rcgen::CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
        let server = server.signed_by(&key, &issuer(is_root)).unwrap();
        let found = FoundPair {
            name: "a".into(),
            pair: Some(PairFiles {
                chain: server.pem().into_bytes(),
                key: Zeroizing::new(key.serialize_pem().into_bytes()),
                bare_key: None,
            }),
            error: None,
        };
        let tls = Tls::new(&[found], &domain("mail.example.com")).unwrap();
        let issuer = "\"R99\"".to_owned();
        let found = causes(&tls).iter().any(|(_, cause, _)| {
            *cause
                == CertificateCause::NoIssuer {
                    issuer: issuer.clone(),
                }
        });
        assert_eq!(found, !is_root, "{:?}", causes(&tls));
        assert_eq!(causes(&tls).len(), usize::from(!is_root));
    }
}

#[test]
fn the_end_of_a_certificate_is_seen_from_20_7_and_1_days_before() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut made = rcgen::CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    made.not_before = rcgen::date_time_ymd(2026, 1, 1);
    made.not_after = rcgen::date_time_ymd(2026, 3, 1);
    let made = made.self_signed(&key).unwrap();
    let found = FoundPair {
        name: "a".into(),
        pair: Some(PairFiles {
            chain: made.pem().into_bytes(),
            key: Zeroizing::new(key.serialize_pem().into_bytes()),
            bare_key: None,
        }),
        error: None,
    };
    let hostname = domain("mail.example.com");
    let tls = Tls::new(&[found], &hostname).unwrap();
    // 2026-03-01T00:00:00Z
    let to = Timestamp::from_seconds(1_772_323_200);
    let before = |seconds: u64| {
        let findings = tls.findings(&hostname, Timestamp::from_seconds(to.seconds() - seconds));
        findings.into_iter().next().map(|finding| finding.cause)
    };
    let expires = |days| Some(CertificateCause::Expires { to, days });
    let day = 86_400;
    assert_eq!(before(20 * day), None);
    assert_eq!(before(20 * day - 1), expires(20));
    assert_eq!(before(7 * day), expires(20));
    assert_eq!(before(7 * day - 1), expires(7));
    assert_eq!(before(day - 1), expires(1));
    assert_eq!(before(0), Some(CertificateCause::Expired { to }));
    let from = Timestamp::from_seconds(to.seconds() - 59 * day);
    assert_eq!(
        before(59 * day + 1),
        Some(CertificateCause::NotYet { from })
    );
}

#[test]
fn without_certificates_one_is_made_and_opportunistic_clients_say_it_is_not_verified() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    assert!(tls.is_self_signed());
    let side = client_side("mail.example.com", CertificateTrust::Any);
    let mut client = tls.connection(&side).unwrap();
    let server = handshake(&tls, &mut client).unwrap();
    let session = tls.session(&client, &side);
    assert_eq!((session.version, session.verified), ("TLSv1.3", false));
    assert_eq!(session, tls.session(&server, &TlsSide::Server));
    assert!(session.cipher.starts_with("TLS_"), "{}", session.cipher);
}

#[test]
fn a_client_that_insists_refuses_a_self_signed_certificate() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    let mut client = tls
        .connection(&client_side("mail.example.com", CertificateTrust::Verified))
        .unwrap();
    let error = handshake(&tls, &mut client).map(drop).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn names_that_no_certificate_can_have_still_get_opportunistic_tls() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    for name in ["[192.0.2.1]", "[IPv6:2001:db8::1]", "mail_1.example.com"] {
        let side = client_side(name, CertificateTrust::Any);
        let mut client = tls.connection(&side).unwrap();
        handshake(&tls, &mut client).unwrap();
        assert!(!tls.session(&client, &side).verified, "{name}");
    }
}

#[test]
fn only_smtp_is_taken_as_alpn() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    for (protocol, taken) in [("smtp", true), ("http/1.1", false)] {
        let mut config = ClientConfig::clone(&tls.clients().unwrap().any);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("mail.example.com").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)
            .unwrap()
            .into();
        assert_eq!(handshake(&tls, &mut client).is_ok(), taken, "{protocol}");
    }
}

#[test]
fn the_digest_for_tlsa_is_that_of_the_key_that_clients_are_shown() {
    let host = domain("mail.example.com");
    let own = files("mail", &["mail.example.com"]);
    let pem = String::from_utf8(own.pair.as_ref().unwrap().key.to_vec()).unwrap();
    // The same by rcgen, which writes SubjectPublicKeyInfo itself.
    let key = KeyPair::from_pem(&pem).unwrap();
    let info = rcgen::PublicKeyData::subject_public_key_info(&key);
    let expected = ::ring::digest::digest(&::ring::digest::SHA256, &info);
    let tls = Tls::new(&[files("www", &["www.example.com"]), own], &host).unwrap();
    assert_eq!(
        tls.key_digest(&host, wall()).as_deref(),
        Some(expected.as_ref())
    );
    // A certificate that was made here changes, and one for another name is not shown for this one.
    let made = Tls::new(&[], &host).unwrap();
    assert_eq!(made.key_digest(&host, wall()), None);
    let other = Tls::new(&[files("www", &["www.example.com"])], &host).unwrap();
    assert_eq!(other.key_digest(&host, wall()), None);
}
