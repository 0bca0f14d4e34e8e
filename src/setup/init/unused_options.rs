//! Options that had no effect because something else exists, each with the command that does it.
//!
//! `init` changes nothing that exists. An operator who asks for something else is told that it was not done, and how to
//! do it.

use super::ignore_file::{SECRET_LINES, leaves_secrets_out};
use super::machine::{ExistingCertificate, Machine};
use super::options::{CertificateWish, Git, InitOptions};
use super::step::Entries;

/// The options that had no effect.
pub fn unused_options(options: &InitOptions, machine: &Machine) -> Entries {
    let mut entries = Entries::default();
    let existing = &machine.existing;
    let (command, domain) = (machine.command(), &options.domain);
    let settings = machine.folder.join("chopar.toml");
    let settings = settings.display();
    if let (Some(there), Some(wanted)) = (&existing.hostname, &options.hostname)
        && there != wanted
    {
        entries.left(format!(
            "--hostname {wanted} changed nothing: it is {there}; to change it, set hostname in {settings}, then run {command} \
             reload"
        ));
    }
    if let (Some(there), Some(wanted)) = (&existing.admin, &options.admin)
        && there != wanted
    {
        entries.left(format!(
            "--admin {wanted} changed nothing: it is {there}; to change it, set admin in {settings}, then run {command} reload"
        ));
    }
    let caught = existing.domain.as_ref();
    let caught = caught.and_then(|there| there.catch_all.as_ref());
    if let (Some(there), Some(wanted)) = (caught, &options.forward_to)
        && *there != wanted.to_string()
    {
        entries.left(format!(
            "--forward-to {wanted} changed nothing: all addresses of {domain} without an alias lead to {there}; to change \
             it, run {command} alias remove '*@{domain}' && {command} alias add '*@{domain}' {wanted}"
        ));
    }
    if options.certificate == CertificateWish::Unwanted
        && matches!(
            existing.certificate,
            ExistingCertificate::Automatic | ExistingCertificate::AutomaticCertificate
        )
    {
        entries.left(format!(
            "--no-certificate changed nothing: the daemon obtains and renews certificates; to end that, set enabled = false \
             under [acme] in {settings}, then run {command} reload"
        ));
    }
    let leaves_out = leaves_secrets_out(&existing.ignore);
    let folder = machine.folder.display();
    match (options.git, existing.repository) {
        (Git::Private, true) if leaves_out => entries.left(format!(
            "--git=private changed nothing: the repository leaves secrets out; to have them in it, take the lines {} out of \
             {folder}/.gitignore, then run git -C {folder} add -A && git -C {folder} commit -m secrets",
            SECRET_LINES.join(" ")
        )),
        (Git::Public, true) if !leaves_out => entries.left(format!(
            "--git changed nothing: the repository may hold secrets, which stay in its history whatever is done now; to begin \
             one without them, move {folder}/.git away and run this again"
        )),
        _ => {}
    }
    entries
}
