//! A daemon in a folder of its own, started like systemd starts it.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The supervisor's time limit between two signs of life.
pub(crate) const WATCHDOG: Duration = Duration::from_millis(600);
pub(crate) const SOCKET_ACTIVATE: &str = "/usr/bin/systemd-socket-activate";

/// A daemon in a folder of its own, which is killed when this is dropped.
pub(crate) struct Daemon {
    pub(crate) process: Child,
    folder: Rc<TempDir>,
    pub(crate) notified: UnixDatagram,
}

/// The source of the daemon's sockets.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Sockets {
    /// The daemon binds the addresses of the configuration.
    Bound(u16),
    /// A wrapper passes sockets like systemd, for keys that are "systemd".
    Passed,
}

/// Binds three ports, records them, passes them as descriptors 3, 4 and 5, and executes the daemon: LISTEN_PID must be
/// the process that takes them.
pub(crate) const PASS_SOCKETS: &str = "
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
    pub(crate) fn start(sockets: Sockets) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        // The account that the daemon changes to must be able to enter it.
        fs::set_permissions(root, Permissions::from_mode(0o755)).expect("a mode");
        fs::create_dir(root.join("etc")).expect("a folder");
        write_configuration(root, sockets, "");
        Self::launch(Rc::new(folder), sockets)
    }

    /// Starts it in a folder with a configuration; returns when it is ready.
    pub(crate) fn launch(folder: Rc<TempDir>, sockets: Sockets) -> Self {
        let root = folder.path();
        let chopar = env!("CARGO_BIN_EXE_chopar");
        let command = match sockets {
            // With the umask of the unit.
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
        Self::begin(Rc::clone(&folder), command)
    }

    /// Starts it with systemd-socket-activate, which binds these ports and passes them under these names at the first
    /// connection to the first port.
    pub(crate) fn activate(folder: Rc<TempDir>, sockets: &[(&str, u16)]) -> Self {
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new(SOCKET_ACTIVATE);
        for kept in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"] {
            command.arg(format!("--setenv={kept}"));
        }
        command.arg(format!("--fdname={}", names.join(":")));
        for (_, port) in sockets {
            command.arg(format!("--listen=127.0.0.1:{port}"));
        }
        command.arg(env!("CARGO_BIN_EXE_chopar"));
        let port = sockets.first().expect("a socket").1;
        let caller = thread::spawn(move || {
            let end = Instant::now() + PATIENCE;
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(Instant::now() < end, "nobody binds {port}");
                thread::sleep(Duration::from_millis(3));
            }
        });
        let daemon = Self::begin(folder, command);
        caller.join().expect("a connection");
        daemon
    }

    /// Starts it with this command; returns when it is ready.
    fn begin(folder: Rc<TempDir>, mut command: Command) -> Self {
        let root = folder.path();
        let log = File::create(root.join("log")).expect("a file");
        let about = log.metadata().expect("known");
        let notify = root.join("notify");
        drop(fs::remove_file(&notify));
        command
            .arg("-C")
            .arg(root.join("etc"))
            .arg("run")
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()))
            .env_remove("CHOPAR_LOG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let notified = UnixDatagram::bind(&notify).expect("a socket");
        fs::set_permissions(&notify, Permissions::from_mode(0o666)).expect("a mode");
        let daemon = Self {
            process: command.spawn().expect("it starts"),
            folder,
            notified,
        };
        daemon.wait_for_word("READY=1");
        daemon
    }

    /// The next datagram for the supervisor, if one arrives within `limit`.
    pub(crate) fn told(&self, limit: Duration) -> Option<String> {
        let set = self.notified.set_read_timeout(Some(limit));
        set.expect("a time limit");
        let mut message = [0; 512];
        let len = self.notified.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..len]).into_owned())
    }

    /// Waits until the supervisor gets a line that begins with this word.
    #[track_caller]
    pub(crate) fn wait_for_word(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.told(PATIENCE);
            let message = message.unwrap_or_else(|| panic!("no {word}: {}", self.log()));
            if let Some(line) = message.lines().find(|line| line.starts_with(word)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no {word}: {}", self.log());
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).expect("the log")
    }

    /// Waits for a line of the log that contains this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
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

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).expect("a number");
        kill_process(Pid::from_raw(id).expect("a process"), signal).expect("sent");
    }

    /// The value of a line of /proc/PID/status.
    pub(crate) fn status(&self, key: &str) -> String {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(path).expect("a status");
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.expect("the key").trim_matches([':', '\t']).to_owned()
    }

    /// Stops it like systemd.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Rc<TempDir> {
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

pub(crate) fn write_configuration(root: &Path, sockets: Sockets, more: &str) {
    let listen = match sockets {
        Sockets::Bound(port) => {
            format!("smtp = [\"127.0.0.1:{port}\"]\nsubmission = []\nsubmissions = []")
        }
        Sockets::Passed => {
            "smtp = \"systemd\"\nsubmission = \"systemd\"\nsubmissions = \"systemd\"".to_owned()
        }
    };
    write_with(root, &format!("status = []\n{listen}"), more);
}

/// Writes a configuration with these lines below [listen].
pub(crate) fn write_with(root: &Path, listen: &str, more: &str) {
    let user = if geteuid().is_root() {
        "nobody"
    } else {
        "chopar"
    };
    let text = format!(
        "hostname = \"mail.test\"\nuser = \"{user}\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n{more}\n\
         [listen]\n{listen}\n[dns]\nservers = [\"127.0.0.1:9\"]\n",
        root.display()
    );
    fs::write(root.join("etc/chopar.toml"), text).expect("a file");
}

pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}

pub(crate) fn banner(stream: TcpStream) -> String {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    line
}
