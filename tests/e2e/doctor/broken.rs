//! What is broken, what is red then, and the way back.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Stdio;

use super::stage::{NOBODY, Stage, V4};
use crate::process::{Guard, program};

/// A way to break one thing, what is red then, and the way back.
pub(super) struct Break {
    pub(super) name: &'static str,
    pub(super) harm: fn(&mut Stage),
    pub(super) red: &'static [&'static str],
    pub(super) heal: fn(&mut Stage),
}

/// Takes records out for as long as a test lasts.
pub(super) fn without(stage: &mut Stage, zone: &str, begin: &str) {
    let gone = stage.take(zone, begin);
    fs::write(stage.path("gone"), gone.join("\n")).expect("a file");
    stage.serve();
}

/// And puts them back.
pub(super) fn back(stage: &mut Stage) {
    let gone = fs::read_to_string(stage.path("gone")).expect("a file");
    for record in gone.lines() {
        stage.put(&record.replacen(" 60 IN ", " ", 1), false);
    }
    stage.serve();
}

pub(super) const BREAKS: &[Break] = &[
    Break {
        name: "no A record",
        harm: |stage| without(stage, "example.test", "mail.example.test. 60 IN A "),
        red: &["dns-address", "dns-spf", "spf"],
        heal: back,
    },
    Break {
        name: "no reverse name",
        harm: |stage| without(stage, V4, "7."),
        red: &["dns-ptr"],
        heal: back,
    },
    Break {
        name: "no MX record",
        harm: |stage| without(stage, "example.test", "example.test. 60 IN MX "),
        red: &["dns-mx"],
        heal: back,
    },
    Break {
        name: "no SPF record",
        harm: |stage| without(stage, "example.test", "example.test. 60 IN TXT "),
        red: &["dns-spf", "spf"],
        heal: back,
    },
    Break {
        name: "no DKIM key in the DNS",
        harm: |stage| without(stage, "example.test", "s1._domainkey"),
        red: &["dkim-signature", "dmarc", "dns-dkim"],
        heal: back,
    },
    Break {
        name: "no DMARC record",
        harm: |stage| without(stage, "example.test", "_dmarc"),
        red: &["dmarc", "dns-dmarc"],
        heal: back,
    },
    Break {
        name: "port 25 is closed by IPv4",
        harm: |stage| stage.ip(&stage.internet, "addr del 203.0.113.25/24 dev v1"),
        red: &["outbound-v4"],
        heal: |stage| {
            // What listened there is bound to an address that was gone.
            stage.ip(&stage.internet, "addr add 203.0.113.25/24 dev v1");
        },
    },
    Break {
        name: "port 25 is closed by IPv6",
        harm: |stage| stage.ip(&stage.internet, "-6 addr del 2001:db8::25/64 dev v1"),
        red: &["outbound-v6"],
        heal: |stage| stage.ip(&stage.internet, "-6 addr add 2001:db8::25/64 dev v1 nodad"),
    },
    Break {
        name: "no route by IPv6",
        harm: |stage| stage.ip(&stage.machine, "-6 route del default"),
        red: &["ipv6-route"],
        heal: |stage| stage.ip(&stage.machine, "-6 route add default via 2001:db8::1"),
    },
    Break {
        name: "mail leaves from another address",
        harm: |stage| {
            stage.ip(&stage.machine, "addr add 203.0.113.8/24 dev v0");
            let text = stage.configuration();
            stage.configure(&format!("{text}[delivery]\nbind4 = \"203.0.113.8\"\n"));
        },
        red: &["dns-address", "dns-ptr", "dns-spf", "spf"],
        heal: |stage| {
            stage.ip(&stage.machine, "addr del 203.0.113.8/24 dev v0");
            let text = stage.configuration();
            stage.configure(text.split("[delivery]").next().expect("a text"));
        },
    },
    Break {
        name: "the address is on a list",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.0.0.4", false);
            stage.serve();
        },
        red: &["dnsbl"],
        heal: |stage| {
            stage.take("zen.spamhaus.org", "7.113.");
            stage.serve();
        },
    },
    Break {
        name: "a network may relay",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("{text}[relay]\nnetworks = [\"203.0.113.0/24\"]\n"));
            stage.reload();
        },
        red: &["relay"],
        heal: |stage| {
            let text = stage.configuration();
            stage.configure(text.split("[relay]").next().expect("a text"));
            stage.reload();
        },
    },
    Break {
        name: "a certificate for another name, of no authority",
        harm: |stage| {
            stage.certify("other");
            stage.reload();
        },
        red: &["tls-chain", "tls-name"],
        heal: |stage| {
            stage.certify("made");
            stage.reload();
        },
    },
    Break {
        name: "no administrator",
        harm: |stage| {
            let text = stage
                .configuration()
                .replace("admin = \"ann@far.test\"\n", "");
            stage.configure(&text);
        },
        red: &["admin", "bounces", "configuration"],
        heal: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("admin = \"ann@far.test\"\n{text}"));
        },
    },
    Break {
        name: "an administrator whose domain takes no mail",
        harm: |stage| {
            stage.put("nomail.far.test. MX 0 .", false);
            stage.serve();
            let text = stage
                .configuration()
                .replace("ann@far.test", "ann@nomail.far.test");
            stage.configure(&text);
        },
        red: &["admin"],
        heal: |stage| {
            let text = stage
                .configuration()
                .replace("ann@nomail.far.test", "ann@far.test");
            stage.configure(&text);
        },
    },
    Break {
        name: "no DKIM key",
        harm: |stage| {
            let keys = stage.path("config/domains/example.test/dkim");
            fs::rename(keys, stage.path("keys")).expect("a folder");
        },
        red: &["dkim-key"],
        heal: |stage| {
            let keys = stage.path("config/domains/example.test/dkim");
            fs::rename(stage.path("keys"), keys).expect("a folder");
        },
    },
    Break {
        name: "a configuration that cannot be read",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("nonsense = 1\n{text}"));
        },
        red: &["configuration"],
        heal: |stage| {
            let text = stage.configuration().replace("nonsense = 1\n", "");
            stage.configure(&text);
        },
    },
    Break {
        name: "a hook that cannot be run",
        harm: |stage| {
            fs::create_dir(stage.path("config/hooks")).expect("a folder");
            fs::write(stage.path("config/hooks/post-data"), "#!/bin/sh\n").expect("a file");
        },
        red: &["configuration"],
        heal: |stage| fs::remove_dir_all(stage.path("config/hooks")).expect("a folder"),
    },
    Break {
        name: "a spool of another account",
        harm: |stage| chown(stage.path("state"), Some(0), Some(0)).expect("an owner"),
        red: &["spool"],
        heal: |stage| chown(stage.path("state"), Some(NOBODY), Some(NOBODY)).expect("an owner"),
    },
    Break {
        name: "more memory than there is",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("max_memory = \"4000GiB\"\n{text}"));
        },
        red: &["memory"],
        heal: |stage| {
            let text = stage
                .configuration()
                .replace("max_memory = \"4000GiB\"\n", "");
            stage.configure(&text);
        },
    },
    Break {
        name: "no daemon",
        harm: Stage::stop_daemon,
        red: &["daemon", "port-25", "relay", "tls-handshake"],
        heal: Stage::start_daemon,
    },
    Break {
        name: "another program on port 25",
        harm: |stage| {
            stage.stop_daemon();
            let script = "from aiosmtpd.controller import Controller\nimport threading\n\
                          Controller(object(), hostname='203.0.113.7', port=25, server_hostname='x').start()\nthreading.Event().wait()\n";
            let mut command = stage.on(&stage.machine, &program("python3"));
            let mut guard = Guard::spawn(command.args(["-c", script]).stdin(Stdio::null()));
            stage.wait_for_port(&mut guard, &stage.machine, "203.0.113.7", 25);
            stage.daemon = Some(guard);
        },
        // It also takes mail for everybody, and has no TLS.
        red: &[
            "configuration",
            "daemon",
            "port-25",
            "relay",
            "starttls",
            "tls-handshake",
        ],
        heal: |stage| {
            stage.stop_daemon();
            stage.start_daemon();
        },
    },
];

/// What only warns: the check, and the way there and back.
pub(super) const WARNINGS: &[Break] = &[
    Break {
        name: "a clock that is off",
        harm: |stage| fs::write(stage.path("offset"), "90").expect("a file"),
        red: &["clock"],
        heal: |stage| fs::write(stage.path("offset"), "0").expect("a file"),
    },
    Break {
        name: "a list that does not answer this resolver",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.255.255.254", false);
            stage.serve();
        },
        red: &["dnsbl"],
        heal: |stage| {
            stage.take("zen.spamhaus.org", "7.113.");
            stage.serve();
        },
    },
    Break {
        name: "the name leads to loopback",
        harm: |stage| {
            let text = "127.0.0.1 localhost\n127.0.1.1 mail.example.test mail\n";
            fs::write(stage.path("hosts"), text).expect("a file");
        },
        red: &["hosts-file"],
        heal: |stage| fs::write(stage.path("hosts"), "127.0.0.1 localhost\n").expect("a file"),
    },
    Break {
        name: "no SPF record of the host",
        harm: |stage| without(stage, "example.test", "mail.example.test. 60 IN TXT "),
        red: &["dns-spf-helo", "spf-helo"],
        heal: back,
    },
];
