//! Converts the input of a program to a message (RFC 5322): line ends, header, recipients, missing fields.
//!
//! Invariant: whatever the input, the output has only CRLF line ends, no NUL and no line over 998 bytes. However long
//! the input is, no more of it is read than the limit and one piece, and no more is in memory than a header and
//! [`SENDMAIL_MEMORY_BYTES_MAX`](crate::limits::SENDMAIL_MEMORY_BYTES_MAX).

use std::collections::HashSet;
use std::io::{ErrorKind, Read};

use crate::address::{AddressError, Domain, Mailbox};
use crate::limits::HEADER_BYTES_MAX;
use crate::mail::address_list::{AddressListError, address_list};
use crate::mail::header::{Field, Header, HeaderEnd, header_end};

use super::body::{Body, Reader};
use super::flags::{MessageEnd, RecipientSource};
use super::lists::with_commas;
use super::place::own;
use super::text::{Lines, write_line};

/// The caller's identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The address for a From field that is missing.
    pub mailbox: Mailbox,
    /// The name beside it.
    pub full_name: Option<String>,
    /// The domain that completes bare names.
    pub domain: Domain,
}

/// How a message is read.
#[derive(Clone, Copy, Debug)]
pub struct HeaderReading<'a> {
    pub end: MessageEnd,
    /// Where its recipients are read from.
    pub source: RecipientSource,
    pub caller: &'a Caller,
    /// Bytes that it may have.
    pub limit: u64,
}

/// A message that can be submitted.
#[derive(Debug)]
pub struct Message {
    /// The recipients in its header, if requested.
    pub recipients: Vec<Mailbox>,
    pub is_ascii: bool,
    head: Vec<u8>,
    body: Body,
}

impl Message {
    /// Bytes of the header and the body, with CRLF line ends.
    pub fn size(&self) -> u64 {
        self.body.len().saturating_add(self.head.len() as u64)
    }

    /// Reads it from the start.
    pub fn reader(&self) -> impl Read + '_ {
        Reader::new(&self.head, &self.body)
    }
}

/// Why there is no message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageError {
    /// A field with addresses is not a list of addresses.
    Addresses {
        field: String,
        error: AddressListError,
    },
    /// The header is too long or has too many fields.
    Header,
    /// It is longer than this.
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The input cannot be read.
    Input(ErrorKind),
    /// A temporary file for it could not be written.
    Room(ErrorKind),
}

impl std::fmt::Display for MessageError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addresses { field, error } => {
                write!(out, "the {field} field is not a list of addresses: {error}")
            }
            Self::Header => out.write_str("the header of the message is too long"),
            Self::TooLarge { limit } => write!(
                out,
                "the message is too large: {limit} bytes is the limit (max_message_size); send less, or raise it"
            ),
            Self::Input(kind) => write!(out, "cannot read the message: {kind}"),
            Self::Room(kind) => write!(
                out,
                "cannot keep the message in TMPDIR, /var/tmp or /tmp ({kind}); make room there and try again"
            ),
        }
    }
}

impl std::error::Error for MessageError {}

/// Reads `input` to its end and makes a message of it.
pub fn prepare(input: &mut dyn Read, reading: &HeaderReading<'_>) -> Result<Message, MessageError> {
    let mut lines = Lines::new(reading.end);
    let mut piece = vec![0; PIECE_BYTES];
    let mut text = Vec::new();
    let (mut header, mut body) = (None, Body::default());
    let mut is_ascii = true;
    loop {
        let len = match input.read(&mut piece) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(MessageError::Input(error.kind())),
        };
        lines.feed(piece.get(..len).unwrap_or_default(), &mut text);
        let over = len == 0 || lines.has_ended();
        if over {
            lines.finish(&mut text);
        }
        if header.is_none() {
            header = take_header(&mut text, over)?;
        }
        if header.is_some() {
            is_ascii &= text.is_ascii();
            body.append(&text)
                .map_err(|error| MessageError::Room(error.kind()))?;
            text.clear();
        }
        let head_len = header.as_ref().map_or(0, Vec::len) as u64;
        if body.len().saturating_add(head_len) > reading.limit {
            let limit = reading.limit;
            return Err(MessageError::TooLarge { limit });
        }
        if over {
            break;
        }
    }
    let (head, recipients) = complete_header(header.unwrap_or_default(), reading)?;
    Ok(Message {
        recipients,
        is_ascii: is_ascii && head.is_ascii(),
        head,
        body,
    })
}

/// Takes the header off the front of `text`, with the empty line behind it, once it is all there. A message without a
/// header is all body; a header that runs into text ends there.
fn take_header(text: &mut Vec<u8>, over: bool) -> Result<Option<Vec<u8>>, MessageError> {
    // Of a line that may go on nothing can be said.
    let whole = text
        .windows(2)
        .rposition(|pair| pair == b"\r\n")
        .map_or(0, |at| at.saturating_add(2));
    let lines = text.get(..whole).unwrap_or_default();
    let (end, body) = match header_end(lines) {
        HeaderEnd::EmptyLine { at, body } => (at, body),
        HeaderEnd::NotAField { at } => (at, at),
        HeaderEnd::Open if over => (text.len(), text.len()),
        HeaderEnd::Open if text.len() > HEADER_BYTES_MAX => return Err(MessageError::Header),
        HeaderEnd::Open => return Ok(None),
    };
    let rest = text.split_off(body);
    let mut header = std::mem::replace(text, rest);
    header.truncate(end);
    Ok(Some(header))
}

/// The header with missing fields added and private ones removed, the empty line behind it; and the recipients that it
/// names.
fn complete_header(
    header: Vec<u8>,
    reading: &HeaderReading<'_>,
) -> Result<(Vec<u8>, Vec<Mailbox>), MessageError> {
    let (source, caller) = (reading.source, reading.caller);
    let header = Header::parse(header).map_err(|_| MessageError::Header)?;
    let recipients = match source {
        RecipientSource::Arguments => Vec::new(),
        RecipientSource::Header => header_recipients(&header, caller)?,
    };
    let mut bytes = Vec::new();
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
    Ok((bytes, recipients))
}

/// The recipients of -t: those of the newest Resent- set if there is one (RFC 5322 section 3.6.6), otherwise of To, Cc
/// and Bcc.
fn header_recipients(header: &Header, caller: &Caller) -> Result<Vec<Mailbox>, MessageError> {
    let resent = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
    let names = if resent.iter().any(|name| header.has(name)) {
        resent
    } else {
        ["To", "Cc", "Bcc"]
    };
    let (mut recipients, mut seen) = (Vec::new(), HashSet::new());
    for field in header
        .fields()
        .filter(|field| names.iter().any(|name| field.is(name)))
    {
        let list = with_commas(field.value());
        let found =
            address_list(&list, Some(&caller.domain)).map_err(|error| MessageError::Addresses {
                field: field.name().to_owned(),
                error,
            })?;
        for mailbox in found {
            if seen.insert(mailbox.clone()) {
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

/// Whether a field holds a name that only this machine knows and is in order otherwise.
fn needs_domain(field: Field<'_>) -> bool {
    match address_list(field.value(), None) {
        Ok(found) => found.iter().any(|mailbox| mailbox.domain().is_loopback()),
        Err(AddressListError::Address { error, .. }) => error == AddressError::NoDomain,
        Err(_) => false,
    }
}

/// Writes a field with every bare name completed, and with the domain of this machine for `localhost`. Cron writes
/// `From: root (Cron Daemon)`: the comment of a single address is kept as its name.
fn write_completed(out: &mut Vec<u8>, field: Field<'_>, caller: &Caller) {
    let Ok(mailboxes) = address_list(field.value(), Some(&caller.domain)) else {
        out.extend_from_slice(field.raw());
        return;
    };
    let mailboxes: Vec<Mailbox> = mailboxes
        .iter()
        .map(|mailbox| own(mailbox, &caller.domain))
        .collect();
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

/// A display name for a field: quoted if necessary, an encoded word if it is not ASCII (RFC 2047).
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

/// Writes a field of our making, which may be folded already; a name in it may be of any length.
fn write_field(out: &mut Vec<u8>, text: &str) {
    for line in text.split("\r\n") {
        write_line(out, line.as_bytes());
    }
}

/// Characters of a name in one encoded word: at most 75 bytes of it when each takes three (RFC 2047 section 2).
const ENCODED_WORD_CHARS: usize = 11;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::TEXT_LINE_BYTES_MAX;

    fn caller() -> Caller {
        let domain = Domain::parse("example.com").expect("a domain");
        Caller {
            mailbox: Mailbox::new("ann", &domain).expect("a mailbox"),
            full_name: Some("Ann".into()),
            domain,
        }
    }

    /// Reads a few bytes at a time, as a pipe may give them.
    struct Pipe<'a>(&'a [u8], usize);

    impl Read for Pipe<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let len = self.1.min(into.len()).min(self.0.len());
            let (now, later) = self.0.split_at(len);
            into[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }

    fn read(
        input: &[u8],
        piece: usize,
        end: MessageEnd,
        source: RecipientSource,
        caller: &Caller,
    ) -> Result<(Vec<u8>, Vec<Mailbox>), MessageError> {
        let reading = HeaderReading {
            end,
            source,
            caller,
            limit: 1 << 20,
        };
        let message = prepare(&mut Pipe(input, piece), &reading)?;
        let mut bytes = Vec::new();
        message.reader().read_to_end(&mut bytes).expect("a message");
        assert_eq!(bytes.len() as u64, message.size());
        assert_eq!(bytes.is_ascii(), message.is_ascii);
        Ok((bytes, message.recipients))
    }

    fn prepared(input: &str, end: MessageEnd, source: RecipientSource) -> (String, Vec<String>) {
        let (bytes, recipients) =
            read(input.as_bytes(), 4096, end, source, &caller()).expect("a message");
        for piece in [1, 2, 7] {
            let again = read(input.as_bytes(), piece, end, source, &caller());
            assert_eq!(again, Ok((bytes.clone(), recipients.clone())));
        }
        let recipients = recipients.iter().map(Mailbox::to_string).collect();
        (String::from_utf8(bytes).expect("text"), recipients)
    }

    /// Gives the same bytes for ever; counts what was read.
    struct Endless<'a>(&'a [u8], usize);

    impl Read for Endless<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            for (to, from) in into.iter_mut().zip(self.0.iter().cycle()) {
                *to = *from;
            }
            self.1 += into.len();
            Ok(into.len())
        }
    }

    #[test]
    fn what_is_over_the_limit_is_not_read_to_its_end() {
        let caller = caller();
        let reading = HeaderReading {
            end: MessageEnd::Input,
            source: RecipientSource::Arguments,
            caller: &caller,
            limit: 100_000,
        };
        let error = Err(MessageError::TooLarge { limit: 100_000 });
        for bytes in [&b"x"[..], b"\n", b"\0x\n"] {
            let mut endless = Endless(bytes, 0);
            let result = prepare(&mut endless, &reading);
            assert_eq!(result.map(|message| message.size()), error);
            assert!(endless.1 < 3 * 100_000);
        }
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
            let message = read(input.as_bytes(), 4096, MessageEnd::Input, source, &caller);
            let text = String::from_utf8(message.expect("a message").0).expect("text");
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
    fn a_bad_list_is_said() {
        let error = read(
            b"To: a@b <\n\nx\n",
            4096,
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
            use crate::smtp::data::{Decoder, Framing, LongLines};
            if let Ok((bytes, _)) = read(&input, 999, MessageEnd::Input, RecipientSource::Arguments, &caller()) {
                let mut out = Vec::new();
                let mut decoder = Decoder::new(Framing::Counted, LongLines::Refuse);
                decoder.decode(&mut bytes.as_slice(), &mut out);
                prop_assert_eq!(decoder.fault(), None);
                prop_assert!(bytes.ends_with(b"\r\n"));
            }
        }
    }
}
