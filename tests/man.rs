//! Checks the manual in both directions: keys, commands, flags, bounds, log events and members of JSON against the
//! pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chopar::cli::sendmail::flags::{FlagError, Flags};
use chopar::config::{Config, Folder, SystemDefaults};

type Words = BTreeSet<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("man").join(name)).expect("a manual page")
}

fn words<'a>(list: impl IntoIterator<Item = &'a str>) -> Words {
    list.into_iter().map(str::to_owned).collect()
}

/// Fails with the names that one side has and the other lacks.
fn assert_same(what: &str, there: &Words, in_manual: &Words) {
    let undocumented: Vec<_> = there.difference(in_manual).collect();
    let invented: Vec<_> = in_manual.difference(there).collect();
    assert!(
        undocumented.is_empty() && invented.is_empty(),
        "{what}: not in the manual: {undocumented:?}; only in the manual: {invented:?}"
    );
}

#[test]
fn pages_are_clean_mdoc() {
    let pages: Vec<PathBuf> = fs::read_dir(root().join("man"))
        .expect("the manual")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(pages.len() >= 4, "{pages:?}");
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(&pages)
        .output()
        .expect("mandoc is installed");
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success() && said.is_empty(), "{said}");
}

mod configuration {
    use super::*;

    /// The keys that the parser knows in a section, taken from its error about an unknown key.
    fn known(section: &str) -> Words {
        let text = match section {
            "" => "no-such-key = 1".to_owned(),
            "[[route]]" => "[[route]]\ndomain = \"*\"\nvia = []\nno-such-key = 1".to_owned(),
            section => format!("{section}\nno-such-key = 1"),
        };
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.into());
        folder.insert_folder("domains/example.com");
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        let errors = Config::parse(&folder, &defaults).expect_err("an unknown key");
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = text.join("\n");
        let list = text
            .split_once("unknown key `no-such-key`, expected ")
            .unwrap_or_else(|| panic!("{section}: {text}"))
            .1;
        words(list.split('`').skip(1).step_by(2))
    }

    /// The keys of the page by section; the top has the empty name.
    fn documented() -> BTreeMap<String, Words> {
        let text = page("chopar.toml.5");
        let (_, text) = text.split_once(".Ss Keys at the top\n").expect("the keys");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        let mut sections = BTreeMap::from([(String::new(), Words::new())]);
        let mut section = String::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix(".Ss ") {
                section = title.to_owned();
                sections.entry(section.clone()).or_default();
            } else if let Some(key) = line.strip_prefix(".It Ic ") {
                sections
                    .entry(section.clone())
                    .or_default()
                    .insert(key.to_owned());
            }
        }
        sections
    }

    #[test]
    fn every_key_has_its_default_in_the_manual() {
        let text = page("chopar.toml.5");
        let (_, text) = text.split_once(".Ss Keys at the top\n").expect("the keys");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        for item in text.split("\n.It Ic ").skip(1) {
            let (key, text) = item.split_once('\n').expect("what it does");
            let has_default = |line: &str| line.starts_with("Default:") || line == "Required.";
            assert!(text.lines().any(has_default), "{key}");
        }
    }

    fn assert_valid(text: &str) {
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.to_owned().into());
        folder.insert_file("secrets/ses", "login\npassword\n".into());
        folder.insert_file("hooks/dns-01", "#!/bin/sh\n".into());
        folder.insert_folder("domains/example.com");
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        let errors = Config::parse(&folder, &defaults).err();
        assert!(errors.is_none(), "{text}: {errors:?}");
    }

    #[test]
    fn the_tasks_of_the_manual_can_be_copied() {
        let text = page("chopar.toml.5");
        let (_, text) = text.split_once(".Sh COMMON TASKS\n").expect("the tasks");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        let mut tasks = 0;
        for block in text.split(".Bd -literal -offset indent\n").skip(1) {
            let (block, _) = block.split_once(".Ed").expect("its end");
            assert_valid(block);
            tasks += 1;
        }
        assert!(tasks >= 8, "{tasks}");
    }

    #[test]
    fn the_examples_of_the_keys_can_be_copied() {
        let text = page("chopar.toml.5");
        let (_, text) = text.split_once(".Ss Keys at the top\n").expect("the keys");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        let (mut section, mut examples) = (String::new(), 0);
        for line in text.lines() {
            if let Some(title) = line.strip_prefix(".Ss ") {
                section = title.to_owned();
            } else if let Some(example) = line.strip_prefix(".Dl ") {
                let example = example.replace("\\(dq", "\"");
                let missing = match section.as_str() {
                    "[[route]]" if example.starts_with("via") => "domain = \"*\"",
                    "[[route]]" if example.starts_with("auth") => {
                        "domain = \"*\"\nvia = [\"smtps://relay.example.net\"]"
                    }
                    "[[route]]" => "via = [\"smtps://relay.example.net\"]",
                    "[listen]" if example.starts_with("proxy") => {
                        "[proxy]\nnetworks = [\"10.0.0.2\"]"
                    }
                    _ => "",
                };
                assert_valid(&format!("{section}\n{example}\n{missing}\n"));
                examples += 1;
            }
        }
        assert!(examples > 30, "{examples}");
    }

    #[test]
    fn every_key_is_in_the_manual_and_every_key_of_the_manual_is_known() {
        let documented = documented();
        for (section, keys) in &documented {
            let mut there = known(section);
            if section.is_empty() {
                for section in documented.keys().filter(|section| !section.is_empty()) {
                    let name = section.trim_matches(['[', ']']).split('.').next();
                    let name = name.unwrap_or_default();
                    assert!(there.remove(name), "the manual has a section {section}");
                }
            }
            assert_same(&format!("keys of {section:?}"), &there, keys);
        }
    }
}

#[path = "man/completion.rs"]
mod completion;
#[path = "man/log.rs"]
mod log;
#[path = "man/sudo.rs"]
mod sudo;

mod commands {
    use super::*;

    /// Runs `chopar WORDS --help`; returns the listed commands and options.
    pub(super) fn help(command: &[&str]) -> (Words, Words) {
        let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
            .args(command)
            .arg("--help")
            .output()
            .expect("chopar runs");
        assert!(output.status.success(), "{command:?}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut list = "";
        let (mut commands, mut options) = (Words::new(), Words::new());
        for line in text.lines() {
            match line.strip_prefix("  ") {
                Some(entry) if !entry.starts_with(' ') => {
                    let first = entry.split([' ', ',']).next().unwrap_or_default();
                    let option = entry.split([' ', ',']).find(|word| word.starts_with("--"));
                    match (list, option) {
                        ("Commands:", _) => drop(commands.insert(first.to_owned())),
                        ("Options:", Some(option)) => drop(options.insert(option.to_owned())),
                        _ => {}
                    }
                }
                Some(_) => {}
                None if line.ends_with(':') => list = line,
                None => {}
            }
        }
        options.remove("--help");
        (commands, options)
    }

    /// Every command without subcommands, with its options.
    fn there(command: &[&str], found: &mut BTreeMap<String, Words>) {
        let (commands, options) = help(command);
        if commands.is_empty() {
            found.insert(command.join(" "), options);
        }
        for next in &commands {
            let mut longer = command.to_vec();
            longer.push(next);
            there(&longer, found);
        }
    }

    fn help_text(command: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
            .args(command)
            .arg("--help")
            .output()
            .expect("chopar runs");
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Checks the examples of a command and its subcommands, in the help and in the manual.
    fn check_example(command: &[&str]) {
        let text = help_text(command);
        let (_, example) = text
            .split_once("\nExample:\n  ")
            .unwrap_or_else(|| panic!("no example of {command:?}"));
        let words: Vec<&str> = example.split_ascii_whitespace().collect();
        let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
        let words = words.strip_prefix(&["chopar"]).expect("chopar");
        let words = match words {
            ["-C", _, rest @ ..] => rest,
            words => words,
        };
        assert!(words.starts_with(command), "{example}");
        let leaf: Vec<&str> = words
            .iter()
            .take_while(|word| !word.starts_with('-'))
            .copied()
            .collect();
        let known = (1..=leaf.len().min(2)).map(|len| help(&leaf[..len]).1);
        let known: Words = known.flatten().collect();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(known.contains(*option), "{option} in {example}");
        }
        let below = help(command).0;
        if below.is_empty() {
            let line = example.trim_end();
            let line = line.replace('\'', "\\(aq").replace('"', "\\(dq");
            let is_there = page("chopar.8").contains(&format!("Example:\n.Dl {line}\n"));
            assert!(is_there, "chopar(8) has not the example {line}");
        }
        for next in &below {
            check_example(&[command, &[next.as_str()]].concat());
        }
    }

    #[test]
    fn every_help_has_a_valid_example() {
        check_example(&[]);
    }

    fn documented() -> BTreeMap<String, Words> {
        let text = page("chopar.8");
        let (_, text) = text.split_once("\n.Sh COMMANDS\n").expect("the commands");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        let mut found = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(".It Ic ")) {
            let command: Vec<&str> = line
                .split(' ')
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .collect();
            let options = line
                .split(" Fl ")
                .skip(1)
                .map(|rest| format!("-{}", rest.split(' ').next().unwrap_or_default()))
                .collect();
            found.insert(command.join(" "), options);
        }
        found
    }

    #[test]
    fn every_command_and_option_is_in_the_manual_and_the_reverse() {
        let mut there_are = BTreeMap::new();
        there(&[], &mut there_are);
        // It has flags of its own, in sendmail(1).
        there_are.insert("sendmail".to_owned(), Words::new());
        let documented = documented();
        assert_same(
            "commands",
            &there_are.keys().cloned().collect(),
            &documented.keys().cloned().collect(),
        );
        for (command, options) in &there_are {
            assert_same(
                &format!("options of {command}"),
                options,
                &documented[command],
            );
        }
    }

    #[test]
    fn the_options_before_the_command_are_in_the_manual() {
        let (_, options) = help(&[]);
        let text = page("chopar.8");
        let (head, _) = text.split_once("\n.Sh COMMANDS\n").expect("the commands");
        for option in options {
            let flag = format!("-{}", option.trim_start_matches('-'));
            let named = |line: &str| {
                line.starts_with(".It Fl ") && line.split(' ').any(|word| word == flag)
            };
            assert!(head.lines().any(named), "{option}");
        }
    }
}

mod sendmail {
    use super::*;

    fn is_known(arguments: &[&str]) -> bool {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        !matches!(
            Flags::parse(&arguments),
            Err(FlagError::Unknown(_) | FlagError::NoMode(_))
        )
    }

    fn letters() -> impl Iterator<Item = char> {
        ('a'..='z').chain('A'..='Z')
    }

    /// The flags of `.It Fl a , b Ar value` lines.
    fn documented() -> Words {
        let mut found = Words::new();
        for line in page("sendmail.1").lines() {
            if let Some(flags) = line.strip_prefix(".It Fl ") {
                let flags = flags
                    .split(' ')
                    .take_while(|word| !matches!(*word, "Ar" | "Ns"));
                found.extend(flags.filter(|word| *word != ",").map(str::to_owned));
            }
        }
        found
    }

    #[test]
    fn every_flag_is_in_the_manual_and_the_reverse() {
        let mut there: Words = letters()
            .filter(|&letter| letter == 'b' || is_known(&[&format!("-{letter}"), "value"]))
            .map(String::from)
            .collect();
        let modes = letters().map(|letter| format!("b{letter}"));
        there.extend(modes.filter(|mode| is_known(&[&format!("-{mode}")])));
        there.extend(["-", "-help"].map(str::to_owned));
        assert_same("flags of sendmail", &there, &documented());
    }

    #[test]
    fn the_synopsis_has_every_letter() {
        let text = page("sendmail.1");
        let (_, rest) = text.split_once(".Op Fl ").expect("a synopsis");
        let synopsis: Words = rest
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .map(String::from)
            .collect();
        let single = documented()
            .into_iter()
            .filter(|flag| flag.len() == 1 && flag != "-");
        assert_same("letters of the synopsis", &single.collect(), &synopsis);
    }
}

mod limits {
    use super::*;

    /// Each bound as a number: bytes, milliseconds or a count.
    fn constants() -> BTreeMap<String, u64> {
        let text = fs::read_to_string(root().join("src/limits.rs")).expect("the bounds");
        let mut found = BTreeMap::new();
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("pub const "))
        {
            let (name, rest) = line.split_once(':').expect("a type");
            let (_, value) = rest.split_once(" = ").expect("a value");
            let value = value.trim_end_matches(';');
            let (scale, product) = match value.strip_prefix("Duration::from_") {
                None => (1, value),
                Some(rest) => {
                    let (unit, product) = rest.split_once('(').expect("an argument");
                    let scale = if unit == "secs" { 1_000 } else { 1 };
                    (scale, product.trim_end_matches(')'))
                }
            };
            let factors = product.split('*').map(|factor| {
                let digits = factor.trim().replace('_', "");
                digits.parse::<u64>().expect("a number")
            });
            found.insert(name.to_owned(), scale * factors.product::<u64>());
        }
        found
    }

    /// The number at the start of a value.
    fn amount(text: &str) -> u64 {
        let mut parts = text.split([' ', ':', '.']);
        let number: u64 = parts.next().unwrap_or_default().parse().expect("a number");
        let unit = match parts.next().unwrap_or_default() {
            "KiB" => 1_024,
            "MiB" => 1_024 * 1_024,
            "second" | "seconds" => 1_000,
            "minute" | "minutes" => 60_000,
            "hour" | "hours" => 3_600_000,
            "day" | "days" => 86_400_000,
            _ => 1, // bytes, milliseconds, or a count
        };
        number * unit
    }

    #[test]
    fn every_bound_is_in_the_manual_with_its_value_and_the_reverse() {
        let text = page("chopar-limits.7");
        let mut documented = BTreeMap::new();
        let mut item = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(".It Dv ") {
                assert_eq!(item.replace(name), None, "a limit without its value");
            } else if let Some(name) = item {
                let word = match name.ends_with("_DEFAULT") {
                    true => "Default: ",
                    false => "Value: ",
                };
                if let Some(value) = line.strip_prefix(word) {
                    documented.insert(name.to_owned(), amount(value));
                    item = None;
                }
            }
        }
        let constants = constants();
        assert!(constants.len() > 50, "the bounds were found");
        assert_same(
            "bounds",
            &constants.keys().cloned().collect(),
            &documented.keys().cloned().collect(),
        );
        for (name, value) in &constants {
            assert_eq!(documented[name], *value, "{name}");
        }
    }
}

mod checks {
    use super::*;
    use chopar::setup::doctor::checks::ALL;

    #[test]
    fn every_check_of_doctor_is_in_the_manual_and_the_reverse() {
        let text = page("chopar.8");
        let (_, text) = text.split_once("\n.Sh DOCTOR\n").expect("the checks");
        let (text, _) = text.split_once("\n.Sh ").expect("another section");
        let documented = text.lines().filter_map(|line| line.strip_prefix(".It Li "));
        let there = ALL.iter().map(|check| check.id);
        assert_same("checks of doctor", &words(there), &words(documented));
    }
}

mod figures {
    use super::*;

    #[test]
    fn every_figure_is_in_the_manual_and_the_reverse() {
        let source =
            fs::read_to_string(root().join("src/engine/status/figures.rs")).expect("the figures");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        let is_figure = |text: &&str| text.starts_with("chopar_");
        let there = words(source.split('"').filter(is_figure));
        let page = page("chopar-status.7");
        let (_, page) = page.split_once(".Sh FIGURES").expect("the figures");
        let items = page.lines().filter_map(|line| line.strip_prefix(".It Li "));
        assert_same("figures", &there, &words(items));
    }
}
