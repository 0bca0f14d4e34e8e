//! The post-data hook, with SpamAssassin as the filter.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::dkim::dkimpy;
use crate::process::{Guard, PATIENCE, program, wait_for};
use crate::relay::{Relay, Setup, Signing};
use crate::world::free_port;

/// Installs a hook in the configuration folder and reloads.
fn install(relay: &Relay, script: &str) {
    let folder = relay.config().join("hooks");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("new~");
    fs::write(&path, format!("#!/bin/sh\n{script}")).expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&path, folder.join("post-data")).expect("a hook");
    relay.cli(&["reload"]).ok();
}

fn message(body: &str) -> Vec<u8> {
    format!(
        "From: eve@four.test\r\nTo: ann@relay.test\r\nSubject: lunch\r\n\
         Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@four.test>\r\n\r\n{body}\r\n"
    )
    .into_bytes()
}

/// spamd with the tests that need no network.
struct Spamd {
    _server: Guard,
    _folder: TempDir,
    port: u16,
}

impl Spamd {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new(program("spamd"));
        command
            .args(["--local", "--nouser-config", "--max-children", "1"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args([
                "--syslog",
                "stderr",
                "--cf",
                "report_safe 0",
                "--cf",
                "use_bayes 0",
            ]);
        if rustix::process::geteuid().is_root() {
            command.args(["--username", "nobody"]);
        }
        command.env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.path().join("log")).expect("a file"));
        let server = Guard::spawn(&mut command);
        wait_for("spamd to start", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            _server: server,
            _folder: folder,
            port,
        }
    }
}

#[test]
fn spamassassin_refuses_spam_and_marks_the_rest() {
    let spamd = Spamd::start();
    let relay = Setup::unauthenticated_clients().start();
    // As in chopar-hooks(5).
    install(
        &relay,
        &format!(
            "marked=$({} -x -d 127.0.0.1 -p {}) || exit 75\n\
             fields=$(printf '%s\\n' \"$marked\" | awk '/^$/ {{exit}} /^[^ \\t]/ {{keep = /^X-Spam-/}} keep')\n\
             case $fields in\n*'X-Spam-Flag: YES'*) echo 'This looks like spam'; exit 20 ;;\nesac\necho \"$fields\"\n",
            program("spamc").display(),
            spamd.port
        ),
    );
    let ham = message("Shall we meet at noon?");
    let reply = relay
        .client()
        .transaction("eve@four.test", &["ann@relay.test"], &ham);
    assert_eq!(reply.code, 250, "{reply:?}");
    let added = relay.sink.wait(1).remove(0).added_to(&ham);
    let at = |name: &str| {
        added
            .find(name)
            .unwrap_or_else(|| panic!("{name}: {added}"))
    };
    assert!(at("Authentication-Results:") < at("X-Spam-Status: No"));
    let spam = message("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
    let reply = relay
        .client()
        .transaction("eve@four.test", &["ann@relay.test"], &spam);
    assert_eq!(reply.code, 550, "{reply:?}");
    assert_eq!(reply.text, "550 5.7.1 This looks like spam\n");
    // spamd is down: no mail is lost.
    drop(spamd);
    let reply = relay
        .client()
        .transaction("eve@four.test", &["ann@relay.test"], &ham);
    assert_eq!(reply.code, 451, "{reply:?}");
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}

#[test]
fn a_hook_gets_a_large_message_with_its_facts_and_its_added_fields_are_signed() {
    let relay = Setup {
        signing: Signing::Both,
        ..Setup::default()
    }
    .start();
    install(
        &relay,
        "echo 'List-Id: <x.relay.test>'\necho \"X-Length: $(wc -c)\"\necho \"X-Facts: $AUTH_AS $ON_TLS $FROM_LOCAL_DOMAIN $MAIL_FROM $RCPT_TO\"\n",
    );
    let lines = "..0123456789abcdef\r\n".repeat(40_000);
    let large = message(&lines);
    let mut user = relay.user("ann@relay.test");
    let from = "ann@relay.test";
    let text = String::from_utf8(large).expect("ASCII");
    let large = text.replacen("eve@four.test", from, 1).into_bytes();
    let reply = user.transaction(from, &["x@four.test", "bob@relay.test"], &large);
    assert_eq!(reply.code, 250, "{reply:?}");
    let added = relay.sink.wait(1).remove(0).added_to(&large);
    let carriage_returns = large.iter().filter(|byte| **byte == b'\r').count();
    let length = format!("X-Length: {}\r\n", large.len() - carriage_returns);
    assert!(added.contains(&length), "{length}: {added}");
    let facts = format!("X-Facts: {from} 1 1 {from} x@four.test bob@relay.test\r\n");
    assert!(added.contains(&facts), "{added}");
    // Two signatures, and a seal, since an alias forwards the message.
    assert_eq!(
        added.to_lowercase().matches(":list-id;").count(),
        3,
        "{added}"
    );
    dkimpy(&relay, &[relay.sink.path(1)]).ok();
}

#[test]
fn a_failing_hook_defers_messages_and_a_removed_one_is_not_run() {
    let relay = Relay::start();
    let (to, text) = (&["x@four.test"], message("x"));
    install(&relay, "echo out of order >&2\nkill -9 $$\n");
    let reply = relay.client().transaction("eve@four.test", to, &text);
    assert!(reply.text.starts_with("451 4.7.0 "), "{reply:?}");
    relay.wait_for_log("out of order");
    relay.wait_for_log("ended by signal 9");
    fs::remove_file(relay.config().join("hooks/post-data")).expect("a file");
    relay.cli(&["reload"]).ok();
    let reply = relay.client().transaction("eve@four.test", to, &text);
    assert_eq!(reply.code, 250, "{reply:?}");
}
