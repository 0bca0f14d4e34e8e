//! The secret that rewritten senders are signed with (SRS): a file of the state folder.
//!
//! One secret a line: the first signs, all are believed. An operator who changes it puts a new one on top, and takes the
//! old one away once its addresses have expired.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::replace::replace;
use super::time::SystemEntropy;
use crate::auth::srs::Rewriter;
use crate::entropy::Entropy;

/// The name of the file.
pub(super) const FILE: &str = "srs-secret";

/// Reads the secrets under `state_dir`; makes one where there is none.
pub(super) fn rewriter(state_dir: &Path) -> io::Result<Rewriter> {
    let path = state_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = Zeroizing::new([0; SECRET_BYTES]);
            SystemEntropy::default().fill(&mut *secret);
            let text = Zeroizing::new(format!("{}\n", STANDARD_NO_PAD.encode(*secret)));
            replace(&path, text.as_bytes(), 0o600)?;
            text
        }
        Err(error) => return Err(error),
    };
    let secrets: Vec<Zeroizing<Vec<u8>>> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| Zeroizing::new(line.as_bytes().to_vec()))
        .collect();
    Rewriter::new(&secrets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::address::{Domain, Mailbox};
    use crate::date::Timestamp;

    #[test]
    fn a_secret_is_made_once_and_a_new_one_on_top_keeps_the_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = Timestamp::from_seconds(1_790_000_000);
        let sender = Mailbox::parse("ann@example.org").expect("a mailbox");
        let forwarder = Domain::parse("example.com").expect("a domain");
        let first = rewriter(folder.path()).expect("a secret");
        let address = first.forward(&sender, &forwarder, at).expect("rewritten");
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        let again = rewriter(folder.path()).expect("the same");
        assert_eq!(again.reverse(&address, at), Ok(sender.clone()));
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(&path, format!("another-secret-of-somebody\n{text}")).expect("written");
        let changed = rewriter(folder.path()).expect("both");
        assert_eq!(changed.reverse(&address, at), Ok(sender));
        fs::write(&path, "short\n").expect("written");
        assert!(rewriter(folder.path()).is_err());
    }
}
