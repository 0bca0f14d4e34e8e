//! SHA-256 (FIPS 180-4), HMAC-SHA-256 (RFC 2104) and their comparison, over ring: for credentials, signatures and
//! everything else that is identified by a hash.

use ring::{digest, hmac};

/// Bytes of a SHA-256 hash, of an HMAC-SHA-256 tag and of every key that is one.
pub const DIGEST_BYTES: usize = 32;

/// Compares in constant time.
pub(crate) fn is_equal(left: &[u8; DIGEST_BYTES], right: &[u8; DIGEST_BYTES]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
    hmac::verify(&key, left, hmac::sign(&key, right).as_ref()).is_ok()
}

pub(crate) fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; DIGEST_BYTES] {
    sized(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref())
}

pub(crate) fn sha256(data: &[u8]) -> [u8; DIGEST_BYTES] {
    sized(digest::digest(&digest::SHA256, data).as_ref())
}

fn sized(hash: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut out = [0; DIGEST_BYTES];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: [u8; DIGEST_BYTES]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn fips_180_4_example_of_one_block() {
        assert_eq!(
            hex(sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    /// RFC 4231 section 4.3.
    #[test]
    fn rfc4231_second_test_case() {
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn keys_that_differ_in_one_bit_are_not_equal() {
        let key = sha256(b"abc");
        let mut other = key;
        other[31] ^= 1;
        assert!(is_equal(&key, &key));
        assert!(!is_equal(&key, &other));
    }
}
