//! Turns facts about the machine into a list of steps, each with a sentence.
//!
//! Pure: [`super::facts`] gathers, [`super::perform`] acts. A step is planned only if something is missing, so the plan
//! for a complete machine is empty.

use std::fmt;

use super::account::{GROUP_LINE, PASSWD_LINE, account};
use super::certificate;
use super::ignore_file::{ignored, leaves_secrets_out, missing_lines};
use super::links::links;
use super::machine::{ExistingDomain, InitCaller, InstallPlace, LOCAL_BINARY, Machine, SystemTool};
use super::man_pages::man_pages;
use super::options::{Git, InitOptions};
use super::ports::{PORTS, high_port};
use super::service::service;
use super::settings_text::{Own, Settings, with_admin};
use super::signing_keys::keys;
use super::step::{DomainStep, Entries, FolderStep, InitStep, MachineStep, PlanLine};
use super::unused_options::unused_options;
use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::setup::shared_name::shared_name;

/// The steps, and the command that follows them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InitPlan {
    /// In this order.
    pub entries: Vec<PlanLine>,
    /// The one command that comes next.
    pub next: String,
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanError {
    /// Only root can set up the machine.
    NotRoot,
    /// The account cannot be made.
    NoAccountTool,
    /// The domain has no dot.
    Undotted(Domain),
    /// Mail for this address would lead to the domain itself, where it is not delivered.
    LeadsBack(Mailbox),
    /// A local part that is not valid for a user.
    User(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => out.write_str(
                "only root can set up the machine: run it with sudo; chopar -C DIR init sets up one folder without root",
            ),
            Self::NoAccountTool => write!(
                out,
                "there is no account chopar, and no program that could make it (systemd-sysusers, useradd, adduser); add \
                 these lines, then run this again: to /etc/passwd {PASSWD_LINE}, to /etc/group {GROUP_LINE}"
            ),
            Self::Undotted(domain) => write!(
                out,
                "{domain} has no dot, so no other server can send mail to it; write the domain as it is registered, such as \
                 example.com"
            ),
            Self::LeadsBack(mailbox) => write!(
                out,
                "mail for {mailbox} comes to this host itself: name an address on another host with --forward-to"
            ),
            Self::User(name) => write!(
                out,
                "{} cannot be the name of a user: --user takes the part before the @, such as app",
                crate::escape::Escaped(name.as_bytes())
            ),
        }
    }
}

impl std::error::Error for PlanError {}

/// Plans the steps of a set-up. Pure: it reads `machine` and touches nothing.
pub fn plan(options: &InitOptions, machine: &Machine) -> Result<InitPlan, PlanError> {
    if machine.place == InstallPlace::Machine && machine.caller == InitCaller::Other {
        return Err(PlanError::NotRoot);
    }
    if !options.domain.as_str().contains('.') {
        return Err(PlanError::Undotted(options.domain.clone()));
    }
    let mut planner = Planner {
        options,
        machine,
        entries: Entries::default(),
    };
    if machine.place == InstallPlace::Machine {
        planner.binary();
        let account = account(machine).ok_or(PlanError::NoAccountTool)?;
        planner.entries.0.extend(account.0);
    }
    planner.folder();
    planner.settings()?;
    planner.domain()?;
    planner.user()?;
    planner.git();
    planner.certificate();
    if machine.place == InstallPlace::Machine {
        let links = links(machine, &options.domain);
        planner.entries.0.extend(links.0);
        if !machine.missing.is_empty() {
            planner.entries.step(InitStep::Machine(MachineStep::Beside(
                machine.missing.clone(),
            )));
        }
        planner.entries.0.extend(man_pages(machine).0);
    }
    let unused_options = unused_options(options, machine);
    planner.entries.0.extend(unused_options.0);
    let next = planner.next();
    let next = service(machine, next, &mut planner.entries);
    Ok(InitPlan {
        entries: planner.entries.0,
        next,
    })
}

/// The steps for an additional served domain: keys, and the target of its mail.
pub fn plan_domain(domain: &Domain, forward_to: Option<&Mailbox>, now: Timestamp) -> Vec<PlanLine> {
    let mut entries = vec![PlanLine::Do(InitStep::Domain(DomainStep::Serve(
        domain.clone(),
    )))];
    entries.extend(keys(domain, &ExistingDomain::default(), now));
    entries.push(PlanLine::Do(InitStep::Domain(DomainStep::Reports(
        domain.clone(),
    ))));
    entries.extend(forward_to.map(|target| {
        PlanLine::Do(InitStep::Domain(DomainStep::Alias {
            domain: domain.clone(),
            name: "*".to_owned(),
            target: target.clone(),
        }))
    }));
    entries
}

struct Planner<'a> {
    options: &'a InitOptions,
    machine: &'a Machine,
    entries: Entries,
}

impl Planner<'_> {
    fn binary(&mut self) {
        let binary = &self.machine.binary;
        match &self.machine.installed {
            Some(installed) if installed == binary => self.entries.kept(format!("{}", binary.display())),
            Some(installed) => self.entries.kept(format!(
                "{0}, although this is another copy of the program; install -m 755 {1} {0} would put it there",
                installed.display(),
                binary.display()
            )),
            None => self.entries.step(InitStep::Machine(MachineStep::Copy {
                from: binary.clone(),
                to: LOCAL_BINARY.into(),
            })),
        }
    }

    fn folder(&mut self) {
        let folder = self.machine.folder.clone();
        let existing = &self.machine.existing;
        if !existing.folder {
            self.entries
                .step(InitStep::Folder(FolderStep::Make(folder)));
        } else if existing.is_services && self.machine.place == InstallPlace::Machine {
            self.entries
                .step(InitStep::Folder(FolderStep::TakeBack(folder)));
        } else {
            self.entries
                .kept(format!("the folder {}", folder.display()));
        }
    }

    /// The hostname: the given one, the machine's if it is in the domain, otherwise mail.DOMAIN.
    fn hostname(&self) -> Domain {
        let domain = &self.options.domain;
        let own = Domain::parse(&self.machine.hostname).ok();
        let own = own.filter(|name| name == domain || name.is_under(domain));
        let usual = || Domain::parse(&format!("mail.{domain}")).ok();
        let said = self.options.hostname.clone();
        said.or(own)
            .or_else(usual)
            .unwrap_or_else(|| domain.clone())
    }

    fn settings(&mut self) -> Result<(), PlanError> {
        let existing = &self.machine.existing;
        let wanted = self
            .options
            .admin
            .as_ref()
            .or(self.options.forward_to.as_ref());
        self.leads_elsewhere()?;
        let Some(text) = &existing.settings else {
            let own = match self.machine.place {
                InstallPlace::Machine => None,
                InstallPlace::Folder => Some(Own {
                    folder: self.machine.folder.clone(),
                    user: (self.machine.caller == InitCaller::Root && !self.machine.has_account)
                        .then(|| NOBODY.to_owned()),
                    ports: PORTS.map(|port| high_port(port, &self.machine.taken_ports)),
                }),
            };
            let settings = Settings {
                domain: self.options.domain.clone(),
                hostname: self.hostname(),
                admin: wanted.cloned(),
                own,
                certificates: certificate::is_automatic(
                    self.options.certificate,
                    self.machine.place,
                ),
            };
            self.entries.step(InitStep::Folder(FolderStep::Settings {
                text: settings.text(),
                hostname: settings.hostname,
                admin: settings.admin,
                certificates: settings.certificates,
            }));
            return Ok(());
        };
        self.entries.kept("chopar.toml");
        if let (None, Some(admin)) = (&existing.admin, wanted) {
            self.entries.step(InitStep::Folder(FolderStep::Admin {
                admin: admin.clone(),
                text: with_admin(text, admin),
            }));
        }
        Ok(())
    }

    /// Refuses an address of the domain itself, unless an alias forwards it elsewhere.
    fn leads_elsewhere(&self) -> Result<(), PlanError> {
        let domain = &self.options.domain;
        if let Some(target) = &self.options.forward_to
            && target.domain() == domain
        {
            return Err(PlanError::LeadsBack(target.clone()));
        }
        if let Some(admin) = &self.options.admin
            && admin.domain() == domain
            && self.options.forward_to.is_none()
            && self.existing_domain().catch_all.is_none()
            && !self.existing_domain().aliases.contains(&admin.local_key())
        {
            return Err(PlanError::LeadsBack(admin.clone()));
        }
        Ok(())
    }

    fn existing_domain(&self) -> ExistingDomain {
        self.machine.existing.domain.clone().unwrap_or_default()
    }

    /// The recipient of system mail.
    fn admin(&self) -> Option<&Mailbox> {
        let existing = self.machine.existing.admin.as_ref();
        existing
            .or(self.options.admin.as_ref())
            .or(self.options.forward_to.as_ref())
    }

    fn domain(&mut self) -> Result<(), PlanError> {
        let domain = self.options.domain.clone();
        let existing = self.existing_domain();
        match &self.machine.existing.domain {
            Some(_) => self.entries.kept(format!("{domain}, which is served")),
            None => self
                .entries
                .step(InitStep::Domain(DomainStep::Serve(domain.clone()))),
        }
        self.entries
            .0
            .extend(keys(&domain, &existing, self.machine.now));
        // If a domain was served before, its records may name another address, which stays.
        if self.machine.existing.domain.is_none() {
            self.entries
                .step(InitStep::Domain(DomainStep::Reports(domain.clone())));
        }
        match (&existing.catch_all, &self.options.forward_to) {
            (Some(there), _) => self.entries.kept(format!(
                "all addresses of {domain} without an alias lead to {there}"
            )),
            (None, Some(target)) => self.entries.step(InitStep::Domain(DomainStep::Alias {
                domain: domain.clone(),
                name: "*".to_owned(),
                target: target.clone(),
            })),
            (None, None) => {}
        }
        let is_led = existing.catch_all.is_some() || existing.aliases.contains("postmaster");
        match (self.admin(), &self.machine.existing.admin) {
            (Some(_), Some(admin)) => self.entries.kept(format!(
                "mail for postmaster@{domain} and abuse@{domain} goes to admin, {admin}"
            )),
            (Some(_), None) => {}
            (None, _) if is_led => {}
            (None, _) => self.entries.left(format!(
                "the address for mail to postmaster@{domain} and abuse@{domain}: set it with --forward-to YOU@ELSEWHERE, which \
                 also gets the mail for every other address of {domain}, or with --admin YOU@ELSEWHERE"
            )),
        }
        Ok(())
    }

    fn user(&mut self) -> Result<(), PlanError> {
        let domain = &self.options.domain;
        let existing = self.existing_domain();
        let name = match (&self.options.user, existing.users.as_slice()) {
            (None, [first, ..]) => {
                self.entries.kept(format!(
                    "the user {first}@{domain} and the password; {} user passwd {first}@{domain} sets another",
                    self.machine.command()
                ));
                return Ok(());
            }
            (Some(name), _) => name.clone(),
            (None, []) => FIRST_USER.to_owned(),
        };
        let refused = || PlanError::User(name.clone());
        let address = Mailbox::new(&name, domain).map_err(|_| refused())?;
        if name.contains([':', '#', '"']) {
            return Err(refused());
        }
        let key = address.local_key();
        if existing
            .users
            .iter()
            .any(|user| crate::address::local_key(user) == key)
        {
            self.entries.kept(format!(
                "the user {address} and the password; {} user passwd {address} sets another",
                self.machine.command()
            ));
            return Ok(());
        }
        self.entries.step(InitStep::Domain(DomainStep::User {
            address: address.clone(),
        }));
        let others = &self.machine.existing.other_users;
        if let Some(text) = shared_name(&address, others) {
            self.entries.left(text);
        }
        // Mail returned to the user must reach a person.
        let is_led = existing.catch_all.is_some()
            || self.options.forward_to.is_some()
            || existing.aliases.contains(&key);
        let admin = self.admin().filter(|admin| admin.domain() != domain);
        if let (false, Some(target)) = (is_led, admin) {
            self.entries.step(InitStep::Domain(DomainStep::Alias {
                domain: domain.clone(),
                name,
                target: target.clone(),
            }));
        }
        Ok(())
    }

    fn git(&mut self) {
        let existing = &self.machine.existing;
        if self.options.git == Git::None {
            return;
        }
        if existing.repository {
            let holds = match leaves_secrets_out(&existing.ignore) {
                true => "the git repository, which leaves secrets out",
                false => "the git repository",
            };
            let folder = self.machine.folder.display();
            self.entries.kept(format!(
                "{holds}; git -C {folder} status says what is not committed"
            ));
            return;
        }
        if !self.machine.has(SystemTool::Git) {
            self.entries
                .left("a repository of the folder: install git, then run this again");
            return;
        }
        let Ok(committer) = Mailbox::new("postmaster", &self.options.domain) else {
            return;
        };
        let ignore = missing_lines(&existing.ignore, &ignored(self.options.git));
        self.entries.step(InitStep::Folder(FolderStep::Repository {
            ignore,
            is_public: self.options.git != Git::Private,
            committer,
        }));
    }

    fn certificate(&mut self) {
        let existing = &self.machine.existing;
        let hostname = existing.hostname.clone();
        let hostname = hostname.unwrap_or_else(|| self.hostname());
        let entry = certificate::entry(
            self.options.certificate,
            self.machine.place,
            existing,
            &hostname,
            &self.machine.command(),
        );
        self.entries.0.extend(entry);
    }

    /// The command that comes after the plan.
    fn next(&self) -> String {
        let (command, domain) = (self.machine.command(), &self.options.domain);
        let must_say = self.machine.place == InstallPlace::Machine && self.admin().is_none();
        match must_say {
            true => format!("{command} init {domain} --forward-to YOU@ELSEWHERE"),
            false => format!("{command} doctor {domain}"),
        }
    }
}

/// The owner if the account chopar does not exist: nobody, by number.
const NOBODY: &str = "65534:65534";
const FIRST_USER: &str = "app";

#[cfg(test)]
mod tests;
