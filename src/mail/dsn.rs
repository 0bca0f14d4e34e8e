//! Delivery status notifications (RFC 3464 in the multipart/report of RFC 6522; UTF-8 addresses RFC 6533).
//!
//! A DSN has three parts: a text for people, which says what happened and what to do; the same for programs; and the
//! header of the message. If the delivery failed and the sender requested RET=FULL (RFC 3461 section 4.3), the third
//! part is the whole message.
//!
//! Not supported: translations, and reports on more than one message. Invariant: whatever the inputs contain, the DSN
//! consists of lines of at most 998 bytes that end with CRLF, and no input leaves its field or part.

use std::fmt::Write as _;
use std::time::Duration;

use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::entropy::Entropy;
use crate::envelope::{Notify, Recipient};
use crate::escape::{Ascii, one_line};
use crate::limits::{DSN_ORIGINAL_BYTES_MAX, REPLY_TEXT_CHARS_MAX, TEXT_LINE_BYTES_MAX};
use crate::mail::encoded_word;
use crate::mail::header::Header;
use crate::mail::submission::message_id;
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;
use crate::workload::{Unit, count};
use crate::xtext::encode_xtext;

/// The inputs of a DSN. Its subject and text are derived from the reports.
#[derive(Clone, Copy, Debug)]
pub struct DsnFacts<'a> {
    pub hostname: &'a Domain,
    /// The served domain of its From address.
    pub domain: &'a Domain,
    /// The reverse-path of the message.
    pub to: &'a Mailbox,
    pub id: QueueId,
    /// The queue id of the DSN itself.
    pub dsn_id: QueueId,
    /// ENVID of the message.
    pub envelope_id: Option<&'a str>,
    /// When the message was accepted.
    pub arrived: Timestamp,
    pub at: Timestamp,
    /// When attempts at a delayed message end.
    pub retry_until: Option<Timestamp>,
    /// The reports on the recipients; not empty.
    pub reports: &'a [RecipientReport<'a>],
    /// The message itself.
    pub original: Original<'a>,
}

/// The report about one recipient.
#[derive(Clone, Copy, Debug)]
pub struct RecipientReport<'a> {
    pub recipient: &'a Recipient,
    /// The action taken.
    pub action: DsnAction,
    /// Enhanced status; a transient code is reported as permanent if the action is [`DsnAction::Failed`].
    pub status: EnhancedCode,
    /// The reply or text that explains the status.
    pub diagnostic: Diagnostic<'a>,
    /// The host that sent the reply.
    pub remote: Option<&'a str>,
    /// Time of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// Whether delivery ended because the queue lifetime was over.
    pub expired: bool,
}

/// The action for a recipient (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DsnAction {
    /// Delivery failed.
    Failed,
    /// Not delivered yet; further attempts follow.
    Delayed,
    /// Delivered to the mailbox.
    Delivered,
    /// Relayed to a host that does not support DSN.
    Relayed,
}

/// The source of a status's text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Diagnostic<'a> {
    /// A reply of the remote host.
    Smtp(&'a [u8]),
    /// Our own words.
    Local(&'a str),
}

/// The message that a DSN reports on, as it was queued.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Its header block, without the empty line.
    pub header: &'a [u8],
    /// Its body, if the sender requested the whole message (RET=FULL).
    pub body: Option<&'a [u8]>,
}

/// A DSN that is ready to be queued.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DsnMessage {
    /// Header and body.
    pub bytes: Vec<u8>,
    /// Whether it requires BODY=8BITMIME.
    pub eight_bit: bool,
    /// Whether it requires SMTPUTF8, because an address in its header or status is not ASCII.
    pub smtputf8: bool,
}

impl DsnAction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }
}

impl DsnFacts<'_> {
    /// Writes the DSN.
    /// Decides RFC 3464 section 2.1.
    pub fn build(&self, entropy: &mut dyn Entropy) -> DsnMessage {
        count(Unit::Field, self.reports.len());
        let smtputf8 = self.needs_smtputf8();
        let text = self.human_part();
        let status = self.status_part();
        let (original_type, original) = self.original_part(smtputf8);
        let boundary = boundary(&[text.as_bytes(), status.as_bytes(), &original], entropy);
        let status_type = if smtputf8 {
            "message/global-delivery-status"
        } else {
            "message/delivery-status"
        };
        let eight_bit = !(text.is_ascii() && status.is_ascii() && original.is_ascii());
        let mut bytes = self.header(&boundary, eight_bit, entropy).into_bytes();
        bytes.extend_from_slice(b"This is a report in MIME format.\r\n");
        let parts = [
            ("text/plain; charset=utf-8", "Notification", text.as_bytes()),
            (status_type, "Delivery report", status.as_bytes()),
            (original_type, "Your message", &original),
        ];
        for (kind, description, contents) in parts {
            let encoding = if contents.is_ascii() { "7bit" } else { "8bit" };
            bytes.extend_from_slice(
                format!(
                    "\r\n--{boundary}\r\nContent-Description: {description}\r\nContent-Type: {kind}\r\n\
                     Content-Transfer-Encoding: {encoding}\r\n\r\n"
                )
                .as_bytes(),
            );
            bytes.extend_from_slice(contents);
        }
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        DsnMessage {
            eight_bit: !bytes.is_ascii(),
            bytes,
            smtputf8,
        }
    }

    fn has(&self, action: DsnAction) -> bool {
        self.reports.iter().any(|report| report.action == action)
    }

    fn needs_smtputf8(&self) -> bool {
        self.to.needs_smtputf8()
            || self.reports.iter().any(|report| {
                let original = report.recipient.original.as_deref();
                report.recipient.mailbox.needs_smtputf8()
                    || original.is_some_and(|text| !original_recipient(text).is_ascii())
            })
    }

    fn header(&self, boundary: &str, eight_bit: bool, entropy: &mut dyn Entropy) -> String {
        let mut header = String::new();
        let mut field = |name: &str, value: &str| append_field(&mut header, name, value);
        field(
            "From",
            &format!("Mail Delivery System <postmaster@{}>", self.domain),
        );
        field("To", &format!("<{}>", self.to.to_ascii_domain()));
        field("Subject", self.subject());
        field("Date", &self.at.rfc5322().to_string());
        field(
            "Message-ID",
            &message_id(self.dsn_id, self.hostname, entropy),
        );
        if let Some(id) = self.original_message_id() {
            field("In-Reply-To", &id);
            field("References", &id);
        }
        field("Auto-Submitted", "auto-replied");
        if self.has(DsnAction::Failed) {
            let failed: Vec<String> = self
                .reports
                .iter()
                .filter(|report| report.action == DsnAction::Failed)
                .map(|report| report.recipient.mailbox.to_ascii_domain())
                .collect();
            field("X-Failed-Recipients", &failed.join(", "));
        }
        field("MIME-Version", "1.0");
        field(
            "Content-Type",
            &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
        );
        if eight_bit {
            field("Content-Transfer-Encoding", "8bit");
        }
        header.push_str("\r\n");
        header
    }

    fn subject(&self) -> &'static str {
        if self.has(DsnAction::Failed) {
            "Undelivered: your message could not be delivered"
        } else if self.has(DsnAction::Delayed) {
            "Delayed: your message is still being tried"
        } else {
            "Delivered: your message has arrived"
        }
    }

    /// The Message-ID of the message, if it has one that can be put in a field.
    fn original_message_id(&self) -> Option<String> {
        let header = Header::parse(self.original.header.to_vec()).ok()?;
        let value = header.named("Message-ID").next()?.unfolded();
        let id = String::from_utf8(value).ok()?;
        let inner = id.strip_prefix('<')?.strip_suffix('>')?;
        let clean = inner
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>');
        (clean && id.len() <= MESSAGE_ID_BYTES_MAX).then_some(id)
    }

    /// The subject of the message in readable form, if it has one.
    fn original_subject(&self) -> Option<String> {
        let header = Header::parse(self.original.header.to_vec()).ok()?;
        let value = header.named("Subject").next()?.unfolded();
        let text = encoded_word::decode(&String::from_utf8_lossy(&value));
        let text = printable(text.as_bytes()).replace('"', "'");
        let mut subject: String = text.chars().take(SUBJECT_CHARS_MAX).collect();
        if subject.len() < text.len() {
            subject.push_str("...");
        }
        (!subject.is_empty()).then_some(subject)
    }

    fn human_part(&self) -> String {
        let mut text = String::new();
        let subject = self.original_subject();
        let subject = subject.map_or_else(String::new, |subject| format!(" \"{subject}\""));
        append_paragraph(
            &mut text,
            "",
            &format!(
                "This is {}, the mail server that accepted your message{subject} of {}.",
                self.hostname,
                self.arrived.rfc5322()
            ),
        );
        for (action, introduction) in [
            (DsnAction::Failed, FAILED),
            (DsnAction::Delayed, DELAYED),
            (DsnAction::Relayed, RELAYED),
            (DsnAction::Delivered, DELIVERED),
        ] {
            if !self.has(action) {
                continue;
            }
            append_paragraph(&mut text, "", introduction);
            self.append_reports(action, &mut text);
        }
        let mut reports = self.reports.iter();
        if reports.any(|report| report.recipient.notify == Notify::Once) {
            append_paragraph(
                &mut text,
                "",
                "Neither SPF nor DKIM showed that your domain sent the message. So this is the only notification \
                 about it: you get none about other recipients.",
            );
        }
        append_paragraph(
            &mut text,
            "",
            &format!(
                "The number of your message on this server is {}; an administrator can find it in the logs by that.",
                self.id
            ),
        );
        text
    }

    /// The text about the recipients with this action.
    fn append_reports(&self, action: DsnAction, text: &mut String) {
        for report in self.reports.iter().filter(|report| report.action == action) {
            // Indented, because these are the words of another host.
            let sentence = report.sentence(self.at.since(self.arrived));
            append_paragraph(text, "    ", &sentence);
            if action == DsnAction::Failed {
                append_paragraph(text, "", report.advice());
            }
        }
        if let (DsnAction::Delayed, Some(until)) = (action, self.retry_until) {
            append_paragraph(
                text,
                "",
                &format!(
                    "You need not do anything, and should not send it again. Delivery is retried for another {}, \
                     until {}; you will be notified if it fails.",
                    spell(until.since(self.at)),
                    until.rfc5322()
                ),
            );
        }
    }

    /// The second part: the fields about the message, then those about each recipient.
    /// Decides RFC 3464 section 2.2.
    fn status_part(&self) -> String {
        let mut text = String::new();
        let mut field = |name: &str, value: &str| append_field(&mut text, name, value);
        field("Reporting-MTA", &format!("dns; {}", self.hostname));
        if let Some(id) = self.envelope_id {
            field("Original-Envelope-Id", &ascii(id.as_bytes()));
        }
        field("Arrival-Date", &self.arrived.rfc5322().to_string());
        for report in self.reports {
            text.push_str("\r\n");
            report.append_status(&mut text, self.retry_until);
        }
        text
    }

    /// Media type and contents of the third part.
    /// Decides RFC 3462 section 2.
    fn original_part(&self, smtputf8: bool) -> (&'static str, Vec<u8>) {
        let Original { header, body } = self.original;
        if let Some(body) = body.filter(|body| {
            self.has(DsnAction::Failed)
                && header.len().saturating_add(body.len()) <= DSN_ORIGINAL_BYTES_MAX
                && is_clean(header)
                && is_clean(body)
        }) {
            let kind = if smtputf8 {
                "message/global"
            } else {
                "message/rfc822"
            };
            return (kind, [header, b"\r\n", body].concat());
        }
        let kind = if smtputf8 {
            "message/global-headers"
        } else {
            "text/rfc822-headers"
        };
        (kind, cleaned(header))
    }
}

impl RecipientReport<'_> {
    /// The status in a DSN.
    /// Decides RFC 3464 section 2.3.4.
    fn status(&self) -> EnhancedCode {
        if self.action == DsnAction::Failed && self.status.is_transient() {
            self.status.as_permanent()
        } else {
            self.status
        }
    }

    /// The sentence about the last reply, for a message of this age.
    fn sentence(&self, age: Duration) -> String {
        let mailbox = &self.recipient.mailbox;
        let words = printable(self.words());
        let host = self.remote.map(|host| printable(host.as_bytes()));
        let said = match (self.diagnostic, host) {
            (Diagnostic::Smtp(_), Some(host)) => format!("{host} answered: {words}"),
            (Diagnostic::Local(_), Some(host)) => format!("at {host}: {words}"),
            (_, None) => words,
        };
        match self.expired {
            true => format!(
                "<{mailbox}>: tried for {}; the last attempt: {said}",
                spell(age)
            ),
            false => format!("<{mailbox}>: {said}"),
        }
    }

    fn words(&self) -> &[u8] {
        match self.diagnostic {
            Diagnostic::Smtp(reply) => reply,
            Diagnostic::Local(text) => text.as_bytes(),
        }
    }

    fn advice(&self) -> &'static str {
        let code = self.status.to_string();
        let subject = code.split_once('.').map_or("", |(_, rest)| rest);
        match subject {
            "1.1" | "1.6" | "1.10" | "1.0" | "1.3" => ADVICE_ADDRESS,
            "1.2" | "4.4" => ADVICE_DOMAIN,
            "2.1" | "2.2" => ADVICE_FULL,
            "2.3" | "3.4" => ADVICE_SIZE,
            "4.6" => ADVICE_LOOP,
            _ if subject.starts_with("7.") => ADVICE_POLICY,
            _ if subject.starts_with("4.") => ADVICE_NETWORK,
            _ => ADVICE_OTHER,
        }
    }

    /// Appends the fields about a recipient.
    /// Decides RFC 3464 section 2.3.
    fn append_status(&self, text: &mut String, retry_until: Option<Timestamp>) {
        let mut field = |name: &str, value: &str| append_field(text, name, value);
        let mailbox = &self.recipient.mailbox;
        if let Some(original) = &self.recipient.original {
            field("Original-Recipient", &original_recipient(original));
        }
        let (kind, address) = if mailbox.needs_smtputf8() {
            ("utf-8", mailbox.to_string())
        } else {
            ("rfc822", mailbox.to_ascii_domain())
        };
        field("Final-Recipient", &format!("{kind}; {address}"));
        field("Action", self.action.as_str());
        field("Status", &self.status().to_string());
        if let Some(host) = self.remote {
            field("Remote-MTA", &format!("dns; {}", ascii(host.as_bytes())));
        }
        let kind = match self.diagnostic {
            Diagnostic::Smtp(_) => "smtp",
            Diagnostic::Local(_) => "x-chopar",
        };
        let words = ascii(self.words());
        if !words.is_empty() {
            field("Diagnostic-Code", &format!("{kind}; {words}"));
        }
        if let Some(at) = self.last_attempt {
            field("Last-Attempt-Date", &at.rfc5322().to_string());
        }
        if let (DsnAction::Delayed, Some(until)) = (self.action, retry_until) {
            field("Will-Retry-Until", &until.rfc5322().to_string());
        }
    }
}

/// A boundary that occurs in none of the parts.
fn boundary(parts: &[&[u8]], entropy: &mut dyn Entropy) -> String {
    loop {
        let boundary = format!("={:016x}{:016x}", entropy.next_u64(), entropy.next_u64());
        let taken = parts.iter().any(|part| {
            part.windows(boundary.len())
                .any(|window| window == boundary.as_bytes())
        });
        if !taken {
            return boundary;
        }
    }
}

/// `name: value`, folded at spaces.
fn append_field(out: &mut String, name: &str, value: &str) {
    let mut column = name.len().saturating_add(1);
    out.push_str(name);
    out.push(':');
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if column.saturating_add(word.len()) >= LINE_COLUMNS
            && column > name.len().saturating_add(1)
        {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column = column.saturating_add(word.len()).saturating_add(1);
    }
    out.push_str("\r\n");
}

/// A paragraph, wrapped at spaces, and an empty line.
fn append_paragraph(out: &mut String, indent: &str, words: &str) {
    append_wrapped(out, indent, words);
    out.push_str("\r\n");
}

/// Words, wrapped at spaces.
fn append_wrapped(out: &mut String, indent: &str, words: &str) {
    let mut column = 0_usize;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        if column > 0 && column.saturating_add(word.len()) >= LINE_COLUMNS {
            out.push_str("\r\n");
            column = 0;
        }
        let space = if column == 0 { indent } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(out, "{space}{word}");
        column = column
            .saturating_add(space.len())
            .saturating_add(word.len());
    }
    out.push_str("\r\n");
}

/// Peer bytes as one line, cut if too long.
fn printable(bytes: &[u8]) -> String {
    let text = one_line(&String::from_utf8_lossy(bytes));
    let mut end = text.len().min(WORDS_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let text = text.get(..end).unwrap_or_default();
    let text: String = text.chars().take(REPLY_TEXT_CHARS_MAX).collect();
    text.trim().to_owned()
}

/// The same for fields that may contain only ASCII.
fn ascii(bytes: &[u8]) -> String {
    let mut text = Ascii(printable(bytes).as_bytes()).to_string();
    text.truncate(WORDS_BYTES_MAX); // all ASCII
    text
}

/// ORCPT in a field: only an address of the type utf-8 may contain non-ASCII (RFC 6533 section 4.2).
fn original_recipient(original: &str) -> String {
    let original = without_controls(original);
    match original.split_once(';') {
        Some((kind, address)) if !kind.eq_ignore_ascii_case("utf-8") && !address.is_ascii() => {
            format!("{kind};{}", encode_xtext(address))
        }
        _ => original,
    }
}

fn without_controls(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(TEXT_LINE_BYTES_MAX / 8)
        .collect()
}

/// Whether bytes can be sent as they are: CRLF lines of a legal length, without NUL.
fn is_clean(bytes: &[u8]) -> bool {
    (bytes.is_empty() || bytes.ends_with(b"\r\n"))
        && bytes.split(|&byte| byte == b'\n').all(|line| {
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            text.len() <= TEXT_LINE_BYTES_MAX
                && (text.len() < line.len() || line.is_empty())
                && !text.iter().any(|&byte| byte == b'\r' || byte == 0)
        })
}

/// A header block that can be sent: cut after [`DSN_ORIGINAL_BYTES_MAX`], lines that are too long folded, and stray
/// CR, LF and NUL made visible.
fn cleaned(header: &[u8]) -> Vec<u8> {
    if header.len() <= DSN_ORIGINAL_BYTES_MAX && is_clean(header) {
        return header.to_vec();
    }
    let mut out = Vec::new();
    for line in header.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if out.len().saturating_add(line.len()) > DSN_ORIGINAL_BYTES_MAX {
            break;
        }
        for (nth, piece) in line.chunks(TEXT_LINE_BYTES_MAX - 1).enumerate() {
            if nth > 0 {
                out.push(b' ');
            }
            out.extend(piece.iter().map(|&byte| match byte {
                b'\r' | 0 => b'?',
                byte => byte,
            }));
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// A duration in hours, or in days if it is long.
fn spell(span: Duration) -> String {
    let hours = span.as_secs().div_ceil(3_600);
    let (number, unit) = match hours {
        0..=48 => (hours, "hour"),
        _ => (hours.saturating_add(12) / 24, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

const LINE_COLUMNS: usize = 76;
const MESSAGE_ID_BYTES_MAX: usize = 250;
/// Bytes of a peer's words in one line.
const WORDS_BYTES_MAX: usize = 900;
/// Characters of a subject.
const SUBJECT_CHARS_MAX: usize = 100;

const FAILED: &str = "It could not be delivered to the address below, and is not tried again.";
const DELAYED: &str =
    "It could not yet be delivered to the address below, and is still being tried.";
const RELAYED: &str = "You asked for this notification: the message was passed to the mail server of the address \
                       below, which sends no further notifications.";
const DELIVERED: &str =
    "You asked for this notification: the message was delivered to the address below.";

const ADVICE_ADDRESS: &str = "What to do: check the spelling of the address. If it is right, ask the recipient \
                              another way whether it still exists.";
const ADVICE_DOMAIN: &str = "What to do: check the spelling of the part after the @. If it is right, that domain is \
                             not set up to receive mail; contact its owner another way.";
const ADVICE_FULL: &str = "What to do: the mailbox is full or switched off. Tell the recipient another way, and send \
                           the message again later.";
const ADVICE_SIZE: &str = "What to do: the message is too big for the receiving server. Send it without attachments, \
                           or with a link to them.";
const ADVICE_LOOP: &str = "What to do: the address forwards in a circle. Tell its owner, or the administrator of this \
                           server, and show them this message.";
const ADVICE_POLICY: &str = "What to do: the receiving server refused the message because of its policy; its answer \
                             above says why. Show the answer to the administrator of this server, who may have to \
                             correct SPF, DKIM, DMARC or the reputation of its address.";
const ADVICE_NETWORK: &str = "What to do: the receiving server could not be reached. Tell the recipient another way, \
                              and send the message again later.";
const ADVICE_OTHER: &str = "What to do: the answer above says why. If it does not help, show this message to the \
                            administrator of this server.";

#[cfg(test)]
mod tests;
