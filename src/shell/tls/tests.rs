//! Certificates, names and handshakes.

use zeroize::Zeroizing;

use super::*;
use crate::shell::certificate_files::Pair;

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn files(folder: &str, names: &[&str]) -> Found {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Found {
        name: folder.into(),
        pair: Some(Pair {
            chain: made.cert.pem().into_bytes(),
            key: Zeroizing::new(made.signing_key.serialize_pem().into_bytes()),
            bare_key: None,
        }),
        error: None,
    }
}

/// A pair whose key is that of another.
fn mismatched(folder: &str) -> Found {
    let mut found = files(folder, &["x.example"]);
    let other = files("other", &["y.example"]).pair.unwrap();
    found.pair.as_mut().unwrap().key = other.key;
    found
}

fn unreadable(folder: &str) -> Found {
    let path = PathBuf::from(format!("/etc/chopar/tls/{folder}/privkey.pem"));
    Found {
        name: folder.into(),
        pair: None,
        error: Some(PairError::Denied(path, "run chmod g+r on it".into())),
    }
}

/// The name that a client is shown who asks for this one.
fn shown(tls: &Tls, asked: &str, names: &[&'static str]) -> Option<&'static str> {
    let mut client = tls.connection(&client_side(asked, Trust::Any)).unwrap();
    drop(handshake(tls, &mut client).unwrap());
    let chain = client.peer_certificates().unwrap().to_vec();
    let parsed = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    let is_for = |name: &&&str| {
        let name = ServerName::try_from(**name).unwrap();
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    };
    names.iter().find(is_for).copied()
}

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn causes(tls: &Tls) -> Vec<(String, Cause, Shown)> {
    let findings = tls.findings(&domain("mail.example.com"), NOW);
    let of = |finding: Finding| (finding.name.into(), finding.cause, finding.shown);
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

fn client_side(name: &str, trust: Trust) -> TlsSide {
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
    let expected = Cause::Unusable(Fault::Mismatch);
    assert_eq!(
        causes(&tls),
        [("broken".to_owned(), expected, Shown::Others)]
    );
    assert_eq!(tls.served(), 1);
}

#[test]
fn nothing_but_a_pair_that_works_replaces_one_that_works() {
    let hostname = domain("mail.example.com");
    let names = ["mail.example.com", "new.example"];
    let good = files("a", &["mail.example.com"]);
    let mut tls = Tls::new(&[good], &hostname).unwrap();
    let cut = |keep: fn(&mut Pair)| {
        let mut found = files("a", &["new.example"]);
        keep(found.pair.as_mut().unwrap());
        found
    };
    let bad: Vec<(&str, Vec<Found>)> = vec![
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
            tls.take(found, &hostname, gone).unwrap();
            assert_eq!(shown(&tls, names[0], &names), Some(names[0]), "{what}");
            assert!(!tls.is_self_signed(), "{what}");
            assert!(!causes(&tls).is_empty(), "{what}");
        }
    }
    let renewed = files("a", &["mail.example.com", "new.example"]);
    tls.take(&[renewed], &hostname, Gone::Kept).unwrap();
    assert_eq!(causes(&tls), []);
    assert_eq!(shown(&tls, "new.example", &names[1..]), Some("new.example"));
}

#[test]
fn a_pair_whose_folder_was_removed_goes_with_a_reload_where_there_is_another() {
    let hostname = domain("mail.example.com");
    let both = || [files("a", &["a.example"]), files("b", &["b.example"])];
    let mut tls = Tls::new(&both(), &hostname).unwrap();
    let [_, b] = both();
    tls.take(&[b], &hostname, Gone::Kept).unwrap();
    assert_eq!(tls.served(), 2);
    let [_, b] = both();
    tls.take(&[b], &hostname, Gone::Dropped).unwrap();
    assert_eq!(tls.served(), 1);
}

#[test]
fn the_end_of_a_certificate_is_seen_from_20_7_and_1_days_before() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut made = rcgen::CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    made.not_before = rcgen::date_time_ymd(2026, 1, 1);
    made.not_after = rcgen::date_time_ymd(2026, 3, 1);
    let made = made.self_signed(&key).unwrap();
    let found = Found {
        name: "a".into(),
        pair: Some(Pair {
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
    let expires = |days| Some(Cause::Expires { to, days });
    let day = 86_400;
    assert_eq!(before(20 * day), None);
    assert_eq!(before(20 * day - 1), expires(20));
    assert_eq!(before(7 * day), expires(20));
    assert_eq!(before(7 * day - 1), expires(7));
    assert_eq!(before(day - 1), expires(1));
    assert_eq!(before(0), Some(Cause::Expired { to }));
    let from = Timestamp::from_seconds(to.seconds() - 59 * day);
    assert_eq!(before(59 * day + 1), Some(Cause::NotYet { from }));
}

#[test]
fn without_certificates_one_is_made_and_opportunistic_clients_say_it_is_not_verified() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    assert!(tls.is_self_signed());
    let side = client_side("mail.example.com", Trust::Any);
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
        .connection(&client_side("mail.example.com", Trust::Verified))
        .unwrap();
    let error = handshake(&tls, &mut client).map(drop).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn names_that_no_certificate_can_have_still_get_opportunistic_tls() {
    let tls = Tls::new(&[], &domain("mail.example.com")).unwrap();
    for name in ["[192.0.2.1]", "[IPv6:2001:db8::1]", "mail_1.example.com"] {
        let side = client_side(name, Trust::Any);
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
