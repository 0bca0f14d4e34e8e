//! The parts of `--help` besides the options, and suggestions for unknown words.

use argh::FromArgs as _;

use super::arguments::Arguments;
use super::word::Word;
use crate::nearest::{did_you_mean, nearest};

/// One example for each command and each group of them.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "",
        "sudo chopar init example.com --forward-to you@gmail.com",
    ),
    (
        "alias",
        "sudo chopar alias add '*@example.com' you@gmail.com",
    ),
    (
        "alias add",
        "sudo chopar alias add info@example.com you@gmail.com",
    ),
    ("alias list", "sudo chopar alias list example.com"),
    ("alias remove", "sudo chopar alias remove info@example.com"),
    (
        "alias resolve",
        "sudo chopar alias resolve info@example.com",
    ),
    ("arc", "chopar arc verify message.eml"),
    ("arc seal", "sudo chopar arc seal message.eml > sealed.eml"),
    ("arc verify", "chopar arc verify message.eml"),
    ("cert", "sudo chopar cert obtain --agree"),
    ("cert hook", "chopar cert hook nsupdate > dns-01"),
    ("cert list", "sudo chopar cert list --json"),
    (
        "cert obtain",
        "sudo chopar cert obtain --agree mail.example.com",
    ),
    (
        "cert renew",
        "sudo chopar cert renew mail.example.com --force",
    ),
    (
        "cert revoke",
        "sudo chopar cert revoke mail.example.com --reason key-compromise",
    ),
    ("check", "sudo chopar check"),
    (
        "completion",
        "chopar completion bash > ~/.local/share/bash-completion/completions/chopar",
    ),
    ("demo", "chopar demo"),
    ("dkim", "sudo chopar dkim record example.com"),
    (
        "dkim keygen",
        "sudo chopar dkim keygen --selector s1 example.com",
    ),
    ("dkim record", "sudo chopar dkim record --json example.com"),
    (
        "dkim sign",
        "sudo chopar dkim sign message.eml > signed.eml",
    ),
    ("dkim verify", "chopar dkim verify message.eml"),
    ("dns", "sudo chopar dns example.com --watch"),
    ("doctor", "sudo chopar doctor example.com"),
    ("domain", "sudo chopar domain add example.com"),
    ("domain add", "sudo chopar domain add example.com"),
    ("domain list", "chopar domain list --json"),
    ("domain remove", "sudo chopar domain remove example.com"),
    (
        "import",
        "sudo chopar import postfix --into /etc/chopar.new",
    ),
    (
        "import chasquid",
        "sudo chopar import chasquid --into /etc/chopar.new",
    ),
    (
        "import postfix",
        "sudo chopar import postfix --into /etc/chopar.new",
    ),
    (
        "init",
        "sudo chopar init example.com --forward-to you@gmail.com",
    ),
    ("man", "chopar man sendmail"),
    ("queue", "sudo chopar queue flush"),
    ("queue flush", "sudo chopar queue flush 00TNH7E000000"),
    ("queue hold", "sudo chopar queue hold --all"),
    ("queue list", "sudo chopar queue list --jsonl"),
    ("queue release", "sudo chopar queue release --all"),
    ("queue remove", "sudo chopar queue remove 00TNH7E000000"),
    ("queue show", "sudo chopar queue show 00TNH7E000000"),
    ("queue stats", "sudo chopar queue stats --json"),
    ("reload", "sudo chopar reload"),
    ("report", "sudo chopar report example.com --days 90"),
    ("send", "sudo chopar send you@gmail.com"),
    ("run", "chopar -C ./config run"),
    (
        "spf",
        "chopar spf --ip 192.0.2.1 --from someone@example.com",
    ),
    ("top", "sudo chopar top"),
    ("user", "sudo chopar user add app@example.com"),
    (
        "user add",
        "sudo chopar user add --send-as '*@example.com' app@example.com",
    ),
    ("user list", "sudo chopar user list example.com"),
    ("user passwd", "sudo chopar user passwd app@example.com"),
    ("user remove", "sudo chopar user remove app@example.com"),
    ("user verify", "sudo chopar user verify app@example.com"),
];

/// The help that was asked for with these words, with an example.
pub(super) fn with_example(help: &str, words: &[&str]) -> String {
    let command = command_of(words).join(" ");
    let example = EXAMPLES.iter().find(|(name, _)| *name == command);
    match example {
        Some((_, example)) => format!("{help}\nExample:\n  {example}\n"),
        None => help.to_owned(),
    }
}

/// The problem of words that are not a command line; `error` is the error of their parser.
pub(super) fn error(words: &[&str], error: &str) -> String {
    let command = command_of(words);
    let before: Vec<&str> = std::iter::once("chopar").chain(command.clone()).collect();
    let name = before.join(" ");
    let listed = listed(&command);
    // A word that is not one of a group's commands; a refused value is reported in the parser's words.
    let is_group = EXAMPLES.iter().any(|(longer, _)| {
        let rest = longer.strip_prefix(command.join(" ").as_str());
        match command.is_empty() {
            true => !longer.is_empty(),
            false => rest.is_some_and(|rest| rest.starts_with(' ')),
        }
    });
    let behind = behind_config(words).iter().skip(command.len());
    let mut behind = behind.copied();
    let unknown = behind.find(|word| {
        let is_option = word.starts_with("--") && word.len() > 2;
        let known = listed.iter().any(|listed| listed == word);
        !known && (is_option || is_group && !word.starts_with('-'))
    });
    let Some(unknown) = unknown else {
        return with_way(words, &in_our_words(&name, error));
    };
    let kind = match unknown.starts_with('-') {
        true => "option",
        false => "command",
    };
    let near = nearest(unknown, &listed);
    let wrong = format!("`{name}` has no {kind} `{unknown}`{}", did_you_mean(&near));
    // The example is of the command that was meant, as far as that is known.
    let mut example_of = command.clone();
    example_of.extend(near.first().filter(|_| kind == "command"));
    way(&wrong, &command, &example_of)
}

/// The problem of a command line, with an example of the command and where to read on.
pub(super) fn with_way(words: &[&str], wrong: &str) -> String {
    let command = command_of(words);
    way(wrong, &command, &command)
}

/// The same for a known command, with an example of this one or another.
fn way(wrong: &str, command: &[&str], example_of: &[&str]) -> String {
    let (command, example_of) = (command.join(" "), example_of.join(" "));
    let blank = if command.is_empty() { "" } else { " " };
    let example = EXAMPLES.iter().find(|(name, _)| *name == example_of);
    let example = example.map_or("chopar --help", |(_, example)| example);
    let end = if wrong.ends_with('?') { "" } else { ";" };
    format!("{wrong}{end} for example: {example}; `chopar {command}{blank}--help` says more")
}

/// The parser's error about a command line, in our words.
fn in_our_words(name: &str, error: &str) -> String {
    let between = |front: &str| error.strip_prefix(front)?.split_once('\'');
    let value = |rest: &str| {
        let (value, why) = rest.strip_prefix(" with value '")?.split_once("': ")?;
        Some((value.to_owned(), why.trim_end().to_owned()))
    };
    if let Some((option, rest)) = between("Error parsing option '") {
        return match value(rest) {
            Some((_, why)) if why == "duplicate values provided" => {
                format!("`{option}` is given twice")
            }
            Some((value, why)) => format!("`{option} {value}`: {why}"),
            None => one_line(error),
        };
    }
    if let Some((argument, rest)) = between("Error parsing positional argument '") {
        return match value(rest) {
            Some((value, why)) => format!("{} `{value}`: {why}", capital(argument)),
            None => one_line(error),
        };
    }
    if let Some((option, _)) = between("No value provided for option '") {
        return format!("`{option}` needs a value");
    }
    if let Some(word) = error.strip_prefix("Unrecognized argument: ") {
        return format!(
            "`{name}` does not take `{}`",
            one_line(word).trim_matches('"')
        );
    }
    let listed = |heading: &str| -> Vec<&str> {
        let lines = error.lines().skip_while(|line| !line.starts_with(heading));
        let lines = lines.skip(1).take_while(|line| line.starts_with(' '));
        lines
            .map(str::trim)
            .filter(|word| *word != "help")
            .collect()
    };
    let mut needed: Vec<String> = listed("Required positional arguments")
        .into_iter()
        .map(capital)
        .collect();
    needed.extend(listed("Required options").into_iter().map(str::to_owned));
    let commands = listed("One of the following subcommands");
    if !commands.is_empty() {
        needed.push(format!("one of {}", commands.join(", ")));
    }
    match needed.is_empty() {
        true => one_line(error),
        false => format!("`{name}` needs {}", needed.join(" and ")),
    }
}

fn one_line(error: &str) -> String {
    let first = error.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_ascii_whitespace().collect();
    words.join(" ")
}

/// The name of an argument, as help shows it.
fn capital(argument: &str) -> String {
    argument.to_uppercase().replace('_', "-")
}

/// The words that name the command: the longest start that is one.
fn command_of<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut command: Vec<&str> = Vec::new();
    for word in behind_config(words) {
        let longer = [command.as_slice(), &[*word]].concat().join(" ");
        if !EXAMPLES.iter().any(|(name, _)| *name == longer) {
            break;
        }
        command.push(*word);
    }
    command
}

/// The words after the name of the configuration folder, which comes first.
fn behind_config<'a, 'b>(words: &'b [&'a str]) -> &'b [&'a str] {
    match words {
        ["-C" | "--config", _, rest @ ..] => behind_config(rest),
        words => words,
    }
}

/// The commands and options that the help of a command lists.
pub(super) fn words(command: &[&str]) -> Vec<Word> {
    let words = [command, &["--help"]].concat();
    let Err(early) = Arguments::from_args(&["chopar"], &words) else {
        return Vec::new();
    };
    let usage = early.output.lines().next().unwrap_or_default();
    let takes_value = |name: &str| usage.contains(&format!("{name} <"));
    let mut found: Vec<Word> = Vec::new();
    let mut is_listing = false;
    for line in early.output.lines() {
        let Some(entry) = line.strip_prefix("  ") else {
            is_listing = matches!(line, "Options:" | "Commands:");
            continue;
        };
        if !is_listing {
            continue;
        }
        // Behind a name that is long, and in further lines, there is the rest of the description.
        let is_further = entry.starts_with(' ');
        if let (true, Some(word)) = (is_further, found.last_mut()) {
            let blank = if word.about.is_empty() { "" } else { " " };
            word.about.push_str(&format!("{blank}{}", entry.trim()));
            continue;
        }
        let (names, about) = entry.split_once("  ").unwrap_or((entry, ""));
        let mut names = names.split([' ', ',']).filter(|name| !name.is_empty());
        let Some(first) = names.next() else {
            continue;
        };
        let (name, short) = match names.find(|name| name.starts_with("--")) {
            Some(long) => (long, Some(first)),
            None => (first, None),
        };
        found.push(Word {
            takes_value: takes_value(name) || short.is_some_and(takes_value),
            name: name.to_owned(),
            short: short.map(str::to_owned),
            about: about.trim().to_owned(),
        });
    }
    found
}

/// Their names.
fn listed(command: &[&str]) -> Vec<String> {
    words(command).into_iter().map(|word| word.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_is_near() {
        for (words, sentence) in [
            (
                &["quue", "list"][..],
                "`chopar` has no command `quue`; did you mean `queue`? for example: sudo chopar queue flush",
            ),
            (
                &["-C", "x", "queue", "lsit"],
                "`chopar queue` has no command `lsit`; did you mean `list`? for example: sudo chopar queue list --jsonl; \
                 `chopar queue --help` says more",
            ),
            (
                &["queue", "re"],
                "`chopar queue` has no command `re`; did you mean `release` or `remove`? for",
            ),
            (
                &["queue", "list", "--jsn"],
                "`chopar queue list` has no option `--jsn`; did you mean `--json`? for",
            ),
            (
                &["nosuch"],
                "`chopar` has no command `nosuch`; for example: ",
            ),
        ] {
            let said = error(words, "Unrecognized argument: x\n");
            assert!(said.starts_with(sentence), "{said}");
        }
    }

    #[test]
    fn what_the_parser_says_is_said_in_our_words_with_an_example() {
        for (words, sentence) in [
            (
                &["spf"][..],
                "`chopar spf` needs --ip; for example: chopar spf --ip 192.0.2.1 --from someone@example.com; \
                 `chopar spf --help` says more",
            ),
            (&["user", "add"], "`chopar user add` needs ADDRESS; for"),
            (
                &["queue"],
                "`chopar queue` needs one of list, show, flush, hold, release, remove, stats; for",
            ),
            (&["spf", "--ip"], "`--ip` needs a value; for"),
            (
                &["spf", "--ip", "1.2.3.4", "--ip", "1.2.3.5"],
                "`--ip` is given twice; for",
            ),
            (
                &["spf", "--ip", "1.2.3"],
                "`--ip 1.2.3`: invalid IP address syntax; for",
            ),
            (
                &["man", "sendmail", "mailq"],
                "`chopar man` does not take `mailq`; for",
            ),
            (
                &["queue", "list", "-x"],
                "`chopar queue list` does not take `-x`; for",
            ),
        ] {
            let early = Arguments::from_args(&["chopar"], words).expect_err("no command line");
            let said = error(words, &early.output);
            assert!(said.starts_with(sentence), "{said}");
        }
    }

    #[test]
    fn nothing_of_the_parser_is_left_for_any_command() {
        for (command, _) in EXAMPLES {
            let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
            let bad = [words.as_slice(), &["a", "b", "c", "-x"]].concat();
            for words in [words.as_slice(), bad.as_slice()] {
                let Err(early) = Arguments::from_args(&["chopar"], words) else {
                    continue;
                };
                let said = error(words, &early.output);
                for raw in [
                    "Required",
                    "One of the",
                    "Error parsing",
                    "Unrecognized",
                    "No value",
                ] {
                    assert!(!said.contains(raw), "{words:?}: {said}");
                }
                assert!(said.contains("for example: "), "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
        }
    }
}
