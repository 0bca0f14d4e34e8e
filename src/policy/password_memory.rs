//! Passwords that were verified recently, so that a busy application does not pay for a key derivation on each
//! connection.
//!
//! An entry is an HMAC-SHA-256, under a key made by this process, of the login, the stored credential and the password.
//! The memory of the process therefore holds no password, and a changed credential invalidates its entry. Wrong
//! passwords are not remembered.

use std::collections::{BTreeSet, HashMap};

use ring::hmac;

use crate::address::Mailbox;
use crate::clock::Instant;
use crate::digest::DIGEST_BYTES;
use crate::entropy::Entropy;
use crate::limits::{PASSWORD_MEMORY, PASSWORD_MEMORY_ENTRIES_MAX};
use crate::login::credential::{Credential, Password};

/// Remembers for [`PASSWORD_MEMORY`]; at most [`PASSWORD_MEMORY_ENTRIES_MAX`] at a time, the oldest makes room.
pub struct PasswordMemory {
    key: hmac::Key,
    known: HashMap<Tag, Instant>,
    by_expiry: BTreeSet<(Instant, Tag)>,
}

/// Identifies a login with its credential and a password.
pub type Tag = [u8; DIGEST_BYTES];

impl PasswordMemory {
    /// An empty memory with a new key.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let mut key = [0; DIGEST_BYTES];
        entropy.fill(&mut key);
        let memory = Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            known: HashMap::new(),
            by_expiry: BTreeSet::new(),
        };
        zeroize::Zeroize::zeroize(&mut key);
        memory
    }

    /// Remembers that the password was right for this credential.
    pub fn remember(
        &mut self,
        login: &Mailbox,
        credential: &Credential,
        password: &Password,
        now: Instant,
    ) {
        let tag = self.tag(login, credential, password);
        if let Some(before) = self.known.remove(&tag) {
            self.by_expiry.remove(&(before, tag));
        }
        self.sweep(now);
        while self.known.len() >= PASSWORD_MEMORY_ENTRIES_MAX {
            let Some((_, oldest)) = self.by_expiry.pop_first() else {
                break;
            };
            self.known.remove(&oldest);
        }
        let until = now.after(PASSWORD_MEMORY);
        self.known.insert(tag, until);
        self.by_expiry.insert((until, tag));
    }

    /// Whether the password was recently found right for this credential.
    pub fn knows(
        &self,
        login: &Mailbox,
        credential: &Credential,
        password: &Password,
        now: Instant,
    ) -> bool {
        // Nobody can guess a tag without the key, so the duration of the look-up reveals nothing useful.
        self.known
            .get(&self.tag(login, credential, password))
            .is_some_and(|until| now < *until)
    }

    /// Forgets old entries.
    pub fn sweep(&mut self, now: Instant) {
        while let Some((until, tag)) = self.by_expiry.first().copied() {
            if until > now {
                break;
            }
            self.by_expiry.pop_first();
            self.known.remove(&tag);
        }
    }

    fn tag(&self, login: &Mailbox, credential: &Credential, password: &Password) -> Tag {
        let login = format!("{}@{}", login.local_key(), login.domain());
        self.claim_tag(&login, credential, password)
    }

    /// The tag of credentials, right or wrong.
    pub fn claim_tag(&self, login: &str, credential: &Credential, password: &Password) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // A zero byte ends each part; neither a login nor the text of a credential can hold one.
        context.update(login.as_bytes());
        context.update(b"\0");
        context.update(credential.to_string().as_bytes());
        context.update(b"\0");
        context.update(password.as_bytes());
        let mut tag = [0; DIGEST_BYTES];
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::entropy::SeededEntropy;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("a mailbox")
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).expect("a password")
    }

    fn credential(text: &str, salt: &[u8]) -> Credential {
        Credential::derive(&password(text), salt, NonZeroU32::MIN)
    }

    #[test]
    fn a_success_is_remembered_for_its_user_credential_and_time() {
        let mut memory = PasswordMemory::new(&mut SeededEntropy::new(3));
        let (ann, stored) = (mailbox("ann@example.com"), credential("pencil", b"salt"));
        let start = Instant::START;
        assert!(!memory.knows(&ann, &stored, &password("pencil"), start));
        memory.remember(&ann, &stored, &password("pencil"), start);
        assert!(memory.knows(
            &mailbox("ANN@example.com"),
            &stored,
            &password("pencil"),
            start
        ));
        assert!(!memory.knows(&ann, &stored, &password("pencil "), start));
        assert!(!memory.knows(
            &mailbox("bob@example.com"),
            &stored,
            &password("pencil"),
            start
        ));
        let changed = credential("pencil", b"other");
        assert!(!memory.knows(&ann, &changed, &password("pencil"), start));
        let late = start.after(PASSWORD_MEMORY);
        assert!(!memory.knows(&ann, &stored, &password("pencil"), late));
        memory.sweep(late);
        assert!(memory.known.is_empty() && memory.by_expiry.is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut memory = PasswordMemory::new(&mut SeededEntropy::new(3));
        let stored = credential("pencil", b"salt");
        let user = |number: usize| mailbox(&format!("u{number}@example.com"));
        for number in 0..PASSWORD_MEMORY_ENTRIES_MAX + 10 {
            let now = Instant::from_millis(u64::try_from(number).expect("small"));
            memory.remember(&user(number), &stored, &password("pencil"), now);
        }
        assert_eq!(memory.known.len(), PASSWORD_MEMORY_ENTRIES_MAX);
        let now = Instant::from_millis(2_000);
        assert!(!memory.knows(&user(9), &stored, &password("pencil"), now));
        assert!(memory.knows(&user(10), &stored, &password("pencil"), now));
    }
}
