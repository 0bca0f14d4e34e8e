//! The commands as a person or a script calls them: each with a configuration folder of its own, and with standard
//! input from a pipe.

#[path = "commands/check.rs"]
mod check;
#[path = "commands/passwords.rs"]
mod passwords;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Time limit for one command on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `chopar -C FOLDER WORDS` with this standard input; returns its exit code and its output.
fn chopar(folder: &Path, words: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .arg("-C")
        .arg(folder)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chopar runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may have exited without reading.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let started = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("chopar {words:?} does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A folder with the local domain `example.com`, whose sockets nothing listens on.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let toml = format!(
        "hostname = \"mail.example.com\"\nruntime_dir = \"{0}/run\"\nstate_dir = \"{0}/state\"\nuser = \"root\"\n\
         admin = \"you@example.org\"\n[listen]\nsmtp = []\nsubmission = []\nsubmissions = []\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join("chopar.toml"), toml).expect("a file");
    let (code, _, error) = chopar(
        folder.path(),
        &["domain", "add", "--bare", "example.com"],
        "",
    );
    assert_eq!(code, 0, "{error}");
    folder
}

#[test]
fn alias_resolve_shows_what_the_daemon_does_with_names_of_the_host() {
    let folder = folder();
    let path = folder.path();
    let settings = "hostname = \"mail.example.com\"\nadmin = \"me@home.example\"\n";
    std::fs::write(path.join("chopar.toml"), settings).expect("a file");
    let aliases = path.join("domains/example.com/aliases");
    std::fs::write(&aliases, "ann: ann@example.net\n").expect("a file");
    let resolve = |address: &str| {
        let (code, output, error) = chopar(path, &["alias", "resolve", address], "");
        (code, format!("{output}{error}"))
    };
    let to_admin = "goes to admin\n  me@home.example: is sent to home.example\n";
    for address in ["postmaster@mail.example.com", "postmaster"] {
        let (code, text) = resolve(address);
        assert_eq!(code, 0, "{text}");
        assert!(text.ends_with(to_admin), "{text}");
        assert!(!text.contains("programs"), "{text}");
    }
    // Only local programs may use these names for this host.
    for address in ["root@localhost", "root", "root@[127.0.0.1]"] {
        let (code, text) = resolve(address);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("Mail from other hosts:\n"), "{text}");
        assert!(text.ends_with(to_admin), "{text}");
    }
    let (code, text) = resolve("root@mail.example.com");
    assert_eq!((code, text.ends_with(to_admin)), (0, true), "{text}");
    // Other hosts cannot send to an account without an alias.
    let (code, text) = resolve("nobody@example.com");
    assert_eq!(code, 67, "{text}");
    let (others, programs) = text
        .split_once("programs of this machine:\n")
        .expect("both");
    assert!(
        others.contains("refused: there is no such address"),
        "{text}"
    );
    assert!(programs.contains("goes to admin"), "{text}");
    let (code, text) = resolve("ann@mail.example.com");
    assert_eq!(code, 67, "{text}");
    assert!(text.contains("stands for ann@example.com"), "{text}");
}

#[test]
fn a_change_of_the_configuration_is_reported_in_one_line_with_the_time_when_it_takes_effect() {
    let folder = folder();
    let path = folder.path();
    let later = "; no daemon runs; it will read this at its next start\n";
    for (words, said) in [
        (
            &["user", "add", "app@example.com"][..],
            "app@example.com can log in now",
        ),
        (
            &["user", "passwd", "app@example.com"],
            "app@example.com has a new password",
        ),
        (
            &["user", "remove", "app@example.com"],
            "app@example.com can no longer log in",
        ),
        (
            &[
                "alias",
                "add",
                "a@example.com",
                "b@example.org",
                "c@example.org",
            ],
            "a@example.com now leads to b@example.org and c@example.org",
        ),
        (
            &["alias", "remove", "a@example.com", "b@example.org"],
            "a@example.com no longer leads to b@example.org",
        ),
        (
            &["alias", "remove", "a@example.com"],
            "a@example.com is no longer an alias",
        ),
        (
            &["domain", "add", "--bare", "example.org"],
            "example.org is served",
        ),
        (
            &["domain", "remove", "example.org"],
            "example.org is no longer served, and its data is deleted",
        ),
    ] {
        let (code, output, error) = chopar(path, words, "four words it takes\n");
        assert_eq!((code, error.as_str()), (0, ""), "{words:?}");
        assert_eq!(output, format!("{said}{later}"), "{words:?}");
    }
    // The standard output of these is for a zone file.
    let keygen = ["dkim", "keygen", "--selector", "s1", "example.com"];
    let (code, record, said) = chopar(path, &keygen, "");
    assert_eq!(code, 0, "{said}");
    assert!(record.starts_with("s1._domainkey.example.com."), "{record}");
    assert!(
        said.contains("dkim/s1.pem; publish") && said.contains("chopar reload"),
        "{said}"
    );
}

#[test]
fn aliases_are_changed_in_place_and_explained() {
    let folder = folder();
    let path = folder.path();
    let file = path.join("domains/example.com/aliases");
    std::fs::write(&file, "# people\nann: ann@example.net # since May\n").expect("a file");
    let ok = |words: &[&str]| {
        let (code, output, error) = chopar(path, words, "");
        assert_eq!(code, 0, "{words:?}: {error}");
        output
    };
    ok(&["alias", "add", "all@example.com", "ann", "bob@example.org"]);
    ok(&["alias", "add", "*@example.com", "all"]);
    ok(&["alias", "add", "ann@example.com", "bob@example.org"]);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(
        text,
        "# people\nann: ann@example.net, bob@example.org # since May\nall: ann, bob@example.org\n*: all\n"
    );
    assert_eq!(
        ok(&["alias", "resolve", "somebody@example.com"]),
        "somebody@example.com: catch-all, line 4 of domains/example.com/aliases\n  \
         all@example.com: alias, line 3 of domains/example.com/aliases\n    \
         ann@example.com: alias, line 2 of domains/example.com/aliases\n      \
         ann@example.net: is sent to example.net\n      \
         bob@example.org: is sent to example.org\n    \
         bob@example.org: is there already\n"
    );
    ok(&["alias", "remove", "all@example.com", "bob@example.org"]);
    ok(&["alias", "remove", "*@example.com"]);
    assert_eq!(
        ok(&["alias", "list"]),
        "ann@example.com: ann@example.net, bob@example.org\nall@example.com: ann\n"
    );
    let listed = ok(&["alias", "list", "--json", "example.com"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[1]["targets"][0], "ann");
    // A file that could not be read is not written.
    let before = std::fs::read_to_string(&file).expect("the file");
    for (words, code) in [
        (
            vec!["alias", "add", "eve@example.com", "not an address"],
            65,
        ),
        (vec!["alias", "add", "eve@example.com"], 64),
        (
            vec!["alias", "add", "eve@example.org", "ann@example.com"],
            67,
        ),
        (
            vec!["alias", "add", "all@example.com", "ann@example.com"],
            73,
        ),
        (vec!["alias", "remove", "eve@example.com"], 67),
        (vec!["alias", "resolve", "eve@example.com"], 67),
        (vec!["alias", "resolve", "eve@example.org"], 67),
    ] {
        assert_eq!(chopar(path, &words, "").0, code, "{words:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), before);
    // A command refuses to create an alias loop.
    ok(&["alias", "add", "a@example.com", "b"]);
    let (code, _, error) = chopar(path, &["alias", "add", "b@example.com", "a"], "");
    assert_eq!(code, 65);
    assert_eq!(error.matches("leads back to itself").count(), 1, "{error}");
    // The error names no file, since none was written.
    assert!(!error.contains("aliases:"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let (code, _, error) = chopar(path, &["alias", "resolve", "a@example.com"], "");
    assert_eq!(code, 67);
    assert!(
        error.contains("mail for a@example.com is refused"),
        "{error}"
    );
}

#[test]
fn a_message_is_signed_through_a_pipe() {
    let folder = folder();
    let path = folder.path();
    let keygen = [
        "dkim",
        "keygen",
        "example.com",
        "--selector",
        "s1",
        "--algorithm",
        "ed25519",
    ];
    let (code, record, error) = chopar(path, &keygen, "");
    assert_eq!(code, 0, "{error}");
    assert!(record.contains("s1._domainkey.example.com"), "{record}");
    let message = "From: app@example.com\nSubject: x\n\nhello\n";
    let (code, signed, error) = chopar(path, &["dkim", "sign"], message);
    assert_eq!(code, 0, "{error}");
    assert!(signed.starts_with("DKIM-Signature:"), "{signed}");
    // No name server answers there: the key cannot be fetched, and no signature passes.
    let verify = ["dkim", "verify", "--dns", "127.0.0.1:1"];
    let (code, verdict, _) = chopar(path, &verify, &signed);
    assert_eq!(code, 75, "{verdict}");
    assert!(verdict.contains("temperror"), "{verdict}");
}

#[test]
fn sendmail_reports_a_missing_daemon_and_spool() {
    let folder = folder();
    let words = ["sendmail", "-i", "someone@example.net"];
    let (code, _, error) = chopar(folder.path(), &words, "Subject: x\n\nhello\n");
    assert_eq!(code, 75, "{error}");
    assert!(!error.is_empty());
}

#[test]
fn errors_are_one_sentence_and_an_exit_code() {
    let folder = folder();
    let path = folder.path();
    for (words, expected) in [
        (["queue", "list"].as_slice(), 69),
        (&["reload"], 69),
        (&["domain", "remove", "nowhere.example"], 66),
        (&["user", "add", "a@nowhere.example"], 67),
        (&["no-such-command"], 64),
        (&["queue", "hold"], 64),
    ] {
        let (code, _, error) = chopar(path, words, "password\n");
        assert_eq!(code, expected, "{words:?}: {error}");
        assert!(!error.trim().is_empty(), "{words:?}");
    }
    std::fs::write(path.join("chopar.toml"), "hostname = 1\n").expect("a file");
    let (code, out, error) = chopar(path, &["check"], "");
    assert_eq!(code, 78);
    let said = out + &error;
    assert!(said.contains("chopar.toml:1:12"), "{said}");
}

/// With any umask, and with any group of the folder, the daemon's account can read all files that commands write.
#[test]
fn files_that_commands_write_are_readable_for_the_daemon_with_any_umask() {
    if !rustix::process::geteuid().is_root() {
        return; // only root writes files for another account
    }
    for mask in ["022", "027", "077", "000"] {
        let place = tempfile::tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.path(), open.clone()).expect("a mode");
        let etc = place.path().join("etc");
        std::fs::create_dir(&etc).expect("a folder");
        std::fs::set_permissions(&etc, open).expect("a mode");
        let toml = format!(
            "hostname = \"mail.example.com\"\nuser = \"nobody\"\nadmin = \"a@example.org\"\nruntime_dir = \"{0}/run\"\n\
             state_dir = \"{0}/state\"\n[listen]\nsmtp = []\nsubmission = []\nsubmissions = []\n",
            place.path().display()
        );
        std::fs::write(etc.join("chopar.toml"), toml).expect("a file");
        let say = |words: &str, input: &str| {
            let mut child = Command::new("/bin/sh")
                .args([
                    "-c",
                    &format!("umask {mask}; exec \"$0\" -C \"$1\" {words}"),
                ])
                .args([env!("CARGO_BIN_EXE_chopar"), etc.to_str().expect("a path")])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a shell");
            let mut pipe = child.stdin.take().expect("a pipe");
            pipe.write_all(input.as_bytes()).expect("written");
            drop(pipe);
            let output = child.wait_with_output().expect("its end");
            let text = String::from_utf8(output.stderr).expect("text");
            assert_eq!(output.status.code(), Some(0), "{mask} {words}: {text}");
            text
        };
        say("domain add example.com", "");
        say("user add app@example.com", "one long secret\n");
        say("user passwd app@example.com", "another secret\n");
        say("alias add ann@example.com ann@example.org", "");
        say("alias add ann@example.com bob@example.org", "");
        say(
            "dkim keygen example.com --selector s1 --algorithm ed25519",
            "",
        );
        assert_eq!(say("check", ""), "");
        let users = std::fs::metadata(etc.join("domains/example.com/users")).expect("a file");
        assert_eq!(users.permissions().mode() & 0o7777, 0o640);
    }
}

/// The signal that ends a command whose standard output is closed, and its error output.
fn into_a_closed_pipe(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .arg("-C")
        .arg(folder)
        .args(words)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("chopar runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.signal(), said)
}

#[test]
fn a_closed_output_is_not_reported_as_an_error() {
    let folder = folder();
    let path = folder.path();
    let sigpipe = rustix::process::Signal::PIPE.as_raw();
    for words in [
        &["help"][..],
        &["--version"],
        &["queue", "--help"],
        &["domain", "list"],
        &["domain", "list", "--json"],
        &["sendmail", "--help"],
    ] {
        let ended = into_a_closed_pipe(path, words);
        assert_eq!(ended, (Some(sigpipe), String::new()), "{words:?}");
    }
    // Neither is a closed standard error.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .arg("nosuch")
        .stderr(writer)
        .status()
        .expect("chopar runs");
    assert_eq!(status.code(), Some(64));
}

#[test]
fn an_unknown_word_is_answered_with_similar_ones() {
    let folder = folder();
    for (words, meant) in [
        (&["quue"][..], "`queue`"),
        (&["queue", "lsit"], "`list`"),
        (&["queue", "list", "--jsn"], "`--json`"),
        (&["user", "pass"], "`passwd`"),
        (&["dkim", "verfy", "x"], "`verify`"),
    ] {
        let (code, out, said) = chopar(folder.path(), words, "");
        assert_eq!((code, out.as_str()), (64, ""), "{words:?}");
        assert!(
            said.contains(&format!("did you mean {meant}?")),
            "{words:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("for example: ") && said.contains(" --help` says more"),
            "{said}"
        );
    }
}

#[test]
fn an_invalid_command_line_is_answered_with_a_valid_one() {
    let folder = folder();
    for (words, said) in [
        (
            &[][..],
            "chopar: say what to do; for example: sudo chopar init",
        ),
        (&["queue"], "chopar: `chopar queue` needs one of "),
        (
            &["user", "add"],
            "chopar: `chopar user add` needs ADDRESS; for example: sudo chopar user add",
        ),
        (
            &["queue", "hold"],
            "chopar: name the messages by their ids, or say --all; for example: sudo chopar queue hold",
        ),
        (&["doctor", "--dns", "x"], "chopar: `--dns x`: "),
    ] {
        let (code, out, error) = chopar(folder.path(), words, "");
        assert_eq!((code, out.as_str()), (64, ""), "{words:?}");
        assert!(error.starts_with(said), "{words:?}: {error}");
        assert!(error.trim_end().ends_with("--help` says more"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_byte_order_mark_does_not_hide_the_first_name() {
    let folder = folder();
    let at = |name: &str| folder.path().join("domains/example.com").join(name);
    let (code, _, error) = chopar(
        folder.path(),
        &["user", "add", "ann@example.com"],
        "red pencil\n",
    );
    assert_eq!(code, 0, "{error}");
    let users = std::fs::read_to_string(at("users")).expect("a file");
    std::fs::write(at("users"), format!("\u{feff}{users}")).expect("a file");
    std::fs::write(at("aliases"), "\u{feff}bob: ann@example.org\n").expect("a file");
    let says = |words: &[&str], input: &str| {
        let (code, output, error) = chopar(folder.path(), words, input);
        assert_eq!(code, 0, "{words:?} {error}");
        output
    };
    assert!(says(&["alias", "resolve", "bob@example.com"], "").contains("ann@example.org"));
    assert_eq!(says(&["user", "list"], ""), "ann@example.com\n");
    says(&["user", "verify", "ann@example.com"], "red pencil\n");
    says(&["alias", "add", "bob@example.com", "eve@example.org"], "");
    let aliases = std::fs::read_to_string(at("aliases")).expect("a file");
    assert_eq!(aliases, "bob: ann@example.org, eve@example.org\n");
}

#[test]
fn a_temporary_dns_failure_exits_with_75() {
    let folder = folder();
    let says = |words: &[&str], input: &str| chopar(folder.path(), words, input);
    let keygen = ["dkim", "keygen", "example.com", "--selector", "s1"];
    assert_eq!(says(&keygen, "").0, 0);
    let message = "From: ann@example.com\r\nSubject: x\r\n\r\nhi\r\n";
    let (code, signed, error) = says(&["dkim", "sign"], message);
    assert_eq!(code, 0, "{error}");
    // A port that refuses connections at once.
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.local_addr().expect("an address").to_string()
    };
    let (code, output, error) = says(&["dkim", "verify", "--dns", &closed], &signed);
    assert_eq!(code, 75, "{output}{error}");
    let unsigned = says(&["dkim", "verify", "--dns", &closed], message);
    assert_eq!(unsigned.0, 65, "{unsigned:?}");
    let seal = ["arc", "seal", "--dns", &closed];
    let (code, sealed, error) = says(&seal, message);
    assert_eq!(code, 0, "{error}");
    let (code, output, error) = says(&["arc", "verify", "--dns", &closed], &sealed);
    assert_eq!(code, 75, "{output}{error}");
}

#[test]
fn json_output_is_one_document_for_every_list() {
    let folder = folder();
    let path = folder.path();
    let keygen = [
        "dkim",
        "keygen",
        "example.com",
        "--selector",
        "s",
        "--algorithm",
        "ed25519",
    ];
    assert_eq!(chopar(path, &keygen, "").0, 0);
    for words in [
        &["domain", "list", "--json"][..],
        &["user", "list", "--json"],
        &["alias", "list", "--json"],
        &["dkim", "record", "--json", "example.com"],
    ] {
        let (code, text, error) = chopar(path, words, "");
        assert_eq!(code, 0, "{words:?}: {error}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("one document");
        assert!(value.is_array(), "{words:?}: {text}");
    }
}
