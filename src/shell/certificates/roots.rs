//! The roots that certificates are verified against: those of the system, those of Mozilla, and those of
//! `acme.ca_file`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Config;
use crate::limits::CONFIG_FILE_BYTES_MAX;

/// The path of the system's roots.
pub(in crate::shell) fn bundle_path() -> PathBuf {
    std::env::var_os("SSL_CERT_FILE").map_or_else(|| SYSTEM_ROOTS.into(), PathBuf::from)
}

/// The roots of the system and of Mozilla; the latter are present even if the system has none.
pub(in crate::shell) fn root_store() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Ok(bundle) = fs::read(bundle_path()) {
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    }
    store
}

/// The same and those in `pem`; returns the number of the latter.
pub(in crate::shell) fn root_store_with(pem: &[u8]) -> (RootCertStore, usize) {
    let mut store = root_store();
    let (added, _) = store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    (store, added)
}

/// `acme.ca_file` of the configuration in `folder`, in PEM; empty if it does not exist or cannot be read, because
/// unknown roots are not trusted.
pub fn authorities(config: &Config, folder: &Path) -> Vec<u8> {
    let mut pem = Vec::new();
    if let Some(file) = &config.acme.ca_file
        && let Ok(file) = File::open(folder.join(file))
        && file
            .take(CONFIG_FILE_BYTES_MAX)
            .read_to_end(&mut pem)
            .is_err()
    {
        pem.clear();
    }
    pem
}

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
