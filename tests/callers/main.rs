//! Debian's programs that send mail by calling sendmail, run on a machine with the package installed and `chopar init`
//! done: with the daemon running, and with a daemon that starts only later.

#[path = "../machine/debian.rs"]
mod debian;
#[path = "../machine/mod.rs"]
mod machine;
#[path = "../machine/script.rs"]
mod script;

use std::path::Path;

use debian::{build, folder};
use script::{ok, on_a_machine};

/// Programs and the Debian packages that contain them.
const PROGRAMS: [(&str, &str); 9] = [
    ("/usr/sbin/cron", "cron"),
    ("/usr/sbin/atd", "at"),
    ("/usr/bin/mail", "bsd-mailx"),
    ("/usr/bin/php", "php-cli"),
    ("/usr/lib/git-core/git-send-email", "git-email"),
    ("/usr/bin/mutt", "mutt"),
    ("/usr/bin/fail2ban-client", "fail2ban"),
    ("/usr/sbin/smtp-sink", "postfix"),
    ("/usr/bin/pgrep", "procps"),
];

/// The recipient of each caller's mail, and a line of the mail, which names the state of the daemon.
fn expected(daemon: &str, banned: &str) -> [(&'static str, String); 9] {
    let says = |caller: &str| format!("Subject: {caller}, {daemon}");
    [
        ("mailx@example.net", says("mailx")),
        ("php@example.net", says("php")),
        ("git@example.net", says("git send-email")),
        ("mutt@example.net", says("mutt")),
        ("cron@example.net", format!("from cron, {daemon}")),
        // at mails the account that called it, whose mail goes to admin.
        ("you@gmail.example", format!("from at, {daemon}")),
        ("fail2ban@example.net", "[Fail2Ban] mail: started on".into()),
        (
            "fail2ban@example.net",
            format!("[Fail2Ban] mail: banned {banned} from"),
        ),
        ("fail2ban@example.net", "[Fail2Ban] mail: stopped on".into()),
    ]
}

/// The messages in the output of smtp-sink: recipient and text.
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
fn mail_of_each_caller_of_sendmail_is_delivered_with_the_daemon_up_and_down() {
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
    let package = build("debian", &folder("callers"), "022");
    let said = ok(on_a_machine(
        include_str!("machine.sh"),
        &[(&package, "chopar.deb")],
    ));
    let (installed, said) = said.split_once("== installed\n").expect("a part");
    assert!(installed.contains("Unpacking chopar"), "{installed}");
    for others in ["postfix", "exim4-base"] {
        assert!(!said.contains(&format!("{others} installed")), "{said}");
    }
    let (said, down) = said.split_once("== down\n").expect("a part");
    let (left, up) = said.split_once("== up\n").expect("a part");
    assert!(left.ends_with("== left\n9\n"), "{left}");
    for (daemon, banned, text) in [("up", "192.0.2.7", up), ("down", "192.0.2.8", down)] {
        let mut messages = arrived(text);
        for (recipient, line) in expected(daemon, banned) {
            let found = messages
                .iter()
                .position(|(to, message)| *to == recipient && message.contains(&line));
            let found = found.unwrap_or_else(|| panic!("{recipient}: {line}: {text}"));
            let (_, message) = messages.remove(found);
            // Whatever the caller, the mail is signed for the domain of the machine.
            assert!(message.contains("\n\td=example.com;"), "{message}");
        }
        assert_eq!(messages, [], "more than one of each");
    }
}
