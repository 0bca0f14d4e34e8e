//! `chopar completion`: scripts by which a shell completes command lines.
//!
//! The scripts are made from the help of each command, which argh makes from the definitions of the arguments. They
//! therefore complete exactly the existing commands and options. Each script holds a table of the commands and the same
//! program: it follows the words before the cursor to the command that they name. The words that can come next are
//! words of ours, or names of the machine, for which the script asks chopar.

mod values;

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use argh::FromArgs;

use super::failure::Failure;
use super::output::printed;
use super::sysexits::USAGE;
use super::word::{Listing, Word};
use crate::escape::Escaped;
use crate::setup::shell_word::shell_word;
use values::{Values, of_argument, of_option};

/// Print the script that completes chopar command lines in a shell.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "completion")]
pub struct Completion {
    /// the shell: bash, fish or zsh
    #[argh(positional)]
    shell: String,
    /// with "values" in place of a shell, as the scripts call it: what is listed
    #[argh(positional, hidden_help)]
    kind: Option<String>,
}

impl Completion {
    /// Prints it.
    pub(super) fn run(
        &self,
        folder: &Path,
        listing: Listing,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        if let ("values", Some(kind)) = (self.shell.as_str(), &self.kind) {
            return values::print(kind, folder, output);
        }
        let shell = SHELLS.iter().find(|shell| shell.name == self.shell);
        let Some(shell) = shell else {
            let shown = Escaped(self.shell.as_bytes());
            let text = format!("no completion script for {shown}; choose bash, fish or zsh");
            return Err(Failure::new(USAGE, text));
        };
        printed(&(shell.script)(&commands(listing)), output)
    }
}

/// The scripts with their paths below the prefix, where each shell finds them itself.
pub(super) fn all(listing: Listing) -> Vec<(&'static str, String)> {
    let commands = commands(listing);
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

/// A command or a group, and the words that may follow it.
struct Command {
    /// Its words, such as `queue list`; none for chopar itself.
    path: String,
    /// The commands of a group, or the words that an argument may be.
    next: Vec<(String, String)>,
    /// The kind of names on the machine that an argument may be.
    of_machine: Option<&'static str>,
    /// Whether commands come next.
    is_group: bool,
    options: Vec<Word>,
}

impl Command {
    /// Its options with known values.
    fn options_with_values(&self) -> impl Iterator<Item = (&Word, Values)> {
        let options = self.options.iter();
        options.filter_map(|option| Some((option, of_option(&self.path, &option.name)?)))
    }
}

/// chopar itself and all that is below it.
fn commands(listing: Listing) -> Vec<Command> {
    let mut found = Vec::new();
    collect(&[], listing, &mut found);
    found
}

fn collect(before: &[&str], listing: Listing, found: &mut Vec<Command>) {
    let (options, commands): (Vec<Word>, Vec<Word>) = listing(before)
        .into_iter()
        .partition(|word| word.name.starts_with('-'));
    let path = before.join(" ");
    let mut next: Vec<(String, String)> = commands
        .iter()
        .map(|word| (word.name.clone(), word.about.clone()))
        .collect();
    let is_group = !next.is_empty();
    let (words, of_machine) = match of_argument(&path) {
        None if path == "completion" => (SHELLS.iter().map(|shell| shell.name).collect(), None),
        Some(Values::Words(words)) => (words, None),
        Some(Values::OfMachine(kind)) => (Vec::new(), Some(kind.word())),
        None => (Vec::new(), None),
    };
    next.extend(words.iter().map(|word| ((*word).to_owned(), String::new())));
    found.push(Command {
        path,
        next,
        of_machine,
        is_group,
        options,
    });
    for word in &commands {
        collect(&[before, &[word.name.as_str()]].concat(), listing, found);
    }
}

/// Patterns of `COMMAND WORD`, for words that lead to a command of the group.
fn steps(commands: &[Command]) -> String {
    let groups = commands.iter().filter(|command| command.is_group);
    let steps = groups.flat_map(|command| {
        let words = command.next.iter();
        words.map(|(word, _)| format!("'{} {word}'", command.path))
    });
    steps.collect::<Vec<_>>().join("|")
}

/// Patterns of `COMMAND OPTION`, for options with a value.
fn valued(commands: &[Command]) -> String {
    let options = commands.iter().filter(|command| !command.path.is_empty());
    let options = options.flat_map(|command| {
        let options = command.options.iter().filter(|word| word.takes_value);
        options.map(|word| format!("'{} {}'", command.path, word.name))
    });
    options.collect::<Vec<_>>().join("|")
}

/// A case statement of the shells: the completion after each option with known values.
fn values_of_options(commands: &[Command], case: impl Fn(&str, &Values) -> String) -> String {
    let options = commands.iter().flat_map(|command| {
        let options = command.options_with_values();
        options.map(|(option, values)| (format!("{} {}", command.path, option.name), values))
    });
    options.map(|(at, values)| case(&at, &values)).collect()
}

fn bash(commands: &[Command]) -> String {
    let table = bash_table(commands);
    let values = values_of_options(commands, |at, values| match values {
        Values::Words(words) => format!("    '{at}') words='{}' ;;\n", words.join(" ")),
        Values::OfMachine(kind) => format!("    '{at}') kind={} ;;\n", kind.word()),
    });
    format!(
        "# Completion of chopar for bash, as `chopar completion bash` prints it.
_chopar() {{
    # Words as blanks part them: in COMP_WORDS an address is three.
    local line=${{COMP_LINE:0:COMP_POINT}} current= command= word words= kind= index
    local -a typed config
    read -ra typed <<< \"$line\"
    if [[ $line != *[[:space:]] ]]; then
        current=${{typed[*]: -1}}
        typed=(\"${{typed[@]:0:${{#typed[@]}}-1}}\")
    fi
    for ((index = 1; index < ${{#typed[@]}}; index++)); do
        word=${{typed[index]}}
        case $word in
        -C|--config) ((index++)); config=(-C \"${{typed[index]/#\\~\\//$HOME/}}\"); continue ;;
        esac
        case \"$command $word\" in
        {})
            command=\"${{command:+$command }}$word\" ;;
        esac
    done
    COMPREPLY=()
    case \"$command ${{typed[*]: -1}}\" in
    *' -C'|*' --config') mapfile -t COMPREPLY < <(compgen -d -- \"$current\"); return ;;
{values}    {}) return ;;
    *)
        case $command in
{table}        esac ;;
    esac
    [[ -z $kind || $current == -* ]] || words+=\" $(chopar \"${{config[@]}}\" completion values \"$kind\" 2>/dev/null </dev/null)\"
    # An asterisk that was completed is escaped. What stands in front of an @ is there and stays.
    current=${{current//\\\\/}}
    local begun=
    [[ $current != *@* || $COMP_WORDBREAKS != *@* ]] || begun=${{current%@*}}
    read -rd '' -a typed <<< \"$words\"
    for word in \"${{typed[@]}}\"; do
        [[ $word != \"$current\"* ]] || COMPREPLY+=(\"$(printf %q \"${{word#\"$begun\"}}\")\")
    done
}}
complete -o default -F _chopar chopar
",
        steps(commands),
        valued(commands)
    )
}

/// The words that may follow each command.
fn bash_table(commands: &[Command]) -> String {
    let mut table = String::new();
    for command in commands {
        let next = command.next.iter().map(|(word, _)| word.as_str());
        let options = command.options.iter().map(|word| word.name.as_str());
        let words: Vec<&str> = next.chain(options).collect();
        let kind = command
            .of_machine
            .map(|kind| format!(" kind={kind}"))
            .unwrap_or_default();
        let _ = writeln!(
            table,
            "        '{}') words='{}'{kind} ;;",
            command.path,
            words.join(" ")
        );
    }
    table
}

fn zsh(commands: &[Command]) -> String {
    let table = zsh_table(commands);
    let values = values_of_options(commands, |at, values| match values {
        Values::Words(words) => format!(
            "    ('{at}') values=({}); compadd -a values; return ;;\n",
            words.join(" ")
        ),
        Values::OfMachine(kind) => {
            format!("    ('{at}') _chopar_values {}; return ;;\n", kind.word())
        }
    });
    format!(
        "#compdef chopar
# Completion of chopar for zsh, as `chopar completion zsh` prints it.
_chopar_values() {{
    values=(${{(f)\"$(chopar $config completion values $1 2>/dev/null </dev/null)\"}})
    compadd -a values
}}
_chopar() {{
    local command= word kind=
    local -a next options values config
    integer index
    for ((index = 2; index < CURRENT; index++)); do
        word=${{words[index]}}
        case $word in
        (-C|--config) ((index++)); config=(-C ${{words[index]/#\\~\\//$HOME/}}); continue ;;
        esac
        case \"$command $word\" in
        ({})
            command=\"${{command:+$command }}$word\" ;;
        esac
    done
    case \"$command ${{words[CURRENT-1]}}\" in
    (*' -C'|*' --config') _files -/; return ;;
{values}    ({}) _files; return ;;
    esac
    case $command in
{table}    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe -o option options
    elif (( $#next )); then
        _describe command next
    elif [[ -n $kind ]]; then
        _chopar_values $kind
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

/// The same with a description of each word.
fn zsh_table(commands: &[Command]) -> String {
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
            "    ('{}')\n        next=({})\n        kind={}\n        options=({}) ;;",
            command.path,
            next.join(" "),
            command.of_machine.unwrap_or_default(),
            options.join(" ")
        );
    }
    table
}

fn fish(commands: &[Command]) -> String {
    let table = fish_table(commands);
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
function __chopar_values
    set -l config
    set -l words (commandline -opc)
    for index in (seq 2 (count $words))
        switch $words[$index]
            case -C --config
                set config -C (string replace -r '^~/' \"$HOME/\" -- $words[(math $index + 1)])
        end
    end
    chopar $config completion values $argv 2>/dev/null </dev/null
end
{table}",
        steps(commands).replace('|', " ")
    )
}

/// A line for each word that may come behind a command.
fn fish_table(commands: &[Command]) -> String {
    let mut table = String::new();
    let about = |about: &str| match about {
        "" => String::new(),
        about => format!(" -d {}", shell_word(about)),
    };
    for command in commands {
        let condition = format!("__chopar_at {}", command.path);
        let at = format!("complete -c chopar -n '{}'", condition.trim_end());
        if !command.next.is_empty() || command.of_machine.is_some() {
            let _ = writeln!(table, "{at} -f");
        }
        if let Some(kind) = command.of_machine {
            let _ = writeln!(table, "{at} -a '(__chopar_values {kind})'");
        }
        for (word, what) in &command.next {
            let _ = writeln!(table, "{at} -a {word}{}", about(what));
        }
        for option in &command.options {
            let short = option.short.as_deref().unwrap_or_default();
            let short = short
                .strip_prefix('-')
                .map(|letter| format!(" -s {letter}"));
            let value = match of_option(&command.path, &option.name) {
                Some(Values::Words(words)) => format!(" -x -a '{}'", words.join(" ")),
                Some(Values::OfMachine(kind)) => {
                    format!(" -x -a '(__chopar_values {})'", kind.word())
                }
                None if option.takes_value => " -r".to_owned(),
                None => String::new(),
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
    table
}
