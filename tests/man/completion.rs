//! `chopar completion`, run in the shells that it is for: what they complete is what the help lists.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Words;
use super::commands::help;

/// Each command and group of them with the words that may come next, and with its options.
fn expected(command: &[&str], found: &mut BTreeMap<String, (Words, Words)>) {
    let (mut next, mut options) = help(command);
    for word in &next {
        expected(&[command, &[word.as_str()]].concat(), found);
    }
    let values: &[&str] = match command {
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

/// What a shell says when it reads the script of chopar and then this one.
fn shell(name: &str, words: &[&str], script: &str) -> String {
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

/// Asks a shell for what comes behind each command, by a script with one `ask START` a command, where it answers in lines
/// up to one that is a dot: the words that come next, and the options.
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

#[test]
fn bash_completes_every_command_and_option_and_no_other() {
    let head = "complete() { [ \"$*\" = '-o default -F _chopar chopar' ] && builtin complete \"$@\"; }\n\
                . \"$COMPLETION\"\n\
                [ \"$(builtin complete -p chopar)\" = 'complete -o default -F _chopar chopar' ] || exit 1\n\
                ask() { COMP_WORDS=(chopar \"$@\"); COMP_CWORD=$#; _chopar; printf '%s\\n' \"${COMPREPLY[@]}\" .; }\n";
    judge("bash", &["--norc"], head, |command| {
        format!("ask {command} ''\n")
    });
    // What has been begun; behind the folder; the value of an option is not one of our words.
    let asked = format!("{head}ask queue li\nask -C alias que\nask -C /us\nask spf --ip ''\n");
    let said = shell("bash", &["--norc"], &asked);
    assert_eq!(said, "list\n.\nqueue\n.\n/usr\n.\n.\n");
}

#[test]
fn zsh_completes_every_command_and_option_and_no_other() {
    // What is left of zsh's own functions: they take the names of the arrays that they show.
    let head = "compdef() { [[ \"$*\" == '_chopar chopar' ]] || exit 1; }\n\
                _describe() { print -l -- ${${(P)@[-1]}%%:*}; }\n\
                _files() { [[ -z $1 ]] || print folder; }\n\
                source $COMPLETION\n\
                asked() { words=(chopar \"$@\"); CURRENT=$#words; _chopar; }\n\
                ask() { asked \"$@\" ''; asked \"$@\" -; print -l '' .; }\n";
    judge("zsh", &["-f"], head, |command| format!("ask {command}\n"));
    let said = shell(
        "zsh",
        &["-f"],
        &format!("{head}asked -C ''\nasked spf --ip ''\nasked -C x domain ''\n"),
    );
    assert_eq!(said, "folder\nadd\nremove\nlist\n");
}

#[test]
fn fish_completes_every_command_and_option_and_no_other() {
    // complete -C answers as if somebody had pressed the key.
    let head = "source $COMPLETION\n\
                function asked; complete -C \"$argv\" | string replace -r '\\t.*' ''; end\n";
    judge("fish", &["--no-config"], head, |command| {
        let blank = if command.is_empty() { "" } else { " " };
        format!(
            "asked 'chopar {command}{blank}' | string match -v '*/*'\nasked 'chopar {command}{blank}--'\necho\necho .\n"
        )
    });
}
