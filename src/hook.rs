//! The protocol between the relay and a hook: a message and its facts go to the operator's program, and its verdict
//! comes back.
//!
//! ```text
//! request = *( NAME "=" value CRLF ) CRLF body "." CRLF        ; dots stuffed as in DATA
//! answer  = "EXIT" SP code SP bytes CRLF output                ; what the program wrote to standard output
//!         / "FAILED" SP text CRLF                              ; it gave no exit code
//! ```
//!
//! [`Hook`] writes the request on the sandboxed side, reads the answer and interprets it. [`HookRequest`] reads the
//! request on the side that runs the program. Invariants: facts have only the names of [`Fact`]; only complete header
//! fields are added to a message; an answer that cannot be interpreted defers the message.

use crate::escape::one_line;
use crate::limits::{
    HOOK_FACTS_BYTES_MAX, HOOK_OUTPUT_BYTES_MAX, HOOK_VALUE_BYTES_MAX, REPLY_TEXT_CHARS_MAX,
    TEXT_LINE_BYTES_MAX,
};

use crate::smtp::data::{Decoder, Encoder, Framing, LongLines};

/// The target name with which the relay requests the hook from the helper.
pub const HOOK: &str = "hook";

/// A fact about a message for the hook; the names are those of its environment variables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fact {
    /// The address of the client.
    RemoteAddr,
    /// The name that it gave in EHLO.
    EhloDomain,
    /// The reverse-path; empty for the null one.
    MailFrom,
    /// The recipients, separated by spaces. A long list is cut after an address.
    RcptTo,
    /// The login, if any.
    AuthAs,
    /// `1` over TLS, else empty.
    OnTls,
    /// `1` if the reverse-path is in a served domain, otherwise empty.
    FromLocalDomain,
    /// `1` if SPF passed, otherwise empty.
    SpfPass,
    /// The result of SPF as Authentication-Results names it.
    SpfResult,
    /// The domains of the valid DKIM signatures, separated by spaces.
    DkimPass,
    /// The result of DMARC as Authentication-Results names it.
    DmarcResult,
    /// The queue id of the message.
    QueueId,
}

impl Fact {
    /// Every variant, in the order in which they are listed.
    pub const ALL: [Self; 12] = [
        Self::RemoteAddr,
        Self::EhloDomain,
        Self::MailFrom,
        Self::RcptTo,
        Self::AuthAs,
        Self::OnTls,
        Self::FromLocalDomain,
        Self::SpfPass,
        Self::SpfResult,
        Self::DkimPass,
        Self::DmarcResult,
        Self::QueueId,
    ];

    /// The name of the variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RemoteAddr => "REMOTE_ADDR",
            Self::EhloDomain => "EHLO_DOMAIN",
            Self::MailFrom => "MAIL_FROM",
            Self::RcptTo => "RCPT_TO",
            Self::AuthAs => "AUTH_AS",
            Self::OnTls => "ON_TLS",
            Self::FromLocalDomain => "FROM_LOCAL_DOMAIN",
            Self::SpfPass => "SPF_PASS",
            Self::SpfResult => "SPF_RESULT",
            Self::DkimPass => "DKIM_PASS",
            Self::DmarcResult => "DMARC_RESULT",
            Self::QueueId => "QUEUE_ID",
        }
    }
}

/// The verdict on the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookVerdict {
    /// Accept the message.
    Accept {
        /// Header fields to add above the message, each with its CRLF.
        fields: Vec<u8>,
        /// Whether the hook's output contained anything other than header fields; then no field is added.
        junk: bool,
    },
    /// 550 5.7.1 with this text: printable ASCII.
    Refuse {
        /// The last line that the hook wrote, or a text of ours.
        text: String,
    },
    /// 451 4.7.0. The text is for the log, not for the client.
    Defer { text: String },
}

/// A request to a hook, on the side of the relay.
pub struct Hook {
    body: Encoder,
    answer: Vec<u8>,
}

impl Hook {
    /// Writes the facts to `out`. The body follows: [`Self::on_body`], [`Self::on_body_end`].
    pub fn new(facts: &[(Fact, &str)], out: &mut Vec<u8>) -> Self {
        for (fact, value) in facts {
            out.extend_from_slice(fact.name().as_bytes());
            out.push(b'=');
            // On one line in any case; the parsers ignore the difference.
            let shown = value.chars().map(|c| if c.is_control() { '?' } else { c });
            out.extend_from_slice(cut(shown.collect::<String>().as_str()).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Self {
            body: Encoder::default(),
            answer: Vec::new(),
        }
    }

    /// Writes a piece of the message.
    pub fn on_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.body.encode(bytes, out);
    }

    /// Writes the end of the message.
    pub fn on_body_end(&mut self, out: &mut Vec<u8>) {
        std::mem::take(&mut self.body).finish(out);
    }

    /// Bytes of the answer arrived; returns the verdict once it is complete.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Option<HookVerdict> {
        self.answer.extend_from_slice(bytes);
        match read_answer(&self.answer) {
            Ok(Some(verdict)) => Some(verdict),
            Ok(None) if self.answer.len() <= ANSWER_BYTES_MAX => None,
            Ok(None) | Err(NotAnAnswer) => Some(HookVerdict::Defer {
                text: "the helper sent something that is not an answer".to_owned(),
            }),
        }
    }
}

/// The verdict for a hook that ended with an exit code.
pub fn write_exit(code: u8, output: &[u8]) -> Vec<u8> {
    let output = output.get(..HOOK_OUTPUT_BYTES_MAX).unwrap_or(output);
    let mut answer = format!("EXIT {code} {}\r\n", output.len()).into_bytes();
    answer.extend_from_slice(output);
    answer
}

/// The verdict for a hook without an exit code.
pub fn write_failed(why: &str) -> Vec<u8> {
    format!("FAILED {}\r\n", one_line(why)).into_bytes()
}

/// The value, cut at a space if possible, if it exceeds the limit for environment variables.
fn cut(value: &str) -> &str {
    let mut end = HOOK_VALUE_BYTES_MAX;
    while !value.is_char_boundary(end) && end < value.len() {
        end = end.saturating_sub(1);
    }
    match value.get(..end).filter(|front| front.len() < value.len()) {
        Some(front) => front.rsplit_once(' ').map_or(front, |(front, _)| front),
        None => value,
    }
}

struct NotAnAnswer;

fn read_answer(answer: &[u8]) -> Result<Option<HookVerdict>, NotAnAnswer> {
    let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (line, rest) = answer.split_at_checked(end).ok_or(NotAnAnswer)?;
    let output = rest.get(2..).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| NotAnAnswer)?;
    if let Some(why) = line.strip_prefix("FAILED ") {
        return Ok(Some(HookVerdict::Defer {
            text: one_line(why),
        }));
    }
    let numbers = line.strip_prefix("EXIT ").ok_or(NotAnAnswer)?;
    let (code, len) = numbers.split_once(' ').ok_or(NotAnAnswer)?;
    let code: u8 = code.parse().map_err(|_| NotAnAnswer)?;
    let len: usize = len.parse().map_err(|_| NotAnAnswer)?;
    if len > HOOK_OUTPUT_BYTES_MAX {
        return Err(NotAnAnswer);
    }
    Ok(output.get(..len).map(|output| judge(code, output)))
}

fn judge(code: u8, output: &[u8]) -> HookVerdict {
    match code {
        0 => match header_fields(output) {
            Some(fields) => HookVerdict::Accept {
                fields,
                junk: false,
            },
            None => HookVerdict::Accept {
                fields: Vec::new(),
                junk: true,
            },
        },
        20 => HookVerdict::Refuse {
            text: last_line(output).unwrap_or_else(|| "refused".to_owned()),
        },
        code => HookVerdict::Defer {
            text: match last_line(output) {
                Some(line) => format!("exit code {code}: {line}"),
                None => format!("exit code {code}"),
            },
        },
    }
}

/// The last line that is not blank, for a reply or the log.
pub fn last_line(output: &[u8]) -> Option<String> {
    let line = output.rsplit(|byte| *byte == b'\n').find_map(|line| {
        let line = line.trim_ascii();
        (!line.is_empty()).then_some(line)
    })?;
    let text = one_line(&String::from_utf8_lossy(line));
    Some(text.chars().take(REPLY_TEXT_CHARS_MAX).collect())
}

/// The output of a hook, if it consists only of header fields (RFC 5322 section 2.2), with all line ends as CRLF. Bytes
/// over 126 are allowed, because header fields may be UTF-8 (RFC 6532).
fn header_fields(output: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Vec::new();
    let text = output.strip_suffix(b"\n").unwrap_or(output);
    if text.is_empty() {
        return Some(fields);
    }
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (first, rest) = line.split_first()?;
        let folded = matches!(first, b' ' | b'\t');
        let is_good = match folded {
            true => !fields.is_empty() && !rest.trim_ascii().is_empty(),
            false => {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = line.get(..colon)?;
                !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
            }
        };
        let printable = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if !is_good || !line.iter().all(printable) || line.len() > TEXT_LINE_BYTES_MAX {
            return None;
        }
        fields.extend_from_slice(line);
        fields.extend_from_slice(b"\r\n");
    }
    std::str::from_utf8(&fields).is_ok().then_some(fields)
}

/// A request, on the side that runs the program.
#[derive(Default)]
pub struct HookRequest {
    facts: Vec<(Fact, String)>,
    taken: usize,
    line: Vec<u8>,
    body: Option<Decoder>,
}

/// The progress of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookProgress {
    /// More input is needed.
    More,
    Whole,
    /// The request is malformed, and its peer is not trusted.
    Malformed,
}

impl HookRequest {
    /// Takes received bytes; appends those of the message to `body`.
    pub fn on_bytes(&mut self, mut input: &[u8], body: &mut Vec<u8>) -> HookProgress {
        loop {
            if let Some(decoder) = &mut self.body {
                let whole = decoder.decode(&mut input, body);
                return match (decoder.fault(), whole) {
                    (Some(_), _) => HookProgress::Malformed,
                    (None, true) => HookProgress::Whole,
                    (None, false) => HookProgress::More,
                };
            }
            let Some((&byte, rest)) = input.split_first() else {
                return HookProgress::More;
            };
            input = rest;
            self.taken = self.taken.saturating_add(1);
            if self.taken > HOOK_FACTS_BYTES_MAX {
                return HookProgress::Malformed;
            }
            self.line.push(byte);
            if let Some(line) = self.line.strip_suffix(b"\r\n") {
                if line.is_empty() {
                    self.body = Some(Decoder::new(Framing::Dot, LongLines::Take));
                } else {
                    match read_fact(line) {
                        Some(fact) => self.facts.push(fact),
                        None => return HookProgress::Malformed,
                    }
                }
                self.line.clear();
            }
        }
    }

    /// The facts, once the request is complete.
    pub fn facts(&self) -> &[(Fact, String)] {
        &self.facts
    }
}

fn read_fact(line: &[u8]) -> Option<(Fact, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let (name, value) = line.split_once('=')?;
    let fact = Fact::ALL.into_iter().find(|fact| fact.name() == name)?;
    let fits = value.len() <= HOOK_VALUE_BYTES_MAX && !value.contains(char::is_control);
    fits.then(|| (fact, value.to_owned()))
}

/// Bytes of an answer: its line and the output.
const ANSWER_BYTES_MAX: usize = HOOK_OUTPUT_BYTES_MAX + 2_048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(answer: &[u8]) -> Option<HookVerdict> {
        Hook::new(&[], &mut Vec::new()).on_bytes(answer)
    }

    fn accepted(output: &str) -> Option<String> {
        match verdict(&write_exit(0, output.as_bytes())) {
            Some(HookVerdict::Accept { fields, junk }) => {
                (!junk).then(|| String::from_utf8(fields).expect("UTF-8"))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn header_lines_of_a_hook_that_accepts_are_taken_with_any_line_end() {
        assert_eq!(accepted(""), Some(String::new()));
        assert_eq!(
            accepted("X-Spam: no\nX-Score: 1\r\n\ttests=A\n"),
            Some("X-Spam: no\r\nX-Score: 1\r\n\ttests=A\r\n".into())
        );
    }

    #[test]
    fn what_is_no_header_field_is_left_out() {
        for junk in [
            "all is well\n",
            " folded: first\n",
            "X-A: b\n\nbody\n",
            "X-A: b\n \t\n",
            "X A: b\n",
            ": b\n",
            "X-A: \u{1}\n",
            "X-A: b\rX-B: c\n",
        ] {
            assert_eq!(accepted(junk), None, "{junk:?}");
        }
        assert_eq!(accepted(&format!("X-A: {}\n", "b".repeat(1_000))), None);
    }

    #[test]
    fn twenty_refuses_with_the_last_line_and_the_rest_defers() {
        let refuse = |text: &str| {
            Some(HookVerdict::Refuse {
                text: text.to_owned(),
            })
        };
        assert_eq!(
            verdict(&write_exit(20, b"x\nspam\x1b!\n\n")),
            refuse("spam !")
        );
        assert_eq!(verdict(&write_exit(20, b"")), refuse("refused"));
        for answer in [
            write_exit(75, b"later"),
            write_exit(1, b""),
            write_failed("no time\r\nEXIT 0 0"),
            b"250 ok\r\n".to_vec(),
            b"EXIT 300 0\r\n".to_vec(),
            b"EXIT 0 99999999\r\n".to_vec(),
            vec![b'x'; ANSWER_BYTES_MAX + 1],
        ] {
            assert!(
                matches!(verdict(&answer), Some(HookVerdict::Defer { .. })),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn facts_and_message_arrive_as_they_were_sent() {
        let mut wire = Vec::new();
        let facts = [
            (Fact::MailFrom, "a=b@c.example"),
            (Fact::EhloDomain, "x\r\nLD_PRELOAD=y"),
        ];
        let mut hook = Hook::new(&facts, &mut wire);
        hook.on_body(b"A: b\r\n\r\n.dot\r\n", &mut wire);
        hook.on_body_end(&mut wire);
        let mut request = HookRequest::default();
        let mut body = Vec::new();
        assert_eq!(request.on_bytes(&wire, &mut body), HookProgress::Whole);
        assert_eq!(body, b"A: b\r\n\r\n.dot\r\n");
        assert_eq!(
            request.facts(),
            [
                (Fact::MailFrom, "a=b@c.example".to_owned()),
                (Fact::EhloDomain, "x??LD_PRELOAD=y".to_owned())
            ]
        );
    }

    #[test]
    fn a_name_that_is_no_fact_is_not_believed() {
        for wire in ["LD_PRELOAD=x\r\n", "MAIL_FROM\r\n", "MAIL_FROM=\u{7}\r\n"] {
            let mut request = HookRequest::default();
            assert_eq!(
                request.on_bytes(wire.as_bytes(), &mut Vec::new()),
                HookProgress::Malformed,
                "{wire:?}"
            );
        }
    }

    #[test]
    fn a_long_list_of_recipients_is_cut_behind_an_address() {
        let list = "someone@example.com ".repeat(10_000);
        let mut wire = Vec::new();
        let _hook = Hook::new(&[(Fact::RcptTo, &list)], &mut wire);
        let mut request = HookRequest::default();
        assert_eq!(
            request.on_bytes(&wire, &mut Vec::new()),
            HookProgress::More,
            "the body is to come"
        );
        let (_, value) = request.facts().first().expect("a fact");
        assert!(value.len() > HOOK_VALUE_BYTES_MAX - 40 && value.ends_with("@example.com"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(output in proptest::collection::vec(any::<u8>(), 0..200), code in any::<u8>(), at in 0..40_usize) {
            let wire = write_exit(code, &output);
            let mut hook = Hook::new(&[], &mut Vec::new());
            let (front, back) = wire.split_at(at.min(wire.len()));
            let first = hook.on_bytes(front);
            let whole = if first.is_some() { first } else { hook.on_bytes(back) };
            prop_assert_eq!(whole, verdict(&wire));
        }
    }
}
