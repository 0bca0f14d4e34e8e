//! Services that send mail for others, recognized by the domains of their signatures and bounces.
//!
//! A receiver has verified both domains, so nobody can pretend to be such a service. The name of a host counts only if
//! it leads back to the host. The list does not say whom to trust.

use crate::address::Domain;

#[derive(Debug, Eq, PartialEq)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// The SPF term that allows it; `None` if it never sends with bounces to its customers' domains.
    pub(super) include: Option<&'static str>,
    /// Whether names below its domains may be of hosts that it rents out.
    lets_hosts: bool,
    /// Its domains, including all names below them.
    domains: &'static [&'static str],
}

/// The service that a domain belongs to.
pub(super) fn find(domain: &str) -> Option<&'static Service> {
    let domain = Domain::parse(domain).ok()?;
    SERVICES.iter().find(|service| {
        let mut own = service.domains.iter();
        own.any(|own| Domain::parse(own).is_ok_and(|own| domain == own || domain.is_under(&own)))
    })
}

/// The service that a host is one of, by its name.
pub(super) fn find_host(name: &str) -> Option<&'static Service> {
    find(name).filter(|service| !service.lets_hosts)
}

const fn host_provider(service: Service) -> Service {
    Service {
        lets_hosts: true,
        ..service
    }
}

const fn service(
    name: &'static str,
    include: &'static str,
    domains: &'static [&'static str],
) -> Service {
    Service {
        name,
        include: if include.is_empty() {
            None
        } else {
            Some(include)
        },
        lets_hosts: false,
        domains,
    }
}

const SERVICES: &[Service] = &[
    service(
        "Google Workspace",
        "_spf.google.com",
        &["gappssmtp.com", "google.com", "googlemail.com"],
    ),
    service(
        "Microsoft 365",
        "spf.protection.outlook.com",
        &["onmicrosoft.com", "outlook.com", "microsoft.com"],
    ),
    service("Amazon SES", "amazonses.com", &["amazonses.com"]),
    service(
        "Mailchimp",
        "servers.mcsv.net",
        &[
            "mailchimpapp.net",
            "mcsv.net",
            "mcdlv.net",
            "rsgsv.net",
            "mailchimp.com",
        ],
    ),
    service("Mandrill", "spf.mandrillapp.com", &["mandrillapp.com"]),
    service(
        "SendGrid",
        "sendgrid.net",
        &["sendgrid.net", "sendgrid.info", "sendgrid.com"],
    ),
    service(
        "Mailgun",
        "mailgun.org",
        &["mailgun.org", "mailgun.net", "mailgun.com"],
    ),
    service(
        "Brevo",
        "spf.brevo.com",
        &[
            "brevo.com",
            "sendinblue.com",
            "sender-sib.com",
            "mailin.fr",
            "brevosend.com",
        ],
    ),
    service(
        "Zoho",
        "zoho.com",
        &[
            "zoho.com",
            "zoho.eu",
            "zoho.in",
            "zohomail.com",
            "zcsend.net",
        ],
    ),
    service(
        "Postmark",
        "spf.mtasv.net",
        &["mtasv.net", "postmarkapp.com"],
    ),
    service("Mailjet", "spf.mailjet.com", &["mailjet.com", "mjt.lu"]),
    service(
        "SparkPost",
        "sparkpostmail.com",
        &["sparkpostmail.com", "sparkpost.com"],
    ),
    service(
        "HubSpot",
        "",
        &["hubspotemail.net", "hubspot.com", "hubspotstarter.net"],
    ),
    service(
        "Salesforce",
        "_spf.salesforce.com",
        &["salesforce.com", "exacttarget.com"],
    ),
    service("Zendesk", "mail.zendesk.com", &["zendesk.com"]),
    service(
        "Freshdesk",
        "email.freshdesk.com",
        &["freshdesk.com", "freshemail.io"],
    ),
    service(
        "Shopify",
        "shops.shopify.com",
        &["shopify.com", "shopifyemail.com"],
    ),
    service(
        "Constant Contact",
        "",
        &["constantcontact.com", "ccsend.com"],
    ),
    service("Klaviyo", "", &["klaviyomail.com", "klaviyo.com"]),
    service(
        "MailerLite",
        "_spf.mlsend.com",
        &["mlsend.com", "mailerlite.com"],
    ),
    service(
        "Fastmail",
        "spf.messagingengine.com",
        &["messagingengine.com", "fastmail.com"],
    ),
    service(
        "Proton",
        "_spf.protonmail.ch",
        &["protonmail.ch", "proton.me", "protonmail.com"],
    ),
    service("Yahoo", "", &["yahoo.com", "yahoodns.net", "aol.com"]),
    service("iCloud", "icloud.com", &["icloud.com", "me.com"]),
    service("GitHub", "", &["github.com"]),
    service(
        "Atlassian",
        "_spf.atlassian.net",
        &["atlassian.net", "atlassian.com"],
    ),
    service("Mail.ru", "_spf.mail.ru", &["mail.ru", "biz.mail.ru"]),
    service(
        "Yandex",
        "_spf.yandex.net",
        &["yandex.ru", "yandex.net", "yandex.com"],
    ),
    host_provider(service("OVH", "mx.ovh.com", &["ovh.net", "ovh.com"])),
    host_provider(service(
        "IONOS",
        "_spf.perfora.net",
        &["perfora.net", "kundenserver.de"],
    )),
];
