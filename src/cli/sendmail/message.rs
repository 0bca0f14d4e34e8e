//! From what a program writes into the pipe to a message (RFC 5322): line ends, header, recipients, missing fields.
//!
//! Invariant: what comes out holds only CRLF line ends, no NUL and no line over 998 bytes, whatever went in.

use crate::address::{AddressError, Domain, Mailbox};
use crate::limits::TEXT_LINE_BYTES_MAX;
use crate::mail::address_list::{AddressListError, address_list};
use crate::mail::header::{Field, Header, HeaderEnd, header_end};

use super::flags::{MessageEnd, RecipientSource};

/// What is known of the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The address for a From field that is missing.
    pub mailbox: Mailbox,
    /// The name beside it.
    pub full_name: Option<String>,
    /// What bare names are completed with.
    pub domain: Domain,
}

/// A message that can be submitted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Header and body.
    pub bytes: Vec<u8>,
    /// The recipients that its header names, where they were asked for.
    pub recipients: Vec<Mailbox>,
}

/// Why there is no message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageError {
    /// A field with addresses is no list of addresses.
    Addresses {
        /// The field.
        field: String,
        /// What is wrong.
        error: AddressListError,
    },
    /// The header is too long or has too many fields.
    Header,
}

impl std::fmt::Display for MessageError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addresses { field, error } => {
                write!(out, "the {field} field is no list of addresses: {error}")
            }
            Self::Header => out.write_str("the header of the message is too long"),
        }
    }
}

impl std::error::Error for MessageError {}

/// Makes a message of `input`.
pub fn prepare(
    input: &[u8],
    end: MessageEnd,
    source: RecipientSource,
    caller: &Caller,
) -> Result<Message, MessageError> {
    let text = clean(input, end);
    let (header, body) = split(&text);
    let header = Header::parse(header.to_vec()).map_err(|_| MessageError::Header)?;
    let recipients = match source {
        RecipientSource::Arguments => Vec::new(),
        RecipientSource::Header => header_recipients(&header, caller)?,
    };
    let mut bytes = Vec::with_capacity(text.len().saturating_add(256));
    for field in header.fields() {
        if source == RecipientSource::Header && (field.is("Bcc") || field.is("Resent-Bcc")) {
            continue;
        }
        if is_address_field(field) && needs_domain(field) {
            write_completed(&mut bytes, field, caller);
        } else {
            bytes.extend_from_slice(field.raw());
            if !bytes.ends_with(b"\r\n") {
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }
    if !header.has("From") {
        write_field(&mut bytes, &from_field(caller));
    }
    if !["To", "Cc", "Bcc"].iter().any(|name| header.has(name)) {
        // RFC 5322 section 3.6.3 needs none of them, but receivers hold it against a message.
        bytes.extend_from_slice(b"To: undisclosed-recipients:;\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Ok(Message { bytes, recipients })
}

/// The recipients of -t: those of the newest Resent- set where there is one (RFC 5322 section 3.6.6), else of To, Cc
/// and Bcc.
fn header_recipients(header: &Header, caller: &Caller) -> Result<Vec<Mailbox>, MessageError> {
    let resent = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
    let names = if resent.iter().any(|name| header.has(name)) {
        resent
    } else {
        ["To", "Cc", "Bcc"]
    };
    let mut recipients: Vec<Mailbox> = Vec::new();
    for field in header
        .fields()
        .filter(|field| names.iter().any(|name| field.is(name)))
    {
        let found = address_list(field.value(), Some(&caller.domain)).map_err(|error| {
            MessageError::Addresses {
                field: field.name().to_owned(),
                error,
            }
        })?;
        for mailbox in found {
            if !recipients.contains(&mailbox) {
                recipients.push(mailbox);
            }
        }
    }
    Ok(recipients)
}

fn is_address_field(field: Field<'_>) -> bool {
    ["From", "Sender", "Reply-To", "To", "Cc"]
        .iter()
        .any(|name| field.is(name))
}

/// Whether a field holds a bare local name and is in order otherwise.
fn needs_domain(field: Field<'_>) -> bool {
    matches!(
        address_list(field.value(), None),
        Err(AddressListError::Address {
            error: AddressError::NoDomain,
            ..
        })
    )
}

/// Writes a field with every bare name completed. Cron writes `From: root (Cron Daemon)`: the comment of a single
/// address is kept as its name.
fn write_completed(out: &mut Vec<u8>, field: Field<'_>, caller: &Caller) {
    let Ok(mailboxes) = address_list(field.value(), Some(&caller.domain)) else {
        out.extend_from_slice(field.raw());
        return;
    };
    let value = String::from_utf8_lossy(&field.unfolded()).into_owned();
    let text = match mailboxes.as_slice() {
        [only] => match display_name(&value) {
            Some(name) => format!("{} <{only}>", phrase(&name)),
            None => only.to_string(),
        },
        many => many
            .iter()
            .map(Mailbox::to_string)
            .collect::<Vec<_>>()
            .join(",\r\n\t"),
    };
    write_field(out, &format!("{}: {text}", field.name()));
}

/// The name in `root (Cron Daemon)` or `Cron Daemon <root>`.
fn display_name(value: &str) -> Option<String> {
    let name = match value.split_once('<') {
        Some((name, _)) => name,
        None => value
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .map(|(name, _)| name)?,
    };
    let name = name.trim().trim_matches('"');
    (!name.is_empty()).then(|| name.to_owned())
}

fn from_field(caller: &Caller) -> String {
    match caller.full_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("From: {} <{}>", phrase(name), caller.mailbox),
        None => format!("From: {}", caller.mailbox),
    }
}

/// A display name as it may stand in a field: quoted where it has to be, as an encoded word where it is not ASCII
/// (RFC 2047).
fn phrase(name: &str) -> String {
    use base64::Engine as _;
    if !name.is_ascii() {
        return name
            .chars()
            .collect::<Vec<char>>()
            .chunks(ENCODED_WORD_CHARS)
            .map(|part| {
                let text: String = part.iter().collect();
                format!(
                    "=?utf-8?B?{}?=",
                    base64::engine::general_purpose::STANDARD.encode(text)
                )
            })
            .collect::<Vec<_>>()
            .join("\r\n ");
    }
    if name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c))
    {
        return name.to_owned();
    }
    let quoted: String = name
        .chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| {
            if matches!(c, '"' | '\\') {
                vec!['\\', c]
            } else {
                vec![c]
            }
        })
        .collect();
    format!("\"{quoted}\"")
}

/// Header and body. A message without a header is all body; a header that runs into text ends there.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let (end, body) = match header_end(text) {
        HeaderEnd::EmptyLine { at, body } => (at, body),
        HeaderEnd::NotAField { at } => (at, at),
        HeaderEnd::Open => (text.len(), text.len()),
    };
    (
        text.get(..end).unwrap_or_default(),
        text.get(body..).unwrap_or_default(),
    )
}

/// Makes CRLF of every line end, takes out NULs and the mbox line that some programs write first, breaks lines that
/// are too long, and stops at the dot where that is the rule.
fn clean(input: &[u8], end: MessageEnd) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len().saturating_add(input.len() / 32));
    let mut rest = input;
    let mut first = true;
    while !rest.is_empty() {
        let (line, after) = next_line(rest);
        rest = after;
        if std::mem::take(&mut first) && line.starts_with(b"From ") {
            continue;
        }
        if end == MessageEnd::Dot && line == b"." {
            break;
        }
        let line: Vec<u8> = line.iter().copied().filter(|&byte| byte != 0).collect();
        write_line(&mut out, &line);
    }
    out
}

/// The first line without its end, and what follows. CRLF, LF and a lone CR all end lines.
fn next_line(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(at) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return (text, &[]);
    };
    let (line, end) = text.split_at_checked(at).unwrap_or((text, &[]));
    let skip = if end.starts_with(b"\r\n") { 2 } else { 1 };
    (line, end.get(skip..).unwrap_or_default())
}

/// Writes a field of our making, which may be folded already; a name in it may be of any length.
fn write_field(out: &mut Vec<u8>, text: &str) {
    for line in text.split("\r\n") {
        write_line(out, line.as_bytes());
    }
}

fn write_line(out: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    let mut room = TEXT_LINE_BYTES_MAX;
    while rest.len() > room {
        // Before a character, not inside it; the space makes the next line a continuation where this is a field.
        let mut cut = TEXT_LINE_BYTES_MAX.saturating_sub(1);
        while cut > 1 && rest.get(cut).is_some_and(|byte| byte & 0xC0 == 0x80) {
            cut = cut.saturating_sub(1);
        }
        let (part, after) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n ");
        rest = after;
        room = TEXT_LINE_BYTES_MAX.saturating_sub(1); // behind the space
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

/// Characters of a name in one encoded word: at most 75 bytes of it when each takes three (RFC 2047 section 2).
const ENCODED_WORD_CHARS: usize = 11;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller() -> Caller {
        let domain = Domain::parse("example.com").expect("a domain");
        Caller {
            mailbox: Mailbox::new("ann", &domain).expect("a mailbox"),
            full_name: Some("Ann".into()),
            domain,
        }
    }

    fn prepared(input: &str, end: MessageEnd, source: RecipientSource) -> (String, Vec<String>) {
        let message = prepare(input.as_bytes(), end, source, &caller()).expect("a message");
        let recipients = message.recipients.iter().map(Mailbox::to_string).collect();
        (String::from_utf8(message.bytes).expect("text"), recipients)
    }

    fn from_header(input: &str) -> (String, Vec<String>) {
        prepared(input, MessageEnd::Input, RecipientSource::Header)
    }

    #[test]
    fn a_name_of_any_length_leaves_no_line_too_long() {
        let name = "n".repeat(3_000);
        let from = format!("From: {}\n {} <root>\n\n", &name[..900], &name[..900]);
        for (full_name, input) in [(Some(name.clone()), "x\n"), (None, from.as_str())] {
            let caller = Caller {
                full_name,
                ..caller()
            };
            let source = RecipientSource::Arguments;
            let message = prepare(input.as_bytes(), MessageEnd::Input, source, &caller);
            let text = String::from_utf8(message.expect("a message").bytes).expect("text");
            assert!(
                text.split("\r\n")
                    .all(|line| line.len() <= TEXT_LINE_BYTES_MAX)
            );
        }
    }

    #[test]
    fn a_text_without_header_becomes_a_body() {
        let (text, _) = prepared(
            "hello world\nbye\n",
            MessageEnd::Dot,
            RecipientSource::Arguments,
        );
        assert_eq!(
            text,
            "From: Ann <ann@example.com>\r\nTo: undisclosed-recipients:;\r\n\r\nhello world\r\nbye\r\n"
        );
    }

    #[test]
    fn every_kind_of_line_end_becomes_crlf() {
        let (text, _) = from_header("From: a@b\nTo: c@d\r\n\nx\ry\0z\r\n\r\nend");
        assert_eq!(text, "From: a@b\r\nTo: c@d\r\n\r\nx\r\nyz\r\n\r\nend\r\n");
    }

    #[test]
    fn a_dot_ends_the_message_unless_it_may_not() {
        let input = "From: a@b\nTo: c@d\n\nx\n.\ny\n";
        assert!(
            prepared(input, MessageEnd::Dot, RecipientSource::Arguments)
                .0
                .ends_with("\r\n\r\nx\r\n")
        );
        assert!(from_header(input).0.ends_with("x\r\n.\r\ny\r\n"));
    }

    #[test]
    fn bcc_is_a_recipient_and_not_in_the_message() {
        let (text, recipients) =
            from_header("From: a@b\nTo: c@d, Ed <e@f>\nBcc: g@h,\n i@j\nCc: c@d\n\nx\n");
        assert_eq!(recipients, ["c@d", "e@f", "g@h", "i@j"]);
        assert!(
            !text.contains("g@h") && !text.contains("i@j") && !text.to_lowercase().contains("bcc")
        );
    }

    #[test]
    fn a_resent_set_wins() {
        let (text, recipients) =
            from_header("Resent-To: r@s\nResent-Bcc: t@u\nFrom: a@b\nTo: c@d\nBcc: e@f\n\nx\n");
        assert_eq!(recipients, ["r@s", "t@u"]);
        assert!(!text.contains("t@u") && text.contains("To: c@d"));
    }

    #[test]
    fn crons_from_gets_a_domain_and_keeps_its_name() {
        let (text, recipients) =
            from_header("From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> x\n\nout\n");
        assert!(
            text.contains("From: Cron Daemon <root@example.com>\r\n"),
            "{text}"
        );
        assert!(text.contains("To: root@example.com\r\n"), "{text}");
        assert_eq!(recipients, ["root@example.com"]);
    }

    #[test]
    fn names_are_quoted_or_encoded() {
        assert_eq!(phrase("Ann Lee"), "Ann Lee");
        assert_eq!(phrase("Lee, Ann \"A\""), "\"Lee, Ann \\\"A\\\"\"");
        assert_eq!(phrase("J\u{fc}rgen"), "=?utf-8?B?SsO8cmdlbg==?=");
    }

    #[test]
    fn a_header_that_runs_into_text_ends_there() {
        let (text, _) = from_header("To: c@d\nFrom: a@b\nno field\nmore\n");
        assert!(
            text.ends_with("From: a@b\r\n\r\nno field\r\nmore\r\n"),
            "{text}"
        );
    }

    #[test]
    fn the_mbox_line_is_left_out() {
        let (text, _) =
            from_header("From ann Thu Jan  1 00:00:00 1970\nFrom: a@b\nTo: c@d\n\nFrom x\n");
        assert_eq!(text, "From: a@b\r\nTo: c@d\r\n\r\nFrom x\r\n");
    }

    #[test]
    fn a_line_is_broken_so_that_each_part_has_room() {
        for len in 900..3100 {
            let mut out = Vec::new();
            write_line(&mut out, &vec![b'x'; len]);
            let text = String::from_utf8(out).expect("ASCII");
            assert!(
                text.lines().all(|line| line.len() <= TEXT_LINE_BYTES_MAX),
                "{len}"
            );
            assert_eq!(text.matches('x').count(), len);
        }
    }

    #[test]
    fn a_bad_list_is_said() {
        let error = prepare(
            b"To: a@b <\n\nx\n",
            MessageEnd::Input,
            RecipientSource::Header,
            &caller(),
        );
        assert!(matches!(error, Err(MessageError::Addresses { field, .. }) if field == "To"));
    }

    proptest! {
        #[test]
        fn what_comes_out_can_be_sent(input in prop::collection::vec(any::<u8>(), 0..3000), long in 0usize..3000) {
            let mut input = input;
            input.extend(std::iter::repeat_n(b'y', long));
            if let Ok(message) = prepare(&input, MessageEnd::Input, RecipientSource::Arguments, &caller()) {
                let mut out = Vec::new();
                let mut decoder = crate::smtp::data::Decoder::new(crate::smtp::data::Framing::Counted);
                decoder.decode(&mut message.bytes.as_slice(), &mut out);
                prop_assert_eq!(decoder.fault(), None);
                prop_assert!(message.bytes.ends_with(b"\r\n"));
            }
        }
    }
}
