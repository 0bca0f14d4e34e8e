//! `chopar init`: sets up a new machine, and lists what is left to the operator.

use std::io::Write;
use std::path::Path;

use argh::FromArgs;
use zeroize::Zeroizing;

use super::completion;
use super::control::{Known, reload_if_running};
use super::dns::table;
use super::failure::Failure;
use super::folders::load;
use super::output;
use super::served::parse_domain;
use super::sysexits::{CANNOT_CREATE, CONFIGURATION, NOT_PERMITTED, UNAVAILABLE, USAGE};
use super::word::Listing;
use crate::address::{Domain, Mailbox};
use crate::config::{Config, Listen};
use crate::dns::ZoneKind;
use crate::setup::carried;
use crate::setup::dns_client::DnsClient;
use crate::setup::init::facts;
use crate::setup::init::options::{CertificateWish, Git, InitOptions};
use crate::setup::init::perform::{StepResult, perform};
use crate::setup::init::plan::{InitPlan, PlanError, plan};
use crate::setup::init::step::{InitStep, PlanLine};
use crate::setup::survey;
use crate::setup::zone::compare;
use crate::shell::files::loading;

/// Set up this machine for a domain, or with -C only one folder; everything that exists stays unchanged.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "init")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub struct Init {
    /// the domain
    #[argh(positional)]
    domain: String,
    /// the name of this host, which the PTR of its address returns (default: the name of the system if it is in the
    /// domain, otherwise mail.DOMAIN)
    #[argh(option)]
    hostname: Option<String>,
    /// the address for mail to postmaster, and for reports of chopar (default: that of --forward-to)
    #[argh(option)]
    admin: Option<String>,
    /// the destination of mail for all addresses of the domain without an alias
    #[argh(option)]
    forward_to: Option<String>,
    /// the first user, who gets a password (default: app)
    #[argh(option)]
    user: Option<String>,
    /// make the folder a git repository, without secrets; --git=private includes them
    #[argh(switch)]
    git: bool,
    /// make the folder a git repository that includes the secrets, like --git=private
    #[argh(switch)]
    git_private: bool,
    /// do not obtain a certificate
    #[argh(switch)]
    no_certificate: bool,
    /// print every step without performing any
    #[argh(switch)]
    dry_run: bool,
}

impl Init {
    /// Does it in the configuration folder.
    pub(super) fn run(
        &self,
        folder: &Path,
        listing: Listing,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let options = self.options()?;
        // A caller other than root may not even see the existing files.
        if facts::is_of_machine(folder) && !rustix::process::geteuid().is_root() {
            return Err(Failure::new(NOT_PERMITTED, PlanError::NotRoot));
        }
        let mut machine = facts::gather(folder, &options.domain).map_err(|errors| {
            let text = format!("{}; correct it, then run this again", errors.join("\n"));
            Failure::new(CONFIGURATION, text)
        })?;
        machine.missing = carried::missing(&machine, completion::all(listing));
        let plan = plan(&options, &machine).map_err(|error| {
            let code = match error {
                PlanError::NotRoot => NOT_PERMITTED,
                PlanError::NoAccountTool => UNAVAILABLE,
                PlanError::Undotted(_) | PlanError::LeadsBack(_) | PlanError::User(_) => USAGE,
            };
            Failure::new(code, error)
        })?;
        if self.dry_run {
            show(&plan, output)?;
            return output::print(output, &format!("\nThen: {}\n", plan.next));
        }
        // Relative paths would not last.
        let folder = &machine.folder;
        let Done { passwords, result } = execute(&plan.entries, folder, output);
        let records = result.and_then(|()| {
            let config = loading::read(folder)
                .map_err(|errors| Failure::new(CONFIGURATION, errors.join("\n")))?;
            let hint = login(&config);
            Ok((records(&config, &options.domain), hint))
        });
        let hint = match &records {
            Ok((records, hint)) => {
                output::print(output, records)?;
                hint.as_str()
            }
            Err(_) => "",
        };
        // They are stored nowhere, so they are printed even if a later step failed.
        for (address, password) in &passwords {
            let text = format!(
                "\nThe password of {address}, which is not shown again ({} user passwd {address} sets another):\n    {}\n{hint}",
                machine.command(),
                password.as_str()
            );
            output::print(output, &text)?;
        }
        records?;
        output::print(output, &format!("\nNext: {}\n", plan.next))
    }

    fn options(&self) -> Result<InitOptions, Failure> {
        let mailbox =
            |text: &Option<String>| text.as_ref().map(|text| parse_mailbox(text)).transpose();
        let hostname = self.hostname.as_deref().map(parse_domain).transpose()?;
        if let Some(name) = hostname
            .as_ref()
            .filter(|name| !name.as_str().contains('.'))
        {
            let text = format!("{name} is not a full name; write it with its domain");
            return Err(Failure::new(USAGE, text));
        }
        Ok(InitOptions {
            domain: parse_domain(&self.domain)?,
            hostname,
            admin: mailbox(&self.admin)?,
            forward_to: mailbox(&self.forward_to)?,
            user: self.user.clone(),
            git: match (self.git, self.git_private) {
                (_, true) => Git::Private,
                (true, false) => Git::Public,
                (false, false) => Git::None,
            },
            certificate: match self.no_certificate {
                true => CertificateWish::Unwanted,
                false => CertificateWish::Wanted,
            },
        })
    }
}

pub(super) fn parse_mailbox(text: &str) -> Result<Mailbox, Failure> {
    Mailbox::parse(text).map_err(|error| {
        let shown = crate::escape::Escaped(text.as_bytes());
        Failure::new(USAGE, format!("{shown}: {error}"))
    })
}

/// Prints a plan without performing it.
fn show(plan: &InitPlan, output: &mut dyn Write) -> Result<(), Failure> {
    plan.entries.iter().try_for_each(|entry| match entry {
        PlanLine::Do(step) => output::print(output, &format!("would  {step}\n")),
        PlanLine::Kept(text) => output::print(output, &format!("kept   {text}\n")),
        PlanLine::Left(text) => output::print(output, &format!("to do  {text}\n")),
    })
}

/// The results of a plan.
pub(super) struct Done {
    /// The passwords that were made.
    pub(super) passwords: Vec<(Mailbox, Zeroizing<String>)>,
    /// Whether all of it was done.
    pub(super) result: Result<(), Failure>,
}

/// Does the steps, up to the first that cannot be done. The process has closed its mask before
/// ([`close_mask`](crate::setup::init::perform::close_mask)).
pub(super) fn execute(entries: &[PlanLine], folder: &Path, output: &mut dyn Write) -> Done {
    let mut passwords = Vec::new();
    let result = entries.iter().try_for_each(|entry| match entry {
        PlanLine::Do(step) => {
            if let StepResult::Password(address, password) = done(step, folder)? {
                passwords.push((address, password));
            }
            output::print(output, &format!("done   {step}\n"))
        }
        PlanLine::Kept(text) => output::print(output, &format!("kept   {text}\n")),
        PlanLine::Left(text) => output::print(output, &format!("to do  {text}\n")),
    });
    Done { passwords, result }
}

fn done(step: &InitStep, folder: &Path) -> Result<StepResult, Failure> {
    if *step == InitStep::Reload {
        let config = load(folder)?;
        let known = reload_if_running(&config.runtime_dir)?;
        if known == Known::NotTold {
            output::say(known);
        }
    }
    perform(step, folder).map_err(|error| {
        let text = format!(
            "could not {step}: {error}; correct it, then run the same command again; completed steps stay"
        );
        Failure::new(CANNOT_CREATE, text)
    })
}

/// The settings for a mail program.
fn login(config: &Config) -> String {
    let port = |listen: &Listen, usual: u16| match listen {
        Listen::Addresses(list) => list.first().map_or(usual, |address| address.port()),
        Listen::Systemd => usual,
    };
    format!(
        "Programs log in with it at {}, port {} (TLS) or {} (STARTTLS).\n",
        config.hostname,
        port(&config.listen.submissions, 465),
        port(&config.listen.submission, 587),
    )
}

/// The records that a domain needs. If no name server answers, they are shown anyway.
pub(super) fn records(config: &Config, domain: &Domain) -> String {
    let mut asker = DnsClient::new(config.dns.servers.addresses.clone(), DNS_PORT);
    if let Err(cause) = asker.resolve(domain, ZoneKind::Soa) {
        // Each question would wait as long in vain.
        asker = DnsClient::silent(cause);
    }
    let addresses = survey::addresses(config, &[], &asker);
    let facts = survey::facts_of(config, domain, addresses);
    let rows = compare(&facts, &survey::look(&facts, &asker));
    let zone = asker.zone(domain);
    let zone = zone.map_or_else(|_| domain.clone(), |zone| zone.apex.clone());
    format!("\nRecords for the DNS:\n{}", table(&facts, &zone, &rows))
}

const DNS_PORT: u16 = 53;
