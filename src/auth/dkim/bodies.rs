//! The body hashes for the signatures of a message. The body is hashed once in each canonical form, whatever the number
//! of signatures and the parts that they cover.

use super::canonical::{BodyHash, BodyHasher, Canonicalization};
use crate::digest::DIGEST_BYTES;

/// Hashes a body in one or both canonical forms as it arrives.
#[derive(Default)]
pub(in crate::auth) struct Bodies(Vec<Body>);

struct Body {
    form: Canonicalization,
    hasher: Box<BodyHasher>,
    whole: Option<BodyHash>,
}

/// A hash that is needed.
#[derive(Clone, Copy)]
pub(in crate::auth) struct HashSlot {
    form: Canonicalization,
    limit: Option<u64>,
}

impl Bodies {
    /// The index of the hash in this form, and of the first `limit` bytes only.
    pub(in crate::auth) fn place(
        &mut self,
        form: Canonicalization,
        limit: Option<u64>,
    ) -> HashSlot {
        if self.body(form).is_none() {
            self.0.push(Body {
                form,
                hasher: Box::new(BodyHasher::new(form)),
                whole: None,
            });
        }
        let body = self.0.iter_mut().find(|body| body.form == form);
        if let (Some(body), Some(limit)) = (body, limit) {
            body.hasher.cut_at(limit);
        }
        HashSlot { form, limit }
    }

    /// Takes the next piece of the body.
    pub(in crate::auth) fn update(&mut self, chunk: &[u8]) {
        for body in &mut self.0 {
            if body.whole.is_none() {
                body.hasher.update(chunk);
            }
        }
    }

    /// Takes the end of the body.
    pub(in crate::auth) fn finish(&mut self) {
        for body in &mut self.0 {
            if body.whole.is_none() {
                body.whole = Some(body.hasher.end());
            }
        }
    }

    /// The hash at an index, once the body has ended; `None` if the body was shorter than its limit.
    pub(in crate::auth) fn hash(&self, place: HashSlot) -> Option<[u8; DIGEST_BYTES]> {
        let body = self.body(place.form)?;
        let whole = body.whole?;
        match place.limit {
            None => Some(whole.hash),
            Some(limit) => body.hasher.hash_at(limit),
        }
    }

    /// Bytes of the whole canonical body, once it has ended.
    pub(in crate::auth) fn length(&self, place: HashSlot) -> Option<u64> {
        Some(self.body(place.form)?.whole?.length)
    }

    fn body(&self, form: Canonicalization) -> Option<&Body> {
        self.0.iter().find(|body| body.form == form)
    }
}
