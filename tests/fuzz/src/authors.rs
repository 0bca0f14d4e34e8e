use chopar::address::Domain;
use chopar::limits::DMARC_AUTHORS_MAX;
use chopar::mail::address_list::address_list;
use chopar::mail::authors::authors_in;

/// A value of From. If it is accepted, it has a bounded number of authors, which include each address that the grammar
/// finds and each in angle brackets. White space around the value changes nothing.
pub fn authors(data: &[u8]) {
    let Ok(found) = authors_in(data) else {
        return;
    };
    assert!(!found.is_empty() && found.len() <= DMARC_AUTHORS_MAX);
    for mailbox in address_list(data, None).unwrap_or_default() {
        assert!(found.contains(mailbox.domain()), "{mailbox}");
    }
    for part in data.split(|byte| *byte == b'<').skip(1) {
        let inner = part.split(|byte| *byte == b'>').next();
        let domain = inner.and_then(|inner| inner.rsplit(|byte| *byte == b'@').next());
        let domain = domain.filter(|domain| domain.len() < inner.map_or(0, <[u8]>::len));
        let domain = domain.and_then(|domain| std::str::from_utf8(domain).ok());
        if let Some(Ok(domain)) = domain.map(|text| Domain::parse(text.trim())) {
            assert!(found.contains(&domain), "{domain}");
        }
    }
    let spaced = [b" \r\n\t", data, b" "].concat();
    assert_eq!(authors_in(&spaced), Ok(found));
}
