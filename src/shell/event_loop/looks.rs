//! What is looked at from time to time, and the configuration when it has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::EventLoop;
use crate::config::{Config, DnsSource, Listen, Listeners};
use crate::dns::resolv_conf;
use crate::engine::event::{ConnId, Event, Reloaded};
use crate::engine::log::{Level, Line};
use crate::limits::{CERTIFICATES_INTERVAL, DROP_FOLDER_INTERVAL, RESOLV_CONF_INTERVAL};
use crate::policy::published::names;
use crate::shell::certificate_files::Places;
use crate::shell::certificate_log::CertificateLog;
use crate::shell::published::Names;
use crate::shell::roots::authorities;
use crate::shell::sandbox::Rules;
use crate::shell::tls::{Cause, Gone, Read};
use crate::shell::{certificate_files, daemon, folder, loading, log, systemd};

/// What is looked at from time to time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    ResolvConf,
    DropFolder,
    Certificates,
}

impl Look {
    /// How often.
    pub(super) const fn interval(self) -> Duration {
        match self {
            Self::ResolvConf => RESOLV_CONF_INTERVAL,
            Self::DropFolder => DROP_FOLDER_INTERVAL,
            Self::Certificates => CERTIFICATES_INTERVAL,
        }
    }
}

impl EventLoop {
    /// Does what is due.
    pub(super) fn look(&mut self, look: Look) {
        match look {
            Look::DropFolder if self.state.stop_by.is_none() => {
                let untold = self.drops.take_untold(self.now.instant);
                if !untold.is_empty() {
                    self.engine.handle(Event::SetAside(untold), self.now);
                    self.settle();
                }
                self.drops.look(&self.config);
            }
            Look::DropFolder => {}
            Look::ResolvConf => {
                let changed = daemon::resolv_conf_changed();
                if changed != self.state.resolv_conf {
                    self.state.resolv_conf = changed;
                    self.read_resolv_conf();
                }
            }
            Look::Certificates => {
                let found = certificate_files::fingerprint(self.places());
                let is_due = self.tls.is_due(&self.config.hostname, self.now.wall);
                if found != self.state.certificates || is_due {
                    self.state.certificates = found;
                    self.take_certificates(Gone::Kept);
                }
                self.say_certificates();
            }
        }
    }

    /// Where certificates lie.
    fn places(&self) -> Places<'_> {
        Places {
            config: &self.folder,
            state: self.state.fixed.state_dir(),
        }
    }

    /// Reads the pairs and serves what works of them.
    fn take_certificates(&mut self, gone: Gone) {
        let found = certificate_files::read(self.places());
        let before = self.tls.served();
        let (hostname, now) = (&self.config.hostname, self.now.wall);
        let authorities = authorities(&self.config, &self.folder);
        let read = Read {
            found: &found,
            authorities: &authorities,
            names: &names(&self.config),
        };
        let taken = self.tls.take(read, hostname, gone, now);
        daemon::keep_certificates(self.state.fixed.state_dir(), &self.tls);
        let line = match taken {
            Ok(()) => Line::new(Level::Info, "certificates").with("served", self.tls.served()),
            // What was served before still is.
            Err(error) => Line::new(Level::Error, "certificate").with("cause", error),
        };
        log::write(&line.with("before", before));
    }

    /// Logs what is wrong with certificates, if it has not been said lately.
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
            // With the cure in a place of its own: it is what has to be whole.
            let line = match &finding.cause {
                Cause::Files(error) => line.with("cause", error).with("shown", finding.shown),
                _ => line.with("cause", &finding),
            };
            log::write(&line.with_some("cure", finding.cure()));
        }
    }

    /// Other servers, where the configuration names none; what else it says stays.
    fn read_resolv_conf(&mut self) {
        if self.config.dns_source == DnsSource::System {
            let servers = resolv_conf::parse(&folder::system_defaults().resolv_conf);
            let line = Line::new(Level::Info, "dns-servers");
            log::write(&line.with("servers", list(&servers.addresses)));
            self.engine.handle(Event::DnsServers(servers), self.now);
            self.settle();
        }
    }

    /// Reads the configuration again; one with errors changes nothing.
    pub(super) fn reload(&mut self, conn: Option<ConnId>) {
        systemd::reloading();
        match loading::read(&self.folder) {
            Ok(config) => {
                let unchanged = self.state.fixed.differing(&config, &self.folder);
                for key in &unchanged {
                    log::write(&Line::new(Level::Warning, "restart-needed").with("key", key));
                }
                // These two stay where they were until a restart.
                let mut names = Names::of(&config, &self.folder);
                names.runtime_dir.clone_from(&self.state.fixed.runtime_dir);
                names.publish(&self.state.fixed.state_dir);
                self.config = Arc::new(config);
                daemon::say_advice(&self.config);
                self.renewals.reconfigure(Arc::clone(&self.config));
                self.look(Look::DropFolder);
                self.state.certificates = certificate_files::fingerprint(self.places());
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

/// What stays as it was at the start, whatever a later configuration says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fixed {
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    user: String,
    listen: Listeners,
    /// What may be read; all of it where the kernel enforces nothing.
    rules: Option<Rules>,
}

impl Fixed {
    /// Where what must last is.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Of the configuration of the start.
    pub(super) fn new(config: &Config, rules: Option<Rules>) -> Self {
        Self {
            state_dir: config.state_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
            user: config.user.clone(),
            listen: config.listen.clone(),
            rules,
        }
    }

    /// The keys that this configuration has otherwise: they need a restart.
    fn differing(&self, config: &Config, folder: &Path) -> Vec<&'static str> {
        let is_closed = |file: Option<&PathBuf>| {
            let opens = |rules: &Rules| file.is_none_or(|file| rules.opens(&folder.join(file)));
            self.rules.as_ref().is_some_and(|rules| !opens(rules))
        };
        let acme = &config.acme;
        let secret = acme.binding.as_ref().map(|binding| &binding.key_file);
        let listen = |listeners: fn(&Listeners) -> &Listen| {
            listeners(&self.listen) != listeners(&config.listen)
        };
        [
            ("state_dir", self.state_dir != config.state_dir),
            ("runtime_dir", self.runtime_dir != config.runtime_dir),
            ("user", self.user != config.user),
            ("listen.smtp", listen(|listen| &listen.smtp)),
            ("listen.proxy", listen(|listen| &listen.proxy)),
            ("listen.submission", listen(|listen| &listen.submission)),
            ("listen.submissions", listen(|listen| &listen.submissions)),
            ("acme.ca_file", is_closed(acme.ca_file.as_ref())),
            ("acme.eab_key_file", is_closed(secret)),
            ("listen.status", listen(|listen| &listen.status)),
            ("listen.https", listen(|listen| &listen.https)),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

fn list(addresses: &[std::net::SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folder, SystemDefaults};

    fn config(text: &str) -> Config {
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.into());
        let defaults = SystemDefaults {
            hostname: "mail.example.com".into(),
            resolv_conf: String::new(),
        };
        Config::parse(&folder, &defaults).expect("a configuration")
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else() {
        let fixed = Fixed::new(&config(""), None);
        assert!(
            fixed
                .differing(&config("max_memory = \"64 MiB\""), Path::new("/"))
                .is_empty()
        );
        let other = config(
            "state_dir = \"/a\"\nruntime_dir = \"/b\"\nuser = \"c\"\n\
             [listen]\nsmtp = []\nsubmissions = \"systemd\"\n",
        );
        let keys = [
            "state_dir",
            "runtime_dir",
            "user",
            "listen.smtp",
            "listen.submissions",
        ];
        assert_eq!(fixed.differing(&other, Path::new("/")), keys);
    }

    #[test]
    fn files_that_are_closed_since_the_start_need_a_restart() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(temporary.path()).expect("a path");
        let folders = ["etc", "other"].map(|name| root.join(name));
        for folder in &folders {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("ca.pem"), "").expect("a file");
        }
        let [etc, _] = &folders;
        let start = config("");
        let rules = Rules::new(&start, etc, &root.join("spool"));
        let fixed = Fixed::new(&start, Some(rules));
        let with = |key: &str, path: &str| {
            let more = match key {
                "eab_key_file" => "eab_kid = \"1\"\n",
                _ => "",
            };
            config(&format!("[acme]\n{more}{key} = \"{path}\"\n"))
        };
        let other = root.join("other/ca.pem").display().to_string();
        for (key, name) in [
            ("ca_file", "acme.ca_file"),
            ("eab_key_file", "acme.eab_key_file"),
        ] {
            assert_eq!(fixed.differing(&with(key, &other), etc), [name]);
            assert!(fixed.differing(&with(key, "ca.pem"), etc).is_empty());
        }
    }
}
