//! The secret that signs rewritten senders (SRS): a file of the state folder.
//!
//! It has one secret per line: the first signs, all are accepted. An operator who changes the secret adds a new one on
//! top, and removes the old one once its addresses have expired.
//!
//! A file beside it records since when this release has been installed: addresses of 0.1.0 are accepted for a while
//! after that.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::auth::srs::Rewriter;
use crate::date::Timestamp;
use crate::entropy::Entropy;
use crate::shell::files::replace::replace;
use crate::shell::process::time::SystemEntropy;

/// The name of the file.
pub(in crate::shell) const FILE: &str = "srs-secret";
/// The name of the file that records when 0.1.0 ran here last, in seconds since 1970: 0 if it never did.
const SINCE_FILE: &str = "srs-since";

/// Reads the secrets under `state_dir`; makes one if there is none.
pub(in crate::shell) fn rewriter(state_dir: &Path, now: Timestamp) -> io::Result<Rewriter> {
    let path = state_dir.join(FILE);
    let mut never = false;
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = Zeroizing::new([0; SECRET_BYTES]);
            SystemEntropy::default().fill(&mut *secret);
            let text = Zeroizing::new(format!("{}\n", STANDARD_NO_PAD.encode(*secret)));
            replace(&path, text.as_bytes(), 0o600)?;
            never = true;
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
    let rewriter = Rewriter::new(&secrets).map_err(|error| invalid(&error))?;
    let upgraded = match never {
        true => write_since(state_dir, 0),
        false => since(state_dir, now),
    };
    let path = state_dir.join(SINCE_FILE);
    let upgraded = upgraded
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(match upgraded {
        0 => rewriter,
        upgraded => rewriter.honouring(Timestamp::from_seconds(upgraded)),
    })
}

/// When 0.1.0 ran here last: now, if nothing has recorded it yet.
fn since(state_dir: &Path, now: Timestamp) -> io::Result<u64> {
    match fs::read_to_string(state_dir.join(SINCE_FILE)) {
        Ok(text) => text.trim().parse().map_err(|error| invalid(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_since(state_dir, now.seconds())
        }
        Err(error) => Err(error),
    }
}

fn write_since(state_dir: &Path, seconds: u64) -> io::Result<u64> {
    let path = state_dir.join(SINCE_FILE);
    replace(&path, format!("{seconds}\n").as_bytes(), 0o600)?;
    Ok(seconds)
}

fn invalid(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::address::{Domain, Mailbox};

    #[test]
    fn a_secret_is_made_once_and_a_new_one_on_top_keeps_the_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = Timestamp::from_seconds(1_790_000_000);
        let sender = Mailbox::parse("ann@example.org").expect("a mailbox");
        let forwarder = Domain::parse("example.com").expect("a domain");
        let first = rewriter(folder.path(), at).expect("a secret");
        let address = first.forward(&sender, &forwarder, at).expect("rewritten");
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        let again = rewriter(folder.path(), at).expect("the same");
        assert_eq!(again.reverse(&address, at), Ok(sender.clone()));
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(&path, format!("another-secret-of-somebody\n{text}")).expect("written");
        let changed = rewriter(folder.path(), at).expect("both");
        assert_eq!(changed.reverse(&address, at), Ok(sender));
        let since = || fs::read_to_string(folder.path().join(SINCE_FILE)).expect("a file");
        assert_eq!(since(), "0\n", "there was no release before");
        fs::write(&path, "short\n").expect("written");
        assert!(rewriter(folder.path(), at).is_err());
    }
    #[test]
    fn a_secret_of_the_release_before_starts_the_time_for_which_its_addresses_are_honoured() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), "0123456789abcdef\n").expect("written");
        let at = Timestamp::from_seconds(1_790_000_000);
        // Made by 0.1.0 with this secret.
        let address = "SRS0=UUVEBA2I=HN=example.org=ann@example.com";
        let address = Mailbox::parse(address).expect("a mailbox");
        let since = || fs::read_to_string(folder.path().join(SINCE_FILE)).expect("a file");
        let sender = rewriter(folder.path(), at).expect("a secret");
        let expected = Mailbox::parse("ann@example.org").expect("a mailbox");
        assert_eq!(sender.reverse(&address, at), Ok(expected));
        assert_eq!(since(), "1790000000\n");
        let later = at.after(std::time::Duration::from_secs(22 * 86_400));
        let after = rewriter(folder.path(), later).expect("a secret");
        assert_eq!(since(), "1790000000\n", "it stands");
        assert!(after.reverse(&address, later).is_err());
        fs::write(folder.path().join(SINCE_FILE), "x").expect("written");
        assert!(rewriter(folder.path(), later).is_err());
    }
}
