//! Messages, and their changes in transit.

use chopar::mail::header::{Header, HeaderEnd, header_end};

use crate::chance::Chance;

/// A message in parts: its fields with their line ends, and its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientMessage {
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

impl ClientMessage {
    /// A message with permitted oddities: folding, white space, repeated fields, an empty body.
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let mut fields: Vec<Vec<u8>> = vec![chance.word(FROM).as_bytes().to_vec()];
        for _ in 0..2 + chance.below(7) {
            fields.push(chance.word(FIELDS).as_bytes().to_vec());
        }
        chance.shuffle(&mut fields);
        let mut body = Vec::new();
        for _ in 0..chance.below(6) {
            body.extend_from_slice(chance.word(LINES).as_bytes());
        }
        body.extend_from_slice(chance.word(ENDS).as_bytes());
        Self { fields, body }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&self.fields.concat(), b"\r\n".as_slice(), &self.body].concat()
    }

    /// The names of the fields, as written.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.fields.iter();
        names
            .map(|field| name_of(field).trim().to_owned())
            .collect()
    }

    /// The indices of the fields with these names, in lower case.
    pub(crate) fn places(&self, wanted: &[&str]) -> Vec<usize> {
        let names = self.names().into_iter().enumerate();
        names
            .filter(|(_, name)| wanted.contains(&name.to_ascii_lowercase().as_str()))
            .map(|(place, _)| place)
            .collect()
    }

    /// Changes the message at a random place.
    pub(crate) fn alter(&mut self, chance: &mut Chance) {
        let last = self.fields.len() - 1;
        let place = chance.below(self.fields.len());
        match chance.below(13) {
            0 => alter_bytes(&mut self.body, chance),
            1 => self.body.extend_from_slice(chance.word(ENDS).as_bytes()),
            2 => self.body.extend_from_slice(b"More.\r\n"),
            3 => self.body.truncate(chance.below(self.body.len() + 1)),
            4 => alter_bytes(&mut self.fields[place], chance),
            5 => self.fields.swap(place, last),
            6 => {
                let field = self.fields[place].clone();
                self.fields.insert(chance.below(last + 2), field);
            }
            7 if last > 0 => drop(self.fields.remove(place)),
            8 => self.fields.insert(0, chance.word(FROM).as_bytes().to_vec()),
            9 => self
                .fields
                .insert(0, chance.word(FIELDS).as_bytes().to_vec()),
            10 => refold(&mut self.fields[place], chance),
            11 => recase(&mut self.fields[place]),
            _ => respace(&mut self.body, chance),
        }
    }

    /// Changes the tags of one of these fields.
    pub(crate) fn alter_tags(&mut self, names: &[&str], chance: &mut Chance) {
        let places = self.places(names);
        if places.is_empty() {
            return;
        }
        let field = &mut self.fields[*chance.of(&places)];
        let name_end = field.iter().position(|byte| *byte == b':').unwrap_or(0) + 1;
        let text = String::from_utf8_lossy(&field[name_end..]).into_owned();
        let mut tags: Vec<String> = text.trim_end().split(';').map(str::to_owned).collect();
        let place = chance.below(tags.len());
        match chance.below(12) {
            0 => drop(tags.remove(place)),
            1 => {
                let again = tags[place].clone();
                tags.insert(chance.below(tags.len() + 1), again);
            }
            2 => tags[place].make_ascii_uppercase(),
            3 => {
                tags[place] =
                    tags[place].replacen('=', chance.word(&["= ", " =", "=\r\n\t", "", "=="]), 1)
            }
            4 => tags.insert(
                place,
                chance
                    .word(&["", " ", "x=", "n=a=b", "1=2", "q", "k_1=\u{e9}"])
                    .to_owned(),
            ),
            5 | 10 | 11 => {
                let tag = chance.word(TAGS);
                let name = |tag: &str| tag.split('=').next().map(|name| name.trim().to_owned());
                let same = tags.iter().position(|other| name(other) == name(tag));
                tags[same.unwrap_or(place)] = tag.to_owned();
            }
            6 => tags.push(chance.word(TAGS).to_owned()),
            7 => {
                let mut bytes = std::mem::take(&mut tags[place]).into_bytes();
                alter_bytes(&mut bytes, chance);
                tags[place] = String::from_utf8_lossy(&bytes).into_owned();
            }
            8 => {
                let other = chance.below(tags.len());
                tags.swap(place, other);
            }
            _ => tags[place] += chance.word(&[" ", "\r\n ", "\t", "a", ":"]),
        }
        field.truncate(name_end);
        field.extend_from_slice(tags.join(";").as_bytes());
        field.extend_from_slice(b"\r\n");
    }

    /// The message as it arrives: CR and LF only in pairs, since SMTP permits no others (RFC 5321 section 2.3.8).
    /// `None` if it could not arrive.
    pub(crate) fn arrived(&self) -> Option<Arrived> {
        Self::split(&self.bytes())
    }

    /// The parts of a message, as it arrives.
    pub(crate) fn split(whole: &[u8]) -> Option<Arrived> {
        let mut bytes: Vec<u8> = Vec::new();
        for (place, &byte) in whole.iter().enumerate() {
            let bare = match byte {
                b'\r' => whole.get(place + 1) != Some(&b'\n'),
                b'\n' => place == 0 || whole[place - 1] != b'\r',
                _ => false,
            };
            if !bare {
                bytes.push(byte);
            }
        }
        let HeaderEnd::EmptyLine { at, body } = header_end(&bytes) else {
            return None;
        };
        let header = Header::parse(bytes[..at].to_vec()).ok()?;
        Some(Arrived {
            header,
            body: bytes[body..].to_vec(),
            bytes,
        })
    }
}

/// A message as it arrives.
pub(crate) struct Arrived {
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn name_of(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == b':').unwrap_or(0);
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn alter_bytes(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let end = bytes.len().saturating_sub(2).max(1);
    let at = chance.below(end);
    match chance.below(4) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 if at < bytes.len() => bytes[at] = *chance.of(b"aZ0 =;:,/+\t\xe9\0@.\"("),
        _ => bytes.insert(at.min(bytes.len()), *chance.of(b"aZ0 =;:,/+\t\xe9\0@.\"(")),
    }
}

/// Replaces a space of a field with a line end and white space, with more white space, or with similar characters.
fn refold(field: &mut Vec<u8>, chance: &mut Chance) {
    let spaces: Vec<usize> = (0..field.len().saturating_sub(2))
        .filter(|&place| matches!(field[place], b' ' | b'\t'))
        .collect();
    if !spaces.is_empty() {
        let at = *chance.of(&spaces);
        let by = chance.word(&["\r\n ", "\r\n\t", "  ", "\t", " \r\n ", "\x0c "]);
        field.splice(at..=at, by.bytes());
    }
}

fn recase(field: &mut [u8]) {
    for byte in field.iter_mut().take_while(|byte| **byte != b':') {
        byte.make_ascii_uppercase();
    }
}

fn respace(body: &mut Vec<u8>, chance: &mut Chance) {
    let spaces: Vec<usize> = (0..body.len())
        .filter(|&place| matches!(body[place], b' ' | b'\t' | b'\r'))
        .collect();
    if !spaces.is_empty() {
        body.insert(*chance.of(&spaces), *chance.of(b" \t"));
    }
}

const FROM: &[&str] = &[
    "From: Ann <ann@src.test>\r\n",
    "From:ann@src.test\r\n",
    "from: =?utf-8?q?Ann?=\r\n\t<ann@sub.src.test>  \r\n",
    "FROM:  ann@src.test\r\n",
    "From: Ann <ann@src.test>\r\n",
    "From: ann@src.test (Ann)\r\n",
    "from:\tann@src.test\r\n",
    "From :  ann@src.test\r\n",
];
const FIELDS: &[&str] = &[
    "To: bob@dst.test, carl@dst.test,\r\n dora@dst.test\r\n",
    "To:bob@dst.test\r\n",
    "Cc: \t carl@dst.test\t\r\n",
    "Subject: Is  dinner\r\n   ready?\r\n",
    "Subject:\r\n",
    "subject: \u{df}\u{e9}, unencoded \r\n",
    "SUBJECT: two\r\n\tlines \t\r\n",
    "Subject : two\r\n\tlines \t\r\n",
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
    "Message-ID: <1@src.test>\r\n",
    "Received: from a by b;\r\n\tFri, 11 Jul 2003 21:00:37 -0700\r\n",
    "Received: from b by c; Fri, 11 Jul 2003 21:00:38 -0700\r\n",
    "List-Id: <list.src.test>\r\n",
    "X-Odd: a:b;c=d \r\n  \r\n",
    "X-Odd:\tx\r\n \ty\r\n",
    "X-Empty: \r\n",
    "X-Page: one\u{c} two\r\n",
    "Comments: long, long, long, long, long, long, long, long, long, long, long, long, long, long\r\n",
    "Reply-To: ann@src.test\r\n",
];
const LINES: &[&str] = &[
    "Hi.\r\n",
    "\r\n",
    "We lost the game.  Are you hungry yet? \r\n",
    "  two\r\n \t\r\nspaces\t \r\n",
    "\tindented\t\ttext \t \r\n",
    ".\r\n",
    "From here\r\n",
    "\u{fc}\u{f6} \u{20ac}\r\n",
    "no end",
    "  ",
    "=20=\r\n",
];
const ENDS: &[&str] = &[
    "",
    "",
    "\r\n",
    "\r\n\r\n\r\n",
    " \r\n\r\n",
    "Joe.\r\n",
    "Joe.",
    "\t",
];
const TAGS: &[&str] = &[
    " v=2",
    " v=1 ",
    " a=rsa-sha1",
    " a=ed25519-sha256",
    " a=RSA-SHA256",
    " a=x",
    " c=relaxed",
    " c=simple/relaxed",
    " c=Simple",
    " c=relaxed/nowsp",
    " d=dst.test",
    " d=SRC.test",
    " d=s rc.test",
    " i=@sub.src.test",
    " i=joe@dst.test",
    " i=joe",
    " i=joe@@src.test",
    " h=to:subject",
    " h=from",
    " h=FROM : To",
    " h=fr om:to",
    " h=from::to",
    " h=",
    " l=0",
    " l=5",
    " l=99999",
    " l=-1",
    " l=1x",
    " q=dns/txt",
    " q=dns",
    " q=http:dns/txt",
    " t=1000000000",
    " t=x",
    " t=3900000000",
    " x=1700000000",
    " x=4000000000",
    " x=0",
    " x=never",
    " s=ghost",
    " bh=",
    " bh=!",
    " b=AAAA",
    " i=1",
    " i=2",
    " i=51",
    " i=0",
    " cv=none",
    " cv=pass",
    " cv=fail",
    " cv=PASS",
    " z=From:x",
];
