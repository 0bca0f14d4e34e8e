//! `man sendmail`: the page that it shows.
//!
//! make install puts chopar's pages beside the compressed pages of another mail system, and man(1) may show either. The
//! other pages are diverted by the same means as the programs, and `dpkg-divert --remove` restores them.

use std::path::{Path, PathBuf};

use super::machine::{Machine, SystemTool};
use super::step::Entries;

/// How to make man show chopar's pages, if others of their names exist.
pub fn man_pages(machine: &Machine) -> Entries {
    let mut entries = Entries::default();
    let Some((first, _)) = machine.other_pages.first() else {
        return entries;
    };
    let commands: Vec<String> = machine
        .other_pages
        .iter()
        .map(|(path, package)| {
            let (path, aside) = (path.display(), aside(path));
            let aside = aside.display();
            match package.is_some() && machine.has(SystemTool::Divert) {
                true => format!("dpkg-divert --local --rename --divert {aside} --add {path}"),
                false => format!("mv {path} {aside}"),
            }
        })
        .collect();
    entries.left(format!(
        "{} is the page of another mail system, and man sendmail may show it rather than chopar's. To move it aside, as root: \
         {}",
        first.display(),
        commands.join(" && ")
    ));
    entries
}

/// `sendmail.1.gz` as `sendmail.other.1.gz`, which man shows by that name.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (front, rest) = name.split_once('.').unwrap_or((&name, ""));
    path.with_file_name(format!("{front}.other.{rest}"))
}

/// The pages of one name, each in its folder.
pub const PAGES: [&str; 3] = ["sendmail.1", "mailq.1", "newaliases.1"];
