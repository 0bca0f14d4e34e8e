//! Sockets for ACME challenges that systemd's own tool passes to the daemon.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::pebble::{LONG, relay_with_ca, shown};
use crate::process::{program, run, wait_for};
use crate::relay::CHOPAR;
use crate::world::free_port;

#[test]
fn challenges_are_answered_on_sockets_that_systemd_passes() {
    let zone = "b.relay.test. A 127.0.0.1";
    let (mut relay, pebble) = relay_with_ca(&[], "", zone);
    relay.stop();
    // The daemon's own ports for challenges differ from those that the CA connects to.
    let table = |more: &str| {
        let table = pebble.table(&format!("enabled = true\n{more}"));
        table
            .replace(
                &format!("http_port = {}", pebble.http_port),
                &format!("http_port = {}", free_port()),
            )
            .replace(
                &format!("tls_port = {}", pebble.tls_port),
                &format!("tls_port = {}", free_port()),
            )
    };
    relay.setup.tables = table("");
    relay.write_config();
    let listen = |port: u16| format!("--listen=127.0.0.1:{port}");
    relay.setup.wrapper = vec![
        program("systemd-socket-activate").display().to_string(),
        listen(pebble.http_port),
        listen(pebble.tls_port),
        "--fdname=acme-http:acme-tls".to_owned(),
    ];
    // The tool starts the daemon at the first connection, and the daemon must tolerate a silent one.
    let started = Arc::new(AtomicBool::new(false));
    let knock = {
        let (started, port) = (Arc::clone(&started), pebble.http_port);
        thread::spawn(move || {
            while !started.load(Ordering::Relaxed) {
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    relay.run();
    started.store(true, Ordering::Relaxed);
    knock.join().expect("it ends");
    let obtained = |name: &str| {
        let line = format!("event=certificate-renewal name={name} until=");
        wait_for("a certificate", LONG, || relay_log_has(&relay.log(), &line));
        wait_for("it to be served", LONG, || {
            shown(&relay, name).contains("Pebble").then_some(())
        });
    };
    obtained("mail.relay.test");
    // Between two challenges the socket stays open, since it is systemd's, and nothing answers on it.
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, pebble.http_port)).is_err());

    let path = relay.config().join("chopar.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    let (front, _) = text.split_once("[acme]").expect("the table");
    let more = "challenge = \"tls-alpn-01\"\nnames = [\"b.relay.test\"]";
    std::fs::write(&path, format!("{front}{}", table(more))).expect("a file");
    let mut command = Command::new(CHOPAR);
    run(command.arg("-C").arg(relay.config()).arg("reload"), b"").ok();
    obtained("b.relay.test");
    relay.stop();
}

fn relay_log_has(log: &str, line: &str) -> Option<()> {
    assert!(!log.contains("cause=\"mail.relay.test by"), "{log}");
    log.contains(line).then_some(())
}
