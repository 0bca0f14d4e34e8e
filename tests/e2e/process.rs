//! Programs of the system: found or reported as missing, ended by their own process ID, awaited with a deadline.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for most waits, which usually need a small part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A program of the system; panics with the name of its Debian package if it is missing.
pub(crate) fn program(name: &str) -> PathBuf {
    let (_, package) = PACKAGES
        .iter()
        .find(|(program, _)| *program == name)
        .unwrap_or_else(|| panic!("{name} is not in the table of programs"));
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package}"))
}

const PACKAGES: [(&str, &str); 31] = [
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("dovecot", "dovecot-lmtpd"),
    ("fail2ban-regex", "fail2ban"),
    ("id", "coreutils"),
    ("ip", "iproute2"),
    ("keymgr", "knot"),
    ("knotd", "knot"),
    ("maildrop", "maildrop"),
    ("msmtp", "msmtp"),
    ("nsenter", "util-linux"),
    ("nsupdate", "bind9-dnsutils"),
    ("openssl", "openssl"),
    ("opendkim-testmsg", "opendkim-tools"),
    ("pebble", "pebble"),
    ("procmail", "procmail"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("smtp-sink", "postfix"),
    ("smtp-source", "postfix"),
    ("spamc", "spamc"),
    ("spamd", "spamd"),
    ("strace", "strace"),
    ("swaks", "swaks"),
    ("systemd-socket-activate", "systemd"),
    ("testssl", "testssl.sh"),
    ("unbound", "unbound"),
    ("unshare", "util-linux"),
];

/// The system's Python (another may come first in PATH and lack the modules), running a script of this folder.
pub(crate) fn python(script: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e")
        .join(script);
    let mut command = Command::new(program("python3"));
    command.arg(path);
    command
}

/// A process that is killed when this is dropped.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program())))
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }

    /// Its exit code, or minus the signal that ended it.
    pub(crate) fn wait(&mut self, limit: Duration) -> i32 {
        wait_for("a process to end", limit, || {
            let status = self.0.try_wait().expect("a child")?;
            status
                .code()
                .or_else(|| status.signal().map(|signal| -signal))
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The result of a process.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit code, or minus the signal that ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its standard output; panics unless the exit code is 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    run_within(command, input, PATIENCE)
}

/// Runs a command to its end; kills it after `limit` and panics.
pub(crate) fn run_within(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut guard = Guard::spawn(command);
    let mut stdin = guard.0.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A program may exit before it has read all of its input.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(guard.0.stdout.take().expect("a pipe"));
    let stderr = read_all(guard.0.stderr.take().expect("a pipe"));
    let end = Instant::now() + limit;
    let code = loop {
        if let Some(status) = guard.0.try_wait().expect("a child") {
            break status
                .code()
                .or_else(|| status.signal().map(|signal| -signal))
                .unwrap_or_default();
        }
        if Instant::now() > end {
            drop(guard);
            let (stdout, stderr) = (
                stdout.join().expect("output"),
                stderr.join().expect("output"),
            );
            panic!("{shown} did not end within {limit:?}\nstdout: {stdout}\nstderr: {stderr}");
        }
        thread::sleep(POLL);
    };
    writer.join().expect("the input");
    let (stdout, stderr) = (
        stdout.join().expect("output"),
        stderr.join().expect("output"),
    );
    Output {
        code,
        stdout,
        stderr,
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Calls `look` until it returns a value; panics with `what` after `limit`.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(3);
