//! The programs of Debian that send mail by calling sendmail, each started for real on a machine that `make install` and
//! `chopar init` have set up: with the daemon up, and with it down until later.

#[path = "../machine/mod.rs"]
mod machine;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

/// Programs and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 10] = [
    ("/usr/sbin/cron", "cron"),
    ("/usr/sbin/atd", "at"),
    ("/usr/bin/mail", "bsd-mailx"),
    ("/usr/bin/php", "php-cli"),
    ("/usr/lib/git-core/git-send-email", "git-email"),
    ("/usr/bin/mutt", "mutt"),
    ("/usr/bin/fail2ban-client", "fail2ban"),
    ("/usr/sbin/smtp-sink", "postfix"),
    ("/usr/bin/pgrep", "procps"),
    ("/usr/bin/make", "make"),
];

/// Who gets the mail of each caller, and a line of it, by how the daemon was.
fn expected(daemon: &str, banned: &str) -> [(&'static str, String); 9] {
    let says = |caller: &str| format!("Subject: {caller}, {daemon}");
    [
        ("mailx@example.net", says("mailx")),
        ("php@example.net", says("php")),
        ("git@example.net", says("git send-email")),
        ("mutt@example.net", says("mutt")),
        ("cron@example.net", format!("from cron, {daemon}")),
        // at writes to the account that called it, whose mail goes to admin.
        ("you@gmail.example", format!("from at, {daemon}")),
        ("fail2ban@example.net", "[Fail2Ban] mail: started on".into()),
        (
            "fail2ban@example.net",
            format!("[Fail2Ban] mail: banned {banned} from"),
        ),
        ("fail2ban@example.net", "[Fail2Ban] mail: stopped on".into()),
    ]
}

/// The messages that smtp-sink has written: recipient and text.
fn arrived(text: &str) -> Vec<(&str, &str)> {
    let messages = text.split("X-Client-Addr: ").skip(1);
    let with_recipient = messages.map(|message| {
        let (_, rest) = message.split_once("X-Rcpt-Args: <").expect("a recipient");
        let (recipient, _) = rest.split_once('>').expect("its end");
        (recipient, message)
    });
    with_recipient.collect()
}

#[test]
fn each_caller_of_sendmail_gets_its_mail_through_with_the_daemon_up_and_down() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    for (path, package) in PROGRAMS {
        let is_there = Path::new(path).exists();
        assert!(
            is_there,
            "{path} is missing: install the Debian package {package}"
        );
    }
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a mode");
    // What the machine has of another mail server makes room, and of systemd, which does not run there.
    let prepare = format!(
        "mkdir $place/target\ncp {} $place/target/chopar\n\
         for path in usr/sbin/sendmail usr/lib/sendmail usr/bin/mailq usr/bin/newaliases etc/chopar var/lib/chopar \
         run/chopar run/systemd; do rm -rf $root/$path; done\n\
         CARGO_TARGET_DIR=$place/target make -s -C {} install DESTDIR=$root",
        env!("CARGO_BIN_EXE_chopar"),
        env!("CARGO_MANIFEST_DIR"),
    );
    let script = include_str!("machine.sh");
    let mut command = machine::command(place.path(), &prepare, script);
    command.env_remove("CHOPAR_CONFIG").stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    let (said, down) = said.split_once("== down\n").expect("a part");
    let (left, up) = said.split_once("== up\n").expect("a part");
    assert!(left.ends_with("== left\n9\n"), "{left}");
    for (daemon, banned, text) in [("up", "192.0.2.7", up), ("down", "192.0.2.8", down)] {
        let mut messages = arrived(text);
        for (recipient, line) in expected(daemon, banned) {
            let found = messages
                .iter()
                .position(|(to, message)| *to == recipient && message.contains(&line));
            let found = found.unwrap_or_else(|| panic!("{recipient}: {line}: {text}\n{errors}"));
            let (_, message) = messages.remove(found);
            // Whoever called, the mail is signed in the name of the machine's domain.
            assert!(message.contains("\n\td=example.com;"), "{message}");
        }
        assert_eq!(messages, [], "more than one of each");
    }
}
