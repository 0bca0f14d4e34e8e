//! Real mail servers, as next hops and as senders: Debian's Postfix, Exim and OpenSMTPD, each of which relays all local
//! mail to one port.
//!
//! They cannot be installed side by side, so the files of two of them are stored beside the tests (`make packages` puts
//! them there) and overlaid on `/usr` in a mount namespace of their own. Missing accounts are added in the same way.
//! That takes root; without it these tests print a line and do nothing.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Guard, PATIENCE, program, run, wait_for};
use crate::world::{certificate, free_port};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Postfix,
    Exim,
    OpenSmtpd,
}

/// A running mail server.
pub(crate) struct FarEnd {
    /// Its port, on 127.0.0.1.
    pub(crate) port: u16,
    folder: TempDir,
    _process: Guard,
}

/// Whether the servers can be started here.
pub(crate) fn may_start() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        eprintln!("only root can start Postfix, Exim and OpenSMTPD: nothing is tested");
    }
    may
}

/// Accounts that their packages would create.
const ACCOUNTS: [(&str, u32); 3] = [
    ("Debian-exim", 60_901),
    ("opensmtpd", 60_902),
    ("opensmtpq", 60_903),
];

/// Overlays files on the system's in a mount namespace of its own, then executes the server.
const STAGE: &str = r#"
set -e
folder=$1 files=$2; shift 2
mount --make-rprivate /
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/group" /etc/group
[ -z "$files" ] || mount -t overlay -o "lowerdir=$files/usr:/usr" overlay /usr
for path in /run /var/lib /var/spool; do mount -t tmpfs tmpfs $path; done
mkdir -p /var/lib/opensmtpd/empty
mkdir -m 711 /var/spool/smtpd
# Not in place of this shell: it is what dies with the test, and takes all below it along.
"$@" &
wait $!
"#;

impl FarEnd {
    /// Starts a server that sends all mail to a port of 127.0.0.1, and accepts messages up to this size.
    pub(crate) fn start(kind: Kind, next: u16, bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        certificate(folder.path(), "mx.far.test");
        let port = free_port();
        write_accounts(folder.path());
        let (files, words) = match kind {
            Kind::Postfix => (None, postfix(folder.path(), port, next, bytes_max)),
            Kind::Exim => (
                Some("exim4-daemon-light"),
                exim(folder.path(), port, next, bytes_max),
            ),
            Kind::OpenSmtpd => (
                Some("opensmtpd"),
                opensmtpd(folder.path(), port, next, bytes_max),
            ),
        };
        let log = File::create(folder.path().join("log")).expect("a file");
        let mut command = staged(
            Command::new(program("unshare")),
            folder.path(),
            files,
            &words,
        );
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let mut process = Guard::spawn(&mut command);
        let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        wait_for(&format!("{kind:?} to greet"), PATIENCE, || {
            assert!(process.is_alive(), "{kind:?} does not start: {}", log());
            let mut client = Client::open(port).ok()?;
            (client.reply().code == 220).then_some(())
        });
        Self {
            port,
            folder,
            _process: process,
        }
    }

    pub(crate) fn log(&self) -> String {
        let logs = ["log", "spool/log/main", "spool/log/panic"];
        logs.iter()
            .map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .collect()
    }
}

/// Writes the accounts of the system and the missing ones.
fn write_accounts(folder: &Path) {
    for (file, pattern) in [
        ("passwd", "NAME:x:ID:ID::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "NAME:x:ID:\n"),
    ] {
        let mut text = fs::read_to_string(Path::new("/etc").join(file)).expect("accounts");
        for (name, id) in ACCOUNTS {
            let is_account = |line: &str| line.starts_with(&format!("{name}:"));
            if !text.lines().any(is_account) {
                text += &pattern.replace("NAME", name).replace("ID", &id.to_string());
            }
        }
        fs::write(folder.join(file), text).expect("a file");
    }
}

/// The command line of a Postfix that listens at these addresses, with these additional lines of main.cf. `unshare` is
/// the command that runs that program here.
pub(crate) fn postfix_at(unshare: Command, folder: &Path, listen: &[&str], main: &str) -> Command {
    write_accounts(folder);
    certificate(folder, "mx.far.test");
    let words = postfix_words(folder, listen, main);
    staged(unshare, folder, None, &words)
}

/// The command line that runs these words with a package's files overlaid on the system's.
fn staged(mut command: Command, folder: &Path, package: Option<&str>, words: &[String]) -> Command {
    let files = package.map_or_else(PathBuf::new, |package| {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("far-ends");
        let files = beside.join(package);
        assert!(
            files.join("usr").exists(),
            "{} is missing: run make packages",
            files.display()
        );
        files
    });
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        STAGE,
        "sh",
    ]);
    command.arg(folder).arg(files).args(words);
    command
}

fn postfix(folder: &Path, port: u16, next: u16, bytes_max: u64) -> Vec<String> {
    let main = format!(
        "mydestination =\nmynetworks = 127.0.0.0/8\nrelayhost = [127.0.0.1]:{next}\nsmtp_tls_security_level = encrypt\n\
         message_size_limit = {bytes_max}\ninet_protocols = ipv4\nsmtp_bind_address = 127.0.0.1\n"
    );
    postfix_words(folder, &[&format!("127.0.0.1:{port}")], &main)
}

fn postfix_words(folder: &Path, listen: &[&str], main: &str) -> Vec<String> {
    let (config, queue, data) = (
        folder.join("config"),
        folder.join("queue"),
        folder.join("data"),
    );
    for path in [&config, &queue, &data] {
        fs::create_dir(path).expect("a folder");
    }
    let id = |flag| {
        run(Command::new(program("id")).args([flag, "postfix"]), b"")
            .ok()
            .trim()
            .parse()
            .ok()
    };
    chown(&data, id("-u"), None).expect("Postfix's account");
    let at = folder.display();
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\nmyhostname = mx.far.test\n\
         alias_maps =\nsmtpd_tls_cert_file = {at}/cert.pem\nsmtpd_tls_key_file = {at}/key.pem\n\
         smtpd_tls_security_level = may\nmailbox_size_limit = 0\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n\
         maximal_backoff_time = 2s\nmaillog_file = /dev/stdout\n{main}"
    );
    fs::write(config.join("main.cf"), main).expect("a file");
    let services = fs::read_to_string("/etc/postfix/master.cf.proto").expect("Postfix's services");
    let services: String = services
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["smtp", "inet", ..] => listen
                    .iter()
                    .map(|place| format!("{place} inet n - n - - smtpd\n"))
                    .collect(),
                // No service runs in a chroot, since the folders are not prepared for one.
                [name, kind, private, unprivileged, "y", rest @ ..]
                    if !line.starts_with(['#', ' ']) =>
                {
                    format!(
                        "{name} {kind} {private} {unprivileged} n {}\n",
                        rest.join(" ")
                    )
                }
                _ => format!("{line}\n"),
            }
        })
        .collect();
    fs::write(
        config.join("master.cf"),
        services + "postlog unix-dgram n - n - 1 postlogd\n",
    )
    .expect("a file");
    for name in ["dynamicmaps.cf", "postfix-files"] {
        fs::copy(Path::new("/etc/postfix").join(name), config.join(name)).expect("a file");
    }
    for name in ["dynamicmaps.cf.d", "postfix-files.d"] {
        fs::create_dir(config.join(name)).expect("a folder");
    }
    [
        "/usr/sbin/postfix",
        "-c",
        &config.display().to_string(),
        "start-fg",
    ]
    .map(str::to_owned)
    .into()
}

fn exim(folder: &Path, port: u16, next: u16, bytes_max: u64) -> Vec<String> {
    let (at, config) = (folder.display(), folder.join("exim.conf"));
    let (_, id) = ACCOUNTS[0];
    fs::create_dir_all(folder.join("spool/log")).expect("a folder");
    for name in ["spool", "spool/log", "cert.pem", "key.pem"] {
        chown(folder.join(name), Some(id), Some(id)).expect("root gives");
    }
    let text = format!(
        "primary_hostname = mx.far.test\nspool_directory = {at}/spool\nlog_file_path = {at}/spool/log/%s\n\
         pid_file_path = {at}/spool/pid\ndaemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\n\
         tls_advertise_hosts = *\ntls_certificate = {at}/cert.pem\ntls_privatekey = {at}/key.pem\n\
         message_size_limit = {bytes_max}\nsmtputf8_advertise_hosts = *\ndsn_advertise_hosts = *\n\
         acl_smtp_rcpt = accept\nacl_smtp_data = accept\nqualify_domain = far.test\nqueue_run_in_order\n\
         begin routers\non:\n driver = manualroute\n route_list = * 127.0.0.1\n self = send\n transport = out\n\
         begin transports\nout:\n driver = smtp\n port = {next}\n hosts_require_tls = *\n tls_verify_certificates =\n\
         begin retry\n* * F,1h,1s\n"
    );
    fs::write(&config, text).expect("a file");
    [
        "/usr/sbin/exim4",
        "-C",
        &config.display().to_string(),
        "-bdf",
        "-q1s",
    ]
    .map(str::to_owned)
    .into()
}

fn opensmtpd(folder: &Path, port: u16, next: u16, bytes_max: u64) -> Vec<String> {
    let (at, config) = (folder.display(), folder.join("smtpd.conf"));
    let text = format!(
        "smtp max-message-size {bytes_max}\npki \"mx\" cert \"{at}/cert.pem\"\npki \"mx\" key \"{at}/key.pem\"\n\
         listen on 127.0.0.1 port {port} hostname \"mx.far.test\" tls pki \"mx\"\n\
         action \"on\" relay host \"smtp+tls://127.0.0.1:{next}\" tls no-verify\nmatch from any for any action \"on\"\n"
    );
    fs::write(&config, text).expect("a file");
    fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o600)).expect("a mode");
    ["/usr/sbin/smtpd", "-d", "-f", &config.display().to_string()]
        .map(str::to_owned)
        .into()
}
