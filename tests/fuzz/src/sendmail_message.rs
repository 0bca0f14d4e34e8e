use std::io::Read as _;

use chopar::address::{Domain, Mailbox};
use chopar::cli::sendmail::flags::{MessageEnd, RecipientSource};
use chopar::cli::sendmail::message::{Caller, HeaderReading, prepare};
use chopar::limits::TEXT_LINE_BYTES_MAX;
use chopar::mail::header::{Header, HeaderEnd, header_end};

/// Input of `sendmail`; the first byte chooses the flags. A resulting message has a header that can be read, only CRLF
/// line ends, no NUL and no line that is too long.
pub fn sendmail_message(data: &[u8]) {
    let (variant, input) = super::variant(data);
    let end = if variant & 1 == 0 {
        MessageEnd::Dot
    } else {
        MessageEnd::Input
    };
    let source = if variant & 2 == 0 {
        RecipientSource::Arguments
    } else {
        RecipientSource::Header
    };
    let (Ok(domain), Ok(mailbox)) = (
        Domain::parse("example.com"),
        Mailbox::parse("ann@example.com"),
    ) else {
        return;
    };
    let caller = Caller {
        mailbox,
        full_name: (variant & 4 != 0).then(|| String::from_utf8_lossy(input).into_owned()),
        domain,
    };
    let reading = HeaderReading {
        end,
        source,
        caller: &caller,
        limit: 1 << 20,
    };
    let Ok(message) = prepare(&mut &*input, &reading) else {
        return;
    };
    let mut text = Vec::new();
    message.reader().read_to_end(&mut text).expect("a message");
    let shown = || text.escape_ascii();
    assert!(super::is_clean(&text), "{}", shown());
    for line in text.split(|byte| *byte == b'\n') {
        assert!(line.len() <= TEXT_LINE_BYTES_MAX + 1, "{}", shown());
    }
    let HeaderEnd::EmptyLine { at, .. } = header_end(&text) else {
        panic!("no header in {}", shown());
    };
    let block = text.get(..at).unwrap_or_default();
    let header = Header::parse(block.to_vec()).expect("a header");
    assert!(header.has("From"), "{}", shown());
}
