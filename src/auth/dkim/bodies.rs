//! The hashes of one body that the signatures of a message need, each form and length once.

use super::canonical::{BodyHash, BodyHasher, Form};

/// A body that is hashed in several ways while it streams past.
#[derive(Default)]
pub(in crate::auth) struct Bodies(Vec<Body>);

struct Body {
    form: Form,
    limit: u64,
    state: State,
}

enum State {
    Streaming(Box<BodyHasher>),
    Done(BodyHash),
}

impl Bodies {
    /// The place of a hash of this form and limit, which is added if nobody needed it so far.
    pub(in crate::auth) fn place(&mut self, form: Form, limit: u64) -> usize {
        let found = self
            .0
            .iter()
            .position(|body| body.form == form && body.limit == limit);
        found.unwrap_or_else(|| {
            self.0.push(Body {
                form,
                limit,
                state: State::Streaming(Box::new(BodyHasher::with_limit(form, limit))),
            });
            self.0.len().saturating_sub(1)
        })
    }

    /// Takes the next piece of the body.
    pub(in crate::auth) fn update(&mut self, chunk: &[u8]) {
        for body in &mut self.0 {
            if let State::Streaming(hasher) = &mut body.state {
                hasher.update(chunk);
            }
        }
    }

    /// Takes the end of the body.
    pub(in crate::auth) fn finish(&mut self) {
        for body in &mut self.0 {
            if let State::Streaming(hasher) = &body.state {
                body.state = State::Done(hasher.as_ref().clone().finish());
            }
        }
    }

    /// The hash at a place, once the body has ended.
    pub(in crate::auth) fn hash(&self, place: usize) -> Option<BodyHash> {
        match self.0.get(place)?.state {
            State::Done(hash) => Some(hash),
            State::Streaming(_) => None,
        }
    }
}
