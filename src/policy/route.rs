//! The next hop of mail: the first route that matches, otherwise the MX of the domain.

use std::fmt;

use crate::address::{Domain, Mailbox};
use crate::config::Config;
use crate::destination::{Assigned, Destination};
use crate::envelope::{Envelope, Recipient};
use crate::escape::Escaped;

/// A next hop; messages with the same next hop can share a session.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NextHop {
    /// The mail exchangers of a domain.
    Mx(Domain),
    /// A route of the configuration that is in force.
    Route {
        /// Its index in `routes`.
        index: usize,
    },
    /// The target of an alias.
    Alias(Destination),
    /// The target of an alias that a later version stored in the spool and this version cannot read. The address is not
    /// a substitute: mail for a program of this machine must not leave it.
    Unreadable(Box<str>),
}

impl fmt::Display for NextHop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => write!(out, "{domain}"),
            Self::Alias(destination) => write!(out, "{destination}"),
            Self::Unreadable(text) => write!(out, "{}", Escaped(text.as_bytes())),
            Self::Route { index } => write!(out, "route#{}", index.saturating_add(1)),
        }
    }
}

/// The next hop of a recipient of a message.
pub fn hop_of(config: &Config, envelope: &Envelope, recipient: &Recipient) -> NextHop {
    match &recipient.destination {
        Some(Assigned::Known(destination)) => return NextHop::Alias(destination.clone()),
        Some(Assigned::Unreadable(text)) => return NextHop::Unreadable(text.clone()),
        None => {}
    }
    let from = match &recipient.reverse_path {
        Some(mailbox) => Some(mailbox.as_ref()),
        None => envelope.reverse_path.mailbox(),
    };
    next_hop(config, &recipient.mailbox, from.map(Mailbox::domain))
}

/// The next hop of mail to `recipient` whose reverse-path is in the domain `from` (`None`: the null reverse-path).
fn next_hop(config: &Config, recipient: &Mailbox, from: Option<&Domain>) -> NextHop {
    let domain = recipient.domain();
    config
        .routes
        .iter()
        .position(|route| route.pattern.matches(domain, from))
        .map_or_else(
            || NextHop::Mx(domain.clone()),
            |index| NextHop::Route { index },
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folder, SystemDefaults};

    fn hop(recipient: &str, from: Option<&str>) -> String {
        let text = ["*.example.org", "example.net", "from:news.example"]
            .map(|pattern| {
                format!("[[route]]\ndomain = {pattern:?}\nvia = [\"smtps://relay.example\"]\n")
            })
            .concat();
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", text.into_bytes());
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&folder, &defaults).expect("a configuration");
        let recipient = Mailbox::parse(recipient).expect("a mailbox");
        let from = from.map(|from| Domain::parse(from).expect("a domain"));
        next_hop(&config, &recipient, from.as_ref()).to_string()
    }

    #[test]
    fn a_destination_that_cannot_be_read_is_not_sent_to_the_mail_exchangers() {
        use crate::address::ReversePath;
        use crate::date::Timestamp;
        use crate::envelope::{BodyKind, Notify};
        let mailbox = Mailbox::parse("ann@example.com").expect("a mailbox");
        let mut recipient = Recipient::new(mailbox, Notify::Default, None);
        recipient.destination = Some(Assigned::read("carrier-pigeon:loft 7"));
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![recipient.clone()],
            envelope_id: None,
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: Timestamp::from_seconds(0),
            origin: "uid=0".into(),
        };
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&Folder::default(), &defaults).expect("a configuration");
        assert_eq!(
            hop_of(&config, &envelope, &recipient),
            NextHop::Unreadable("carrier-pigeon:loft 7".into())
        );
    }

    #[test]
    fn the_first_route_that_matches_is_taken() {
        assert_eq!(hop("a@sub.example.org", Some("news.example")), "route#1");
        assert_eq!(hop("a@example.org", None), "example.org");
        assert_eq!(hop("a@notexample.org", None), "notexample.org");
        assert_eq!(hop("a@EXAMPLE.net", None), "route#2");
        assert_eq!(hop("a@sub.example.net", None), "sub.example.net");
        assert_eq!(hop("a@gmail.com", Some("news.example")), "route#3");
        assert_eq!(hop("a@gmail.com", Some("sub.news.example")), "gmail.com");
    }
}
