//! The surroundings of the relay: a name server (unbound) and a host that receives mail (aiosmtpd).

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::process::{Guard, PATIENCE, program, python, run, wait_for};

/// A port that is free on both loopback addresses and that no other test has been given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    for _ in 0..100 {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = four.local_addr().expect("an address").port();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_err() {
            continue;
        }
        if GIVEN
            .lock()
            .expect("a lock")
            .get_or_insert_default()
            .insert(port)
        {
            return port;
        }
    }
    panic!("no port is free on both 127.0.0.1 and ::1");
}

/// Starts a server that needs a port for itself; tries another port if that one was taken in the meantime.
fn with_port(
    what: &str,
    mut start: impl FnMut(u16) -> (Guard, PathBuf),
    ready: impl Fn(u16) -> bool,
) -> (Guard, u16) {
    for _ in 0..5 {
        let port = free_port();
        let (mut guard, log) = start(port);
        let is_up = wait_for(what, PATIENCE, || match (guard.is_alive(), ready(port)) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => None,
        });
        if is_up {
            return (guard, port);
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        assert!(text.contains("in use"), "{what} does not start: {text}");
    }
    panic!("{what} finds no port");
}

/// unbound with only its own zones.
pub(crate) struct Dns {
    /// Its port, on 127.0.0.1.
    pub(crate) port: u16,
    _server: Guard,
    _folder: TempDir,
}

/// Zones that most tests need. Every mail exchanger is a loopback address; the port is the relay's `delivery.port`.
const ZONES: &str = "
relay.test. MX 10 mail.relay.test.
mail.relay.test. A 127.0.0.1
four.test. MX 10 mx.four.test.
mx.four.test. A 127.0.0.1
six.test. MX 10 mx.six.test.
mx.six.test. AAAA ::1
both.test. MX 10 mx.dead.test.
both.test. MX 20 mx.both.test.
mx.both.test. A 127.0.0.1
mx.both.test. AAAA ::1
implicit.test. A 127.0.0.1
home.test. MX 10 mx.four.test.
nullmx.test. MX 0 .
dead.test. MX 10 mx.dead.test.
mx.dead.test. A 127.0.0.9
mx.sink.test. A 127.0.0.1
hostless.test. TXT neither-host-nor-exchanger
";

/// A configuration of unbound that answers for `.test` on this port.
pub(crate) fn unbound_configuration(folder: &Path, port: u16, more: &str) -> String {
    let mut text = format!(
        "server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n directory: \"{0}\"\n \
         pidfile: \"\"\n use-syslog: no\n num-threads: 1\n module-config: \"iterator\"\n access-control: 127.0.0.0/8 allow\n \
         local-zone: \"test.\" static\n",
        folder.display()
    );
    // unbound requires each record on one line; a zone file has long ones in parentheses.
    let more = more
        .replace("(\n", "")
        .replace("\n)", "")
        .replace("\n\t", " ");
    for line in ZONES
        .lines()
        .chain(more.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        text.push_str(&format!(" local-data: '{line}'\n"));
    }
    text.push_str("remote-control:\n control-enable: no\n");
    text
}

impl Dns {
    /// Answers for the zones above and for `more`, lines of a zone file with full names.
    pub(crate) fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let start = |port| {
            let (configuration, log) = (
                folder.path().join("unbound.conf"),
                folder.path().join("log"),
            );
            fs::write(
                &configuration,
                unbound_configuration(folder.path(), port, more),
            )
            .expect("a file");
            let mut command = Command::new(program("unbound"));
            command
                .args(["-d", "-c"])
                .arg(configuration)
                .stdin(Stdio::null());
            (
                Guard::spawn(
                    command
                        .stdout(Stdio::null())
                        .stderr(File::create(&log).expect("a file")),
                ),
                log,
            )
        };
        let (server, port) = with_port("unbound", start, |port| {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self {
            port,
            _server: server,
            _folder: folder,
        }
    }
}

/// The behaviour of a sink.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Manners {
    /// Accepts mail in cleartext.
    Clear,
    /// Offers STARTTLS with an untrusted certificate.
    StartTls,
    /// Requires STARTTLS and a login.
    Login(&'static str),
}

/// aiosmtpd, which stores the messages that it gets.
pub(crate) struct Sink {
    /// Its port, on 127.0.0.1 and ::1.
    pub(crate) port: u16,
    folder: TempDir,
    _server: Guard,
}

/// A message as it arrived.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Arrived {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) mail_options: Vec<String>,
    pub(crate) helo: String,
    pub(crate) peer: String,
    pub(crate) tls: bool,
    pub(crate) login: Option<String>,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

impl Arrived {
    /// The message, if it is UTF-8.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The fields added before the sent message; panics if anything else changed.
    #[track_caller]
    pub(crate) fn added_to(&self, sent: &[u8]) -> String {
        let front = self.bytes.strip_suffix(sent).unwrap_or_else(|| {
            panic!(
                "sent:\n{}\narrived:\n{}",
                String::from_utf8_lossy(sent),
                self.text()
            );
        });
        let front = String::from_utf8(front.to_vec()).expect("fields in ASCII");
        let is_field = |line: &str| line.starts_with([' ', '\t']) || line.split_once(':').is_some();
        assert!(front.is_empty() || front.ends_with("\r\n"), "{front}");
        assert!(front.lines().all(is_field), "{front}");
        front
    }
}

impl Sink {
    pub(crate) fn start(manners: Manners) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate =
            (manners != Manners::Clear).then(|| certificate(folder.path(), "mx.sink.test"));
        let ready = folder.path().join("ready");
        let start = |port: u16| {
            let log = folder.path().join("log");
            let mut command = python("sink.py");
            command
                .arg(folder.path())
                .args(["--port", &port.to_string()]);
            if let Some(certificate) = &certificate {
                command.arg("--certificate").arg(certificate);
            }
            if let Manners::Login(login) = manners {
                command.args(["--login", login]);
            }
            let file = File::create(&log).expect("a file");
            (
                Guard::spawn(
                    command
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(file),
                ),
                log,
            )
        };
        let missing = "aiosmtpd to start (the Debian package is python3-aiosmtpd)";
        let (server, port) = with_port(missing, start, |_| ready.exists());
        Self {
            port,
            folder,
            _server: server,
        }
    }

    /// From now on accepts mail for `later*`.
    pub(crate) fn open(&self) {
        File::create(self.folder.path().join("open")).expect("a file");
    }

    /// Number of messages that have arrived.
    pub(crate) fn count(&self) -> usize {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        let is_json = |path: &Path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        };
        entries
            .filter(|entry| is_json(&entry.as_ref().expect("an entry").path()))
            .count()
    }

    /// All messages that have arrived, in order.
    pub(crate) fn messages(&self) -> Vec<Arrived> {
        (1..=self.count())
            .map(|number| self.message(number))
            .collect()
    }

    /// The file with the bytes of a message; the first is 1.
    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number:06}.eml"))
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// A message; the first is 1.
    pub(crate) fn message(&self, number: usize) -> Arrived {
        let path = self.path(number);
        let about = fs::read(path.with_extension("json")).expect("an envelope");
        let mut arrived: Arrived = serde_json::from_slice(&about).expect("an envelope");
        arrived.bytes = fs::read(path).expect("a message");
        arrived
    }

    /// Waits for this many messages.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Vec<Arrived> {
        self.wait_within(count, PATIENCE);
        self.messages()
    }

    /// Waits for this many messages until `limit`.
    #[track_caller]
    pub(crate) fn wait_within(&self, count: usize, limit: Duration) {
        wait_for(&format!("{count} messages"), limit, || {
            (self.count() >= count).then_some(())
        });
    }

    /// Waits for the first message to this address.
    #[track_caller]
    pub(crate) fn wait_to(&self, address: &str) -> Arrived {
        wait_for(&format!("a message to {address}"), PATIENCE, || {
            self.messages()
                .into_iter()
                .find(|message| message.to.iter().any(|to| to == address))
        })
    }
}

/// A self-signed certificate with its key, in one file.
pub(crate) fn certificate(folder: &Path, name: &str) -> PathBuf {
    let (key, certificate, both) = (
        folder.join("key.pem"),
        folder.join("cert.pem"),
        folder.join("both.pem"),
    );
    let configuration = folder.join("openssl.conf");
    let text = format!(
        "[req]\ndistinguished_name = name\nx509_extensions = more\nprompt = no\n[name]\nCN = {name}\n\
         [more]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:{name}\n"
    );
    fs::write(&configuration, text).expect("a file");
    let mut command = Command::new(program("openssl"));
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    command.arg("-config").arg(configuration);
    run(
        command
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
        b"",
    )
    .ok();
    let text = fs::read_to_string(key).expect("a key")
        + &fs::read_to_string(certificate).expect("a certificate");
    fs::write(&both, text).expect("a file");
    both
}
