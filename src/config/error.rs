//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use super::text::without_mark;
use crate::address::AddressError;
use crate::auth::dkim::key::KeyError;
use crate::limits::{
    ALIAS_TARGETS_MAX, CONFIG_ERRORS_MAX, DKIM_KEYS_PER_DOMAIN_MAX, DNSBL_ZONES_MAX,
};
use crate::login::credential::CredentialError;

/// One thing that is wrong; shown as `file:line:column: sentence`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The file, relative to the configuration folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// TOML that cannot be read, a key that does not exist, a value of another type; in the words of the parser.
    Toml(String),
    /// The file is not UTF-8.
    NotUtf8,
    /// No host name.
    Hostname {
        /// What is there.
        text: String,
        /// Why.
        error: AddressError,
    },
    /// `hostname` is not set, and the system's is of no use.
    SystemHostname {
        /// The system's.
        text: String,
    },
    /// The hostname has no dot (a warning).
    HostnameWithoutDot {
        /// The hostname.
        text: String,
    },
    /// No mail address.
    Mailbox {
        /// What is there.
        text: String,
        /// Why.
        error: AddressError,
    },
    /// No domain.
    Domain {
        /// What is there.
        text: String,
        /// Why.
        error: AddressError,
    },
    /// A domain without a dot (a warning).
    DomainWithoutDot {
        /// The domain.
        text: String,
    },
    /// Two folders name the same domain.
    DomainTwice {
        /// The other folder.
        other: String,
    },
    /// A section for a domain that has no folder.
    DomainWithoutFolder {
        /// The domain.
        domain: String,
    },
    /// A path that does not begin with `/`.
    RelativePath {
        /// What is there.
        text: String,
    },
    /// No name of an account.
    Account {
        /// What is there.
        text: String,
    },
    /// No size.
    Size {
        /// What is there.
        text: String,
    },
    /// No duration.
    Duration {
        /// What is there.
        text: String,
    },
    /// Too small a value.
    TooSmall {
        /// The least, as it would be written.
        least: &'static str,
    },
    /// No socket address.
    SocketAddress {
        /// What is there.
        text: String,
    },
    /// Neither a list of addresses nor `systemd`.
    ListenWord {
        /// What is there.
        text: String,
    },
    /// No server on which mail is read.
    Incoming {
        /// What is there.
        text: String,
    },
    /// No network.
    Network {
        /// What is there.
        text: String,
    },
    /// More lists of bad addresses than are asked.
    Zones,
    /// No answer of a list of bad addresses.
    ListReply {
        /// What is there.
        text: String,
    },
    /// Nobody could come again in time.
    GreylistWindow,
    /// Proxies whose own addresses may relay.
    TrustedProxy {
        /// The proxies.
        proxy: String,
        /// The network that holds them.
        network: String,
    },
    /// A port for proxies, and no proxies.
    NoProxies,
    /// A network with bits behind its prefix.
    NetworkHostBits {
        /// The network that it lies in.
        network: String,
    },
    /// No IP address of the family.
    IpAddress {
        /// What is there.
        text: String,
    },
    /// None of `any`, `ipv4`, `ipv6`.
    Family {
        /// What is there.
        text: String,
    },
    /// No pattern of a route.
    RoutePattern {
        /// What is there.
        text: String,
    },
    /// No next hop.
    Via {
        /// What is there.
        text: String,
    },
    /// A route without a next hop.
    ViaEmpty,
    /// A password would be sent in clear.
    AuthInClear,
    /// The secret lies outside the folder.
    SecretPath {
        /// What is there.
        path: String,
    },
    /// The secret is not there.
    SecretMissing {
        /// Where it should be.
        path: String,
    },
    /// The secret is not a login and a password.
    SecretForm,
    /// None of the words that a key takes.
    Word {
        /// What is there.
        text: String,
        /// What it takes.
        words: String,
    },
    /// Characters that cannot have a meaning in local parts.
    Characters {
        /// What is there.
        text: String,
    },
    /// No line of a users file.
    UserLine,
    /// No credential.
    Credential(CredentialError),
    /// An option of a user that is not known.
    UserOption {
        /// What is there.
        text: String,
    },
    /// No pattern of `send_as`.
    SendAs {
        /// What is there.
        text: String,
    },
    /// A name that is there twice.
    Twice {
        /// The name.
        name: String,
        /// The line where it is first.
        first: usize,
    },
    /// No line of an aliases file.
    AliasLine,
    /// The name of an alias is no local part.
    AliasName {
        /// What is there.
        text: String,
    },
    /// An alias that leads nowhere.
    AliasEmpty,
    /// No target of an alias.
    AliasTarget {
        /// What is there.
        text: String,
    },
    /// No command of an alias.
    AliasCommand,
    /// An alias that leads to itself.
    AliasLoop,
    /// An alias with too many targets.
    AliasTargets,
    /// No key that can sign.
    DkimKey(KeyError),
    /// A key that is shorter than it should be (a warning).
    ShortKey {
        /// Bits of its modulus.
        bits: usize,
    },
    /// No selector.
    Selector {
        /// What is there.
        text: String,
    },
    /// Too many keys.
    DkimKeys,
    /// The hook cannot be run.
    HookMode,
    /// DNS-01 without the hook that does it.
    NoDnsHook,
    /// No name that a certificate can be for.
    CertificateName {
        /// What is there.
        text: String,
    },
    /// No URL of an ACME directory.
    DirectoryUrl {
        /// What is there.
        text: String,
    },
    /// Half of what binds an account.
    HalfBinding,
    /// Everybody may read a secret (a warning).
    ReadByAll,
    /// An IP address for a host name.
    HostnameAddress {
        /// The address.
        text: String,
    },
    /// All of the Internet may relay (a warning).
    OpenRelay {
        /// The network.
        network: String,
    },
    /// The port is closed to IPv4 (a warning).
    Ipv6Only {
        /// What to add.
        address: String,
    },
    /// The name of an alias is an address of another domain.
    AliasForeign {
        /// The domain whose file has to have it.
        domain: String,
    },
    /// A command in quotes that has to stand without.
    AliasQuoted,
    /// A file as a target.
    AliasFile,
    /// A file or folder that means nothing (a warning).
    Unused,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            problem,
        } = self;
        write!(out, "{file}:{line}:{column}: {problem}")
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    #[expect(clippy::too_many_lines, reason = "one table from cause to sentence")]
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(message) => out.write_str(message),
            Self::NotUtf8 => out.write_str("this byte is no UTF-8; write the file as UTF-8"),
            Self::Hostname { text, error } => write!(
                out,
                "{text:?} is no host name ({error}); write the name that the PTR record of the address has"
            ),
            Self::SystemHostname { text } => write!(
                out,
                "the system's name {text:?} is no host name; set hostname = \"mail.example.com\""
            ),
            Self::HostnameWithoutDot { text } => write!(
                out,
                "the hostname {text:?} has no domain, and other servers will distrust it; set hostname = \
                 \"mail.example.com\""
            ),
            Self::Mailbox { text, error } => {
                write!(
                    out,
                    "{text:?} is no mail address ({error}); write name@example.com"
                )
            }
            Self::Domain { text, error } => {
                write!(
                    out,
                    "{text:?} is no domain ({error}); write it like example.com"
                )
            }
            Self::DomainWithoutDot { text } => write!(
                out,
                "no other server can send mail to {text:?}, which has no dot; write the whole name, like {text}.example.com"
            ),
            Self::DomainTwice { other } => write!(
                out,
                "the folder {other:?} names the same domain; put both into one"
            ),
            Self::DomainWithoutFolder { domain } => write!(
                out,
                "there is no folder domains/{domain}; make it (chopar domain add {domain}) or remove the section"
            ),
            Self::RelativePath { text } => {
                write!(out, "{text:?} is no absolute path; begin it with /")
            }
            Self::Account { text } => write!(
                out,
                "{text:?} is not an account; write the name of the one that chopar is to run as, numbers like \"65534:65534\", or \
                 \"none\""
            ),
            Self::Size { text } => write!(
                out,
                "{text:?} is no size; write a number with B, KiB, MiB or GiB, like \"50 MiB\""
            ),
            Self::Duration { text } => write!(
                out,
                "{text:?} is no duration; write a number with s, m, h or d, like \"4d\" or \"30m\""
            ),
            Self::TooSmall { least } => write!(out, "the value is too small; {least} is the least"),
            Self::SocketAddress { text } => write!(
                out,
                "{text:?} is no address with a port; write it like \"0.0.0.0:25\" or \"[::]:25\""
            ),
            Self::ListenWord { text } => write!(
                out,
                "{text:?} is neither a list of addresses nor \"systemd\"; write it like [\"0.0.0.0:25\"]"
            ),
            Self::Incoming { text } => write!(
                out,
                "{text:?} is no server on which mail is read; write it like \"imaps://imap.example.net\""
            ),
            Self::Network { text } => write!(
                out,
                "{text:?} is no network; write it like \"192.0.2.0/24\" or \"2001:db8::/32\""
            ),
            Self::Zones => write!(
                out,
                "more than {DNSBL_ZONES_MAX} lists are not asked; remove some"
            ),
            Self::ListReply { text } => write!(
                out,
                "{text:?} is no answer of a list; write it like \"127.0.0.2\" or \"127.0.0.2-11\""
            ),
            Self::GreylistWindow => out.write_str(
                "nobody could come again in time; make greylist_window longer than greylist_delay",
            ),
            Self::TrustedProxy { proxy, network } => write!(
                out,
                "the proxy {proxy} is in {network} of [relay] networks; take it out there: by another port it may relay \
                 to anywhere, and by the port for proxies its own address never may"
            ),
            Self::NoProxies => out.write_str(
                "nobody may connect there; name the proxies, like networks = [\"10.0.0.1\"] under [proxy]",
            ),
            Self::NetworkHostBits { network } => write!(
                out,
                "the address has bits behind the prefix; write {network:?} for the network"
            ),
            Self::IpAddress { text } => {
                write!(out, "{text:?} is no IP address that can be used here")
            }
            Self::Family { text } => {
                write!(out, "{text:?} is none of \"any\", \"ipv4\" and \"ipv6\"")
            }
            Self::RoutePattern { text } => write!(
                out,
                "{text:?} matches nothing; write \"*\", \"example.org\", \"*.example.org\" or \"from:example.org\""
            ),
            Self::Via { text } => write!(
                out,
                "{text:?} is no next hop; write it like \"smtp+starttls://relay.example.com:587\" (smtp, \
                 smtp+starttls, smtps, lmtp with a port or a path, or maildir with a path)"
            ),
            Self::ViaEmpty => out.write_str("the route leads nowhere; put a next hop into via"),
            Self::AuthInClear => out.write_str(
                "the password would be sent in clear; use smtp+starttls:// or smtps:// with auth",
            ),
            Self::SecretPath { path } => write!(
                out,
                "{path:?} leads out of the configuration folder; write a path below it, like \"secrets/relay\""
            ),
            Self::SecretMissing { path } => write!(
                out,
                "there is no file {path}; write login and password into it, on two lines"
            ),
            Self::SecretForm => {
                out.write_str("expected login and password, on two lines or with a space between")
            }
            Self::Word { text, words } => {
                write!(out, "{text:?} is none of the words that stand here: {words}")
            }
            Self::Characters { text } => write!(
                out,
                "{text:?} holds letters, digits, white space or quotes; write characters like \"+\" or \"-\""
            ),
            Self::UserLine => out.write_str(
                "expected NAME:{SCRAM-SHA-256}...; add users with chopar user add NAME@DOMAIN",
            ),
            Self::Credential(error) => {
                write!(
                    out,
                    "{error}; set the password again with chopar user passwd"
                )
            }
            Self::UserOption { text } => {
                write!(
                    out,
                    "{text:?} is no option of a user; send_as=PATTERN,... is the only one"
                )
            }
            Self::SendAs { text } => write!(
                out,
                "{text:?} is no pattern; write name@example.com, *@example.com or *"
            ),
            Self::Twice { name, first } => {
                write!(
                    out,
                    "{name:?} is already on line {first}; put both into one line"
                )
            }
            Self::AliasLine => out.write_str("expected NAME: TARGET, TARGET; the colon is missing"),
            Self::AliasName { text } => write!(
                out,
                "{text:?} is no name; write what stands in front of the @, or * for all the rest"
            ),
            Self::AliasEmpty => {
                out.write_str("the alias leads nowhere; write an address behind the colon")
            }
            Self::AliasTarget { text } => write!(
                out,
                "{text:?} is no target; write an address, \"ADDRESS via HOST\", lmtp:/path, lmtp:HOST:PORT, maildir:/path, \
                 discard: or \"| /path/to/program\""
            ),
            Self::AliasCommand => out.write_str(
                "expected a program by its whole path behind the |, with its arguments; quotes must be closed",
            ),
            Self::AliasLoop => out.write_str(
                "the alias leads back to itself, or through too many others; let one of them lead elsewhere",
            ),
            Self::AliasTargets => {
                write!(
                    out,
                    "the alias has more than {ALIAS_TARGETS_MAX} targets; use a list server"
                )
            }
            Self::ShortKey { bits } => write!(
                out,
                "the RSA key has {bits} bits: it signs, and receivers may hold that against the mail (RFC 8301 section 3.2); \
                 make another with chopar dkim keygen, publish its record, and remove this file some days later"
            ),
            Self::DkimKey(error) => {
                write!(out, "{error}; make a new key with chopar dkim keygen")
            }
            Self::Selector { text } => write!(
                out,
                "{text:?} is no selector; name the file with letters, digits and hyphens, like 2026a.pem"
            ),
            Self::DkimKeys => write!(
                out,
                "the domain has more than {DKIM_KEYS_PER_DOMAIN_MAX} keys, and all of them sign; remove old ones"
            ),
            Self::HookMode => {
                out.write_str("the daemon may not run it; run chmod a+rx on it, or take it away")
            }
            Self::NoDnsHook => out.write_str(
                "hooks/dns-01 is missing: `chopar cert hook nsupdate` and `chopar cert hook acme-sh` print ones to begin with",
            ),
            Self::CertificateName { text } => write!(
                out,
                "{text:?} is no name that a CA issues for; write at most 100 names like \"mail.example.com\" or \
                 \"*.example.com\""
            ),
            Self::DirectoryUrl { text } => write!(
                out,
                "{text:?} is no URL of an ACME directory; write one that begins with https://"
            ),
            Self::HalfBinding => out.write_str(
                "an account is bound by both eab_kid and eab_key_file; set the other one too, or neither",
            ),
            Self::ReadByAll => {
                out.write_str("everybody on this machine may read the secret; run chmod o-r on it")
            }
            Self::HostnameAddress { text } => write!(
                out,
                "{text:?} is an address, and other servers refuse it in EHLO; write the name that the PTR record of the \
                 address has"
            ),
            Self::OpenRelay { network } => write!(
                out,
                "{network} is all of the Internet, and everybody may send to anywhere through this host; write the \
                 networks of your own machines"
            ),
            Self::Ipv6Only { address } => write!(
                out,
                "[::] takes IPv6 alone; add {address:?} for IPv4"
            ),
            Self::AliasForeign { domain } => write!(
                out,
                "this is an address of another domain; write it into domains/{domain}/aliases"
            ),
            Self::AliasQuoted => out.write_str(
                "the quotes take in the |; write it without them, like: | /path/to/program \"an argument\"",
            ),
            Self::AliasFile => out.write_str(
                "no mail is written into files; write maildir:/path for a maildir, or discard: to throw it away",
            ),
            Self::Unused => out.write_str("this means nothing to chopar; is the name right?"),
        }
    }
}

/// The errors and warnings that are found on the way.
#[derive(Debug, Default)]
pub(super) struct Errors {
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Errors {
    /// An error of a whole file.
    pub(super) fn push(&mut self, file: &str, problem: Problem) {
        self.push_at(file, 1, 1, problem);
    }

    /// An error at a line and column.
    pub(super) fn push_at(&mut self, file: &str, line: usize, column: usize, problem: Problem) {
        if self.errors.len() < CONFIG_ERRORS_MAX {
            self.errors.push(ConfigError {
                file: file.to_owned(),
                line,
                column,
                problem,
            });
        }
    }

    /// An error at a span of a text.
    pub(super) fn push_span(
        &mut self,
        file: &str,
        text: &str,
        span: Range<usize>,
        problem: Problem,
    ) {
        let (line, column) = position(text, span.start);
        self.push_at(file, line, column, problem);
    }

    /// The errors alone.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        sorted(self.errors)
    }

    /// Something that can be worked with.
    pub(super) fn warn(&mut self, file: &str, problem: Problem) {
        self.warn_at(file, (1, 1), problem);
    }

    /// The same, at a line and column.
    pub(super) fn warn_at(&mut self, file: &str, place: (usize, usize), problem: Problem) {
        if self.warnings.len() < CONFIG_ERRORS_MAX {
            self.warnings.push(ConfigError {
                file: file.to_owned(),
                line: place.0,
                column: place.1,
                problem,
            });
        }
    }

    /// The text of a file; `None` (and an error) where it is not UTF-8.
    pub(super) fn text<'a>(&mut self, file: &str, bytes: &'a [u8]) -> Option<&'a str> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(without_mark(text)),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let good = str::from_utf8(good).unwrap_or_default();
                self.push_span(file, good, good.len()..good.len(), Problem::NotUtf8);
                None
            }
        }
    }

    /// Warnings and errors.
    pub(super) fn into_parts(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        (sorted(self.warnings), sorted(self.errors))
    }
}

/// In the order in which an editor meets them.
fn sorted(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by(|one, other| {
        let place = |error: &ConfigError| (error.line, error.column);
        (one.file.cmp(&other.file)).then_with(|| place(one).cmp(&place(other)))
    });
    errors
}

/// The line and column of a byte offset, both from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let front = text.get(..offset).unwrap_or(text);
    let line = front.matches('\n').count().saturating_add(1);
    let start = front.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = front.get(start..).unwrap_or_default().chars().count();
    (line, column.saturating_add(1))
}
