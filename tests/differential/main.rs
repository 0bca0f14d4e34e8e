//! What chopar says of a message against what the mail-auth crate says of it: signatures, ARC chains and DMARC, over
//! messages that are made and altered from fixed seeds.
//!
//! Where the two differ, one of the [`tally::Rule`]s of that part has to say why chopar is right: it names a sentence
//! of an RFC, and looks for itself whether the sentence is about this very message. A difference that no rule explains
//! fails the test, and so does a rule that explains nothing. `--nocapture` prints the counts.
//!
//! And what other readers show of From and Authentication-Results against what chopar judges and takes out:
//! mail-parser, Python's own `email`, authres, and readers that look for no more than brackets and at signs. Nothing
//! that any of them shows may escape. `CHOPAR_FUZZ_INPUTS=` sets how many values are tried.

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
