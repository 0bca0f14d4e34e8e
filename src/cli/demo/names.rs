//! The name server of the demo: one thread that answers only for the two domains of the demo.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use simple_dns::rdata::{A, MX, RData, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// The records of the demo.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// The domain that mail is sent to, and the host that takes it.
    pub(super) receiver: (String, String),
    /// Names and texts of the DKIM keys.
    pub(super) texts: Vec<(String, String)>,
}

/// Starts the server; returns its address. It ends with the process.
pub(super) fn serve(zone: Zone) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    thread::Builder::new()
        .name("demo-dns".into())
        .spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                if let Some(reply) = answer(buffer.get(..len).unwrap_or_default(), &zone) {
                    drop(socket.send_to(&reply, from));
                }
            }
        })?;
    Ok(address)
}

fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    let question = query.questions.first()?.clone();
    let asked = question.qname.to_string();
    let name = asked.to_ascii_lowercase();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(
        PacketFlag::AUTHORITATIVE_ANSWER
            | PacketFlag::RECURSION_DESIRED
            | PacketFlag::RECURSION_AVAILABLE,
    );
    let data = match question.qtype {
        QTYPE::TYPE(TYPE::MX) if name == zone.receiver.0 => Some(RData::MX(MX {
            preference: 10,
            exchange: Name::new(&zone.receiver.1).ok()?.into_owned(),
        })),
        QTYPE::TYPE(TYPE::A) if name == zone.receiver.1 => Some(RData::A(A {
            address: Ipv4Addr::LOCALHOST.into(),
        })),
        QTYPE::TYPE(TYPE::TXT) => {
            let text = zone
                .texts
                .iter()
                .find(|(owner, _)| *owner == name)
                .map(|(_, text)| text);
            match text {
                Some(text) => Some(RData::TXT(character_strings(text)?)),
                None => None,
            }
        }
        _ => None,
    };
    match data {
        Some(data) => {
            let owner = Name::new(&asked).ok()?.into_owned();
            reply
                .answers
                .push(ResourceRecord::new(owner, CLASS::IN, 60, data));
        }
        None if name == zone.receiver.0 || name == zone.receiver.1 => {}
        None => *reply.rcode_mut() = RCODE::NameError,
    }
    reply.questions.push(question);
    reply.build_bytes_vec().ok()
}

/// A text in strings of at most 255 bytes (RFC 1035 section 3.3).
fn character_strings(text: &str) -> Option<TXT<'static>> {
    let mut record = TXT::new();
    for part in text.as_bytes().chunks(255) {
        let part = std::str::from_utf8(part).ok()?;
        record.add_char_string(part.to_owned().try_into().ok()?);
    }
    Some(record)
}
