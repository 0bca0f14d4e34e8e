//! Many messages, from Postfix's smtp-source to its smtp-sink.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Guard, PATIENCE, program, run_within, wait_for};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

/// Runs smtp-source to send messages over `sessions` concurrent sessions.
pub(crate) fn smtp_source(relay: &Relay, words: &[&str], to: &str, count: usize, sessions: usize) {
    let mut source = Command::new(program("smtp-source"));
    source.args(words).args([
        "-s",
        &sessions.to_string(),
        "-m",
        &count.to_string(),
        "-l",
        "4096",
    ]);
    source.args([
        "-f",
        "load@src.test",
        "-t",
        to,
        "-M",
        "source.test",
        &format!("127.0.0.1:{}", relay.smtp()),
    ]);
    let output = run_within(&mut source, b"", 3 * PATIENCE);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

/// The number of files in a folder.
fn files(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

#[test]
fn five_hundred_messages_go_from_smtp_source_to_smtp_sink_with_and_without_reuse() {
    let dumped = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let mut sink = Command::new(program("smtp-sink"));
    sink.current_dir(dumped.path()).args(["-d", "message."]);
    // smtp-sink stays root only if a flag says so.
    if rustix::process::getuid().is_root() {
        sink.args(["-u", "root"]);
    }
    sink.args([&format!("127.0.0.1:{port}"), "256"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut sink = Guard::spawn(&mut sink);
    wait_for("smtp-sink", PATIENCE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    let tables =
        format!("[[route]]\ndomain = \"load.test\"\nvia = [\"smtp://127.0.0.1:{port}\"]\n");
    let relay = Setup {
        tables,
        ..Setup::default()
    }
    .start();
    for (words, count) in [(&[][..], 500), (&["-d"], 1000)] {
        smtp_source(&relay, words, "b@load.test", 500, 10);
        wait_for(&format!("{count} messages"), 2 * PATIENCE, || {
            (files(dumped.path()) >= count).then_some(())
        });
        relay.wait_for_empty_queue(PATIENCE);
        assert_eq!(files(dumped.path()), count);
    }
    assert!(sink.is_alive());
    assert_eq!(relay.stats()["delivered"], 1000);
}
