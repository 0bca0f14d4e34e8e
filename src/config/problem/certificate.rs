//! Errors of certificates and of the hooks that obtain them.

use std::fmt;

/// An error that prevents obtaining a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateProblem {
    /// The hook cannot be run.
    HookMode,
    /// DNS-01 without the hook that does it.
    NoDnsHook,
    /// No name that a certificate can be for.
    Name { text: String },
    /// No URL of an ACME directory.
    DirectoryUrl { text: String },
    /// Only one half of an account binding.
    HalfBinding,
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HookMode => {
                out.write_str("the daemon may not run it; run chmod a+rx on it, or remove it")
            }
            Self::NoDnsHook => out.write_str(
                "hooks/dns-01 is missing: `chopar cert hook nsupdate` and `chopar cert hook acme-sh` print examples",
            ),
            Self::Name { text } => write!(
                out,
                "{text:?} is not a name that a CA issues for; write at most 100 names like \"mail.example.com\" or \
                 \"*.example.com\""
            ),
            Self::DirectoryUrl { text } => write!(
                out,
                "{text:?} is not a URL of an ACME directory; write one that begins with https://"
            ),
            Self::HalfBinding => out.write_str(
                "eab_kid and eab_key_file bind an account together; set both or neither",
            ),
        }
    }
}
