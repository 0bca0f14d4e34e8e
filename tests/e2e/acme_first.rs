//! The first certificate of a machine is obtained once its name leads to it. A certificate that clients refuse replaces
//! no better one.

use std::fs;
use std::process::Command;

use crate::pebble::{LONG, Pebble, cert, list, relay_with_ca, shown};
use crate::process::{run, run_within, wait_for};
use crate::relay::{CHOPAR, Relay};
use crate::world;
use crate::zones::Zones;

#[test]
fn the_certificate_is_ordered_once_the_name_leads_here_and_not_before() {
    let mut zones = Zones::start(&[("late.test", "")]);
    let mut relay = Relay::start();
    let pebble = Pebble::start(zones.port, &[]);
    let table = format!("enabled = true\nzone_port = {}", zones.port);
    relay.setup.tables = pebble.table(&table);
    relay.stop();
    relay.write_config();
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a file");
    let text = text
        .replace("\"mail.relay.test\"", "\"mail.late.test\"")
        .replace(
            &format!("servers = [\"127.0.0.1:{}\"]", relay.dns.port),
            &format!("servers = [\"127.0.0.1:{}\"]", zones.port),
        );
    fs::write(path, text).expect("a file");
    relay.run();
    let waits = |what: &str| {
        wait_for("what it waits for", LONG, || {
            relay.log().contains(what).then_some(())
        });
    };
    let doctor = || {
        let mut command = Command::new(CHOPAR);
        command
            .arg("-C")
            .arg(relay.config())
            .args(["doctor", "--json"]);
        command.args(["--zone-port", &zones.port.to_string()]);
        run_within(&mut command, b"", LONG).stdout
    };
    waits("mail.late.test has no A or AAAA record");
    let said = doctor();
    assert!(
        said.contains("the certificate is waiting for the name to lead here (mail.late.test has no A or AAAA record)"),
        "{said}"
    );
    zones.serve(&[("late.test", "mail.late.test. 60 IN A 192.0.2.9")]);
    waits("mail.late.test leads to 192.0.2.9, which is not an address of this machine");
    assert!(!pebble.log().contains("order-plz"), "{}", pebble.log());
    zones.serve(&[("late.test", "mail.late.test. 60 IN A 127.0.0.1")]);
    waits("event=certificate-renewal name=mail.late.test until=");
    assert!(
        pebble.log().contains("order-plz"),
        "it is a word of its log"
    );
    wait_for("it to be served", LONG, || {
        shown(&relay, "mail.late.test")
            .contains("Pebble")
            .then_some(())
    });
    let log = relay.log();
    assert_eq!(
        log.matches("waiting=").count(),
        2,
        "each is said once: {log}"
    );
    assert!(
        !log.contains("event=certificate-renewal level=warn"),
        "{log}"
    );
    relay.stop();
}

#[test]
fn a_reload_reports_that_an_unreadable_file_needs_a_restart() {
    let (mut relay, pebble) = relay_with_ca(&[], "", "");
    let reload = |relay: &Relay| {
        let mut command = Command::new(CHOPAR);
        let said = run(command.arg("-C").arg(relay.config()).arg("reload"), b"");
        assert_eq!(said.code, 0, "{said:?}");
        said.stdout + &said.stderr
    };
    let needed = "acme.ca_file has changed: that takes effect at the next restart";
    let is_closed = !relay.log().contains("landlock=none");
    // The file is outside of the configuration folder; inside; outside again, from the start.
    assert_eq!(reload(&relay).contains(needed), is_closed);
    fs::copy(pebble.file("cert.pem"), relay.config().join("ca.pem")).expect("a file");
    let outside = relay.setup.tables.clone();
    let path = pebble.file("cert.pem").display().to_string();
    relay.setup.tables = outside.replace(&path, "ca.pem");
    relay.write_config();
    assert!(!reload(&relay).contains(needed));
    relay.setup.tables = outside;
    relay.write_config();
    relay.stop();
    relay.run();
    assert!(!reload(&relay).contains(needed));
}

#[test]
fn an_untrusted_certificate_replaces_no_trusted_one_and_is_served_if_there_is_none() {
    let (mut relay, trusted) = relay_with_ca(&[], "", "b.relay.test. A 127.0.0.1");
    // Both CAs use the same ports for challenges, so one order runs at a time.
    let staging = Pebble::start_beside(&trusted);
    let roots = relay.config().join("roots.pem");
    let text: String = [trusted.file("cert.pem"), staging.file("cert.pem")]
        .into_iter()
        .map(|path| fs::read_to_string(path).expect("a file"))
        .collect();
    fs::write(&roots, text + &trusted.root()).expect("a file");
    let table = trusted.table("");
    relay.setup.tables = table.replace(
        &trusted.file("cert.pem").display().to_string(),
        &roots.display().to_string(),
    );
    relay.write_config();
    let said = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        !said.stderr.contains("clients that verify reject it"),
        "{said:?}"
    );
    let good = shown(&relay, "mail.relay.test");
    let directory = staging.directory();
    let said = cert(&relay, &["obtain", "--agree", "--directory", &directory]);
    assert_eq!(said.code, 69, "{said:?}");
    assert!(
        said.stderr
            .contains("it chains to no root of this system or of acme.ca_file")
            && said
                .stderr
                .contains("that one stays, and the new one is not kept"),
        "{said:?}"
    );
    assert_eq!(shown(&relay, "mail.relay.test"), good);
    assert_eq!(list(&relay).len(), 1);

    // A self-signed certificate installed by hand, under the same name and under another, is not served.
    let tls = relay.config().join("tls");
    for name in ["mail.relay.test", "by-hand"] {
        let folder = tls.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        world::certificate(&folder, "mail.relay.test");
        fs::rename(folder.join("cert.pem"), folder.join("fullchain.pem")).expect("a file");
        fs::rename(folder.join("key.pem"), folder.join("privkey.pem")).expect("a file");
    }
    let mut command = Command::new(CHOPAR);
    run(command.arg("-C").arg(relay.config()).arg("reload"), b"").ok();
    assert_eq!(shown(&relay, "mail.relay.test"), good);

    // If there is no better certificate, it is kept and served, and the output says that clients refuse it.
    let words = [
        "obtain",
        "--agree",
        "--directory",
        &directory,
        "b.relay.test",
    ];
    let said = cert(&relay, &words);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stderr.contains("clients that verify reject it"),
        "{said:?}"
    );
    assert!(shown(&relay, "b.relay.test").contains("Pebble"));
    let said = cert(&relay, &["obtain", "b.relay.test"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        !said.stderr.contains("clients that verify reject it"),
        "{said:?}"
    );
}
