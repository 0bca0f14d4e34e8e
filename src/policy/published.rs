//! What a domain publishes over HTTPS: the MTA-STS policy (RFC 8461), which says that its mail exchanger supports TLS,
//! and the server settings for mail programs that configure themselves (Thunderbird's autoconfig, Outlook's
//! autodiscover).
//!
//! Nothing is published that the configuration does not ask for: no policy without `mta_sts`, no settings without
//! `incoming`.

use crate::address::Domain;
use crate::config::{Config, Incoming, IncomingProtocol, Listen, MtaSts, Receive};

/// Path of the policy (RFC 8461 section 3.2).
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";
/// Path at which Outlook requests settings, by POST.
pub const AUTODISCOVER_PATH: &str = "/autodiscover/autodiscover.xml";

/// The policy of a domain, as it is served.
pub fn policy(config: &Config, domain: &Domain) -> Option<String> {
    let served = config.domains.get(domain)?;
    let mode = served.mta_sts.mode()?;
    if served.receive == Receive::Elsewhere {
        return None;
    }
    let max_age = match served.mta_sts {
        MtaSts::Enforce => ENFORCED_SECONDS,
        MtaSts::Off | MtaSts::None | MtaSts::Testing => TESTED_SECONDS,
    };
    let host = &config.hostname;
    Some(format!(
        "version: STSv1\r\nmode: {mode}\r\nmx: {host}\r\nmax_age: {max_age}\r\n"
    ))
}

/// The TXT record that announces the policy (RFC 8461 section 3.1); its id changes with the policy.
pub fn policy_record(policy: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, policy.as_bytes());
    let id: String = digest
        .as_ref()
        .iter()
        .take(ID_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("v=STSv1; id={id}")
}

/// The names under which something is served over HTTPS, besides the domains themselves.
pub fn names(config: &Config) -> Vec<Domain> {
    if matches!(&config.listen.https, Listen::Addresses(addresses) if addresses.is_empty()) {
        return Vec::new();
    }
    let mut names = Vec::new();
    for (domain, served) in &config.domains {
        let labels: &[(&str, bool)] = &[
            (MTA_STS, policy(config, domain).is_some()),
            (AUTOCONFIG, served.incoming.is_some()),
            (AUTODISCOVER, served.incoming.is_some()),
        ];
        let wanted = labels.iter().filter(|(_, is_wanted)| *is_wanted);
        names.extend(
            wanted.filter_map(|(label, _)| Domain::parse(&format!("{label}.{domain}")).ok()),
        );
    }
    names
}

/// The page at a path of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublishedFile {
    Policy(String),
    /// Settings, in XML.
    Settings(String),
}

/// Returns the page at a path of a host; `None` if there is none.
pub fn look(config: &Config, host: &str, path: &str) -> Option<PublishedFile> {
    let at = |label: &str| {
        let domain = host.strip_prefix(label)?.strip_prefix('.')?;
        Domain::parse(domain).ok()
    };
    let served = |domain: Domain| {
        let found = config.domains.get(&domain)?;
        Some((domain, found.incoming.as_ref()?))
    };
    if path == POLICY_PATH {
        return policy(config, &at(MTA_STS)?).map(PublishedFile::Policy);
    }
    let (domain, incoming) = if path.eq_ignore_ascii_case(AUTODISCOVER_PATH) {
        let domain = at(AUTODISCOVER).or_else(|| Domain::parse(host).ok())?;
        let (_, incoming) = served(domain)?;
        return Some(PublishedFile::Settings(autodiscover(config, incoming)));
    } else if path == "/mail/config-v1.1.xml" {
        served(at(AUTOCONFIG)?)?
    } else if path == "/.well-known/autoconfig/mail/config-v1.1.xml" {
        served(Domain::parse(host).ok()?)?
    } else {
        return None;
    };
    Some(PublishedFile::Settings(autoconfig(
        config, &domain, incoming,
    )))
}

/// Thunderbird's settings. Users of the domain log in here with the whole address.
fn autoconfig(config: &Config, domain: &Domain, incoming: &Incoming) -> String {
    let kind = match incoming.protocol {
        IncomingProtocol::Imap => "imap",
        IncomingProtocol::Pop3 => "pop3",
    };
    let security = if incoming.is_tls { "SSL" } else { "STARTTLS" };
    let (host, port) = (&incoming.host, incoming.port);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\">\n  <emailProvider id=\"{domain}\">\n    \
         <domain>{domain}</domain>\n    <displayName>{domain}</displayName>\n    <incomingServer type=\"{kind}\">\n      \
         <hostname>{host}</hostname>\n      <port>{port}</port>\n      <socketType>{security}</socketType>\n      \
         <username>%EMAILADDRESS%</username>\n      <authentication>password-cleartext</authentication>\n    \
         </incomingServer>\n"
    );
    for (port, security) in outgoing(config) {
        let host = &config.hostname;
        text.push_str(&format!(
            "    <outgoingServer type=\"smtp\">\n      <hostname>{host}</hostname>\n      <port>{port}</port>\n      \
             <socketType>{security}</socketType>\n      <username>%EMAILADDRESS%</username>\n      \
             <authentication>password-cleartext</authentication>\n    </outgoingServer>\n"
        ));
    }
    text.push_str("  </emailProvider>\n</clientConfig>\n");
    text
}

/// Outlook's settings.
fn autodiscover(config: &Config, incoming: &Incoming) -> String {
    let protocol = |kind: &str, host: &Domain, port: u16, is_tls: bool| {
        let encryption = if is_tls { "SSL" } else { "TLS" };
        format!(
            "      <Protocol>\n        <Type>{kind}</Type>\n        <Server>{host}</Server>\n        <Port>{port}</Port>\n        \
             <DomainRequired>off</DomainRequired>\n        <SPA>off</SPA>\n        <Encryption>{encryption}</Encryption>\n        \
             <AuthRequired>on</AuthRequired>\n      </Protocol>\n"
        )
    };
    let kind = match incoming.protocol {
        IncomingProtocol::Imap => "IMAP",
        IncomingProtocol::Pop3 => "POP3",
    };
    let mut protocols = protocol(kind, &incoming.host, incoming.port, incoming.is_tls);
    if let Some((port, security)) = outgoing(config).next() {
        protocols.push_str(&protocol("SMTP", &config.hostname, port, security == "SSL"));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n  \
         <Response xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\">\n    \
         <Account>\n      <AccountType>email</AccountType>\n      <Action>settings</Action>\n{protocols}    \
         </Account>\n  </Response>\n</Autodiscover>\n"
    )
}

/// The ports for submission, implicit TLS first (RFC 8314 section 3), each with Thunderbird's name for its use of TLS.
fn outgoing(config: &Config) -> impl Iterator<Item = (u16, &'static str)> {
    let port = |listen: &Listen, usual: u16| match listen {
        Listen::Addresses(addresses) => addresses.first().map(|address| address.port()),
        Listen::Systemd => Some(usual),
    };
    let listen = &config.listen;
    let tls = port(&listen.submissions, 465).map(|port| (port, "SSL"));
    let starttls = port(&listen.submission, 587).map(|port| (port, "STARTTLS"));
    tls.into_iter().chain(starttls)
}

const MTA_STS: &str = "mta-sts";
const AUTOCONFIG: &str = "autoconfig";
const AUTODISCOVER: &str = "autodiscover";
const ID_BYTES: usize = 10;
/// Senders cache a policy with mode `enforce` for four weeks, and any other for one day.
const ENFORCED_SECONDS: u32 = 2_419_200;
const TESTED_SECONDS: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folder, SystemDefaults};

    fn config(text: &str) -> Config {
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.into());
        for domain in ["a.test", "b.test", "c.test"] {
            folder.insert_folder(&format!("domains/{domain}"));
        }
        let defaults = SystemDefaults {
            hostname: "mail.a.test".into(),
            resolv_conf: String::new(),
        };
        Config::parse(&folder, &defaults).expect("a configuration")
    }

    fn all() -> Config {
        config(
            "[listen]\nhttps = [\"127.0.0.1:443\"]\n\
             [domain.\"a.test\"]\nmta_sts = \"enforce\"\nincoming = \"imaps://imap.gmail.com\"\n\
             [domain.\"b.test\"]\nmta_sts = \"testing\"\nreceive = false\n",
        )
    }

    #[test]
    fn a_policy_is_that_of_its_domain_and_its_id_follows_it() {
        let config = all();
        let found = look(&config, "mta-sts.a.test", POLICY_PATH);
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.a.test\r\nmax_age: 2419200\r\n";
        assert_eq!(found, Some(PublishedFile::Policy(text.to_owned())));
        let record = policy_record(text);
        assert!(
            record.starts_with("v=STSv1; id=") && record.len() <= 12 + 32,
            "{record}"
        );
        assert_ne!(record, policy_record(&text.replace("enforce", "testing")));
        for host in [
            "a.test",
            "mta-sts.b.test",
            "mta-sts.c.test",
            "mta-sts.d.test",
            "mta-sts",
            "mta-stsa.test",
        ] {
            assert_eq!(look(&config, host, POLICY_PATH), None, "{host}");
        }
    }

    #[test]
    fn settings_are_told_where_it_is_said_who_has_the_mail() {
        let config = all();
        let Some(PublishedFile::Settings(text)) =
            look(&config, "autoconfig.a.test", "/mail/config-v1.1.xml")
        else {
            panic!("no settings");
        };
        for there in [
            "<incomingServer type=\"imap\">",
            "<hostname>imap.gmail.com</hostname>",
            "<port>465</port>\n      <socketType>SSL</socketType>",
            "<port>587</port>\n      <socketType>STARTTLS</socketType>",
        ] {
            assert!(text.contains(there), "{there}: {text}");
        }
        let own = look(
            &config,
            "a.test",
            "/.well-known/autoconfig/mail/config-v1.1.xml",
        );
        assert_eq!(own, Some(PublishedFile::Settings(text)));
        for host in ["autodiscover.a.test", "a.test"] {
            let found = look(&config, host, "/Autodiscover/Autodiscover.xml");
            assert!(
                matches!(
                    &found,
                    Some(PublishedFile::Settings(text))
                        if text.contains("<Protocol>\n        <Type>SMTP</Type>")
                            && text.matches("<Protocol>").count() == text.matches("</Protocol>").count()
                ),
                "{host}: {found:?}"
            );
        }
        assert_eq!(
            look(&config, "autoconfig.b.test", "/mail/config-v1.1.xml"),
            None
        );
        assert_eq!(look(&config, "a.test", "/"), None);
    }

    #[test]
    fn a_certificate_is_wanted_for_what_is_served_and_for_nothing_else() {
        let shown: Vec<String> = names(&all()).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["mta-sts.a.test", "autoconfig.a.test", "autodiscover.a.test"]
        );
        assert_eq!(
            names(&config("[domain.\"a.test\"]\nmta_sts = \"testing\"\n")),
            []
        );
    }
}
