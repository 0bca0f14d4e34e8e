//! The words of a command line, and the command that they name.

use std::path::PathBuf;

use argh::FromArgs;

use super::{
    alias, arc, cert, check, completion, demo, dkim, dns, doctor, domain, import, init, man, queue,
    reload, report, run, send, spf, top, user,
};

/// chopar, a mail relay: SMTP in and out, DKIM, a durable queue.
#[derive(Debug, FromArgs)]
pub(super) struct Arguments {
    /// configuration folder (default: CHOPAR_CONFIG, otherwise /etc/chopar)
    #[argh(option, short = 'C', long = "config")]
    pub(super) config: Option<PathBuf>,
    /// print the version
    #[argh(switch)]
    pub(super) version: bool,
    #[argh(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
pub(super) enum Command {
    Alias(alias::AliasCommand),
    Arc(arc::Arc),
    Cert(cert::Cert),
    Check(check::Check),
    Completion(completion::Completion),
    Demo(demo::Demo),
    Dkim(dkim::Dkim),
    Dns(dns::Dns),
    Doctor(doctor::Doctor),
    Domain(domain::DomainCommand),
    Import(import::Import),
    Init(init::Init),
    Man(man::Man),
    Queue(queue::Queue),
    Reload(reload::Reload),
    Report(report::Report),
    Run(run::Run),
    Send(send::Send),
    Spf(spf::Spf),
    Top(top::Top),
    User(user::User),
}
