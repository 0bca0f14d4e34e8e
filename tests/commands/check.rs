//! `chopar check` on certificates, keys and hooks.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{chopar, folder};

/// Creates a pair for this name in `tls/a`, valid until the end of a year.
fn write_pair(
    folder: &Path,
    name: &str,
    until: i32,
    algorithm: &'static rcgen::SignatureAlgorithm,
) {
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 12, 31);
    let chain = params.self_signed(&key).expect("a certificate").pem();
    let tls = folder.join("tls/a");
    std::fs::create_dir_all(&tls).expect("a folder");
    std::fs::write(tls.join("fullchain.pem"), chain).expect("a file");
    let path = tls.join("privkey.pem");
    std::fs::write(&path, key.serialize_pem()).expect("a file");
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
}

/// Runs openssl with these words in a folder.
fn openssl(folder: &Path, words: &str) {
    let made = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "openssl {words}: {made:?}");
}

#[test]
fn check_names_each_error_and_its_fix() {
    let place = folder();
    let folder = place.path();
    let judge = |code: i32, expected: &[&str]| {
        let (found, output, errors) = chopar(folder, &["check"], "");
        assert_eq!(found, code, "{errors}");
        for text in expected {
            assert!(errors.contains(text), "expected {text}: {errors}");
        }
        assert_eq!(code == 0, output.starts_with("ok: "), "{output}");
    };
    let good = || {
        write_pair(
            folder,
            "mail.example.com",
            2050,
            &rcgen::PKCS_ECDSA_P256_SHA256,
        )
    };
    judge(
        0,
        &["there is no DKIM key", "chopar dkim keygen example.com"],
    );
    good();
    judge(0, &[]);
    // Other accounts must not be able to read the key.
    let key = folder.join("tls/a/privkey.pem");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    judge(0, &["tls/a/privkey.pem", "chmod o-r"]);
    // Pairs that the daemon cannot serve.
    good();
    std::fs::write(folder.join("tls/a/fullchain.pem"), "").expect("a file");
    judge(
        78,
        &["tls/a/fullchain.pem", "there is no certificate in it"],
    );
    good();
    openssl(
        folder,
        "ec -in tls/a/privkey.pem -aes128 -passout pass:x -out tls/a/privkey.pem",
    );
    judge(
        78,
        &[
            "tls/a/privkey.pem",
            "the key has a passphrase",
            "openssl pkey",
        ],
    );
    for kind in ["ec -pkeyopt ec_paramgen_curve:P-521", "rsa:1024"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey {kind} -nodes -keyout tls/a/privkey.pem -out tls/a/fullchain.pem -days 90 \
                 -subj /CN=mail.example.com -addext subjectAltName=DNS:mail.example.com"
            ),
        );
        judge(
            78,
            &["tls/a/privkey.pem", "the key cannot be used", "P-256"],
        );
    }
    // Pairs that it can serve but that clients may refuse.
    write_pair(folder, "other.example", 2050, &rcgen::PKCS_ED25519);
    judge(0, &["no certificate is for mail.example.com"]);
    write_pair(
        folder,
        "mail.example.com",
        2021,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    );
    judge(0, &["tls/a/fullchain.pem", "the certificate ended at"]);
    good();
    std::fs::create_dir_all(folder.join("hooks")).expect("a folder");
    let hook = folder.join("hooks/post-data");
    std::fs::write(&hook, "#!/bin/sh\n").expect("a file");
    std::fs::set_permissions(&hook, Permissions::from_mode(0o644)).expect("a mode");
    judge(78, &["hooks/post-data", "chmod a+rx"]);
}
