//! The host: its name, its limits, the clients that may relay, its listeners, its certificate.

use super::super::main_cf::items;
use super::super::networks::{Verdict, judge};
use super::super::{ImportedPair, SourcePlace};
use super::source::{MAIN, Postfix};
use crate::address::Domain;
use crate::setup::init::settings_text::quoted;

impl Postfix<'_, '_> {
    pub(super) fn host(&mut self) {
        let Some((name, place)) = self.set("myhostname") else {
            return;
        };
        match Domain::parse(&name) {
            Ok(host) if !host.is_literal() && name.contains('.') => {
                self.taken(&place, format!("myhostname {name}"));
                self.import.hostname = Some(host);
            }
            _ => self.import.leave(
                &place,
                &format!("myhostname {name}"),
                "it is not a full name: set hostname in chopar.toml to the name that the PTR of the address gives",
            ),
        }
    }

    pub(super) fn sizes(&mut self) {
        if let Some((value, place)) = self.set("message_size_limit") {
            match value.parse::<u64>() {
                Ok(bytes @ 65_536..=100_000_000_000) => {
                    let size = quoted(&format!("{bytes} B"));
                    self.import.keys.insert("max_message_size", size);
                    self.taken(&place, format!("message_size_limit {value}"));
                }
                _ => self.import.leave(
                    &place,
                    &format!("message_size_limit {value}"),
                    "chopar has a limit from 64 KiB up; its default is 50 MiB",
                ),
            }
        }
        match self.set("recipient_delimiter") {
            Some((value, place)) => {
                self.import.keys.insert("suffix_separators", quoted(&value));
                self.taken(&place, format!("recipient_delimiter {value}"));
            }
            None => {
                self.import.keys.insert("suffix_separators", quoted(""));
            }
        }
        // Postfix has no such thing.
        self.import.keys.insert("drop_characters", quoted(""));
    }

    pub(super) fn networks(&mut self) {
        let Some((value, place)) = self.set("mynetworks") else {
            self.import.networks = LOOPBACK.map(str::to_owned).to_vec();
            let text = "mynetworks is not set: programs of this machine may send without logging in, as by Postfix's default";
            return self.changed(&SourcePlace::new(MAIN, 0), text.to_owned());
        };
        let items = items(&value);
        for (item, verdict) in items.iter().zip(judge(&items)) {
            let what = format!("mynetworks {item}");
            let why = match verdict {
                Verdict::Taken(network) => {
                    if !self.import.networks.contains(&network) {
                        self.import.networks.push(network);
                    }
                    self.taken(&place, what);
                    continue;
                }
                Verdict::Left => {
                    let why = "expected a network such as 192.0.2.0/24; list it in [relay] networks";
                    self.import.leave(&place, &what, why);
                    continue;
                }
                Verdict::TooWide => {
                    "anyone could relay, because it covers a large part of the Internet; list your own networks in \
                     [relay] networks"
                        .to_owned()
                }
                Verdict::Exception => {
                    "[relay] networks has no exceptions: chopar imports no network that may contain it".to_owned()
                }
                Verdict::Excepted(exception) => {
                    format!("{exception} is an exception to it: list the parts of it that may relay in [relay] networks")
                }
            };
            self.import.to_do.push(format!("{what}: {why}"));
            self.import.leave(&place, &what, why);
        }
    }

    pub(super) fn listeners(&mut self) {
        self.interfaces();
        self.protocols();
        self.source_addresses();
    }

    fn interfaces(&mut self) {
        if let Some((value, place)) = self.set("inet_interfaces") {
            match value.as_str() {
                "all" => self.taken(&place, "inet_interfaces all".to_owned()),
                "loopback-only" | "localhost" | "127.0.0.1" => {
                    let here = ["127.0.0.1:25", "[::1]:25"].map(str::to_owned);
                    self.import.listen.insert("smtp", here.to_vec());
                    self.import.listen.insert("submission", Vec::new());
                    self.import.listen.insert("submissions", Vec::new());
                    let text = format!(
                        "inet_interfaces {value}: chopar listens on port 25 of 127.0.0.1 and ::1"
                    );
                    self.taken(&place, text);
                }
                _ => self.import.leave(
                    &place,
                    &format!("inet_interfaces {value}"),
                    "list the addresses with their ports in [listen]",
                ),
            }
        }
    }

    fn protocols(&mut self) {
        if let Some((value, place)) = self.set("inet_protocols") {
            let parts: Vec<&str> = items(&value);
            let ip = match parts.as_slice() {
                ["all"] | ["ipv4", "ipv6"] | ["ipv6", "ipv4"] => Some("any"),
                ["ipv4"] => Some("ipv4"),
                ["ipv6"] => Some("ipv6"),
                _ => None,
            };
            let what = format!("inet_protocols {value}");
            match ip {
                Some("any") => self.taken(&place, what),
                Some(ip) => {
                    self.import.delivery.insert("ip", quoted(ip));
                    let text =
                        format!("{what}: chopar delivers over {ip} only, and listens as before");
                    self.changed(&place, text);
                }
                None => self
                    .import
                    .leave(&place, &what, "expected all, ipv4 or ipv6"),
            }
        }
    }

    fn source_addresses(&mut self) {
        for (name, key) in [
            ("smtp_bind_address", "bind4"),
            ("smtp_bind_address6", "bind6"),
        ] {
            let Some((value, place)) = self.set(name) else {
                continue;
            };
            let address: Option<std::net::IpAddr> = value.trim_matches(['[', ']']).parse().ok();
            let what = format!("{name} {value}");
            match address.filter(|address| address.is_ipv4() == (key == "bind4")) {
                Some(address) => {
                    let text = quoted(&address.to_string());
                    self.import.delivery.insert(key, text);
                    self.taken(&place, what);
                }
                None => self.import.leave(&place, &what, "expected an address"),
            }
        }
    }

    pub(super) fn certificate(&mut self) {
        let chain = self.set("smtpd_tls_cert_file");
        let key = self.set("smtpd_tls_key_file");
        let (Some((chain, place)), Some((key, _))) = (chain, key) else {
            return;
        };
        if chain.contains("ssl-cert-snakeoil") {
            let text = format!(
                "smtpd_tls_cert_file {chain}: signed by the machine itself, as chopar does without one"
            );
            return self.changed(&place, text);
        }
        let name = self
            .import
            .hostname
            .as_ref()
            .map_or_else(|| "imported".to_owned(), ToString::to_string);
        match ((self.read)(&chain), (self.read)(&key)) {
            (Ok(pem), Ok(secret)) if pem.contains("BEGIN CERTIFICATE") => {
                let text = format!(
                    "smtpd_tls_cert_file {chain} is copied: have what renews it write to tls/{name} too, or link that \
                     folder to it"
                );
                let pair = ImportedPair {
                    name,
                    chain: pem,
                    key: secret,
                };
                match self.import.pair(pair) {
                    Ok(()) => self.changed(&place, text),
                    Err(why) => self.import.leave(&place, &chain, why),
                }
            }
            (Err(why), _) | (_, Err(why)) => self.import.leave(&place, &chain, why),
            _ => self.import.leave(&place, &chain, "it is not a certificate"),
        }
    }
}

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
