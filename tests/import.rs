//! `chopar import` with the configuration of Debian's packages, and with examples whose expected reports are files
//! beside them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

fn chopar(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("chopar runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a mode");
        Self(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Imports a configuration; returns the output.
    fn import(&self, words: &[&str]) -> String {
        let into = self.at("new");
        let into = into.to_str().expect("UTF-8");
        let (code, output, errors) = chopar(&[&["import"], words, &["--into", into]].concat());
        assert_eq!(code, 0, "{output}{errors}");
        output
    }

    /// The result of `check` for an imported configuration, on a machine with free ports and folders, and with the
    /// programs.
    fn check(&self) -> (i32, String, String) {
        let path = self.at("new/chopar.toml");
        let text = fs::read_to_string(&path).expect("a file");
        let own = format!(
            "user = \"none\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n",
            self.0.path().display()
        );
        let (front, rest) = match text.split_once("\n[listen]\n") {
            Some((front, rest)) => {
                let end = rest.find("\n[").unwrap_or(rest.len());
                (front.to_owned(), rest[end..].to_owned())
            }
            None => {
                let end = text.find("\n[").unwrap_or(text.len());
                (text[..end].to_owned(), text[end..].to_owned())
            }
        };
        let listen = "\n[listen]\nsmtp = []\nsubmission = []\nsubmissions = []\n";
        fs::write(&path, format!("{own}{front}{listen}{rest}")).expect("a file");
        for domain in fs::read_dir(self.at("new/domains")).into_iter().flatten() {
            let path = domain.expect("a domain").path().join("aliases");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let with_programs = text.lines().map(|line| match line.split_once("| /") {
                Some((front, _)) => format!("{front}| /bin/true\n"),
                None => format!("{line}\n"),
            });
            fs::write(&path, with_programs.collect::<String>()).expect("a file");
        }
        chopar(&["-C", self.at("new").to_str().expect("UTF-8"), "check"])
    }
}

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    path.join(name).to_str().expect("UTF-8").to_owned()
}

/// The report lists each line of an example, as in the file beside it. After a change of wording, CHOPAR_REPORTS=write
/// writes these files anew.
#[track_caller]
fn assert_reported(place: &Place, name: &str) {
    let report = fs::read_to_string(place.at("new/import.report")).expect("a report");
    let path = data(name);
    if std::env::var("CHOPAR_REPORTS").as_deref() == Ok("write") {
        fs::write(&path, &report).expect("a file");
    }
    assert_eq!(report, fs::read_to_string(&path).expect("a file"), "{path}");
}

#[test]
fn the_example_of_chasquid_becomes_a_valid_configuration_with_every_line_reported() {
    let place = Place::new();
    let said = place.import(&["chasquid", &data("chasquid")]);
    assert_reported(&place, "chasquid.report");
    let users = fs::read_to_string(place.at("new/import.users")).expect("a file");
    let new = place.at("new");
    let line = |user: &str| {
        format!(
            "chopar -C '{}' user add '{user}@example.com'\n",
            new.display()
        )
    };
    assert_eq!(users, line("ann") + &line("bob"));
    assert!(said.contains("import.users has the commands"), "{said}");
    let (code, said, errors) = place.check();
    assert_eq!(code, 0, "{said}{errors}");
    assert!(
        said.contains("mail.example.com serves example.com, example.org, third.example; users 0, aliases 7, DKIM keys 2"),
        "{said}"
    );
    assert!(said.contains("certificates 1"), "{said}");
}

#[test]
fn the_example_of_postfix_becomes_a_valid_configuration_with_every_line_reported() {
    let place = Place::new();
    place.import(&["postfix", &data("root/etc/postfix")]);
    assert_reported(&place, "postfix.report");
    // Each line with a setting is named.
    let main = fs::read_to_string(data("root/etc/postfix/main.cf")).expect("a file");
    let report = fs::read_to_string(place.at("new/import.report")).expect("a report");
    for (number, line) in (1..).zip(main.lines()) {
        let sets = !line.starts_with([' ', '#']);
        let named = report.contains(&format!("main.cf:{number}: "));
        assert!(
            named || !sets || line.starts_with("smtpd_tls_key_file"),
            "{line}"
        );
    }
    assert!(!report.contains("pass:word"), "{report}");
    let secret = fs::read_to_string(place.at("new/secrets/smart-host")).expect("a file");
    assert_eq!(secret, "me@relay.example\npass:word\n");
    let (code, said, errors) = place.check();
    assert_eq!(code, 0, "{said}{errors}");
    assert!(said.contains("DKIM keys 2, routes 1"), "{said}");
}

#[test]
fn only_the_daemon_can_read_the_written_files() {
    let place = Place::new();
    place.import(&["postfix", &data("root/etc/postfix")]);
    for (path, mode) in [
        ("new", 0o2755),
        ("new/chopar.toml", 0o644),
        ("new/secrets/smart-host", 0o640),
        ("new/domains/example.com/dkim/s1.pem", 0o640),
        ("new/import.report", 0o640),
    ] {
        let found = fs::metadata(place.at(path))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(found & 0o7777, mode, "{path}");
    }
}

#[test]
fn an_import_grants_no_new_relay_permission_and_uses_no_files_of_this_machine_for_another() {
    let place = Place::new();
    let folder = place.at("copied");
    fs::create_dir(&folder).expect("a folder");
    let key = place.at("key.pem");
    fs::write(&key, "key").expect("a file");
    let main = format!(
        "myhostname = mail.example.com\nmynetworks = 127.0.0.0/8, 192.0.2.0/24, !192.0.2.7, 0.0.0.0/0\n\
         smtpd_tls_cert_file = {0}\nsmtpd_tls_key_file = {0}\n",
        key.display()
    );
    fs::write(folder.join("main.cf"), main).expect("a file");
    let said = place.import(&["postfix", folder.to_str().expect("UTF-8")]);
    let settings = fs::read_to_string(place.at("new/chopar.toml")).expect("a file");
    assert!(
        settings.contains("networks = [\"127.0.0.0/8\"]\n"),
        "{settings}"
    );
    for item in ["192.0.2.0/24", "!192.0.2.7", "0.0.0.0/0"] {
        let to_do = format!("to do  mynetworks {item}: ");
        assert!(said.contains(&to_do), "{said}");
    }
    assert_eq!(said.matches("it lies outside of").count(), 2, "{said}");
    assert!(!place.at("new/tls").exists());
}

#[test]
fn nothing_is_written_over() {
    let place = Place::new();
    fs::create_dir(place.at("new")).expect("a folder");
    fs::write(place.at("new/chopar.toml"), "# mine\n").expect("a file");
    let into = place.at("new");
    let into = into.to_str().expect("UTF-8");
    let (code, _, errors) = chopar(&["import", "chasquid", &data("chasquid"), "--into", into]);
    assert_eq!(code, 73, "{errors}");
    assert!(errors.contains("is not empty"), "{errors}");
    let kept = fs::read_to_string(place.at("new/chopar.toml")).expect("a file");
    assert_eq!(kept, "# mine\n");
    let (code, _, errors) = chopar(&["import", "postfix", &data("chasquid"), "--into", into]);
    assert_eq!(code, 66, "{errors}");
    assert!(errors.contains("main.cf: No such file"), "{errors}");
}

/// The files of a package that is not installed.
fn package(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("far-ends");
    let files = beside.join(name);
    assert!(
        files.exists(),
        "{} is missing: run make packages",
        files.display()
    );
    files
}

#[test]
fn the_configuration_that_debian_gives_chasquid_is_understood() {
    let place = Place::new();
    let folder = package("chasquid").join("etc/chasquid");
    let said = place.import(&["chasquid", folder.to_str().expect("UTF-8")]);
    assert!(!said.contains("not understood"), "{said}");
    assert!(
        said.contains("hooks/post-data: the hook post-data"),
        "{said}"
    );
    let (code, said, errors) = place.check();
    assert_eq!(code, 0, "{said}{errors}");
    // With all settings that it shows as comments.
    let copy = place.at("taken");
    fs::create_dir(&copy).expect("a folder");
    let text = fs::read_to_string(folder.join("chasquid.conf")).expect("a file");
    let taken: String = text
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    fs::write(copy.join("chasquid.conf"), &taken).expect("a file");
    fs::remove_dir_all(place.at("new")).expect("a folder");
    let said = place.import(&["chasquid", copy.to_str().expect("UTF-8")]);
    assert!(!said.contains("not understood"), "{said}");
    let settings = (1..)
        .zip(taken.lines())
        .filter(|(_, line)| line.contains(": "));
    let mut count = 0;
    for (number, line) in settings {
        assert!(
            said.contains(&format!("chasquid.conf:{number}: ")),
            "{line}: {said}"
        );
        count += 1;
    }
    assert!(count > 15, "{taken}");
    assert_eq!(place.check().0, 0);
}

#[test]
fn the_configuration_that_debian_gives_postfix_and_opendkim_is_understood() {
    let place = Place::new();
    let folder = place.at("etc/postfix");
    fs::create_dir_all(&folder).expect("a folder");
    // As the package's own script creates it.
    let main =
        fs::read_to_string("/usr/share/postfix/main.cf.debian").expect("the package postfix");
    let set = "myhostname = vps.example.com\nalias_maps = hash:/etc/aliases\nmyorigin = /etc/mailname\n\
               mydestination = $myhostname, example.com, localhost.com, , localhost\nrelayhost = \n\
               mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\nrecipient_delimiter = +\n\
               inet_interfaces = all\ninet_protocols = all\n";
    fs::write(folder.join("main.cf"), main + set).expect("a file");
    fs::write(place.at("etc/mailname"), "example.com\n").expect("a file");
    let aliases = "# See man 5 aliases for format\npostmaster:    root\nroot: you@gmail.example\n";
    fs::write(place.at("etc/aliases"), aliases).expect("a file");
    let opendkim = package("opendkim").join("etc/opendkim.conf");
    fs::copy(opendkim, place.at("etc/opendkim.conf")).expect("a file");
    let said = place.import(&["postfix", folder.to_str().expect("UTF-8")]);
    assert!(
        said.contains("root leads to you@gmail.example: admin"),
        "{said}"
    );
    assert!(!said.contains("the import does not know it"), "{said}");
    let (code, said, errors) = place.check();
    assert_eq!(code, 0, "{said}{errors}");
    assert!(
        said.contains("serves example.com, vps.example.com"),
        "{said}"
    );

    // The long list of the package, and the machine's own file.
    for main in [
        "/usr/share/postfix/main.cf.dist",
        "/usr/share/postfix/main.cf.tls",
    ] {
        let place = Place::new();
        fs::copy(main, place.at("main.cf")).expect("the package postfix");
        place.import(&["postfix", place.0.path().to_str().expect("UTF-8")]);
        let (code, said, errors) = place.check();
        assert_eq!(code, 0, "{main}: {said}{errors}");
    }
}
