//! The spool as files: the journal and its thread, the drop folder, the greylist between two runs.

pub mod drop_folder;
pub(super) mod drop_runs;
pub mod file_disk;
pub(super) mod greylist_file;
pub mod journal_writer;
