//! The fields of a certificate's DER (RFC 5280 section 4.1) that decide how it is served.
//!
//! Not supported: names other than those of the DNS, and IP addresses.

use crate::date::Timestamp;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) struct Validity {
    /// Not before.
    pub(in crate::shell) from: Timestamp,
    /// Not after.
    pub(in crate::shell) to: Timestamp,
}

/// The identifying fields of a certificate.
pub(super) struct Identity<'a> {
    /// Its serial number: the content of an INTEGER.
    pub(super) serial: &'a [u8],
    /// The identifier of the issuer's key, if present.
    pub(super) authority_key: Option<&'a [u8]>,
    /// The issuer: the content of a Name.
    pub(super) issuer: &'a [u8],
    /// The subject: the content of a Name.
    pub(super) subject: &'a [u8],
    /// From when to when it is valid.
    pub(super) validity: Option<Validity>,
    /// Its SubjectPublicKeyInfo, whole.
    pub(super) public_key: &'a [u8],
    /// The names of its subjectAltName that are of the DNS.
    pub(super) names: Vec<Box<str>>,
}

impl<'a> Identity<'a> {
    /// Reads a TBSCertificate (RFC 5280 section 4.1).
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        if let Some((_, behind)) = element(rest, VERSION) {
            rest = behind;
        }
        let (serial, behind) = element(rest, INTEGER)?;
        (_, rest) = element(behind, SEQUENCE)?;
        let (issuer, rest) = element(rest, SEQUENCE)?;
        let (times, rest) = element(rest, SEQUENCE)?;
        let (subject, rest) = element(rest, SEQUENCE)?;
        let from_key = rest;
        let (_, mut rest) = element(rest, SEQUENCE)?;
        let public_key = from_key.get(..from_key.len().checked_sub(rest.len())?)?;
        for unique_id in [0x81, 0x82] {
            if let Some((_, behind)) = element(rest, unique_id) {
                rest = behind;
            }
        }
        Some(Self {
            serial,
            authority_key: extension(rest, AUTHORITY_KEY).and_then(authority_key),
            issuer,
            subject,
            validity: validity(times),
            public_key,
            names: alternative_names(rest).unwrap_or_default(),
        })
    }

    /// Whether it is its own issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// The last common name in a Name.
pub(super) fn common_name(name: &[u8]) -> Option<Box<str>> {
    let mut rest = name;
    let mut found = None;
    while let Some((set, behind)) = element(rest, SET) {
        rest = behind;
        let attribute = element(set, SEQUENCE).and_then(|(attribute, _)| element(attribute, OID));
        if let Some((COMMON_NAME, value)) = attribute
            && let Some((text, _)) = value.first().and_then(|tag| element(value, *tag))
        {
            found = Some(String::from_utf8_lossy(text).into());
        }
    }
    found
}

/// The DNS names of the subjectAltName (RFC 5280 section 4.2.1.6), from the extensions.
fn alternative_names(extensions: &[u8]) -> Option<Vec<Box<str>>> {
    let (mut names, _) = element(extension(extensions, SUBJECT_ALT_NAME)?, SEQUENCE)?;
    let mut found = Vec::new();
    while let Some(tag) = names.first() {
        let (name, behind) = element(names, *tag)?;
        names = behind;
        if *tag == DNS_NAME {
            found.push(String::from_utf8_lossy(name).to_ascii_lowercase().into());
        }
    }
    Some(found)
}

/// The keyIdentifier of an authorityKeyIdentifier (RFC 5280 section 4.2.1.1).
fn authority_key(value: &[u8]) -> Option<&[u8]> {
    let (value, _) = element(value, SEQUENCE)?;
    let (key, _) = element(value, KEY_IDENTIFIER)?;
    Some(key)
}

/// The value of an extension.
fn extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let (extensions, _) = element(extensions, EXTENSIONS)?;
    let (mut rest, _) = element(extensions, SEQUENCE)?;
    while let Some((extension, behind)) = element(rest, SEQUENCE) {
        rest = behind;
        let (id, value) = element(extension, OID)?;
        if id == wanted {
            let value = element(value, BOOLEAN).map_or(value, |(_, behind)| behind);
            return element(value, OCTET_STRING).map(|(value, _)| value);
        }
    }
    None
}

fn validity(times: &[u8]) -> Option<Validity> {
    let (from, times) = time(times)?;
    let (to, _) = time(times)?;
    Some(Validity { from, to })
}

/// The content of the DER element at the front, if it has this tag, and the rest.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let number = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
            (digits.iter().fold(0, number), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The time at the front (RFC 5280 section 4.1.2.5), and the rest.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, None),
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            let (century, text) = text.split_at_checked(2)?;
            (text, rest, Some(number(century)?))
        }
    };
    let text = text.strip_suffix(b"Z")?;
    let mut fields = text.chunks(2).map(number);
    let mut field = || fields.next().flatten();
    let (year, month, day) = (field()?, field()?, field()?);
    let (hour, minute, second) = (field()?, field()?, field()?);
    let year = match century {
        Some(century) => century * 100 + year,
        None if year < 50 => 2000 + year,
        None => 1900 + year,
    };
    let point = Timestamp::from_utc((year, month, day), (hour, minute, second))?;
    Some((point, rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else {
        return None;
    };
    Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

const SEQUENCE: u8 = 0x30;

const SET: u8 = 0x31;

const VERSION: u8 = 0xa0;

const EXTENSIONS: u8 = 0xa3;

const BOOLEAN: u8 = 0x01;

const INTEGER: u8 = 0x02;

const OCTET_STRING: u8 = 0x04;

const OID: u8 = 0x06;

const DNS_NAME: u8 = 0x82;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

const KEY_IDENTIFIER: u8 = 0x80;

const UTC_TIME: u8 = 0x17;

const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        // 2050-01-01T00:00:00Z as a GeneralizedTime, 1999-12-31T23:59:59Z as a UTCTime.
        let late = b"\x18\x0f20500101000000Z";
        let early = b"\x17\x0d991231235959Z";
        let seconds = |bytes| time(bytes).map(|(time, _)| time.seconds());
        assert_eq!(seconds(late), Some(2_524_608_000));
        assert_eq!(seconds(early), Some(946_684_799));
        assert_eq!(seconds(b"\x17\x0d991331235959Z"), None);
        assert_eq!(seconds(b"\x17\x0d99"), None);
    }
}
