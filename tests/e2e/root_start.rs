//! A start as root while the account owns the folders and may have put anything into them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::process::{Guard, PATIENCE, program, run, wait_for};
use crate::relay::Relay;
use crate::world::certificate;

const NOBODY: u32 = 65_534;

/// A stopped relay that starts as root and runs as nobody.
fn relay() -> Relay {
    let mut relay = Relay::start();
    relay.stop();
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let text = text.replace("user = \"root\"", "user = \"nobody\"");
    fs::write(&path, text).expect("a file");
    // The account could not read the files that root created.
    fs::remove_dir_all(relay.folder().join("state")).expect("a folder");
    relay
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let about = fs::symlink_metadata(path).expect("a file");
    (about.uid(), about.permissions().mode() & 0o7777)
}

/// Starts the relay, which must refuse; returns its output.
fn refusal(relay: &Relay) -> String {
    let before = relay.log().len();
    assert_eq!(Guard::spawn(&mut relay.command()).wait(PATIENCE), 73);
    relay.log().split_off(before)
}

#[test]
fn root_follows_no_link_that_the_account_has_left() {
    if !rustix::process::geteuid().is_root() {
        return; // only root could be misled
    }
    let mut relay = relay();
    relay.run();
    let at = |name: &str| relay.folder().join(name);
    for (name, mode) in [
        ("state", 0o755),
        ("state/spool", 0o711),
        ("run", 0o755),
        ("run/submit.sock", 0o666),
        ("run/control.sock", 0o666),
    ] {
        assert_eq!(owner_and_mode(&at(name)), (NOBODY, mode), "{name}");
    }
    relay.stop();

    let at = |name: &str| relay.folder().join(name);
    fs::create_dir(at("victim")).expect("a folder");
    fs::set_permissions(at("victim"), fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::rename(at("state/spool"), at("state/other")).expect("a folder");
    symlink(at("victim"), at("state/spool")).expect("a link");
    let said = refusal(&relay);
    assert!(said.contains("state/spool: a symbolic link"), "{said}");
    fs::remove_file(at("state/spool")).expect("a link");
    fs::rename(at("state/other"), at("state/spool")).expect("a folder");

    // The same for runtime_dir, if the account owns its parent folder.
    chown(relay.folder(), Some(NOBODY), None).expect("an owner");
    fs::remove_dir_all(at("run")).expect("a folder");
    symlink(at("victim"), at("run")).expect("a link");
    let said = refusal(&relay);
    assert!(said.contains("run: a symbolic link"), "{said}");
    assert_eq!(owner_and_mode(&at("victim")), (0, 0o700));
    assert_eq!(fs::read_dir(at("victim")).expect("a folder").count(), 0);

    fs::remove_file(at("run")).expect("a link");
    relay.run();
    relay.stop();
}

/// The certificate that the relay shows.
fn shown(relay: &Relay) -> String {
    let port = relay.submissions();
    let mut command = Command::new(program("openssl"));
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]);
    command.args(["-servername", "mail.relay.test"]);
    let said = run(&mut command, b"QUIT\n").stdout;
    let (_, rest) = said.split_once("BEGIN CERTIFICATE").expect("a certificate");
    let (text, _) = rest.split_once("END CERTIFICATE").expect("its end");
    text.to_owned()
}

/// Renews like certbot: a new pair in archive/, and a link to it in live/. The key keeps its group and mode.
fn certbot(place: &Path, number: usize) {
    let name = "mail.relay.test";
    let (live, archive) = (
        place.join("live").join(name),
        place.join("archive").join(name),
    );
    fs::create_dir_all(&live).expect("a folder");
    fs::create_dir_all(&archive).expect("a folder");
    let made = tempfile::tempdir().expect("a folder");
    certificate(made.path(), name);
    for (kind, from) in [("fullchain", "cert.pem"), ("privkey", "key.pem")] {
        let file = archive.join(format!("{kind}{number}.pem"));
        fs::copy(made.path().join(from), &file).expect("a file");
        let old = archive.join(format!("{kind}{}.pem", number.saturating_sub(1)));
        let (group, mode) = match (kind, fs::metadata(&old)) {
            ("privkey", Ok(old)) => (old.gid(), 0o600 | old.permissions().mode() & 0o074),
            ("privkey", Err(_)) => (0, 0o600),
            _ => (0, 0o644),
        };
        chown(&file, None, Some(group)).expect("a group");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        let link = live.join(format!("{kind}.pem"));
        drop(fs::remove_file(&link));
        symlink(format!("../../archive/{name}/{kind}{number}.pem"), link).expect("a link");
    }
}

#[test]
fn certbot_files_work_after_the_suggested_command_and_the_last_good_pair_stays() {
    if !rustix::process::geteuid().is_root() {
        return; // the test cannot change to another account
    }
    let mut relay = relay();
    let place = relay.folder().join("letsencrypt");
    certbot(&place, 1);
    for closed in ["live", "archive"] {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(place.join(closed), mode).expect("a mode");
    }
    let tls = relay.config().join("tls");
    fs::create_dir(&tls).expect("a folder");
    symlink(place.join("live/mail.relay.test"), tls.join("mail")).expect("a link");

    // Root can read it at the start, but the account cannot at a renewal. Both `check` and the log report that.
    let checked = relay.cli(&["check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    relay.run();
    let first = shown(&relay);
    certbot(&place, 2);
    relay.cli(&["reload"]).ok();
    assert_eq!(shown(&relay), first);
    let line = checked
        .stderr
        .lines()
        .find(|line| line.contains("may not read it"));
    let (_, said) = line
        .expect("a line")
        .split_once("; run ")
        .expect("a command");
    let log = relay.log();
    assert!(log.contains(&format!("cure=\"run {said}\"")), "{log}");
    run(Command::new("/bin/sh").args(["-c", said]), b"").ok();

    let checked = relay.cli(&["check"]);
    assert!(!checked.stderr.contains("tls"), "{checked:?}");
    relay.cli(&["reload"]).ok();
    let second = shown(&relay);
    assert_ne!(second, first);
    certbot(&place, 3);
    relay.cli(&["reload"]).ok();
    let third = shown(&relay);
    assert_ne!(third, second);

    // Truncated, mismatched or missing files do not replace the good pair.
    let live = place.join("live/mail.relay.test");
    fs::remove_file(live.join("privkey.pem")).expect("a link");
    for key in [
        Some("../../archive/mail.relay.test/privkey1.pem"),
        Some("nowhere"),
        None,
    ] {
        if let Some(key) = key {
            symlink(key, live.join("privkey.pem")).expect("a link");
        }
        relay.cli(&["reload"]).ok();
        assert_eq!(shown(&relay), third, "{key:?}");
        drop(fs::remove_file(live.join("privkey.pem")));
    }
    fs::remove_file(tls.join("mail")).expect("a link");
    relay.cli(&["reload"]).ok();
    assert_eq!(shown(&relay), third);
    let log = relay.log();
    for cause in [
        "is not the key of the certificate",
        "the file is missing",
        "the folder is gone",
    ] {
        assert!(log.contains(cause), "{log}");
    }
    // Only the first start, without any pair, created one.
    assert_eq!(log.matches("event=self-signed").count(), 1, "{log}");
    relay.stop();
}

#[test]
fn an_unreadable_file_stops_check_and_start_with_the_same_sentence() {
    if !rustix::process::geteuid().is_root() {
        return; // the test cannot change to another account
    }
    let relay = relay();
    let users = relay.config().join("domains/relay.test/users");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).expect("a mode");
    let checked = relay.cli(&["check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    let sentence = checked
        .stderr
        .lines()
        .next()
        .expect("a sentence")
        .to_owned();
    assert!(sentence.contains("users: permission denied"), "{sentence}");
    let before = relay.log().len();
    assert_eq!(Guard::spawn(&mut relay.command()).wait(PATIENCE), 78);
    let said = relay.log().split_off(before);
    assert!(said.contains(&sentence), "{said}\n{sentence}");
    let (_, command) = sentence.split_once(": run ").expect("a command");
    let command = command.split(';').next().expect("its end");
    run(Command::new("/bin/sh").args(["-c", command]), b"").ok();
    let checked = relay.cli(&["check"]);
    assert!(!checked.stderr.contains("permission denied"), "{checked:?}");
}

/// The capabilities that a thread has or could gain.
fn capabilities(status: &str) -> u64 {
    let lines = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"];
    let found = status
        .lines()
        .filter(|line| lines.iter().any(|name| line.starts_with(name)));
    found.fold(0, |all, line| {
        let digits = line.split_whitespace().nth(1).expect("a number");
        all | u64::from_str_radix(digits, 16).expect("a number")
    })
}

#[test]
fn only_the_renewal_thread_keeps_a_capability_of_root_and_only_that_to_bind_ports() {
    if !rustix::process::geteuid().is_root() {
        return; // there are no capabilities to keep
    }
    let mut relay = relay();
    let threads = |relay: &mut Relay| -> Vec<(String, u64)> {
        let pid = relay.pid();
        // A thread sets its own name, possibly after the relay answers.
        wait_for("threads with their names", PATIENCE, || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
            let mut found: Vec<(String, u64)> = tasks
                .flatten()
                .map(|task| {
                    let read = |name| fs::read_to_string(task.path().join(name)).expect("a file");
                    (
                        read("comm").trim().to_owned(),
                        capabilities(&read("status")),
                    )
                })
                .collect();
            found.sort();
            let unnamed = found.iter().filter(|(name, _)| name == "chopar").count();
            (unnamed <= 1).then_some(found)
        })
    };
    relay.run();
    let found = threads(&mut relay);
    assert!(found.len() > 3, "{found:?}");
    for (name, rights) in &found {
        let bind = 1 << 10; // CAP_NET_BIND_SERVICE
        assert_eq!(
            *rights,
            if name == "renewal" { bind } else { 0 },
            "{found:?}"
        );
    }
    relay.stop();
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(path, format!("{text}[acme]\nenabled = false\n")).expect("a file");
    relay.run();
    let found = threads(&mut relay);
    assert!(found.iter().all(|(_, rights)| *rights == 0), "{found:?}");
    relay.stop();
}

#[test]
fn only_the_renewal_thread_keeps_the_capability_of_the_unit() {
    if !rustix::process::geteuid().is_root() {
        return; // there are no capabilities to give
    }
    let mut relay = relay();
    // Its folders are created and belong to the account.
    relay.run();
    relay.stop();
    fs::remove_dir_all(relay.folder().join("run")).expect("a folder");
    chown(relay.folder(), Some(NOBODY), None).expect("an owner");
    let setpriv = program("setpriv").display().to_string();
    let words = "--reuid 65534 --regid 65534 --clear-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service";
    let words = words.split(' ').map(str::to_owned);
    relay.setup.wrapper = std::iter::once(setpriv).chain(words).collect();
    relay.run();
    let pid = relay.pid();
    let read = |path: &Path, name| fs::read_to_string(path.join(name)).unwrap_or_default();
    let renewal = wait_for("the thread that renews", PATIENCE, || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        let mut tasks = tasks.flatten().map(|task| task.path());
        tasks.find(|task| read(task, "comm").trim() == "renewal")
    });
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let task = task.expect("a thread").path();
        let expected = if task == renewal { 1 << 10 } else { 0 };
        assert_eq!(capabilities(&read(&task, "status")), expected, "{task:?}");
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a list");
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
    for child in children.split_whitespace() {
        let status = read(&Path::new("/proc").join(child), "status");
        assert_eq!(capabilities(&status), 0, "{status}");
    }
    relay.stop();
}

#[test]
fn a_relay_starts_under_a_filter_that_refuses_capset() {
    if !rustix::process::geteuid().is_root() {
        return; // there are no capabilities to keep
    }
    let mut relay = relay();
    // The tracer is not the parent, so that the signals of this test reach the relay.
    let words = "-D -f -qq -o /dev/null -e trace=capset -e inject=capset:error=EPERM";
    let strace = program("strace").display().to_string();
    let words = words.split(' ').map(str::to_owned);
    relay.setup.wrapper = std::iter::once(strace).chain(words).collect();
    relay.run();
    let status = fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("a status");
    assert_eq!(capabilities(&status), 0, "{status}");
    relay.stop();
}
