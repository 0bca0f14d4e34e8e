//! The text of a first chopar.toml: the keys that a newcomer sets, with their purpose; the manual has the rest.

use std::path::PathBuf;

use crate::address::{Domain, Mailbox};

/// The values in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The domain that it is made for.
    pub domain: Domain,
    /// The name of the host.
    pub hostname: Domain,
    /// The recipient of reports from chopar.
    pub admin: Option<Mailbox>,
    /// The paths, if everything is in one folder.
    pub own: Option<Own>,
    /// Whether the daemon obtains certificates.
    pub certificates: bool,
}

/// A relay that lives in one folder, beside others on the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Own {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// The account, if it is not the usual one.
    pub user: Option<String>,
    /// The ports of smtp, submission and submissions.
    pub ports: [u16; 3],
}

/// The names of the folders for state and sockets below the configuration folder; hidden, so that they are not read.
pub const STATE: &str = ".state";
/// See [`STATE`].
pub const RUNTIME: &str = ".run";

impl Settings {
    /// The text of chopar.toml.
    pub fn text(&self) -> String {
        let hostname = &self.hostname;
        let mut text = format!(
            "# The configuration of chopar. man chopar.toml lists every key with its default; after a change run\n\
             #   chopar check && chopar reload\n\
             \n\
             # The name of this host. The reverse DNS (PTR) of its addresses must return it.\n\
             hostname = {}\n\
             \n\
             # The address for mail to root, postmaster and abuse, and for reports of chopar.\n\
             {}\n",
            quoted(hostname.as_str()),
            match &self.admin {
                Some(admin) => admin_line(admin),
                None => format!("{NO_ADMIN}\"you@example.org\""),
            }
        );
        if let Some(own) = &self.own {
            text.push_str(&own_text(own));
        }
        if self.certificates {
            text.push_str(CERTIFICATES);
        }
        text.push_str(&examples(&self.domain));
        text
    }
}

fn own_text(own: &Own) -> String {
    let place = |name: &str| quoted(&own.folder.join(name).to_string_lossy());
    let user = match &own.user {
        Some(user) => format!(
            "# The account after a start as root; numbers need no /etc/passwd.\nuser = {}\n",
            quoted(user)
        ),
        None => String::new(),
    };
    let [smtp, submission, submissions] = own
        .ports
        .map(|port| format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]"));
    format!(
        "\n# The queue and the sockets of this instance. Folders whose name begins with a dot are not read as configuration.\n\
         state_dir = {}\nruntime_dir = {}\n{user}\
         \n# High ports, which need no root. Other hosts send mail only to port 25: forward it here, or change it here.\n\
         [listen]\nsmtp = {smtp}\nsubmission = {submission}\nsubmissions = {submissions}\n",
        place(STATE),
        place(RUNTIME)
    )
}

fn examples(domain: &Domain) -> String {
    format!(
        "\n# Programs and devices that cannot log in, by their addresses:\n\
         # [relay]\n# networks = [\"127.0.0.1\", \"::1\"]\n\
         \n# A domain whose MX is the host of another provider:\n\
         # [domain.{0}]\n# receive = false\n\
         \n# A smart host, if the provider of this server blocks port 25; its login and password are in the file\n\
         # secrets/smart-host, one on each line:\n\
         # [[route]]\n# domain = \"*\"\n# via = [\"smtp+starttls://smtp.example.net:587\"]\n# auth = \"secrets/smart-host\"\n",
        quoted(domain.as_str())
    )
}

/// The file with `admin` set: in place of the comment that shows it, otherwise before every possible table.
pub fn with_admin(text: &str, admin: &Mailbox) -> String {
    let line = admin_line(admin);
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| line.starts_with(NO_ADMIN)) {
        Some(at) => {
            lines.splice(at..=at, [line.as_str()]);
        }
        None => lines.insert(0, &line),
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn admin_line(admin: &Mailbox) -> String {
    format!("admin = {}", quoted(&admin.to_string()))
}

/// A basic string of TOML.
pub(in crate::setup) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

const NO_ADMIN: &str = "# admin = ";
const CERTIFICATES: &str = "
# The daemon obtains a certificate for this host and renews it: Let's Encrypt comes to port 80. This agrees to its terms
# of service, https://letsencrypt.org/repository/
[acme]
enabled = true
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Folder, Renewal, SystemDefaults};

    fn settings() -> Settings {
        Settings {
            domain: Domain::parse("example.com").expect("a domain"),
            hostname: Domain::parse("mail.example.com").expect("a domain"),
            admin: None,
            own: None,
            certificates: false,
        }
    }

    fn parsed(text: &str) -> Config {
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.into());
        folder.insert_folder("domains/example.com");
        folder.insert_file("secrets/smart-host", b"me\npass\n".to_vec());
        Config::parse(&folder, &SystemDefaults::default())
            .unwrap_or_else(|errors| panic!("{}: {text}", errors.first().expect("an error")))
    }

    #[test]
    fn the_file_is_in_order_as_it_is_and_with_every_example_taken() {
        let own = Own {
            folder: "/srv/a \"b\\c\u{1}".into(),
            user: Some("65534:65534".to_owned()),
            ports: [2525, 2587, 2465],
        };
        for (own, certificates) in [(None, true), (Some(own), false)] {
            let settings = Settings {
                own,
                certificates,
                ..settings()
            };
            let text = settings.text();
            let config = parsed(&text);
            assert_eq!(config.acme.renewal == Renewal::All, certificates);
            assert_eq!(config.hostname.as_str(), "mail.example.com");
            assert_eq!(config.admin, None);
            let sentences = |line: &str| line.starts_with("# ") && !line.contains(['=', '[']);
            let taken: String = text
                .lines()
                .filter(|line| !sentences(line) && !line.starts_with("#   "))
                .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
                .collect();
            let config = parsed(&taken);
            assert!(
                config.admin.is_some() && config.routes.len() == 1,
                "{taken}"
            );
            let programs = ["127.0.0.1", "::1"].map(|address| address.parse().expect("an address"));
            assert!(
                programs
                    .iter()
                    .all(|address| config.trust.relay.contains(*address)),
                "{taken}"
            );
        }
    }

    #[test]
    fn admin_is_set_where_the_file_says_how_or_in_front() {
        let admin = Mailbox::parse("me@home.example").expect("a mailbox");
        let text = settings().text();
        let changed = with_admin(&text, &admin);
        assert_eq!(parsed(&changed).admin, Some(admin.clone()));
        assert_eq!(text.lines().count(), changed.lines().count());
        let other = with_admin("hostname = \"a.example\"\n[listen]\nsmtp = []\n", &admin);
        assert_eq!(parsed(&other).admin, Some(admin));
    }
}
