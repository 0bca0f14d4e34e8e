//! Names of files in the drop folder: all files of one message get theirs, or none.

use super::super::make_folder;
use super::*;
use crate::engine::drop_folder::is_complete;

#[test]
fn what_is_complete_has_its_name_on_the_disk_also_for_who_may_not_list_the_folder() {
    let spool = tempfile::tempdir().unwrap();
    let folder = make_folder(spool.path()).unwrap();
    let draft = Draft::write(&folder, &["x".to_owned()], &mut &b""[..]).unwrap();
    // As for an account without rights: opening the folder fails, and the file represents the file system.
    let denied = Path::new("/proc/1/fd");
    let is_denied =
        matches!(File::open(denied), Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
    if is_denied {
        sync_name(&draft.file, denied).unwrap();
    }
    sync_name(&draft.file, &folder).unwrap();
    assert!(sync_name(&draft.file, &folder.join("nowhere")).is_err());
    draft.complete().unwrap();
}

/// Three drafts of one message.
fn drafts(folder: &Path) -> Vec<Draft> {
    let draft = |_| Draft::write(folder, &["x".to_owned()], &mut &b""[..]).unwrap();
    (0..3).map(draft).collect()
}

/// The files in a folder that the relay would take.
fn complete_in(folder: &Path) -> usize {
    use std::os::unix::ffi::OsStrExt as _;
    let entries = fs::read_dir(folder).unwrap().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .filter(|entry| is_complete(entry.file_name().as_bytes()))
        .count()
}

#[test]
fn files_of_one_message_get_their_names_all_together_or_not_at_all() {
    let spool = tempfile::tempdir().unwrap();
    let folder = make_folder(spool.path()).unwrap();
    Draft::complete_all(drafts(&folder)).unwrap();
    assert_eq!(complete_in(&folder), 3);

    let spool = tempfile::tempdir().unwrap();
    let folder = make_folder(spool.path()).unwrap();
    let parts = drafts(&folder);
    // The name of the last one cannot be had.
    fs::create_dir(&parts[2].complete).unwrap();
    let incomplete = Draft::complete_all(parts).unwrap_err();
    assert_eq!((incomplete.left, incomplete.of), (0, 3));
    let left = fs::read_dir(&folder).unwrap().flatten();
    assert_eq!(left.count(), 1, "only what was in the way");
}

#[test]
fn what_the_relay_has_taken_of_a_message_that_is_taken_back_is_told() {
    let spool = tempfile::tempdir().unwrap();
    let folder = make_folder(spool.path()).unwrap();
    let parts = drafts(&folder);
    for part in &parts[..2] {
        fs::rename(&part.path, &part.complete).unwrap();
    }
    // The relay takes a file as soon as it has its name.
    fs::remove_file(&parts[0].complete).unwrap();
    let error = io::Error::from(io::ErrorKind::StorageFull);
    let incomplete = take_back(&parts, 2, error).unwrap_err();
    assert_eq!((incomplete.left, incomplete.of), (1, 3));
    assert_eq!(complete_in(&folder), 0);

    // If it has taken all of them, the message is on its way, whatever failed here.
    let parts = drafts(&folder);
    let error = io::Error::from(io::ErrorKind::StorageFull);
    take_back(&parts, 3, error).unwrap();
}
