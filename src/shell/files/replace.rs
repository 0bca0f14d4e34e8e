//! Replaces a file of the configuration or of the state folder, so that it is complete at any time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::entropy::Entropy;
use crate::shell::files::ownership;
use crate::shell::process::time::SystemEntropy;

/// Replaces a file of the state by `bytes`: written under another name, synced, renamed, and the folder synced. Owner
/// and group are those of the previous file, otherwise of the folder.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_with(path, bytes, mode, &|group| group)
}

/// The same for a file of the configuration folder `config`, which the daemon's account must be able to read.
pub fn replace_in(config: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_with(path, bytes, mode, &|group| ownership::group(config, group))
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    group_for: &dyn Fn(u32) -> u32,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut random = [0; 8];
    SystemEntropy::default().fill(&mut random);
    let beside = folder.join(format!(".{name}.{:016x}", u64::from_ne_bytes(random)));
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        let (owner, group) = match fs::metadata(path) {
            Ok(old) => (old.uid(), old.gid()),
            Err(_) => (fs::metadata(folder)?.uid(), fs::metadata(folder)?.gid()),
        };
        // Only root can change the owner; any other caller owns the folder.
        drop(std::os::unix::fs::fchown(
            &file,
            Some(owner),
            Some(group_for(group)),
        ));
        // Readable for the group only once it is the right one, whatever the umask is.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if result.is_err() {
        drop(fs::remove_file(&beside));
    }
    result
}
