//! Which recipients are accepted, and where aliases lead them (RFC 5321 section 3.9.1, subaddresses RFC 5233).
//!
//! Users, the configured networks and local processes may send to any address. Everyone else reaches only addresses of
//! served domains: an alias, an alias without the `+suffix`, the role addresses that `admin` answers for, then the
//! catch-all.
//!
//! Stricter than RFC 5321 appendix C, which lets a server strip a source route: it is refused, because no legitimate
//! client sends one today. Invariant: an address from an unauthenticated client ends at an address that the
//! configuration names.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use crate::address::{Domain, Mailbox, ReversePath};
use crate::config::{Alias, AliasTarget, Config, ServedDomain};
use crate::destination::Destination;
use crate::limits::{ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX};
use crate::smtp::command::ForwardPath;
use crate::workload::{Unit, count};

/// The client that wants to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RelayClient {
    /// An unknown host.
    Anonymous { address: IpAddr },
    /// A host of `relay.networks`.
    Network { address: IpAddr },
    /// A user who has logged in.
    User { login: Mailbox },
    /// A process of this machine.
    Local { uid: u32 },
}

impl RelayClient {
    /// Whether the client may send to any address.
    pub const fn is_trusted(&self) -> bool {
        !matches!(self, Self::Anonymous { .. })
    }
}

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecipientRefusal {
    /// An unauthenticated client named a domain that is not served.
    RelayDenied,
    /// An address that hides another: percent hack, bang path, quoted at sign, source route.
    Routed,
    /// A local part alone, other than Postmaster.
    NoDomain,
    /// An address literal.
    Literal,
    /// Unknown recipient.
    Unknown,
    /// Aliases in a circle, or too deep.
    Loop,
    /// Aliases that lead to too many addresses.
    TooWide,
}

impl fmt::Display for RecipientRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::RelayDenied => "the domain is not served here, and the client may not relay",
            Self::Routed => "the address hides another",
            Self::NoDomain => "the address has no domain",
            Self::Literal => "the address has an address literal for a domain",
            Self::Unknown => "there is no such address; add an alias for it",
            Self::Loop => "the alias leads to itself, or through too many others",
            Self::TooWide => "the alias leads to too many addresses",
        })
    }
}

impl std::error::Error for RecipientRefusal {}

/// One recipient after alias expansion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExpandedRecipient {
    /// The forward-path.
    pub mailbox: Mailbox,
    /// The destination, if not by routes and MX.
    pub destination: Option<Destination>,
    /// The served domain that forwards it, if an alias leads out of the served domains.
    pub forwarder: Option<Domain>,
}

impl ExpandedRecipient {
    /// The address itself, without a destination of its own.
    fn plain(mailbox: &Mailbox) -> Self {
        Self {
            mailbox: mailbox.clone(),
            destination: None,
            forwarder: None,
        }
    }
}

/// The recipients that `to` expands to; at least one.
pub fn recipient(
    config: &Config,
    client: &RelayClient,
    to: &ForwardPath,
) -> Result<Vec<ExpandedRecipient>, RecipientRefusal> {
    match start(config, client, to)? {
        RecipientStart::Relayed(mailbox) => Ok(vec![ExpandedRecipient::plain(&mailbox)]),
        RecipientStart::Name(mailbox) => expand(config, &mailbox),
        RecipientStart::Admin(admin) => expand_or_keep(config, admin),
    }
}

/// The address at which the expansion of a recipient begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecipientStart<'a> {
    /// This address, unexpanded: the client may send to any address.
    Relayed(Mailbox),
    /// At this address of a served domain.
    Name(Mailbox),
    /// At `admin`, who gets the mail of roles and of accounts of this machine.
    Admin(&'a Mailbox),
}

fn start<'a>(
    config: &'a Config,
    client: &RelayClient,
    to: &ForwardPath,
) -> Result<RecipientStart<'a>, RecipientRefusal> {
    let mailbox = match to {
        ForwardPath::Mailbox(mailbox) => mailbox,
        ForwardPath::SourceRoute(_) => return Err(RecipientRefusal::Routed),
        ForwardPath::Bare(local) => return bare(config, client, local),
    };
    let here = config.receiving(mailbox.domain()).is_some();
    let is_host =
        *mailbox.domain() == config.hostname && !config.domains.contains_key(&config.hostname);
    if (is_host || mailbox.domain().is_loopback()) && is_program_here(client) {
        return match is_routed(mailbox) {
            true => Err(RecipientRefusal::Routed),
            false => of_this_machine(config, mailbox.local_part()),
        };
    }
    if mailbox.domain().is_literal() {
        return Err(RecipientRefusal::Literal);
    }
    if (here || !client.is_trusted()) && is_routed(mailbox) {
        return Err(RecipientRefusal::Routed);
    }
    if is_program_here(client)
        && (here || own_domain(config) == Some(mailbox.domain()))
        && let Some(admin) = owner(config, mailbox)
    {
        return Ok(RecipientStart::Admin(admin));
    }
    if here {
        return Ok(RecipientStart::Name(mailbox.clone()));
    }
    // Mail of this machine to itself (cron to root, others to its postmaster) has no other destination.
    if *mailbox.domain() == config.hostname
        && is_role(&mailbox.local_key())
        && let Some(admin) = &config.admin
    {
        return Ok(RecipientStart::Admin(admin));
    }
    match client.is_trusted() {
        true => Ok(RecipientStart::Relayed(mailbox.clone())),
        false => Err(RecipientRefusal::RelayDenied),
    }
}

/// The recipients of a DSN to `to`: those of other mail to that address, or `admin` if `to` is an account of this
/// machine without an alias, or an unknown address here. The DSN thus reaches the sender, or a person who can find out
/// who the sender was.
pub fn notification(
    config: &Config,
    to: &Mailbox,
) -> Result<Vec<ExpandedRecipient>, RecipientRefusal> {
    let path = ForwardPath::Mailbox(to.clone());
    let found = recipient(config, &RelayClient::Local { uid: 0 }, &path);
    match (found, &config.admin) {
        (Err(_), Some(admin)) => expand_or_keep(config, admin),
        (found, _) => found,
    }
}

/// The recipients of another host's DSN to an address without an owner: `admin` if programs of this machine send as
/// that address, because it is an account here; otherwise none. Only mail with the null reverse-path may use this. It
/// ends at the same address as mail for `postmaster`.
pub fn returned(
    config: &Config,
    sender: &ReversePath,
    to: &ForwardPath,
    refusal: RecipientRefusal,
) -> Result<Vec<ExpandedRecipient>, RecipientRefusal> {
    let (ForwardPath::Mailbox(mailbox), Some(admin)) = (to, &config.admin) else {
        return Err(refusal);
    };
    let domain = mailbox.domain();
    let is_here = match refusal {
        RecipientRefusal::Unknown => config.receiving(domain).is_some(),
        RecipientRefusal::RelayDenied => {
            *domain == config.hostname && !config.domains.contains_key(domain)
        }
        _ => false,
    };
    let is_account = is_account(config, &mailbox.local_key());
    if sender.is_null() && is_here && is_account && !is_routed(mailbox) {
        return expand_or_keep(config, admin);
    }
    Err(refusal)
}

/// Expands an address of a served domain.
/// Decides RFC 5321 section 3.9.1.
pub fn expand(
    config: &Config,
    mailbox: &Mailbox,
) -> Result<Vec<ExpandedRecipient>, RecipientRefusal> {
    let mut expansion = Expansion::new(config);
    expansion.visit(mailbox)?;
    Ok(expansion.expanded)
}

/// The steps of [`recipient`], for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation<'a> {
    pub start: Result<RecipientStart<'a>, RecipientRefusal>,
    /// The steps, for the first address and for each that it leads to.
    pub steps: Vec<Explained>,
    /// The verdict.
    pub result: Result<Vec<ExpandedRecipient>, RecipientRefusal>,
}

/// Explains where mail for `to` goes. The verdict is the one that the client gets.
pub fn explain<'a>(config: &'a Config, client: &RelayClient, to: &ForwardPath) -> Explanation<'a> {
    let start = start(config, client, to);
    let mut expansion = Expansion::new(config);
    expansion.steps = Some(Vec::new());
    let first = match &start {
        Ok(RecipientStart::Relayed(mailbox) | RecipientStart::Name(mailbox)) => Some(mailbox),
        Ok(RecipientStart::Admin(admin)) => Some(*admin),
        Err(_) => None,
    };
    // Only the steps matter here; the verdict is taken from the function that replies to clients.
    let _way = first.map(|mailbox| expansion.visit(mailbox));
    Explanation {
        steps: expansion.steps.unwrap_or_default(),
        result: recipient(config, client, to),
        start,
    }
}

/// One step of an expansion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// The number of aliases that were followed to this address.
    pub depth: usize,
    pub address: Mailbox,
    /// The step.
    pub way: Way,
}

/// What the expansion found for an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// An alias, in this line of its domain's file.
    Alias(usize),
    /// The catch-all, in this line.
    CatchAll(usize),
    /// A role that `admin` answers for.
    Admin,
    /// Its domain is not served: mail is sent there.
    Sent,
    /// A destination of its own.
    To(Destination),
    /// The address was expanded, or is a recipient, already.
    Again,
    /// The address leads nowhere.
    Refused(RecipientRefusal),
}

/// What a name in a served domain stands for.
enum NameMatch<'a> {
    Alias(&'a Alias),
    /// A role that `admin` answers for.
    Admin(&'a Mailbox),
}

/// Looks an address up: exactly, without its suffix, as a role, then as the catch-all.
fn find<'a>(
    config: &'a Config,
    served: &'a ServedDomain,
    mailbox: &Mailbox,
) -> Option<NameMatch<'a>> {
    let names = &config.names;
    let key = names.key(&mailbox.local_key());
    served
        .alias(names, &key)
        .map(NameMatch::Alias)
        .or_else(|| {
            let admin = config.admin.as_ref()?;
            is_role(names.without_suffix(&key)).then_some(NameMatch::Admin(admin))
        })
        .or_else(|| served.catch_all.as_ref().map(NameMatch::Alias))
}

/// `Postmaster` alone is always an address; other names are completed for local processes.
/// Decides RFC 5321 section 4.5.1.
fn bare<'a>(
    config: &'a Config,
    client: &RelayClient,
    local: &str,
) -> Result<RecipientStart<'a>, RecipientRefusal> {
    let key = crate::address::local_key(local);
    if is_program_here(client) && !is_role(&key) {
        return of_this_machine(config, local);
    }
    if key != "postmaster" && !is_program_here(client) {
        return Err(RecipientRefusal::NoDomain);
    }
    if let Some(admin) = &config.admin {
        return Ok(RecipientStart::Admin(admin));
    }
    let served = config.domains.iter().find_map(|(domain, served)| {
        config.receiving(domain)?;
        served.alias(&config.names, &key)?;
        Mailbox::new(&key, domain).ok()
    });
    match served {
        Some(mailbox) => Ok(RecipientStart::Name(mailbox)),
        None => Err(RecipientRefusal::NoDomain),
    }
}

/// Whether the client is a program of this machine. For such a program, an address without a domain and one in the
/// domain of the machine mean the same.
fn is_program_here(client: &RelayClient) -> bool {
    match client {
        RelayClient::Local { .. } => true,
        RelayClient::Network { address } => address.is_loopback(),
        RelayClient::Anonymous { .. } | RelayClient::User { .. } => false,
    }
}

/// The served domain that contains the hostname. Programs of this machine send in its name.
pub fn own_domain(config: &Config) -> Option<&Domain> {
    let around = config.domains.keys();
    around
        .filter(|domain| config.hostname.is_under(domain))
        .max_by_key(|domain| domain.as_str().len())
}

/// The destination of a local program's mail for a name of this machine: the address of that name in the machine's
/// domain, otherwise the administrator. MX resolution of the machine's own name would cause a mail loop.
fn of_this_machine<'a>(
    config: &'a Config,
    local: &str,
) -> Result<RecipientStart<'a>, RecipientRefusal> {
    let own = own_domain(config).unwrap_or(&config.hostname);
    let mailbox = Mailbox::new(local, own).map_err(|_| RecipientRefusal::Unknown)?;
    match owner(config, &mailbox) {
        Some(admin) => Ok(RecipientStart::Admin(admin)),
        None if config.receiving(own).is_some() => Ok(RecipientStart::Name(mailbox)),
        None => Err(RecipientRefusal::Unknown),
    }
}

/// The administrator, if the name is that of an account or a role, and no alias has it.
fn owner<'a>(config: &'a Config, mailbox: &Mailbox) -> Option<&'a Mailbox> {
    let key = config.names.key(&mailbox.local_key());
    let receiving = config.receiving(mailbox.domain());
    if receiving.is_some_and(|served| served.alias(&config.names, &key).is_some()) {
        return None;
    }
    let belongs = is_role(config.names.without_suffix(&key)) || is_account(config, &key);
    config.admin.as_ref().filter(|_| belongs)
}

/// Whether the key names an account of this machine, with or without a suffix.
fn is_account(config: &Config, key: &str) -> bool {
    let names = [key, config.names.without_suffix(key)];
    names.iter().any(|name| config.accounts.contains(name))
}

fn expand_or_keep(
    config: &Config,
    mailbox: &Mailbox,
) -> Result<Vec<ExpandedRecipient>, RecipientRefusal> {
    match config.receiving(mailbox.domain()) {
        Some(_) => expand(config, mailbox),
        None => Ok(vec![ExpandedRecipient {
            forwarder: Some(home(config).unwrap_or(&config.hostname).clone()),
            ..ExpandedRecipient::plain(mailbox)
        }]),
    }
}

/// The served domain that represents this machine: the one with its name, otherwise the first that receives mail.
pub fn home(config: &Config) -> Option<&Domain> {
    let mut receiving = (config.domains.keys()).filter(|domain| config.receiving(domain).is_some());
    match config.receiving(&config.hostname) {
        Some(_) => Some(&config.hostname),
        None => receiving.next(),
    }
}

/// Whether the local part contains another address that some server would extract.
fn is_routed(mailbox: &Mailbox) -> bool {
    mailbox.local_key().contains(['%', '!', '@', ':'])
}

/// Names that `admin` answers for (RFC 2142; root gets the system's own mail).
fn is_role(key: &str) -> bool {
    matches!(key, "postmaster" | "abuse" | "root")
}

struct Expansion<'a> {
    config: &'a Config,
    /// The addresses from the first to the current one.
    path: Vec<(Domain, String)>,
    /// All addresses that have been expanded.
    seen: HashSet<(Domain, String)>,
    expanded: Vec<ExpandedRecipient>,
    /// The recipients found so far, as a set: an alias with many targets is expanded for each of up to a thousand
    /// recipients.
    added: HashSet<(Domain, String, Option<Destination>)>,
    /// The steps, if requested.
    steps: Option<Vec<Explained>>,
}

impl<'a> Expansion<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            path: Vec::new(),
            seen: HashSet::new(),
            expanded: Vec::new(),
            added: HashSet::new(),
            steps: None,
        }
    }

    fn note(&mut self, mailbox: &Mailbox, way: Way) {
        if let Some(steps) = &mut self.steps {
            steps.push(Explained {
                depth: self.path.len(),
                address: mailbox.clone(),
                way,
            });
        }
    }

    fn refuse(
        &mut self,
        mailbox: &Mailbox,
        refusal: RecipientRefusal,
    ) -> Result<(), RecipientRefusal> {
        self.note(mailbox, Way::Refused(refusal));
        Err(refusal)
    }

    fn visit(&mut self, mailbox: &Mailbox) -> Result<(), RecipientRefusal> {
        let Some(served) = self.config.receiving(mailbox.domain()) else {
            return self.add(mailbox, None);
        };
        let node = (
            mailbox.domain().clone(),
            self.config.names.key(&mailbox.local_key()),
        );
        if self.path.contains(&node) || self.path.len() >= ALIAS_DEPTH_MAX {
            return self.refuse(mailbox, RecipientRefusal::Loop);
        }
        if self.seen.contains(&node) {
            self.note(mailbox, Way::Again);
            return Ok(());
        }
        if self.seen.len() >= ALIAS_TARGETS_MAX.saturating_mul(ALIAS_DEPTH_MAX) {
            return self.refuse(mailbox, RecipientRefusal::TooWide);
        }
        count(Unit::Name, self.path.len().saturating_add(1));
        let Some(lead) = find(self.config, served, mailbox) else {
            return self.refuse(mailbox, RecipientRefusal::Unknown);
        };
        let catches = |alias: &Alias| served.catch_all.as_ref() == Some(alias);
        let way = match lead {
            NameMatch::Alias(alias) if catches(alias) => Way::CatchAll(alias.line),
            NameMatch::Alias(alias) => Way::Alias(alias.line),
            NameMatch::Admin(_) => Way::Admin,
        };
        self.note(mailbox, way);
        self.seen.insert(node.clone());
        self.path.push(node);
        match lead {
            NameMatch::Alias(alias) => {
                for target in &alias.targets {
                    self.follow(mailbox, target)?;
                }
            }
            NameMatch::Admin(admin) => self.visit(admin)?,
        }
        self.path.pop();
        Ok(())
    }

    /// Follows a target of the alias of `mailbox`.
    fn follow(&mut self, mailbox: &Mailbox, target: &AliasTarget) -> Result<(), RecipientRefusal> {
        let (to, destination) = match target {
            AliasTarget::Here(destination) => return self.add(mailbox, Some(destination)),
            AliasTarget::Address(to) => (to, None),
            AliasTarget::Via(to, destination) => (to, Some(destination)),
        };
        let Some(to) = to.resolve(mailbox) else {
            return self.refuse(mailbox, RecipientRefusal::Unknown);
        };
        match destination {
            None => self.visit(&to),
            Some(_) => self.add(&to, destination),
        }
    }

    fn add(
        &mut self,
        mailbox: &Mailbox,
        destination: Option<&Destination>,
    ) -> Result<(), RecipientRefusal> {
        count(Unit::Name, 1);
        let target = (
            mailbox.domain().clone(),
            mailbox.local_part().to_string(),
            destination.cloned(),
        );
        if self.added.contains(&target) {
            self.note(mailbox, Way::Again);
            return Ok(());
        }
        if self.expanded.len() >= ALIAS_TARGETS_MAX {
            return self.refuse(mailbox, RecipientRefusal::TooWide);
        }
        let way = destination.map_or(Way::Sent, |destination| Way::To(destination.clone()));
        self.note(mailbox, way);
        self.added.insert(target);
        // If the mail of a served domain is received elsewhere, another host checks SPF.
        let ends_here = self.config.receiving(mailbox.domain()).is_some();
        let forwarder = match self.path.last() {
            Some((domain, _)) if !ends_here => Some(domain.clone()),
            _ => None,
        };
        self.expanded.push(ExpandedRecipient {
            mailbox: mailbox.clone(),
            destination: destination.cloned(),
            forwarder,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
