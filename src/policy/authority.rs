//! The authority on which a message leaves this host: the only way from a transaction to an envelope.
//!
//! | authority | where its mail may go | condition |
//! | --- | --- | --- |
//! | a user, a host of `relay.networks`, a process of this machine | anywhere | the authority still holds when the message is complete |
//! | an address of a served domain, or a role of this host | where the configuration says | the verdict of a finished examination |
//! | a return address that we made (SRS) | to the sender that it was made for | the same, a use left, and the null reverse-path or a sender that SPF or DKIM vouches for |
//!
//! A [`Grant`] is the authority for one forward-path. The grants of the accepted recipients are the [`Grants`] of a
//! transaction. Only [`Case::release`] makes a [`Released`], and without one no message of a client is queued.
//!
//! **Verdicts of an examination.** Mail for a served domain is judged by the strictest DMARC rules among the domains of
//! its accepted recipients and those to which their aliases lead; if none of them is served, by the default rules. Mail
//! that is forwarded for a client without authority of its own must meet further conditions, under any rules. It needs
//! an author that can be determined. Neither author nor sender may be in a domain of ours without evidence that the
//! domain sent the message, because from here it would pass SPF for that domain anywhere. The same holds for an author
//! who fails DMARC and would pass by SPF for a domain of ours in the same organization: the domain above a served one
//! or above this host's name, or one beside it.
//!
//! **DSNs** go to a sender that SPF or DKIM vouches for, as it requests them. A sender that its domain disowns gets
//! none. Any other sender gets at most one DSN per message, about failure, whatever it requested: otherwise a message
//! to a hundred invalid addresses would be a hundred messages to a victim. Such a DSN returns only the header, whatever
//! was requested.
//!
//! **Unknown** is never yes: 451 if the cause is ours or the DNS's, 550 if it is the message's.
//!
//! Invariant: each recipient of a [`Released`] has a grant of its transaction, and each grant follows the table.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::authenticity::{Findings, Judgement};
use super::relay::{ExpandedRecipient, RelayClient, home};
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::srs::{Maker, Returned};
use crate::auth::{dkim, dmarc, spf};
use crate::config::{Config, Dmarc, Quarantine};
use crate::destination::Destination;
use crate::envelope::{DsnReturn, Notify, Recipient};
use crate::limits::RETURN_RECIPIENTS_MAX;
use crate::smtp::command::ForwardPath;

/// The listener that accepted the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArrivalPort {
    /// A listener that clients connect to directly.
    Direct,
    /// A listener for proxies, which send the client's address.
    Proxy,
}

/// The authority for sending a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Authority {
    /// That of a user who has logged in.
    User,
    /// That of a host of `relay.networks`.
    Network,
    /// That of a process of this machine.
    Local,
    /// That of the configuration, which names the destination of this address.
    Served,
    /// That of a return address of ours.
    Return {
        /// Identifies the return address in tables.
        id: u64,
    },
}

/// The authority for one forward-path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    authority: Authority,
    /// The served domain of the forward-path, whose rules apply; `None` for the name of this host.
    served: Option<Domain>,
    /// Other served domains that the aliases pass through. Their rules apply too, so that no client avoids them through
    /// a domain with weaker rules.
    through: Vec<Domain>,
    way: Way,
}

/// Whether mail under a grant is forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// It is delivered here, or a client with authority of its own sends it.
    Stays,
    /// It is forwarded to another host because an address of ours leads there.
    Leaves,
}

/// The grants of a transaction's accepted recipients.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Each grant with the number of recipients that were accepted after it, in the order of the recipients.
    runs: Vec<(Grant, usize)>,
}

/// Why a message or a recipient is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthorityRefusal {
    /// A recipient has no grant, or the client has lost its authority.
    Withdrawn,
    /// The examination of the message has not ended.
    Unexamined,
    /// The DNS answers do not suffice now.
    Open,
    /// The author cannot be determined.
    Ambiguous,
    /// The DMARC policy of the author's domain demands it.
    Dmarc(Option<Domain>),
    /// The message claims to be from this served domain, without evidence that the domain sent it.
    OwnDomainSpoofed(Domain),
    /// Neither SPF nor DKIM vouches for the sender of mail to a return address.
    Unvouched,
    /// A return address of the first release accepts DSNs only.
    NullSenderOnly,
    /// A transaction may have only one return address.
    ManyReturns,
}

impl fmt::Display for AuthorityRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Withdrawn => "the client may not send there any more",
            Self::Unexamined => "the message was not examined",
            Self::Open => "the DNS does not say enough now",
            Self::Ambiguous => "the author of the message cannot be determined",
            Self::Dmarc(_) => "the policy of the author's domain refuses it",
            Self::OwnDomainSpoofed(_) => {
                "neither SPF nor DKIM shows that this served domain sent it"
            }
            Self::Unvouched => "neither SPF nor DKIM vouches for the sender",
            Self::NullSenderOnly => "the return address takes notifications only",
            Self::ManyReturns => "there is a return address among the recipients already",
        })
    }
}

impl std::error::Error for AuthorityRefusal {}

impl RelayClient {
    /// The authority of the host with this address that came by `door` and has not logged in. A proxy itself is never
    /// trusted, whatever address it connects from.
    pub fn host(config: &Config, door: ArrivalPort, address: IpAddr) -> Self {
        let address = address.to_canonical();
        let is_proxy = door == ArrivalPort::Proxy && config.trust.proxies.contains(address);
        if config.trust.relay.contains(address) && !is_proxy && !address.is_unspecified() {
            Self::Network { address }
        } else {
            Self::Anonymous { address }
        }
    }

    /// The client's own authority to send.
    const fn authority(&self) -> Option<Authority> {
        match self {
            Self::User { .. } => Some(Authority::User),
            Self::Network { .. } => Some(Authority::Network),
            Self::Local { .. } => Some(Authority::Local),
            Self::Anonymous { .. } => None,
        }
    }
}

impl Grant {
    /// The grant for mail of a client to `to`, which leads to `expanded`.
    pub fn new(
        config: &Config,
        client: &RelayClient,
        to: &ForwardPath,
        expanded: &[ExpandedRecipient],
    ) -> Self {
        let own = client.authority();
        Self::with(config, own.unwrap_or(Authority::Served), to, expanded)
    }

    /// The grant for mail to a return address of ours, by client and sender.
    pub fn of_return(
        config: &Config,
        client: &RelayClient,
        sender: &ReversePath,
        to: &ForwardPath,
        returned: &Returned,
        expanded: &[ExpandedRecipient],
    ) -> Result<Self, AuthorityRefusal> {
        if let Some(own) = client.authority() {
            return Ok(Self::with(config, own, to, expanded));
        }
        match returned.maker {
            // Any client could have had such addresses made, for a sender of its choice.
            Maker::Old if !sender.is_null() => Err(AuthorityRefusal::NullSenderOnly),
            Maker::Old | Maker::Present => {
                let id = returned.id;
                Ok(Self::with(config, Authority::Return { id }, to, expanded))
            }
        }
    }

    fn with(
        config: &Config,
        authority: Authority,
        to: &ForwardPath,
        expanded: &[ExpandedRecipient],
    ) -> Self {
        let named = match to {
            ForwardPath::Mailbox(mailbox) => Some(mailbox.domain()),
            _ => None,
        };
        let served = named.filter(|domain| config.receiving(domain).is_some());
        // A client with authority of its own sends to other hosts; it does not forward.
        let forwards = !authority.is_own() || served.is_some();
        let way = match forwards && expanded.iter().any(|target| leaves(config, target)) {
            true => Way::Leaves,
            false => Way::Stays,
        };
        let ends = expanded.iter().filter(|_| !authority.is_own());
        let ends = ends.map(|target| target.forwarder.as_ref().unwrap_or(target.mailbox.domain()));
        let ends = ends.filter(|end| Some(*end) != served && config.receiving(end).is_some());
        let through: BTreeSet<&Domain> = ends.collect();
        Self {
            authority,
            served: served.cloned(),
            through: through.into_iter().cloned().collect(),
            way,
        }
    }

    /// The id of the return address, if the grant is for one.
    pub const fn returned(&self) -> Option<u64> {
        match self.authority {
            Authority::Return { id } => Some(id),
            _ => None,
        }
    }
}

impl Authority {
    /// Whether the authority is the client's own.
    const fn is_own(self) -> bool {
        matches!(self, Self::User | Self::Network | Self::Local)
    }
}

impl Grants {
    /// Whether this grant can be added.
    pub fn may_add(&self, grant: &Grant) -> Result<(), AuthorityRefusal> {
        let others = || self.returned().filter(|id| Some(*id) != grant.returned());
        if grant.returned().is_some() && others().count() >= RETURN_RECIPIENTS_MAX {
            return Err(AuthorityRefusal::ManyReturns);
        }
        Ok(())
    }

    /// Adds the grant of an accepted recipient; the transaction now has `recipients` recipients.
    pub fn add(&mut self, grant: Grant, recipients: usize) {
        let behind = recipients.max(self.covered());
        let is_known = self.iter().any(|known| *known == grant);
        // A grant that adds no recipients is kept once, because its rules apply.
        if is_known && behind == self.covered() {
            return;
        }
        match self.runs.last_mut() {
            Some((last, end)) if *last == grant => *end = behind,
            _ => self.runs.push((grant, behind)),
        }
    }

    /// Whether a grant lets mail be forwarded to another host.
    pub fn leaves(&self) -> bool {
        self.iter().any(|grant| grant.way == Way::Leaves)
    }

    /// The return addresses among them.
    pub fn returned(&self) -> impl Iterator<Item = u64> {
        self.iter().filter_map(Grant::returned)
    }

    /// The served domains that may seal a forwarded message, in the order of the recipients; for the name of this host,
    /// the domain that represents it.
    pub fn sealers<'a>(&'a self, config: &'a Config) -> Vec<&'a Domain> {
        let mut sealers = Vec::new();
        for grant in self.iter() {
            match &grant.served {
                Some(domain) => sealers.push(domain),
                None => {
                    let served = config.domains.keys();
                    let served = served.filter(|domain| config.receiving(domain).is_some());
                    sealers.extend(home(config).into_iter().chain(served));
                }
            }
        }
        sealers
    }

    /// The strictest DMARC settings of the recipients' domains.
    pub fn rules(&self, config: &Config) -> (Dmarc, Quarantine) {
        let of = |domain: Option<&Domain>| {
            let served = domain.and_then(|domain| config.receiving(domain));
            served.map_or_else(Default::default, |served| (served.dmarc, served.quarantine))
        };
        let rules = self.iter().flat_map(|grant| {
            let through = grant.through.iter().map(|domain| of(Some(domain)));
            through.chain([of(grant.served.as_ref())])
        });
        let mildest = (Dmarc::Off, Quarantine::Mark);
        rules.fold(mildest, |(mode, quarantine), rules| {
            (mode.max(rules.0), quarantine.max(rules.1))
        })
    }

    /// Whether DMARC is checked for a message of these authors: if the settings require it, or if the message would
    /// leave in the name of a domain that may belong to our organization.
    pub fn look_up(&self, config: &Config, authors: &[Domain]) -> Dmarc {
        let near = || authors.iter().any(|author| is_near(config, author));
        match self.rules(config).0 {
            Dmarc::Off if self.leaves() && near() => Dmarc::Report,
            mode => mode,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.runs.iter().map(|(grant, _)| grant)
    }

    /// The number of recipients with a grant: always the first ones.
    fn covered(&self) -> usize {
        self.runs.last().map_or(0, |(_, behind)| *behind)
    }
}

/// A complete message, with everything that decides on its release.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The configuration.
    pub config: &'a Config,
    pub client: &'a RelayClient,
    /// The grants of its recipients.
    pub grants: &'a Grants,
    /// The findings of its examination, if that has ended.
    pub findings: Option<&'a Findings>,
}

/// A message that may be queued, with its reverse-path and its recipients.
#[derive(Debug)]
pub struct Released {
    reverse_path: ReversePath,
    recipients: Vec<Recipient>,
    mark: Mark,
    dsn_limit: DsnLimit,
}

/// How much of the message a DSN may return.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DsnLimit {
    /// As much as the client requested.
    Asked,
    /// Its header only: the DSN may go to a victim who did not send the message, and must not carry the message there.
    Header,
}

/// Whether a message is marked as suspicious because the policy of its author's domain is `quarantine`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    Clean,
    /// It is marked.
    Suspect,
}

impl Released {
    /// The reverse-path for forwarding, rewritten if SRS is required.
    pub const fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The released recipients, without those that were refused.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// How much of the message a DSN returns, if the client requested `asked`.
    pub const fn dsn_return(&self, asked: Option<DsnReturn>) -> Option<DsnReturn> {
        match self.dsn_limit {
            DsnLimit::Asked => asked,
            DsnLimit::Header => Some(DsnReturn::Headers),
        }
    }

    /// Whether the message is marked as suspicious instead of being refused.
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// The reverse-path and the recipients, for the envelope.
    pub fn into_parts(self) -> (ReversePath, Vec<Recipient>) {
        (self.reverse_path, self.recipients)
    }
}

impl Case<'_> {
    /// Releases the message to its recipients, or returns the reason of a refusal.
    pub fn release(
        &self,
        reverse_path: ReversePath,
        mut recipients: Vec<Recipient>,
    ) -> Result<Released, AuthorityRefusal> {
        let sender = reverse_path.mailbox().map(Mailbox::domain);
        let mark = self.permit(sender, recipients.len())?;
        let mut dsn_limit = DsnLimit::Asked;
        // A sender whose address was forged gets no failure DSN; a sender whose address may be forged gets at most one.
        if let (Some(sender), Some(findings)) = (sender, self.judged())
            && !findings.answers_for(sender)
        {
            dsn_limit = DsnLimit::Header;
            let forged = findings.sender_is_forged(sender);
            for recipient in &mut recipients {
                recipient.notify = match recipient.notify.wants_failure() && !forged {
                    true => Notify::Once,
                    false => Notify::Never,
                };
            }
        }
        Ok(Released {
            reverse_path,
            recipients,
            mark,
            dsn_limit,
        })
    }

    /// The findings, if the client's own authority does not make them irrelevant.
    fn judged(&self) -> Option<&Findings> {
        let is_judged = self.grants.iter().any(|grant| !grant.authority.is_own());
        self.findings.filter(|_| is_judged)
    }

    fn permit(&self, sender: Option<&Domain>, recipients: usize) -> Result<Mark, AuthorityRefusal> {
        if self.grants.covered() < recipients || self.grants.runs.is_empty() {
            return Err(AuthorityRefusal::Withdrawn);
        }
        let own = self.client.authority();
        let mut grants = self.grants.iter().map(|grant| grant.authority);
        if grants.any(|authority| authority.is_own() && own != Some(authority)) {
            return Err(AuthorityRefusal::Withdrawn);
        }
        if self.grants.iter().all(|grant| grant.authority.is_own()) {
            return Ok(Mark::Clean);
        }
        let findings = self.findings.ok_or(AuthorityRefusal::Unexamined)?;
        // A question that was not asked because this host lacked room says nothing about the message.
        if findings.starved {
            return Err(AuthorityRefusal::Open);
        }
        let mark = self.judge(findings)?;
        if self.grants.leaves() {
            self.may_leave(findings, sender)?;
        }
        if let (Some(_), Some(sender)) = (self.grants.returned().next(), sender)
            && !findings.answers_for(sender)
        {
            return Err(undecided(findings).unwrap_or(AuthorityRefusal::Unvouched));
        }
        Ok(mark)
    }

    /// The decision under the rules of the recipients' domains.
    fn judge(&self, findings: &Findings) -> Result<Mark, AuthorityRefusal> {
        let (mode, quarantine) = self.grants.rules(self.config);
        match findings.judge(mode, quarantine, &self.config.trust.sealers) {
            Judgement::Take => Ok(Mark::Clean),
            Judgement::Mark => Ok(Mark::Suspect),
            Judgement::Refuse => {
                let failed = findings.failed(&self.config.trust.sealers);
                let author = failed.map(|(author, _)| author.clone());
                Err(AuthorityRefusal::Dmarc(author))
            }
            Judgement::Ambiguous => Err(AuthorityRefusal::Ambiguous),
            Judgement::Defer => Err(AuthorityRefusal::Open),
        }
    }

    /// Whether the message may be forwarded from here to another host, under any settings.
    fn may_leave(
        &self,
        findings: &Findings,
        sender: Option<&Domain>,
    ) -> Result<(), AuthorityRefusal> {
        if findings.ambiguous {
            return Err(AuthorityRefusal::Ambiguous);
        }
        let trusted = &self.config.trust.sealers;
        let enforces = self.grants.rules(self.config).0 == Dmarc::Enforce;
        for (author, verdict) in &findings.dmarc {
            if findings.is_vouched_for(author, trusted) {
                continue;
            }
            match verdict.outcome {
                dmarc::DmarcResult::TempError
                    if (enforces || is_near(self.config, author))
                        && !has_shown(findings, author) =>
                {
                    return Err(AuthorityRefusal::Open);
                }
                dmarc::DmarcResult::Fail
                    if ours(self.config).any(|one| verdict.may_pass_by(one)) =>
                {
                    let spoofing = || AuthorityRefusal::OwnDomainSpoofed(author.clone());
                    return Err(undecided(findings).unwrap_or_else(spoofing));
                }
                _ => {}
            }
        }
        let is_ours = |domain: &Domain| is_ours(self.config, domain);
        match findings.spoofing(sender, is_ours, trusted) {
            Some(domain) => {
                let spoofing = || AuthorityRefusal::OwnDomainSpoofed(domain.clone());
                Err(undecided(findings).unwrap_or_else(spoofing))
            }
            None => Ok(()),
        }
    }
}

/// Whether SPF or a signature passed for this very domain, which satisfies any DMARC policy.
fn has_shown(findings: &Findings, author: &Domain) -> bool {
    let sender = findings
        .spf
        .as_ref()
        .filter(|_| findings.spf_is(spf::SpfResult::Pass));
    let signers = findings.dkim.iter().filter(|signature| {
        signature.partial.is_none() && signature.verdict() == dkim::verdict::DkimResult::Pass
    });
    let signers = signers.filter_map(|signature| signature.domain.as_ref());
    let sender = sender.and_then(|spf| spf.domain.as_ref());
    signers.chain(sender).any(|domain| domain == author)
}

/// The temporary refusal, if a later attempt may succeed.
fn undecided(findings: &Findings) -> Option<AuthorityRefusal> {
    findings.is_open().then_some(AuthorityRefusal::Open)
}

/// Whether a domain is served here, or a subdomain of one that is.
fn is_ours(config: &Config, domain: &Domain) -> bool {
    let mut served = config.domains.keys();
    *domain == config.hostname || served.any(|ours| domain.is_under(ours))
}

/// The domains for which SPF passes from here: the served ones by their return addresses, our name by the null
/// reverse-path.
fn ours(config: &Config) -> impl Iterator<Item = &Domain> {
    config.domains.keys().chain([&config.hostname])
}

/// Whether a domain may belong to the same organization as one of ours: their last two labels are equal.
fn is_near(config: &Config, domain: &Domain) -> bool {
    let end = last_labels(domain);
    ours(config).any(|one| last_labels(one) == end)
}

fn last_labels(domain: &Domain) -> &str {
    let text = domain.as_str();
    let dot = text.rmatch_indices('.').nth(1).map(|(at, _)| at);
    dot.and_then(|at| text.get(at.saturating_add(1)..))
        .unwrap_or(text)
}

/// Whether mail is or may be forwarded to another host: a message for `reports:` that is not a report is sent to
/// `admin`.
fn leaves(config: &Config, target: &ExpandedRecipient) -> bool {
    match &target.destination {
        Some(destination) => {
            matches!(destination, Destination::Hosts(_) | Destination::Reports)
        }
        None => config.receiving(target.mailbox.domain()).is_none(),
    }
}

#[cfg(test)]
mod tests;
