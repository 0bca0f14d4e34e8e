//! `chopar completion`: scripts by which a shell completes command lines.
//!
//! They are made from the help of each command, which argh makes from the definitions of the arguments: a command or an
//! option that is there is completed, and no other. Each script holds a table of the commands; what it does with the table
//! is the same for all of them: it goes through the words in front of the cursor to the command that they name.

use std::fmt::Write as _;
use std::io::Write;

use argh::FromArgs;

use super::failure::Failure;
use super::help::{self, Word};
use super::man;
use super::sysexits::USAGE;
use crate::escape::Escaped;
use crate::setup::shell_word::shell_word;

/// Print the script by which a shell completes command lines of chopar.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "completion")]
pub struct Completion {
    /// the shell: bash, fish or zsh
    #[argh(positional)]
    shell: String,
}

impl Completion {
    /// Prints it.
    pub fn run(&self, output: &mut dyn Write) -> Result<(), Failure> {
        let shell = SHELLS.iter().find(|shell| shell.name == self.shell);
        let Some(shell) = shell else {
            let shown = Escaped(self.shell.as_bytes());
            let text = format!("there is no script for {shown}; name one of bash, fish and zsh");
            return Err(Failure::new(USAGE, text));
        };
        super::printed(&(shell.script)(&commands()), output)
    }
}

/// The scripts with their places below the prefix, where each shell finds them by itself.
pub(super) fn all() -> Vec<(&'static str, String)> {
    let commands = commands();
    let scripts = SHELLS.iter();
    scripts
        .map(|shell| (shell.place, (shell.script)(&commands)))
        .collect()
}

struct Shell {
    name: &'static str,
    place: &'static str,
    script: fn(&[Command]) -> String,
}

const SHELLS: &[Shell] = &[
    Shell {
        name: "bash",
        place: "share/bash-completion/completions/chopar",
        script: bash,
    },
    Shell {
        name: "fish",
        place: "share/fish/vendor_completions.d/chopar.fish",
        script: fish,
    },
    Shell {
        name: "zsh",
        place: "share/zsh/site-functions/_chopar",
        script: zsh,
    },
];

/// A command or a group of them, and what may come behind it.
struct Command {
    /// Its words, such as `queue list`; none for chopar itself.
    path: String,
    /// The commands of a group, or the values that an argument may have.
    next: Vec<(String, String)>,
    /// Whether those are commands.
    is_group: bool,
    options: Vec<Word>,
}

/// chopar itself and all that is below it.
fn commands() -> Vec<Command> {
    let mut found = Vec::new();
    collect(&[], &mut found);
    found
}

fn collect(words: &[&str], found: &mut Vec<Command>) {
    let (options, commands): (Vec<Word>, Vec<Word>) = help::words(words)
        .into_iter()
        .partition(|word| word.name.starts_with('-'));
    let path = words.join(" ");
    let mut next: Vec<(String, String)> = commands
        .iter()
        .map(|word| (word.name.clone(), word.about.clone()))
        .collect();
    let is_group = !next.is_empty();
    let values = match path.as_str() {
        "completion" => SHELLS.iter().map(|shell| shell.name).collect(),
        "man" => man::names(),
        _ => Vec::new(),
    };
    next.extend(
        values
            .into_iter()
            .map(|value| (value.to_owned(), String::new())),
    );
    found.push(Command {
        path,
        next,
        is_group,
        options,
    });
    for word in &commands {
        collect(&[words, &[word.name.as_str()]].concat(), found);
    }
}

/// Patterns of `COMMAND WORD`, where the word leads on from the command to one of its own.
fn steps(commands: &[Command]) -> String {
    let groups = commands.iter().filter(|command| command.is_group);
    let steps = groups.flat_map(|command| {
        let words = command.next.iter();
        words.map(|(word, _)| format!("'{} {word}'", command.path))
    });
    steps.collect::<Vec<_>>().join("|")
}

/// Patterns of `COMMAND OPTION`, where the option has a value.
fn valued(commands: &[Command]) -> String {
    let options = commands.iter().filter(|command| !command.path.is_empty());
    let options = options.flat_map(|command| {
        let options = command.options.iter().filter(|word| word.takes_value);
        options.map(|word| format!("'{} {}'", command.path, word.name))
    });
    options.collect::<Vec<_>>().join("|")
}

fn bash(commands: &[Command]) -> String {
    let mut table = String::new();
    for command in commands {
        let next = command.next.iter().map(|(word, _)| word.as_str());
        let options = command.options.iter().map(|word| word.name.as_str());
        let words: Vec<&str> = next.chain(options).collect();
        let _ = writeln!(
            table,
            "    '{}') words='{}' ;;",
            command.path,
            words.join(" ")
        );
    }
    format!(
        "# Completion of chopar for bash, as `chopar completion bash` prints it.
_chopar() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command= word words index
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $word in
        -C|--config) ((index++)); continue ;;
        esac
        case \"$command $word\" in
        {})
            command=\"${{command:+$command }}$word\" ;;
        esac
    done
    COMPREPLY=()
    word=${{COMP_WORDS[COMP_CWORD-1]}}
    case \"$command $word\" in
    *' -C'|*' --config') mapfile -t COMPREPLY < <(compgen -d -- \"$current\"); return ;;
    {}) return ;;
    esac
    case $command in
{table}    esac
    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")
}}
complete -o default -F _chopar chopar
",
        steps(commands),
        valued(commands)
    )
}

fn zsh(commands: &[Command]) -> String {
    let mut table = String::new();
    let described = |word: &str, about: &str| match about {
        "" => shell_word(word),
        about => shell_word(&format!("{word}:{about}")),
    };
    for command in commands {
        let next = command.next.iter();
        let next: Vec<String> = next.map(|(word, about)| described(word, about)).collect();
        let options = command.options.iter();
        let options: Vec<String> = options
            .map(|word| described(&word.name, &word.about))
            .collect();
        let _ = writeln!(
            table,
            "    ('{}')\n        next=({})\n        options=({}) ;;",
            command.path,
            next.join(" "),
            options.join(" ")
        );
    }
    format!(
        "#compdef chopar
# Completion of chopar for zsh, as `chopar completion zsh` prints it.
_chopar() {{
    local command= word
    local -a next options
    integer index
    for ((index = 2; index < CURRENT; index++)); do
        word=${{words[index]}}
        case $word in
        (-C|--config) ((index++)); continue ;;
        esac
        case \"$command $word\" in
        ({})
            command=\"${{command:+$command }}$word\" ;;
        esac
    done
    case \"$command ${{words[CURRENT-1]}}\" in
    (*' -C'|*' --config') _files -/; return ;;
    ({}) _files; return ;;
    esac
    case $command in
{table}    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe -o option options
    elif (( $#next )); then
        _describe command next
    else
        _files
    fi
}}
if [[ ${{funcstack[1]}} == _chopar ]]; then _chopar \"$@\"; else compdef _chopar chopar; fi
",
        steps(commands),
        valued(commands)
    )
}

fn fish(commands: &[Command]) -> String {
    let mut table = String::new();
    let about = |about: &str| match about {
        "" => String::new(),
        about => format!(" -d {}", shell_word(about)),
    };
    for command in commands {
        let condition = format!("__chopar_at {}", command.path);
        let at = format!("complete -c chopar -n '{}'", condition.trim_end());
        if !command.next.is_empty() {
            let _ = writeln!(table, "{at} -f");
        }
        for (word, what) in &command.next {
            let _ = writeln!(table, "{at} -a {word}{}", about(what));
        }
        for option in &command.options {
            let short = option.short.as_deref().unwrap_or_default();
            let short = short
                .strip_prefix('-')
                .map(|letter| format!(" -s {letter}"));
            let value = match option.takes_value {
                true => " -r",
                false => "",
            };
            let _ = writeln!(
                table,
                "{at}{} -l {}{value}{}",
                short.unwrap_or_default(),
                option.name.trim_start_matches('-'),
                about(&option.about)
            );
        }
    }
    format!(
        "# Completion of chopar for fish, as `chopar completion fish` prints it.
function __chopar_at
    set -l at ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case -C --config
                set skip 1
                continue
        end
        switch \"$at $word\"
            case {}
                set at (string trim -- \"$at $word\")
        end
    end
    test \"x$at\" = \"x$argv\"
end
{table}",
        steps(commands).replace('|', " ")
    )
}
