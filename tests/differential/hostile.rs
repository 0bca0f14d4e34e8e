//! Values of header fields on which mail readers may disagree: pieces of a grammar, combined well or badly, and
//! altered.

use crate::chance::Chance;

/// A From value that is more or less a list of addresses.
pub(crate) fn from(chance: &mut Chance) -> Vec<u8> {
    let mut value = Vec::new();
    for number in 0..1 + chance.below(8) / 6 {
        if number > 0 {
            value.extend_from_slice(piece(chance, &[b",", b", ", b";", b"\r\n\t,", b" ", b":"]));
        }
        match chance.below(12) {
            0..4 => angle(&mut value, chance),
            4..6 => value.extend(address(chance)),
            6 => {
                // The display name repeats the address.
                let address = address(chance);
                value.extend_from_slice(&address);
                value.extend_from_slice(b" <");
                value.extend_from_slice(&address);
                value.push(b'>');
            }
            _ => {
                for _ in 0..1 + chance.below(3) {
                    word(&mut value, chance);
                    if !chance.once_in(4) {
                        value.push(b' ');
                    }
                }
                angle(&mut value, chance);
            }
        }
        if chance.once_in(4) {
            value.extend_from_slice(piece(chance, SPACES));
            value.extend_from_slice(piece(chance, COMMENTS));
        }
    }
    for _ in 0..[0, 0, 0, 1, 1, 1, 2, 4][chance.below(8)] {
        alter(&mut value, FROM_PIECES, chance);
    }
    value
}

/// An Authentication-Results value that is more or less one of the host `id`.
pub(crate) fn results(id: &str, chance: &mut Chance) -> Vec<u8> {
    let mut value = piece(chance, SPACES).to_vec();
    let (front, back) = id.split_at(chance.below(id.len()));
    match chance.below(10) {
        0 => value.extend(id.to_ascii_uppercase().bytes()),
        1 => value.extend_from_slice(format!("\"{id}\"").as_bytes()),
        2 => value.extend_from_slice(format!("\"{front}\\{back}\"").as_bytes()),
        3 => value.extend_from_slice(format!("=?utf-8?q?{front}=2E{back}?=").as_bytes()),
        4 => value.extend_from_slice(format!("=?utf-8?q?{}?=", id.replace('.', "=2E")).as_bytes()),
        5 => value.extend_from_slice(format!("other.example ({id})").as_bytes()),
        6 => value.extend_from_slice(format!("{front}other{back}").as_bytes()),
        7 => {
            let wide = |c: char| match c {
                '.' => '\u{ff0e}',
                c => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c),
            };
            value.extend(id.chars().map(wide).collect::<String>().bytes());
        }
        _ => value.extend(id.bytes()),
    }
    value.extend_from_slice(piece(
        chance,
        &[b";", b" 1;", b" ; ", b"", b"(v);", b".;", b",", b"/1;"],
    ));
    value.extend_from_slice(b" spf=pass smtp.mailfrom=a@b.example");
    for _ in 0..[0, 1, 1, 2, 4][chance.below(5)] {
        alter(&mut value, RESULTS_PIECES, chance);
    }
    value
}

fn angle(value: &mut Vec<u8>, chance: &mut Chance) {
    value.push(b'<');
    if chance.once_in(16) {
        value.extend_from_slice(piece(chance, SPACES));
    }
    value.extend(address(chance));
    value.push(b'>');
}

fn address(chance: &mut Chance) -> Vec<u8> {
    let mut value = piece(chance, LOCALS).to_vec();
    value.push(b'@');
    value.extend_from_slice(piece(chance, DOMAINS));
    value
}

fn word(value: &mut Vec<u8>, chance: &mut Chance) {
    match chance.below(8) {
        0 | 1 => {
            value.push(b'"');
            for _ in 0..1 + chance.below(4) {
                value.extend_from_slice(piece(chance, QUOTED));
            }
            value.push(b'"');
        }
        2 => value.extend_from_slice(piece(chance, COMMENTS)),
        3 => value.extend_from_slice(piece(chance, ENCODED)),
        _ => value.extend_from_slice(piece(chance, WORDS)),
    }
}

/// Changes the value anywhere: a byte, an added piece, a part doubled, moved or removed.
fn alter(value: &mut Vec<u8>, pieces: &[&[u8]], chance: &mut Chance) {
    let at = chance.below(value.len() + 1);
    match chance.below(8) {
        0 if at < value.len() => value[at] ^= 1 << chance.below(8),
        1 if at < value.len() => drop(value.remove(at)),
        2 => {
            let end = (at + chance.below(12)).min(value.len());
            let part: Vec<u8> = value[at..end].to_vec();
            let to = chance.below(value.len() + 1);
            value.splice(to..to, part);
        }
        3 => {
            let end = (at + chance.below(6)).min(value.len());
            value.drain(at..end);
        }
        _ => {
            let more = pieces[chance.below(pieces.len())];
            value.splice(at..at, more.iter().copied());
        }
    }
}

/// One of the pieces; the first ones, which are more ordinary, are chosen more often.
fn piece<'a>(chance: &mut Chance, pieces: &[&'a [u8]]) -> &'a [u8] {
    let choices = match chance.below(4) {
        0 => pieces.len(),
        _ => pieces.len() / 2 + 1,
    };
    pieces[chance.below(choices)]
}

const LOCALS: &[&[u8]] = &[
    b"ann",
    b"ann",
    b"a.b",
    b"a..b",
    b".b",
    b"b.",
    b"b+x=y.example",
    b"\"a b\"",
    b"\"a,b\"",
    b"\"a\\\"b\"",
    b"\"b@bank.test\"",
    b"\xfc",
    "\u{fc}ber".as_bytes(),
    b"'b'",
    b"com",
    b"=?utf-8?q?b=40bank.test?=",
    b"m",
    b"",
];
const DOMAINS: &[&[u8]] = &[
    b"evil.test",
    b"evil.test",
    b"evil.test",
    b"bank.test",
    b"BANK.test.",
    b"a-b.c_d.test",
    b"bank.co",
    b"localhost",
    b"bank.te st",
    b"bank(x).test",
    b"bank .test",
    b"bank\\.test",
    b"ba\"nk.test\"",
    b"[192.0.2.1]",
    b"bank..test",
    b"-bank.test",
    "b\u{fc}cher.test".as_bytes(),
    "bank.test\u{e9}.fr".as_bytes(),
    b"b\xfccher.test",
    b"",
];
const WORDS: &[&[u8]] = &[
    b"Boss",
    b"Boss,",
    b"Boss;",
    b"The:",
    b"[Boss]",
    b"[",
    b"J.",
    b"B\xf6ss",
    "Gro\u{df}".as_bytes(),
    b"O'Neil",
    b"via",
    b"b@bank.test",
    b"@",
    b"'b@bank.test'",
    b"mailto:",
    b"<>",
];
const QUOTED: &[&[u8]] = &[
    b"Boss",
    b" ",
    b"b@bank.test",
    b"<b@bank.test>",
    b", ",
    b"\\\"",
    b"\\\\",
    b"(x)",
    b"(",
    b")",
    b"'",
    b"via List",
    b"\r\n ",
    b"@",
    b":",
    b"=?utf-8?q?b=40bank.test?=",
];
const COMMENTS: &[&[u8]] = &[
    b"(x)",
    b"(b@bank.test)",
    b"(<b@bank.test>)",
    b"(a (b))",
    b"(a (b@bank.test))",
    b"(\")",
    b"(\\))",
    b"(",
    b")",
    b"(x, b@bank.test)",
    b"",
];
const ENCODED: &[&[u8]] = &[
    b"=?utf-8?q?J=C3=BCrgen?=",
    b"=?utf-8?q?b=40bank.test?=",
    b"=?utf-8?b?YkBiYW5rLnRlc3Q=?=",
    b"=?utf-8?q?=22?=",
    b"=?utf-8?q?b@bank.test?=",
    b"=?utf-8?q?=3Cb=40bank.test=3E?=",
    b"=?utf-8?q?x",
    b"=?iso-8859-1?q?=FC?=",
    b"?=",
];
const SPACES: &[&[u8]] = &[b"", b" ", b" ", b"\t", b"\r\n ", b"  ", b"\r\n\t "];
const FROM_PIECES: &[&[u8]] = &[
    b"@",
    b"<",
    b">",
    b"\"",
    b"\\",
    b"(",
    b")",
    b",",
    b";",
    b":",
    b".",
    b"[",
    b"]",
    b" ",
    b"\t",
    b"\r\n ",
    b"\r",
    b"\0",
    b"\x0c",
    b"'",
    b"=?",
    b"?=",
    b"=?utf-8?q?b=40bank.test?=",
    b"b@bank.test",
    b"<b@bank.test>",
    b"\"b@bank.test\"",
    b"(b@bank.test)",
    b"@bank.test",
    b"bank.test",
    b"\xe9",
    b"\xa0",
    b"\x85",
    "\u{a0}".as_bytes(),
    "\u{85}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{3000}".as_bytes(),
    "\u{3002}".as_bytes(),
    "\u{ff20}".as_bytes(),
    "\u{ff0e}".as_bytes(),
    "\u{e9}".as_bytes(),
    "\u{202e}".as_bytes(),
];
const RESULTS_PIECES: &[&[u8]] = &[
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1f",
    b"\0",
    b"\xa0",
    b"\x85",
    "\u{a0}".as_bytes(),
    "\u{85}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{ad}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{3000}".as_bytes(),
    "\u{feff}".as_bytes(),
    b" ",
    b"\t",
    b"\r\n ",
    b"(",
    b")",
    b"(c)",
    b"\"",
    b"\\",
    b";",
    b".",
    b",",
    b"<",
    b">",
    b"=?utf-8?q?",
    b"?=",
    b"other.example",
    b"1",
];
