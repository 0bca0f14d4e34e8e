//! SMTP commands (RFC 5321 section 4.1.1), with the parameters of SIZE (RFC 1870), 8BITMIME (RFC 6152), AUTH (RFC
//! 4954), DSN (RFC 3461), SMTPUTF8 (RFC 6531) and CHUNKING (RFC 3030).
//!
//! The parser gets a line without its CRLF. It never trims and parses a line a second time: a line that does not fit
//! the grammar is an error.

use std::fmt;

use crate::address::{AddressError, Mailbox, ReversePath};
use crate::envelope::{BodyKind, DsnReturn, Notify};
use crate::limits::{DOMAIN_BYTES_MAX, ENVID_BYTES_MAX, ORCPT_BYTES_MAX};
use crate::xtext::decode_xtext;

/// A command line of RFC 5321, with its arguments parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// EHLO or HELO.
    Hello {
        /// Whether it was EHLO.
        extended: Greeting,
        /// The name in EHLO or HELO: printable, no spaces.
        name: Box<str>,
    },
    Mail {
        from: ReversePath,
        parameters: MailParameters,
    },
    Rcpt {
        to: ForwardPath,
        notify: Notify,
        /// ORCPT, decoded: `type;address`.
        original: Option<Box<str>>,
    },
    Data,
    Bdat {
        /// Bytes of this chunk.
        len: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
    /// STARTTLS.
    StartTls,
    Auth {
        /// The mechanism, in capitals.
        mechanism: Box<str>,
        /// The initial response, still in base64; `=` is an empty one.
        initial: Option<Box<str>>,
    },
}

/// How strictly a command must follow the grammar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grammar {
    /// As RFC 5321 defines it.
    Strict,
    /// As `Strict`, but ignores anything after the first word of EHLO's or HELO's argument: a device called `My PC`
    /// sends that. For clients that may still authenticate.
    LenientGreeting,
    /// As `LenientGreeting`, and accepts paths without angle brackets, which devices and old programs send.
    Lenient,
}

/// The two greetings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Greeting {
    /// HELO: no extensions.
    Helo,
    Ehlo,
}

/// The forward-path of RCPT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ForwardPath {
    Mailbox(Mailbox),
    /// A mailbox behind a source route `@a,@b:` (RFC 5321 appendix C); the route is not kept.
    SourceRoute(Mailbox),
    /// A local part without a domain.
    Bare(Box<str>),
}

impl ForwardPath {
    /// Whether the address can be written without SMTPUTF8 (RFC 6531 section 3.5).
    pub fn is_ascii(&self) -> bool {
        match self {
            Self::Mailbox(mailbox) | Self::SourceRoute(mailbox) => mailbox.as_str().is_ascii(),
            Self::Bare(local) => local.is_ascii(),
        }
    }
}

/// Parameters of MAIL: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and ENVID (RFC 3461), AUTH (RFC
/// 4954).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MailParameters {
    /// SIZE, in bytes.
    pub size: Option<u64>,
    pub body: BodyKind,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET.
    pub dsn_return: Option<DsnReturn>,
    /// ENVID, decoded.
    pub envelope_id: Option<Box<str>>,
}

/// Why a command line is refused. Only `reply.rs` derives the reply from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CommandError {
    /// A bare CR or LF in the line (RFC 5321 section 2.3.8).
    BareNewline,
    /// A control character, or bytes that are not UTF-8.
    BadCharacter,
    /// Over `COMMAND_LINE_BYTES_MAX` (RFC 5321 section 4.5.3.1.4).
    LineTooLong,
    /// A verb that RFC 5321 and the extensions above do not define.
    UnknownVerb,
    /// A command of another protocol: HTTP.
    ForeignProtocol,
    /// The verb is known and deliberately not offered (EXPN, TURN, ETRN, …).
    NotImplemented,
    /// The argument does not fit the grammar of the verb.
    Syntax,
    /// An argument after a verb that takes none.
    UnexpectedArgument,
    /// An invalid address.
    Address(AddressError),
    /// UTF-8 in an address without SMTPUTF8 (RFC 6531 section 3.5).
    NeedsSmtputf8,
    /// An unknown parameter (555, RFC 5321 section 4.1.1.11).
    UnknownParameter,
    /// A known parameter with an invalid value, or given twice.
    BadParameter,
}

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(out),
            other => write!(out, "{other:?}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl Command {
    /// Parses one line without its CRLF.
    /// Decides RFC 5321 section 2.3.8.
    pub fn parse(line: &[u8], grammar: Grammar) -> Result<Self, CommandError> {
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(CommandError::BareNewline);
        }
        let line = std::str::from_utf8(line).map_err(|_| CommandError::BadCharacter)?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(CommandError::BadCharacter);
        }
        let (verb, argument) = match line.split_once(' ') {
            Some((verb, argument)) => (verb, Some(argument.trim_end_matches([' ', '\t']))),
            None => (line.trim_end_matches('\t'), None),
        };
        let argument = argument.filter(|argument| !argument.is_empty());
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => hello(Greeting::Ehlo, argument, grammar),
            "HELO" => hello(Greeting::Helo, argument, grammar),
            "MAIL" => mail(argument.ok_or(CommandError::Syntax)?, grammar),
            "RCPT" => rcpt(argument.ok_or(CommandError::Syntax)?, grammar),
            "BDAT" => bdat(argument.ok_or(CommandError::Syntax)?),
            "AUTH" => auth(argument.ok_or(CommandError::Syntax)?),
            "DATA" => bare(Self::Data, argument),
            "RSET" => bare(Self::Rset, argument),
            "QUIT" => bare(Self::Quit, argument),
            "STARTTLS" => bare(Self::StartTls, argument),
            "NOOP" => Ok(Self::Noop),
            "VRFY" => argument.map(|_| Self::Vrfy).ok_or(CommandError::Syntax),
            "HELP" => Ok(Self::Help),
            "EXPN" | "TURN" | "ETRN" | "ATRN" | "SEND" | "SOML" | "SAML" | "BURL" => {
                Err(CommandError::NotImplemented)
            }
            "GET" | "POST" | "PUT" | "HEAD" | "CONNECT" | "OPTIONS" | "DELETE" | "PATCH"
            | "TRACE" | "PRI" => Err(CommandError::ForeignProtocol),
            _ => Err(CommandError::UnknownVerb),
        }
    }
}

fn bare(command: Command, argument: Option<&str>) -> Result<Command, CommandError> {
    match argument {
        None => Ok(command),
        Some(_) => Err(CommandError::UnexpectedArgument),
    }
}

/// Reads the argument of EHLO or HELO.
/// Decides RFC 5321 section 4.1.1.1.
fn hello(
    extended: Greeting,
    argument: Option<&str>,
    grammar: Grammar,
) -> Result<Command, CommandError> {
    // Wider than RFC 5321 section 4.1.1.1: any printable word is accepted, because many clients send a bare host name,
    // an underscore, or a name that does not resolve. It is shown in Received, and trusted nowhere.
    let name = argument.ok_or(CommandError::Syntax)?;
    let name = match grammar {
        Grammar::Strict => name,
        Grammar::LenientGreeting | Grammar::Lenient => name
            .split([' ', '\t'])
            .find(|word| !word.is_empty())
            .ok_or(CommandError::Syntax)?,
    };
    if name.len() > DOMAIN_BYTES_MAX || name.contains([' ', '\t']) {
        return Err(CommandError::Syntax);
    }
    Ok(Command::Hello {
        extended,
        name: name.into(),
    })
}

/// Takes `FROM:` or `TO:` off the front. Wider than the grammar: one run of spaces after the colon is accepted, because
/// widespread clients send it.
fn keyword<'a>(argument: &'a str, word: &str) -> Result<&'a str, CommandError> {
    let (front, rest) = argument
        .split_at_checked(word.len())
        .ok_or(CommandError::Syntax)?;
    if !front.eq_ignore_ascii_case(word) {
        return Err(CommandError::Syntax);
    }
    Ok(rest.trim_start_matches(' '))
}

/// Splits `<path> parameters`; quoted strings in the path may contain `>`, `<` and spaces.
fn path(argument: &str, grammar: Grammar) -> Result<(&str, &str), CommandError> {
    let Some(inner) = argument.strip_prefix('<') else {
        return match grammar {
            Grammar::Strict | Grammar::LenientGreeting => Err(CommandError::Syntax),
            Grammar::Lenient => bare_path(argument),
        };
    };
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let (path, rest) = inner.split_at_checked(at).ok_or(CommandError::Syntax)?;
                let rest = rest.strip_prefix('>').unwrap_or_default();
                return match rest.strip_prefix(' ') {
                    Some(parameters) => Ok((path, parameters)),
                    None if rest.is_empty() => Ok((path, "")),
                    None => Err(CommandError::Syntax),
                };
            }
            _ => {}
        }
    }
    Err(CommandError::Syntax)
}

/// Splits `path parameters` at the first space. An empty text is not a null path here: that needs the angle brackets.
fn bare_path(argument: &str) -> Result<(&str, &str), CommandError> {
    let (path, parameters) = argument.split_once(' ').unwrap_or((argument, ""));
    if path.is_empty() || path.contains(['<', '>', '"']) {
        return Err(CommandError::Syntax);
    }
    Ok((path, parameters))
}

/// The parameters as (keyword in capitals, value), in order; each keyword may occur once.
/// Decides RFC 5321 section 4.1.1.11.
fn parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, CommandError> {
    let mut list: Vec<(String, Option<&str>)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if key.is_empty() || !key.chars().all(valid) || value == Some("") {
            return Err(CommandError::BadParameter);
        }
        let key = key.to_ascii_uppercase();
        if list.iter().any(|(known, _)| *known == key) {
            return Err(CommandError::BadParameter);
        }
        list.push((key, value));
    }
    Ok(list)
}

/// Reads the reverse-path of MAIL and its parameters.
/// Decides RFC 5321 section 4.1.1.2, RFC 3461 section 4.3, RFC 3461 section 4.4, RFC 4954 section 5.
fn mail(argument: &str, grammar: Grammar) -> Result<Command, CommandError> {
    let (address, rest) = path(keyword(argument, "FROM:")?, grammar)?;
    let mut known = MailParameters::default();
    for (key, value) in parameters(rest)? {
        match (key.as_str(), value) {
            ("SIZE", Some(value)) => known.size = Some(number(value)?),
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {
                known.body = BodyKind::SevenBit
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                known.body = BodyKind::EightBitMime
            }
            ("SMTPUTF8", None) => known.smtputf8 = true,
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => {
                known.dsn_return = Some(DsnReturn::Full)
            }
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => {
                known.dsn_return = Some(DsnReturn::Headers)
            }
            ("ENVID", Some(value)) => {
                let id = decode_xtext(value).filter(|id| id.len() <= ENVID_BYTES_MAX);
                known.envelope_id = Some(id.ok_or(CommandError::BadParameter)?.into());
            }
            // RFC 4954 section 5: checked but not used, because we trust no client's statement.
            ("AUTH", Some(value)) => drop(decode_xtext(value).ok_or(CommandError::BadParameter)?),
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH", _) => {
                return Err(CommandError::BadParameter);
            }
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    let from = match source_route(address) {
        // RFC 5321 appendix C: a source route in the reverse-path is ignored.
        Some(mailbox) => ReversePath::parse(mailbox),
        None => ReversePath::parse(address),
    };
    let from = from.map_err(CommandError::Address)?;
    if !known.smtputf8 && !from.as_str().is_ascii() {
        return Err(CommandError::NeedsSmtputf8);
    }
    Ok(Command::Mail {
        from,
        parameters: known,
    })
}

/// Reads the forward-path of RCPT and its parameters.
/// Decides RFC 5321 section 4.1.1.3.
fn rcpt(argument: &str, grammar: Grammar) -> Result<Command, CommandError> {
    let (address, rest) = path(keyword(argument, "TO:")?, grammar)?;
    let (mut notify, mut original) = (Notify::Default, None);
    for (key, value) in parameters(rest)? {
        match (key.as_str(), value) {
            ("NOTIFY", Some(value)) => notify = parse_notify(value)?,
            ("ORCPT", Some(value)) => original = Some(parse_original(value)?),
            ("NOTIFY" | "ORCPT", None) => return Err(CommandError::BadParameter),
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    let to = match source_route(address) {
        Some(mailbox) => {
            ForwardPath::SourceRoute(Mailbox::parse(mailbox).map_err(CommandError::Address)?)
        }
        None => match Mailbox::parse(address) {
            Ok(mailbox) => ForwardPath::Mailbox(mailbox),
            Err(AddressError::NoDomain) => ForwardPath::Bare(address.into()),
            Err(error) => return Err(CommandError::Address(error)),
        },
    };
    Ok(Command::Rcpt {
        to,
        notify,
        original,
    })
}

/// The mailbox after a source route `@a,@b:mailbox`, if there is a source route.
fn source_route(address: &str) -> Option<&str> {
    let rest = address.strip_prefix('@')?;
    rest.split_once(':').map(|(_, mailbox)| mailbox)
}

/// Reads the value of NOTIFY.
/// Decides RFC 3461 section 4.1.
fn parse_notify(value: &str) -> Result<Notify, CommandError> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return Err(CommandError::BadParameter),
        };
        if std::mem::replace(flag, true) {
            return Err(CommandError::BadParameter);
        }
    }
    Ok(Notify::On {
        success,
        failure,
        delay,
    })
}

/// Reads the value of ORCPT.
/// Decides RFC 3461 section 4.2.
fn parse_original(value: &str) -> Result<Box<str>, CommandError> {
    if value.len() > ORCPT_BYTES_MAX {
        return Err(CommandError::BadParameter);
    }
    let (kind, address) = value.split_once(';').ok_or(CommandError::BadParameter)?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if kind.is_empty() || !kind.chars().all(valid) {
        return Err(CommandError::BadParameter);
    }
    // RFC 6533 section 3: under SMTPUTF8, utf-8 addresses are not encoded. The line parser has checked their bytes.
    let address = if address.is_ascii() {
        decode_xtext(address).ok_or(CommandError::BadParameter)?
    } else if kind.eq_ignore_ascii_case("utf-8") {
        address.to_owned()
    } else {
        return Err(CommandError::BadParameter);
    };
    // RFC 3461 section 4.2 and RFC 6533 section 3: the address is not empty, and contains no control character, encoded
    // or not.
    if address.is_empty() || hides_control(&address) {
        return Err(CommandError::BadParameter);
    }
    Ok(format!("{kind};{address}").into())
}

/// Whether an address contains a control character, plain or as an EmbeddedUnicodeChar `\x{…}` (RFC 6533 section 3).
fn hides_control(address: &str) -> bool {
    let coded = address.split("\\x{").skip(1).any(|rest| {
        let code = rest.split('}').next().unwrap_or_default();
        let code = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
        code.is_none_or(char::is_control)
    });
    coded || address.chars().any(char::is_control)
}

fn bdat(argument: &str) -> Result<Command, CommandError> {
    let (len, last) = match argument.split_once(' ') {
        None => (argument, false),
        Some((len, word)) if word.eq_ignore_ascii_case("LAST") => (len, true),
        Some(_) => return Err(CommandError::Syntax),
    };
    Ok(Command::Bdat {
        len: number(len).map_err(|_| CommandError::Syntax)?,
        last,
    })
}

fn auth(argument: &str) -> Result<Command, CommandError> {
    let (mechanism, initial) = match argument.split_once(' ') {
        None => (argument, None),
        Some((mechanism, initial)) => (mechanism, Some(initial)),
    };
    if initial.is_some_and(|initial| initial.contains(' ')) {
        return Err(CommandError::Syntax);
    }
    Ok(Command::Auth {
        mechanism: mechanism.to_ascii_uppercase().into(),
        initial: initial.map(Into::into),
    })
}

/// A decimal number of at most 20 digits that fits 64 bits.
/// Decides RFC 1870 section 4.
fn number(text: &str) -> Result<u64, CommandError> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CommandError::BadParameter);
    }
    text.parse().map_err(|_| CommandError::BadParameter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes(), Grammar::Strict)
    }

    fn mail_from(line: &str) -> (ReversePath, MailParameters) {
        match parse(line) {
            Ok(Command::Mail { from, parameters }) => (from, parameters),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_path_without_angle_brackets_is_taken_from_whom_that_is_allowed() {
        for line in [
            "MAIL FROM:scan@b.example",
            "MAIL FROM: scan@b.example SIZE=10",
            "RCPT TO:scan@b.example",
            "RCPT TO:scan@b.example NOTIFY=NEVER",
        ] {
            assert_eq!(parse(line), Err(CommandError::Syntax), "{line}");
            let bare = Command::parse(line.as_bytes(), Grammar::Lenient);
            let bracketed = line.replace("scan@b.example", "<scan@b.example>");
            assert_eq!(bare, parse(&bracketed), "{line}");
            assert!(bare.is_ok(), "{line}");
        }
        for line in [
            "MAIL FROM:",
            "MAIL FROM: ",
            "RCPT TO:a@b>",
            "RCPT TO:a <a@b>",
            "RCPT TO:a@b,c@d",
            "RCPT TO:\"a b\"@c",
        ] {
            assert!(
                Command::parse(line.as_bytes(), Grammar::Lenient).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn verbs_have_no_case() {
        assert_eq!(parse("qUiT"), Ok(Command::Quit));
        assert_eq!(parse("data "), Ok(Command::Data));
        assert_eq!(parse("data x"), Err(CommandError::UnexpectedArgument));
        assert_eq!(parse("NOOP whatever"), Ok(Command::Noop));
        assert_eq!(parse(""), Err(CommandError::UnknownVerb));
    }

    #[test]
    fn mail_takes_its_parameters() {
        let (from, parameters) = mail_from(
            "MAIL FROM:<a@b.example> SIZE=100 BODY=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ+3D314 AUTH=<>",
        );
        assert_eq!(from.as_str(), "a@b.example");
        assert_eq!(
            parameters,
            MailParameters {
                size: Some(100),
                body: BodyKind::EightBitMime,
                smtputf8: true,
                dsn_return: Some(DsnReturn::Headers),
                envelope_id: Some("QQ=314".into()),
            }
        );
        assert!(mail_from("mail from: <>").0.is_null());
        assert_eq!(mail_from("MAIL FROM:<@x,@y:a@b>").0.as_str(), "a@b");
        assert_eq!(mail_from("MAIL FROM:<\"a>b\"@c>").0.as_str(), "\"a>b\"@c");
    }

    #[test]
    fn mail_refuses_what_does_not_fit() {
        let cases = [
            ("MAIL", CommandError::Syntax),
            ("MAIL FROM", CommandError::Syntax),
            ("MAIL FROM:", CommandError::Syntax),
            ("MAIL FROM:a@b", CommandError::Syntax),
            ("MAIL FROM:<a@b", CommandError::Syntax),
            ("MAIL FROM:<a@b>SIZE=1", CommandError::Syntax),
            ("MAIL TO:<a@b>", CommandError::Syntax),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=2", CommandError::BadParameter),
            ("MAIL FROM:<a@b> SIZE=-1", CommandError::BadParameter),
            (
                "MAIL FROM:<a@b> SIZE=99999999999999999999",
                CommandError::BadParameter,
            ),
            (
                "MAIL FROM:<a@b> BODY=BINARYMIME",
                CommandError::BadParameter,
            ),
            (
                "MAIL FROM:<a@b> ENVID=a+0D+0ARCPT",
                CommandError::BadParameter,
            ),
            ("MAIL FROM:<a@b> X=1", CommandError::UnknownParameter),
            ("MAIL FROM:<\u{e9}@b>", CommandError::NeedsSmtputf8),
            (
                "MAIL FROM:<a>",
                CommandError::Address(AddressError::NoDomain),
            ),
        ];
        for (line, error) in cases {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }

    #[test]
    fn rcpt_keeps_dsn_parameters() {
        let line = "RCPT TO:<a@b> NOTIFY=SUCCESS,delay ORCPT=rfc822;A+2Bx@b";
        let Ok(Command::Rcpt {
            to,
            notify,
            original,
        }) = parse(line)
        else {
            panic!("{line}")
        };
        assert_eq!(
            to,
            ForwardPath::Mailbox(Mailbox::parse("a@b").expect("a mailbox"))
        );
        assert_eq!(
            notify,
            Notify::On {
                success: true,
                failure: false,
                delay: true
            }
        );
        assert_eq!(original.as_deref(), Some("rfc822;A+x@b"));
        for bad in [
            "NOTIFY=NEVER,SUCCESS",
            "NOTIFY=SUCCESS,SUCCESS",
            "NOTIFY=",
            "ORCPT=a@b",
            "ORCPT=rfc822;+0A",
            "ORCPT=rfc822;",
            "ORCPT=utf-8;",
            "ORCPT=utf-8;\\x{0D}",
            "ORCPT=utf-8;a\\x{7F}b@c",
            "ORCPT=utf-8;\\x{85}@b",
            "ORCPT=utf-8;\\x{D800}@b",
            "ORCPT=utf-8;\\x{}@b",
        ] {
            assert_eq!(
                parse(&format!("RCPT TO:<a@b> {bad}")),
                Err(CommandError::BadParameter),
                "{bad}"
            );
        }
    }

    #[test]
    fn rcpt_tells_forms_of_path_apart() {
        let to = |line: &str| match parse(line) {
            Ok(Command::Rcpt { to, .. }) => to,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            to("RCPT TO:<Postmaster>"),
            ForwardPath::Bare("Postmaster".into())
        );
        assert!(matches!(
            to("RCPT TO:<@evil.example:a@b>"),
            ForwardPath::SourceRoute(_)
        ));
        assert!(matches!(
            to("RCPT TO:<\"a@evil\"@b>"),
            ForwardPath::Mailbox(_)
        ));
    }

    #[test]
    fn control_characters_make_no_command() {
        for line in [
            &b"NOOP\0"[..],
            b"NOOP \x01",
            b"NOOP \x7f",
            b"NOOP \xff",
            "NOOP \u{85}".as_bytes(),
        ] {
            assert_eq!(
                Command::parse(line, Grammar::Strict),
                Err(CommandError::BadCharacter),
                "{line:?}"
            );
        }
        assert_eq!(
            Command::parse(b"NOOP\rQUIT", Grammar::Lenient),
            Err(CommandError::BareNewline)
        );
        assert_eq!(
            Command::parse(b"NOOP\nQUIT", Grammar::Lenient),
            Err(CommandError::BareNewline)
        );
    }

    #[test]
    fn other_protocols_are_known_by_their_verbs() {
        assert_eq!(parse("GET / HTTP/1.1"), Err(CommandError::ForeignProtocol));
        assert_eq!(parse("EXPN list"), Err(CommandError::NotImplemented));
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in prop::collection::vec(any::<u8>(), 0..80)) {
            for grammar in [Grammar::Strict, Grammar::Lenient] {
                let _ = Command::parse(&line, grammar);
            }
        }

        #[test]
        fn any_text_behind_a_verb_is_parsed_or_refused(verb in prop::sample::select(vec!["MAIL FROM:<", "RCPT TO:<", "BDAT ", "AUTH ", "EHLO "]), rest in "\\PC{0,60}") {
            if let Ok(Command::Rcpt { to: ForwardPath::Mailbox(mailbox), .. }) = parse(&format!("{verb}{rest}")) {
                prop_assert!(!mailbox.as_str().contains(['\r', '\n', '\0']));
            }
        }
    }
}
