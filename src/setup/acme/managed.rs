//! The certificates that the daemon obtains and renews, and the files that exist of each.
//!
//! Invariant: for every wanted certificate it is known whether it exists, however many others there are; if that cannot
//! be determined, it is an error. Otherwise a certificate beyond the bound would be ordered again and again.
//! Certificates beyond [`ACME_CERTIFICATES_MAX`] are left out, and named.

use super::store::{Store, StoredCertificate, StoredCertificates};
use super::wanted::{Wanted, Wants, configured, wanted};
use crate::acme::Name;
use crate::config::{Acme, Config, Renewal};
use crate::limits::ACME_CERTIFICATES_MAX;
use crate::policy::published::names;
use crate::shell::certificates::certificate::CertificateSummary;

/// The certificates that the daemon manages.
#[derive(Debug, Default)]
pub struct Managed {
    /// The certificates that it obtains and renews; at most [`ACME_CERTIFICATES_MAX`].
    pub wanted: Vec<Wanted>,
    /// Certificates that exceed the bound, by first name.
    pub left_out: Vec<Name>,
    kept: Vec<StoredCertificate>,
}

impl Managed {
    /// From the configuration and from what was obtained before.
    pub fn read(config: &Config, store: &Store) -> Result<Self, String> {
        Self::read_with(config, &config.acme, store)
    }

    /// The same, with another `[acme]` than that of the configuration.
    pub fn read_with(config: &Config, acme: &Acme, store: &Store) -> Result<Self, String> {
        if acme.renewal == Renewal::Off {
            return Ok(Self::default());
        }
        let further = names(config);
        let first = configured(acme, &config.hostname, &further);
        let StoredCertificates { mut kept, behind } = store.kept(&first)?;
        let Wants { all, left_out } = wanted(acme, &config.hostname, &further, &kept);
        for one in &all {
            if !kept.iter().any(|kept| kept.name == one.name) {
                kept.extend(store.one(&one.name)?);
            }
        }
        let behind = behind.into_iter();
        let behind = behind.filter(|name| !all.iter().any(|one| one.name == *name));
        let mut left_out: Vec<Name> = left_out.into_iter().chain(behind).collect();
        left_out.sort();
        left_out.dedup();
        Ok(Self {
            wanted: all,
            left_out,
            kept,
        })
    }

    /// The existing certificate, if it is the wanted one.
    pub fn summary(&self, wanted: &Wanted) -> Option<&CertificateSummary> {
        let kept = self.kept.iter().find(|kept| kept.name == wanted.name)?;
        let summary = kept.summary.as_ref().ok()?;
        wanted.is_met_by(&summary.names).then_some(summary)
    }

    /// A sentence about the certificates left out, with what to do.
    pub fn shortage(&self) -> Option<String> {
        let shown = self.left_out.iter().take(SHOWN).map(ToString::to_string);
        let shown = shown.collect::<Vec<_>>().join(", ");
        let shown = match self.left_out.len().saturating_sub(SHOWN) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        };
        (!self.left_out.is_empty()).then(|| {
            format!(
                "chopar obtains and renews at most {ACME_CERTIFICATES_MAX} certificates, which leaves out {shown}; revoke \
                 those that are not needed (`chopar cert revoke`), or have one certificate for several names (acme.names)"
            )
        })
    }
}

/// A sentence about the certificates that this configuration leaves out. If the caller may not see what was obtained
/// before, only the configuration is used.
pub fn shortage(config: &Config) -> Option<String> {
    let seen = Managed::read(config, &Store::new(&config.state_dir));
    let managed = seen.unwrap_or_else(|_| {
        let Wants { all, left_out } = wanted(&config.acme, &config.hostname, &names(config), &[]);
        Managed {
            wanted: all,
            left_out,
            ..Managed::default()
        }
    });
    managed.shortage()
}

/// Names in a sentence.
const SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Folder, SystemDefaults};
    use crate::setup::acme::store::Ordered;
    use crate::shell::certificates::pairs::{CHAIN, KEY};

    /// With so many domains, each of which needs three certificates beside that of the hostname.
    fn config(domains: usize, acme: &str) -> Config {
        let mut folder = Folder::default();
        let mut text = format!(
            "hostname = \"zz.a.test\"\n[acme]\n{acme}[listen]\nhttps = [\"127.0.0.1:443\"]\n"
        );
        for at in 0..domains {
            folder.insert_folder(&format!("domains/d{at:02}.test"));
            text.push_str(&format!(
                "[domain.\"d{at:02}.test\"]\nmta_sts = \"enforce\"\nincoming = \"imaps://imap.a.test\"\n"
            ));
        }
        folder.insert_file("chopar.toml", text.into());
        Config::parse(&folder, &SystemDefaults::default()).expect("a configuration")
    }

    /// As if a CA had given it.
    fn obtain(store: &Store, name: &Name, names: &[Name]) {
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(texts).expect("a certificate");
        let folder = store.folder(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(KEY), made.signing_key.serialize_pem()).expect("a file");
        fs::write(folder.join(CHAIN), made.cert.pem()).expect("a file");
    }

    #[test]
    fn however_many_are_wanted_each_is_there_once_it_was_obtained_and_the_rest_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::new(state.path());
        let config = config(22, "enabled = true\n");
        // By hand, before: these are renewed as well, and come first by name.
        for at in 0..3 {
            let name = Name::parse(&format!("a{at}.test")).expect("a name");
            obtain(&store, &name, std::slice::from_ref(&name));
        }
        let mut ordered = 0;
        loop {
            let managed = Managed::read(&config, &store).expect("it can be read");
            assert_eq!(managed.wanted.len(), ACME_CERTIFICATES_MAX);
            assert_eq!(managed.wanted[0].name.to_string(), "zz.a.test");
            assert_eq!(managed.left_out.len(), 3 + 1 + 66 - ACME_CERTIFICATES_MAX);
            let mut missing = managed.wanted.iter();
            let missing = missing.find(|one| managed.summary(one).is_none());
            let Some(one) = missing else {
                let text = managed.shortage().expect("something is left out");
                assert!(
                    text.contains("mta-sts.d2") && text.contains("and 1 more"),
                    "{text}"
                );
                break;
            };
            obtain(&store, &one.name, &one.names);
            ordered += 1;
            assert!(ordered <= ACME_CERTIFICATES_MAX, "without end: {one:?}");
        }
        assert_eq!(ordered, ACME_CERTIFICATES_MAX - 3);
    }

    #[test]
    fn more_than_are_renewed_were_obtained_and_the_hostname_s_is_not_among_those_left_out() {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::new(state.path());
        let config = config(1, "enabled = true\n");
        let managed = Managed::read(&config, &store).expect("it can be read");
        assert_eq!((managed.wanted.len(), managed.shortage()), (4, None));
        for one in &managed.wanted {
            obtain(&store, &one.name, &one.names);
        }
        let order = Ordered {
            names: vec![Name::parse("b.test").expect("a name")],
            kind: None,
            directory: None,
            agreed: true,
        };
        for at in 0..ACME_CERTIFICATES_MAX {
            let name = Name::parse(&format!("a{at:02}.test")).expect("a name");
            let folder = store.folder(&name);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("order.json"), order.json()).expect("a file");
            fs::write(folder.join(KEY), "lost").expect("a file");
        }
        let managed = Managed::read(&config, &store).expect("it can be read");
        assert_eq!(managed.wanted.len(), ACME_CERTIFICATES_MAX);
        let there = managed
            .wanted
            .iter()
            .filter(|one| managed.summary(one).is_some());
        assert_eq!(there.count(), 4);
        let left_out: Vec<String> = managed.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(left_out, ["a60.test", "a61.test", "a62.test", "a63.test"]);
        let off = self::config(1, "enabled = false\n");
        let managed = Managed::read(&off, &store).expect("it can be read");
        assert_eq!((managed.wanted.len(), managed.shortage()), (0, None));
    }
}
