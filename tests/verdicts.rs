//! `chopar check` and a start reach the same verdict, whatever the state of the configuration folder: modes, owners,
//! contents, links, encodings, names. `check` judges each damaged folder as root and as the daemon's account, and a
//! real start judges some of them. The seeds are fixed; the message of a failure names the seed.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use chopar::cli::check::Check;
use tempfile::TempDir;

/// Number of damaged folders.
const SEEDS: u64 = 520;
/// For one folder in this many, the daemon itself is started, too.
const STARTED: u64 = 13;
const PATIENCE: Duration = Duration::from_secs(30);
const CHOPAR: &str = env!("CARGO_BIN_EXE_chopar");
const NOBODY: u32 = 65_534;

/// Numbers from a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % bound
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// The files that all folders are made from.
struct Template {
    files: Vec<(&'static str, Vec<u8>, u32)>,
}

impl Template {
    fn new() -> Self {
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a pair");
            let key = made.signing_key.serialize_pem().into_bytes();
            (made.cert.pem().into_bytes(), key)
        };
        let (chain, key) = pair("mail.example.com");
        let (other_chain, other_key) = pair("other.example.com");
        let dkim = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let users = "ann:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
                     WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";
        let aliases = "# people\nann: ann@example.org, \"b c\"@example.org\nbob: ann\n*: ann\n";
        let files = vec![
            ("domains/example.com/users", users.into(), 0o640),
            ("domains/example.com/aliases", aliases.into(), 0o644),
            (
                "domains/example.com/dkim/s1.pem",
                dkim.serialize_pem().into_bytes(),
                0o640,
            ),
            (
                "domains/example.org/aliases",
                "x: y@example.net\n".into(),
                0o644,
            ),
            ("secrets/relay", "me\nsecret\n".into(), 0o640),
            ("hooks/post-data", "#!/bin/sh\nexit 0\n".into(), 0o755),
            ("tls/a/fullchain.pem", chain, 0o644),
            ("tls/a/privkey.pem", key, 0o640),
            ("tls/b/fullchain.pem", other_chain, 0o644),
            ("tls/b/privkey.pem", other_key, 0o640),
        ];
        Self { files }
    }
}

/// A folder to be damaged.
struct Place {
    root: TempDir,
    paths: Vec<&'static str>,
}

impl Place {
    fn new(template: &Template) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let place = Self {
            root,
            paths: template.files.iter().map(|(path, ..)| *path).collect(),
        };
        let folders = [
            "etc/domains/example.com/dkim",
            "etc/domains/example.org",
            "etc/secrets",
            "etc/hooks",
            "etc/tls/a",
            "etc/tls/b",
            "elsewhere",
        ];
        for folder in folders {
            fs::create_dir_all(place.root.path().join(folder)).expect("a folder");
        }
        for (path, bytes, mode) in &template.files {
            let path = place.at(path);
            fs::write(&path, bytes).expect("a file");
            fs::set_permissions(&path, Permissions::from_mode(*mode)).expect("a mode");
            own(&path, 0, NOBODY);
        }
        fs::write(place.toml(), place.toml_text()).expect("a file");
        for part in ["", "etc", "elsewhere"] {
            let open = Permissions::from_mode(0o755);
            fs::set_permissions(place.root.path().join(part), open).expect("a mode");
        }
        // As an earlier start left them.
        for folder in ["state", "run"] {
            let path = place.root.path().join(folder);
            fs::create_dir(&path).expect("a folder");
            own(&path, NOBODY, NOBODY);
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.etc().join(path)
    }

    fn etc(&self) -> PathBuf {
        self.root.path().join("etc")
    }

    fn toml(&self) -> PathBuf {
        self.at("chopar.toml")
    }

    /// The keys that no damage changes: a start must not create folders at arbitrary places, nor use the ports of this
    /// machine.
    fn kept(&self) -> String {
        format!(
            "user = \"nobody\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n\
             listen = {{ smtp = [\"127.0.0.1:0\"], submission = [], submissions = [], status = [] }}\n",
            self.root.path().display()
        )
    }

    fn toml_text(&self) -> String {
        self.kept()
            + "hostname = \"mail.example.com\"\nadmin = \"you@example.net\"\nmax_memory = \"64 MiB\"\n\
               [relay]\nnetworks = [\"192.0.2.0/24\"]\n[dns]\nservers = [\"127.0.0.1:1\"]\n\
               [domain.\"example.org\"]\nreceive = true\n\
               [[route]]\ndomain = \"*.example.net\"\nvia = [\"smtps://relay.example.net\"]\nauth = \"secrets/relay\"\n"
    }
}

fn own(path: &Path, user: u32, group: u32) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(user), Some(group)).expect("an owner");
    }
}

/// Damages the folder in one way; returns a description.
fn damage(place: &Place, chance: &mut Chance) -> String {
    let mut folders = vec![
        "domains",
        "domains/example.com",
        "domains/example.com/dkim",
        "domains/example.org",
        "secrets",
        "hooks",
        "tls",
        "tls/a",
        "tls/b",
        "",
    ];
    let file = *chance.of(&place.paths);
    folders.extend(&place.paths);
    let any = *chance.of(&folders);
    let (file_path, any_path) = (place.at(file), place.at(any));
    match chance.below(12) {
        0 | 1 => {
            let modes = [
                0o000, 0o400, 0o600, 0o640, 0o644, 0o660, 0o666, 0o700, 0o711, 0o750, 0o755, 0o770,
                0o777, 0o1777, 0o604, 0o640,
            ];
            let mode = *chance.of(&modes);
            let set = fs::set_permissions(&any_path, Permissions::from_mode(mode));
            format!("chmod {mode:o} {any}: {set:?}")
        }
        2 => {
            let owners = [
                (0, 0),
                (0, NOBODY),
                (NOBODY, NOBODY),
                (1_000, 1_000),
                (NOBODY, 0),
            ];
            let (user, group) = *chance.of(&owners);
            if any_path.exists() {
                own(&any_path, user, group);
            }
            format!("chown {user}:{group} {any}")
        }
        3 | 4 => {
            let bytes = fs::read(&file_path).unwrap_or_default();
            let (what, bytes) = rewritten(bytes, 0, chance);
            format!("{what} {file}: {:?}", fs::write(&file_path, bytes))
        }
        5 | 6 => {
            let bytes = fs::read(place.toml()).unwrap_or_default();
            let (what, bytes) = rewritten(bytes, place.kept().len(), chance);
            format!("{what} chopar.toml: {:?}", fs::write(place.toml(), bytes))
        }
        7 => {
            let targets = [
                "nowhere",
                "..",
                ".",
                "/etc/hostname",
                "/dev/null",
                "../aliases",
                "users",
            ];
            let target = *chance.of(&targets);
            remove(&any_path);
            format!("{any} -> {target}: {:?}", symlink(target, &any_path))
        }
        8 => {
            let moved = place
                .root
                .path()
                .join("elsewhere")
                .join(chance.below(1_000).to_string());
            let done = fs::rename(&any_path, &moved).and_then(|()| symlink(&moved, &any_path));
            if chance.below(2) == 0 {
                let closed = Permissions::from_mode(0o700);
                fs::set_permissions(place.root.path().join("elsewhere"), closed).expect("a mode");
            }
            format!("{any} lives elsewhere: {done:?}")
        }
        9 => {
            remove(&any_path);
            let made = match chance.below(5) {
                0 => Ok(()),
                1 => fs::create_dir_all(&any_path),
                2 => UnixListener::bind(&any_path).map(drop),
                3 => fs::write(&any_path, "x"),
                _ => File::create(&any_path).and_then(|file| file.set_len(1 << 24)),
            };
            format!("{any} is replaced: {made:?}")
        }
        10 => {
            let names: [&[u8]; 8] = [
                b"lost+found",
                b"x~",
                b"\xff\xfe",
                b"new.pem",
                b"EXAMPLE.com",
                "b\u{fc}cher.example".as_bytes(),
                b"not a domain",
                b".hidden",
            ];
            let name = std::ffi::OsString::from_vec(chance.of(&names).to_vec());
            let to = any_path.with_file_name(name);
            let done = match any {
                "" => Ok(()),
                _ => fs::rename(&any_path, &to),
            };
            format!("{any} is renamed to {to:?}: {done:?}")
        }
        _ => {
            let other = *chance.of(&place.paths);
            let bytes = fs::read(place.at(other)).unwrap_or_default();
            format!(
                "{file} is a copy of {other}: {:?}",
                fs::write(&file_path, bytes)
            )
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        drop(fs::remove_dir_all(path));
    } else {
        drop(fs::remove_file(path));
    }
}

/// The bytes as an editor, a copy or a bad disk may leave them; those before `from` stay.
fn rewritten(mut bytes: Vec<u8>, from: usize, chance: &mut Chance) -> (&'static str, Vec<u8>) {
    let from = from.min(bytes.len());
    let at = from + chance.below(bytes.len() - from + 1);
    let odd: [&str; 16] = [
        "nonsense\n",
        "a: b\nb: a\n",
        "x: \"|prog\"\n",
        "y: /dev/null\n",
        "*@example.com: ann@example.org,\n",
        "  more@example.org\n",
        "networks = [\"0.0.0.0/0\"]\n",
        "hostname = \"192.0.2.1\"\n",
        "[listen]\nsmtp = [\"[::]:0\"]\n",
        "unknown = 1\n",
        "ann:{SCRAM-SHA-256}1,a,b,c\n",
        "ann: ann\n",
        "admin = \"postmaster@example.com\"\n",
        "\"\"\"\n",
        "#\n",
        "z: e\u{301}@example.org\n",
    ];
    match chance.below(9) {
        0 => {
            bytes.truncate(at);
            ("cut", bytes)
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
            ("a bit flipped in", bytes)
        }
        2 => ("BOM in", [b"\xef\xbb\xbf", &bytes[..]].concat()),
        3 => {
            let text = String::from_utf8_lossy(&bytes).replace('\n', "\r\n");
            ("CRLF in", text.into_bytes())
        }
        4 if from == 0 => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let wide = text.encode_utf16().flat_map(u16::to_le_bytes);
            ("UTF-16 in", [0xff, 0xfe].into_iter().chain(wide).collect())
        }
        5 => {
            bytes.insert(at, *chance.of(&[0, 0xe9, 0xff, 0x80, b'"', b'\t']));
            ("a byte put into", bytes)
        }
        6 => {
            let line = bytes[from..at].iter().rposition(|byte| *byte == b'\n');
            let at = line.map_or(from, |line| from + line + 1);
            bytes.splice(at..at, chance.of(&odd).bytes());
            ("a line put into", bytes)
        }
        7 => {
            bytes.truncate(from);
            ("emptied", bytes)
        }
        _ => {
            let half = bytes[from..].to_vec();
            bytes.extend(half);
            ("doubled", bytes)
        }
    }
}

/// A verdict on a folder: whether it is an error, and the sentences.
#[derive(Debug, Eq, PartialEq)]
struct Verdict {
    code: i32,
    lines: Vec<String>,
}

impl Verdict {
    fn new(code: i32, text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with("chopar: "));
        // The certificate shown to clients depends on what root could read for the account.
        let shown = [
            "; the pair that was read before stays in force",
            "; clients that ask for its names are shown another certificate",
            "; clients are shown a self-signed certificate",
        ];
        let cause = |line: &str| {
            let ends = shown.iter().filter_map(|shown| line.find(shown));
            line[..ends.min().unwrap_or(line.len())].to_owned()
        };
        let hostname = |line: &String| !line.contains("tls: no certificate is for");
        let mut lines: Vec<String> = lines.map(cause).filter(hostname).collect();
        lines.sort();
        Self { code, lines }
    }
}

/// `check` by this process: as root if the tests run as root.
fn by_caller(place: &Place) -> Verdict {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let result = Check {}.run(&place.etc(), &mut output, &mut errors);
    let code = result.err().map_or(0, |error| i32::from(error.exit_code()));
    assert_eq!(code == 0, output.starts_with(b"ok: "));
    Verdict::new(code, &String::from_utf8(errors).expect("text"))
}

/// `check` by the daemon's account.
fn by_account(place: &Place) -> Verdict {
    let mut command = Command::new(CHOPAR);
    command.arg("-C").arg(place.etc()).arg("check");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("chopar runs");
    let text = String::from_utf8(output.stderr).expect("text");
    Verdict::new(output.status.code().unwrap_or(-1), &text)
}

/// A real start: its output, and its exit code if it did not begin to serve. It is stopped again.
fn by_start(place: &Place) -> (Option<i32>, String) {
    let mut child = Command::new(CHOPAR)
        .arg("-C")
        .arg(place.etc())
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chopar runs");
    let mut pipe = child.stderr.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text).expect("text")
    });
    let control = place.root.path().join("run/control.sock");
    let by = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status.code();
        }
        // The socket exists before the rest is read; the answer comes from the loop, after all of it.
        if UnixStream::connect(&control).is_ok_and(|stream| answers(&stream)) {
            break None;
        }
        assert!(Instant::now() < by, "the daemon neither serves nor ends");
        thread::sleep(Duration::from_millis(2));
    };
    if code.is_none() {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(child.wait().expect("its end").success());
    }
    (code, reader.join().expect("what it wrote"))
}

fn answers(mut stream: &UnixStream) -> bool {
    use std::io::Write as _;

    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let asked = stream.write_all(b"\"stats\"\n").is_ok();
    asked && stream.read(&mut [0; 64]).is_ok_and(|len| len > 0)
}

/// Counts of the verdicts.
#[derive(Default)]
struct Tally {
    good: usize,
    bad: usize,
    started: usize,
    refused: usize,
}

impl Tally {
    fn judge(&mut self, seed: u64, template: &Template) {
        let place = Place::new(template);
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = 1 + chance.below(3);
        let done: Vec<String> = (0..count).map(|_| damage(&place, &mut chance)).collect();
        let verdict = by_caller(&place);
        assert_eq!(verdict, by_account(&place), "seed {seed}: {done:#?}");
        match verdict.code {
            0 => self.good += 1,
            _ => self.bad += 1,
        }
        if !seed.is_multiple_of(STARTED) {
            return;
        }
        let (code, log) = by_start(&place);
        let lines = verdict.lines.iter();
        let errors = lines.filter(|line| !line.starts_with("warning: "));
        // If `check` finds an error although the daemon starts, the start has logged it.
        let said = |error: &str| match code {
            None => log.contains(error.split(['"', ';', '\\']).next().unwrap_or_default()),
            Some(_) => log.contains(error),
        };
        for error in errors.clone() {
            assert!(said(error), "seed {seed}: {done:#?}\n{error}\n{log}");
        }
        match code {
            None => self.started += 1,
            Some(code) => {
                self.refused += 1;
                assert_eq!(
                    code, verdict.code,
                    "seed {seed}: {done:#?}\n{log}\n{verdict:#?}"
                );
                assert!(errors.count() > 0, "seed {seed}: {done:#?}\n{log}");
            }
        }
    }
}

#[test]
fn check_as_root_check_as_the_account_and_a_start_reach_the_same_verdict() {
    let template = Template::new();
    let untouched = Place::new(&template);
    assert_eq!(by_caller(&untouched).code, 0);
    assert_eq!(by_start(&untouched).0, None);
    let half = |odd: u64| {
        let mut tally = Tally::default();
        for seed in (0..SEEDS).filter(|seed| seed % 2 == odd) {
            tally.judge(seed, &template);
        }
        tally
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        (half(0), other.join().expect("no panic"))
    });
    // Otherwise the damage is not what it is meant to be.
    let sum = |of: fn(&Tally) -> usize| of(&one) + of(&other);
    let (good, bad) = (sum(|tally| tally.good), sum(|tally| tally.bad));
    assert!(good > 50 && bad > 100, "{good} good, {bad} bad");
    let (started, refused) = (sum(|tally| tally.started), sum(|tally| tally.refused));
    assert!(
        started > 5 && refused > 10,
        "{started} started, {refused} refused"
    );
}
