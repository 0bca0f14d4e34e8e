//! The daemon under a simulated systemd: passed sockets, notifications, and the units.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::{
    Daemon, PATIENCE, SOCKET_ACTIVATE, Sockets, WATCHDOG, banner, free_port, write_with,
};

#[test]
fn takes_the_sockets_that_systemd_passes() {
    let daemon = Daemon::start(Sockets::Passed);
    let ports = fs::read_to_string(daemon.path().join("ports")).expect("the ports");
    let ports: Vec<u16> = ports
        .split_whitespace()
        .map(|port| port.parse().expect("a port"))
        .collect();
    for (port, listener) in ports.iter().zip(["smtp", "submission", "submissions"]) {
        daemon.wait_for(&format!("on=127.0.0.1:{port} as={listener}"));
    }
    for &port in &ports[..2] {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        assert_eq!(banner(stream), "220 mail.test ESMTP chopar\r\n");
    }
    // On the third socket TLS comes first: the server sends nothing before the client does.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[2])).expect("it listens");
    stream.write_all(b"EHLO a\r\n").expect("written");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let mut alert = [0];
    stream.read_exact(&mut alert).expect("an alert");
    assert_eq!(alert, [21]);
    daemon.stop();
}

/// A folder with a configuration that has this text below [listen].
fn folder(listen: &str) -> Rc<TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    fs::create_dir(folder.path().join("etc")).expect("a folder");
    write_with(folder.path(), listen, "");
    Rc::new(folder)
}

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn a_passed_socket_replaces_the_addresses_and_disabled_listeners_stay_off() {
    if !Path::new(SOCKET_ACTIVATE).exists() {
        eprintln!("not tested: there is no {SOCKET_ACTIVATE} (Debian package systemd)");
        return;
    }
    let [bound, smtp, status, off, unknown] = [(); 5].map(|()| free_port());
    let folder = folder(&format!(
        "smtp = [\"127.0.0.1:{bound}\"]\nsubmission = []\nsubmissions = []\nstatus = [\"127.0.0.1:{status}\"]"
    ));
    let sockets = [
        ("smtp", smtp),
        ("status", status),
        ("submission", off),
        ("smpt", unknown),
    ];
    let daemon = Daemon::activate(folder, &sockets);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, smtp)).expect("it listens");
    assert_eq!(banner(stream), "220 mail.test ESMTP chopar\r\n");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, status)).expect("it listens");
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("written");
    assert!(
        banner(stream).starts_with("HTTP/1.1 200"),
        "{}",
        daemon.log()
    );
    for port in [bound, off, unknown] {
        assert!(!is_open(port), "{port}: {}", daemon.log());
    }
    let log = daemon.log();
    for line in [
        format!("<6>event=listening on=127.0.0.1:{smtp} as=smtp from=systemd"),
        format!("<6>event=listening on=127.0.0.1:{status} as=status from=systemd"),
        format!(
            "<4>event=socket-differs key=smtp passed=127.0.0.1:{smtp} configured=127.0.0.1:{bound}"
        ),
        "<4>event=socket-unused name=submission cause=\"listen.submission is []".to_owned(),
        "<4>event=socket-unused name=smpt cause=\"nothing here has this name\"".to_owned(),
    ] {
        assert!(
            log.lines().any(|found| found.starts_with(&line)),
            "{line}: {log}"
        );
    }
    assert!(!log.contains("key=status"), "{log}");
    daemon.stop();
}

#[test]
fn a_hanging_loop_gives_no_sign_of_life_and_queued_mail_survives_the_restart() {
    let port = free_port();
    let listen =
        format!("smtp = [\"127.0.0.1:{port}\"]\nsubmission = []\nsubmissions = []\nstatus = []");
    let folder = folder(&listen);
    let sockets = Sockets::Bound(port);
    let folder = Daemon::launch(folder, sockets).stop();
    let envelope = "MAIL FROM:<a@mail.test>\nRCPT TO:<b@example.org>\n";
    let message = format!("chopar-drop 1\n{envelope}\nSubject: x\r\n\r\nx\r\n");
    fs::write(folder.path().join("state/spool/drop/0a.msg"), message).expect("a file");
    let daemon = Daemon::launch(Rc::clone(&folder), sockets);
    daemon.wait_for("event=queued");
    // The daemon reports its status and, when idle, signs of life.
    let status = daemon.wait_for_word("STATUS=1 queued, ");
    assert!(status.contains(" 1 accepted, 0 delivered, "), "{status}");
    for _ in 0..5 {
        daemon.wait_for_word("WATCHDOG=1");
    }

    daemon.signal(Signal::STOP);
    while daemon.told(WATCHDOG).is_some() {}
    assert_eq!(daemon.told(WATCHDOG * 3), None);
    // systemd's reaction: WatchdogSignal= is SIGABRT, and Restart=on-failure starts it again.
    daemon.signal(Signal::ABORT);
    daemon.signal(Signal::CONT);
    let mut daemon = daemon;
    let ended = daemon.process.wait().expect("it ends");
    assert!(!ended.success(), "{ended}");
    drop(daemon);
    let daemon = Daemon::launch(folder, sockets);
    daemon.wait_for("event=recovered messages=1");
    daemon.wait_for_word("STATUS=1 queued, ");
    daemon.stop();
}

#[test]
fn a_supervisor_that_does_not_read_blocks_nothing() {
    let port = free_port();
    let daemon = Daemon::start(Sockets::Bound(port));
    // More datagrams than fit: /proc/sys/net/unix/max_dgram_qlen.
    thread::sleep(WATCHDOG * 2);
    for _ in 0..600 {
        let from = UnixDatagram::unbound().expect("a socket");
        from.set_nonblocking(true).expect("not waiting");
        if from.send_to(b"X=1", daemon.path().join("notify")).is_err() {
            break;
        }
    }
    thread::sleep(WATCHDOG);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    assert_eq!(banner(stream), "220 mail.test ESMTP chopar\r\n");
    daemon.stop();
}

/// The units, for a system that has the programs that they start.
fn units() -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/setup");
    let entries = fs::read_dir(source).expect("a folder");
    let mut units = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let kind = path.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("service" | "socket")) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a unit");
        let unit = folder.path().join(path.file_name().expect("a name"));
        fs::write(
            &unit,
            text.replace("/usr/bin/chopar", env!("CARGO_BIN_EXE_chopar")),
        )
        .expect("a file");
        units.push(unit);
    }
    (folder, units)
}

#[test]
fn systemd_accepts_the_units() {
    let analyze = PathBuf::from("/usr/bin/systemd-analyze");
    if !analyze.exists() {
        eprintln!("not checked: there is no systemd-analyze (Debian package systemd)");
        return;
    }
    let (_folder, units) = units();
    assert_eq!(units.len(), 7, "{units:?}");
    let output = Command::new(analyze)
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    // It also reads the units of the machine, and may report something about them.
    let of_ours = said.lines().filter(|line| line.contains("chopar"));
    assert_eq!(of_ours.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(output.status.success(), "{said}");
}

/// The values of a key of a unit.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(found, _)| *found == key)
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn each_socket_unit_has_the_ports_of_the_daemon_and_stops_with_the_service() {
    let (_folder, units) = units();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a unit");
    let service = units.iter().find(|path| path.ends_with("chopar.service"));
    let service = read(service.expect("the service"));
    let own = values(&service, "Sockets").join(" ");
    let own: Vec<&str> = own.split(' ').collect();
    for unit in &units {
        let name = unit
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let Some(key) = name
            .strip_prefix("chopar-")
            .and_then(|name| name.strip_suffix(".socket"))
        else {
            continue;
        };
        let text = read(unit);
        assert_eq!(values(&text, "FileDescriptorName"), [key]);
        assert_eq!(values(&text, "Service"), ["chopar.service"]);
        assert_eq!(values(&text, "PartOf"), ["chopar.service"]);
        let port = match key {
            "smtp" => 25,
            "submission" => 587,
            "submissions" => 465,
            "acme-http" => 80,
            "acme-tls" => 443,
            _ => 0,
        };
        let expected = match port {
            0 => vec!["127.0.0.1:8025".to_owned()],
            port => vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")],
        };
        assert_eq!(values(&text, "ListenStream"), expected, "{name}");
        // Ports 80 and 443 and the status port are bound if their sockets are enabled.
        assert_eq!(
            own.contains(&name),
            matches!(port, 25 | 587 | 465),
            "{name}"
        );
    }
}

#[test]
fn the_unit_exposes_as_little_as_promised() {
    let analyze = PathBuf::from("/usr/bin/systemd-analyze");
    if !analyze.exists() {
        eprintln!("not checked: there is no systemd-analyze (Debian package systemd)");
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/setup/chopar.service");
    let output = Command::new(analyze)
        .args(["security", "--offline=true", "--threshold=16", "--no-pager"])
        .arg(unit)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{output:?}");
    assert!(said.contains("Overall exposure level"), "{said}");
}
