//! From root to the service's account, once the ports are bound and before any thread is started.
//!
//! The account is looked up in /etc/passwd and /etc/group, because a static binary has no other name service. The
//! system calls change only the calling thread, and new threads inherit; hence the order. For the same reason a
//! temporary thread can do one thing as the account and end ([`as_account`]): root reads a configuration with the
//! rights that the daemon will have.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::thread;

use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, geteuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::config::Config;
use crate::shell::files::own_folder;

/// An account of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SystemAccount {
    /// The user.
    pub(in crate::shell) uid: u32,
    /// The user's own group.
    pub(in crate::shell) gid: u32,
    /// Other groups that the user is in.
    pub(in crate::shell) groups: Vec<u32>,
}

/// Why the account could not be taken on.
#[derive(Debug)]
pub enum PrivilegeError {
    /// /etc/passwd does not have it.
    NoUser(String),
    /// A file or folder could not be read or handed over.
    File(String, io::Error),
    /// The system refused.
    Refused(io::Error),
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(
                out,
                "there is no user {name} in /etc/passwd: make it with 'useradd --system {name}', or set user in \
                 chopar.toml: to another, to numbers like \"65534:65534\", which need no /etc/passwd, or to \"none\" to stay root"
            ),
            Self::File(path, error) => write!(out, "{path}: {error}"),
            Self::Refused(error) => write!(out, "the system refuses to change the user: {error}"),
        }
    }
}

impl std::error::Error for PrivilegeError {}

/// The account to change to: none when we are not root, or are to stay so.
pub(in crate::shell) fn account(user: &str) -> Result<Option<SystemAccount>, PrivilegeError> {
    match geteuid().is_root() {
        true => find_account(user, Path::new("/etc")),
        false => Ok(None),
    }
}

/// The account that `user` names: by its name in the files of this folder, or by numbers, which need no files.
fn find_account(user: &str, etc: &Path) -> Result<Option<SystemAccount>, PrivilegeError> {
    if matches!(user, "root" | "none") {
        return Ok(None);
    }
    let read = |name: &str| fs::read_to_string(etc.join(name));
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let passwd = match read("passwd") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let path = etc.join("passwd").display().to_string();
            return Err(PrivilegeError::File(path, error));
        }
    };
    if let (Ok(uid), Ok(gid)) = (name.parse(), group.parse()) {
        let groups = vec![gid];
        return Ok(Some(SystemAccount { uid, gid, groups }));
    }
    find(&passwd, &read("group").unwrap_or_default(), name)
        .map(Some)
        .ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))
}

/// Runs `work` as the account that may bind low ports, in a temporary thread; as the caller, if there is no account to
/// change to.
pub(in crate::shell) fn as_binding_account<T: Send>(
    account: Option<&SystemAccount>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, PrivilegeError> {
    in_thread(account, become_binding_account, work)
}

/// Runs `work` as the account, in a temporary thread; as the caller, if there is no account to change to.
pub(in crate::shell) fn as_account<T: Send>(
    account: Option<&SystemAccount>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, PrivilegeError> {
    in_thread(account, become_account, work)
}

fn in_thread<T: Send>(
    account: Option<&SystemAccount>,
    change: fn(&SystemAccount) -> Result<(), PrivilegeError>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, PrivilegeError> {
    let Some(account) = account else {
        return Ok(work());
    };
    let gone = || PrivilegeError::Refused(io::Error::other("the thread has ended"));
    thread::scope(|scope| {
        let work = scope.spawn(|| change(account).map(|()| work()));
        work.join().map_err(|_| gone())?
    })
}

/// Runs `work` with the rights of this configuration's daemon: as its account, with the right to bind low ports, and
/// with `state_dir` present. For commands that root runs; any other caller keeps its identity.
pub fn as_service<T: Send>(
    config: &Config,
    work: impl FnOnce() -> T + Send,
) -> Result<T, PrivilegeError> {
    let account = account(&config.user)?;
    if let Some(account) = &account {
        let path = config.state_dir.as_path();
        let shown = || path.display().to_string();
        let folder = own_folder::open(path, 0o755)
            .map_err(|error| PrivilegeError::File(shown(), io::Error::other(error.to_string())))?;
        hand_over(&folder, path, account)?;
    }
    as_binding_account(account.as_ref(), work)
}

/// Gives an open folder to the account.
pub(in crate::shell) fn hand_over(
    folder: &OwnedFd,
    path: &Path,
    account: &SystemAccount,
) -> Result<(), PrivilegeError> {
    fchown(folder, Some(account.uid), Some(account.gid))
        .map_err(|error| PrivilegeError::File(path.display().to_string(), error))
}

/// Becomes the account, for good.
pub(in crate::shell) fn become_account(account: &SystemAccount) -> Result<(), PrivilegeError> {
    let refused = |error: rustix::io::Errno| PrivilegeError::Refused(error.into());
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).map_err(refused)?;
    set_thread_res_gid(gid, gid, gid).map_err(refused)?;
    set_thread_res_uid(uid, uid, uid).map_err(refused)
}

/// The same, but the calling thread keeps one right of root: to bind ports below 1024, for challenges of ACME. Threads
/// that it starts inherit it; a program that it starts does not.
pub(in crate::shell) fn become_binding_account(
    account: &SystemAccount,
) -> Result<(), PrivilegeError> {
    let refused = |error: rustix::io::Errno| PrivilegeError::Refused(error.into());
    // If all rights would be kept and none could be dropped, none is kept.
    let can_give_up = capabilities(None).and_then(|sets| set_capabilities(None, sets));
    if can_give_up.is_err() {
        return become_account(account);
    }
    set_keep_capabilities(true).map_err(refused)?;
    become_account(account)?;
    set_keep_capabilities(false).map_err(refused)?;
    // If root did not have it, as in some containers, there is nothing to keep.
    let kept = set_capabilities(None, only(CapabilitySet::NET_BIND_SERVICE));
    kept.or_else(|_| set_capabilities(None, only(CapabilitySet::empty())))
        .map_err(refused)
}

/// Drops the right that [`become_binding_account`] has kept, for the calling thread and for those that it starts later.
pub(in crate::shell) fn drop_capabilities() -> Result<(), PrivilegeError> {
    match set_capabilities(None, only(CapabilitySet::empty())) {
        // If the call is refused, nothing was kept.
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(PrivilegeError::Refused(error.into())),
    }
}

fn only(set: CapabilitySet) -> CapabilitySets {
    CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    }
}

/// Nothing that is started from here gains privileges, and no other process of the account may read this one's memory,
/// which holds passwords and keys; nor does a crash write it to a file.
pub(in crate::shell) fn renounce() -> Result<(), PrivilegeError> {
    let refused = |error: rustix::io::Errno| PrivilegeError::Refused(error.into());
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused)?;
    // The capability that the systemd unit gives would be inherited by programs that the helper starts. If the system
    // has no such sets, or a filter refuses the call, nothing more can be done.
    let _ = clear_ambient_capability_set();
    if let Ok(sets) = capabilities(None) {
        let inheritable = CapabilitySet::empty();
        let kept = CapabilitySets {
            inheritable,
            ..sets
        };
        let _ = set_capabilities(None, kept);
    }
    set_no_new_privs(true).map_err(|error| PrivilegeError::Refused(error.into()))
}

fn find(passwd: &str, group: &str, name: &str) -> Option<SystemAccount> {
    let (uid, gid) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (found || name.parse() == Ok(uid)).then_some((uid, gid))
    })?;
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let id = fields.next()?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == name)
            .then_some(id)
    });
    Some(SystemAccount {
        uid,
        gid,
        groups: std::iter::once(gid).chain(groups).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_by_numbers_needs_no_files_and_one_by_name_says_what_else_to_write() {
        let nowhere = tempfile::tempdir().expect("a folder");
        let find = |user| find_account(user, nowhere.path());
        let account = SystemAccount {
            uid: 65_534,
            gid: 65_533,
            groups: vec![65_533],
        };
        assert_eq!(find("65534:65533").expect("an account"), Some(account));
        assert_eq!(find("none").expect("an account"), None);
        let error = find("chopar").expect_err("no such user").to_string();
        assert!(error.contains("\"65534:65534\""), "{error}");
    }

    #[test]
    fn an_account_has_its_own_group_and_those_that_name_it() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nchopar:x:990:991::/nonexistent:/usr/sbin/nologin\n";
        let group = "root:x:0:\nssl-cert:x:105:www-data,chopar\nmail:x:8:chopar2\n";
        assert_eq!(
            find(passwd, group, "chopar"),
            Some(SystemAccount {
                uid: 990,
                gid: 991,
                groups: vec![991, 105]
            })
        );
        assert_eq!(find(passwd, group, "chop"), None);
    }
}
