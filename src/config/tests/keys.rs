//! Each key that chopar.toml can have changes the configuration: the list is that of the parser, and a key without a
//! row here fails.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::*;
use crate::limits::{GREYLIST_DELAY_DEFAULT, GREYLIST_LIFETIME_DEFAULT, GREYLIST_WINDOW_DEFAULT};

/// A key of a section, a text that sets it to something else than its default, and where that is found.
struct Row {
    section: &'static str,
    key: &'static str,
    text: &'static str,
    read: fn(&Config) -> String,
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn served(config: &Config) -> &ServedDomain {
    &config.domains[&domain("example.com")]
}

macro_rules! rows {
    ($($section:literal { $($key:literal $text:literal |$config:ident| $value:expr;)* })*) => {
        &[$($(Row { section: $section, key: $key, text: $text, read: |$config| shown(&$value) },)*)*]
    };
}

const ROWS: &[Row] = rows! {
    "" {
        "hostname" "hostname = 'relay.example.net'" |config| config.hostname;
        "state_dir" "state_dir = '/s'" |config| config.state_dir;
        "runtime_dir" "runtime_dir = '/r'" |config| config.runtime_dir;
        "admin" "admin = 'you@example.com'" |config| config.admin;
        "user" "user = 'mail'" |config| config.user;
        "max_message_size" "max_message_size = '10 MiB'" |config| config.limits.message_bytes;
        "max_memory" "max_memory = '32 MiB'" |config| config.limits.memory_bytes;
        "suffix_separators" "suffix_separators = '-'" |config| config.names.separators;
        "drop_characters" "drop_characters = '_'" |config| config.names.dropped;
        "long_lines" "long_lines = 'refuse'" |config| config.content.long_lines;
        "bcc" "bcc = 'keep'" |config| config.content.bcc;
    }
    "listen" {
        "smtp" "smtp = []" |config| config.listen.smtp;
        "proxy" "proxy = ['127.0.0.1:26']\n[proxy]\nnetworks = ['127.0.0.1']" |config| config.listen.proxy;
        "submission" "submission = []" |config| config.listen.submission;
        "submissions" "submissions = 'systemd'" |config| config.listen.submissions;
        "status" "status = []" |config| config.listen.status;
        "https" "https = ['127.0.0.1:8443']" |config| config.listen.https;
    }
    "relay" {
        "networks" "networks = ['192.0.2.0/24']" |config| config.trust.relay;
    }
    "proxy" {
        "networks" "networks = ['192.0.2.7']\n[listen]\nproxy = ['127.0.0.1:26']" |config| config.trust.proxies;
    }
    "dns" {
        "servers" "servers = ['192.0.2.54']" |config| config.dns.servers.addresses;
    }
    "delivery" {
        "port" "port = 2526" |config| config.delivery.port;
        "ip" "ip = 'ipv4'" |config| config.delivery.ip;
        "loopback" "loopback = true" |config| config.delivery.loopback;
        "bind4" "bind4 = '192.0.2.1'" |config| config.delivery.bind4;
        "bind6" "bind6 = '2001:db8::1'" |config| config.delivery.bind6;
        "give_up_after" "give_up_after = '2d'" |config| config.delivery.give_up_after;
        "warn_after" "warn_after = '90m'" |config| config.delivery.warn_after;
        "sessions_per_hop" "sessions_per_hop = 3" |config| config.delivery.sessions_per_hop;
        "sessions" "sessions = 9" |config| config.delivery.sessions;
    }
    "limits" {
        "sessions" "sessions = 100" |config| config.limits.sessions;
        "sessions_per_address" "sessions_per_address = 5" |config| config.limits.sessions_per_address;
        "messages_per_user_hour" "messages_per_user_hour = 7" |config| config.limits.messages_per_user_hour;
        "messages_per_uid_hour" "messages_per_uid_hour = 7" |config| config.limits.messages_per_uid_hour;
        "recipients" "recipients = 150" |config| config.limits.recipients;
    }
    "abuse" {
        "hello" "hello = false" |config| config.abuse.hello;
        "ptr" "ptr = false" |config| config.abuse.ptr;
        "tarpit" "tarpit = false" |config| config.abuse.tarpit;
        "dnsbl" "dnsbl = [{ zone = 'bl.example.net' }]" |config| config.abuse.lists.zones;
        "dnsbl_threshold" "dnsbl_threshold = 7" |config| config.abuse.lists.threshold;
        "greylist" "greylist = true" |config| config.abuse.greylist;
        "greylist_delay" "greylist = true\ngreylist_delay = '7m'" |config| config.abuse.greylist.map_or(GREYLIST_DELAY_DEFAULT, |grey| grey.delay);
        "greylist_window" "greylist = true\ngreylist_window = '7h'" |config| config.abuse.greylist.map_or(GREYLIST_WINDOW_DEFAULT, |grey| grey.window);
        "greylist_lifetime" "greylist = true\ngreylist_lifetime = '7d'" |config| config.abuse.greylist.map_or(GREYLIST_LIFETIME_DEFAULT, |grey| grey.lifetime);
        "connections_per_minute" "connections_per_minute = 7" |config| config.abuse.connections_per_minute;
        "messages_per_minute" "messages_per_minute = 7" |config| config.abuse.messages_per_minute;
        "recipients_per_minute" "recipients_per_minute = 7" |config| config.abuse.recipients_per_minute;
        "unknown_recipients" "unknown_recipients = 7" |config| config.abuse.unknown_recipients;
    }
    "acme" {
        "enabled" "enabled = true" |config| config.acme.renewal;
        "names" "names = ['smtp.example.com']" |config| config.acme.names(&config.hostname);
        "challenge" "challenge = 'tls-alpn-01'" |config| config.acme.challenge;
        "directory" "directory = 'https://ca.example/dir'" |config| config.acme.directory;
        "email" "email = 'you@example.com'" |config| config.acme.email;
        "eab_kid" "eab_kid = 'k'\neab_key_file = 'secrets/eab'" |config| config.acme.binding.as_ref().map(|one| one.kid.clone());
        "eab_key_file" "eab_kid = 'k'\neab_key_file = 'secrets/eab'" |config| config.acme.binding.as_ref().map(|one| one.key_file.clone());
        "ca_file" "ca_file = 'secrets/ca.pem'" |config| config.acme.ca_file;
        "http_port" "http_port = 5002" |config| config.acme.http_port;
        "tls_port" "tls_port = 5001" |config| config.acme.tls_port;
        "zone_port" "zone_port = 5353" |config| config.acme.zone_port;
    }
    "arc" {
        "trusted" "trusted = ['sealer.example']" |config| config.trust.sealers;
    }
    "domain.'example.com'" {
        "receive" "receive = false" |config| served(config).receive;
        "dmarc" "dmarc = 'report'" |config| served(config).dmarc;
        "quarantine" "quarantine = 'refuse'" |config| served(config).quarantine;
        "mta_sts" "mta_sts = 'testing'" |config| served(config).mta_sts;
        "incoming" "incoming = 'imaps://imap.example.net'" |config| served(config).incoming;
    }
    "[route]" {
        "domain" "domain = '*'\nvia = ['smtp://a.example']" |config| config.routes.first().map(|route| route.pattern.clone());
        "via" "domain = '*'\nvia = ['smtp://a.example']" |config| config.routes.first().map(|route| route.via.len());
        "auth" "domain = '*'\nvia = ['smtps://a.example']\nauth = 'secrets/relay'" |config| {
            config.routes.first().and_then(|route| route.login.as_ref()).map(|login| login.user.clone())
        };
    }
};

/// A folder with this chopar.toml and what its keys may name.
fn taken(text: &str) -> Result<Config, Vec<ConfigError>> {
    let files = folder(&[
        ("chopar.toml", text),
        ("secrets/relay", "name\npassword\n"),
        ("secrets/eab", "c2VjcmV0\n"),
        (
            "secrets/ca.pem",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ),
        ("domains/example.com/aliases", ""),
    ]);
    Config::parse(&files, &defaults())
}

fn text_of(row: &Row) -> String {
    match row.section {
        "" => row.text.to_owned(),
        section => format!("[{section}]\n{}", row.text),
    }
}

/// The keys that the parser knows, by what it says about one that it does not know.
fn known(section: &str) -> BTreeSet<String> {
    let text = match section {
        "" => "no-such-key = 1".to_owned(),
        "[route]" => "[[route]]\ndomain = '*'\nvia = []\nno-such-key = 1".to_owned(),
        section => format!("[{section}]\nno-such-key = 1"),
    };
    let Err(errors) = taken(&text) else {
        panic!("{section}: taken");
    };
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    let (_, list) = text
        .split_once("unknown key `no-such-key`, expected ")
        .unwrap_or_else(|| panic!("{section}: {text}"));
    list.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_that_is_known_is_read() {
    let sections: BTreeSet<&str> = ROWS.iter().map(|row| row.section).collect();
    let name = |section: &str| {
        let name = section.trim_matches(['[', ']']).split('.').next();
        name.unwrap_or_default().to_owned()
    };
    let named: BTreeSet<String> = sections.iter().copied().map(name).collect();
    for section in sections {
        let rows = ROWS.iter().filter(|row| row.section == section);
        let mut keys: BTreeSet<String> = rows.map(|row| row.key.to_owned()).collect();
        if section.is_empty() {
            keys.extend(named.iter().filter(|name| !name.is_empty()).cloned());
        }
        assert_eq!(keys, known(section), "rows of [{section}]");
    }
}

#[test]
fn every_key_changes_the_configuration() {
    let default = taken("").unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut wrong = Vec::new();
    for row in ROWS {
        let name = format!("{} {}", row.section, row.key);
        match taken(&text_of(row)) {
            Ok(config) if (row.read)(&config) != (row.read)(&default) => {}
            Ok(_) => wrong.push(format!("{name} changes nothing")),
            Err(errors) => {
                wrong.extend(errors.iter().map(|error| format!("{name}: {error}")));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
