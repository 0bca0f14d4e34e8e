//! The relay itself: `chopar run` in a temporary folder, and its commands.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Guard, Output, PATIENCE, program, run, run_within, wait_for};
use crate::world::{Dns, Manners, Sink, certificate, free_port};

/// The path of the binary.
pub(crate) const CHOPAR: &str = env!("CARGO_BIN_EXE_chopar");
/// The password of `ann` and `bob`: that of RFC 7677 section 3.
pub(crate) const PASSWORD: &str = "pencil";
/// The SCRAM credential of that password.
pub(crate) const CREDENTIAL: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
                                     WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// The setup of a relay before its start.
pub(crate) struct Setup {
    /// Value of `relay.networks`.
    pub(crate) networks: &'static str,
    /// Keys of chopar.toml before the first table.
    pub(crate) keys: String,
    /// Keys of `[listen]`.
    pub(crate) listen: String,
    /// DNS records in addition to those of all tests.
    pub(crate) zone: String,
    /// Keys of `[delivery]`.
    pub(crate) delivery: String,
    /// Whole tables.
    pub(crate) tables: String,
    /// `domains/relay.test/users`.
    pub(crate) users: String,
    /// `domains/relay.test/aliases`.
    pub(crate) aliases: String,
    pub(crate) signing: Signing,
    /// Command that runs the relay, with its arguments.
    pub(crate) wrapper: Vec<String>,
    /// Variables of its environment.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    /// A file under `secrets/`: name and content.
    pub(crate) secret: Option<(&'static str, &'static str)>,
}

/// Whether the relay signs mail from relay.test.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Signing {
    Off,
    /// With an RSA-2048 and an Ed25519 key.
    Both,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            networks: "\"127.0.0.1/32\", \"::1/128\"",
            keys: String::new(),
            listen: String::new(),
            zone: String::new(),
            delivery: String::new(),
            tables: String::new(),
            users: format!("ann:{CREDENTIAL}\nbob:{CREDENTIAL}\n"),
            aliases: "ann: ann@home.test\nbob: bob@home.test\n".to_owned(),
            signing: Signing::Off,
            wrapper: Vec::new(),
            environment: Vec::new(),
            secret: None,
        }
    }
}

impl Setup {
    /// A relay without trusted networks, with DNS records and with a sink for its outgoing mail.
    pub(crate) fn unauthenticated_clients() -> Self {
        Self {
            networks: "",
            ..Self::default()
        }
    }

    /// Starts the name server, the sink and the relay.
    pub(crate) fn start(self) -> Relay {
        self.start_with(Manners::Clear)
    }

    /// The same, with a sink of this kind.
    pub(crate) fn start_with(self, manners: Manners) -> Relay {
        let folder = tempfile::tempdir().expect("a folder");
        // Other accounts must be able to enter the folder, as they can enter /var/lib.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let config = folder.path().join("config");
        let domain = config.join("domains/relay.test");
        fs::create_dir_all(&domain).expect("a folder");
        fs::write(domain.join("users"), &self.users).expect("a file");
        fs::write(domain.join("aliases"), &self.aliases).expect("a file");
        if let Some((name, text)) = self.secret {
            fs::create_dir(config.join("secrets")).expect("a folder");
            fs::write(config.join("secrets").join(name), text).expect("a file");
        }
        let mut zone = self.zone.clone();
        if self.signing == Signing::Both {
            copy_keys(&domain.join("dkim"));
            zone += &run(
                Command::new(CHOPAR)
                    .arg("-C")
                    .arg(&config)
                    .args(["dkim", "record", "relay.test"]),
                b"",
            )
            .ok();
        }
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        for name in ["sendmail", "mailq", "newaliases"] {
            symlink(CHOPAR, folder.path().join("bin").join(name)).expect("a link");
        }
        let (dns, sink) = (Dns::start(&zone), Sink::start(manners));
        let mut relay = Relay {
            setup: self,
            zone,
            folder,
            dns,
            sink,
            ports: [0; 3],
            process: None,
        };
        for attempt in 1.. {
            relay.ports = [free_port(), free_port(), free_port()];
            relay.write_config();
            if relay.try_run() {
                break;
            }
            assert!(
                attempt < 5 && relay.log().contains("in use"),
                "the relay does not start: {}",
                relay.log()
            );
        }
        relay
    }
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) setup: Setup,
    /// The DNS records of its keys.
    pub(crate) zone: String,
    pub(crate) dns: Dns,
    pub(crate) sink: Sink,
    folder: TempDir,
    ports: [u16; 3],
    process: Option<Guard>,
}

impl Relay {
    /// A relay that trusts a network, with a plain sink.
    pub(crate) fn start() -> Self {
        Setup::default().start()
    }

    /// The SMTP port, on 127.0.0.1 and ::1.
    pub(crate) fn smtp(&self) -> u16 {
        self.ports[0]
    }

    /// The port of submission with STARTTLS.
    pub(crate) fn submission(&self) -> u16 {
        self.ports[1]
    }

    /// The port of submission with implicit TLS.
    pub(crate) fn submissions(&self) -> u16 {
        self.ports[2]
    }

    /// The folder that contains all files of the relay.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("state/spool")
    }

    /// The log of all its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Writes chopar.toml from the setup.
    pub(crate) fn write_config(&self) {
        let [smtp, submission, submissions] = self
            .ports
            .map(|port| format!("[\"127.0.0.1:{port}\", \"[::1]:{port}\"]"));
        let Setup {
            networks,
            keys,
            listen,
            delivery,
            tables,
            ..
        } = &self.setup;
        let folder = self.folder.path().display();
        let status = match listen.contains("status") {
            true => "",
            false => "status = []\n",
        };
        let text = format!(
            "hostname = \"mail.relay.test\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\n\
             user = \"root\"\n{keys}\n\
             [listen]\nsmtp = {smtp}\nsubmission = {submission}\nsubmissions = {submissions}\n{status}{listen}\
             [relay]\nnetworks = [{networks}]\n\
             [dns]\nservers = [\"127.0.0.1:{}\"]\n\
             [delivery]\nport = {}\nloopback = true\n{delivery}\n{tables}\n",
            self.dns.port, self.sink.port
        );
        fs::write(self.config().join("chopar.toml"), text).expect("a file");
    }

    /// Starts the relay again and waits until it answers.
    pub(crate) fn run(&mut self) {
        assert!(self.try_run(), "the relay does not start: {}", self.log());
    }

    /// A command that runs a relay here and appends to its log.
    pub(crate) fn command(&self) -> Command {
        let log = self.folder.path().join("log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a file");
        let mut command = match self.setup.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(CHOPAR);
                command
            }
            None => Command::new(CHOPAR),
        };
        command.arg("-C").arg(self.config()).arg("run");
        command.envs(self.setup.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    fn try_run(&mut self) -> bool {
        self.process = None;
        let port = self.smtp();
        let process = self.process.insert(Guard::spawn(&mut self.command()));
        // Its sockets exist before it is ready: connections wait in them while it reads the spool.
        wait_for("the relay to answer", PATIENCE, || {
            match Client::open(port) {
                _ if !process.is_alive() => Some(false),
                Ok(mut client) => (client.reply().code == 220).then_some(true),
                Err(_) => None,
            }
        })
    }

    fn process(&mut self) -> &mut Guard {
        self.process.as_mut().expect("the relay runs")
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.process().0.id()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.process().0);
        kill_process(pid, signal).expect("the relay runs");
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.process().wait(PATIENCE), -9);
        self.process = None;
    }

    /// Waits until it exits by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> i32 {
        let code = self.process().wait(limit);
        self.process = None;
        code
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(Duration::from_secs(12)), 0, "{}", self.log());
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.process().is_alive()
    }

    /// Runs `chopar -C DIR` with these words.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        self.cli_with(words, b"")
    }

    /// Runs `chopar -C DIR` with these words and this input.
    pub(crate) fn cli_with(&self, words: &[&str], input: &[u8]) -> Output {
        run_within(
            Command::new(CHOPAR)
                .arg("-C")
                .arg(self.config())
                .args(words),
            input,
            2 * PATIENCE,
        )
    }

    /// The command line of `sendmail`, `mailq` or `newaliases`.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.path().join("bin").join(name));
        command
            .env("CHOPAR_CONFIG", self.config())
            .current_dir(self.folder.path());
        command
    }

    /// A session on the SMTP port, after EHLO.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(self.smtp());
        assert_eq!(client.say("EHLO client.test").code, 250);
        client
    }

    /// A session on the TLS port, after EHLO and AUTH.
    pub(crate) fn user(&self, login: &str) -> Client {
        let mut client = Client::connect_tls(self.submissions());
        assert_eq!(client.say("EHLO client.test").code, 250);
        assert_eq!(client.auth_plain(login, PASSWORD).code, 235);
        client
    }

    /// The figures of `queue stats`.
    pub(crate) fn stats(&self) -> serde_json::Value {
        serde_json::from_str(&self.cli(&["queue", "stats", "--json"]).ok()).expect("JSON")
    }

    /// The queue as `queue list` prints it.
    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let text = self.cli(&["queue", "list", "--json"]).ok();
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until this many recipients have been tried and deferred.
    #[track_caller]
    pub(crate) fn wait_for_deferred(&self, count: usize) {
        wait_for(&format!("{count} deferred recipients"), PATIENCE, || {
            let list = self.list();
            let recipients = list
                .iter()
                .flat_map(|message| message["recipients"].as_array());
            let tried = recipients.flatten().filter(|recipient| {
                recipient["state"] == "waiting" && recipient["attempts"].as_u64() >= Some(1)
            });
            (tried.count() >= count).then_some(())
        });
    }

    /// Flushes the queue until it is empty. One flush is not enough: it does not try a message whose last result is
    /// still on its way to the disk.
    #[track_caller]
    pub(crate) fn flush_all(&self) {
        wait_for("the queue to be empty", 2 * PATIENCE, || {
            self.cli(&["queue", "flush"]).ok();
            (self.stats()["queued"] == 0).then_some(())
        });
    }

    /// Waits until the queue is empty.
    #[track_caller]
    pub(crate) fn wait_for_empty_queue(&self, limit: Duration) {
        wait_for("the queue to be empty", limit, || {
            (self.stats()["queued"] == 0).then_some(())
        });
    }

    /// Waits for a line of the log that contains this text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("{text} in the log"), PATIENCE, || {
            self.log()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
    }

    /// Installs a certificate for `name` under `tls/`.
    pub(crate) fn install_certificate(&self, name: &str) {
        let folder = self.config().join("tls").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        certificate(&folder, name);
        fs::remove_file(folder.join("both.pem")).expect("a file");
        fs::rename(folder.join("key.pem"), folder.join("privkey.pem")).expect("a file");
        fs::rename(folder.join("cert.pem"), folder.join("fullchain.pem")).expect("a file");
    }
}

impl Drop for Relay {
    /// Prints the log of the relay, which helps after a failed test.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the end of the log:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

/// The login name of the account that runs the tests.
pub(crate) fn login() -> String {
    run(Command::new(program("id")).arg("-un"), b"")
        .ok()
        .trim()
        .to_owned()
}

/// Copies an RSA-2048 and an Ed25519 key, which are created once for all tests.
fn copy_keys(to: &Path) {
    static KEYS: OnceLock<TempDir> = OnceLock::new();
    let made = KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("domains/relay.test")).expect("a folder");
        File::create(folder.path().join("chopar.toml")).expect("a file");
        for algorithm in ["rsa", "ed25519"] {
            let mut command = Command::new(CHOPAR);
            command.arg("-C").arg(folder.path()).args([
                "dkim",
                "keygen",
                "relay.test",
                "--selector",
                algorithm,
            ]);
            run_within(command.args(["--algorithm", algorithm]), b"", 3 * PATIENCE).ok();
        }
        folder
    });
    fs::create_dir(to).expect("a folder");
    for name in ["rsa.pem", "ed25519.pem"] {
        fs::copy(
            made.path().join("domains/relay.test/dkim").join(name),
            to.join(name),
        )
        .expect("a key");
    }
}
