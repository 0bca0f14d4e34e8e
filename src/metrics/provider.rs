//! Mail providers: the large receivers, recognized by the names of their mail exchangers.
//!
//! The list is fixed, so that clients who choose destinations cannot make the number of metrics grow.

/// A receiver of mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Provider {
    /// Gmail and Google Workspace.
    Google,
    /// Outlook.com and Microsoft 365.
    Microsoft,
    /// Yahoo and AOL.
    Yahoo,
    /// iCloud.
    Apple,
    /// GMX, WEB.DE, mail.com and IONOS.
    United,
    /// Deutsche Telekom.
    Telekom,
    Orange,
    /// OVHcloud.
    Ovh,
    Proton,
    Fastmail,
    Zoho,
    Yandex,
    /// VK, mail.ru.
    Vk,
    /// Tencent, QQ.
    Tencent,
    /// NetEase, 163.com.
    NetEase,
    Comcast,
    /// This machine: mailboxes, programs, sockets.
    Here,
    Other,
}

/// All of them, each with its name and the ends of its hosts' names.
const ALL: [(Provider, &str, &[&str]); Provider::COUNT] = [
    (
        Provider::Google,
        "google",
        &["google.com", "googlemail.com", "gmail.com"],
    ),
    (
        Provider::Microsoft,
        "microsoft",
        &["outlook.com", "hotmail.com", "office365.us", "mx.microsoft"],
    ),
    (Provider::Yahoo, "yahoo", &["yahoodns.net", "yahoo.com"]),
    (Provider::Apple, "apple", &["icloud.com", "apple.com"]),
    (
        Provider::United,
        "gmx",
        &[
            "gmx.net",
            "web.de",
            "mail.com",
            "kundenserver.de",
            "ionos.com",
        ],
    ),
    (Provider::Telekom, "telekom", &["t-online.de"]),
    (Provider::Orange, "orange", &["orange.fr"]),
    (Provider::Ovh, "ovh", &["ovh.net"]),
    (Provider::Proton, "proton", &["protonmail.ch"]),
    (Provider::Fastmail, "fastmail", &["messagingengine.com"]),
    (Provider::Zoho, "zoho", &["zoho.com", "zoho.eu", "zoho.in"]),
    (Provider::Yandex, "yandex", &["yandex.ru", "yandex.net"]),
    (Provider::Vk, "mail.ru", &["mail.ru"]),
    (Provider::Tencent, "qq", &["qq.com"]),
    (
        Provider::NetEase,
        "netease",
        &["163.com", "126.com", "netease.com"],
    ),
    (Provider::Comcast, "comcast", &["comcast.net"]),
    (Provider::Here, "here", &[]),
    (Provider::Other, "other", &[]),
];

impl Provider {
    /// Variants, for tables that have a place for each.
    pub const COUNT: usize = Self::Other as usize + 1;

    /// The provider of a mail host, recognized by the end of its name.
    pub fn of_host(host: &str) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_under = |end: &&str| {
            let front = host.strip_suffix(*end);
            front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        let mut all = ALL.iter();
        all.find(|(_, _, ends)| ends.iter().any(is_under))
            .map_or(Self::Other, |(provider, _, _)| *provider)
    }

    /// All, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(|(provider, _, _)| *provider)
    }

    /// Its name, in small letters.
    pub fn name(self) -> &'static str {
        ALL.get(self as usize).map_or("other", |(_, name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_known_by_the_end_of_their_names() {
        for (host, name) in [
            ("gmail-smtp-in.l.google.com", "google"),
            ("ASPMX.L.GOOGLE.COM.", "google"),
            ("example-com.mail.protection.outlook.com", "microsoft"),
            ("mta5.am0.yahoodns.net", "yahoo"),
            ("mx01.mail.icloud.com", "apple"),
            ("mx00.kundenserver.de", "gmx"),
            ("notgoogle.com", "other"),
            ("google.com.example.net", "other"),
            ("", "other"),
        ] {
            assert_eq!(Provider::of_host(host).name(), name, "{host}");
        }
    }

    #[test]
    fn each_stands_at_its_number() {
        for (at, provider) in Provider::all().enumerate() {
            assert_eq!(provider as usize, at);
        }
    }
}
