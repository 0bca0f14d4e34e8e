//! The flags of sendmail(1) as callers really use them (Sendmail 8.18's operations guide, Postfix, OpenSMTPD, dma).
//!
//! The rules of getopt apply: letters without a value may be joined, a value is attached or the next argument, `--`
//! ends the flags. Flags that configure another program (queue intervals, log files, other configuration) are accepted
//! and ignored. A flag for a daemon, or for a mode that does not exist here, is an error.

use std::fmt;

use crate::escape::Escaped;

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [-v] [ADDRESS ...]
       mailq
       newaliases

Reads a message from standard input and submits it to chopar. Exit code 0: the message is on the disk.

Options:
  -t            also take recipients from To, Cc and Bcc, and remove Bcc
  -i            do not end the message at a line that is a single dot
  -f ADDRESS    the envelope sender; <> is the null sender
  -F NAME       the display name for a missing From field
  -v            print the reply of the daemon
  -bs           speak SMTP on standard input and output
  -bv           say for each address whether it is deliverable
  -bp           list the queue, like mailq
  -q            try to deliver the queue now
The other flags of Sendmail 8 are in sendmail(1).

Example:
  printf 'To: someone@example.net\\nSubject: hello\\n\\nhi\\n' | sendmail -t
";

/// The program that a caller meant: sendmail, a listing of the queue, newaliases, SMTP on standard input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// `-bm`: deliver the message on standard input.
    #[default]
    Deliver,
    /// `-bs`: speak SMTP on standard input and output.
    Smtp,
    /// `-bp`: list the queue.
    ListQueue,
    /// `-bi`, `-I`: rebuild the aliases (there is nothing to rebuild).
    NewAliases,
    /// `-bv`: verify that addresses can be delivered to.
    Verify,
    /// `-q…`: try to deliver the queue now.
    Flush,
    /// `--help`.
    Help,
}

/// Where recipients are read from besides the arguments.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RecipientSource {
    /// Only the arguments.
    #[default]
    Arguments,
    /// `-t`: the header too.
    Header,
}

/// The end of the message on standard input: end of file alone, or also a line with a single dot (`-i` is not set).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MessageEnd {
    /// A line that is a single dot, or the end of the input.
    #[default]
    Dot,
    /// `-i`: the end of the input alone.
    Input,
}

/// How much is said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verbosity {
    /// Errors only.
    #[default]
    Quiet,
    /// `-v`.
    Verbose,
}

/// A command line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    pub mode: Mode,
    /// Where recipients are read from.
    pub recipients_from: RecipientSource,
    pub end: MessageEnd,
    /// How much is said.
    pub verbosity: Verbosity,
    /// `-f`, `-r`: the envelope sender; empty or `<>` is the null reverse-path.
    pub sender: Option<String>,
    /// `-F`: the name for a From field that is missing.
    pub full_name: Option<String>,
    /// `-B`: 7BIT or 8BITMIME, in capitals.
    pub body: Option<String>,
    /// `-N`: the value of NOTIFY.
    pub notify: Option<String>,
    /// `-R`: FULL or HDRS, in capitals.
    pub dsn_return: Option<String>,
    /// `-V`: the envelope id.
    pub envelope_id: Option<String>,
    pub recipients: Vec<String>,
}

/// Why a command line cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FlagError {
    /// No such flag.
    Unknown(String),
    /// A flag without its value.
    NoValue(char),
    /// A mode that does not exist here.
    NoMode(String),
    /// A value that the flag cannot have.
    BadValue(char, String),
    /// An argument with a line end or another control character in it.
    Control(String),
}

impl fmt::Display for FlagError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(flag) => write!(
                out,
                "unknown flag {}; see sendmail(1)",
                Escaped(flag.as_bytes())
            ),
            Self::NoValue(flag) => write!(out, "the flag -{flag} needs a value"),
            Self::NoMode(mode) => {
                write!(
                    out,
                    "the mode -b{} does not exist; the daemon is started by `chopar run`",
                    Escaped(mode.as_bytes())
                )
            }
            Self::BadValue(flag, value) => {
                write!(
                    out,
                    "the flag -{flag} cannot have the value {}",
                    Escaped(value.as_bytes())
                )
            }
            Self::Control(text) => {
                write!(
                    out,
                    "an argument cannot hold control characters: {}",
                    Escaped(text.as_bytes())
                )
            }
        }
    }
}

impl std::error::Error for FlagError {}

impl Flags {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: &[String]) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        if let Some(bad) = arguments
            .iter()
            .find(|argument| argument.chars().any(char::is_control))
        {
            return Err(FlagError::Control(bad.clone()));
        }
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                flags.recipients.extend(rest.cloned());
                break;
            }
            if argument == "--help" {
                flags.mode = Mode::Help;
                break;
            }
            match argument.strip_prefix('-') {
                Some(letters) if !letters.is_empty() => flags.take(letters, &mut rest)?,
                _ => flags.recipients.push(argument.clone()),
            }
        }
        Ok(flags)
    }

    /// One argument that begins with a dash: letters without a value, up to one that takes the rest.
    fn take(
        &mut self,
        letters: &str,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), FlagError> {
        for (offset, letter) in letters.char_indices() {
            let attached = letters
                .get(offset.saturating_add(letter.len_utf8())..)
                .unwrap_or_default();
            match letter {
                't' => self.recipients_from = RecipientSource::Header,
                'i' => self.end = MessageEnd::Input,
                'v' => self.verbosity = Verbosity::Verbose,
                'I' => self.mode = Mode::NewAliases,
                'n' | 'm' | 'U' | 'G' | 'E' | 's' => {}
                'b' => return self.mode(attached),
                'q' => {
                    self.mode = Mode::Flush;
                    return Ok(());
                }
                // An attached value or none: debugging, error handling, local mailer of old.
                'd' | 'e' | 'M' => return Ok(()),
                letter => return self.take_value(letter, attached, rest),
            }
        }
        Ok(())
    }

    /// A letter whose value is attached to it, or the next argument.
    fn take_value(
        &mut self,
        letter: char,
        attached: &str,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), FlagError> {
        if !"frFBRNVhLpACXODo".contains(letter) {
            return Err(FlagError::Unknown(format!("-{letter}")));
        }
        let value = match attached {
            "" => rest.next().cloned().ok_or(FlagError::NoValue(letter))?,
            attached => attached.to_owned(),
        };
        match letter {
            'f' | 'r' => self.sender = Some(value),
            'F' => self.full_name = Some(value),
            'B' => self.body = Some(one_of('B', &value, &["7BIT", "8BITMIME"])?),
            'R' => {
                let text = one_of('R', &value, &["FULL", "HDRS", "HDR", "HEADERS"])?;
                self.dsn_return = Some(match text.as_str() {
                    "FULL" => text,
                    _ => "HDRS".to_owned(),
                });
            }
            'N' => self.notify = Some(notify(&value)?),
            // -XV is how Postfix spells VERP, which is not offered; any other -X would name a log file.
            'V' => self.envelope_id = Some(value),
            'o' => return self.option(&value, rest),
            // Taken with their value and ignored: hop count, syslog label, protocol, configuration, log file, options
            // of Sendmail's.
            _ => {}
        }
        Ok(())
    }

    /// An option of the form `-oX`.
    fn option(
        &mut self,
        text: &str,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), FlagError> {
        match text {
            "i" => self.end = MessageEnd::Input,
            // The aliases file: ours have a fixed place.
            "A" => drop(rest.next()),
            _ => {}
        }
        Ok(())
    }

    fn mode(&mut self, letter: &str) -> Result<(), FlagError> {
        self.mode = match letter {
            // `a` asks for line ends of the ARPANET, which any message gets.
            "m" | "q" | "a" => Mode::Deliver,
            "s" => Mode::Smtp,
            "p" => Mode::ListQueue,
            "i" => Mode::NewAliases,
            "v" => Mode::Verify,
            _ => return Err(FlagError::NoMode(letter.to_owned())),
        };
        Ok(())
    }
}

fn one_of(flag: char, value: &str, words: &[&str]) -> Result<String, FlagError> {
    let upper = value.to_ascii_uppercase();
    if words.contains(&upper.as_str()) {
        Ok(upper)
    } else {
        Err(FlagError::BadValue(flag, value.to_owned()))
    }
}

fn notify(value: &str) -> Result<String, FlagError> {
    let upper = value.to_ascii_uppercase();
    let valid = upper == "NEVER"
        || upper
            .split(',')
            .all(|word| matches!(word, "SUCCESS" | "FAILURE" | "DELAY"));
    if valid {
        Ok(upper)
    } else {
        Err(FlagError::BadValue('N', value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagError> {
        let words: Vec<String> = line
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| word.replace('_', " "))
            .collect();
        Flags::parse(&words)
    }

    fn flags(line: &str) -> Flags {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn debian_cron() {
        let flags = flags("-i -FCronDaemon -B8BITMIME -oem root");
        assert_eq!(flags.full_name.as_deref(), Some("CronDaemon"));
        assert_eq!(flags.body.as_deref(), Some("8BITMIME"));
        assert_eq!(
            (flags.end, flags.recipients.as_slice()),
            (MessageEnd::Input, &["root".to_owned()][..])
        );
    }

    #[test]
    fn cronie() {
        let flags = flags("-FCronDaemon -i -odi -oem -oi -t -f root");
        assert_eq!(
            (flags.recipients_from, flags.sender.as_deref()),
            (RecipientSource::Header, Some("root"))
        );
        assert!(flags.recipients.is_empty());
    }

    #[test]
    fn vixie_cron() {
        let flags = flags("-FCronDaemon -odi -oem -oi -t");
        assert_eq!(
            (flags.recipients_from, flags.end),
            (RecipientSource::Header, MessageEnd::Input)
        );
    }

    #[test]
    fn php_mail_and_its_fifth_argument() {
        assert_eq!(
            flags("-t -i -fbounces@example.com").sender.as_deref(),
            Some("bounces@example.com")
        );
    }

    #[test]
    fn phpmailer_and_wordpress() {
        let flags = flags("-oi -fa@example.com -t");
        assert_eq!(
            (flags.end, flags.recipients_from),
            (MessageEnd::Input, RecipientSource::Header)
        );
    }

    #[test]
    fn laravel_and_swift_speak_smtp() {
        assert_eq!(flags("-bs").mode, Mode::Smtp);
        assert_eq!(flags("-bs -i").mode, Mode::Smtp);
    }

    #[test]
    fn mutt() {
        let flags = flags("-oem -oi -f a@b.example -- -odd@c.example d@e.example");
        assert_eq!(flags.recipients, ["-odd@c.example", "d@e.example"]);
        assert_eq!(flags.sender.as_deref(), Some("a@b.example"));
    }

    #[test]
    fn at_and_atrun() {
        assert_eq!(flags("user").recipients, ["user"]);
        assert_eq!(
            flags("-F Atrun_Service -odi -oem user")
                .full_name
                .as_deref(),
            Some("Atrun Service")
        );
    }

    #[test]
    fn fail2ban_mailutils_git_logwatch() {
        assert_eq!(
            flags("-f fail2ban dest@example.com").sender.as_deref(),
            Some("fail2ban")
        );
        assert_eq!(
            flags("-f user@host rcpt").sender.as_deref(),
            Some("user@host")
        );
        assert_eq!(flags("-i a@b c@d").recipients, ["a@b", "c@d"]);
        assert_eq!(flags("-t").recipients_from, RecipientSource::Header);
    }

    #[test]
    fn the_null_sender_in_both_spellings() {
        assert_eq!(
            Flags::parse(&["-f".into(), String::new()]).map(|flags| flags.sender),
            Ok(Some(String::new()))
        );
        assert_eq!(flags("-f <> a@b").sender.as_deref(), Some("<>"));
    }

    #[test]
    fn help_is_a_mode_and_no_recipient() {
        assert_eq!(flags("--help").mode, Mode::Help);
        assert_eq!(flags("-- --help").recipients, ["--help"]);
        assert_eq!(flags("-ba a@b").mode, Mode::Deliver);
    }

    #[test]
    fn letters_without_value_may_be_joined() {
        let flags = flags("-tiv");
        assert_eq!(
            (flags.recipients_from, flags.verbosity),
            (RecipientSource::Header, Verbosity::Verbose)
        );
    }

    #[test]
    fn q_takes_only_what_is_attached() {
        assert_eq!(flags("-q").mode, Mode::Flush);
        let flags = flags("-q15m user@example.com");
        assert_eq!((flags.mode, flags.recipients.len()), (Mode::Flush, 1));
    }

    #[test]
    fn dsn_flags() {
        let flags = flags("-N success,failure -R hdrs -V id1 -B 7bit a@b");
        assert_eq!(flags.notify.as_deref(), Some("SUCCESS,FAILURE"));
        assert_eq!(
            (flags.dsn_return.as_deref(), flags.envelope_id.as_deref()),
            (Some("HDRS"), Some("id1"))
        );
        assert!(matches!(
            parse("-N sometimes a@b"),
            Err(FlagError::BadValue('N', _))
        ));
    }

    #[test]
    fn flags_that_would_read_or_write_elsewhere_do_nothing() {
        let flags = flags(
            "-C /tmp/evil.cf -X /tmp/log -oQ/tmp/queue -OQueueDirectory=/tmp -D/tmp/debug -L tag -h 5 -A m a@b",
        );
        assert_eq!(
            flags,
            Flags {
                recipients: vec!["a@b".into()],
                ..Flags::default()
            }
        );
    }

    #[test]
    fn what_is_unknown_is_said() {
        assert_eq!(parse("-be ${run}"), Err(FlagError::NoMode("e".into())));
        assert_eq!(parse("-bd"), Err(FlagError::NoMode("d".into())));
        assert_eq!(parse("-z"), Err(FlagError::Unknown("-z".into())));
        assert_eq!(parse("-f"), Err(FlagError::NoValue('f')));
        assert!(matches!(
            Flags::parse(&["a@b\nBcc: x".into()]),
            Err(FlagError::Control(_))
        ));
    }
}
