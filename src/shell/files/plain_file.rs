//! Reads a file that a command is about to replace: the file itself, never the target of a link. Otherwise a user who
//! may write to its folder could make root write a copy of another file.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::limits::CONFIG_FILE_BYTES_MAX;

/// The content of the file.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let refused = |why: &str| io::Error::new(ErrorKind::InvalidInput, why.to_owned());
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(|_| refused(NO_FILE))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => refused(LINK),
        _ => error,
    })?;
    if !file.metadata()?.is_file() {
        return Err(refused(NO_FILE));
    }
    let most = CONFIG_FILE_BYTES_MAX.saturating_add(1);
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|len| len < most) {
        true => Ok(bytes),
        false => Err(refused(TOO_LONG)),
    }
}

/// The same, which must be UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(bytes(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

const LINK: &str =
    "it is a link, and chopar does not follow it here: put the file itself in its place";
const NO_FILE: &str = "expected a file, found something else; remove it";
const TOO_LONG: &str = "the file is too long for the configuration";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_read_and_neither_a_link_nor_a_folder_nor_a_pipe() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "text").expect("a file");
        symlink(at("file"), at("link")).expect("a link");
        fs::create_dir(at("folder")).expect("a folder");
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.expect("mkfifo").success());
        assert_eq!(text(&at("file")).expect("a text"), "text");
        let error = |name: &str| text(&at(name)).expect_err("refused");
        assert_eq!(error("link").to_string(), LINK);
        assert_eq!(error("folder").to_string(), NO_FILE);
        assert_eq!(error("pipe").to_string(), NO_FILE);
        assert_eq!(error("nothing").kind(), ErrorKind::NotFound);
    }
}
