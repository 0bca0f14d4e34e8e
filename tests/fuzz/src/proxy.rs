use chopar::limits::PROXY_HEADER_BYTES_MAX;
use chopar::proxy::{HeaderReader, Origin, ProxyError};

/// The beginning of a connection from a proxy. It is read the same in any pieces, no byte after the header is consumed,
/// and the header is within its limit. The first byte is the length of the pieces.
pub fn proxy(data: &[u8]) {
    let (piece, wire) = super::variant(data);
    let whole = read(wire, wire.len());
    assert_eq!(whole, read(wire, usize::from(piece)));
    let (result, taken) = whole;
    assert!(taken <= PROXY_HEADER_BYTES_MAX);
    if let Ok(Some(origin)) = result {
        let (header, behind) = wire.split_at(taken);
        assert_eq!(read(header, header.len()), (Ok(Some(origin)), taken));
        assert_eq!(
            read(&[header, b"x", behind].concat(), 1),
            (Ok(Some(origin)), taken)
        );
        if let Origin::Client { remote, .. } = origin {
            assert_eq!(remote.ip(), remote.ip().to_canonical());
        }
    }
}

/// The result, and the number of consumed bytes.
fn read(wire: &[u8], piece: usize) -> (Result<Option<Origin>, ProxyError>, usize) {
    let mut reader = HeaderReader::default();
    let mut taken = 0;
    for mut part in wire.chunks(piece.max(1)) {
        let before = part.len();
        let result = reader.read(&mut part);
        taken += before - part.len();
        if result != Ok(None) {
            return (result, taken);
        }
        assert!(part.is_empty());
    }
    (Ok(None), taken)
}
