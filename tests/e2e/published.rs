//! What a domain publishes over HTTPS, as curl reads it.

use std::net::TcpStream;
use std::process::Command;

use crate::process::{Output, program, run};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

/// A relay that publishes what relay.test has, and the port.
fn relay() -> (Relay, u16) {
    let port = free_port();
    let setup = Setup {
        listen: format!("https = [\"127.0.0.1:{port}\"]\n"),
        tables: "[domain.\"relay.test\"]\nmta_sts = \"enforce\"\nincoming = \"imaps://imap.home.test\"\n"
            .to_owned(),
        ..Setup::default()
    };
    let relay = setup.start();
    for name in ["mta-sts.relay.test", "autoconfig.relay.test"] {
        relay.install_certificate(name);
    }
    relay.cli(&["reload"]).ok();
    (relay, port)
}

/// Asks under a name, as somebody who trusts the pair of that name.
fn curl(relay: &Relay, port: u16, host: &str, words: &[&str], path: &str) -> Output {
    let pair = relay.config().join("tls").join(host).join("fullchain.pem");
    let mut curl = Command::new(program("curl"));
    curl.args([
        "-sS",
        "--fail-with-body",
        "--resolve",
        &format!("{host}:{port}:127.0.0.1"),
    ]);
    curl.args(words).arg("--cacert").arg(pair);
    run(curl.arg(format!("https://{host}:{port}{path}")), b"")
}

#[test]
fn the_policy_is_served_under_its_name_with_a_certificate_for_it() {
    let (relay, port) = relay();
    let path = "/.well-known/mta-sts.txt";
    let policy = curl(&relay, port, "mta-sts.relay.test", &["--http1.1"], path).ok();
    assert_eq!(
        policy,
        "version: STSv1\r\nmode: enforce\r\nmx: mail.relay.test\r\nmax_age: 2419200\r\n"
    );
    // A client that would rather speak HTTP/2 finds a protocol too.
    let head = curl(&relay, port, "mta-sts.relay.test", &["--http2", "-I"], path).ok();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("Content-Type: text/plain"),
        "{head}"
    );
    let other = curl(&relay, port, "autoconfig.relay.test", &[], path);
    assert!(
        other.code == 22 && other.stderr.contains("404"),
        "{other:?}"
    );
    let text = relay.cli(&["dns", "relay.test"]).stdout;
    for there in ["_mta-sts.relay.test", "mta-sts.relay.test", "v=STSv1; id="] {
        assert!(text.contains(there), "{there}: {text}");
    }
}

#[test]
fn thunderbird_and_outlook_find_their_settings() {
    let (relay, port) = relay();
    let host = "autoconfig.relay.test";
    let text = curl(
        &relay,
        port,
        host,
        &[],
        "/mail/config-v1.1.xml?emailaddress=ann@relay.test",
    )
    .ok();
    assert!(
        text.contains("<hostname>imap.home.test</hostname>"),
        "{text}"
    );
    assert!(
        text.contains("<hostname>mail.relay.test</hostname>"),
        "{text}"
    );
    relay.install_certificate("autodiscover.relay.test");
    relay.cli(&["reload"]).ok();
    let asked = [
        "-H",
        "Content-Type: text/xml",
        "--data",
        "<Autodiscover><Request/></Autodiscover>",
    ];
    let path = "/autodiscover/autodiscover.xml";
    let text = curl(&relay, port, "autodiscover.relay.test", &asked, path).ok();
    assert!(
        text.contains("<Type>IMAP</Type>") && text.contains("<Type>SMTP</Type>"),
        "{text}"
    );
    let refused = curl(
        &relay,
        port,
        host,
        &["--data", "x"],
        "/mail/config-v1.1.xml",
    );
    assert!(
        refused.code == 22 && refused.stderr.contains("405"),
        "{refused:?}"
    );
}

#[test]
fn one_client_does_not_keep_the_others_out_nor_mail_back() {
    let (relay, port) = relay();
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected"))
        .collect();
    assert_eq!(relay.client().say("NOOP").code, 250);
    drop(idle);
    let path = "/.well-known/mta-sts.txt";
    crate::process::wait_for(
        "room for the client again",
        crate::process::PATIENCE,
        || {
            let said = curl(&relay, port, "mta-sts.relay.test", &[], path);
            (said.code == 0).then_some(())
        },
    );
}
