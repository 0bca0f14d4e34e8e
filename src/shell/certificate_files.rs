//! Whether the files under `tls/` have changed, and what is in them now.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::CertificateFiles;

/// What tells one state of the files from another: path, inode, modification time, length.
pub(super) type Fingerprint = Vec<(PathBuf, u64, i64, i64, u64)>;

/// The state of the files; links are followed, since that is how ACME clients renew.
pub(super) fn fingerprint(folder: &Path) -> Fingerprint {
    let paths = certificates(folder)
        .into_iter()
        .flat_map(|path| [path.join("fullchain.pem"), path.join("privkey.pem")]);
    paths
        .filter_map(|path| {
            let about = fs::metadata(&path).ok()?;
            Some((
                path,
                about.ino(),
                about.mtime(),
                about.mtime_nsec(),
                about.len(),
            ))
        })
        .collect()
}

/// Reads the certificates whose two files can be read.
pub(super) fn read(folder: &Path) -> Vec<CertificateFiles> {
    certificates(folder)
        .into_iter()
        .filter_map(|path| {
            Some(CertificateFiles {
                name: path.file_name()?.to_str()?.into(),
                chain: fs::read(path.join("fullchain.pem")).ok()?.into(),
                key: Arc::new(Zeroizing::new(fs::read(path.join("privkey.pem")).ok()?)),
            })
        })
        .collect()
}

/// The folders under `tls/`, in order.
fn certificates(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("tls"))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
