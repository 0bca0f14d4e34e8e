//! The accounts of this machine. Programs send mail under these names without anyone having written an alias for them.

use std::collections::BTreeSet;

use crate::address::local_key;
use crate::limits::{ACCOUNT_NAME_BYTES_MAX, ACCOUNTS_MAX};

/// Their names and numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accounts {
    names: BTreeSet<String>,
    uids: BTreeSet<u32>,
}

impl Accounts {
    /// The accounts in a text in the form of /etc/passwd. Lines of another form, and lines past the ceiling, are
    /// ignored.
    pub fn parse(passwd: &str) -> Self {
        let lines = passwd
            .lines()
            .map(|line| line.split(':'))
            .filter_map(|mut fields| Some((fields.next()?, fields.next()?, fields.next())))
            .filter(|(name, ..)| is_name(name))
            .take(ACCOUNTS_MAX);
        let mut found = Self::default();
        for (name, _, uid) in lines {
            found.names.insert(local_key(name));
            found
                .uids
                .extend(uid.and_then(|uid| uid.parse::<u32>().ok()));
        }
        found
    }

    /// Whether an account has this uid. A uid of a range that /etc/subuid gives to an account, as containers use them,
    /// belongs to none.
    pub fn has_uid(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }

    /// Whether there is an account of this name: as in /etc/passwd, or as `sendmail` names a user that does not exist.
    pub fn contains(&self, key: &str) -> bool {
        let is_uid = |digits: &str| {
            digits
                .parse()
                .is_ok_and(|uid: u32| uid.to_string() == digits)
        };
        self.names.contains(key) || key.strip_prefix("uid").is_some_and(is_uid)
    }
}

fn is_name(name: &str) -> bool {
    (1..=ACCOUNT_NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_the_names_of_passwd_and_what_sendmail_makes_of_a_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\n+nis::::::\n\nBob:x:1:\nhalf\n";
        let accounts = Accounts::parse(text);
        for name in ["root", "www-data", "bob", "uid0", "uid4294967295"] {
            assert!(accounts.contains(name), "{name}");
        }
        for uid in [0, 33, 1] {
            assert!(accounts.has_uid(uid), "{uid}");
        }
        assert!(!accounts.has_uid(100_000));
        for name in [
            "",
            "+nis",
            "half",
            "uid",
            "uid-1",
            "uid007",
            "uid4294967296",
            "x",
        ] {
            assert!(!accounts.contains(name), "{name}");
        }
    }

    #[test]
    fn there_are_no_more_than_the_ceiling() {
        let text: String = (0..ACCOUNTS_MAX * 2)
            .map(|n| format!("u{n}:x:\n"))
            .collect();
        assert_eq!(Accounts::parse(&text).names.len(), ACCOUNTS_MAX);
    }
}
