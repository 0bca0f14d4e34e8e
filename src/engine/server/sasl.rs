//! AUTH: from the credentials to a verdict, without revealing anything else.
//!
//! A password costs a worker half a second, so only a few derivations run at a time and the rest wait their turn
//! ([`super::derivations`]). Recently verified passwords are remembered under a keyed hash. For an unknown login the
//! password is derived against a decoy, so that the reply has the same bytes and takes the same time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::derivations::{Check, Rank, Waiter};
use super::login::{Exchange, Meant, User};
use super::session::{Server, ServerSession};
use crate::address::Mailbox;
use crate::clock::Instant;
use crate::engine::effects::{Effects, JobOwner};
use crate::engine::event::{ConnId, Work, WorkResult};
use crate::engine::log::{Level, Line};
use crate::login::credential::Credential;
use crate::login::sasl::{self, LoginClaim, SaslError, SaslMechanism};
use crate::login::scram::{self, ClientFirst, ScramChallenge, ScramError};
use crate::policy::shares::Resource;
use crate::smtp::reply::Reply;
use crate::smtp::server::AuthStep;

impl Server {
    /// A client begins to authenticate.
    pub(super) fn begin_auth(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        if self.is_locked_out(inbound, fx) {
            return inbound
                .session
                .on_auth(AuthStep::End(Reply::AUTH_THROTTLED), out);
        }
        let (exchange, challenge) = match SaslMechanism::parse(mechanism) {
            Some(SaslMechanism::Plain) => (Exchange::Plain, ""),
            Some(SaslMechanism::Login) => (Exchange::LoginName, "Username:"),
            Some(SaslMechanism::ScramSha256) => (Exchange::ScramFirst, ""),
            None => {
                return inbound
                    .session
                    .on_auth(AuthStep::Refusal(Reply::AUTH_MECHANISM), out);
            }
        };
        inbound.exchange = Some(exchange);
        match initial {
            Some(response) => self.continue_auth(conn, inbound, response, out, fx),
            None => inbound
                .session
                .on_auth(AuthStep::Challenge(challenge.into()), out),
        }
    }

    /// Whether the address of a session has failed so often that its input is ignored, even the login if no user has
    /// logged in from there before.
    fn is_locked_out(&mut self, inbound: &ServerSession, fx: &mut Effects) -> bool {
        let peers = &self.logins.peers;
        let is_known = |address| peers.is_known(address, fx.now.instant);
        !inbound.address().is_some_and(is_known) && self.is_locked_for(inbound, None, fx)
    }

    /// The same, once the login is known.
    fn is_locked_for(
        &mut self,
        inbound: &ServerSession,
        login: Option<&Mailbox>,
        fx: &mut Effects,
    ) -> bool {
        let peers = &self.logins.peers;
        let address = inbound.address();
        let is_locked =
            address.is_some_and(|address| peers.is_locked_for(address, login, fx.now.instant));
        if is_locked {
            let line = Line::new(Level::Warning, "auth").with("result", "throttled");
            fx.log_refusal(line.with_some("peer", address));
        }
        is_locked
    }

    /// The client has responded.
    pub(super) fn continue_auth(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        response: Vec<u8>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let response = zeroize::Zeroizing::new(response);
        // Exchanges that began before the address was locked still count as guesses.
        let is_judged = matches!(inbound.exchange, Some(Exchange::ScramDone(_)));
        if !is_judged && self.is_locked_out(inbound, fx) {
            inbound.exchange = None;
            return inbound
                .session
                .on_auth(AuthStep::End(Reply::AUTH_THROTTLED), out);
        }
        let heard = match inbound.exchange.take() {
            Some(Exchange::Plain) => on_plain(&response),
            Some(Exchange::LoginName) => on_login_name(inbound, &response),
            Some(Exchange::LoginPassword(login)) => on_login_password(login, &response),
            Some(Exchange::ScramFirst) => self.on_scram_first(inbound, &response, fx),
            Some(Exchange::ScramFinal(challenge, user)) => {
                self.on_scram_final(inbound, *challenge, user, &response, fx)
            }
            Some(Exchange::ScramDone(User { login, credential })) => {
                match self.is_in_force(&login, &credential, fx) {
                    true => Exchanged::Step(self.let_in(inbound, login, fx)),
                    false => Exchanged::Failed(login.as_str().to_owned()),
                }
            }
            Some(Exchange::Checking | Exchange::Delayed { .. }) | None => MALFORMED,
        };
        match heard {
            Exchanged::Step(step) => inbound.session.on_auth(step, out),
            Exchanged::Claim(claim) => self.check(conn, inbound, claim, out, fx),
            Exchanged::Failed(shown) => self.failed(conn, inbound, &shown, out, fx),
        }
    }

    /// The first message of SCRAM, with the login.
    fn on_scram_first(
        &mut self,
        inbound: &mut ServerSession,
        response: &[u8],
        fx: &mut Effects,
    ) -> Exchanged {
        let first = match ClientFirst::parse(response) {
            Ok(first) => first,
            Err(ScramError::AuthorizationId) => {
                return Exchanged::Failed(scram::first_login(response).unwrap_or_default());
            }
            Err(_) => return MALFORMED,
        };
        let (credential, login) = self.credential_of(first.login(), fx);
        if self.is_locked_for(inbound, login.as_ref(), fx) {
            return Exchanged::Step(AuthStep::End(Reply::AUTH_THROTTLED));
        }
        let (challenge, message) = first.challenge((*credential).clone(), &mut *fx.entropy);
        let user = login.map(|login| User { login, credential });
        inbound.exchange = Some(Exchange::ScramFinal(Box::new(challenge), user));
        Exchanged::Step(AuthStep::Challenge(message.into_bytes()))
    }

    /// The last message of SCRAM: the proof.
    fn on_scram_final(
        &mut self,
        inbound: &mut ServerSession,
        challenge: ScramChallenge,
        user: Option<User>,
        response: &[u8],
        fx: &mut Effects,
    ) -> Exchanged {
        let shown = challenge.login().to_owned();
        let login = user.as_ref().map(|user| user.login.clone());
        if self.is_locked_for(inbound, login.as_ref(), fx) {
            return Exchanged::Step(AuthStep::End(Reply::AUTH_THROTTLED));
        }
        let user = user.filter(|user| self.is_in_force(&user.login, &user.credential, fx));
        match (challenge.on_client_final(response), user) {
            (Ok(message), Some(user)) => {
                inbound.exchange = Some(Exchange::ScramDone(user));
                Exchanged::Step(AuthStep::Challenge(message.into_bytes()))
            }
            _ => {
                self.note_failure_as(inbound.address(), login.as_ref(), fx);
                Exchanged::Failed(shown)
            }
        }
    }

    /// Whether a user has this credential now: it may have been changed, or the user removed, since an exchange began.
    fn is_in_force(&self, login: &Mailbox, credential: &Credential, fx: &Effects) -> bool {
        fx.config
            .user(login)
            .is_some_and(|user| *user.credential == *credential)
    }

    /// The credential of a login, or a decoy. An unknown login gets one salt in all its spellings, as an existing one
    /// does.
    fn credential_of(&self, login: &str, fx: &Effects) -> (Arc<Credential>, Option<Mailbox>) {
        let decoy = |key: &str| Arc::new(Credential::decoy(&self.logins.decoy_secret, key));
        let Some((mailbox, meant)) = self.mailbox_of(login, fx) else {
            return (decoy(login), None); // no user can have this login, in any spelling
        };
        match fx.config.user(&mailbox) {
            Some(user) => {
                let login = (meant == Meant::Surely).then_some(mailbox);
                (Arc::clone(&user.credential), login)
            }
            None => (
                decoy(&format!("{}@{}", mailbox.local_key(), mailbox.domain())),
                None,
            ),
        }
    }

    /// The mailbox that a login names: itself, or a bare name at the one served domain that has such a user. If none or
    /// several have, it is at a fixed arbitrary domain: the name gets the salt of that, and never succeeds.
    fn mailbox_of(&self, login: &str, fx: &Effects) -> Option<(Mailbox, Meant)> {
        if let Ok(mailbox) = Mailbox::parse(login) {
            return Some((mailbox, Meant::Surely));
        }
        let domains = fx.config.domains.keys();
        let mailboxes: Vec<Mailbox> = domains
            .filter_map(|domain| Mailbox::new(login, domain).ok())
            .collect();
        let mut users = mailboxes
            .iter()
            .filter(|mailbox| fx.config.user(mailbox).is_some());
        if let (Some(only), None) = (users.next(), users.next()) {
            return Some((only.clone(), Meant::Surely));
        }
        let key = mailboxes.first()?.local_key();
        let chance = Credential::decoy(&self.logins.decoy_secret, &key);
        let chance = chance.salt().iter().take(size_of::<u64>());
        let chance = chance.fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let at = chance.checked_rem(mailboxes.len() as u64)?;
        let mailbox = mailboxes.into_iter().nth(usize::try_from(at).ok()?)?;
        Some((mailbox, Meant::Perhaps))
    }

    /// The number of users that a bare name could mean.
    fn users_of(&self, name: &str, fx: &Effects) -> usize {
        let domains = fx.config.domains.keys();
        let mailboxes = domains.filter_map(|domain| Mailbox::new(name, domain).ok());
        mailboxes
            .filter(|mailbox| fx.config.user(mailbox).is_some())
            .count()
    }

    fn check(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        claim: LoginClaim,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let LoginClaim {
            login: shown,
            password,
        } = claim;
        let (credential, login) = self.credential_of(&shown, fx);
        if self.is_locked_for(inbound, login.as_ref(), fx) {
            let step = AuthStep::End(Reply::AUTH_THROTTLED);
            return inbound.session.on_auth(step, out);
        }
        if let Some(mailbox) = &login
            && self
                .logins
                .memory
                .knows(mailbox, &credential, &password, fx.now.instant)
        {
            let step = self.let_in(inbound, mailbox.clone(), fx);
            return inbound.session.on_auth(step, out);
        }
        let address = inbound.address();
        let waiter = Waiter { conn, address };
        let rank = self.rank_of(address, fx);
        let tag = (self.logins.memory).claim_tag(&shown, &credential, &password);
        if !self.logins.derivations.join(&tag, waiter, rank) {
            let holder = inbound.holder();
            let Ok(share) = fx.shares.of(Resource::Derivations).take(holder, 1) else {
                return inbound
                    .session
                    .on_auth(AuthStep::Refusal(Reply::AUTH_BUSY), out);
            };
            self.logins.derivations.put(Check {
                waiters: vec![waiter],
                login,
                shown,
                credential,
                password,
                tag,
                rank,
                share,
            });
        }
        inbound.exchange = Some(Exchange::Checking);
        // The next result informs the sessions that were locked out while they waited: this session is still being
        // worked on.
        let locked_out = self.derive_next(fx);
        self.logins.locked_out.extend(locked_out);
    }

    /// Starts derivations while workers are free; returns the sessions whose address was locked while they waited.
    fn derive_next(&mut self, fx: &mut Effects) -> Vec<ConnId> {
        let mut locked_out = Vec::new();
        while let Some(mut check) = self.logins.derivations.next() {
            // Guesses from before the address was locked still count as guesses.
            let peers = &self.logins.peers;
            let is_locked = |waiter: &Waiter| {
                let address = waiter.address;
                let login = check.login.as_ref();
                address.is_some_and(|address| peers.is_locked_for(address, login, fx.now.instant))
            };
            let (locked, left): (Vec<_>, Vec<_>) = check.waiters.into_iter().partition(is_locked);
            locked_out.extend(locked.into_iter().map(|waiter| waiter.conn));
            check.waiters = left;
            if check.waiters.is_empty() {
                continue;
            }
            let work = Work::VerifyPassword {
                credential: Arc::clone(&check.credential),
                password: check.password.clone(),
            };
            let number = self.logins.derivations.begin(check);
            fx.work(JobOwner::Password { number }, work);
        }
        locked_out
    }

    /// The rank of an attempt from this address: guesses cannot keep a user out.
    fn rank_of(&self, address: Option<IpAddr>, fx: &Effects) -> Rank {
        let Some(address) = address else {
            return Rank::Known;
        };
        let peers = &self.logins.peers;
        let has_failed = peers.failures(address, fx.now.instant) > 0;
        match (peers.is_known(address, fx.now.instant), has_failed) {
            (true, false) => Rank::Known,
            (true, true) => Rank::Mistaken,
            (false, false) => Rank::Unknown,
            (false, true) => Rank::Failed,
        }
    }

    /// A worker has derived.
    pub(in crate::engine) fn password_checked(
        &mut self,
        number: u64,
        result: WorkResult,
        fx: &mut Effects,
    ) {
        let Some(check) = self.logins.derivations.end(number) else {
            return;
        };
        self.judge_password(check, result, fx);
        let mut locked_out = std::mem::take(&mut self.logins.locked_out);
        locked_out.extend(self.derive_next(fx));
        for conn in locked_out {
            if let Some(inbound) = self.sessions.take(conn) {
                self.finish_auth(conn, inbound, AuthStep::End(Reply::AUTH_THROTTLED), fx);
            }
        }
    }

    /// Counts the result of a derivation, even if its session is gone; otherwise the session gets it.
    fn judge_password(&mut self, check: Check, result: WorkResult, fx: &mut Effects) {
        let WorkResult::Password(right) = result else {
            return;
        };
        let Check {
            waiters,
            login,
            shown,
            credential,
            password,
            ..
        } = check;
        let claimed = login.clone();
        let login = login.filter(|login| right && self.is_in_force(login, &credential, fx));
        let mut is_remembered = false;
        for Waiter { conn, address } in waiters {
            match (&login, self.sessions.take(conn)) {
                (Some(login), Some(mut inbound)) => {
                    if !std::mem::replace(&mut is_remembered, true) {
                        let memory = &mut self.logins.memory;
                        memory.remember(login, &credential, &password, fx.now.instant);
                    }
                    let step = self.let_in(&mut inbound, login.clone(), fx);
                    self.finish_auth(conn, inbound, step, fx);
                }
                // No session is left to log in, and a password that is not asked for is not remembered.
                (Some(login), None) => self.log_auth(address, "abandoned", login.as_str(), fx),
                (None, inbound) => {
                    self.note_failure_as(address, claimed.as_ref(), fx);
                    let until = self.note_failure(address, &shown, fx);
                    if let Some(mut inbound) = inbound {
                        inbound.exchange = Some(Exchange::failed(until));
                        self.put_back(conn, inbound, fx);
                    }
                }
            }
        }
    }

    /// A proof was wrong. The answer waits as long as a password's would.
    fn failed(
        &mut self,
        _conn: ConnId,
        inbound: &mut ServerSession,
        shown: &str,
        _out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let until = self.note_failure(inbound.address(), shown, fx);
        inbound.exchange = Some(Exchange::failed(until));
    }

    fn note_failure_as(
        &mut self,
        address: Option<IpAddr>,
        login: Option<&Mailbox>,
        fx: &mut Effects,
    ) {
        if let Some((address, login)) = address.zip(login) {
            self.logins.peers.failed_as(address, login, fx.now.instant);
        }
    }

    fn note_failure(&mut self, address: Option<IpAddr>, shown: &str, fx: &mut Effects) -> Instant {
        self.log_auth(address, "failed", shown, fx);
        let failures = match address {
            Some(address) => self.logins.peers.failed(address, fx.now.instant),
            None => 1,
        };
        let doubled = FAILURE_DELAY.saturating_mul(
            1_u32
                .checked_shl(failures.saturating_sub(1))
                .unwrap_or(u32::MAX),
        );
        fx.now.instant.after(doubled.min(FAILURE_DELAY_MAX))
    }

    pub(super) fn log_auth(
        &mut self,
        address: Option<IpAddr>,
        result: &str,
        login: &str,
        fx: &mut Effects,
    ) {
        let level = if result == "ok" {
            Level::Info
        } else {
            Level::Warning
        };
        let is_several = level == Level::Warning && self.users_of(login, fx) > 1;
        let cause = is_several
            .then_some("users of several domains have this name; log in with the whole address");
        let line = Line::new(level, "auth")
            .with("result", result)
            .with("user", login)
            .with_some("cause", cause)
            .with_some("peer", address);
        match level {
            Level::Warning => fx.log_refusal(line),
            _ => fx.log(line),
        }
    }
}

/// How long the answer to the first failure of an address is held back; it doubles with each that follows.
const FAILURE_DELAY: Duration = Duration::from_millis(500);

/// The longest that an answer is held back.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(8);

/// The result of a response.
enum Exchanged {
    /// The exchange continues, or is over.
    Step(AuthStep),
    /// A login and a password to be verified.
    Claim(LoginClaim),
    /// Invalid credentials, with the login.
    Failed(String),
}

const MALFORMED: Exchanged = Exchanged::Step(AuthStep::Failure(Reply::AUTH_MALFORMED));

fn on_plain(response: &[u8]) -> Exchanged {
    match sasl::plain(response) {
        Ok(claim) => Exchanged::Claim(claim),
        Err(SaslError::AuthorizationId) => {
            Exchanged::Failed(sasl::plain_login(response).unwrap_or_default())
        }
        Err(_) => MALFORMED,
    }
}

fn on_login_name(inbound: &mut ServerSession, response: &[u8]) -> Exchanged {
    let Ok(login) = sasl::login_name(response) else {
        return MALFORMED;
    };
    inbound.exchange = Some(Exchange::LoginPassword(login));
    Exchanged::Step(AuthStep::Challenge("Password:".into()))
}

fn on_login_password(login: String, response: &[u8]) -> Exchanged {
    match sasl::login_password(response) {
        Ok(password) => Exchanged::Claim(LoginClaim { login, password }),
        Err(_) => MALFORMED,
    }
}
