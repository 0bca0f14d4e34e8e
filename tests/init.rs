//! `chopar init` on a new machine: for a user's folder, and as root for a whole system, which is a temporary overlay
//! over this one.

#[path = "init/host.rs"]
mod host;
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

/// Runs `chopar` with `umask` as the caller's.
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

/// The password in the output.
fn password(output: &str) -> &str {
    let (_, rest) = output.split_once("The password of ").expect("a password");
    rest.lines().nth(1).expect("a line").trim()
}

#[test]
fn a_folder_is_ready_after_one_command_with_any_umask_and_the_next_changes_nothing() {
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
fn a_dry_run_shows_the_steps_and_changes_nothing() {
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
fn init_asks_for_the_address_that_gets_the_mail_and_it_can_be_given_later() {
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

/// A relay for such a folder, on free ports.
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

/// The relay's reply to a recipient.
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
fn the_new_folder_runs_and_serves_a_domain_that_is_added_later() {
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
fn a_repository_has_no_secrets_or_all_and_a_clone_reports_lost_modes() {
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

    // `init` adds to an existing .gitignore, and does not continue an interrupted run that was to commit everything.
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
    // Commands that change the folder keep its repository valid, and commit only their own changes.
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

/// A command that runs as nobody if the tests run as root.
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
fn without_root_it_works_in_an_own_folder_and_reports_where_it_may_not_write() {
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

    // Only root may set up the machine itself.
    let mut command = as_nobody(&program);
    let (code, _, errors) = end(command.args(["-C", "/etc/chopar"]).args(INIT), "");
    assert_eq!(code, 77, "{errors}");
    assert!(errors.contains("sudo"), "{errors}");
}
