//! Certificates, names and handshakes.

use super::*;
use zeroize::Zeroizing;

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn files(folder: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    CertificateFiles {
        name: folder.into(),
        chain: made.cert.pem().into_bytes().into(),
        key: Arc::new(Zeroizing::new(
            made.signing_key.serialize_pem().into_bytes(),
        )),
    }
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
    let provider = ring::default_provider();
    let (certificates, origin, errors) =
        Certificates::new(&files, &domain("mail.example.com"), &provider).unwrap();
    assert_eq!((origin, errors), (Origin::Folder, Vec::new()));
    let chosen = |name| {
        let certificate = certificates.choose(name).unwrap();
        ["a.example", "mail.example.com"].map(|name| has_name(&certificate, name))
    };
    assert_eq!(chosen(Some("a.example")), [true, false]);
    assert_eq!(chosen(Some("x.b.example")), [false, true]);
    assert_eq!(chosen(Some("other.example")), [false, true]);
    assert_eq!(chosen(None), [false, true]);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_and_the_others_serve() {
    let mut broken = files("broken", &["x.example"]);
    broken.key = Arc::clone(&files("other", &["y.example"]).key);
    let good = files("good", &["mail.example.com"]);
    let (_, origin, errors) = Tls::new(&[broken, good], &domain("mail.example.com"))
        .map(|(_, o, e)| ((), o, e))
        .unwrap();
    assert_eq!(origin, Origin::Folder);
    assert!(matches!(&errors[..], [TlsError::Certificate { name, .. }] if &**name == "broken"));
}

#[test]
fn without_certificates_one_is_made_and_opportunistic_clients_say_it_is_not_verified() {
    let (tls, origin, _) = Tls::new(&[], &domain("mail.example.com")).unwrap();
    assert_eq!(origin, Origin::SelfSigned);
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
    let (tls, _, _) = Tls::new(&[], &domain("mail.example.com")).unwrap();
    let mut client = tls
        .connection(&client_side("mail.example.com", Trust::Verified))
        .unwrap();
    let error = handshake(&tls, &mut client).map(drop).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn names_that_no_certificate_can_have_still_get_opportunistic_tls() {
    let (tls, _, _) = Tls::new(&[], &domain("mail.example.com")).unwrap();
    for name in ["[192.0.2.1]", "[IPv6:2001:db8::1]", "mail_1.example.com"] {
        let side = client_side(name, Trust::Any);
        let mut client = tls.connection(&side).unwrap();
        handshake(&tls, &mut client).unwrap();
        assert!(!tls.session(&client, &side).verified, "{name}");
    }
}

#[test]
fn only_smtp_is_taken_as_alpn() {
    let (tls, _, _) = Tls::new(&[], &domain("mail.example.com")).unwrap();
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
