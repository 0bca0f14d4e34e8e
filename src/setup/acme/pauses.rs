//! `acme/pauses.json` in `state_dir`: the pauses between orders, so that a daemon that is restarted again and again
//! does not use up the rate limits of the CA.
//!
//! A file that cannot be read counts as missing: one pause too few costs an order, a daemon that obtains no certificate
//! costs mail.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::acme::schedule::Pauses;
use crate::date::Timestamp;
use crate::limits::{ACME_CERTIFICATES_MAX, ACME_PAUSES_BYTES_MAX};
use crate::shell::files::replace::replace;

/// The pauses by the name of a certificate and the directory of its CA.
pub type KeptPauses = BTreeMap<(String, String), Pauses>;

#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    directory: String,
    failures: u32,
    failed_at: u64,
    not_before: u64,
    asked: u64,
    rest: u64,
}

/// Reads the pauses of an earlier run.
pub fn read(state_dir: &Path) -> KeptPauses {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path(state_dir));
    let mut bytes = Vec::new();
    let read = file.and_then(|file| file.take(ACME_PAUSES_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => parse(&bytes),
        Err(_) => KeptPauses::new(),
    }
}

/// Stores the given pauses, which belong to wanted certificates and so are no more than [`ACME_CERTIFICATES_MAX`].
/// Without the folder there was no order, and there is nothing to store.
pub fn write(state_dir: &Path, kept: &KeptPauses) -> io::Result<()> {
    match replace(&path(state_dir), &json(kept), 0o600) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("acme/pauses.json")
}

fn parse(json: &[u8]) -> KeptPauses {
    let rows: Vec<Row> = serde_json::from_slice(json).unwrap_or_default();
    let at = Timestamp::from_seconds;
    let pauses = rows.into_iter().take(ACME_CERTIFICATES_MAX).map(|row| {
        let pauses = Pauses {
            failures: row.failures,
            failed_at: at(row.failed_at),
            not_before: at(row.not_before),
            asked: at(row.asked),
            rest: at(row.rest),
        };
        ((row.name, row.directory), pauses)
    });
    pauses.collect()
}

fn json(kept: &KeptPauses) -> Vec<u8> {
    let rows: Vec<Row> = kept
        .iter()
        .map(|((name, directory), pauses)| Row {
            name: name.clone(),
            directory: directory.clone(),
            failures: pauses.failures,
            failed_at: pauses.failed_at.seconds(),
            not_before: pauses.not_before.seconds(),
            asked: pauses.asked.seconds(),
            rest: pauses.rest.seconds(),
        })
        .collect();
    // Text and numbers alone always are JSON.
    serde_json::to_vec(&rows).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::limits::ACME_URL_BYTES_MAX;

    #[test]
    fn rubbish_a_link_and_nothing_are_no_pauses() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(read(state.path()), KeptPauses::new());
        write(state.path(), &KeptPauses::new()).expect("nothing to keep");
        assert!(!state.path().join("acme").exists());
        fs::create_dir(state.path().join("acme")).expect("a folder");
        fs::write(state.path().join("acme/pauses.json"), "[{]").expect("a file");
        assert_eq!(read(state.path()), KeptPauses::new());
        fs::remove_file(state.path().join("acme/pauses.json")).expect("a file");
        std::os::unix::fs::symlink("/dev/zero", path(state.path())).expect("a link");
        assert_eq!(read(state.path()), KeptPauses::new());
    }

    #[test]
    fn as_many_as_are_wanted_and_as_long_as_may_be_are_read_back() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir(state.path().join("acme")).expect("a folder");
        let most = Timestamp::from_seconds(u64::MAX);
        let pauses = Pauses {
            failures: u32::MAX,
            failed_at: most,
            not_before: most,
            asked: most,
            rest: most,
        };
        let rows = (0..ACME_CERTIFICATES_MAX).map(|at| {
            let name = format!("{at:0>253}");
            ((name, "h".repeat(ACME_URL_BYTES_MAX)), pauses)
        });
        let kept: KeptPauses = rows.collect();
        write(state.path(), &kept).expect("kept");
        assert_eq!(read(state.path()), kept);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(
            rows in proptest::collection::btree_map(
                ("[a-z.*]{1,20}", "https://[a-z./]{1,20}"),
                any::<[u32; 5]>(),
                0..8,
            ),
        ) {
            let at = |seconds: u32| Timestamp::from_seconds(seconds.into());
            let kept: KeptPauses = rows.into_iter().map(|(key, [failures, failed, not_before, asked, rest])| {
                let pauses = Pauses {
                    failures,
                    failed_at: at(failed),
                    not_before: at(not_before),
                    asked: at(asked),
                    rest: at(rest),
                };
                (key, pauses)
            }).collect();
            let state = tempfile::tempdir().expect("a folder");
            fs::create_dir(state.path().join("acme")).expect("a folder");
            write(state.path(), &kept).expect("kept");
            prop_assert_eq!(read(state.path()), kept);
        }

        #[test]
        fn no_bytes_of_the_file_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            parse(&bytes);
        }
    }
}
