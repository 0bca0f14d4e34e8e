//! The operator's options to `init`.

use crate::address::{Domain, Mailbox};

/// The options of the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InitOptions {
    pub domain: Domain,
    /// The hostname, if given.
    pub hostname: Option<Domain>,
    /// The recipient of chopar's reports.
    pub admin: Option<Mailbox>,
    /// The target of mail for every address without an alias (the catch-all).
    pub forward_to: Option<Mailbox>,
    /// The local part of the first user.
    pub user: Option<String>,
    /// Whether the folder becomes a repository.
    pub git: Git,
    /// Whether a certificate is wanted.
    pub certificate: CertificateWish,
}

/// Whether the configuration folder becomes a git repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Git {
    /// Not.
    #[default]
    None,
    /// With everything but users, keys and the content of secrets/ and tls/.
    Public,
    /// With everything.
    Private,
}

/// Whether a certificate is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateWish {
    /// It is.
    Wanted,
    Unwanted,
}
