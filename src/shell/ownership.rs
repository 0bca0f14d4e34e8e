//! Whose it is what a command writes into the configuration folder: whatever the mask of the caller is, the daemon's
//! account can read it, and nobody else can write to it.
//!
//! A folder is made with a mode that lets everybody pass, as `sendmail` has to see which domains are served; a file is
//! readable for its group, which is one that the account is in.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::privilege;
use crate::config::glance;

/// The group for something in the folder `config` that would have the group `found`: another where the account of the
/// daemon is not in that one. Only root can set it, and need not wherever somebody else runs this.
pub fn group(config: &Path, found: u32) -> u32 {
    match privilege::account(&user(config)) {
        Ok(Some(account)) if !account.groups.contains(&found) => account.gid,
        _ => found,
    }
}

/// Makes a folder in the folder `config`, and those that it lies in.
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

/// The account that chopar.toml names.
pub(super) fn user(path: &Path) -> String {
    let text = fs::read(path.join("chopar.toml")).unwrap_or_default();
    let user = glance(&String::from_utf8_lossy(&text), "user");
    user.unwrap_or_else(|| "chopar".to_owned())
}
