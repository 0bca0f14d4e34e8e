use chopar::address::{Domain, Mailbox};
use chopar::mail::address_list::address_list;
use chopar::mail::header::{Front, Header, HeaderEnd, HeaderScanner, Scan, header_end};

/// A message. Its fields in sequence are its header, which ends at the same byte however the message is split, and no
/// byte is lost. No From that a reader could find before the first empty line is missed. The addresses found in a field
/// are found again when they are written.
pub fn header(data: &[u8]) {
    let (body, front) = scan(data, data.len());
    assert_eq!(scan(data, 1), (body, front.clone()));
    if let Some(front) = front {
        let before = body.map_or(data.len(), |body| body.saturating_sub(2));
        let (line, rest) = data.split_at(front.envelope_line);
        let kept = [line, front.header.as_bytes(), &front.text].concat();
        assert_eq!(kept, &data[..before]);
        let hidden = lines(rest, before - line.len()).filter(|line| is_from(line));
        let seen = front.header.count("From") + front.header.disputed("From").count();
        assert!(hidden.count() <= seen, "{}", data.escape_ascii());
    }
    if let HeaderEnd::EmptyLine { at, body } = header_end(data) {
        let (block, rest) = data.split_at(at);
        assert!(rest.starts_with(b"\r\n") && body == at + 2);
        let header = Header::parse(block.to_vec());
        let (found, front) = scan(data, data.len());
        assert_eq!(found, Some(body));
        assert_eq!(front.map(|front| front.header), header.ok());
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

/// The lines of a text up to this byte.
fn lines(text: &[u8], end: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = text.get(..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let len = end.map_or(rest.len(), |end| end + 2);
        let line = rest.get(..len).filter(|line| !line.is_empty())?;
        rest = &rest[len..];
        Some(line)
    })
}

/// Whether some reader would take a line for a From field.
fn is_from(line: &[u8]) -> bool {
    let name = line
        .get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"From"));
    let rest = line.get(4..).unwrap_or_default().trim_ascii_start();
    name && rest.first() == Some(&b':')
}

/// The header and the start of the body, when the message arrives in pieces.
fn scan(data: &[u8], piece: usize) -> (Option<usize>, Option<Front>) {
    let mut scanner = HeaderScanner::default();
    let mut at = 0;
    for part in data.chunks(piece.max(1)) {
        match scanner.on_bytes(part) {
            Ok(Scan::Open) => at += part.len(),
            Ok(Scan::Complete { taken }) => return (Some(at + taken), scanner.finish().ok()),
            Err(_) => break,
        }
    }
    (None, scanner.finish().ok())
}
