//! Findings about certificates for the operator, as sentences that say what to do.

use std::fmt;
use std::path::PathBuf;

use super::{Served, Tls};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::policy::advice::Severity;
use crate::shell::certificates::certificate::{PairFault, ServableCertificate};
use crate::shell::certificates::pairs::{PairError, shown};

/// Something about a certificate that an operator should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFinding {
    /// The folder under `tls/`; empty if the finding is about all of them.
    pub name: Box<str>,
    pub cause: CertificateCause,
    /// What is presented to clients meanwhile.
    pub shown: ServedInstead,
}

/// The cause of the finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateCause {
    /// The files cannot be read.
    Files(PairError),
    /// They cannot be served.
    Unusable(PairFault),
    /// The folder is gone.
    Gone,
    /// It ends within this many days.
    Expires {
        /// When it ends.
        to: Timestamp,
        /// Days, one of [`CERTIFICATE_EXPIRY_DAYS`].
        days: u64,
    },
    /// It has ended.
    Expired {
        /// When.
        to: Timestamp,
    },
    /// It does not lead to a known root, and one that was read before ranks better.
    Untrusted,
    /// Names that it lacks, and that one which was read before has.
    Lacking(Vec<Domain>),
    /// It has not begun.
    NotYet {
        /// When it begins.
        from: Timestamp,
    },
    /// No certificate is for the hostname.
    Hostname(Domain),
    /// Everybody may read the key.
    BareKey(PathBuf),
    /// The chain is not in order.
    OutOfOrder,
    /// The file does not have the issuer of the certificate.
    NoIssuer { issuer: String },
    /// It has ended, and another pair is served in its stead.
    Superseded {
        /// When it ended.
        to: Timestamp,
        /// The folder of the other.
        by: Box<str>,
    },
}

/// What is presented to clients meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServedInstead {
    /// The pair of that name which was read last.
    LastGood,
    /// The other pairs.
    Others,
    SelfSigned,
}

impl CertificateFinding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match &self.cause {
            CertificateCause::Files(PairError::Nothing(_)) => Severity::Advice,
            CertificateCause::Files(_) | CertificateCause::Unusable(_) => Severity::Fault,
            _ => Severity::Advice,
        }
    }

    /// The remedy, if that is not part of the sentence: a command may be longer than a log line allows.
    pub(in crate::shell) fn cure(&self) -> Option<&str> {
        match &self.cause {
            CertificateCause::Files(PairError::Denied(_, cure)) => Some(cure),
            _ => None,
        }
    }

    /// Whether it is said again each day.
    pub(in crate::shell) fn is_pressing(&self) -> bool {
        match &self.cause {
            CertificateCause::Files(PairError::Nothing(_)) => false,
            CertificateCause::Files(_)
            | CertificateCause::Unusable(_)
            | CertificateCause::Gone
            | CertificateCause::Untrusted
            | CertificateCause::Lacking(_)
            | CertificateCause::Expired { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for CertificateFinding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown(&self.name);
        match &self.cause {
            CertificateCause::Files(error) => {
                write!(out, "{error}; {}", self.shown)?;
                match self.cure() {
                    Some(cure) => write!(out, "; {cure}"),
                    None => Ok(()),
                }
            }
            CertificateCause::Unusable(fault) => write!(out, "{name}/{fault}; {}", self.shown),
            CertificateCause::Gone => write!(
                out,
                "{name}: the folder is gone; put it back, or run chopar reload to have its certificate dropped where \
                 there is another (where there is none, empty tls-last-good in state_dir and restart chopar); {}",
                self.shown
            ),
            CertificateCause::Hostname(hostname) => write!(
                out,
                "tls: no certificate is for {hostname}, and clients that verify it refuse the one that they get; obtain one \
                 for that name, or correct hostname"
            ),
            CertificateCause::BareKey(path) => write!(
                out,
                "{}: every user of this machine may read the private key; run chmod o-r {0}",
                path.display()
            ),
            CertificateCause::Expires { .. }
            | CertificateCause::Expired { .. }
            | CertificateCause::Untrusted
            | CertificateCause::Lacking(_)
            | CertificateCause::NotYet { .. }
            | CertificateCause::OutOfOrder
            | CertificateCause::NoIssuer { .. }
            | CertificateCause::Superseded { .. } => {
                write!(out, "{name}/fullchain.pem: ")?;
                self.fmt_of_chain(out)
            }
        }
    }
}

impl CertificateFinding {
    /// The part about the certificate that was read, or its chain.
    fn fmt_of_chain(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            CertificateCause::Expires { to, days } => write!(
                out,
                "the certificate ends at {}, in less than {days} {}; see to its renewal",
                to.rfc3339(),
                if *days == 1 { "day" } else { "days" }
            ),
            CertificateCause::Expired { to } => write!(
                out,
                "the certificate ended at {}, and clients that verify it refuse it; renew it",
                to.rfc3339()
            ),
            CertificateCause::Untrusted => write!(
                out,
                "no root of this system and none of acme.ca_file has issued the certificate; {} as long as it is \
                 valid; if clients trust this one, name its root in acme.ca_file",
                self.shown
            ),
            CertificateCause::Lacking(names) => {
                let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
                write!(
                    out,
                    "the certificate is not for {}; {} for that as long as it is valid; put one there \
                     that has the name",
                    names.join(", "),
                    self.shown
                )
            }
            CertificateCause::NotYet { from } => write!(
                out,
                "the certificate begins at {}; see to the clock, or wait",
                from.rfc3339()
            ),
            CertificateCause::OutOfOrder => write!(
                out,
                "the certificate of the server should come first, and each issuer after the certificate that it \
                 issued; chopar serves it in that order"
            ),
            CertificateCause::NoIssuer { issuer } => write!(
                out,
                "the file does not hold the certificate of {issuer}, which has issued that of the \
                 server: clients that do not have it either refuse the connection; write the whole chain there (certbot: \
                 fullchain.pem, not cert.pem; acme.sh: --fullchain-file, not --cert-file; lego: NAME.crt with its issuer)"
            ),
            CertificateCause::Superseded { to, by } => write!(
                out,
                "the certificate ended at {}, and clients are shown that of {}; remove the \
                 folder if it is not renewed any more",
                to.rfc3339(),
                shown(by)
            ),
            CertificateCause::Files(_)
            | CertificateCause::Unusable(_)
            | CertificateCause::Gone
            | CertificateCause::Hostname(_)
            | CertificateCause::BareKey(_) => Ok(()),
        }
    }
}

impl fmt::Display for ServedInstead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::LastGood => "the pair that was read before stays in force",
            Self::Others => "clients that ask for its names are shown another certificate",
            Self::SelfSigned => "clients are shown a self-signed certificate",
        })
    }
}

impl Tls {
    /// The findings for the operator at this time.
    pub fn findings(&self, hostname: &Domain, now: Timestamp) -> Vec<CertificateFinding> {
        let mut findings = Vec::new();
        let mut push = |name: &str, cause| {
            let is_served = self.served.iter().any(|served| &*served.name == name);
            let shown = match (is_served, self.is_self_signed()) {
                (true, _) => ServedInstead::LastGood,
                (false, true) => ServedInstead::SelfSigned,
                (false, false) => ServedInstead::Others,
            };
            let name = name.into();
            findings.push(CertificateFinding { name, cause, shown });
        };
        for (name, cause) in &self.found {
            push(name, cause.clone());
        }
        for served in self.served.iter().filter(|served| !served.is_replaced) {
            let name = &*served.name;
            let standing = served.certificate.standing(now);
            let mut others = self.served.iter().filter(|other| other.name == served.name);
            let is_behind = others.any(|other| {
                let other = other.certificate.standing(now);
                !standing.may_replace(other) && other.is_trusted && !standing.is_trusted
            });
            if is_behind {
                push(name, CertificateCause::Untrusted);
            }
            let lacking = self.lacking(served, now);
            if !lacking.is_empty() {
                push(name, CertificateCause::Lacking(lacking));
            }
            if let Some(cause) = expiry(&served.certificate, now) {
                push(name, self.superseded(served, now).unwrap_or(cause));
            }
            if let Some(issuer) = served.missing_issuer.clone() {
                push(name, CertificateCause::NoIssuer { issuer });
            }
            if served.certificate.is_out_of_order {
                push(name, CertificateCause::OutOfOrder);
            }
            if let Some(path) = &served.bare_key {
                push(name, CertificateCause::BareKey(path.clone()));
            }
        }
        let mut certificates = self.served.iter().map(|served| &served.certificate);
        if !self.served.is_empty() && !certificates.any(|one| one.has_name(hostname.as_str())) {
            push("", CertificateCause::Hostname(hostname.clone()));
        }
        findings
    }

    /// The pair that is served in place of one that has expired, for all of its names.
    fn superseded(&self, served: &Served, now: Timestamp) -> Option<CertificateCause> {
        let to = served.certificate.validity?.to;
        let has_ended = |served: &Served| {
            let validity = served.certificate.validity;
            validity.is_some_and(|validity| validity.to <= now || validity.from > now)
        };
        let mut others = self.served.iter().filter(|other| !has_ended(other));
        let by = others.find(|other| {
            if other.name == served.name {
                return false;
            }
            let mut names = served.certificate.names.iter();
            names.all(|name| other.certificate.names.contains(name))
        })?;
        let by = by.name.clone();
        (to <= now).then_some(CertificateCause::Superseded { to, by })
    }
}

/// The finding about the expiry of a certificate.
fn expiry(certificate: &ServableCertificate, now: Timestamp) -> Option<CertificateCause> {
    let validity = certificate.validity?;
    let (from, to) = (validity.from, validity.to);
    if now < from {
        return Some(CertificateCause::NotYet { from });
    }
    if now >= to {
        return Some(CertificateCause::Expired { to });
    }
    let left = to.since(now);
    let days = CERTIFICATE_EXPIRY_DAYS
        .into_iter()
        .filter(|days| left.as_secs() < days.saturating_mul(86_400))
        .min()?;
    Some(CertificateCause::Expires { to, days })
}

/// Days before the end of a certificate at which an operator is warned of it.
pub const CERTIFICATE_EXPIRY_DAYS: [u64; 3] = [20, 7, 1];
