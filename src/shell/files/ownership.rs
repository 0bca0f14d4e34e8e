//! The owner and mode of files that a command writes into the configuration folder. Whatever the umask of the caller
//! is, the daemon's account can read such a file, and no other user can write to it.
//!
//! A folder gets a mode that lets everybody pass, because `sendmail` must see which domains are served. A file is
//! readable for its group, to which the account belongs.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;

use rustix::fs::OFlags;

use crate::config::glance;
use crate::shell::process::privilege::{self, SystemAccount};

/// The group of a new file in the folder `config` that would have the group `found`: a different one if the account of
/// the daemon is not in that. Only root can set it; other callers need not.
pub fn group(config: &Path, found: u32) -> u32 {
    match privilege::account(&user(config)) {
        Ok(Some(account)) if !account.groups.contains(&found) => account.gid,
        _ => found,
    }
}

/// Makes a folder in the folder `config`, with its parents.
pub fn make_folders(config: &Path, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_folders(config, parent)?;
    DirBuilder::new().mode(0o700).create(path)?;
    let made = File::open(path)?;
    let about = fs::metadata(parent)?;
    if path.starts_with(config) && path != config {
        // Only root can give a folder away.
        let group = group(config, about.gid());
        let _ = fchown(&made, Some(about.uid()), Some(group));
    }
    made.set_permissions(Permissions::from_mode(0o755))
}

/// Whether the configuration folder belongs to the account of the daemon, which could then change its own
/// configuration.
pub fn is_services(config: &Path) -> bool {
    let account = privilege::account(&user(config));
    match (account, fs::symlink_metadata(config)) {
        (Ok(Some(account)), Ok(about)) => about.is_dir() && about.uid() == account.uid,
        _ => false,
    }
}

/// Gives root the files of the daemon's account in the configuration folder, which the account can then still read, but
/// no longer write. From the top down: once root owns a folder, no other user can replace its content.
pub fn take_back(config: &Path) -> io::Result<()> {
    match privilege::account(&user(config)).map_err(io::Error::other)? {
        Some(account) => take_back_from(&account, config),
        None => Ok(()),
    }
}

fn take_back_from(account: &SystemAccount, path: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if !about.is_dir() && !about.is_file() {
        return Ok(());
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let about = opened.metadata()?;
    if about.uid() == account.uid {
        let group = match account.groups.contains(&about.gid()) {
            true => about.gid(),
            false => account.gid,
        };
        fchown(&opened, Some(0), Some(group))?;
        // Files that it could read as the owner it now reads by its group.
        let mode = about.mode() & 0o7755 | (about.mode() & 0o500) >> 3;
        opened.set_permissions(Permissions::from_mode(mode))?;
    }
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            take_back_from(account, &entry?.path())?;
        }
    }
    Ok(())
}

/// The account that chopar.toml names.
pub(in crate::shell) fn user(path: &Path) -> String {
    let text = fs::read(path.join("chopar.toml")).unwrap_or_default();
    let user = glance(&String::from_utf8_lossy(&text), "user");
    user.unwrap_or_else(|| "chopar".to_owned())
}
