//! Signatures of every allowed kind, with the canonical forms of [`crate::referee`]: neither chopar nor mail-auth can
//! sign in all of these ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::canonical::Canonicalization;
use chopar::auth::dkim::key::SigningKey;
use chopar::auth::dkim::record::record_text;
use ring::digest::{SHA256, digest};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::chance::Chance;
use crate::message::ClientMessage;
use crate::referee;

/// A key, and its published form.
pub(crate) struct Key {
    pub(crate) kind: KeyKind,
    pub(crate) signing: SigningKey,
    pub(crate) record: String,
    pem: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    Rsa,
    Ed25519,
}

impl Key {
    pub(crate) fn rsa() -> Self {
        Self::new(
            KeyKind::Rsa,
            include_str!("../data/dkim/rsa-2048-pkcs8.pem"),
        )
    }

    pub(crate) fn ed25519() -> Self {
        Self::new(KeyKind::Ed25519, include_str!("../data/dkim/ed25519.pem"))
    }

    fn new(kind: KeyKind, pem: &'static str) -> Self {
        let signing = SigningKey::from_pem(pem).expect("a key");
        Self {
            kind,
            record: record_text(&signing),
            signing,
            pem,
        }
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.pem.as_bytes()).expect("a key")
    }
}

/// Adds a signature on top of a message.
pub(crate) fn sign(message: &mut ClientMessage, key: &Key, selector: &str, chance: &mut Chance) {
    let forms = [Canonicalization::Simple, Canonicalization::Relaxed];
    let (header_form, body_form) = (*chance.of(&forms), *chance.of(&forms));
    let body = referee::body(&message.body, body_form);
    let limit = limit(&body, chance);
    let signed = limit.map_or(body.as_slice(), |limit| &body[..limit.min(body.len())]);
    let names = signed_names(message, chance);
    let mut tags: Vec<String> = vec![
        format!("a={}", key.signing.algorithm()),
        format!("d={}", chance.word(&["src.test", "src.test", "SRC.TEST"])),
        format!("s={selector}"),
        format!(
            "h={}",
            names.join(chance.word(&[":", ":", " : ", ":\r\n\t", " :\r\n "]))
        ),
        format!("bh={}", STANDARD.encode(digest(&SHA256, signed))),
    ];
    let word = |form| match form {
        Canonicalization::Simple => "simple",
        Canonicalization::Relaxed => "relaxed",
    };
    match (header_form, body_form) {
        (Canonicalization::Simple, Canonicalization::Simple) if chance.once_in(2) => {}
        (form, Canonicalization::Simple) if chance.once_in(2) => {
            tags.push(format!("c={}", word(form)))
        }
        (header, body) => tags.push(format!("c={}/{}", word(header), word(body))),
    }
    tags.extend(limit.map(|limit| format!("l={limit}")));
    for (rare, choices) in OPTIONAL {
        if chance.once_in(*rare) {
            tags.push(chance.word(choices).to_owned());
        }
    }
    chance.shuffle(&mut tags);
    tags.insert(0, "v=1".to_owned());
    let place = chance.below(tags.len() + 1);
    tags.insert(place, "b=".to_owned());
    let between = chance.word(&["; ", ";", ";\r\n\t", " ;\r\n  ", " ; \t"]);
    let end = chance.word(&["", "", ";", " "]);
    let front = tags[..=place].join(between);
    let mut back = String::new();
    for tag in &tags[place + 1..] {
        back += between;
        back += tag;
    }
    let name = chance.word(&["DKIM-Signature", "DKIM-Signature", "dkim-signature"]);
    let front = format!("{}{front}", chance.word(&[" ", "", "  ", "\r\n\t"]));
    let unsigned = format!("{front}{back}{end}");
    let mut data = referee::selected(&message.fields, &names, header_form);
    data.extend(match header_form {
        Canonicalization::Simple => format!("{name}:{unsigned}").into_bytes(),
        Canonicalization::Relaxed => referee::relaxed(name, unsigned.as_bytes()),
    });
    let signature = STANDARD.encode(key.signing.sign(&data).expect("a signature"));
    let fold = chance.word(&["", "\r\n\t", " ", "\r\n  "]);
    let chunks: Vec<&str> = signature
        .as_bytes()
        .chunks(40)
        .map(|chunk| std::str::from_utf8(chunk).expect("base64"))
        .collect();
    let field = format!("{name}:{front}{}{back}{end}\r\n", chunks.join(fold));
    message.fields.insert(0, field.into_bytes());
}

/// Names for `h=`: From and others, some more often than they occur, some absent.
fn signed_names(message: &ClientMessage, chance: &mut Chance) -> Vec<String> {
    let mut names = Vec::new();
    for name in message.names() {
        if name.eq_ignore_ascii_case("from") || chance.once_in(2) {
            names.push(name);
        }
    }
    for name in ["From", "to", "Subject", "Resent-From", "X-Gone"] {
        if chance.once_in(3) {
            names.push(name.to_owned());
        }
    }
    if chance.once_in(40) {
        names.retain(|name| !name.eq_ignore_ascii_case("from"));
        names.push("to".to_owned());
    }
    chance.shuffle(&mut names);
    names
}

fn limit(body: &[u8], chance: &mut Chance) -> Option<usize> {
    match chance.below(32) {
        0 => Some(body.len()),
        1 => Some(chance.below(body.len() + 1)),
        2 => Some(0),
        3 => Some(body.len() + 1 + chance.below(9)),
        _ => None,
    }
}

/// Optional tags; each entry is used one time in this many.
const OPTIONAL: &[(usize, &[&str])] = &[
    (2, &["t=1000000000", "t=1600000000", "t=0001"]),
    (60, &["t=3100000000"]),
    (3, &["x=4000000000", "x=4000000001"]),
    (40, &["x=1700000000", "x=900000000"]),
    (
        3,
        &[
            "i=@src.test",
            "i=joe@src.test",
            "i=joe@sub.src.test",
            "i=@SRC.test",
            "i=j=20e@src.test",
        ],
    ),
    (40, &["i=joe@dst.test", "i=@notsrc.test"]),
    (4, &["q=dns/txt", "q=x:dns/txt"]),
    (60, &["q=dns/x"]),
    (6, &["n=any = thing", "z=From:ann|To:bob"]),
];
