//! The helper as a process: the requests that it serves for the holder of its control socket, and those that it
//! refuses.

use std::fs::{self, File, Permissions};
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use chopar::hook::{Fact, HOOK, Hook, HookVerdict};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A helper with a configuration folder of its own.
struct Helper {
    process: Child,
    control: Option<OwnedFd>,
    folder: tempfile::TempDir,
}

impl Helper {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("hooks")).expect("a folder");
        let text = format!("state_dir = \"{}\"\n", folder.path().display());
        fs::write(folder.path().join("chopar.toml"), text).expect("a file");
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair");
        let process = Command::new(env!("CARGO_BIN_EXE_chopar"))
            .arg("helper")
            .arg(folder.path())
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("it starts");
        Self {
            process,
            control: Some(ours),
            folder,
        }
    }

    fn connect(&self, target: &str) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let passed = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&passed));
        let control = self.control.as_ref().expect("it is open");
        let data = [IoSlice::new(target.as_bytes())];
        sendmsg(control, &data, &mut rights, SendFlags::empty()).expect("sent");
        ours
    }

    fn write_hook(&self, script: &str) {
        let path = self.folder.path().join("hooks/post-data");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a mode");
    }

    fn ask(&self, facts: &[(Fact, &str)], message: &[u8]) -> HookVerdict {
        let mut stream = self.connect(HOOK);
        let mut out = Vec::new();
        let mut hook = Hook::new(facts, &mut out);
        hook.on_body(message, &mut out);
        hook.on_body_end(&mut out);
        stream.write_all(&out).expect("asked");
        let mut bytes = [0; 4_096];
        loop {
            let len = stream.read(&mut bytes).expect("an answer");
            assert!(len > 0, "a verdict");
            if let Some(verdict) = hook.on_bytes(&bytes[..len]) {
                return verdict;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("the log")
    }

    /// Closes the control socket; returns when the process has ended.
    fn end(&mut self) {
        self.control = None;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                assert!(status.success(), "{status}: {}", self.log());
                return;
            }
            assert!(Instant::now() < end, "it goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // A process that has ended cannot be killed.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_hook_gets_message_and_facts_and_its_verdict_is_returned() {
    let helper = Helper::start();
    helper.write_hook(
        "set -e; read -r first; printf 'X-First: %s\\nX-From: %s\\nX-Home: %s\\n' \"$first\" \"$MAIL_FROM\" \"$PWD\"",
    );
    let facts = [(Fact::MailFrom, "ann@a.example")];
    let verdict = helper.ask(&facts, b"Subject: x\r\n\r\nhi\r\n");
    let folder = helper.folder.path().display();
    let fields =
        format!("X-First: Subject: x\r\nX-From: ann@a.example\r\nX-Home: {folder}\r\n").into();
    assert_eq!(
        verdict,
        HookVerdict::Accept {
            fields,
            junk: false
        }
    );

    helper.write_hook("cat >/dev/null; echo why >&2; echo no spam; exit 20");
    let text = "no spam".to_owned();
    assert_eq!(helper.ask(&[], b"A: b\r\n"), HookVerdict::Refuse { text });
    assert!(
        helper.log().contains("event=hook said=why"),
        "{}",
        helper.log()
    );

    helper.write_hook("kill -9 $$");
    assert!(matches!(
        helper.ask(&[], b"A: b\r\n"),
        HookVerdict::Defer { .. }
    ));
    fs::remove_file(helper.folder.path().join("hooks/post-data")).expect("removed");
    assert!(matches!(
        helper.ask(&[], b"A: b\r\n"),
        HookVerdict::Defer { .. }
    ));
}

#[test]
fn a_target_outside_the_configuration_is_refused() {
    let helper = Helper::start();
    let mark = helper.folder.path().join("mark");
    let maildir = format!("maildir:{}", helper.folder.path().join("box").display());
    let program = format!("| /usr/bin/touch {}", mark.display());
    for target in [maildir.as_str(), program.as_str(), "hook ", "/bin/sh", ""] {
        let mut stream = helper.connect(target);
        let message = b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\n";
        // The connection may be closed already.
        drop(stream.write_all(message));
        let mut heard = String::new();
        if target.is_empty() {
            break; // an empty word means the end of the control socket
        }
        let _ = stream.read_to_string(&mut heard);
        assert!(
            heard.starts_with("554 5.7.1") || heard.starts_with("421 4.3.5"),
            "{target:?}: {heard}"
        );
        assert_eq!(heard.lines().count(), 1, "{heard}");
    }
    assert!(!mark.exists());
}

#[test]
fn it_ends_with_its_control_socket_and_not_by_a_signal_and_waits_for_running_programs() {
    let mut helper = Helper::start();
    helper.write_hook("cat >/dev/null; sleep 0.5; touch \"$PWD/mark\"");
    assert!(matches!(
        helper.ask(&[], b"A: b\r\n"),
        HookVerdict::Accept { .. }
    ));
    fs::remove_file(helper.folder.path().join("mark")).expect("it ran");
    let pid = Pid::from_child(&helper.process);
    kill_process(pid, Signal::TERM).expect("it runs");
    let mut stream = helper.connect(HOOK);
    stream.write_all(b"\r\nA: b\r\n.\r\n").expect("asked");
    helper.end();
    assert!(helper.folder.path().join("mark").exists());
}

#[test]
fn an_idle_helper_uses_less_than_a_mebibyte_of_its_own() {
    let helper = Helper::start();
    helper.write_hook("exit 0");
    helper.ask(&[], b"A: b\r\n");
    let statm = format!("/proc/{}/statm", helper.process.id());
    let statm = fs::read_to_string(statm).expect("memory");
    // In pages: all mapped memory, resident memory, and the part of it that belongs to files, which it shares with the
    // relay.
    let pages: Vec<usize> = statm
        .split(' ')
        .map_while(|word| word.parse().ok())
        .collect();
    let own = (pages[1] - pages[2]) * 4_096;
    assert!(own < 1_024 * 1_024, "{own} bytes: {statm}");
    let memory = format!("/proc/{}/mem", helper.process.id());
    if !rustix::process::geteuid().is_root() {
        File::open(memory).expect_err("nobody looks into it");
    }
}

#[test]
fn only_the_daemon_can_start_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .arg("helper")
        .arg(Path::new("/"))
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(64));
}
