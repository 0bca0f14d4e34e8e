//! `chopar init` as on a new machine: into a folder of the user's, and as root on a whole system, which is a temporary
//! overlay over this one.

mod machine;
#[path = "machine/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use script::{Ended, end, ok, place};

const CHOPAR: &str = env!("CARGO_BIN_EXE_chopar");
const PATIENCE: Duration = Duration::from_secs(30);

fn chopar(folder: &Path, words: &[&str]) -> Ended {
    end(Command::new(CHOPAR).arg("-C").arg(folder).args(words), "")
}

/// With `umask` as the caller's.
fn chopar_under(umask: &str, folder: &Path, words: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), CHOPAR]);
    end(command.arg("-C").arg(folder).args(words), "")
}

const INIT: [&str; 4] = ["init", "example.com", "--forward-to", "you@gmail.example"];

/// Everything below a folder: mode, owner, group, time of the last change, content.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let about = fs::symlink_metadata(&next).expect("known");
        let mut content = Vec::new();
        if about.is_dir() {
            let entries = fs::read_dir(&next).expect("a folder");
            folders.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if about.is_file() {
            content = fs::read(&next).expect("a file");
        }
        let state = (
            about.mode(),
            about.uid(),
            about.gid(),
            about.ctime_nsec(),
            content,
        );
        found.insert(next, state);
    }
    found
}

/// The password that was shown.
fn password(output: &str) -> &str {
    let (_, rest) = output.split_once("The password of ").expect("a password");
    rest.lines().nth(1).expect("a line").trim()
}

#[test]
fn a_folder_is_ready_after_one_command_under_every_mask_and_the_next_changes_nothing() {
    let place = place();
    let mut modes = Vec::new();
    for umask in ["022", "077", "000"] {
        let folder = place.path().join(umask);
        let output = ok(chopar_under(umask, &folder, &INIT));
        assert!(output.contains("\nRecords for the DNS:\n"), "{output}");
        assert!(output.contains("v=DKIM1; k=ed25519"), "{output}");
        assert!(
            output.contains("rua=mailto:reports@example.com"),
            "{output}"
        );
        let next = format!("\nNext: chopar -C {} run\n", folder.display());
        assert!(output.ends_with(&next), "{output}");
        let shown = password(&output).to_owned();
        assert_eq!(output.matches(&shown).count(), 1, "{output}");
        let mut verify = Command::new(CHOPAR);
        verify
            .arg("-C")
            .arg(&folder)
            .args(["user", "verify", "app@example.com"]);
        ok(end(&mut verify, &shown));
        let (code, said, errors) = chopar(&folder, &["check"]);
        assert_eq!((code, errors.as_str()), (0, ""), "{said}");
        assert!(
            said.contains("serves example.com; users 1, aliases 2, DKIM keys 2"),
            "{said}"
        );

        let before = tree(&folder);
        let again = ok(chopar_under(umask, &folder, &INIT));
        assert!(!again.contains("done "), "{again}");
        assert!(!again.contains("The password of"), "{again}");
        assert_eq!(tree(&folder), before);
        for (path, (mode, ..)) in &before {
            assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
        }
        let paths = before.iter();
        let named = paths.map(|(path, (mode, ..))| {
            (
                path.strip_prefix(&folder).expect("inside").to_owned(),
                *mode,
            )
        });
        modes.push(named.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(modes[0], modes[1]);
    assert_eq!(modes[0], modes[2]);
    assert_eq!(
        modes[0][Path::new("domains/example.com/users")] & 0o777,
        0o640
    );
    assert_eq!(modes[0][Path::new("")] & 0o7777, 0o2755);
}

#[test]
fn a_dry_run_shows_the_steps_and_makes_nothing() {
    let place = place();
    let folder = place.path().join("etc");
    let output = ok(chopar(
        &folder,
        &[&INIT[..], &["--dry-run", "--git"]].concat(),
    ));
    for step in [
        "make the folder",
        "chopar.toml",
        "an RSA key",
        "the user app@example.com",
        "git repository",
    ] {
        let line = output.lines().find(|line| line.contains(step));
        let line = line.unwrap_or_else(|| panic!("{step} is not in {output}"));
        assert!(line.starts_with("would  "), "{line}");
    }
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0);
}

#[test]
fn who_reads_the_mail_is_asked_for_and_can_be_said_later() {
    let place = place();
    let folder = place.path().join("etc");
    let output = ok(chopar(&folder, &["init", "example.com"]));
    assert!(
        output.contains("to do  the address for mail to postmaster"),
        "{output}"
    );
    assert_eq!(chopar(&folder, &["check"]).0, 78);
    let output = ok(chopar(&folder, &INIT));
    assert!(
        output.contains("done   set admin to you@gmail.example"),
        "{output}"
    );
    assert_eq!(chopar(&folder, &["check"]).0, 0);
    for (words, code) in [
        (
            &["init", "example.com", "--forward-to", "me@example.com"][..],
            64,
        ),
        (&["init", "foo"], 64),
        (&["init", "example.com", "--admin", "nobody"], 64),
        (&["init", "example.com", "--user", "a:b"], 64),
    ] {
        let (found, output, errors) = chopar(&folder, words);
        assert_eq!(found, code, "{words:?}: {output}{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    fs::write(folder.join("chopar.toml"), "nonsense\n").expect("a file");
    let (code, _, errors) = chopar(&folder, &INIT);
    assert_eq!(code, 78);
    assert!(errors.contains("chopar.toml:1:"), "{errors}");
}

/// A relay of such a folder, on ports that are free.
struct Running(Child);

impl Running {
    fn start(folder: &Path) -> Self {
        let path = folder.join("chopar.toml");
        let mut text = fs::read_to_string(&path).expect("a file");
        for port in ["2525", "2587", "2465"] {
            let line = text.lines().find(|line| line.contains("= [\"0.0.0.0:"));
            let key = line.expect("a port").split(' ').next().expect("a key");
            let free = free_port();
            let line = format!("{key} = [\"127.0.0.1:{free}\"] # {port}");
            let old = text
                .lines()
                .find(|line| line.starts_with(key))
                .expect("a line");
            text = text.replace(old, &line);
        }
        fs::write(&path, text).expect("a file");
        let log = fs::File::create(folder.with_extension("log")).expect("a file");
        let child = Command::new(CHOPAR)
            .arg("-C")
            .arg(folder)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let running = Self(child.expect("chopar runs"));
        let socket = folder.join(".run/control.sock");
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = fs::read_to_string(folder.with_extension("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{log}");
            thread::sleep(Duration::from_millis(10));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// What the relay says to a recipient.
fn reply_to_recipient(folder: &Path, recipient: &str) -> String {
    let text = fs::read_to_string(folder.join("chopar.toml")).expect("a file");
    let line = text.lines().find(|line| line.starts_with("smtp = "));
    let (_, rest) = line
        .expect("a port")
        .split_once("127.0.0.1:")
        .expect("an address");
    let port: u16 = rest
        .split('"')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
    let mut reply = || loop {
        let line = lines.next().expect("a line").expect("text");
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    };
    let mut last = reply();
    for command in [
        "EHLO client.example",
        "MAIL FROM:<>",
        &format!("RCPT TO:<{recipient}>"),
    ] {
        (&stream)
            .write_all(format!("{command}\r\n").as_bytes())
            .expect("written");
        last = reply();
    }
    last
}

#[test]
fn what_was_set_up_runs_and_serves_a_domain_that_is_added_then() {
    let place = place();
    let folder = place.path().join("etc");
    ok(chopar(&folder, &INIT));
    let _running = Running::start(&folder);
    assert!(reply_to_recipient(&folder, "anybody@example.com").starts_with("250"));
    assert!(reply_to_recipient(&folder, "x@second.example").starts_with("550"));
    let add = [
        "domain",
        "add",
        "second.example",
        "--forward-to",
        "you@gmail.example",
    ];
    let output = ok(chopar(&folder, &add));
    assert!(output.contains("._domainkey.second.example"), "{output}");
    assert!(reply_to_recipient(&folder, "x@second.example").starts_with("250"));
    let third = ["init", "third.example", "--forward-to", "you@gmail.example"];
    let output = ok(chopar(&folder, &third));
    assert!(
        output.contains("done   have the running daemon read"),
        "{output}"
    );
    assert!(reply_to_recipient(&folder, "x@third.example").starts_with("250"));
    let listed = ok(chopar(&folder, &["domain", "list"]));
    assert_eq!(listed, "example.com\nsecond.example\nthird.example\n");
    let again = ok(chopar(&folder, &INIT));
    assert!(again.contains("kept   the daemon, which runs"), "{again}");
}

#[test]
fn a_repository_has_no_secret_or_all_and_a_clone_is_told_which_modes_it_lost() {
    let place = place();
    let git = |folder: &Path, words: &[&str]| {
        let mut command = Command::new("git");
        ok(end(command.arg("-C").arg(folder).args(words), ""))
    };
    let public = place.path().join("public");
    ok(chopar(&public, &[&INIT[..], &["--git"]].concat()));
    let files = git(&public, &["ls-files"]);
    assert_eq!(
        files,
        ".gitignore\nchopar.toml\ndomains/example.com/aliases\n"
    );
    assert_eq!(git(&public, &["status", "--short"]), "");
    let mode = fs::metadata(public.join(".git")).expect("a folder").mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");

    // A .gitignore of one's own is added to, and a run that was to commit everything and ended halfway is not gone on
    // with.
    let half = place.path().join("half");
    fs::create_dir(&half).expect("a folder");
    fs::write(half.join(".gitignore"), "*.swp").expect("a file");
    ok(chopar(&half, &INIT));
    git(&half, &["init", "-q"]);
    git(&half, &["add", "-A"]);
    let (code, said, errors) = chopar(&half, &[&INIT[..], &["--git"]].concat());
    assert_eq!(code, 73, "{said}{errors}");
    let (_, command) = errors.split_once("then run `").expect("a command");
    let (command, _) = command.split_once('`').expect("a command");
    ok(end(Command::new("sh").args(["-c", command]), ""));
    ok(chopar(&half, &[&INIT[..], &["--git"]].concat()));
    assert_eq!(git(&half, &["ls-files"]), files);
    let ignored = fs::read_to_string(half.join(".gitignore")).expect("a file");
    assert!(ignored.starts_with("*.swp\n/.state/\n"), "{ignored}");
    git(&half, &["log", "-1"]);

    let private = place.path().join("private");
    ok(chopar(&private, &[&INIT[..], &["--git=private"]].concat()));
    let files = git(&private, &["ls-files"]);
    assert!(
        files.contains("/users\n") && files.contains("/dkim/202"),
        "{files}"
    );
    // Commands that change the folder leave one that git understands, and nothing beside what they changed.
    ok(chopar(
        &private,
        &["alias", "add", "info@example.com", "you@gmail.example"],
    ));
    ok(chopar(&private, &["domain", "add", "second.example"]));
    let changed = git(&private, &["status", "--short"]);
    assert_eq!(
        changed,
        " M domains/example.com/aliases\n?? domains/second.example/\n"
    );
    git(&private, &["add", "-A"]);
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    git(
        &private,
        &[&identity[..], &["commit", "-q", "-m", "a domain"]].concat(),
    );

    let clone = place.path().join("clone");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 022; exec git clone -q \"$0\" \"$1\""]);
    ok(end(command.arg(&private).arg(&clone), ""));
    let toml = fs::read_to_string(clone.join("chopar.toml")).expect("a file");
    let toml = toml.replace("/private/", "/clone/");
    fs::write(clone.join("chopar.toml"), toml).expect("a file");
    let (code, said, errors) = chopar(&clone, &["check"]);
    assert_eq!(code, 0, "{said}{errors}");
    for file in [
        "domains/example.com/users",
        "domains/example.com/dkim/",
        "domains/second.example/dkim/",
    ] {
        let warned = |line: &str| {
            line.starts_with("warning: ") && line.contains(file) && line.contains("chmod")
        };
        assert!(errors.lines().any(warned), "{file}: {errors}");
    }
}

/// The words of a command, run as nobody where this is root.
fn as_nobody(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(program);
    command
}

#[test]
fn without_root_it_works_in_a_folder_of_ones_own_and_says_where_it_may_not_write() {
    let place = place();
    let program = place.path().join("chopar");
    fs::copy(CHOPAR, &program).expect("a copy");
    let home = place.path().join("home");
    fs::create_dir(&home).expect("a folder");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).expect("an owner");
    }
    let folder = home.join("etc");
    let init = |folder: &Path| {
        let mut command = as_nobody(&program);
        end(command.arg("-C").arg(folder).args(INIT), "")
    };
    ok(init(&folder));
    let mut check = as_nobody(&program);
    let (code, said, errors) = end(check.arg("-C").arg(&folder).arg("check"), "");
    assert_eq!((code, errors.as_str()), (0, ""), "{said}");

    fs::set_permissions(&home, Permissions::from_mode(0o555)).expect("a mode");
    let (code, output, errors) = init(&home.join("other"));
    assert_eq!(code, 73, "{output}{errors}");
    assert!(
        errors.contains("/home/other: Permission denied"),
        "{errors}"
    );
    assert!(errors.contains("run the same command again"), "{errors}");
    fs::set_permissions(&home, Permissions::from_mode(0o755)).expect("a mode");

    // The machine itself is root's.
    let mut command = as_nobody(&program);
    let (code, _, errors) = end(command.args(["-C", "/etc/chopar"]).args(INIT), "");
    assert_eq!(code, 77, "{errors}");
    assert!(errors.contains("sudo"), "{errors}");
}

/// A script on a machine that has the binary and nothing else of chopar.
fn on_a_machine(script: &str) -> Ended {
    script::on_a_machine(script, &[(Path::new(CHOPAR), "chopar")])
}

/// A machine without a mail server or an account, on which systemd seems to run: its systemctl writes down what it was
/// asked.
const BARE: &str = "
    set -e
    umask 077
    rm -rf /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases /etc/chopar /usr/bin/chopar
    sed -i '/^chopar:/d' /etc/passwd /etc/group
    mkdir -p /run/systemd/system /usr/local/sbin
    printf '#!/bin/sh\\necho \"$@\" >> /root/systemctl.log\\n' > /usr/local/sbin/systemctl
    chmod 755 /usr/local/sbin/systemctl /run /run/systemd /run/systemd/system
    ";

#[test]
fn root_gets_a_machine_that_relays_and_the_second_time_nothing_changes() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{BARE}
        /root/chopar init example.com --forward-to you@gmail.example > /root/first
        cat /root/first
        modes() {{
            stat -c '%a %U:%G %n' /etc/chopar /etc/chopar/chopar.toml /etc/chopar/domains/example.com \
                /etc/chopar/domains/example.com/users /etc/chopar/domains/example.com/dkim/*e.pem \
                /etc/systemd/system/chopar.service /usr/local/bin/chopar
        }}
        echo == modes
        modes
        echo == links
        readlink -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases
        echo == account
        id chopar
        echo == systemctl
        cat /root/systemctl.log
        echo == check
        chopar check 2>&1
        echo == run
        chopar run 2>/root/log & pid=$!
        n=0; until chopar queue stats >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || {{ cat /root/log; exit 1; }}; sleep 0.1; done
        stat -c '%U' /proc/$pid
        chopar queue hold --all >/dev/null 2>&1 || true
        printf 'To: x@example.net\\nSubject: hello\\n\\nhi\\n' | sendmail -t -f app@example.com
        mailq
        chown -R chopar /etc/chopar
        chmod 600 /etc/chopar/domains/example.com/users
        /usr/local/bin/chopar init example.com | grep -c '^done   give /etc/chopar to root'
        echo == taken back
        modes
        echo == again
        find /etc /usr/local /usr/sbin /usr/bin /usr/lib/sendmail -printf '%p %m %U %G %s %C@\\n' | sort > /root/before
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example
        find /etc /usr/local /usr/sbin /usr/bin /usr/lib/sendmail -printf '%p %m %U %G %s %C@\\n' | sort > /root/after
        cmp /root/before /root/after && echo nothing has changed
        kill $pid
        "
    );
    let output = ok(on_a_machine(&script));
    let part = |name: &str| {
        let (_, rest) = output.split_once(&format!("== {name}\n")).expect("a part");
        rest.split("== ").next().unwrap_or_default().to_owned()
    };
    assert!(output.contains("done   start the service"), "{output}");
    let expected = "2755 root:chopar /etc/chopar\n644 root:chopar /etc/chopar/chopar.toml\n";
    assert!(part("modes").starts_with(expected), "{}", part("modes"));
    for expected in [
        "755 root:chopar /etc/chopar/domains/example.com\n",
        "640 root:chopar /etc/chopar/domains/example.com/users\n",
        "640 root:chopar /etc/chopar/domains/example.com/dkim/20",
        "644 root:root /etc/systemd/system/chopar.service\n",
        "755 root:root /usr/local/bin/chopar\n",
    ] {
        assert!(
            part("modes").contains(expected),
            "{expected}: {}",
            part("modes")
        );
    }
    assert_eq!(part("taken back"), part("modes"));
    assert_eq!(part("links"), "/usr/local/bin/chopar\n".repeat(4));
    assert!(part("account").contains("(chopar)"), "{output}");
    assert_eq!(part("systemctl"), "enable --now chopar\n");
    assert!(
        part("check").starts_with("ok: mail.example.com serves example.com"),
        "{output}"
    );
    let run = part("run");
    assert!(run.starts_with("chopar\n"), "{output}");
    assert!(
        run.contains("app@example.com") && run.contains("x@example.net"),
        "{run}"
    );
    let again = part("again");
    assert!(again.contains("nothing has changed"), "{again}");
    assert!(!again.contains("done "), "{again}");
}

#[test]
fn a_machine_with_another_mail_server_moves_over_by_the_commands_that_are_shown() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    // Whatever the machine has of its own, this one belongs to no package, and postfix's does.
    let restore = BARE.replace(
        "rm -rf /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases",
        "rm -rf",
    );
    let script = format!(
        "{restore}
        dpkg-query -S /usr/sbin/sendmail > /root/owner
        mkdir -p /usr/share/man/man1
        echo of another > /usr/share/man/man1/sendmail.1.gz
        echo of chopar > /usr/share/man/man1/sendmail.1
        /root/chopar init example.com --forward-to you@gmail.example > /root/first
        cat /root/first
        echo == kept
        dpkg-query -S \"$(readlink -f /usr/sbin/sendmail)\"
        echo == moved
        sed -n 's/^to do .* as root: //p' /root/first > /root/commands
        PATH=/root:$PATH sh -e /root/commands
        readlink -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases
        cat /root/systemctl.log
        echo == pages
        cat /usr/share/man/man1/sendmail*
        ls /usr/share/man/man1/ | grep sendmail
        \"$(command -v chopar)\" init example.com | grep 'man sendmail' || echo nothing more about pages
        "
    );
    let (code, output, errors) = on_a_machine(&script);
    assert_eq!(code, 0, "{output}{errors}");
    let (_, pages) = output.split_once("== pages\n").expect("a part");
    assert!(
        pages.contains("sendmail.1\nsendmail.other.1.gz\n"),
        "{pages}"
    );
    assert!(pages.contains("nothing more about pages"), "{pages}");
    let (first, rest) = output.split_once("== kept\n").expect("a part");
    assert!(
        first.contains("to do  /usr/sbin/sendmail, ")
            && first.contains("belong to the package postfix"),
        "{first}"
    );
    assert!(rest.starts_with("postfix: "), "{rest}");
    assert!(
        rest.contains(&"/usr/local/bin/chopar\n".repeat(4)),
        "{rest}"
    );
    assert!(rest.contains("disable --now postfix\n"), "{rest}");
}

/// A package that lies unpacked beside the tests; `make packages` has put it there.
fn unpacked(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("far-ends");
    let folder = beside.join(name);
    assert!(folder.is_dir(), "{}: run make packages", folder.display());
    folder
}

/// The files of packages, put into the machine. /sbin, /bin and /lib may be links there.
fn with_packages(names: &[&str]) -> String {
    let copy = |name: &&str| {
        let folder = unpacked(name).display().to_string();
        format!(
            "for part in bin sbin lib etc usr; do \
             [ ! -d {folder}/$part ] || cp -a {folder}/$part/. /$part/; done\n"
        )
    };
    names.iter().map(copy).collect()
}

/// A bare machine on which another than systemd starts the services.
fn without_systemd() -> String {
    let bare = BARE.replace(
        "mkdir -p /run/systemd/system /usr/local/sbin",
        "mkdir -p /usr/local/sbin",
    );
    let bare = bare.replace(
        "chmod 755 /usr/local/sbin/systemctl /run /run/systemd /run/systemd/system",
        "chmod 755 /run",
    );
    format!("{bare}\nrm -rf /run/systemd /var/lib/chopar /run/chopar\n")
}

/// Waits until the daemon answers, for 30 seconds.
const ANSWERS: &str = "n=0; until chopar queue stats >/dev/null 2>&1; do n=$((n+1)); \
                       [ $n -lt 300 ] || { cat /root/log >&2; exit 1; }; sleep 0.1; done\n";
/// The process of the daemon on this machine, which has a network of its own.
const PID: &str = "for p in /proc/[0-9]*; do \
                   if [ \"$({ tr '\\0' ' ' < $p/cmdline; } 2>/dev/null)\" = '/usr/local/bin/chopar run ' ] \
                   && [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; then echo ${p#/proc/}; break; fi; done";

#[test]
fn runit_starts_what_init_has_set_up_and_starts_it_again_when_it_was_killed() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{}{}
        mkdir -p /etc/runit/runsvdir/current
        /root/chopar init example.com --forward-to you@gmail.example --no-certificate
        runsvdir -P /etc/service > /root/log 2>&1 & dir=$!
        trap 'sv force-stop /etc/service/chopar >/dev/null 2>&1; kill -HUP $dir' EXIT
        {ANSWERS}
        first=$({PID})
        stat -c 'runs as %U' /proc/$first
        kill -9 $first
        n=0; until [ \"$({PID})\" != \"$first\" ] && [ -n \"$({PID})\" ]; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done
        {ANSWERS}
        echo it runs again
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example --no-certificate
        sv stop /etc/service/chopar
        [ -z \"$({PID})\" ] && echo it has stopped
        ",
        without_systemd(),
        with_packages(&["runit"])
    );
    let output = ok(on_a_machine(&script));
    for expected in [
        "done   write /etc/sv/chopar/run",
        "ln -s /etc/sv/chopar /etc/service/chopar",
        "runs as chopar\n",
        "it runs again\n",
        "kept   /etc/sv/chopar/run",
        "kept   the daemon, which runs",
        "it has stopped\n",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[test]
fn openrc_starts_reloads_and_stops_what_init_has_set_up() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{}{}
        # As a start of the machine leaves it.
        for name in starting started stopping inactive failed daemons options exclusive scheduled tmp; do
            mkdir -p /run/openrc/$name
        done
        mkdir -p /etc/runlevels/default
        echo default > /run/openrc/softlevel; : > /etc/insserv.conf; ldconfig
        /root/chopar init example.com --forward-to you@gmail.example --no-certificate 2>&1
        trap 'rc-service chopar stop >/dev/null 2>&1' EXIT
        {ANSWERS}
        first=$({PID})
        stat -c 'runs as %U' /proc/$first
        sh -n /etc/init.d/chopar
        readlink /etc/runlevels/default/chopar
        rc-service chopar status 2>&1
        rc-service chopar reload 2>&1 && echo it was reloaded
        kill -9 $first
        n=0; until [ \"$({PID})\" != \"$first\" ] && [ -n \"$({PID})\" ]; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done
        {ANSWERS}
        echo it runs again
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example --no-certificate
        rc-service chopar stop 2>&1
        [ -z \"$({PID})\" ] && echo it has stopped
        ",
        without_systemd(),
        with_packages(&["libeinfo1", "librc1", "openrc"])
    );
    let output = ok(on_a_machine(&script));
    for expected in [
        "done   write /etc/init.d/chopar",
        "rc-update add chopar default && rc-service chopar start",
        "runs as chopar\n",
        "/etc/init.d/chopar\n",
        "started",
        "it was reloaded\n",
        "it runs again\n",
        "kept   /etc/init.d/chopar",
        "kept   the daemon, which runs",
        "it has stopped\n",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[test]
fn a_system_that_is_read_only_is_left_with_a_sentence() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{BARE}
        mount --bind /etc /etc; mount -o remount,bind,ro /etc
        set +e
        /root/chopar init example.com --forward-to you@gmail.example
        echo code=$?
        "
    );
    let (_, output, errors) = on_a_machine(&script);
    assert!(output.ends_with("code=73\n"), "{output}{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
    assert!(errors.contains("run the same command again"), "{errors}");
}
