//! A relay in a folder of its own, with one injected fault.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Guard, Output, PATIENCE, program, run, wait_for};
use crate::sink::Sink;
use crate::world::{Dns, free_port};

/// The path of the binary.
const CHOPAR: &str = env!("CARGO_BIN_EXE_chopar");

/// A relay, its sink and its spool.
pub(crate) struct Bed {
    pub(crate) sink: Sink,
    folder: TempDir,
    /// Its hostname, which no other relay of this machine has. While this relay is down, another may have its port.
    name: String,
    port: u16,
    dns: u16,
    tracer: Option<Guard>,
    process: Option<Guard>,
}

/// The threads that are traced from the start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Threads {
    /// Only the main thread.
    Main,
    /// All threads.
    All,
}

/// The result of a start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// The relay answers.
    Up,
    /// The relay ended, with this exit code or minus the signal.
    Ended(i32),
}

impl Bed {
    /// Prepares a relay whose state is a copy of `state`, if that is given.
    pub(crate) fn new(dns: &Dns, state: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (sink, port) = (Sink::start(), free_port());
        fs::create_dir_all(folder.path().join("config/domains/relay.test")).expect("a folder");
        let bed = Self {
            sink,
            folder,
            name: unique_name(),
            port,
            dns: dns.port,
            tracer: None,
            process: None,
        };
        bed.configure();
        if let Some(state) = state {
            copy(state, &bed.state());
        }
        bed
    }

    fn configure(&self) {
        let (here, name, port) = (self.folder.path().display(), &self.name, self.port);
        let text = format!(
            "hostname = \"{name}\"\nstate_dir = \"{here}/state\"\nruntime_dir = \"{here}/run\"\n\
             user = \"root\"\nmax_message_size = \"400 KiB\"\n\
             [listen]\nsmtp = [\"127.0.0.1:{port}\"]\nsubmission = []\nsubmissions = []\nstatus = []\n\
             [relay]\nnetworks = [\"127.0.0.1/32\"]\n\
             [dns]\nservers = [\"127.0.0.1:{}\"]\n\
             [delivery]\nport = {}\nloopback = true\n",
            self.dns, self.sink.port
        );
        fs::write(self.folder.path().join("config/chopar.toml"), text).expect("a file");
    }

    /// The data that survives a kill.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The queue on the disk.
    pub(crate) fn spool(&self) -> PathBuf {
        self.state().join("spool")
    }

    /// The log of all runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the relay without a fault; panics if it does not run.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        let mut outcome = self.start_as(Command::new(CHOPAR));
        // While it was down, any process could take its port.
        for _ in 0..3 {
            if outcome == Start::Up || !self.log().contains("already in use") {
                break;
            }
            self.port = free_port();
            self.configure();
            outcome = self.start_as(Command::new(CHOPAR));
        }
        assert_eq!(
            outcome,
            Start::Up,
            "the relay does not start:\n{}",
            self.log()
        );
    }

    /// Starts the relay, traced from its first call: only its main thread, or all threads.
    pub(crate) fn start_traced(&mut self, threads: Threads, expressions: &[String]) -> Start {
        drop(fs::remove_file(self.trace_path()));
        let mut command = Command::new(program("strace"));
        // With -D, the relay is the child of this process, and strace is not.
        command
            .args(["-D", "-qq", "-Y", "-o"])
            .arg(self.trace_path());
        if threads == Threads::All {
            command.arg("-f");
        }
        for expression in expressions {
            command.args(["-e", expression]);
        }
        command.arg(CHOPAR);
        self.start_as(command)
    }

    fn start_as(&mut self, mut command: Command) -> Start {
        (self.tracer, self.process) = (None, None);
        let log = self.folder.path().join("log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a file");
        command
            .arg("-C")
            .arg(self.folder.path().join("config"))
            .arg("run");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = self.process.insert(Guard::spawn(&mut command));
        wait_for("the relay to answer or to end", PATIENCE, || {
            if let Some(code) = ended(process) {
                return Some(Start::Ended(code));
            }
            let mut client = Client::open(self.port).ok()?;
            // The kernel may accept a connection for a relay that has just ended, which nobody answers.
            let is_up = client.hears_within(Duration::from_millis(500))
                && is_greeting(&mut client, &self.name);
            is_up.then_some(Start::Up)
        })
    }

    /// Traces one thread, by its name, or all threads, from now on.
    pub(crate) fn attach(&mut self, thread: Option<&str>, expressions: &[String]) {
        drop(fs::remove_file(self.trace_path()));
        let mut command = Command::new(program("strace"));
        command.args(["-Y", "-o"]).arg(self.trace_path());
        for expression in expressions {
            command.args(["-e", expression]);
        }
        let target = match thread {
            Some(name) => self.thread(name),
            None => {
                command.arg("-f");
                self.pid()
            }
        };
        let said = self.folder.path().join("strace");
        let file = File::create(&said).expect("a file");
        command
            .args(["-p", &target.to_string()])
            .stdin(Stdio::null())
            .stderr(file);
        let tracer = self.tracer.insert(Guard::spawn(&mut command));
        wait_for("strace to attach", PATIENCE, || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            assert!(
                tracer.is_alive() || text.contains("attached"),
                "strace does not attach: {text}"
            );
            text.contains("attached").then_some(())
        });
    }

    /// The output of strace.
    pub(crate) fn trace(&self) -> String {
        fs::read_to_string(self.trace_path()).unwrap_or_default()
    }

    /// The output of strace after the process was killed.
    pub(crate) fn trace_of_the_dead(&mut self) -> String {
        let path = self.trace_path();
        wait_for("strace to write down the end", PATIENCE, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.contains("+++").then_some(text)
        })
    }

    fn trace_path(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("the relay runs").0.id()
    }

    /// The ID of a thread.
    fn thread(&self, name: &str) -> u32 {
        let pid = self.pid();
        if name == "main" {
            return pid;
        }
        let is_it = |id: &u32| {
            let its = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
            its.is_ok_and(|its| its.trim() == name)
        };
        // A thread sets its own name, possibly after the relay answers.
        wait_for(&format!("a thread called {name}"), PATIENCE, || {
            let entries = fs::read_dir(format!("/proc/{pid}/task"))
                .expect("threads")
                .flatten();
            let mut ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            ids.find(is_it)
        })
    }

    /// Its exit code, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        ended(self.process.as_mut()?)
    }

    pub(crate) fn kill(&mut self) {
        (self.process, self.tracer) = (None, None);
    }

    /// Asks it to stop; returns its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let mut process = self.process.take().expect("the relay runs");
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&process.0), Signal::TERM);
        let code = process.wait(Duration::from_secs(15));
        self.tracer = None;
        code
    }

    /// Runs a chopar command for this relay.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(CHOPAR);
        run(
            command
                .arg("-C")
                .arg(self.folder.path().join("config"))
                .args(words),
            b"",
        )
    }

    /// Gives a message to `sendmail`; returns its exit code.
    pub(crate) fn sendmail(&self, words: &[&str], message: &[u8]) -> i32 {
        let mut command = Command::new(CHOPAR);
        command
            .arg("-C")
            .arg(self.folder.path().join("config"))
            .arg("sendmail");
        run(command.args(words), message).code
    }

    /// The same under strace; returns the exit code, or minus the signal.
    pub(crate) fn sendmail_traced(
        &self,
        words: &[&str],
        message: &[u8],
        expressions: &[String],
    ) -> i32 {
        drop(fs::remove_file(self.trace_path()));
        let mut command = Command::new(program("strace"));
        command.args(["-qq", "-Y", "-o"]).arg(self.trace_path());
        for expression in expressions {
            command.args(["-e", expression]);
        }
        command
            .arg(CHOPAR)
            .arg("-C")
            .arg(self.folder.path().join("config"))
            .arg("sendmail");
        run(command.args(words), message).code
    }

    /// Leaves a message in the drop folder like an earlier `sendmail`, whatever the current limits are.
    pub(crate) fn leave(&self, from: &str, to: &[String], message: &[u8]) {
        let mut text = format!("chopar-drop 1\nMAIL FROM:<{from}>\n");
        for to in to {
            text.push_str(&format!("RCPT TO:<{to}>\n"));
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(message);
        let drop = self.spool().join("drop");
        let name = to[0].replace('@', "-");
        fs::write(drop.join(format!(".{name}")), bytes).expect("a file");
        fs::rename(
            drop.join(format!(".{name}")),
            drop.join(format!("{name}.msg")),
        )
        .expect("a file");
    }

    /// Installs a hook that refuses messages with this Subject.
    pub(crate) fn refuse_by_hook(&self, subject: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let hook = self.folder.path().join("config/hooks/post-data");
        fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
        let script = format!("#!/bin/sh\nif grep -q '^Subject: {subject}'; then exit 20; fi\n");
        fs::write(&hook, script).expect("a file");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Whether the drop folder has a message that contains this text.
    pub(crate) fn has_dropped(&self, text: &[u8]) -> bool {
        let entries = fs::read_dir(self.spool().join("drop"))
            .into_iter()
            .flatten();
        entries
            .flatten()
            .any(|entry| fs::read(entry.path()).is_ok_and(|bytes| bytes.ends_with(text)))
    }

    /// The number of queued messages, if the relay can answer.
    pub(crate) fn queued(&self) -> Option<u64> {
        let output = self.cli(&["queue", "stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        stats["queued"].as_u64()
    }

    /// A session, if the relay greets. A dead relay does not answer at all; a live one on a busy machine is given time,
    /// as for every other reply.
    pub(crate) fn client(&self) -> Option<Client> {
        let opened = Client::open(self.port);
        let mut client = opened
            .inspect_err(|error| eprintln!("no connection to {}: {error}", self.port))
            .ok()?;
        if !client.hears_within(PATIENCE) {
            eprintln!("no banner from {} within {PATIENCE:?}", self.port);
            return None;
        }
        (is_greeting(&mut client, &self.name) && client.say("EHLO client.test").code == 250)
            .then_some(client)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log:\n{}", self.log());
        }
        // Ends the relay first: without its tracer it would run on.
        self.process = None;
        self.tracer = None;
    }
}

/// Whether the banner has this hostname.
fn is_greeting(client: &mut Client, name: &str) -> bool {
    let banner = client.reply();
    banner.code == 220 && banner.text.contains(name)
}

/// A hostname that is unique across this process and others.
fn unique_name() -> String {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("m{number}-{}.relay.test", std::process::id())
}

fn ended(process: &mut Guard) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = process.0.try_wait().expect("a child")?;
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
}

/// Copies a folder, without preallocated space.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    run(
        command.args(["-a", "--sparse=always"]).arg(from).arg(to),
        b"",
    )
    .ok();
}
