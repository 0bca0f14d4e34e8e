use chopar::address::{Domain, Mailbox};
use chopar::mail::address_list::address_list;
use chopar::mail::header::{Header, HeaderEnd, HeaderScanner, Scan, header_end};

/// A message. Its fields, one after the other, are its header; it ends at the same byte however it comes in; the
/// addresses that are found in a field are found again when they are written out.
pub fn header(data: &[u8]) {
    if let HeaderEnd::EmptyLine { at, body } = header_end(data) {
        let (block, rest) = data.split_at(at);
        assert!(rest.starts_with(b"\r\n") && body == at + 2);
        let header = Header::parse(block.to_vec());
        assert_eq!(scan(data, 1), (Some(body), header.clone().ok()));
        assert_eq!(scan(data, data.len()), (Some(body), header.ok()));
    }
    let Ok(header) = Header::parse(data.to_vec()) else {
        return;
    };
    let fields: Vec<u8> = header
        .fields()
        .flat_map(|field| field.raw().to_vec())
        .collect();
    assert_eq!(fields, data);
    let local = Domain::parse("example.com").ok();
    for field in header.fields() {
        assert!(header.has(field.name()));
        for local in [None, local.as_ref()] {
            let Ok(mailboxes) = address_list(field.value(), local) else {
                continue;
            };
            let text: Vec<String> = mailboxes.iter().map(Mailbox::to_string).collect();
            let text = text.join(", ");
            assert_eq!(
                address_list(text.as_bytes(), local),
                Ok(mailboxes),
                "{text}"
            );
        }
    }
}

/// Where the body begins, and the header before it, when the message comes in pieces.
fn scan(data: &[u8], piece: usize) -> (Option<usize>, Option<Header>) {
    let mut scanner = HeaderScanner::default();
    let mut at = 0;
    for part in data.chunks(piece.max(1)) {
        match scanner.on_bytes(part) {
            Ok(Scan::Open) => at += part.len(),
            Ok(Scan::Complete { taken }) => return (Some(at + taken), scanner.finish().ok()),
            Err(_) => break,
        }
    }
    (None, None)
}
