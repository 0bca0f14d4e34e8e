//! Local mail: maildirs, programs and LMTP, each received or read by other software.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{Guard, PATIENCE, program, run, wait_for};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

/// A folder for the targets of aliases. It is not world-writable, since procmail would not trust files in it.
fn place() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    folder
}

fn relay(aliases: &str) -> Relay {
    Setup {
        aliases: format!("ann: ann@home.test\n{aliases}"),
        ..Setup::default()
    }
    .start()
}

fn message(subject: &str) -> String {
    format!("From: eve@four.test\r\nTo: x@relay.test\r\nSubject: {subject}\r\n\r\n.hello\r\n..\r\n")
}

/// Sends a message to these names of relay.test.
fn send(relay: &Relay, names: &[&str], message: &str) {
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<eve@four.test>").code, 250);
    for name in names {
        let reply = client.say(&format!("RCPT TO:<{name}@relay.test>"));
        assert_eq!(reply.code, 250, "{name}: {}", reply.text);
    }
    assert_eq!(client.say("DATA").code, 354);
    assert_eq!(client.body(message.as_bytes()).code, 250);
}

/// The messages of a maildir as Python's mailbox module reads them: Delivered-To, Return-Path, Subject, body.
fn read_maildir(path: &Path) -> Vec<Vec<String>> {
    let script = "import mailbox, json, sys\n\
        box = mailbox.Maildir(sys.argv[1], create=False)\n\
        print(json.dumps(sorted([m['Delivered-To'], m['Return-Path'], m['Subject'], m.get_payload()] for m in box)))";
    let mut command = Command::new(program("python3"));
    command.args(["-c", script]).arg(path);
    serde_json::from_str(&run(&mut command, b"").ok()).expect("JSON")
}

/// Waits for the only file in a folder; returns its text.
#[track_caller]
fn only_file(folder: &Path) -> String {
    wait_for(&format!("a file in {}", folder.display()), PATIENCE, || {
        let mut entries = fs::read_dir(folder).ok()?;
        fs::read_to_string(entries.next()?.ok()?.path()).ok()
    })
}

#[test]
fn an_unwritable_maildir_is_named_in_the_log() {
    let place = place();
    let file = place.path().join("plain");
    fs::write(&file, "a file, and no folder").expect("a file");
    let maildir = file.join("box");
    let relay = relay(&format!("box: maildir:{}\n", maildir.display()));
    send(&relay, &["box"], &message("one"));
    let line = relay.wait_for_log("event=helper cause=");
    assert!(line.contains(&file.display().to_string()), "{line}");
}

#[test]
fn a_maildir_is_created_and_other_software_reads_it() {
    let place = place();
    let maildir = place.path().join("Mail dir");
    let relay = relay(&format!("box: maildir:{}\n", maildir.display()));
    send(&relay, &["box", "Box+tag"], &message("one"));
    send(&relay, &["box"], &message("two"));
    relay.wait_for_empty_queue(PATIENCE);
    let expected = [
        ("Box+tag@relay.test", "one"),
        ("box@relay.test", "one"),
        ("box@relay.test", "two"),
    ];
    let found = read_maildir(&maildir);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, (to, subject)) in found.iter().zip(expected) {
        assert_eq!(found[0], to);
        assert!(
            found[1].contains("eve") && found[1].starts_with('<'),
            "{found:?}"
        );
        assert_eq!(found[2..], [subject, ".hello\n..\n"]);
    }
}

#[test]
fn procmail_and_maildrop_sort_piped_messages() {
    let place = place();
    let at = place.path();
    fs::write(
        at.join("procmailrc"),
        format!(
            "MAILDIR={0}\nDEFAULT={0}/inbox/\n:0\n* ^Subject: list\nlist-$EXTENSION/\n",
            at.display()
        ),
    )
    .expect("a file");
    fs::create_dir_all(at.join("dropped")).expect("a folder");
    for name in ["tmp", "new", "cur"] {
        fs::create_dir(at.join("dropped").join(name)).expect("a folder");
    }
    let filter = at.join("filter");
    fs::write(&filter, format!("to \"{}/dropped\"\n", at.display())).expect("a file");
    fs::set_permissions(&filter, Permissions::from_mode(0o600)).expect("a mode");
    let relay = relay(&format!(
        "pro: | {} -t -p \"{}\"\ndrop: | {} {}\n",
        program("procmail").display(),
        at.join("procmailrc").display(),
        program("maildrop").display(),
        filter.display()
    ));
    send(&relay, &["pro+one"], &message("list"));
    send(&relay, &["pro", "drop"], &message("other"));
    relay.wait_for_empty_queue(PATIENCE);
    for (folder, subject, to) in [
        ("list-one", "list", "pro+one"),
        ("inbox", "other", "pro"),
        ("dropped", "other", "drop"),
    ] {
        let text = only_file(&at.join(folder).join("new"));
        for part in [
            format!("Delivered-To: {to}@relay.test\n"),
            format!("Subject: {subject}\n"),
            "\n\n.hello\n..\n".to_owned(),
        ] {
            assert!(text.contains(&part), "{part}: {text}");
        }
    }
}

#[test]
fn the_exit_code_of_a_program_decides_the_delivery_result() {
    let place = place();
    let script = place.path().join("script");
    fs::write(
        &script,
        "#!/bin/sh\necho \"no room for $RECIPIENT\" >&2\nexit $1\n",
    )
    .expect("a file");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a mode");
    let path = script.display();
    let relay = relay(&format!(
        "later: | {path} 75\nnobody: | {path} 67\nmissing: | /nonexistent/program\n"
    ));
    send(&relay, &["nobody"], &message("x"));
    let bounce = relay.sink.wait(1).remove(0).text();
    let bounce = bounce.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        bounce.contains("5.1.1") && bounce.contains("no room for nobody@relay.test"),
        "{bounce}"
    );
    send(&relay, &["later", "missing"], &message("x"));
    relay.wait_for_deferred(2);
    assert_eq!(relay.stats()["queued"], 1, "nothing is lost");
    relay.wait_for_log("cannot be run");
}

#[test]
fn mail_deferred_by_a_program_is_delivered_once_the_program_works() {
    let place = place();
    let script = place.path().join("script");
    let relay = relay(&format!("x: | {}\n", script.display()));
    send(&relay, &["x"], &message("x"));
    relay.wait_for_deferred(1);
    fs::write(
        &script,
        format!("#!/bin/sh\ncat >{}/out\n", place.path().display()),
    )
    .expect("a file");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a mode");
    relay.flush_all();
    let text = fs::read_to_string(place.path().join("out")).expect("a file");
    assert!(text.ends_with("\n\n.hello\n..\n"), "{text}");
}

#[test]
fn the_helper_knows_the_targets_of_a_new_configuration() {
    let place = place();
    let relay = relay("");
    let maildir = place.path().join("box");
    let aliases = format!("box: maildir:{}\n", maildir.display());
    fs::write(relay.config().join("domains/relay.test/aliases"), aliases).expect("a file");
    relay.cli(&["reload"]).ok();
    send(&relay, &["box"], &message("x"));
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(read_maildir(&maildir).len(), 1);
}

/// The helper process of this daemon.
fn helper_of(pid: u32) -> Pid {
    let parent = format!("PPid:\t{pid}");
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let found = processes.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let words = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_it = status.lines().any(|line| line == parent) && words.contains("\0helper\0");
        is_it.then(|| Pid::from_raw(number)).flatten()
    });
    let found: Vec<Pid> = found.collect();
    assert_eq!(found.len(), 1);
    found[0]
}

#[test]
fn a_daemon_without_its_helper_exits_so_that_both_restart() {
    let place = place();
    let maildir = place.path().join("box");
    let mut relay = relay(&format!("box: maildir:{}\n", maildir.display()));
    send(&relay, &["box"], &message("x"));
    relay.wait_for_empty_queue(PATIENCE);
    let helper = helper_of(relay.pid());
    kill_process(helper, Signal::KILL).expect("it runs");
    assert_eq!(relay.wait(PATIENCE), 70, "{}", relay.log());
    let line = relay.wait_for_log("event=helper");
    assert!(line.contains("it has ended"), "{line}");
    assert!(
        relay.log().contains("the helper has ended, without which"),
        "{}",
        relay.log()
    );
    relay.run();
    send(&relay, &["box"], &message("x"));
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(read_maildir(&maildir).len(), 2);
    // A requested stop ends the helper too, which is not a failure.
    relay.stop();
}

/// Dovecot with only its LMTP service, which accepts mail for all users.
struct Dovecot {
    _server: Guard,
    folder: TempDir,
    port: u16,
}

impl Dovecot {
    fn start() -> Self {
        let (folder, port) = (place(), free_port());
        let root = folder.path().display();
        // Its processes must not run as root; if root starts it, they use an account that every machine has.
        let (user, group) = if rustix::process::geteuid().is_root() {
            ("nobody".to_owned(), "nogroup".to_owned())
        } else {
            let name = |flag| run(Command::new(program("id")).arg(flag), b"").ok();
            let name = |flag| name(flag).trim().to_owned();
            (name("-un"), name("-gn"))
        };
        let text = format!(
            "base_dir = {root}/run\nstate_dir = {root}/state\nlog_path = {root}/log\nprotocols = lmtp\nssl = no\n\
             listen = 127.0.0.1\ndefault_internal_user = {user}\ndefault_internal_group = {group}\n\
             default_login_user = {user}\nfirst_valid_uid = 1\nmail_location = maildir:{root}/mail/%n\n\
             passdb {{\n driver = static\n args = nopassword=y\n}}\n\
             userdb {{\n driver = static\n args = uid={user} gid={group} home={root}/mail/%n allow_all_users=yes\n}}\n\
             service lmtp {{\n unix_listener {root}/lmtp.sock {{\n mode = 0666\n }}\n \
             inet_listener lmtp {{\n address = 127.0.0.1\n port = {port}\n }}\n}}\n\
             service anvil {{\n chroot =\n}}\nservice stats {{\n chroot =\n unix_listener stats-writer {{\n mode = 0666\n }}\n}}\n"
        );
        let path = folder.path().join("dovecot.conf");
        fs::write(&path, text).expect("a file");
        let mail = folder.path().join("mail");
        fs::create_dir(&mail).expect("a folder");
        fs::set_permissions(&mail, Permissions::from_mode(0o777)).expect("a mode");
        let mut command = Command::new(program("dovecot"));
        command.arg("-F").arg("-c").arg(path).stdin(Stdio::null());
        command.stdout(Stdio::null());
        command.stderr(File::create(folder.path().join("errors")).expect("a file"));
        let server = Guard::spawn(&mut command);
        wait_for("Dovecot to start", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            _server: server,
            folder,
            port,
        }
    }
}

#[test]
fn dovecot_accepts_mail_over_lmtp_by_socket_and_by_port() {
    let dovecot = Dovecot::start();
    let relay = relay(&format!(
        "here: lmtp:{}\nthere: lmtp:127.0.0.1:{}\n",
        dovecot.folder.path().join("lmtp.sock").display(),
        dovecot.port
    ));
    send(
        &relay,
        &["here", "here+tag", "there"],
        &message("over LMTP"),
    );
    relay.wait_for_empty_queue(PATIENCE);
    // Dovecot removes the detail of the address.
    for (name, count) in [("here", 2), ("there", 1)] {
        let folder = dovecot.folder.path().join("mail").join(name).join("new");
        let texts: Vec<String> = fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a file"))
            .collect();
        assert_eq!(texts.len(), count, "{texts:?}");
        let whole = |text: &String| {
            text.starts_with("Return-Path: <eve@four.test>\n")
                && text.contains("Subject: over LMTP\n\n.hello\n..\n")
        };
        assert!(texts.iter().all(whole), "{texts:?}");
    }
}

#[test]
fn routes_deliver_to_a_maildir_and_to_dovecot_and_a_success_dsn_says_delivered() {
    let (dovecot, place) = (Dovecot::start(), place());
    let maildir = place.path().join("all");
    let relay = Setup {
        tables: format!(
            "[[route]]\ndomain = \"stay.test\"\nvia = [\"maildir://{}\"]\n\
             [[route]]\ndomain = \"port.test\"\nvia = [\"lmtp://127.0.0.1:{}\"]\n\
             [[route]]\ndomain = \"socket.test\"\nvia = [\"lmtp://{}\"]\n",
            maildir.display(),
            dovecot.port,
            dovecot.folder.path().join("lmtp.sock").display()
        ),
        ..Setup::default()
    }
    .start();
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<eve@four.test>").code, 250);
    for to in ["a@stay.test", "b@stay.test", "c@port.test", "d@socket.test"] {
        let reply = client.say(&format!("RCPT TO:<{to}> NOTIFY=SUCCESS"));
        assert_eq!(reply.code, 250, "{to}: {}", reply.text);
    }
    assert_eq!(client.say("DATA").code, 354);
    assert_eq!(client.body(message("x").as_bytes()).code, 250);
    relay.wait_for_empty_queue(PATIENCE);
    let found = read_maildir(&maildir);
    let found: Vec<&str> = found.iter().map(|message| message[0].as_str()).collect();
    assert_eq!(found, ["a@stay.test", "b@stay.test"]);
    for name in ["c", "d"] {
        only_file(&dovecot.folder.path().join("mail").join(name).join("new"));
    }
    let dsns: String = relay.sink.wait(3).iter().map(|dsn| dsn.text()).collect();
    assert_eq!(dsns.matches("Action: delivered\r\n").count(), 4, "{dsns}");
}
