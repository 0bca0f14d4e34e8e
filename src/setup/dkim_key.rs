//! New DKIM keys, and their files in the configuration folder.
//!
//! Invariant: a key file is complete or missing, never replaces another, and is readable for the daemon's account
//! whatever the umask of the caller is.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use zeroize::Zeroizing;

use crate::auth::dkim::key::{SystemChance, ed25519_pem};
use crate::shell::files::ownership;

/// The kind of a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    Rsa {
        /// 2048, 3072 or 4096.
        bits: usize,
    },
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// Why there is no new key.
#[derive(Debug)]
pub enum KeyFileError {
    /// RSA keys of this size are not made.
    Bits(usize),
    /// The system returned no random bytes.
    Chance,
    /// The file exists already.
    Exists(PathBuf),
    /// The file cannot be created.
    Create(PathBuf, io::Error),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(
                out,
                "RSA keys of {bits} bits are not supported: choose 2048, 3072 or 4096"
            ),
            Self::Chance => out.write_str("the system gave no randomness; try again"),
            Self::Exists(path) => write!(out, "{} exists and is kept", path.display()),
            Self::Create(path, error) => {
                write!(out, "{} cannot be created: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for KeyFileError {}

/// Makes a key; returns it as PEM.
pub fn generate(kind: KeyKind) -> Result<Zeroizing<String>, KeyFileError> {
    match kind {
        KeyKind::Ed25519 => {
            let mut seed = Zeroizing::new([0; 32]);
            SystemRandom::new()
                .fill(&mut *seed)
                .map_err(|_| KeyFileError::Chance)?;
            Ok(ed25519_pem(&seed))
        }
        KeyKind::Rsa {
            bits: bits @ (2048 | 3072 | 4096),
        } => rsa::PrivateKey::new(&mut SystemChance(SystemRandom::new()), bits)
            .map_err(|_| KeyFileError::Chance)?
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyFileError::Chance),
        KeyKind::Rsa { bits } => Err(KeyFileError::Bits(bits)),
    }
}

/// Writes the whole file or nothing, and never over an existing one. Group and mode let the daemon read it.
pub fn create(config: &Path, path: &Path, pem: &[u8]) -> Result<(), KeyFileError> {
    let failed = |error| KeyFileError::Create(path.to_owned(), error);
    let keys = path.parent().unwrap_or(config);
    let home = fs::metadata(keys.parent().unwrap_or(config)).map_err(failed)?;
    let group = ownership::group(config, home.gid());
    match fs::create_dir(keys) {
        Ok(()) => {
            let folder = fs::File::open(keys).map_err(failed)?;
            // Only root may give a folder to a group that it does not belong to; other callers need not.
            let _ = fchown(&folder, None, Some(group));
            folder
                .set_permissions(fs::Permissions::from_mode(0o750))
                .map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let temporary = path.with_extension(format!("pem.{}.new", std::process::id()));
    let written = write_new(&temporary, pem, group).and_then(|()| {
        fs::hard_link(&temporary, path)?; // unlike rename, it fails where the name is taken
        fs::File::open(keys)?.sync_all()
    });
    let removed = fs::remove_file(&temporary);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
        Ok(()) => removed.map_err(failed),
    }
}

fn write_new(path: &Path, contents: &[u8], group: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // It becomes readable for the group only after the group is set.
    if fchown(&file, None, Some(group)).is_ok() {
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
    }
    file.write_all(contents)?;
    file.sync_all()
}
