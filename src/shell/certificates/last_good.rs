//! Certificates in `state_dir`, so that a restart serves what was served before it: the last valid pair of each folder
//! under `tls/`, and the self-signed certificate.
//!
//! ```text
//!   tls-last-good/NAME.pem   the key and the chain of tls/NAME, as they were served last
//!   tls-self-signed.pem      the key and the certificate that chopar has made
//! ```
//!
//! The copy of the key is readable by the account only (0600 in a folder of 0700), which can read it under `tls/` as
//! well. The alternative is a self-signed certificate after a reboot at night, which verifying clients refuse. A copy
//! is used only if the account owns it and no other user may read it, and it is judged like a pair under `tls/`.
//! Invariant: [`keep`] stores only pairs that are served and that the account itself has read; pairs that root has read
//! for it are not stored.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::limits::{CERTIFICATES_KEPT_MAX, CONFIG_FILE_BYTES_MAX};
use crate::shell::certificates::pairs::PairFiles;
use crate::shell::files::replace::replace;

/// The certificates that an earlier run has stored.
#[derive(Default)]
pub struct LastGood {
    /// The last good pairs, by the name of their folder under `tls/`.
    pub(in crate::shell) pairs: Vec<(Box<str>, PairFiles)>,
    /// The self-signed one.
    pub(in crate::shell) made: Option<PairFiles>,
}

/// Reads the stored certificates; unreadable ones count as missing.
pub(in crate::shell) fn read(state_dir: &Path) -> LastGood {
    let folder = state_dir.join(FOLDER);
    let mut names: Vec<OsString> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    let pairs = names.iter().filter_map(|file| {
        let name = file.to_str()?.strip_suffix(END)?;
        Some((name.into(), read_pair(&folder.join(file))?))
    });
    LastGood {
        pairs: pairs.take(CERTIFICATES_KEPT_MAX).collect(),
        made: read_pair(&state_dir.join(MADE)),
    }
}

/// Stores the served certificates, each pair by its name in PEM, with the one that was `made` here; removes those that
/// are no longer served.
pub(in crate::shell) fn keep<'a>(
    state_dir: &Path,
    made: Option<&[u8]>,
    pairs: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    if let Some(pem) = made {
        write(&state_dir.join(MADE), pem)?;
    }
    let folder = state_dir.join(FOLDER);
    let mut kept: Vec<PathBuf> = Vec::new();
    for (name, pem) in pairs.take(CERTIFICATES_KEPT_MAX) {
        if name.len() > NAME_BYTES_MAX {
            continue;
        }
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(named(&folder, &error));
            }
            _ => {}
        }
        let path = folder.join(format!("{name}{END}"));
        write(&path, pem)?;
        kept.push(path);
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !kept.contains(&path) {
            fs::remove_file(&path).map_err(|error| named(&path, &error))?;
        }
    }
    Ok(())
}

/// Removes the copy of a pair that must not be served again.
pub fn forget(state_dir: &Path, name: &str) -> io::Result<()> {
    let path = state_dir.join(FOLDER).join(format!("{name}{END}"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(named(&path, &error)),
        _ => Ok(()),
    }
}

/// A pair as one PEM file: the key, then the chain.
pub(in crate::shell) fn pem(
    key: &PrivateKeyDer<'_>,
    chain: &[CertificateDer<'_>],
) -> Zeroizing<Vec<u8>> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let mut pem = block(label, key.secret_der());
    for certificate in chain {
        pem.extend_from_slice(&block("CERTIFICATE", certificate));
    }
    pem
}

/// The same for a pair that can be served, with its chain in order.
pub(in crate::shell) fn pem_of(
    pair: &PairFiles,
    chain: &[CertificateDer<'_>],
) -> Zeroizing<Vec<u8>> {
    PrivateKeyDer::from_pem_slice(&pair.key)
        .map_or_else(|_| Zeroizing::default(), |key| pem(&key, chain))
}

fn block(label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut block = Zeroizing::new(format!("-----BEGIN {label}-----\n").into_bytes());
    for line in base64.as_bytes().chunks(64) {
        block.extend_from_slice(line);
        block.push(b'\n');
    }
    block.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    block
}

fn read_pair(path: &Path) -> Option<PairFiles> {
    let bytes = read_own(path)?;
    Some(PairFiles {
        chain: bytes.to_vec(),
        key: bytes,
        bare_key: None,
    })
}

/// The content of a file that is the caller's alone.
fn read_own(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).ok()?);
    let file: File = options.open(path).ok()?;
    let about = file.metadata().ok()?;
    let is_own = about.is_file() && about.uid() == geteuid().as_raw() && about.mode() & 0o077 == 0;
    if !is_own || about.len() > 2 * CONFIG_FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(2 * CONFIG_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn write(path: &Path, pem: &[u8]) -> io::Result<()> {
    if read_own(path).is_some_and(|there| there.as_slice() == pem) {
        return Ok(());
    }
    replace(path, pem, 0o600).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

const FOLDER: &str = "tls-last-good";
const MADE: &str = "tls-self-signed.pem";
const END: &str = ".pem";
/// Leaves room for the suffix, and for the temporary name of a file that is being written.
const NAME_BYTES_MAX: usize = 200;
