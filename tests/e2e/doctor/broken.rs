//! Each check of the doctor, and a fault that breaks only its subject: in the real world, not in invented facts.

use std::fs;
use std::os::unix::fs::chown;

use super::harm::{BARE_UNIT, HOOK, OLD_MESSAGE, certify, foreign, rename, selectors};
use super::names::{Dnssec, V4};
use super::stage::Stage;
use crate::process::program;

/// A fault for a check to find. Changes to the zones, to chopar.toml and to the certificate are reverted automatically.
pub(super) struct Break {
    /// The ID of the check that reports it.
    pub(super) id: &'static str,
    /// A short description.
    pub(super) name: &'static str,
    pub(super) harm: fn(&mut Stage),
    /// Checks with the same subject, or that depend on it.
    pub(super) also: &'static [&'static str],
    pub(super) heal: fn(&mut Stage),
}

fn by_itself(_: &mut Stage) {}

pub(super) const BREAKS: &[Break] = &[
    Break {
        id: "configuration",
        name: "a key that does not exist",
        harm: |stage| stage.change("hostname", "nonsense = 1\nhostname"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "configuration-advice",
        name: "a file among the hooks that nothing runs",
        harm: |stage| {
            stage.sh("mkdir /etc/chopar/hooks && touch /etc/chopar/hooks/pre-data");
        },
        also: &[],
        heal: |stage| drop(stage.sh("rm -r /etc/chopar/hooks")),
    },
    Break {
        id: "daemon",
        name: "a daemon whose socket is gone",
        harm: |stage| drop(stage.sh("rm /run/chopar/control.sock")),
        also: &["configuration", "queue-age"],
        heal: |stage| drop(stage.sh("systemctl restart chopar")),
    },
    Break {
        id: "unit",
        name: "a unit that is not enabled",
        harm: |stage| drop(stage.sh("systemctl disable chopar")),
        also: &[],
        heal: |stage| drop(stage.sh("systemctl enable chopar")),
    },
    Break {
        id: "sandbox",
        name: "a unit without a sandbox",
        harm: |stage| drop(stage.sh(BARE_UNIT)),
        also: &[],
        heal: |stage| drop(stage.sh("cp /root/unit /etc/systemd/system/chopar.service")),
    },
    Break {
        id: "queue-age",
        name: "a message that has waited for five hours",
        harm: |stage| {
            stage.sh(OLD_MESSAGE);
        },
        also: &[],
        heal: |stage| drop(stage.sh("chopar queue remove --all")),
    },
    Break {
        id: "hooks",
        name: "a hook whose interpreter is not there",
        harm: |stage| drop(stage.sh(HOOK)),
        also: &[],
        heal: |stage| drop(stage.sh("rm -r /etc/chopar/hooks && chopar reload")),
    },
    Break {
        id: "admin",
        name: "an administrator whose domain takes no mail",
        harm: |stage| {
            stage.change(
                "admin = \"ann@far.test\"",
                "admin = \"ann@nomail.far.test\"",
            )
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "bounces",
        name: "no administrator, and nobody who takes the mail of all addresses",
        harm: |stage| {
            stage.change("admin = \"ann@far.test\"\n", "");
            stage.sh("cp -a /etc/chopar/domains/example.test/aliases /root/aliases");
            stage.sh(
                "cd /etc/chopar/domains/example.test && sed -i '/^\\*/d' aliases && \
                      printf 'postmaster: ann@far.test\\nabuse: ann@far.test\\n' >> aliases",
            );
        },
        also: &["admin", "configuration-advice"],
        heal: |stage| {
            drop(stage.sh("cp -a /root/aliases /etc/chopar/domains/example.test/aliases"))
        },
    },
    Break {
        id: "hostname",
        name: "a name that is not in the public DNS",
        harm: rename,
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "hosts-file",
        name: "the name leads to loopback",
        harm: |stage| {
            let text = "127.0.0.1 localhost\n127.0.1.1 mail.example.test mail\n";
            fs::write(stage.path("hosts"), text).expect("a file");
        },
        also: &[],
        heal: |stage| fs::write(stage.path("hosts"), "127.0.0.1 localhost\n").expect("a file"),
    },
    Break {
        id: "ptr-name",
        name: "a second reverse name, of the provider",
        harm: |stage| {
            stage.put("7.113.0.203.in-addr.arpa. PTR 203-0-113-7.far.test.", false);
            stage.serve();
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "ipv6-route",
        name: "no route by IPv6",
        harm: |stage| stage.ip(&stage.machine, "-6 route del default"),
        also: &[],
        heal: |stage| stage.ip(&stage.machine, "-6 route add default via 2001:db8::1"),
    },
    Break {
        id: "port-25",
        name: "nobody listens on port 25 by IPv6",
        harm: |stage| {
            stage.change("[abuse]", "[listen]\nsmtp = [\"0.0.0.0:25\"]\n[abuse]");
            stage.sh("systemctl restart chopar");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "port-587",
        name: "nobody listens on port 587 by IPv6",
        harm: |stage| {
            stage.change(
                "[abuse]",
                "[listen]\nsubmission = [\"0.0.0.0:587\"]\n[abuse]",
            );
            stage.sh("systemctl restart chopar");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "port-465",
        name: "nobody listens on port 465 by IPv6",
        harm: |stage| {
            stage.change(
                "[abuse]",
                "[listen]\nsubmissions = [\"0.0.0.0:465\"]\n[abuse]",
            );
            stage.sh("systemctl restart chopar");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "outbound-v4",
        name: "port 25 is closed by IPv4",
        harm: |stage| stage.ip(&stage.internet, "addr del 203.0.113.25/24 dev v1"),
        also: &[],
        heal: |stage| stage.ip(&stage.internet, "addr add 203.0.113.25/24 dev v1"),
    },
    Break {
        id: "outbound-v6",
        name: "port 25 is closed by IPv6",
        harm: |stage| stage.ip(&stage.internet, "-6 addr del 2001:db8::25/64 dev v1"),
        also: &[],
        heal: |stage| stage.ip(&stage.internet, "-6 addr add 2001:db8::25/64 dev v1 nodad"),
    },
    Break {
        id: "outbound-source",
        name: "a route of its own for mail leaves from another address",
        harm: |stage| {
            stage.ip(&stage.machine, "addr add 203.0.113.8/24 dev v0");
            stage.ip(
                &stage.machine,
                "route add 203.0.113.25/32 dev v0 src 203.0.113.8",
            );
        },
        also: &[],
        heal: |stage| stage.ip(&stage.machine, "addr del 203.0.113.8/24 dev v0"),
    },
    Break {
        id: "dns-address",
        name: "no A record, and an SPF record that does without",
        harm: |stage| {
            stage.put(
                "example.test. TXT \"v=spf1 ip4:203.0.113.7 ip6:2001:db8::7 ~all\"",
                true,
            );
            stage.put(
                "mail.example.test. TXT \"v=spf1 ip4:203.0.113.7 ip6:2001:db8::7 -all\"",
                true,
            );
            stage.without("example.test", "mail.example.test. 60 IN A ");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-ptr",
        name: "no reverse name",
        harm: |stage| stage.without(V4, "7."),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-mx",
        name: "no MX record",
        harm: |stage| stage.without("example.test", "example.test. 60 IN MX "),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-spf",
        name: "an SPF record that everybody passes",
        harm: |stage| stage.instead("example.test. TXT \"v=spf1 a:mail.example.test +all\""),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "spf",
        name: "no SPF record",
        harm: |stage| stage.without("example.test", "\"v=spf1 a:mail.example.test"),
        also: &["dns-spf"],
        heal: by_itself,
    },
    Break {
        id: "dns-spf-helo",
        name: "no SPF record of the host, as a zone",
        harm: |stage| stage.without("example.test", "mail.example.test. 60 IN TXT "),
        also: &["spf-helo"],
        heal: by_itself,
    },
    Break {
        id: "spf-helo",
        name: "no SPF record of the host",
        harm: |stage| stage.without("example.test", "mail.example.test. 60 IN TXT "),
        also: &["dns-spf-helo"],
        heal: by_itself,
    },
    Break {
        id: "dns-dkim",
        name: "a second text beside a key",
        harm: |stage| {
            let selector = selectors(stage).remove(0);
            let name = selector.split(' ').next().expect("a name").to_owned();
            stage.put(
                &format!("{name}._domainkey.example.test. TXT \"leftover\""),
                false,
            );
            stage.serve();
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dkim-signature",
        name: "one of the keys is not in the DNS",
        harm: |stage| {
            let selector = selectors(stage).remove(0);
            stage.without("example.test", &format!("{selector}._domainkey"));
        },
        also: &["dns-dkim"],
        heal: by_itself,
    },
    Break {
        id: "dns-dmarc",
        name: "a policy that is cut off",
        harm: |stage| stage.instead("_dmarc.example.test. TXT \"v=DMARC1; p=\""),
        also: &["dmarc"],
        heal: by_itself,
    },
    Break {
        id: "dmarc",
        name: "none of the keys is in the DNS",
        harm: |stage| stage.without("example.test", "._domainkey."),
        also: &["dkim-signature", "dns-dkim"],
        heal: by_itself,
    },
    Break {
        id: "dns-dmarc-reports",
        name: "reports to an address of another domain that is served",
        harm: |stage| {
            stage.sh("mkdir /etc/chopar/domains/second.test && echo 'ann: ann@far.test' > /etc/chopar/domains/second.test/aliases");
            stage
                .sh("cp -a /etc/chopar/domains/example.test/dkim /etc/chopar/domains/second.test/");
            stage.change("admin = \"ann@far.test\"", "admin = \"ann@second.test\"");
            // The address for reports would be in the domain itself.
            stage.sh("cp -a /etc/chopar/domains/example.test/aliases /tmp/aliases && sed -i /reports:/d /etc/chopar/domains/example.test/aliases");
            stage.instead(
                "_dmarc.example.test. TXT \"v=DMARC1; p=none; rua=mailto:ann@second.test\"",
            );
            stage.words.1 = vec!["example.test".to_owned()];
        },
        also: &[],
        heal: |stage| {
            stage.sh("rm -r /etc/chopar/domains/second.test; cp -a /tmp/aliases /etc/chopar/domains/example.test/aliases");
        },
    },
    Break {
        id: "dns-tls-reports",
        name: "no address for TLS reports",
        harm: |stage| stage.without("example.test", "_smtp._tls"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-web",
        name: "a policy that no record tells of",
        harm: |stage| {
            stage.change("[abuse]", "[listen]\nhttps = [\"0.0.0.0:443\"]\n[abuse]");
            let text = stage.configuration();
            stage.configure(&format!(
                "{text}\n[domain.\"example.test\"]\nmta_sts = \"testing\"\n"
            ));
            stage.sh("systemctl restart chopar");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-submission",
        name: "no record of the port for mail programs",
        harm: |stage| stage.without("example.test", "_submission._tcp"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dns-tlsa",
        name: "the TLSA record of a key that was replaced",
        harm: |stage| {
            let digest = "00".repeat(32);
            stage.instead(&format!("_25._tcp.mail.example.test. TLSA 3 1 1 {digest}"));
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dmarc-rua",
        name: "reports to a domain that takes no mail",
        harm: |stage| {
            stage.instead(
                "_dmarc.example.test. TXT \"v=DMARC1; p=none; rua=mailto:x@nomail.far.test\"",
            );
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dkim-key",
        name: "no DKIM key",
        harm: |stage| drop(stage.sh("mv /etc/chopar/domains/example.test/dkim /root/dkim")),
        also: &["configuration-advice"],
        heal: |stage| drop(stage.sh("mv /root/dkim /etc/chopar/domains/example.test/dkim")),
    },
    Break {
        id: "tls-handshake",
        name: "what follows STARTTLS is not TLS",
        harm: |stage| foreign(stage, "no-handshake"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "tls-chain",
        name: "a certificate of no authority",
        harm: |stage| certify(stage, "mail.example.test", "90", false),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "tls-name",
        name: "a certificate for another name",
        harm: |stage| certify(stage, "www.example.test", "90", true),
        also: &["configuration-advice"],
        heal: by_itself,
    },
    Break {
        id: "tls-days",
        name: "a certificate that ends in ten days",
        harm: |stage| certify(stage, "mail.example.test", "10", true),
        also: &["configuration-advice"],
        heal: by_itself,
    },
    Break {
        id: "tls-days",
        name: "a certificate that has ended",
        harm: |stage| certify(stage, "mail.example.test", "0", true),
        also: &["configuration-advice"],
        heal: by_itself,
    },
    Break {
        id: "tls-versions",
        name: "a server that speaks TLS 1.3 only",
        harm: |stage| foreign(stage, "tls-1.3-only"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "starttls",
        name: "a server without STARTTLS",
        harm: |stage| foreign(stage, "no-starttls"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "auth",
        name: "a server without AUTH",
        harm: |stage| foreign(stage, "no-auth"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "auth-clear",
        name: "a server that offers AUTH in clear",
        harm: |stage| foreign(stage, "auth-in-clear"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "relay",
        name: "a network may relay",
        harm: |stage| {
            stage.change(
                "[abuse]",
                "[relay]\nnetworks = [\"203.0.113.0/24\"]\n[abuse]",
            );
            stage.sh("chopar reload");
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dnsbl",
        name: "the address is on a list",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.0.0.4", false);
            stage.serve();
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "dnsbl",
        name: "a list that does not answer this resolver",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.255.255.254", false);
            stage.serve();
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "resolver",
        name: "one of two resolvers does not answer",
        harm: |stage| stage.ask(&["127.0.0.1", "203.0.113.99"]),
        also: &[],
        heal: |stage| stage.ask(&["127.0.0.1"]),
    },
    Break {
        id: "resolver-dnssec",
        name: "a resolver that does not validate",
        harm: |stage| {
            stage.resolver = None;
            let resolver = stage.start_resolver(&stage.machine, "127.0.0.1", Dnssec::IsIgnored);
            stage.resolver = Some(resolver);
        },
        also: &[],
        heal: |stage| {
            stage.resolver = None;
            let resolver = stage.start_resolver(&stage.machine, "127.0.0.1", Dnssec::Validates);
            stage.resolver = Some(resolver);
        },
    },
    Break {
        id: "resolver-place",
        name: "a large public resolver",
        harm: |stage| {
            let public = stage.start_resolver(&stage.internet, "8.8.8.8", Dnssec::Validates);
            stage.others.push(public);
            stage.ask(&["8.8.8.8"]);
        },
        also: &[],
        heal: |stage| stage.ask(&["127.0.0.1"]),
    },
    Break {
        id: "clock",
        name: "a clock that is off",
        harm: |stage| fs::write(stage.path("offset"), "90").expect("a file"),
        also: &[],
        heal: |stage| fs::write(stage.path("offset"), "0").expect("a file"),
    },
    Break {
        id: "disk-space",
        name: "a disk that is full",
        harm: |stage| drop(stage.sh("fallocate -l 950M /var/lib/chopar/log-of-something-else")),
        also: &[],
        heal: |stage| drop(stage.sh("rm /var/lib/chopar/log-of-something-else")),
    },
    Break {
        id: "disk-inodes",
        name: "a disk without inodes",
        harm: |stage| drop(stage.sh("mount -o remount,nr_inodes=500 /var/lib/chopar")),
        also: &[],
        heal: |stage| drop(stage.sh("mount -o remount,nr_inodes=100k /var/lib/chopar")),
    },
    Break {
        id: "spool",
        name: "a spool of another account",
        harm: |stage| chown(stage.there("/var/lib/chopar"), Some(0), Some(0)).expect("an owner"),
        also: &[],
        heal: |stage| drop(stage.sh("chown chopar:chopar /var/lib/chopar")),
    },
    Break {
        id: "disk-sync",
        name: "a disk that is slow",
        harm: |stage| {
            let strace = program("strace").display().to_string();
            let words = [
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync",
                "-e",
                "inject=fdatasync:delay_exit=300000",
            ];
            stage.words.0 = [strace]
                .into_iter()
                .chain(words.map(str::to_owned))
                .collect();
        },
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "memory",
        name: "more memory than there is",
        harm: |stage| stage.change("hostname", "max_memory = \"4000GiB\"\nhostname"),
        also: &[],
        heal: by_itself,
    },
    Break {
        id: "rules-gmail",
        name: "no reverse name, as this receiver sees it",
        harm: |stage| stage.without(V4, "7."),
        also: &["dns-ptr", "rules-yahoo"],
        heal: by_itself,
    },
    Break {
        id: "rules-yahoo",
        name: "no reverse name, as this receiver sees it",
        harm: |stage| stage.without(V4, "7."),
        also: &["dns-ptr", "rules-gmail"],
        heal: by_itself,
    },
    Break {
        id: "rules-outlook",
        name: "no MX record, as this receiver sees it",
        harm: |stage| stage.without("example.test", "example.test. 60 IN MX "),
        also: &["dns-mx"],
        heal: by_itself,
    },
];
