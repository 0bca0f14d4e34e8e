//! Pairs as ACME clients, people and half-finished copies leave them.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use zeroize::Zeroizing;

use super::*;

/// An authority's certificate, a server's, and the server's key, each in PEM.
fn chain() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    (ca_pem, server.pem(), key.serialize_pem())
}

fn judge(chain: &str, key: &str) -> Result<Certificate, Fault> {
    let pair = Pair {
        chain: chain.as_bytes().to_vec(),
        key: Zeroizing::new(key.as_bytes().to_vec()),
        bare_key: None,
    };
    Certificate::judge(&pair, &ring::default_provider())
}

/// What openssl makes of these words.
fn openssl(words: &str) -> String {
    let output = std::process::Command::new("openssl")
        .args(words.split(' '))
        .output()
        .expect("openssl is installed");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_chain_in_order_is_served_as_it_is() {
    let (ca, server, key) = chain();
    let certificate = judge(&format!("{server}{ca}"), &key).unwrap();
    assert!(!certificate.is_out_of_order && certificate.has_name("mail.example.com"));
    assert_eq!(certificate.certified.cert.len(), 2);
}

#[test]
fn blocks_glued_together_and_an_issuer_in_front_are_served_all_the_same() {
    let (ca, server, key) = chain();
    let glued = format!("{}{}", server.trim_end(), ca);
    let certificate = judge(&glued, &key).unwrap();
    assert_eq!(certificate.certified.cert.len(), 2);
    let certificate = judge(&format!("{ca}{server}"), &key).unwrap();
    assert!(certificate.is_out_of_order && certificate.has_name("mail.example.com"));
    assert_eq!(certificate.certified.cert.len(), 2);
}

#[test]
fn what_cannot_be_served_says_why() {
    let (ca, server, key) = chain();
    let (_, _, other) = chain();
    let fault = |chain: &str, key: &str| judge(chain, key).unwrap_err();
    assert_eq!(fault(&server, &other), Fault::Mismatch);
    assert_eq!(fault("", &key), Fault::NoCertificate);
    assert_eq!(fault(&key, &key), Fault::NoCertificate);
    assert!(matches!(fault(&server[..200], &key), Fault::Chain(_)));
    let half = format!("{server}{}", &ca[..200]);
    assert!(matches!(fault(&half, &key), Fault::Chain(_)));
    assert!(matches!(fault(&server, ""), Fault::Key(_)));
    assert!(matches!(fault(&server, &key[..100]), Fault::Key(_)));
    let small = openssl("genrsa 1024");
    assert_eq!(fault(&server, &small), Fault::Kind);
    let p521 = openssl("ecparam -name secp521r1 -genkey -noout");
    assert_eq!(fault(&server, &p521), Fault::Kind);
    let locked = openssl("genpkey -algorithm ed25519 -aes256 -pass pass:secret");
    assert_eq!(fault(&server, &locked), Fault::Encrypted);
}

#[test]
fn times_are_read_in_both_forms() {
    // 2050-01-01T00:00:00Z as a GeneralizedTime, 1999-12-31T23:59:59Z as a UTCTime.
    let late = b"\x18\x0f20500101000000Z";
    let early = b"\x17\x0d991231235959Z";
    let seconds = |bytes| time(bytes).map(|(time, _)| time.seconds());
    assert_eq!(seconds(late), Some(2_524_608_000));
    assert_eq!(seconds(early), Some(946_684_799));
    assert_eq!(seconds(b"\x17\x0d991331235959Z"), None);
    assert_eq!(seconds(b"\x17\x0d99"), None);
}
