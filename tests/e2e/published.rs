//! The pages that a domain publishes over HTTPS, as curl reads them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::process::{Output, program, run};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

/// A relay that publishes the pages of relay.test, and its port.
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

/// Requests a page under a host name, trusting the certificate for that name.
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
    // A client that prefers HTTP/2 also finds a common protocol.
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
fn thunderbird_and_outlook_get_their_settings() {
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
fn one_client_blocks_neither_other_clients_nor_mail() {
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

#[test]
fn many_clients_of_few_networks_do_not_displace_another() {
    let (_relay, port) = relay();
    let connect = |from: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from((from, 0)).into())
            .expect("a source");
        socket
            .connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())
            .expect("connected");
        TcpStream::from(socket)
    };
    let mut reader = connect([127, 0, 0, 1]);
    let clients: Vec<TcpStream> = (0..30)
        .flat_map(|_| (1..=9).map(|site| connect([127, 1, site, 1])))
        .collect();
    // A displaced client is closed at once. The reader is not, so its read times out.
    reader
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("set");
    let error = reader.read(&mut [0; 1]).expect_err("it is waited for");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    drop(clients);
}

#[test]
fn stored_mail_is_acknowledged_while_clients_are_being_closed() {
    let (relay, port) = relay();
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("a limit");
    let (is_over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Each fails its handshake, gets the alert, and stays connected.
    let flood = || {
        let mut open = Vec::new();
        while !is_over.load(Ordering::Relaxed) && open.len() < 2_000 {
            let mut one = TcpStream::connect(("127.0.0.1", port)).expect("connected");
            let _ = one.write_all(b"no handshake\r\n");
            let _ = one.read(&mut [0; 64]);
            open.push(one);
            opened.fetch_add(1, Ordering::Relaxed);
        }
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
    };
    let heard = thread::scope(|scope| {
        let floods = [(); 4].map(|()| scope.spawn(flood));
        let begun = Instant::now();
        while opened.load(Ordering::Relaxed) < 1_100 && begun.elapsed() < crate::process::PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let heard: Vec<String> = (0..3)
            .map(|_| {
                let mut client = relay.client();
                client.say("MAIL FROM:<ann@relay.test>");
                client.say("RCPT TO:<bob@four.test>");
                client.say("DATA");
                client.send(b"From: ann@relay.test\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n");
                client.rest()
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().expect("it has run");
        }
        heard
    });
    for said in heard {
        let codes: Vec<&str> = said.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["250", "221"], "{said:?}");
    }
}
