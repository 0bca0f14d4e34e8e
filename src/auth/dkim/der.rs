//! The subset of DER (X.690) that encodes keys: definite lengths, one-byte tags.

/// Reads one value after the other.
pub(super) struct Reader<'a>(&'a [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// `1.2.840.113549.1.1.1` (RFC 3279 section 2.3.1), contents only.
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.3.101.112` (RFC 8410 section 3), contents only.
pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of the next value, `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The contents of the next value, if it has this tag.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if !(1..=3).contains(&count) {
                return None; // indefinite, or longer than any key
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            len = bytes
                .iter()
                .fold(0, |len, &byte| len << 8 | usize::from(byte));
            rest = after;
        }
        let (contents, after) = rest.split_at_checked(len)?;
        self.0 = after;
        (found == tag).then_some(contents)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Encodes a value with this tag and contents.
pub(super) fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = contents.len().to_be_bytes();
    match contents.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            let digits: Vec<u8> = len.into_iter().skip_while(|&byte| byte == 0).collect();
            out.push(0x80 | digits.len() as u8);
            out.extend(digits);
        }
    }
    out.extend_from_slice(contents);
    out
}

/// A SubjectPublicKeyInfo (RFC 5280 section 4.1) around an RSAPublicKey.
pub(super) fn rsa_public_key_info(rsa_public_key: &[u8]) -> Vec<u8> {
    let mut algorithm = wrap(OID, RSA_ENCRYPTION);
    algorithm.extend_from_slice(&[0x05, 0x00]); // parameters are NULL
    let mut bits = vec![0]; // no unused bits
    bits.extend_from_slice(rsa_public_key);
    let mut contents = wrap(SEQUENCE, &algorithm);
    contents.extend(wrap(BIT_STRING, &bits));
    wrap(SEQUENCE, &contents)
}

/// An RSAPublicKey (RFC 8017 appendix A.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RsaPublicKey<'a> {
    pub(super) der: &'a [u8],
    /// Bits of the modulus.
    pub(super) bits: usize,
    /// The public exponent; a number past `u32` saturates.
    pub(super) exponent: u32,
}

/// The RSAPublicKey in `der`: either bare (RFC 6376 section 3.6.1), or in a SubjectPublicKeyInfo, which is the usual
/// form.
pub(super) fn rsa_public_key(der: &[u8]) -> Option<RsaPublicKey<'_>> {
    let mut outer = Reader::new(der);
    let mut fields = Reader::new(outer.read(SEQUENCE)?);
    if !outer.is_empty() {
        return None;
    }
    if fields.peek() == Some(INTEGER) {
        return RsaPublicKey::read(der, fields);
    }
    let mut algorithm = Reader::new(fields.read(SEQUENCE)?);
    if algorithm.read(OID)? != RSA_ENCRYPTION {
        return None;
    }
    // RFC 3279 section 2.3.1 requires NULL parameters; some implementations omit them.
    if !algorithm.is_empty() && !algorithm.read(NULL)?.is_empty() {
        return None;
    }
    let (&unused_bits, key) = fields.read(BIT_STRING)?.split_first()?;
    let mut inner = Reader::new(key);
    let found = RsaPublicKey::read(key, Reader::new(inner.read(SEQUENCE)?))?;
    let whole = algorithm.is_empty() && fields.is_empty() && inner.is_empty();
    (unused_bits == 0 && whole).then_some(found)
}

impl<'a> RsaPublicKey<'a> {
    /// Reads the fields: two positive integers.
    fn read(der: &'a [u8], mut fields: Reader<'_>) -> Option<Self> {
        let modulus = fields.read(INTEGER)?;
        let exponent = fields.read(INTEGER)?;
        let is_positive = |contents: &[u8]| contents.first().is_some_and(|&byte| byte < 0x80);
        (is_positive(modulus) && is_positive(exponent) && fields.is_empty()).then(|| Self {
            der,
            bits: integer_bits(modulus),
            exponent: small_integer(exponent),
        })
    }
}

/// A positive INTEGER; a number past `u32` saturates.
fn small_integer(contents: &[u8]) -> u32 {
    contents.iter().fold(0_u32, |value, &byte| {
        value.saturating_mul(256).saturating_add(u32::from(byte))
    })
}

/// Significant bits of a positive INTEGER.
pub(super) fn integer_bits(contents: &[u8]) -> usize {
    let mut digits = contents.iter().skip_while(|&&byte| byte == 0);
    let Some(first) = digits.next() else { return 0 };
    let leading = first.leading_zeros() as usize;
    let rest = digits.count().saturating_mul(8);
    rest.saturating_add(8).saturating_sub(leading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_reads_back() {
        for len in [0, 1, 127, 128, 255, 256, 70_000] {
            let contents = vec![9; len];
            let der = wrap(INTEGER, &contents);
            let mut reader = Reader::new(&der);
            assert_eq!(reader.read(INTEGER), Some(contents.as_slice()));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_public_key_is_two_positive_integers() {
        let key = |integers: &[&[u8]]| {
            let fields: Vec<u8> = integers
                .iter()
                .flat_map(|contents| wrap(INTEGER, contents))
                .collect();
            rsa_public_key(&wrap(SEQUENCE, &fields)).map(|key| (key.bits, key.exponent))
        };
        assert_eq!(key(&[&[0, 0xff], &[3]]), Some((8, 3)));
        assert_eq!(key(&[&[0, 0xff], &[1, 0, 1]]), Some((8, 65_537)));
        assert_eq!(key(&[&[0, 0xff], &[1, 0, 0, 0, 1]]), Some((8, u32::MAX)));
        assert_eq!(key(&[&[0, 0xff], &[1; 300]]), Some((8, u32::MAX)));
        assert_eq!(key(&[&[0xff], &[3]]), None);
        assert_eq!(key(&[&[0, 0xff], &[0x83]]), None);
        assert_eq!(key(&[&[0, 0xff]]), None);
        assert_eq!(key(&[&[0, 0xff], &[3], &[3]]), None);
    }

    #[test]
    fn a_public_key_info_says_that_it_is_for_rsa_and_nothing_else() {
        let fields = [wrap(INTEGER, &[0, 0xff]), wrap(INTEGER, &[3])].concat();
        let key = wrap(SEQUENCE, &fields);
        assert_eq!(
            rsa_public_key(&rsa_public_key_info(&key)),
            Some(RsaPublicKey {
                der: key.as_slice(),
                bits: 8,
                exponent: 3
            })
        );
        let info = |algorithm: &[u8], bits: &[u8]| {
            let fields = [wrap(SEQUENCE, algorithm), wrap(BIT_STRING, bits)].concat();
            rsa_public_key(&wrap(SEQUENCE, &fields)).map(|key| key.bits)
        };
        let oid = wrap(OID, RSA_ENCRYPTION);
        let bits = [&[0], key.as_slice()].concat();
        assert_eq!(info(&oid, &bits), Some(8));
        assert_eq!(info(&[&oid, &[5, 0][..]].concat(), &bits), Some(8));
        assert_eq!(info(&[&oid, &[5, 32][..]].concat(), &bits), None);
        assert_eq!(info(&[&oid, &[5, 1, 0][..]].concat(), &bits), None);
        assert_eq!(info(&[&oid, &[5, 0, 5, 0][..]].concat(), &bits), None);
        assert_eq!(info(&oid, &[&bits, &[0][..]].concat()), None);
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        for der in [
            &[0x30][..],
            &[0x30, 0x01],
            &[0x30, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x82, 0x01],
        ] {
            assert_eq!(Reader::new(der).read(SEQUENCE), None);
            assert_eq!(rsa_public_key(der), None);
        }
    }
}
