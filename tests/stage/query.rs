//! A DNS query as a name server reads it, and the reply.

/// A DNS query with one question (RFC 1035 section 4.1).
pub(crate) struct Query<'a> {
    bytes: &'a [u8],
    /// Offset of the empty label that ends the name.
    end: usize,
}

impl<'a> Query<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut end = HEADER_BYTES;
        while bytes[end] != 0 {
            end += 1 + usize::from(bytes[end]);
        }
        Self { bytes, end }
    }

    /// The name in lower case.
    pub(crate) fn name(&self) -> String {
        let mut rest = &self.bytes[HEADER_BYTES..self.end];
        let mut labels: Vec<String> = Vec::new();
        while let Some((&len, text)) = rest.split_first() {
            let (label, next) = text.split_at(len.into());
            labels.push(String::from_utf8_lossy(label).to_lowercase());
            rest = next;
        }
        labels.join(".")
    }

    /// The record type that the query asks for.
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[self.end + 2]
    }

    /// A reply with this code, and with a record of the requested type if there is `data`.
    pub(crate) fn reply(&self, code: u8, data: Option<&[u8]>) -> Vec<u8> {
        let mut packet = self.bytes[..2].to_vec();
        let answers = u8::from(data.is_some());
        packet.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
        packet.extend_from_slice(&self.bytes[HEADER_BYTES..self.end + 5]);
        if let Some(data) = data {
            packet.extend_from_slice(&[0xC0, 12, 0, self.kind(), 0, 1, 0, 0, 0, 5]);
            packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
            packet.extend_from_slice(data);
        }
        packet
    }
}

const HEADER_BYTES: usize = 12;
