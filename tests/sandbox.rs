//! What the daemon keeps once it runs, and how it lives with systemd: account, privileges, rights to files, passed
//! sockets, notifications, and the unit that it is installed with.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon in a folder of its own; it ends when this goes.
struct Daemon {
    process: Child,
    folder: Rc<TempDir>,
}

/// Where the daemon's sockets come from.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sockets {
    /// The configuration.
    Bound(u16),
    /// A wrapper that does what systemd does.
    Passed,
}

/// Binds three ports, writes them down, passes them as descriptors 3, 4 and 5, and becomes the daemon: LISTEN_PID has
/// to be the number of the process that takes them.
const PASS_SOCKETS: &str = "
import os, socket, sys
sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(3)]
with open(sys.argv[1], 'w') as file:
    file.write(' '.join(str(s.getsockname()[1]) for s in sockets) + '\\n')
kept = [os.dup2(s.fileno(), 20 + number) for number, s in enumerate(sockets)]
for number, descriptor in enumerate(kept):
    os.dup2(descriptor, 3 + number, inheritable=True)
os.environ.update(LISTEN_FDS='3', LISTEN_FDNAMES='smtp:submission:submissions', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";

impl Daemon {
    fn start(sockets: Sockets) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        // The account that the daemon changes to has to get at it.
        fs::set_permissions(root, Permissions::from_mode(0o755)).expect("a mode");
        fs::create_dir(root.join("etc")).expect("a folder");
        write_configuration(root, sockets, "");
        Self::launch(Rc::new(folder), sockets)
    }

    /// Starts it in a folder that has a configuration; returns when it is ready.
    fn launch(folder: Rc<TempDir>, sockets: Sockets) -> Self {
        let root = folder.path();
        let log = File::create(root.join("log")).expect("a file");
        let chopar = env!("CARGO_BIN_EXE_chopar");
        let mut command = match sockets {
            // With the mask that the unit sets.
            Sockets::Bound(_) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", "umask 077; exec \"$0\" \"$@\"", chopar]);
                command
            }
            Sockets::Passed => {
                let mut command = Command::new("/usr/bin/python3");
                let ports = root.join("ports");
                command.args(["-c", PASS_SOCKETS]).arg(ports).arg(chopar);
                command
            }
        };
        let notify = root.join("notify");
        drop(fs::remove_file(&notify));
        command
            .arg("-C")
            .arg(root.join("etc"))
            .arg("run")
            .env("NOTIFY_SOCKET", &notify)
            .env_remove("CHOPAR_LOG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let notified = UnixDatagram::bind(&notify).expect("a socket");
        fs::set_permissions(&notify, Permissions::from_mode(0o666)).expect("a mode");
        notified
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let daemon = Self {
            process: command.spawn().expect("it starts"),
            folder,
        };
        let mut message = [0; 256];
        let len = notified.recv(&mut message);
        let len = len.unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
        let message = String::from_utf8_lossy(&message[..len]);
        assert!(message.lines().any(|line| line == "READY=1"), "{message}");
        daemon
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).expect("the log")
    }

    /// Waits for a line with this in it.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no {text} in the log:\n{log}");
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).expect("a number");
        kill_process(Pid::from_raw(id).expect("a process"), signal).expect("sent");
    }

    /// The value of a line of /proc/PID/status.
    fn status(&self, key: &str) -> String {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(path).expect("a status");
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.expect("the key").trim_matches([':', '\t']).to_owned()
    }

    /// Ends it as systemd does.
    #[track_caller]
    fn stop(mut self) -> Rc<TempDir> {
        self.signal(Signal::TERM);
        let status = self.process.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(!self.path().join("run/submit.sock").exists());
        Rc::clone(&self.folder)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn write_configuration(root: &Path, sockets: Sockets, more: &str) {
    let smtp = match sockets {
        Sockets::Bound(port) => {
            format!("smtp = [\"127.0.0.1:{port}\"]\nsubmission = []\nsubmissions = []")
        }
        Sockets::Passed => {
            "smtp = \"systemd\"\nsubmission = \"systemd\"\nsubmissions = \"systemd\"".to_owned()
        }
    };
    let user = if geteuid().is_root() {
        "nobody"
    } else {
        "chopar"
    };
    let text = format!(
        "hostname = \"mail.test\"\nuser = \"{user}\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n{more}\n\
         [listen]\nstatus = []\n{smtp}\n[dns]\nservers = [\"127.0.0.1:9\"]\n",
        root.display()
    );
    fs::write(root.join("etc/chopar.toml"), text).expect("a file");
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}

fn banner(stream: TcpStream) -> String {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    line
}

#[test]
fn keeps_no_privilege_and_works_all_the_same() {
    let port = free_port();
    let daemon = Daemon::start(Sockets::Bound(port));
    assert_eq!(daemon.status("NoNewPrivs"), "1");
    if geteuid().is_root() {
        assert_eq!(daemon.status("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(daemon.status("CapEff"), "0000000000000000");
        assert_eq!(daemon.status("CapPrm"), "0000000000000000");
        // proc(5): what belongs to a process that may not be dumped belongs to root, and not to its account, so that no
        // other process of the account reads passwords and keys out of its memory.
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
    let landlock = sandbox.rsplit('=').next().unwrap_or_default();
    assert!(["full", "partial", "none"].contains(&landlock), "{sandbox}");

    // The configuration is read again, and what cannot change by that is named.
    let changed = "max_message_size = \"1 MiB\"";
    write_configuration(daemon.path(), Sockets::Bound(free_port()), changed);
    daemon.signal(Signal::HUP);
    daemon.wait_for("event=reloaded");
    daemon.wait_for("event=restart-needed key=listen.smtp");
    assert!(!daemon.log().contains("key=state_dir"), "{}", daemon.log());
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    assert_eq!(banner(stream), "220 mail.test ESMTP chopar\r\n");

    // A program of this machine is served, and finds its way whatever the mask was.
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
fn takes_what_was_left_while_it_was_down_and_sets_aside_what_is_no_message() {
    let sockets = Sockets::Bound(free_port());
    let folder = Daemon::start(sockets).stop();
    let spool = folder.path().join("state/spool");
    fs::write(spool.join("drop/0a.msg"), "this is no message\n").expect("a file");
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
    // On the third TLS comes first: our end says nothing before the client does.
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
