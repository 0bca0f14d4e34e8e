//! The checks: the name of each, its purpose, and how much depends on it. They are in one table, so that the wording
//! stays consistent; chopar(8) lists it.

/// A group of checks with one gatherer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CheckSubject {
    /// The configuration, the daemon and its surroundings.
    Service,
    /// The names of the host and of its addresses.
    Names,
    /// The programs that listen.
    Ports,
    /// The way out.
    Outbound,
    /// The records of a domain.
    Dns,
    /// Signatures of a domain.
    Signing,
    /// Handshakes with our own ports.
    Tls,
    /// Attempts to relay through ourselves.
    Relay,
    /// Block lists.
    Reputation,
    Resolver,
    /// Disk, memory and clock.
    Machine,
    /// The rules of large receivers, derived from the other checks.
    Rules,
}

/// How much depends on a check.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Need {
    /// Mail does not arrive, or in the spam folder, or is at risk.
    Required,
    /// It makes mail safer, or life easier.
    Advised,
}

/// One check of `chopar doctor`: its name, its subject, and the effect of a failure.
#[derive(Debug, Eq, PartialEq)]
pub struct DoctorCheck {
    /// Its name, which does not change from version to version.
    pub id: &'static str,
    pub subject: CheckSubject,
    /// How much depends on it.
    pub need: Need,
    /// The title of the check, in a few words.
    pub title: &'static str,
    /// Why it matters to the mail.
    pub why: &'static str,
}

macro_rules! checks {
    ($($name:ident $id:literal $subject:ident $need:ident $title:literal $why:literal)*) => {
        $(
            #[doc = $title]
            pub static $name: DoctorCheck = DoctorCheck {
                id: $id,
                subject: CheckSubject::$subject,
                need: Need::$need,
                title: $title,
                why: $why,
            };
        )*

        /// Every check, in the order in which they are made.
        pub static ALL: &[&DoctorCheck] = &[$(&$name),*];
    };
}

checks! {
    CONFIGURATION "configuration" Service Required "configuration"
        "while there is an error, the daemon does not start, or continues with an older configuration"
    ADVICE "configuration-advice" Service Advised "configuration, in detail"
        "settings that are probably unintended, which cause missing mail later"
    DAEMON "daemon" Service Required "daemon"
        "without the daemon chopar neither sends nor receives mail"
    UNIT "unit" Service Advised "service unit"
        "after a reboot mail stops unless the system starts the daemon"
    SANDBOX "sandbox" Service Advised "sandbox of the unit"
        "limits what an attacker can reach through a fault in a program that faces the Internet"
    QUEUE_AGE "queue-age" Service Advised "oldest message in the queue"
        "messages that wait for hours indicate a next hop, or a domain, that does not accept mail"
    HOOKS "hooks" Service Required "hooks"
        "chopar defers mail while it cannot run an existing hook"
    ADMIN "admin" Service Required "the administrator's address"
        "receives mail for postmaster and abuse, and every report of damage"
    BOUNCES "bounces" Service Required "bounces of system accounts"
        "undeliverable mail of cron and other local programs returns to their accounts, which nobody reads unless it \
         goes to a person"

    HOSTNAME "hostname" Names Required "name of the host"
        "other hosts look up the name after EHLO, and reject mail from names that are not in the public DNS"
    HOSTS_FILE "hosts-file" Names Advised "/etc/hosts"
        "local programs that look up the name of the machine find a loopback address, and give that name or address \
         to others"
    PTR_NAME "ptr-name" Names Advised "reverse name is not generic"
        "spam filters treat names that are derived from the address as those of home connections"
    IPV6_ROUTE "ipv6-route" Names Required "IPv6 address and route"
        "mail to an IPv6 address is delayed or lost without a route, and mail from an IPv6 address without records is \
         rejected"

    PORT_SMTP "port-25" Ports Required "port 25"
        "other mail servers deliver only to this port"
    PORT_SUBMISSION "port-587" Ports Advised "port 587"
        "mail programs and Gmail's \"send mail as\" submit here with STARTTLS"
    PORT_SUBMISSIONS "port-465" Ports Advised "port 465"
        "mail programs submit here with TLS from the first byte"

    OUTBOUND_V4 "outbound-v4" Outbound Required "outgoing port 25 over IPv4"
        "many providers block port 25 of new servers; no mail leaves then"
    OUTBOUND_V6 "outbound-v6" Outbound Required "outgoing port 25 over IPv6"
        "an IPv6 address with blocked port 25 delays each message"
    SOURCE "outbound-source" Outbound Required "source address of outgoing mail"
        "receivers evaluate the address that they see: its reverse name and the SPF record must refer to that address"

    DNS_ADDRESS "dns-address" Dns Required "address records of the host"
        "the name of the host must lead to its address: large receivers compare it with the address that they see"
    DNS_PTR "dns-ptr" Dns Required "reverse name of the address"
        "the address must lead back to the name: large receivers reject mail without it"
    DNS_MX "dns-mx" Dns Required "MX record of the domain"
        "says where mail for the domain goes"
    DNS_SPF "dns-spf" Dns Required "SPF record of the domain"
        "says which hosts may send for the domain"
    DNS_SPF_HELO "dns-spf-helo" Dns Advised "SPF record of the host"
        "bounces have no sender, so receivers evaluate the name of the host"
    DNS_DKIM "dns-dkim" Dns Required "public DKIM key"
        "receivers cannot verify a signature if its key is missing from the DNS or differs"
    DNS_DMARC "dns-dmarc" Dns Required "DMARC record of the domain"
        "says what receivers do with forged mail in the domain's name; Gmail and Yahoo require one"
    DNS_DMARC_REPORTS "dns-dmarc-reports" Dns Advised "permission to send DMARC reports to another domain"
        "without it receivers send no reports to an address of another domain"
    DNS_TLS_REPORTS "dns-tls-reports" Dns Advised "address for TLS reports"
        "other hosts report mail that they could not deliver over TLS"
    DNS_SUBMISSION "dns-submission" Dns Advised "records for mail programs"
        "mail programs find server and port automatically"
    DNS_TLSA "dns-tlsa" Dns Advised "TLSA record of port 25"
        "hosts that use DANE do not deliver if the certificate differs from the record"
    DNS_WEB "dns-web" Dns Advised "names of the HTTPS services"
        "senders find the MTA-STS policy of the domain there, and mail programs its settings"
    SPF "spf" Dns Required "SPF for mail of the domain"
        "the result that a receiver gets when it compares the address with the policy of the sender's domain"
    SPF_HELO "spf-helo" Dns Advised "SPF for the name of the host"
        "the result that a receiver gets for bounces, and for the name after EHLO"
    DMARC_RUA "dmarc-rua" Dns Advised "DMARC reports arrive"
        "if reports bounce, you do not learn who sends in the name of the domain"

    DKIM_KEY "dkim-key" Signing Required "DKIM keys of the domain"
        "large receivers put unsigned mail into the spam folder"
    DKIM_SIGNATURE "dkim-signature" Signing Required "a signature made now"
        "the result that a receiver gets when it verifies mail with the key in the DNS"
    DMARC "dmarc" Signing Required "DMARC of a message made now"
        "SPF or a signature must pass for the domain that the reader sees in From"

    TLS_HANDSHAKE "tls-handshake" Tls Required "TLS handshake"
        "without TLS, passwords and mail are sent in clear; the handshake shows that key and certificate match"
    TLS_CHAIN "tls-chain" Tls Required "certificate is verified"
        "mail programs and Gmail's \"send mail as\" reject a certificate that no known authority has signed"
    TLS_NAME "tls-name" Tls Required "name in the certificate"
        "clients reject a certificate for a name other than the one they connect to"
    TLS_DAYS "tls-days" Tls Required "expiry of the certificate"
        "after the expiry, mail programs no longer connect, and some hosts no longer deliver"
    TLS_VERSIONS "tls-versions" Tls Required "versions of TLS"
        "other hosts use TLS 1.2 and 1.3; TLS 1.0 and 1.1 are insecure (RFC 8996)"
    STARTTLS "starttls" Tls Required "STARTTLS is offered"
        "without it mail is sent in clear"
    AUTH "auth" Tls Required "AUTH is offered over TLS"
        "without it users cannot log in"
    AUTH_CLEAR "auth-clear" Tls Required "no AUTH in clear or on port 25"
        "passwords would be sent in clear, and attackers could guess them on port 25"
    RELAY "relay" Relay Required "relay attempts are rejected"
        "spammers find an open relay within hours, and receivers then block it"

    DNSBL "dnsbl" Reputation Required "block list"
        "receivers that use the list reject mail from the address"

    RESOLVER "resolver" Resolver Required "resolver answers"
        "chopar cannot deliver or verify mail without the DNS"
    RESOLVER_DNSSEC "resolver-dnssec" Resolver Advised "resolver validates DNSSEC"
        "without DNSSEC the DNS can be forged about where mail goes, and DANE is not used"
    RESOLVER_PLACE "resolver-place" Resolver Advised "location of the resolver"
        "block lists do not answer large public resolvers, and without answers they offer no protection"

    CLOCK "clock" Machine Advised "clock"
        "a wrong clock makes signatures, certificates and Date wrong"
    DISK_SPACE "disk-space" Machine Required "free space of the spool"
        "chopar rejects mail with 452 when the disk is full"
    DISK_INODES "disk-inodes" Machine Required "free inodes of the spool"
        "without free inodes chopar cannot create files, however much space is free"
    SPOOL "spool" Machine Required "spool is writable"
        "chopar rejects mail while it cannot write there"
    DISK_SYNC "disk-sync" Machine Advised "time of a synced write"
        "each message waits for it before chopar accepts it"
    MEMORY "memory" Machine Required "memory"
        "the kernel ends the daemon when it uses more than is available"

    GMAIL "rules-gmail" Rules Advised "Gmail asks for"
        "Google defers or rejects mail that does not meet its rules for senders"
    YAHOO "rules-yahoo" Rules Advised "Yahoo asks for"
        "Yahoo defers or rejects mail that does not meet its rules for senders"
    OUTLOOK "rules-outlook" Rules Advised "Outlook asks for"
        "Microsoft rejects mail to outlook.com, hotmail.com and live.com that does not meet its rules for senders"
}
