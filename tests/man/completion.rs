//! `chopar completion` in its shells: they complete exactly what the help lists.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use chopar::engine::control::{ControlResponse, ListedMessage};

use super::Words;
use super::commands::help;

/// Each command and group with the words that may follow, and with its options.
fn expected(command: &[&str], found: &mut BTreeMap<String, (Words, Words)>) {
    let (mut next, mut options) = help(command);
    for word in &next {
        expected(&[command, &[word.as_str()]].concat(), found);
    }
    let values: &[&str] = match command {
        ["cert", "hook"] => &["acme-sh", "nsupdate"],
        ["completion"] => &["bash", "fish", "zsh"],
        ["man"] => &[
            "chopar",
            "chopar-limits",
            "chopar.toml",
            "mailq",
            "sendmail",
        ],
        _ => &[],
    };
    next.extend(values.iter().map(|&value| value.to_owned()));
    options.insert("--help".to_owned());
    found.insert(command.join(" "), (next, options));
}

/// The output of a shell that reads chopar's script and then this one, on a machine where nothing is set up.
fn shell(name: &str, words: &[&str], script: &str) -> String {
    let bare = tempfile::tempdir().expect("a folder");
    let toml = format!("runtime_dir = \"{}\"\n", bare.path().display());
    fs::write(bare.path().join("chopar.toml"), toml).expect("a file");
    shell_with(bare.path(), name, words, script)
}

/// The same with this configuration.
fn shell_with(config: &Path, name: &str, words: &[&str], script: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_chopar"))
        .parent()
        .expect("its folder");
    let path_of_programs = format!(
        "{}:{}",
        programs.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let completion = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .args(["completion", name])
        .output()
        .expect("chopar runs");
    assert!(completion.status.success(), "{completion:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("completion");
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    std::fs::write(&path, completion.stdout).expect("a file");
    let mut child = Command::new(name)
        .args(words)
        .env("HOME", folder.path())
        .env("COMPLETION", &path)
        .env("CHOPAR_CONFIG", config)
        .env("PATH", path_of_programs)
        .current_dir(folder.path().join("empty"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; make packages installs it"));
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(script.as_bytes()).expect("written");
    drop(pipe);
    let output = child.wait_with_output().expect("its output");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "{name}: {errors}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Checks what a shell completes after each command. The script has one `ask START` for each command; the answer is
/// lines up to a single dot: the next words, and the options.
fn judge(name: &str, words: &[&str], head: &str, ask: impl Fn(&str) -> String) {
    let mut commands = BTreeMap::new();
    expected(&[], &mut commands);
    assert!(commands.len() > 40, "{}", commands.len());
    let script: String = commands.keys().map(|command| ask(command)).collect();
    let said = shell(name, words, &format!("{head}{script}"));
    let answers: Vec<Words> = said
        .split("\n.\n")
        .map(|answer| answer.lines().map(str::to_owned).collect())
        .collect();
    assert_eq!(answers.len(), commands.len() + 1, "{said}");
    for ((command, (next, options)), answer) in commands.iter().zip(&answers) {
        let (found_options, found): (Words, Words) = answer
            .iter()
            .filter(|word| !word.is_empty())
            .cloned()
            .partition(|word| word.starts_with("--"));
        assert_eq!(
            found_options, *options,
            "{name}: options of chopar {command}"
        );
        match command.as_str() {
            "man" => assert!(found.is_superset(next), "{name}: {found:?}"),
            _ => assert_eq!(found, *next, "{name}: behind chopar {command}"),
        }
    }
}

/// How bash completes a line.
const BASH: &str = ". \"$COMPLETION\"\n\
    asked() { COMP_LINE=$1; COMP_POINT=${#1}; _chopar; printf '%s\\n' \"${COMPREPLY[@]}\" .; }\n";
/// Replacements for zsh's own functions: they take the names of the arrays that they show.
const ZSH: &str = "compdef() { [[ \"$*\" == '_chopar chopar' ]] || exit 1; }\n\
    _describe() { print -l -- ${${(P)@[-1]}%%:*}; }\n\
    compadd() { print -l -- ${(P)@[-1]}; }\n\
    _files() { [[ -z $1 ]] || print folder; }\n\
    source $COMPLETION\n\
    asked() { words=(\"${(@s: :)1}\"); CURRENT=$#words; _chopar; }\n";
/// complete -C answers as if the key had been pressed.
const FISH: &str = "source $COMPLETION\n\
    function asked; complete -C \"$argv\" | string replace -r '\\t.*' ''; end\n";

#[test]
fn bash_completes_every_command_and_option_and_no_other() {
    let head = format!(
        "complete() {{ [ \"$*\" = '-o default -F _chopar chopar' ] && builtin complete \"$@\"; }}\n{BASH}\
         [ \"$(builtin complete -p chopar)\" = 'complete -o default -F _chopar chopar' ] || exit 1\n"
    );
    judge("bash", &["--norc"], &head, |command| {
        let blank = if command.is_empty() { "" } else { " " };
        format!("asked 'chopar {command}{blank}'\n")
    });
    // Begun words; words after the folder; the value of an option, which is not one of our words.
    let asked = format!(
        "{head}asked 'chopar queue li'\nasked 'chopar -C alias que'\nasked 'chopar -C /us'\nasked 'chopar spf --ip '\n"
    );
    let said = shell("bash", &["--norc"], &asked);
    assert_eq!(said, "list\n.\nqueue\n.\n/usr\n.\n.\n");
}

#[test]
fn zsh_completes_every_command_and_option_and_no_other() {
    judge("zsh", &["-f"], ZSH, |command| {
        let blank = if command.is_empty() { "" } else { " " };
        format!(
            "asked 'chopar {command}{blank}'\nasked 'chopar {command}{blank}-'\nprint -l '' .\n"
        )
    });
    let said = shell(
        "zsh",
        &["-f"],
        &format!(
            "{ZSH}asked 'chopar -C '\nasked 'chopar spf --ip '\nasked 'chopar -C x domain '\n"
        ),
    );
    assert_eq!(said, "folder\nadd\nremove\nlist\n");
}

#[test]
fn fish_completes_every_command_and_option_and_no_other() {
    judge("fish", &["--no-config"], FISH, |command| {
        let blank = if command.is_empty() { "" } else { " " };
        format!(
            "asked 'chopar {command}{blank}' | string match -v '*/*'\nasked 'chopar {command}{blank}--'\necho\necho .\n"
        )
    });
}

/// A configuration with two domains, a user, aliases, a certificate, and a daemon with a message.
fn machine(folder: &Path) {
    let state = folder.join("state");
    for part in ["example.com", "example.org"] {
        fs::create_dir_all(folder.join("domains").join(part)).expect("a folder");
    }
    fs::create_dir_all(state.join("acme/certificates/mail.example.com")).expect("a folder");
    let toml = format!(
        "state_dir = \"{}\"\nruntime_dir = \"{}\"\n",
        state.display(),
        folder.display()
    );
    fs::write(folder.join("chopar.toml"), toml).expect("a file");
    let of_domain = |name: &str| folder.join("domains/example.com").join(name);
    fs::write(of_domain("users"), "app:x\n").expect("a file");
    // The last name must never reach a shell.
    let aliases = "*: you@example.net\ninfo: you@example.net\n`touch${IFS}run`: you@example.net\n";
    fs::write(of_domain("aliases"), aliases).expect("a file");
    let listener = UnixListener::bind(folder.join("control.sock")).expect("a socket");
    let listed = ControlResponse::Message(ListedMessage {
        id: "00TNH7E000000".to_owned(),
        arrived: 0,
        size: 1,
        from: String::new(),
        origin: String::new(),
        held: false,
        recipients: Vec::new(),
        unreadable: None,
    });
    let end = ControlResponse::End {
        count: 1,
        errors: Vec::new(),
    };
    let lines = [listed, end].map(|line| serde_json::to_string(&line).expect("JSON"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a connection"));
            reader.read_line(&mut line).expect("a request");
            let _gone = writeln!(stream, "{}", lines.join("\n"));
        }
    });
}

#[test]
fn values_are_those_that_a_command_accepts_and_that_the_machine_has() {
    let folder = tempfile::tempdir().expect("a folder");
    machine(folder.path());
    let other = folder.path().join("other");
    fs::create_dir_all(other.join("domains/example.net")).expect("a folder");
    let cases: &[(&str, &[&str])] = &[
        (
            "dns --format ",
            &["cloudflare", "json", "nsupdate", "terraform", "zone"],
        ),
        ("cert obtain --challenge dns", &["dns-01"]),
        ("cert revoke --reason su", &["superseded"]),
        ("dkim keygen --algorithm ", &["ed25519", "rsa"]),
        ("cert renew m", &["mail.example.com"]),
        ("dns e", &["example.com", "example.org"]),
        ("domain remove example.o", &["example.org"]),
        ("dkim sign --domain example.c", &["example.com"]),
        ("queue show 0", &["00TNH7E000000"]),
        ("queue flush 00TNH7E000000 0", &["00TNH7E000000"]),
        ("user remove a", &["app@example.com"]),
        ("send --user app@e", &["app@example.com"]),
        ("alias resolve i", &["info@example.com"]),
        ("-C OTHER dns e", &["example.net"]),
    ];
    for (shell, words, head, ask) in [
        ("bash", &["--norc"][..], BASH, ""),
        ("zsh", &["-f"], ZSH, "print ."),
        ("fish", &["--no-config"], FISH, "echo ."),
    ] {
        let line = |case: &str| case.replace("OTHER", &other.display().to_string());
        let script: String = cases
            .iter()
            .map(|(case, _)| format!("asked 'chopar {}'\n{ask}\n", line(case)))
            .collect();
        let said = shell_with(folder.path(), shell, words, &format!("{head}{script}"));
        let answers: Vec<&str> = said.split(".\n").collect();
        assert_eq!(answers.len(), cases.len() + 1, "{shell}: {said}");
        for ((case, expected), answer) in cases.iter().zip(answers) {
            // zsh itself filters the candidates by the begun word.
            let begun = case.rsplit(' ').next().unwrap_or_default();
            let found: Words = answer
                .lines()
                .filter(|word| shell != "zsh" || word.starts_with(begun))
                .map(str::to_owned)
                .collect();
            // bash replaces only the part of the word after an @.
            let expected: Words = expected
                .iter()
                .map(|word| match (shell, begun.split_once('@')) {
                    ("bash", Some((local, _))) => word.replacen(local, "", 1),
                    _ => (*word).to_owned(),
                })
                .collect();
            assert_eq!(found, expected, "{shell}: chopar {case}");
        }
    }
    let said = shell_with(
        folder.path(),
        "bash",
        &["--norc"],
        &format!("{BASH}asked 'chopar alias remove '\nasked 'chopar alias remove \\*'\n"),
    );
    let found: Vec<&str> = said
        .lines()
        .filter(|word| !word.starts_with("--"))
        .collect();
    assert_eq!(
        found,
        [
            "\\*@example.com",
            "info@example.com",
            ".",
            "\\*@example.com",
            "."
        ]
    );
}

#[test]
fn no_command_that_takes_a_domain_or_a_message_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    machine(folder.path());
    let mut commands = BTreeMap::new();
    expected(&[], &mut commands);
    let mut script = BASH.to_owned();
    let mut wanted = Vec::new();
    for command in commands.keys() {
        // A new name cannot be known.
        if matches!(command.as_str(), "init" | "domain add") {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
            .args(command.split_ascii_whitespace())
            .arg("--help")
            .output()
            .expect("chopar runs");
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        let (_, arguments) = help
            .split_once("Positional Arguments:\n")
            .unwrap_or_default();
        let argument = arguments.split_ascii_whitespace().next();
        let value = match argument {
            Some("domain") => "example.com",
            Some("id" | "ids") => "00TNH7E000000",
            _ => continue,
        };
        script.push_str(&format!("asked 'chopar {command} '\n"));
        wanted.push((command, value));
    }
    assert!(wanted.len() > 10, "{wanted:?}");
    let said = shell_with(folder.path(), "bash", &["--norc"], &script);
    for ((command, value), answer) in wanted.iter().zip(said.split(".\n")) {
        let is_there = answer.lines().any(|word| word == *value);
        assert!(is_there, "chopar {command}: {answer}");
    }
}

#[test]
fn unknown_values_are_not_completed_and_cause_no_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let toml = format!("runtime_dir = \"{}\"\n", folder.path().display());
    fs::write(folder.path().join("chopar.toml"), toml).expect("a file");
    // A daemon that accepts the connection and never answers.
    let _listener = UnixListener::bind(folder.path().join("control.sock")).expect("a socket");
    for kind in [
        "messages",
        "users",
        "aliases",
        "certificates",
        "domains",
        "nonsense",
    ] {
        let begun = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
            .arg("-C")
            .arg(folder.path())
            .args(["completion", "values", kind])
            .output()
            .expect("chopar runs");
        assert!(output.status.success(), "{kind}: {output:?}");
        assert_eq!((output.stdout, output.stderr), (vec![], vec![]), "{kind}");
        let limit = chopar::limits::COMPLETION_TIME * 20;
        assert!(
            begun.elapsed() < limit.min(Duration::from_secs(50)),
            "{kind}"
        );
    }
}
