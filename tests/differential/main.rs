//! Compares chopar with the mail-auth crate: signatures, ARC chains and DMARC, over messages that are generated and
//! altered from fixed seeds.
//!
//! If the two differ, one of the [`tally::Rule`]s of that part must say why chopar is right: it names a sentence of an
//! RFC, and checks whether the sentence applies to this very message. A difference that no rule explains fails the
//! test, and so does a rule that explains nothing. `--nocapture` prints the counts.
//!
//! The tests also compare what other mail readers display of From and Authentication-Results with what chopar judges
//! and removes: mail-parser, Python's own `email`, authres, and readers that look only for brackets and at signs.
//! chopar must judge or remove everything that any of them displays. `CHOPAR_FUZZ_INPUTS=` sets the number of values.

mod arc;
mod chance;
mod claims;
mod dkim;
mod dmarc;
mod from;
mod hostile;
mod message;
mod peer;
mod python;
mod referee;
mod signer;
mod tally;
mod zone;
