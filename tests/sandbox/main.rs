//! The rights of the running daemon, and its interaction with systemd: account, privileges, rights to files and to
//! system calls, passed sockets, notifications, and its units.

mod daemon;
mod systemd;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;

use rustix::process::{Signal, geteuid};

use daemon::{Daemon, Sockets, banner, free_port, write_configuration};

#[test]
fn works_without_any_privilege() {
    let port = free_port();
    let daemon = Daemon::start(Sockets::Bound(port));
    assert_eq!(daemon.status("NoNewPrivs"), "1");
    if geteuid().is_root() {
        assert_eq!(daemon.status("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(daemon.status("CapEff"), "0000000000000000");
        assert_eq!(daemon.status("CapPrm"), "0000000000000000");
        // proc(5): the files of a process that is not dumpable belong to root, not to its account, so that no other
        // process of the account can read passwords and keys from its memory.
        let owner = fs::metadata(format!("/proc/{}/mem", daemon.process.id())).expect("its memory");
        assert_eq!(owner.uid(), 0);
    }
    let limits =
        fs::read_to_string(format!("/proc/{}/limits", daemon.process.id())).expect("its limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core
        .expect("a limit")
        .split_whitespace()
        .skip(4)
        .take(2)
        .collect();
    assert_eq!(core, ["0", "0"]);
    let sandbox = daemon.wait_for("event=sandbox");
    let (_, landlock) = sandbox.split_once("landlock=").expect("a word");
    let landlock = landlock.split(' ').next().unwrap_or_default();
    assert!(["full", "partial", "none"].contains(&landlock), "{sandbox}");
    // 2: a filter.
    assert!(sandbox.contains("seccomp=full"), "{sandbox}");
    assert_eq!(daemon.status("Seccomp"), "2");

    // A reload reads the configuration and names keys that need a restart.
    let changed = "max_message_size = \"1 MiB\"";
    write_configuration(daemon.path(), Sockets::Bound(free_port()), changed);
    daemon.signal(Signal::HUP);
    daemon.wait_for("event=reloaded");
    daemon.wait_for("event=restart-needed key=listen.smtp");
    assert!(!daemon.log().contains("key=state_dir"), "{}", daemon.log());
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    assert_eq!(banner(stream), "220 mail.test ESMTP chopar\r\n");

    // A local program is served, and can reach the sockets whatever the umask was.
    let mode = |path: &str| {
        let about = fs::metadata(daemon.path().join(path)).expect(path);
        about.permissions().mode() & 0o7777
    };
    assert_eq!(mode("run/submit.sock"), 0o666);
    assert_eq!(mode("run/control.sock"), 0o666);
    for folder in ["run", "state"] {
        assert_eq!(mode(folder), 0o755, "{folder}");
    }
    assert_eq!(mode("state/spool"), 0o711);
    assert_eq!(mode("state/spool/drop"), 0o1733);
    let path = daemon.path().join("run/submit.sock");
    let submit = UnixStream::connect(path).expect("it listens");
    let mut line = String::new();
    BufReader::new(submit).read_line(&mut line).expect("a line");
    assert!(line.starts_with("220 "), "{line}");
    let log = daemon.log();
    assert!(!log.contains("ermission"), "{log}");
    daemon.stop();
}

#[test]
fn submits_left_messages_and_sets_aside_files_that_are_not_messages() {
    let sockets = Sockets::Bound(free_port());
    let folder = Daemon::start(sockets).stop();
    let spool = folder.path().join("state/spool");
    fs::write(spool.join("drop/0a.msg"), "this is not a message\n").expect("a file");
    let envelope = "MAIL FROM:<a@mail.test>\nRCPT TO:<b@example.org>\n";
    let message = format!("chopar-drop 1\n{envelope}\nSubject: x\r\n\r\nx\r\n");
    fs::write(spool.join("drop/0b.msg"), message).expect("a file");
    let daemon = Daemon::launch(folder, sockets);
    daemon.wait_for("event=drop-refused");
    assert!(spool.join("damaged/0a.msg").exists(), "{}", daemon.log());
    daemon.wait_for("event=queued");
    daemon.wait_for("event=drop-taken");
    let left = fs::read_dir(spool.join("drop")).expect("a folder");
    assert_eq!(left.count(), 0, "{}", daemon.log());
    daemon.stop();
}
