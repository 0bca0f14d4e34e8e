//! The commands as a person or a script calls them: each on a configuration folder of its own, with standard input from
//! a pipe.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long one command may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `chopar -C FOLDER WORDS` with this standard input, and gives its exit code and what it wrote.
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
    // It may have ended without reading.
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

/// A folder that serves `example.com`, with its sockets where nobody listens.
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
fn alias_resolve_says_what_the_daemon_does_with_names_of_the_host() {
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
    // Only programs of this machine mean it by that name.
    for address in ["root@localhost", "root", "root@[127.0.0.1]"] {
        let (code, text) = resolve(address);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("Mail from other hosts:\n"), "{text}");
        assert!(text.ends_with(to_admin), "{text}");
    }
    let (code, text) = resolve("root@mail.example.com");
    assert_eq!((code, text.ends_with(to_admin)), (0, true), "{text}");
    // An account without an alias is nobody to other hosts.
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
fn a_password_that_others_guess_is_refused_unless_that_is_said() {
    let folder = folder();
    let path = folder.path();
    let users = path.join("domains/example.com/users");
    let add = ["user", "add", "app@example.com"];
    for (password, why) in [
        ("", "found nothing"),
        ("short", "has 5 characters"),
        ("password1", "that many have"),
        ("example.com", "own address"),
        ("12345678", "a row"),
    ] {
        let (code, _, error) = chopar(path, &add, &format!("{password}\n"));
        assert_eq!(code, 65, "{password}: {error}");
        assert!(error.contains(why), "{password}: {error}");
        assert!(!users.exists(), "{password}");
    }
    let (code, _, error) = chopar(
        path,
        &["user", "add", "--weak", "app@example.com"],
        "short\n",
    );
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = chopar(path, &["user", "passwd", "app@example.com"], "secret\n");
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
    let verify = ["user", "verify", "app@example.com"];
    assert_eq!(chopar(path, &verify, "short\n").0, 0);
    let empty = ["user", "passwd", "--weak", "app@example.com"];
    assert_eq!(chopar(path, &empty, "\n").0, 65);
    assert_eq!(
        chopar(
            path,
            &["user", "passwd", "--weak", "app@example.com"],
            "secret\n"
        )
        .0,
        0
    );
    assert_eq!(chopar(path, &verify, "secret\n").0, 0);
}

#[test]
fn a_script_without_a_password_is_told_how_to_give_one() {
    let folder = folder();
    let path = folder.path();
    let given = |words: &[&str]| {
        let (code, output, error) = chopar(path, words, "");
        assert_eq!((code, output.as_str()), (65, ""), "{error}");
        let (_, line) = error.split_once("first line: ").expect("an example");
        let line = line.replace("sudo chopar", "\"$0\" -C \"$1\"");
        let ended = Command::new("sh")
            .args(["-c", line.trim(), env!("CARGO_BIN_EXE_chopar")])
            .arg(path)
            .env("PASSWORD", "four words it takes")
            .output()
            .expect("a shell");
        assert!(ended.status.success(), "{line}: {ended:?}");
    };
    given(&["user", "add", "app@example.com"]);
    given(&["user", "passwd", "app@example.com"]);
    given(&["user", "verify", "app@example.com"]);
}

#[test]
fn what_changes_the_configuration_says_so_in_one_line_and_when_it_is_read() {
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
    // Where standard output is for a zone file.
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
fn a_password_comes_by_a_pipe() {
    let folder = folder();
    let path = folder.path();
    let add = [
        "user",
        "add",
        "app@example.com",
        "--send-as",
        "*@example.com",
    ];
    let (code, _, error) = chopar(path, &add, "correct horse\n");
    assert_eq!(code, 0, "{error}");
    let verify = ["user", "verify", "app@example.com"];
    assert_eq!(chopar(path, &verify, "correct horse\n").0, 0);
    assert_eq!(chopar(path, &verify, "wrong\n").0, 77);
    assert_eq!(
        chopar(path, &["user", "verify", "nobody@example.com"], "x\n").0,
        67
    );
    let (code, list, _) = chopar(path, &["user", "list", "--json"], "");
    assert_eq!(code, 0);
    assert!(
        list.contains("app@example.com") && list.contains("*@example.com"),
        "{list}"
    );
    assert_eq!(chopar(path, &["check"], "").0, 0);
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
    // What could not be read is not written.
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
    // A circle is not made.
    ok(&["alias", "add", "a@example.com", "b"]);
    let (code, _, error) = chopar(path, &["alias", "add", "b@example.com", "a"], "");
    assert_eq!(code, 65);
    assert_eq!(error.matches("leads back to itself").count(), 1, "{error}");
    // Nobody has the file that is not written.
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
    // No name server answers there: the key is not to be had, and nothing passes.
    let verify = ["dkim", "verify", "--dns", "127.0.0.1:1"];
    let (code, verdict, _) = chopar(path, &verify, &signed);
    assert_eq!(code, 75, "{verdict}");
    assert!(verdict.contains("temperror"), "{verdict}");
}

#[test]
fn sendmail_without_a_daemon_or_a_spool_says_so() {
    let folder = folder();
    let words = ["sendmail", "-i", "someone@example.net"];
    let (code, _, error) = chopar(folder.path(), &words, "Subject: x\n\nhello\n");
    assert_eq!(code, 75, "{error}");
    assert!(!error.is_empty());
}

/// Makes a pair for this name in `tls/a` that is good until the end of a year.
fn write_pair(
    folder: &Path,
    name: &str,
    until: i32,
    algorithm: &'static rcgen::SignatureAlgorithm,
) {
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 12, 31);
    let chain = params.self_signed(&key).expect("a certificate").pem();
    let tls = folder.join("tls/a");
    std::fs::create_dir_all(&tls).expect("a folder");
    std::fs::write(tls.join("fullchain.pem"), chain).expect("a file");
    let path = tls.join("privkey.pem");
    std::fs::write(&path, key.serialize_pem()).expect("a file");
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
}

/// What openssl makes of these words, run in a folder.
fn openssl(folder: &Path, words: &str) {
    let made = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "openssl {words}: {made:?}");
}

#[test]
fn check_names_what_is_wrong_and_its_mend() {
    let place = folder();
    let folder = place.path();
    let judge = |code: i32, expected: &[&str]| {
        let (found, output, errors) = chopar(folder, &["check"], "");
        assert_eq!(found, code, "{errors}");
        for text in expected {
            assert!(errors.contains(text), "expected {text}: {errors}");
        }
        assert_eq!(code == 0, output.starts_with("ok: "), "{output}");
    };
    let good = || {
        write_pair(
            folder,
            "mail.example.com",
            2050,
            &rcgen::PKCS_ECDSA_P256_SHA256,
        )
    };
    judge(
        0,
        &["there is no DKIM key", "chopar dkim keygen example.com"],
    );
    good();
    judge(0, &[]);
    // The key of the daemon is nobody else's.
    let key = folder.join("tls/a/privkey.pem");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    judge(0, &["tls/a/privkey.pem", "chmod o-r"]);
    // The daemon cannot serve these.
    good();
    std::fs::write(folder.join("tls/a/fullchain.pem"), "").expect("a file");
    judge(
        78,
        &["tls/a/fullchain.pem", "there is no certificate in it"],
    );
    good();
    openssl(
        folder,
        "ec -in tls/a/privkey.pem -aes128 -passout pass:x -out tls/a/privkey.pem",
    );
    judge(
        78,
        &[
            "tls/a/privkey.pem",
            "the key has a passphrase",
            "openssl pkey",
        ],
    );
    for kind in ["ec -pkeyopt ec_paramgen_curve:P-521", "rsa:1024"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey {kind} -nodes -keyout tls/a/privkey.pem -out tls/a/fullchain.pem -days 90 \
                 -subj /CN=mail.example.com -addext subjectAltName=DNS:mail.example.com"
            ),
        );
        judge(
            78,
            &["tls/a/privkey.pem", "the key cannot be used", "P-256"],
        );
    }
    // It can serve these, and clients may not like them.
    write_pair(folder, "other.example", 2050, &rcgen::PKCS_ED25519);
    judge(0, &["no certificate is for mail.example.com"]);
    write_pair(
        folder,
        "mail.example.com",
        2021,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    );
    judge(0, &["tls/a/fullchain.pem", "the certificate ended at"]);
    good();
    std::fs::create_dir_all(folder.join("hooks")).expect("a folder");
    let hook = folder.join("hooks/post-data");
    std::fs::write(&hook, "#!/bin/sh\n").expect("a file");
    std::fs::set_permissions(&hook, Permissions::from_mode(0o644)).expect("a mode");
    judge(78, &["hooks/post-data", "chmod a+rx"]);
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

/// Whoever calls them with whatever mask, and in whichever group the folder is: the daemon's account can read it all.
#[test]
fn what_commands_write_is_readable_for_the_daemon_under_any_mask() {
    use std::os::unix::fs::PermissionsExt as _;

    if !rustix::process::geteuid().is_root() {
        return; // what root writes for another account is the point
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

/// The signal that ends a command whose standard output nobody reads, and what it says.
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
fn nobody_who_reads_is_no_error_to_be_told_of() {
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
    // Nor is it one that nobody hears an error.
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
fn a_word_that_is_none_is_answered_with_those_that_are_near() {
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
fn a_command_line_that_is_not_one_is_answered_with_one_that_is() {
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
fn a_byte_order_mark_hides_no_name() {
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
fn a_verdict_that_waits_for_the_dns_is_75() {
    let folder = folder();
    let says = |words: &[&str], input: &str| chopar(folder.path(), words, input);
    let keygen = ["dkim", "keygen", "example.com", "--selector", "s1"];
    assert_eq!(says(&keygen, "").0, 0);
    let message = "From: ann@example.com\r\nSubject: x\r\n\r\nhi\r\n";
    let (code, signed, error) = says(&["dkim", "sign"], message);
    assert_eq!(code, 0, "{error}");
    // A port that answers with an error at once.
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
fn json_is_one_document_whatever_is_listed() {
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
