use std::time::Duration;

use chopar::address::Domain;
use chopar::clock::Instant;
use chopar::dns::{Asked, DnsAction, Question, RecordKind, Resolver, Servers};
use chopar::entropy::SeededEntropy;

/// A server that answers every query with these bytes, after the query's ID and, as the first byte chooses, its
/// question. Half of the variants split what arrives by stream. The question gets one answer, and nothing is left.
pub fn dns_answer(data: &[u8]) {
    let (variant, reply) = super::variant(data);
    let kind = match variant % 6 {
        0 => RecordKind::A,
        1 => RecordKind::Aaaa,
        2 => RecordKind::Mx,
        3 => RecordKind::Txt,
        4 => RecordKind::Ptr,
        _ => RecordKind::Tlsa,
    };
    let Ok(name) = Domain::parse("mx.example.com") else {
        return;
    };
    let entropy = &mut SeededEntropy::new(variant.into());
    let mut resolver = Resolver::new(Servers::default());
    let mut now = Instant::START;
    let asked = resolver.ask(Question { name, kind }, now, entropy);
    let Asked::Pending(id) = asked else {
        panic!("{asked:?}");
    };
    let (mut open, mut answers) = (Vec::new(), 0);
    for _ in 0..100 {
        match resolver.next_action() {
            Some(DnsAction::SendDatagram { socket, to, bytes }) => {
                open.push(socket);
                let packet = answer(&bytes, variant, reply);
                resolver.on_datagram(socket, to, &packet, now, entropy);
            }
            Some(DnsAction::ConnectStream { socket, bytes, .. }) => {
                open.push(socket);
                let packet = answer(bytes.get(2..).unwrap_or_default(), variant, reply);
                let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
                let wire = [len.to_be_bytes().as_slice(), &packet].concat();
                let piece = if variant & 0x40 == 0 { 1 } else { wire.len() };
                for part in wire.chunks(piece) {
                    resolver.on_stream_bytes(socket, part, now, entropy);
                }
            }
            Some(DnsAction::CloseSocket { socket }) => open.retain(|other| *other != socket),
            Some(DnsAction::Answered { id: answered, .. }) => {
                assert_eq!(answered, id);
                answers += 1;
            }
            None => {
                now = now.after(Duration::from_secs(3));
                resolver.expire(now, entropy);
            }
        }
    }
    assert_eq!(answers, 1);
    assert_eq!((open.as_slice(), resolver.counts().0), (&[][..], 0));
}

/// The reply to `query`: its ID, its question if the variant includes it, and `data`.
fn answer(query: &[u8], variant: u8, data: &[u8]) -> Vec<u8> {
    let id = query.get(..2).unwrap_or_default();
    if variant & 0x80 != 0 {
        return [id, data].concat();
    }
    let name = query.get(12..).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let question = name.get(..end).unwrap_or_default();
    let (head, records) = data.split_at(data.len().min(10));
    [id, head, question, records].concat()
}
