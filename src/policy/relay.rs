//! Which recipients are taken, and where aliases lead them (RFC 5321 section 3.9.1, subaddresses RFC 5233).
//!
//! Users, the configured networks and local processes may send to anywhere. Everybody else reaches addresses of
//! served domains only: an alias, one without its `+suffix`, the roles that `admin` answers for, then the catch-all.
//!
//! Stricter than RFC 5321 appendix C, which lets a server strip a source route: it is refused, because nobody who
//! sends one today means well. Invariant: what a stranger names ends at an address that the configuration names.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use crate::address::{Domain, Mailbox, ReversePath};
use crate::config::{Alias, Config, Destination, ServedDomain, Target};
use crate::limits::{ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX};
use crate::smtp::command::ForwardPath;
use crate::workload::{Unit, count};

/// Who wants to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Client {
    /// A host that nobody knows.
    Anonymous {
        /// Its address.
        address: IpAddr,
    },
    /// A host of `relay.networks`.
    Network {
        /// Its address.
        address: IpAddr,
    },
    /// Somebody who has logged in.
    User {
        /// The login.
        login: Mailbox,
    },
    /// A process of this machine.
    Local {
        /// Its user.
        uid: u32,
    },
}

impl Client {
    /// Whether it may send to anywhere.
    pub const fn is_trusted(&self) -> bool {
        !matches!(self, Self::Anonymous { .. })
    }
}

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A stranger, and a domain that is not served.
    RelayDenied,
    /// An address that hides another: percent hack, bang path, quoted at sign, source route.
    Routed,
    /// A local part alone, other than Postmaster.
    NoDomain,
    /// An address literal.
    Literal,
    /// Nobody of that name.
    Unknown,
    /// Aliases in a circle, or too deep.
    Loop,
    /// Aliases that lead to too many addresses.
    TooWide,
}

impl fmt::Display for Refusal {
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

impl std::error::Error for Refusal {}

/// One way that mail for a recipient goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Goal {
    /// The forward-path.
    pub mailbox: Mailbox,
    /// Where to, if not by routes and MX.
    pub destination: Option<Destination>,
    /// The served domain that passes it on, where an alias leads out of the served domains.
    pub forwarder: Option<Domain>,
}

impl Goal {
    /// To an address as it is.
    fn plain(mailbox: &Mailbox) -> Self {
        Self {
            mailbox: mailbox.clone(),
            destination: None,
            forwarder: None,
        }
    }
}

/// Says where mail for `to` goes; never to nowhere.
pub fn recipient(config: &Config, client: &Client, to: &ForwardPath) -> Result<Vec<Goal>, Refusal> {
    match start(config, client, to)? {
        Start::Relayed(mailbox) => Ok(vec![Goal::plain(&mailbox)]),
        Start::Name(mailbox) => expand(config, &mailbox),
        Start::Admin(admin) => expand_or_keep(config, admin),
    }
}

/// Where mail for a recipient begins its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start<'a> {
    /// The client may send to anywhere: to this address as it is.
    Relayed(Mailbox),
    /// At this address of a served domain.
    Name(Mailbox),
    /// At `admin`, whose the mail of roles and of accounts of this machine is.
    Admin(&'a Mailbox),
}

fn start<'a>(config: &'a Config, client: &Client, to: &ForwardPath) -> Result<Start<'a>, Refusal> {
    let mailbox = match to {
        ForwardPath::Mailbox(mailbox) => mailbox,
        ForwardPath::SourceRoute(_) => return Err(Refusal::Routed),
        ForwardPath::Bare(local) => return bare(config, client, local),
    };
    let here = config.receiving(mailbox.domain()).is_some();
    let is_host =
        *mailbox.domain() == config.hostname && !config.domains.contains_key(&config.hostname);
    if (is_host || mailbox.domain().is_loopback()) && is_program_here(client) {
        return match is_routed(mailbox) {
            true => Err(Refusal::Routed),
            false => of_this_machine(config, mailbox.local_part()),
        };
    }
    if mailbox.domain().is_literal() {
        return Err(Refusal::Literal);
    }
    if (here || !client.is_trusted()) && is_routed(mailbox) {
        return Err(Refusal::Routed);
    }
    if is_program_here(client)
        && (here || own_domain(config) == Some(mailbox.domain()))
        && let Some(admin) = owner(config, mailbox)
    {
        return Ok(Start::Admin(admin));
    }
    if here {
        return Ok(Start::Name(mailbox.clone()));
    }
    // What this machine sends to itself (cron to root, others to its postmaster) has nowhere else to go.
    if *mailbox.domain() == config.hostname
        && is_role(&mailbox.local_key())
        && let Some(admin) = &config.admin
    {
        return Ok(Start::Admin(admin));
    }
    match client.is_trusted() {
        true => Ok(Start::Relayed(mailbox.clone())),
        false => Err(Refusal::RelayDenied),
    }
}

/// Says where a DSN to `to` goes: where other mail for it goes or, where that is an account of this machine without an
/// alias or another address here that nobody has, to `admin`. Whoever sent the message is told, or somebody who can find
/// out who it was.
pub fn notification(config: &Config, to: &Mailbox) -> Result<Vec<Goal>, Refusal> {
    let path = ForwardPath::Mailbox(to.clone());
    let found = recipient(config, &Client::Local { uid: 0 }, &path);
    match (found, &config.admin) {
        (Err(_), Some(admin)) => expand_or_keep(config, admin),
        (found, _) => found,
    }
}

/// Says where a DSN of another host goes that comes to an address without an owner: to `admin` where programs of this
/// machine send as that address, since it is an account of it; to nobody otherwise. Only the null reverse-path has this
/// way, and it ends at the one address at which that of `postmaster` does.
pub fn returned(
    config: &Config,
    sender: &ReversePath,
    to: &ForwardPath,
    refusal: Refusal,
) -> Result<Vec<Goal>, Refusal> {
    let (ForwardPath::Mailbox(mailbox), Some(admin)) = (to, &config.admin) else {
        return Err(refusal);
    };
    let domain = mailbox.domain();
    let is_here = match refusal {
        Refusal::Unknown => config.receiving(domain).is_some(),
        Refusal::RelayDenied => *domain == config.hostname && !config.domains.contains_key(domain),
        _ => false,
    };
    let is_account = is_account(config, &mailbox.local_key());
    if sender.is_null() && is_here && is_account && !is_routed(mailbox) {
        return expand_or_keep(config, admin);
    }
    Err(refusal)
}

/// Follows the aliases from an address of a served domain to where they end.
pub fn expand(config: &Config, mailbox: &Mailbox) -> Result<Vec<Goal>, Refusal> {
    let mut expansion = Expansion::new(config);
    expansion.visit(mailbox)?;
    Ok(expansion.goals)
}

/// [`recipient`], step by step, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation<'a> {
    /// Where it begins.
    pub start: Result<Start<'a>, Refusal>,
    /// What happens to the address at the start, and to those that it leads to.
    pub steps: Vec<Explained>,
    /// The verdict.
    pub result: Result<Vec<Goal>, Refusal>,
}

/// Explains where mail for `to` goes. The verdict is the one that the client gets.
pub fn explain<'a>(config: &'a Config, client: &Client, to: &ForwardPath) -> Explanation<'a> {
    let start = start(config, client, to);
    let mut expansion = Expansion::new(config);
    expansion.steps = Some(Vec::new());
    let first = match &start {
        Ok(Start::Relayed(mailbox) | Start::Name(mailbox)) => Some(mailbox),
        Ok(Start::Admin(admin)) => Some(*admin),
        Err(_) => None,
    };
    // The way is what counts here; the verdict is asked for where the client is answered from.
    let _way = first.map(|mailbox| expansion.visit(mailbox));
    Explanation {
        steps: expansion.steps.unwrap_or_default(),
        result: recipient(config, client, to),
        start,
    }
}

/// One address on the way through the aliases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// How many aliases lead to it.
    pub depth: usize,
    /// The address.
    pub address: Mailbox,
    /// What happens to it.
    pub way: Way,
}

/// What happens to an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// It is an alias, in this line of the file of its domain.
    Alias(usize),
    /// The line that catches the rest takes it.
    CatchAll(usize),
    /// It is a role, and `admin` answers for it.
    Admin,
    /// Its domain is not served: it is sent there.
    Sent,
    /// It goes there.
    To(Destination),
    /// It was expanded, or is sent to, already.
    Again,
    /// It leads nowhere.
    Refused(Refusal),
}

/// What a name leads to in a served domain.
enum Lead<'a> {
    /// The alias.
    Alias(&'a Alias),
    /// It is one of the roles that `admin` answers for.
    Admin(&'a Mailbox),
}

/// Finds an address: exactly, without its suffix, as a role, then in the catch-all.
fn find<'a>(config: &'a Config, served: &'a ServedDomain, mailbox: &Mailbox) -> Option<Lead<'a>> {
    let names = &config.names;
    let key = names.key(&mailbox.local_key());
    served
        .alias(names, &key)
        .map(Lead::Alias)
        .or_else(|| {
            let admin = config.admin.as_ref()?;
            is_role(names.without_suffix(&key)).then_some(Lead::Admin(admin))
        })
        .or_else(|| served.catch_all.as_ref().map(Lead::Alias))
}

/// `Postmaster` alone is always an address (RFC 5321 section 4.5.1); other names are completed for local processes.
fn bare<'a>(config: &'a Config, client: &Client, local: &str) -> Result<Start<'a>, Refusal> {
    let key = crate::address::local_key(local);
    if is_program_here(client) && !is_role(&key) {
        return of_this_machine(config, local);
    }
    if key != "postmaster" && !is_program_here(client) {
        return Err(Refusal::NoDomain);
    }
    if let Some(admin) = &config.admin {
        return Ok(Start::Admin(admin));
    }
    let served = config.domains.iter().find_map(|(domain, served)| {
        config.receiving(domain)?;
        served.alias(&config.names, &key)?;
        Mailbox::new(&key, domain).ok()
    });
    match served {
        Some(mailbox) => Ok(Start::Name(mailbox)),
        None => Err(Refusal::NoDomain),
    }
}

/// Whether the client is a program of this machine: what has no domain, or that of the machine itself, means the same to
/// both.
fn is_program_here(client: &Client) -> bool {
    match client {
        Client::Local { .. } => true,
        Client::Network { address } => address.is_loopback(),
        Client::Anonymous { .. } | Client::User { .. } => false,
    }
}

/// The served domain that the name of the host lies in: programs of this machine write in its name.
pub fn own_domain(config: &Config) -> Option<&Domain> {
    let around = config.domains.keys();
    around
        .filter(|domain| config.hostname.is_under(domain))
        .max_by_key(|domain| domain.as_str().len())
}

/// Where mail of a local program to a name of this machine goes: where that name leads in the domain that the machine
/// belongs to; else to whoever administers it. A look-up of the machine's own name would lead mail round in a circle.
fn of_this_machine<'a>(config: &'a Config, local: &str) -> Result<Start<'a>, Refusal> {
    let own = own_domain(config).unwrap_or(&config.hostname);
    let mailbox = Mailbox::new(local, own).map_err(|_| Refusal::Unknown)?;
    match owner(config, &mailbox) {
        Some(admin) => Ok(Start::Admin(admin)),
        None if config.receiving(own).is_some() => Ok(Start::Name(mailbox)),
        None => Err(Refusal::Unknown),
    }
}

/// The administrator, where the name is that of an account or a role and no alias says otherwise.
fn owner<'a>(config: &'a Config, mailbox: &Mailbox) -> Option<&'a Mailbox> {
    let key = config.names.key(&mailbox.local_key());
    let receiving = config.receiving(mailbox.domain());
    if receiving.is_some_and(|served| served.alias(&config.names, &key).is_some()) {
        return None;
    }
    let belongs = is_role(config.names.without_suffix(&key)) || is_account(config, &key);
    config.admin.as_ref().filter(|_| belongs)
}

/// Whether it is an account of this machine, with a suffix or without.
fn is_account(config: &Config, key: &str) -> bool {
    let names = [key, config.names.without_suffix(key)];
    names.iter().any(|name| config.accounts.contains(name))
}

fn expand_or_keep(config: &Config, mailbox: &Mailbox) -> Result<Vec<Goal>, Refusal> {
    match config.receiving(mailbox.domain()) {
        Some(_) => expand(config, mailbox),
        None => Ok(vec![Goal {
            forwarder: Some(home(config).unwrap_or(&config.hostname).clone()),
            ..Goal::plain(mailbox)
        }]),
    }
}

/// The served domain that stands for this machine: the one with its name, else the first that takes mail.
pub fn home(config: &Config) -> Option<&Domain> {
    let mut receiving = (config.domains.keys()).filter(|domain| config.receiving(domain).is_some());
    match config.receiving(&config.hostname) {
        Some(_) => Some(&config.hostname),
        None => receiving.next(),
    }
}

/// Whether the local part holds another address, for a server that would unpack it.
fn is_routed(mailbox: &Mailbox) -> bool {
    mailbox.local_key().contains(['%', '!', '@', ':'])
}

/// Names that `admin` answers for (RFC 2142; root is where a system's own mail goes).
fn is_role(key: &str) -> bool {
    matches!(key, "postmaster" | "abuse" | "root")
}

struct Expansion<'a> {
    config: &'a Config,
    /// The addresses from the first to the present one.
    path: Vec<(Domain, String)>,
    /// All addresses that have been expanded.
    seen: HashSet<(Domain, String)>,
    goals: Vec<Goal>,
    /// The same, to be found at once: an alias of many targets is expanded for each of a thousand recipients.
    added: HashSet<(Domain, String, Option<Destination>)>,
    /// What was done, where somebody wants to know.
    steps: Option<Vec<Explained>>,
}

impl<'a> Expansion<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            path: Vec::new(),
            seen: HashSet::new(),
            goals: Vec::new(),
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

    fn refuse(&mut self, mailbox: &Mailbox, refusal: Refusal) -> Result<(), Refusal> {
        self.note(mailbox, Way::Refused(refusal));
        Err(refusal)
    }

    fn visit(&mut self, mailbox: &Mailbox) -> Result<(), Refusal> {
        let Some(served) = self.config.receiving(mailbox.domain()) else {
            return self.add(mailbox, None);
        };
        let node = (
            mailbox.domain().clone(),
            self.config.names.key(&mailbox.local_key()),
        );
        if self.path.contains(&node) || self.path.len() >= ALIAS_DEPTH_MAX {
            return self.refuse(mailbox, Refusal::Loop);
        }
        if self.seen.contains(&node) {
            self.note(mailbox, Way::Again);
            return Ok(());
        }
        if self.seen.len() >= ALIAS_TARGETS_MAX.saturating_mul(ALIAS_DEPTH_MAX) {
            return self.refuse(mailbox, Refusal::TooWide);
        }
        count(Unit::Name, self.path.len().saturating_add(1));
        let Some(lead) = find(self.config, served, mailbox) else {
            return self.refuse(mailbox, Refusal::Unknown);
        };
        let catches = |alias: &Alias| served.catch_all.as_ref() == Some(alias);
        let way = match lead {
            Lead::Alias(alias) if catches(alias) => Way::CatchAll(alias.line),
            Lead::Alias(alias) => Way::Alias(alias.line),
            Lead::Admin(_) => Way::Admin,
        };
        self.note(mailbox, way);
        self.seen.insert(node.clone());
        self.path.push(node);
        match lead {
            Lead::Alias(alias) => {
                for target in &alias.targets {
                    self.follow(mailbox, target)?;
                }
            }
            Lead::Admin(admin) => self.visit(admin)?,
        }
        self.path.pop();
        Ok(())
    }

    /// Goes where a target of the alias of `mailbox` leads.
    fn follow(&mut self, mailbox: &Mailbox, target: &Target) -> Result<(), Refusal> {
        let (to, destination) = match target {
            Target::Here(destination) => return self.add(mailbox, Some(destination)),
            Target::Address(to) => (to, None),
            Target::Via(to, destination) => (to, Some(destination)),
        };
        let Some(to) = to.resolve(mailbox) else {
            return self.refuse(mailbox, Refusal::Unknown);
        };
        match destination {
            None => self.visit(&to),
            Some(_) => self.add(&to, destination),
        }
    }

    fn add(&mut self, mailbox: &Mailbox, destination: Option<&Destination>) -> Result<(), Refusal> {
        count(Unit::Name, 1);
        let goal = (
            mailbox.domain().clone(),
            mailbox.local_part().to_string(),
            destination.cloned(),
        );
        if self.added.contains(&goal) {
            self.note(mailbox, Way::Again);
            return Ok(());
        }
        if self.goals.len() >= ALIAS_TARGETS_MAX {
            return self.refuse(mailbox, Refusal::TooWide);
        }
        let way = destination.map_or(Way::Sent, |destination| Way::To(destination.clone()));
        self.note(mailbox, way);
        self.added.insert(goal);
        // A domain of ours whose mail is elsewhere has another host that looks at SPF.
        let ends_here = self.config.receiving(mailbox.domain()).is_some();
        let forwarder = match self.path.last() {
            Some((domain, _)) if !ends_here => Some(domain.clone()),
            _ => None,
        };
        self.goals.push(Goal {
            mailbox: mailbox.clone(),
            destination: destination.cloned(),
            forwarder,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folder, SystemDefaults};

    fn config(files: &[(&str, &str)]) -> Config {
        let mut folder = Folder::default();
        for (path, text) in files {
            folder.insert_file(path, text.as_bytes().to_vec());
        }
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        Config::parse(&folder, &defaults).expect("a configuration")
    }

    fn example() -> Config {
        config(&[
            (
                "chopar.toml",
                "admin = \"me@home.example\"\n[domain.\"away.example\"]\nreceive = false\n",
            ),
            (
                "domains/example.com/aliases",
                "ann: ann@gmail.com\nann+lists: lists@gmail.com\nteam: ann, bob@other.example, team2@second.example\n\
                 dead: nobody\nup: x@second.example\n",
            ),
            (
                "domains/second.example/aliases",
                "*: rest@gmail.com\nteam2: ann@example.com, zoe@gmail.com\nabuse: abuse@gmail.com\n",
            ),
            ("domains/away.example/aliases", "ann: ann@gmail.com\n"),
        ])
    }

    fn path(text: &str) -> ForwardPath {
        match Mailbox::parse(text) {
            Ok(mailbox) => ForwardPath::Mailbox(mailbox),
            Err(_) => ForwardPath::Bare(text.into()),
        }
    }

    fn stranger() -> Client {
        Client::Anonymous {
            address: IpAddr::from([192, 0, 2, 1]),
        }
    }

    fn to(client: &Client, text: &str) -> Result<Vec<String>, Refusal> {
        recipient(&example(), client, &path(text)).map(|goals| goals.iter().map(shown).collect())
    }

    fn shown(goal: &Goal) -> String {
        let destination = goal.destination.as_ref();
        let behind = destination.map_or_else(String::new, |to| format!(" {to}"));
        format!("{}{behind}", goal.mailbox)
    }

    #[test]
    fn local_programs_reach_the_owner_of_a_name_of_this_machine() {
        let mut config = example();
        config.accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\n");
        let loopback = Client::Network {
            address: IpAddr::from([127, 0, 0, 1]),
        };
        let elsewhere = Client::Network {
            address: IpAddr::from([192, 0, 2, 9]),
        };
        let to = |client: &Client, text: &str| {
            let goals = recipient(&config, client, &path(text));
            goals.map(|goals| goals.iter().map(shown).collect::<Vec<_>>())
        };
        for client in [&Client::Local { uid: 33 }, &loopback] {
            for host in [
                "",
                "@localhost",
                "@LOCALHOST.localdomain.",
                "@mail.example.com",
                "@[127.0.0.1]",
                "@[IPv6:::1]",
            ] {
                let at = |name: &str| to(client, &format!("{name}{host}"));
                assert_eq!(at("root"), one("me@home.example"), "{host}");
                assert_eq!(at("www-data"), one("me@home.example"), "{host}");
                assert_eq!(at("www-data+x"), one("me@home.example"), "{host}");
                assert_eq!(at("ann"), one("ann@gmail.com"), "{host}");
                assert_eq!(at("nosuch"), Err(Refusal::Unknown), "{host}");
            }
            assert_eq!(to(client, "a%b@localhost"), Err(Refusal::Routed));
            assert_eq!(to(client, "a@[192.0.2.1]"), Err(Refusal::Literal));
            assert_eq!(to(client, "www-data@example.com"), one("me@home.example"));
            assert_eq!(to(client, "ann@gmail.com"), one("ann@gmail.com"));
        }
        // To others these names say nothing.
        assert_eq!(to(&stranger(), "root@localhost"), Err(Refusal::RelayDenied));
        assert_eq!(to(&elsewhere, "root@localhost"), one("root@localhost"));
        assert_eq!(to(&elsewhere, "root@[127.0.0.1]"), Err(Refusal::Literal));
        assert_eq!(
            to(&stranger(), "www-data@example.com"),
            Err(Refusal::Unknown)
        );
    }

    fn one(target: &str) -> Result<Vec<String>, Refusal> {
        Ok(vec![target.to_owned()])
    }

    #[test]
    fn strangers_reach_served_addresses_only() {
        let stranger = stranger();
        assert_eq!(to(&stranger, "Ann@Example.com"), one("ann@gmail.com"));
        assert_eq!(to(&stranger, "nobody@example.com"), Err(Refusal::Unknown));
        assert_eq!(
            to(&stranger, "x@elsewhere.example"),
            Err(Refusal::RelayDenied)
        );
        assert_eq!(
            to(&stranger, "x@sub.example.com"),
            Err(Refusal::RelayDenied)
        );
        assert_eq!(to(&stranger, "ann@away.example"), Err(Refusal::RelayDenied));
    }

    #[test]
    fn trusted_clients_reach_everybody() {
        let login = Mailbox::parse("ann@example.com").expect("a mailbox");
        let address = IpAddr::from([127, 0, 0, 1]);
        for client in [
            Client::User { login },
            Client::Network { address },
            Client::Local { uid: 33 },
        ] {
            assert_eq!(
                to(&client, "x@elsewhere.example"),
                one("x@elsewhere.example")
            );
            assert_eq!(
                to(&client, "x%y@elsewhere.example"),
                one("x%y@elsewhere.example")
            );
            assert_eq!(to(&client, "ann@away.example"), one("ann@away.example"));
            assert_eq!(to(&client, "ann@example.com"), one("ann@gmail.com"));
            assert_eq!(to(&client, "nobody@example.com"), Err(Refusal::Unknown));
        }
    }

    #[test]
    fn open_relay_in_disguise_is_refused() {
        let stranger = stranger();
        for disguise in [
            "victim%elsewhere.example@example.com",
            "victim%elsewhere.example@second.example",
            "elsewhere.example!victim@second.example",
            "\"victim@elsewhere.example\"@second.example",
            "\"victim\\@elsewhere.example\"@second.example",
            "\"elsewhere.example:victim\"@second.example",
            "victim%elsewhere.example@elsewhere.example",
        ] {
            assert_eq!(to(&stranger, disguise), Err(Refusal::Routed), "{disguise}");
        }
        assert_eq!(to(&stranger, "victim@[192.0.2.7]"), Err(Refusal::Literal));
        assert_eq!(to(&stranger, "victim"), Err(Refusal::NoDomain));
        let mailbox = Mailbox::parse("ann@example.com").expect("a mailbox");
        let routed = ForwardPath::SourceRoute(mailbox);
        for client in [stranger, Client::Local { uid: 0 }] {
            assert_eq!(
                recipient(&example(), &client, &routed),
                Err(Refusal::Routed)
            );
        }
    }

    #[test]
    fn suffixes_fall_back_to_the_name_and_then_to_the_catch_all() {
        let stranger = stranger();
        assert_eq!(
            to(&stranger, "ann+lists@example.com"),
            one("lists@gmail.com")
        );
        assert_eq!(to(&stranger, "ann+shop@example.com"), one("ann@gmail.com"));
        assert_eq!(to(&stranger, "zoe+shop@example.com"), Err(Refusal::Unknown));
        assert_eq!(to(&stranger, "+ann@second.example"), one("rest@gmail.com"));
        assert_eq!(
            to(&stranger, "whoever@second.example"),
            one("rest@gmail.com")
        );
    }

    #[test]
    fn roles_always_exist() {
        let stranger = stranger();
        for role in [
            "postmaster@example.com",
            "Abuse@example.com",
            "root@mail.example.com",
            "postmaster@second.example",
            "PostMaster",
        ] {
            assert_eq!(to(&stranger, role), one("me@home.example"), "{role}");
        }
        assert_eq!(
            to(&stranger, "abuse@second.example"),
            one("abuse@gmail.com")
        );
        assert_eq!(
            to(&stranger, "ann@mail.example.com"),
            Err(Refusal::RelayDenied)
        );
        assert_eq!(to(&stranger, "root"), Err(Refusal::NoDomain));
        assert_eq!(
            to(&Client::Local { uid: 0 }, "root"),
            one("me@home.example")
        );
    }

    #[test]
    fn postmaster_without_admin_is_the_alias_of_a_served_domain() {
        let files = [("domains/example.com/aliases", "postmaster: pm@gmail.com\n")];
        let found = recipient(&config(&files), &stranger(), &path("postmaster"));
        assert_eq!(
            found.map(|found| shown(&found[0])),
            Ok("pm@gmail.com".to_owned())
        );
        let found = recipient(&config(&[]), &stranger(), &path("postmaster"));
        assert_eq!(found, Err(Refusal::NoDomain));
    }

    #[test]
    fn chains_end() {
        let stranger = stranger();
        assert_eq!(
            to(&stranger, "team@example.com"),
            Ok(vec![
                "ann@gmail.com".to_owned(),
                "bob@other.example".to_owned(),
                "zoe@gmail.com".to_owned()
            ])
        );
        assert_eq!(to(&stranger, "up@example.com"), one("rest@gmail.com"));
        assert_eq!(to(&stranger, "dead@example.com"), Err(Refusal::Unknown));
    }

    #[test]
    fn an_address_that_is_written_in_two_ways_gets_one_copy() {
        let text = "a: y@Other.example, b, Y@other.example\nb: y@other.example\n";
        let config = config(&[("domains/example.com/aliases", text)]);
        let found = recipient(&config, &stranger(), &path("a@example.com"));
        assert_eq!(found.map(|targets| targets.len()), Ok(2));
    }

    #[test]
    fn a_dsn_of_another_host_to_an_account_goes_to_the_administrator_and_nothing_else_does() {
        let accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\nann+x:x:1:\n");
        let example = Config {
            accounts,
            ..example()
        };
        let null = ReversePath::Null;
        let sender = ReversePath::Mailbox(Mailbox::parse("a@far.example").expect("a mailbox"));
        let to = |sender: &ReversePath, text: &str| {
            let to = path(text);
            let found = recipient(&example, &stranger(), &to)
                .or_else(|refusal| returned(&example, sender, &to, refusal));
            found.map(|goals| goals.iter().map(shown).collect::<Vec<_>>())
        };
        let admin = || Ok(vec!["me@home.example".to_owned()]);
        for text in [
            "www-data@example.com",
            "WWW-Data+x@example.com",
            "www-data@mail.example.com",
            "uid1000@example.com",
        ] {
            assert_eq!(to(&null, text), admin(), "{text}");
            let refused = to(&sender, text);
            let is_refused = matches!(refused, Err(Refusal::Unknown | Refusal::RelayDenied));
            assert!(is_refused, "{text}: {refused:?}");
        }
        // An alias and a catch-all come first.
        assert_eq!(to(&null, "ann@example.com"), one("ann@gmail.com"));
        assert_eq!(to(&null, "www-data@second.example"), one("rest@gmail.com"));
        for (text, refusal) in [
            ("nobody-there@example.com", Refusal::Unknown),
            ("dead@example.com", Refusal::Unknown),
            ("www-data@far.example", Refusal::RelayDenied),
            ("www-data@away.example", Refusal::RelayDenied),
            ("www-data%far.example@example.com", Refusal::Routed),
            ("uid4294967296@example.com", Refusal::Unknown),
        ] {
            assert_eq!(to(&null, text), Err(refusal), "{text}");
        }
        let nobody = Config {
            admin: None,
            accounts: example.accounts.clone(),
            ..self::example()
        };
        let unknown = returned(
            &nobody,
            &null,
            &path("www-data@example.com"),
            Refusal::Unknown,
        );
        assert_eq!(unknown, Err(Refusal::Unknown));
    }

    #[test]
    fn expansion_has_its_bounds() {
        let deep: String = (0..20).map(|n| format!("d{n}: d{}\n", n + 1)).collect();
        let wide: String = (0..3)
            .map(|n| {
                let list: Vec<String> = (0..60).map(|m| format!("u{n}x{m}@gmail.com")).collect();
                format!("w{n}: {}\n", list.join(","))
            })
            .collect();
        let text = format!("{deep}d20: x@gmail.com\n{wide}wide: w0, w1, w2\n");
        let config = config(&[("domains/example.com/aliases", &text)]);
        let to = |text: &str| recipient(&config, &stranger(), &path(text));
        assert_eq!(to("d0@example.com"), Err(Refusal::Loop));
        assert!(to("d15@example.com").is_ok());
        assert_eq!(to("wide@example.com"), Err(Refusal::TooWide));
        assert_eq!(to("w1@example.com").map(|targets| targets.len()), Ok(60));
    }

    #[test]
    fn an_explanation_ends_where_the_mail_goes_for_every_client() {
        let mut config = example();
        config.accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\n");
        let clients = [
            stranger(),
            Client::Local { uid: 33 },
            Client::User {
                login: Mailbox::parse("ann@example.com").expect("a mailbox"),
            },
            Client::Network {
                address: IpAddr::from([127, 0, 0, 1]),
            },
        ];
        let locals = [
            "ann",
            "team",
            "dead",
            "up",
            "root",
            "postmaster",
            "abuse",
            "www-data",
            "nosuch",
            "a%b",
            "me",
        ];
        let domains = [
            "",
            "@example.com",
            "@second.example",
            "@away.example",
            "@mail.example.com",
            "@localhost",
            "@[127.0.0.1]",
            "@[192.0.2.1]",
            "@home.example",
        ];
        let mut taken = 0;
        for (client, local, domain) in clients.iter().flat_map(|client| {
            let of_domains = |local| domains.map(|domain| (client, local, domain));
            locals.into_iter().flat_map(of_domains).collect::<Vec<_>>()
        }) {
            let to = path(&format!("{local}{domain}"));
            let verdict = recipient(&config, client, &to);
            let explained = explain(&config, client, &to);
            let what = format!("{local}{domain} for {client:?}: {explained:?}");
            assert_eq!(explained.result, verdict, "{what}");
            let ends = |step: &Explained| matches!(step.way, Way::Sent | Way::To(_));
            let ends: Vec<&Mailbox> = (explained.steps.iter())
                .filter(|step| ends(step))
                .map(|step| &step.address)
                .collect();
            match &verdict {
                Ok(goals) => {
                    let goals: Vec<&Mailbox> = goals.iter().map(|goal| &goal.mailbox).collect();
                    assert_eq!(ends, goals, "{what}");
                    taken += 1;
                }
                Err(refusal) => {
                    let last = explained.steps.last().map(|step| &step.way);
                    let said =
                        explained.start == Err(*refusal) || last == Some(&Way::Refused(*refusal));
                    assert!(said, "{what}");
                }
            }
        }
        assert!(taken > 100, "{taken}");
    }

    #[test]
    fn a_dsn_to_an_account_without_an_alias_goes_to_the_administrator() {
        let parse = |admin: &str| {
            let mut folder = Folder::default();
            folder.insert_file("chopar.toml", admin.into());
            let aliases = "ann: ann@home.example\nroot2: x@home.example\n";
            folder.insert_file("domains/example.com/aliases", aliases.into());
            let defaults = SystemDefaults {
                hostname: "mail.example.com".into(),
                resolv_conf: String::new(),
            };
            Config::parse(&folder, &defaults).expect("a configuration")
        };
        let goals = |config: &Config, to: &str| {
            let to = Mailbox::parse(to).expect("a mailbox");
            let goals = notification(config, &to)?;
            Ok(goals.iter().map(|goal| goal.mailbox.to_string()).collect())
        };
        let with = parse("admin = \"boss@home.example\"\n");
        for (to, expected) in [
            ("ann@example.com", "ann@home.example"),
            ("app@example.com", "boss@home.example"),
            ("www-data@example.com", "boss@home.example"),
            ("www-data@mail.example.com", "boss@home.example"),
            ("root@mail.example.com", "boss@home.example"),
            ("carol@far.example", "carol@far.example"),
        ] {
            assert_eq!(goals(&with, to), Ok(vec![expected.to_owned()]), "{to}");
        }
        let without = parse("");
        assert_eq!(goals(&without, "app@example.com"), Err(Refusal::Unknown));
        let found: Result<Vec<String>, Refusal> = goals(&without, "ann@example.com");
        assert_eq!(found, Ok(vec!["ann@home.example".to_owned()]));
    }
}
