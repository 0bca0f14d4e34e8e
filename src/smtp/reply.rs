//! Replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, 3463, 5248).
//!
//! [`Reply`] is a reply of our server; the table below contains every reply, one line for each cause. [`ReplyReader`]
//! reads the replies of a remote server, within fixed limits.

use std::borrow::Cow;

use super::command::CommandError;
use super::data::BodyFault;
use crate::escape::Ascii;
use crate::limits::{REPLY_BYTES_MAX, REPLY_LINES_MAX, REPLY_TEXT_CHARS_MAX};
use crate::status::EnhancedCode;

/// One reply of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

/// Makes the table: a constant for each cause, and for the test the list of all.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $code:literal $enhanced:literal $text:literal;)*) => {
        impl Reply {
            $($(#[$doc])* pub const $name: Self = Self::fixed($code, EnhancedCode::written($enhanced), $text);)*
        }

        #[cfg(test)]
        const TABLE: &[(&str, Reply)] = &[$((stringify!($name), Reply::$name)),*];
    };
}

replies! {
    /// Answer to QUIT.
    BYE = 221 "2.0.0" "Bye";
    /// Answer to RSET and NOOP.
    OK = 250 "2.0.0" "OK";
    /// Answer to MAIL.
    SENDER_OK = 250 "2.1.0" "Sender OK";
    /// Answer to RCPT.
    RECIPIENT_OK = 250 "2.1.5" "Recipient OK";
    /// Answer to a BDAT that is not the last.
    CHUNK_OK = 250 "2.0.0" "Chunk taken";
    /// Answer to STARTTLS.
    START_TLS = 220 "2.0.0" "Ready to start TLS";
    /// AUTH has succeeded.
    AUTHENTICATED = 235 "2.7.0" "Authentication succeeded";
    /// Answer to VRFY (RFC 5321 section 3.5.3).
    CANNOT_VERIFY = 252 "2.1.5" "Cannot verify, but will try to deliver";
    /// Answer to HELP.
    HELP = 214 "2.0.0" "See RFC 5321";

    /// The line contains a bare CR or LF.
    BARE_NEWLINE = 500 "5.5.2" "Lines end with CRLF, and this one holds a lone CR or LF";
    /// The line contains control characters or is not UTF-8.
    BAD_CHARACTER = 500 "5.5.2" "The line holds bytes that cannot stand in a command";
    LINE_TOO_LONG = 500 "5.5.6" "Line too long";
    /// No such verb.
    UNKNOWN_VERB = 500 "5.5.1" "Command not recognised";
    /// The client speaks HTTP or another protocol.
    FOREIGN_PROTOCOL = 554 "5.5.1" "This is an SMTP server";
    /// A command that is not offered.
    NOT_IMPLEMENTED = 502 "5.5.1" "Command not implemented";
    /// The argument does not fit the grammar.
    SYNTAX = 501 "5.5.4" "Syntax error in parameters";
    /// A command without parameters got an argument.
    UNEXPECTED_ARGUMENT = 501 "5.5.4" "This command takes no parameters";
    /// UTF-8 without SMTPUTF8.
    NEEDS_SMTPUTF8 = 553 "5.6.7" "The address needs SMTPUTF8";
    /// A parameter of MAIL or RCPT that EHLO does not offer.
    UNKNOWN_PARAMETER = 555 "5.5.4" "Parameter not recognised";
    /// A parameter with an invalid value, or given twice.
    BAD_PARAMETER = 501 "5.5.4" "Parameter malformed or given twice";
    /// The reverse-path is not an address.
    BAD_SENDER = 501 "5.1.7" "The sender is not a valid address";
    /// An SRS address that has expired.
    RETURN_EXPIRED = 550 "5.1.1" "The return address has expired";
    /// An SRS address that this host did not make.
    RETURN_FORGED = 550 "5.7.1" "The return address was not made here";
    /// An SRS address that has no uses left.
    RETURN_SPENT = 550 "5.7.1" "Too many messages went to this return address, it takes no more";
    /// An SRS address of the first release, with a sender other than `<>`.
    RETURN_FOR_NULL = 550 "5.7.1" "This return address takes notifications only, whose sender is <>";
    /// An SRS address, with a sender for which neither SPF nor DKIM vouches.
    RETURN_UNVOUCHED = 550 "5.7.1" "A return address takes notifications, and mail of a sender that SPF or DKIM vouches for";
    /// A forward-path is not an address.
    BAD_RECIPIENT = 501 "5.1.3" "The recipient is not a valid address";
    BAD_SEQUENCE = 503 "5.5.1" "Commands out of order";
    /// DATA without an accepted recipient.
    NO_RECIPIENTS = 554 "5.5.1" "No valid recipients";
    /// DATA after BDAT, or BDAT after DATA.
    MIXED_BODY = 503 "5.5.1" "DATA and BDAT cannot be mixed";
    /// More recipients than LIMITS announced.
    TOO_MANY_RECIPIENTS = 452 "4.5.3" "Too many recipients, send the rest in another transaction";

    /// The port is for users, who must log in.
    AUTH_REQUIRED = 530 "5.7.0" "Authentication required";
    /// The port is for users, and AUTH needs TLS first.
    STARTTLS_REQUIRED = 530 "5.7.0" "Issue STARTTLS first";
    /// AUTH without TLS.
    AUTH_NEEDS_TLS = 538 "5.7.11" "Encryption required: issue STARTTLS before AUTH";
    /// The client sent AUTH on a port for mail of other hosts.
    AUTH_NOT_OFFERED = 502 "5.5.1" "AUTH is not offered on this port, use 465 or 587";
    /// A second AUTH, or AUTH in a transaction.
    AUTH_OUT_OF_ORDER = 503 "5.5.1" "AUTH is not possible now";
    /// No such mechanism.
    AUTH_MECHANISM = 504 "5.5.4" "Mechanism not offered";
    /// A response that is not base64, or not in the form of its mechanism.
    AUTH_MALFORMED = 501 "5.5.2" "Malformed authentication response";
    AUTH_TOO_LONG = 500 "5.5.6" "Authentication response too long";
    /// The client gave up.
    AUTH_CANCELLED = 501 "5.7.0" "Authentication cancelled";
    AUTH_FAILED = 535 "5.7.8" "Authentication failed: login or password is wrong";
    /// Too many failures from this address.
    AUTH_THROTTLED = 421 "4.7.0" "Too many authentication failures, try again later";
    /// Too many verifications of passwords wait for the workers.
    AUTH_BUSY = 454 "4.3.2" "Authentication is busy, try again in a moment";
    /// The client sent STARTTLS while TLS is active.
    TLS_NOT_NOW = 503 "5.5.1" "STARTTLS is not possible now";
    /// There is no certificate.
    TLS_UNAVAILABLE = 454 "4.7.0" "TLS is not available";

    /// A malformed argument of EHLO or HELO.
    BAD_HELLO = 501 "5.5.2" "Say hello with a domain or an address in brackets";
    /// EHLO or HELO with our own hostname or address.
    OUR_HELLO = 550 "5.7.1" "Say hello with your own name, this one is ours";
    TOO_MANY_CONNECTIONS = 421 "4.7.0" "Too many connections from your address in a minute, try again later";
    TOO_MANY_MESSAGES = 450 "4.7.0" "Too many messages from your address in a minute, try again later";
    TOO_MANY_RECIPIENTS_NOW = 450 "4.7.0" "Too many recipients from your address in a minute, try again later";
    /// Too many unknown recipients.
    TOO_MANY_UNKNOWN = 421 "4.7.0" "Too many addresses that do not exist here, try again later";
    /// The first attempt of an unauthenticated client.
    GREYLISTED = 451 "4.7.1" "Not known here yet, try again in some minutes";

    /// A host that may not relay named a domain that is not served.
    RELAY_DENIED = 550 "5.7.1" "Relaying denied: authenticate on port 465 or 587 first";
    /// The same for a program of this machine.
    RELAY_DENIED_LOCALLY = 550 "5.7.1" "Relaying denied: use sendmail or authenticate on port 465 or 587, or list 127.0.0.1 and ::1 in networks under [relay]";
    /// An address that contains another address.
    ROUTED_ADDRESS = 550 "5.7.1" "Addresses with a route in them are not relayed";
    /// A local part without a domain.
    NO_DOMAIN = 550 "5.7.1" "The address needs a domain";
    LITERAL_ADDRESS = 550 "5.7.1" "Mail to address literals is not relayed";
    /// The address is in a served domain and does not exist.
    UNKNOWN_RECIPIENT = 550 "5.1.1" "No such address here";
    /// Aliases that form a loop or are nested too deep.
    ALIAS_LOOP = 550 "5.4.6" "The address is an alias that leads to itself";
    ALIAS_TOO_WIDE = 550 "5.4.6" "The address is an alias with too many targets";
    /// The user may not send from the reverse-path.
    SENDER_NOT_YOURS = 553 "5.7.1" "You may not send as this address: use your own, or have it listed in send_as of your login";
    /// The user may not send from the address in From.
    FROM_NOT_YOURS = 553 "5.7.1" "The From field names an address that is not yours: use your own, or have it listed in send_as of your login";
    /// From does not contain a valid address.
    FROM_MALFORMED = 550 "5.6.0" "The message needs one From field with a valid address";
    /// There is no From field, or no address in it.
    FROM_MISSING = 550 "5.6.0" "The message names no author: it needs a From field with an address";
    /// There are several From fields.
    FROM_DUPLICATE = 550 "5.6.0" "The message has more than one From field: it needs exactly one";
    /// Mail readers would disagree about the address in From.
    FROM_AMBIGUOUS = 550 "5.6.0" "The From field can be read in more than one way: write it as \"Name\" <address>, with one address";
    /// More authors than are checked.
    FROM_TOO_MANY = 550 "5.6.0" "The From field names too many authors";
    /// The client has lost an authority that it had at RCPT.
    NO_LONGER_TRUSTED = 451 "4.7.1" "What you may send has changed, begin again";
    /// SPF or DKIM cannot be determined now.
    AUTHENTICITY_UNKNOWN = 451 "4.7.0" "SPF or DKIM cannot be checked now, try again later";
    /// The hook returns no verdict now.
    HOOK_DEFERS = 451 "4.7.0" "The message cannot be judged now, try again later";
    RATE_EXCEEDED = 451 "4.7.1" "Too many messages in the last hour, try again later";

    /// Bare CR, bare LF or NUL in the body.
    BODY_NEWLINE = 554 "5.6.0" "The message holds a lone CR or LF; it is refused and the session ends";
    BODY_NUL = 554 "5.6.0" "The message holds a NUL byte; it is refused and the session ends";
    /// A line over 998 bytes.
    BODY_LONG_LINE = 554 "5.6.0" "The message holds a line of more than 998 bytes: encode it as quoted-printable or base64";
    /// The message does not begin with a header.
    HEADER_MALFORMED = 554 "5.6.0" "The message does not begin with a header";
    /// Mail readers would disagree about where the header ends, and the disputed fields matter.
    HEADER_DISPUTED = 550 "5.6.0" "The header has a line that is not a field, with fields after it that would count: \
                                   correct or remove it";
    /// The header block is too long.
    HEADER_TOO_LONG = 554 "5.6.0" "The header of the message is too long";
    /// Over the size that SIZE announced.
    TOO_BIG = 552 "5.3.4" "The message is larger than this server takes";
    /// More than 100 Received fields.
    LOOP = 554 "5.4.6" "The message has passed too many hosts: a mail loop";

    /// The disk is full.
    NO_SPACE = 452 "4.3.1" "Not enough space on the disk, try again later";
    /// The memory limit is reached.
    NO_MEMORY = 452 "4.3.1" "Not enough memory now, try again later";
    /// The disk failed.
    STORE_FAILED = 451 "4.3.0" "The message could not be stored, try again later";
    /// A signature could not be made.
    SIGNING_FAILED = 451 "4.3.0" "The message could not be signed, try again later";

    /// A host that is not a configured proxy connected to the port for proxies.
    NOT_A_PROXY = 554 "5.7.1" "This port is for proxies, and your address is not one of them";
    EARLY_TALKER = 554 "5.5.1" "Wait for the banner before you talk";
    TOO_MANY_ERRORS = 421 "4.7.0" "Too many errors";
    TOO_MANY_AUTH_FAILURES = 421 "4.7.0" "Too many authentication failures";
    /// Too many commands without effect.
    TOO_MANY_COMMANDS = 421 "4.7.0" "Too many commands";
    /// The client was silent for too long.
    TIMEOUT = 421 "4.4.2" "Timeout: nothing came for too long";
    /// Too many bytes of a refused body or an overlong line.
    TOO_MUCH_GARBAGE = 421 "4.7.0" "Too much data for a message that is refused";
    TOO_MANY_SESSIONS = 421 "4.7.0" "Too many sessions from your address";
    /// The user has more sessions than the share allows.
    TOO_MANY_SESSIONS_OF_USER = 421 "4.7.0" "Too many sessions of this user";
    /// The server has reached its limit of sessions.
    SERVER_BUSY = 421 "4.3.2" "Too busy, try again later";
    /// Memory is short, and the session uses more of it than its share.
    NO_ROOM_FOR_SESSION = 421 "4.3.2" "Not enough memory for this session now, try again later";
    /// The daemon is being stopped.
    SHUTTING_DOWN = 421 "4.3.2" "Shutting down, try again in a moment";
}

impl Reply {
    const fn fixed(code: u16, enhanced: EnhancedCode, text: &'static str) -> Self {
        Self {
            code,
            enhanced: Some(enhanced),
            text: Cow::Borrowed(text),
        }
    }

    /// The answer to DATA.
    pub const START_BODY: Self = Self {
        code: 354,
        enhanced: None,
        text: Cow::Borrowed("Send the message, end with a dot on a line of its own"),
    };

    /// The banner.
    /// Decides RFC 5321 section 4.3.1.
    pub fn banner(hostname: &str) -> Self {
        Self {
            code: 220,
            enhanced: None,
            text: format!("{hostname} ESMTP chopar").into(),
        }
    }

    /// The client's address is on a block list.
    pub fn listed(address: std::net::IpAddr, zone: &str) -> Self {
        Self {
            code: 554,
            enhanced: Some(EnhancedCode::new(5, 7, 1)),
            text: format!("Your address {address} is listed by {zone}").into(),
        }
    }

    /// The message fails the policy of its author's domain (RFC 9989).
    pub fn dmarc(author: &str) -> Self {
        Self {
            code: 550,
            enhanced: Some(EnhancedCode::new(5, 7, 1)),
            text: format!("Neither SPF nor DKIM shows that {author} sent this, and its DMARC policy refuses it").into(),
        }
    }

    /// The hook refuses the message with this text, which is printable ASCII.
    pub fn hook(text: &str) -> Self {
        Self {
            code: 550,
            enhanced: Some(EnhancedCode::new(5, 7, 1)),
            text: ascii(text).into(),
        }
    }

    /// The message claims to be from a served domain, without evidence that the domain sent it.
    pub fn spoofing(domain: &str) -> Self {
        Self {
            code: 550,
            enhanced: Some(EnhancedCode::new(5, 7, 1)),
            text: format!(
                "Neither SPF nor DKIM shows that {domain} sent this: its users log in to send"
            )
            .into(),
        }
    }

    /// The message is durable.
    pub fn queued(id: crate::queue_id::QueueId) -> Self {
        Self {
            code: 250,
            enhanced: Some(EnhancedCode::new(2, 0, 0)),
            text: format!("Queued as {id}").into(),
        }
    }

    /// A challenge of AUTH, in base64.
    pub fn challenge(base64: String) -> Self {
        Self {
            code: 334,
            enhanced: None,
            text: base64.into(),
        }
    }

    /// The three-digit code.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code, if the reply has one.
    pub const fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text without codes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the code is 2xx or 3xx.
    pub const fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Whether the code is 5xx.
    pub const fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Appends the reply in its wire form.
    /// Decides RFC 5321 section 4.2.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.code.to_string().as_bytes());
        out.push(b' ');
        if let Some(enhanced) = self.enhanced {
            out.extend_from_slice(enhanced.to_string().as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::BareNewline => Self::BARE_NEWLINE,
            CommandError::BadCharacter => Self::BAD_CHARACTER,
            CommandError::LineTooLong => Self::LINE_TOO_LONG,
            CommandError::UnknownVerb => Self::UNKNOWN_VERB,
            CommandError::ForeignProtocol => Self::FOREIGN_PROTOCOL,
            CommandError::NotImplemented => Self::NOT_IMPLEMENTED,
            CommandError::Syntax => Self::SYNTAX,
            CommandError::UnexpectedArgument => Self::UNEXPECTED_ARGUMENT,
            CommandError::Address(_) => Self::BAD_RECIPIENT,
            CommandError::NeedsSmtputf8 => Self::NEEDS_SMTPUTF8,
            CommandError::UnknownParameter => Self::UNKNOWN_PARAMETER,
            CommandError::BadParameter => Self::BAD_PARAMETER,
        }
    }
}

impl From<BodyFault> for Reply {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::BareNewline => Self::BODY_NEWLINE,
            BodyFault::Nul => Self::BODY_NUL,
            BodyFault::LongLine => Self::BODY_LONG_LINE,
        }
    }
}

/// A reply of a remote server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemoteReply {
    /// The three-digit code, 200 to 599.
    pub code: u16,
    /// The enhanced code of its first line, if its class fits.
    pub enhanced: Option<EnhancedCode>,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl RemoteReply {
    /// Whether this is 2xx.
    pub const fn is_positive(&self) -> bool {
        self.code >= 200 && self.code < 300
    }

    /// Whether this is 5xx.
    pub const fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The enhanced code; if there is none, the least specific one of the code's class.
    pub fn status(&self) -> EnhancedCode {
        self.enhanced.unwrap_or(match self.code {
            200..=399 => EnhancedCode::new(2, 0, 0),
            500.. => EnhancedCode::new(5, 0, 0),
            _ => EnhancedCode::new(4, 0, 0),
        })
    }

    /// The whole reply on one line, cut after [`REPLY_TEXT_CHARS_MAX`] characters. It is not escaped: the writer must
    /// escape it.
    pub fn to_text(&self) -> String {
        let mut text = self.code.to_string();
        if let Some(enhanced) = self.enhanced {
            text.push_str(&format!(" {enhanced}"));
        }
        for line in &self.lines {
            text.push(' ');
            text.push_str(line);
            if text.len() > 4 * REPLY_TEXT_CHARS_MAX {
                break;
            }
        }
        text.chars().take(REPLY_TEXT_CHARS_MAX).collect()
    }
}

/// Why a remote server's reply cannot be used; the session ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyError {
    /// A line without a code, or lines with different codes.
    Malformed,
    /// Over [`REPLY_BYTES_MAX`] or [`REPLY_LINES_MAX`].
    TooLong,
}

/// Reads replies from a stream of bytes. Lenient where it is harmless: a bare LF ends a line, and a code needs no text.
#[derive(Clone, Debug, Default)]
pub struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<String>,
    code: u16,
    len: usize,
}

impl ReplyReader {
    /// Takes bytes off the front of `input` until a reply is complete.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<RemoteReply>, ReplyError> {
        while !input.is_empty() {
            let end = input.iter().position(|&byte| byte == b'\n');
            let take = end.map_or(input.len(), |at| at.saturating_add(1));
            let (part, rest) = input.split_at_checked(take).unwrap_or((input, &[]));
            self.len = self.len.saturating_add(part.len());
            if self.len > REPLY_BYTES_MAX {
                return Err(ReplyError::TooLong);
            }
            self.line.extend_from_slice(part);
            *input = rest;
            if end.is_some()
                && let Some(reply) = self.end_line()?
            {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Ends the input: returns the reply that the input so far contains. Its last line may lack a line end, and further
    /// lines may be missing.
    pub fn cut_off(&mut self) -> Option<RemoteReply> {
        if !self.line.is_empty()
            && let Ok(Some(reply)) = self.end_line()
        {
            return Some(reply);
        }
        let lines = std::mem::take(&mut self.lines);
        self.len = 0;
        (!lines.is_empty()).then(|| finish(self.code, lines))
    }

    /// The input of a malformed reply, on one line, cut after [`REPLY_TEXT_CHARS_MAX`] characters. It is not escaped:
    /// the writer must escape it.
    pub fn said(&mut self) -> String {
        let lines = std::mem::take(&mut self.lines);
        let mut text = String::new();
        for line in lines {
            text.push_str(&format!("{} {line} ", self.code));
            if text.len() > 4 * REPLY_TEXT_CHARS_MAX {
                break;
            }
        }
        let line = std::mem::take(&mut self.line);
        let end = line.len().min(4 * REPLY_TEXT_CHARS_MAX);
        text.push_str(&String::from_utf8_lossy(
            line.get(..end).unwrap_or_default(),
        ));
        text.trim().chars().take(REPLY_TEXT_CHARS_MAX).collect()
    }

    /// Takes a line; keeps a malformed one for [`ReplyReader::said`].
    fn end_line(&mut self) -> Result<Option<RemoteReply>, ReplyError> {
        let line = std::mem::take(&mut self.line);
        let result = self.take_line(&line);
        if result.is_err() {
            self.line = line;
        }
        result
    }

    /// Reads one line of a reply: its code, and whether more lines follow.
    /// Decides RFC 5321 section 4.2.1.
    fn take_line(&mut self, line: &[u8]) -> Result<Option<RemoteReply>, ReplyError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(|code| (200..600).contains(code))
            .ok_or(ReplyError::Malformed)?;
        if !self.lines.is_empty() && code != self.code {
            return Err(ReplyError::Malformed);
        }
        let (more, text) = match rest.split_first() {
            None => (false, rest),
            Some((b' ', text)) => (false, text),
            Some((b'-', text)) => (true, text),
            Some(_) => return Err(ReplyError::Malformed),
        };
        self.code = code;
        self.lines.push(String::from_utf8_lossy(text).into_owned());
        if self.lines.len() > REPLY_LINES_MAX {
            return Err(ReplyError::TooLong);
        }
        if more {
            return Ok(None);
        }
        self.len = 0;
        let lines = std::mem::take(&mut self.lines);
        Ok(Some(finish(code, lines)))
    }
}

/// Text for a reply of ours: printable ASCII, cut if a reply line would be too long.
/// Decides RFC 5321 section 4.5.3.1.5.
fn ascii(text: &str) -> String {
    let mut text = Ascii(text.as_bytes()).to_string();
    text.truncate(REPLY_TEXT_CHARS_MAX); // all ASCII
    text
}

/// Splits the enhanced code off each line, if it is of the code's class (RFC 2034 section 4).
fn finish(code: u16, lines: Vec<String>) -> RemoteReply {
    let mut enhanced = None;
    let mut texts = Vec::with_capacity(lines.len());
    for line in lines {
        match EnhancedCode::split_from(&line) {
            Some((status, text)) if u16::from(status.class()) == code / 100 => {
                enhanced = enhanced.or(Some(status));
                texts.push(text.to_owned());
            }
            _ => texts.push(line),
        }
    }
    RemoteReply {
        code,
        enhanced,
        lines: texts,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_row_of_the_table_is_legal() {
        for (name, reply) in TABLE {
            let enhanced = reply.enhanced.unwrap_or_else(|| panic!("{name}"));
            // RFC 5321 section 4.2.1: first digit 2 to 5, second 0 to 5; RFC 2034 section 4: the classes agree.
            assert!(
                (2..=5).contains(&(reply.code / 100)) && reply.code / 10 % 10 <= 5,
                "{name}"
            );
            assert_eq!(u16::from(enhanced.class()), reply.code / 100, "{name}");
            assert!(
                reply.text.is_ascii() && !reply.text.contains(['\r', '\n']),
                "{name}"
            );
            let mut wire = Vec::new();
            reply.write(&mut wire);
            assert!(wire.len() <= 512, "{name}: RFC 5321 section 4.5.3.1.5");
        }
    }

    fn read_all(wire: &[u8], piece: usize) -> Result<Vec<RemoteReply>, ReplyError> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for mut input in wire.chunks(piece) {
            while let Some(reply) = reader.read(&mut input)? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn reads_replies_in_any_pieces() {
        let wire =
            b"250-mx.example\r\n250-SIZE 100\r\n250 HELP\r\n550 5.1.1 no such user\r\n354\r\n250\n";
        for piece in 1..wire.len() {
            let replies = read_all(wire, piece).expect("replies");
            assert_eq!(replies.len(), 4);
            assert_eq!(replies[0].lines, ["mx.example", "SIZE 100", "HELP"]);
            assert_eq!(
                (replies[1].status(), replies[1].lines[0].as_str()),
                (EnhancedCode::new(5, 1, 1), "no such user")
            );
            assert_eq!((replies[2].code, replies[3].code), (354, 250));
        }
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_text() {
        let replies = read_all(b"450 5.1.1 odd\r\n", 99).expect("a reply");
        assert_eq!(
            (replies[0].enhanced, replies[0].status()),
            (None, EnhancedCode::new(4, 0, 0))
        );
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for wire in [
            &b"hello\r\n"[..],
            b"99 x\r\n",
            b"600 x\r\n",
            b"250x\r\n",
            b"250-a\r\n251 b\r\n",
            b"\r\n",
        ] {
            assert_eq!(read_all(wire, 99), Err(ReplyError::Malformed), "{wire:?}");
        }
        assert_eq!(
            read_all(&b"250-x\r\n".repeat(101), 99),
            Err(ReplyError::TooLong)
        );
        assert_eq!(
            read_all(&vec![b'2'; REPLY_BYTES_MAX + 1], 999),
            Err(ReplyError::TooLong)
        );
    }

    #[test]
    fn the_words_of_a_reply_are_kept_as_they_came() {
        let wire = "550-5.1.1 it's für\r\n550 5.1.1 Конец\r\n";
        let replies = read_all(wire.as_bytes(), 99).expect("a reply");
        assert_eq!(replies[0].to_text(), "550 5.1.1 it's für Конец");
        let long = format!("550 {}\r\n", "é".repeat(900));
        let replies = read_all(long.as_bytes(), 99).expect("a reply");
        assert_eq!(replies[0].to_text().chars().count(), REPLY_TEXT_CHARS_MAX);
    }

    #[test]
    fn what_a_hook_says_is_ascii_on_the_wire() {
        let mut wire = Vec::new();
        Reply::hook("it's für\r\n250 ok").write(&mut wire);
        assert_eq!(wire, b"550 5.7.1 it's f\\xc3\\xbcr\\r\\n250 ok\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(wire in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
            let _ = read_all(&wire, piece);
        }
    }
}
