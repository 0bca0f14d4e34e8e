//! Certificate pairs as ACME clients, people and incomplete copies leave them.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use zeroize::Zeroizing;

use super::*;

/// An authority's certificate, a server's, and the server's key, each in PEM.
fn chain() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut ca.distinguished_name;
    name.push(rcgen::DnType::CommonName, "An authority");
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    (ca_pem, server.pem(), key.serialize_pem())
}

fn judge(chain: &str, key: &str) -> Result<ServableCertificate, PairFault> {
    let pair = PairFiles {
        chain: chain.as_bytes().to_vec(),
        key: Zeroizing::new(key.as_bytes().to_vec()),
        bare_key: None,
    };
    ServableCertificate::judge(&pair, &ring::default_provider())
}

/// The output of openssl for these arguments.
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
fn a_chain_in_any_order_is_served_from_the_server_up() {
    let made = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, name);
        (ca, key)
    };
    let (root, root_key) = made("root");
    let (one, one_key) = made("one");
    let (two, two_key) = made("two");
    let root = Issuer::new(root, root_key);
    let one_pem = one.signed_by(&one_key, &root).unwrap().pem();
    let one = Issuer::new(one, one_key);
    let two_pem = two.signed_by(&two_key, &one).unwrap().pem();
    let two = Issuer::new(two, two_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    let server = server.signed_by(&key, &two).unwrap().pem();
    let key = key.serialize_pem();
    let right = judge(&format!("{server}{two_pem}{one_pem}"), &key).unwrap();
    assert!(!right.is_out_of_order && right.missing_issuer.is_none());
    for parts in [
        [&server, &one_pem, &two_pem],
        [&one_pem, &two_pem, &server],
        [&two_pem, &server, &one_pem],
        [&one_pem, &server, &two_pem],
    ] {
        let certificate = judge(&parts.map(String::as_str).concat(), &key).unwrap();
        assert!(certificate.is_out_of_order);
        assert_eq!(certificate.certified.cert, right.certified.cert);
    }
}

#[test]
fn a_certificate_without_that_of_its_issuer_is_seen() {
    let (ca, server, key) = chain();
    assert!(
        judge(&format!("{server}{ca}"), &key)
            .unwrap()
            .missing_issuer
            .is_none()
    );
    let missing = judge(&server, &key).unwrap().missing_issuer.unwrap();
    assert_eq!(missing.common_name.as_deref(), Some("An authority"));
    // The issuer of the certificate before.
    let key = KeyPair::generate().unwrap();
    let mut other = CertificateParams::new(vec![]).unwrap();
    other
        .distinguished_name
        .push(rcgen::DnType::CommonName, "another");
    let issuer = Issuer::new(other, KeyPair::generate().unwrap());
    let server = CertificateParams::new(vec!["mail.example.com".into()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let stale = judge(&format!("{}{ca}", server.pem()), &key.serialize_pem()).unwrap();
    let missing = stale.missing_issuer.unwrap();
    assert_eq!(missing.common_name.as_deref(), Some("another"));
    // A self-signed certificate has no issuer above it.
    let alone = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
    let alone = judge(&alone.cert.pem(), &alone.signing_key.serialize_pem()).unwrap();
    assert_eq!(alone.missing_issuer, None);
    assert_eq!(*alone.names, ["a.example".into()]);
}

#[test]
fn what_cannot_be_served_says_why() {
    let (ca, server, key) = chain();
    let (_, _, other) = chain();
    let fault = |chain: &str, key: &str| judge(chain, key).unwrap_err();
    assert_eq!(fault(&server, &other), PairFault::Mismatch);
    assert_eq!(fault("", &key), PairFault::NoCertificate);
    assert_eq!(fault(&key, &key), PairFault::NoCertificate);
    assert!(matches!(fault(&server[..200], &key), PairFault::Chain(_)));
    let half = format!("{server}{}", &ca[..200]);
    assert!(matches!(fault(&half, &key), PairFault::Chain(_)));
    assert!(matches!(fault(&server, ""), PairFault::Key(_)));
    assert!(matches!(fault(&server, &key[..100]), PairFault::Key(_)));
    let small = openssl("genrsa 1024");
    assert_eq!(fault(&server, &small), PairFault::Kind);
    let p521 = openssl("ecparam -name secp521r1 -genkey -noout");
    assert_eq!(fault(&server, &p521), PairFault::Kind);
    let locked = openssl("genpkey -algorithm ed25519 -aes256 -pass pass:secret");
    assert_eq!(fault(&server, &locked), PairFault::Encrypted);
}
