//! Periodic checks, and reloads of the configuration.

use std::sync::Arc;

use super::state::{EventLoop, PeriodicCheck};
use crate::config::DnsSource;
use crate::dns::resolv_conf;
use crate::engine::event::{ConnId, Event, Reloaded};
use crate::engine::log::{Level, Line};
use crate::policy::published::names;
use crate::shell::certificates::log::CertificateLog;
use crate::shell::certificates::log::keep_certificates;
use crate::shell::certificates::pairs;
use crate::shell::certificates::pairs::PairPlaces;
use crate::shell::certificates::roots::authorities;
use crate::shell::files::folder;
use crate::shell::files::folder::resolv_conf_changed;
use crate::shell::files::loading;
use crate::shell::files::loading::say_advice;
use crate::shell::files::published::PublishedNames;
use crate::shell::process::log;
use crate::shell::process::systemd;
use crate::shell::tls::{CertificateCause, Gone, Read};

impl EventLoop {
    /// Performs a due check.
    pub(super) fn look(&mut self, look: PeriodicCheck) {
        match look {
            PeriodicCheck::DropFolder if self.state.stop_by.is_none() => {
                let untold = self.drops.take_untold(self.now.instant);
                if !untold.is_empty() {
                    self.engine.handle(Event::SetAside(untold), self.now);
                    self.settle();
                }
                self.drops.look(&self.config);
            }
            PeriodicCheck::DropFolder => {}
            PeriodicCheck::ResolvConf => {
                let changed = resolv_conf_changed();
                if changed != self.state.resolv_conf {
                    self.state.resolv_conf = changed;
                    self.read_resolv_conf();
                }
            }
            PeriodicCheck::Certificates => {
                let found = pairs::fingerprint(self.places());
                let is_due = self.tls.is_due(&self.config.hostname, self.now.wall);
                if found != self.state.certificates || is_due {
                    self.state.certificates = found;
                    self.take_certificates(Gone::Kept);
                }
                self.say_certificates();
            }
        }
    }

    /// The folders of certificates.
    fn places(&self) -> PairPlaces<'_> {
        PairPlaces {
            config: &self.paths.folder,
            state: self.state.fixed.state_dir(),
        }
    }

    /// Reads the pairs and serves those that work.
    fn take_certificates(&mut self, gone: Gone) {
        let found = pairs::read(self.places());
        let before = self.tls.served();
        let (hostname, now) = (&self.config.hostname, self.now.wall);
        let authorities = authorities(&self.config, &self.paths.folder);
        let read = Read {
            found: &found,
            authorities: &authorities,
            names: &names(&self.config),
        };
        let taken = self.tls.take(read, hostname, gone, now);
        keep_certificates(self.state.fixed.state_dir(), &self.tls);
        let line = match taken {
            Ok(()) => Line::new(Level::Info, "certificates").with("served", self.tls.served()),
            // The certificates served so far stay.
            Err(error) => Line::new(Level::Error, "certificate").with("cause", error),
        };
        log::write(&line.with("before", before));
    }

    /// Logs problems of certificates, unless they were logged recently.
    pub(super) fn say_certificates(&mut self) {
        if self.tls.is_self_signed() && self.state.certificate_log.is_new() {
            let line = Line::new(Level::Warning, "self-signed");
            log::write(&line.with("name", &self.config.hostname));
        }
        let certificates = self.tls.left();
        self.engine
            .handle(Event::Certificates(certificates), self.now);
        let findings = self.tls.findings(&self.config.hostname, self.now.wall);
        for finding in self.state.certificate_log.due(findings, self.now.instant) {
            let line = Line::new(Level::Warning, "certificate").with("name", &finding.name);
            // The remedy has a field of its own, because it must be complete.
            let line = match &finding.cause {
                CertificateCause::Files(error) => {
                    line.with("cause", error).with("shown", finding.shown)
                }
                _ => line.with("cause", &finding),
            };
            log::write(&line.with_some("cure", finding.cure()));
        }
    }

    /// Uses the changed name servers, if the configuration names none; other options stay.
    fn read_resolv_conf(&mut self) {
        if self.config.dns.source == DnsSource::System {
            let servers = resolv_conf::parse(&folder::system_defaults().resolv_conf);
            let line = Line::new(Level::Info, "dns-servers");
            log::write(&line.with("servers", list(&servers.addresses)));
            self.engine.handle(Event::DnsServers(servers), self.now);
            self.settle();
        }
    }

    /// Reads the configuration again; one with errors has no effect.
    pub(super) fn read_configuration(&mut self, conn: Option<ConnId>) {
        systemd::reloading();
        match loading::read(&self.paths.folder) {
            Ok(config) => {
                let unchanged = self.state.fixed.differing(&config, &self.paths.folder);
                for key in &unchanged {
                    log::write(&Line::new(Level::Warning, "restart-needed").with("key", key));
                }
                // These two stay the same until a restart.
                let mut names = PublishedNames::of(&config, &self.paths.folder);
                names.runtime_dir.clone_from(&self.state.fixed.runtime_dir);
                names.publish(&self.state.fixed.state_dir);
                self.config = Arc::new(config);
                say_advice(&self.config);
                self.renewals.reconfigure(Arc::clone(&self.config));
                self.look(PeriodicCheck::DropFolder);
                self.state.certificates = pairs::fingerprint(self.places());
                self.take_certificates(Gone::Dropped);
                self.state.certificate_log = CertificateLog::default();
                self.say_certificates();
                let reloaded = Reloaded {
                    config: Arc::clone(&self.config),
                    conn,
                    unchanged,
                };
                self.engine.handle(Event::Reloaded(reloaded), self.now);
            }
            Err(errors) => self
                .engine
                .handle(Event::ReloadFailed { conn, errors }, self.now),
        }
        systemd::ready();
    }
}

fn list(addresses: &[std::net::SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}
