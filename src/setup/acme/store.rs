//! The files of ACME in `state_dir`:
//!
//! ```text
//!   acme/                          0700
//!     lock                         held by whoever obtains
//!     pauses.json                  0600, see super::pauses
//!     account-HOST.pem             0600, the key of the account at the CA of that host; lost, another account is made
//!     certificates/NAME/           0700; `_.` for `*.`
//!       privkey.pem fullchain.pem  0600, read by the daemon like a pair under tls/
//!       order.json                 what it was ordered with, so that it can be renewed
//! ```
//!
//! All three files of a certificate are written once there is one, the key before the chain. In between, and after a
//! crash there, the two do not match: the daemon continues with the pair that it read last, and the next renewal
//! repairs it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::acme::wire::Url;
use crate::acme::{ChallengeKind, Name};
use crate::limits::{ACME_CERTIFICATES_MAX, ACME_NAMES_MAX, CONFIG_FILE_BYTES_MAX};
use crate::shell::certificates::certificate::CertificateSummary;
use crate::shell::certificates::pairs::{CHAIN, KEY, OBTAINED_FOLDER, PairError, read_pair};
use crate::shell::files::replace::replace;

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    state_dir: PathBuf,
}

/// Held while a process obtains certificates.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// Why the lock was not obtained.
#[derive(Debug)]
pub enum Locked {
    /// Another process holds it.
    Busy,
    /// The file cannot be opened; in a sentence.
    Failed(String),
}

/// A certificate that was obtained.
#[derive(Clone, Debug)]
pub struct StoredCertificate {
    /// Its folder is called after this.
    pub name: Name,
    /// The order's parameters; `None` if they are lost.
    pub order: Option<Ordered>,
    /// The certificate, or the error of its files.
    pub summary: Result<CertificateSummary, String>,
    /// There is neither a certificate nor a key: an earlier version, or a crash, has left an order without result.
    pub is_bare: bool,
}

/// The certificates that were obtained.
#[derive(Debug, Default)]
pub struct StoredCertificates {
    /// Up to the bound.
    pub kept: Vec<StoredCertificate>,
    /// The names of the certificates past the bound.
    pub behind: Vec<Name>,
}

/// The parameters of an order. Those not given on the command line come from the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    pub names: Vec<Name>,
    /// How the names are proven.
    pub kind: Option<ChallengeKind>,
    /// By which CA.
    pub directory: Option<Url>,
    /// Whether the terms were agreed to.
    pub agreed: bool,
}

#[derive(Deserialize, Serialize)]
struct OrderText {
    names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenge: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    #[serde(default)]
    agreed: bool,
}

impl Store {
    /// The one in this `state_dir`; it need not be there.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    fn root(&self) -> PathBuf {
        self.state_dir.join("acme")
    }

    /// The folder of a certificate.
    pub fn folder(&self, name: &Name) -> PathBuf {
        self.state_dir.join(OBTAINED_FOLDER).join(name.folder())
    }

    /// Makes the folders, and locks out other processes.
    pub fn lock(&self) -> Result<Lock, Locked> {
        let root = self.root();
        make_folder(&root).map_err(Locked::Failed)?;
        let path = root.join("lock");
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)
            .map_err(|error| Locked::Failed(said(&path, &error)))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(Errno::AGAIN) => Err(Locked::Busy),
            Err(error) => Err(Locked::Failed(said(&path, &error.into()))),
        }
    }

    /// The key of the account at the CA with this directory, made if there is none.
    pub fn account_key(&self, directory: &str) -> Result<KeyPair, String> {
        let path = self.root().join(account_file(directory));
        match read_key(&path) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => {
                let key = KeyPair::generate().map_err(|error| error.to_string())?;
                let pem = Zeroizing::new(key.serialize_pem());
                replace(&path, pem.as_bytes(), 0o600).map_err(|error| said(&path, &error))?;
                Ok(key)
            }
            Err(error) => Err(format!(
                "{error}; put the key back, or remove the file to have another account made"
            )),
        }
    }

    /// The key of a certificate, if there is one; an unreadable key is an error, not a reason to make another.
    pub fn key(&self, name: &Name) -> Result<Option<KeyPair>, String> {
        read_key(&self.folder(name).join(KEY))
    }

    /// Stores a certificate.
    pub fn write(
        &self,
        name: &Name,
        key: &KeyPair,
        chain: &[u8],
        order: &Ordered,
    ) -> Result<(), String> {
        let certificates = self.state_dir.join(OBTAINED_FOLDER);
        make_folder(&certificates)?;
        let folder = self.folder(name);
        make_folder(&folder)?;
        let pem = Zeroizing::new(key.serialize_pem());
        let order = order.json();
        for (file, bytes) in [
            (ORDER, order.as_slice()),
            (KEY, pem.as_bytes()),
            (CHAIN, chain),
        ] {
            let path = folder.join(file);
            replace(&path, bytes, 0o600).map_err(|error| said(&path, &error))?;
        }
        Ok(())
    }

    /// Removes a certificate with its key.
    pub fn remove(&self, name: &Name) -> Result<(), String> {
        let folder = self.folder(name);
        fs::remove_dir_all(&folder).map_err(|error| said(&folder, &error))
    }

    /// The obtained certificates: these first, then by name, up to the bound. A folder that cannot be listed is an
    /// error.
    pub fn kept(&self, first: &BTreeSet<Name>) -> Result<StoredCertificates, String> {
        let path = self.state_dir.join(OBTAINED_FOLDER);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(StoredCertificates::default());
            }
            Err(error) => return Err(said(&path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| said(&path, &error))?;
            names.extend(entry.file_name().to_str().and_then(Name::of_folder));
        }
        names.sort_by_key(|name: &Name| (!first.contains(name), name.clone()));
        let behind = names.split_off(names.len().min(ACME_CERTIFICATES_MAX));
        let kept = names.into_iter().map(|name| self.read(name)).collect();
        Ok(StoredCertificates { kept, behind })
    }

    /// The certificate of this name, whether [`Self::kept`] has read it or not.
    pub fn one(&self, name: &Name) -> Result<Option<StoredCertificate>, String> {
        let folder = self.folder(name);
        match fs::symlink_metadata(&folder) {
            Ok(_) => Ok(Some(self.read(name.clone()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said(&folder, &error)),
        }
    }

    fn read(&self, name: Name) -> StoredCertificate {
        let path = self.folder(&name);
        let pair = read_pair(&path);
        let is_bare = matches!(pair, Err(PairError::Nothing(_)));
        let summary = pair.map_err(|error| error.to_string()).and_then(|pair| {
            CertificateSummary::of(&pair).map_err(|fault| format!("{}: {fault}", path.display()))
        });
        let order = read_bytes(&path.join(ORDER)).ok();
        let order = order.and_then(|bytes| Ordered::parse(&bytes));
        StoredCertificate {
            name,
            order,
            summary,
            is_bare,
        }
    }
}

impl Ordered {
    fn parse(json: &[u8]) -> Option<Self> {
        let text: OrderText = serde_json::from_slice(json).ok()?;
        let names = text.names.iter().take(ACME_NAMES_MAX);
        let names: Vec<Name> = names.filter_map(|name| Name::parse(name)).collect();
        (!names.is_empty()).then(|| Self {
            names,
            kind: text.challenge.as_deref().and_then(ChallengeKind::of_word),
            directory: text.directory.and_then(|url| Url::try_from(url).ok()),
            agreed: text.agreed,
        })
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let text = OrderText {
            names: self.names.iter().map(ToString::to_string).collect(),
            challenge: self.kind.map(|kind| kind.word().to_owned()),
            directory: self.directory.as_ref().map(|url| url.as_str().to_owned()),
            agreed: self.agreed,
        };
        // Text alone always is JSON.
        serde_json::to_vec(&text).unwrap_or_default()
    }
}

/// `account-HOST.pem`; characters that no host name has become `_`.
fn account_file(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let host: String = host
        .chars()
        .map(|c| {
            if plain(c) {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("account-{host}.pem")
}

/// The file with the order's parameters.
const ORDER: &str = "order.json";

fn make_folder(path: &Path) -> Result<(), String> {
    match DirBuilder::new().recursive(false).mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(said(path, &error)),
        _ => Ok(()),
    }
}

fn read_key(path: &Path) -> Result<Option<KeyPair>, String> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(path, &error)),
    };
    let pem =
        std::str::from_utf8(&bytes).map_err(|_| format!("{}: this is not PEM", path.display()))?;
    let key = KeyPair::from_pem(pem).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(key))
}

fn read_bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(CONFIG_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn said(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!("{}: {error}; use sudo", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_ordered_is_read_back_and_the_key_of_an_account_lasts() {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::new(state.path());
        let lock = store.lock().expect("a lock");
        assert!(matches!(store.lock(), Err(Locked::Busy)));
        drop(lock);
        let lock = store.lock().expect("given back");
        let name = |text| Name::parse(text).expect("a name");
        let order = Ordered {
            names: vec![name("*.a.test"), name("a.test")],
            kind: Some(ChallengeKind::Dns01),
            directory: Url::try_from("https://ca.test/dir".to_owned()).ok(),
            agreed: true,
        };
        let key = KeyPair::generate().expect("a key");
        store
            .write(&name("*.a.test"), &key, b"chain", &order)
            .expect("written");
        let kept = store.kept(&BTreeSet::new()).expect("a list").kept;
        assert_eq!((kept.len(), kept[0].is_bare), (1, false));
        assert_eq!(
            (&kept[0].name, &kept[0].order),
            (&name("*.a.test"), &Some(order))
        );
        let first = store
            .account_key("https://ca.test:14000/dir")
            .expect("a key");
        let again = store
            .account_key("https://ca.test:14000/other")
            .expect("a key");
        assert_eq!(first.serialize_pem(), again.serialize_pem());
        let path = state.path().join("acme/account-ca.test_14000.pem");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(
            mode(&state.path().join("acme/certificates/_.a.test")),
            0o700
        );
        fs::write(&path, "rubbish").expect("written");
        let error = store
            .account_key("https://ca.test:14000/dir")
            .expect_err("a failure");
        assert!(error.contains("remove the file"), "{error}");
        drop(lock);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_there() {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::new(state.path());
        let name = |text: &str| Name::parse(text).expect("a name");
        assert_eq!(store.kept(&BTreeSet::new()).expect("a list").kept.len(), 0);
        let root = state.path().join(OBTAINED_FOLDER);
        for at in 0..=ACME_CERTIFICATES_MAX {
            fs::create_dir_all(root.join(format!("n{at:03}.test"))).expect("a folder");
        }
        // One that the list has no room for is there all the same.
        let last = name(&format!("n{ACME_CERTIFICATES_MAX:03}.test"));
        let StoredCertificates { kept, behind } = store.kept(&BTreeSet::new()).expect("a list");
        assert_eq!(kept.len(), ACME_CERTIFICATES_MAX);
        assert_eq!(behind, std::slice::from_ref(&last));
        let preferred = store.kept(&[last.clone()].into()).expect("a list");
        assert_eq!(preferred.kept[0].name, last);
        assert!(kept.iter().all(|kept| kept.name != last && kept.is_bare));
        assert!(store.one(&last).expect("it can be looked at").is_some());
        assert!(store.one(&name("a.test")).is_ok_and(|one| one.is_none()));
        assert!(store.key(&last).is_ok_and(|key| key.is_none()));
        fs::write(store.folder(&last).join(KEY), "rubbish").expect("written");
        assert!(store.key(&last).is_err());
        fs::remove_dir_all(&root).expect("removed");
        fs::write(&root, "no folder").expect("written");
        store
            .kept(&BTreeSet::new())
            .expect_err("it cannot be listed");
    }
}
