//! The operator's options to `init`.

use crate::address::{Domain, Mailbox};

/// What the operator asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wishes {
    pub domain: Domain,
    /// The name of the host, where it is said.
    pub hostname: Option<Domain>,
    /// Who hears of what chopar has to report.
    pub admin: Option<Mailbox>,
    /// Where mail for every address of the domain goes that nothing else is said about.
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
    /// Without users, keys and what is under secrets/ and tls/.
    Public,
    /// With all of it.
    Private,
}

/// Whether a certificate is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateWish {
    /// It is.
    Wanted,
    Unwanted,
}
