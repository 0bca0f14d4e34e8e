//! The checks: what each is called, what it is for, and how much depends on it. One table, so that wording stays one voice;
//! chopar(8) lists it.

/// What is looked at together, by one gatherer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// The configuration, the daemon and its surroundings.
    Service,
    /// The names of the host and of its addresses.
    Names,
    /// Who listens.
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
    /// The resolver.
    Resolver,
    /// Disk, memory and clock.
    Machine,
    /// What large receivers ask for; follows from the others.
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

/// A check.
#[derive(Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name, which does not change from version to version.
    pub id: &'static str,
    /// With what it is looked at.
    pub subject: Subject,
    /// How much depends on it.
    pub need: Need,
    /// What is checked, in a few words.
    pub title: &'static str,
    /// Why it matters to the mail.
    pub why: &'static str,
}

macro_rules! checks {
    ($($name:ident $id:literal $subject:ident $need:ident $title:literal $why:literal)*) => {
        $(
            #[doc = $title]
            pub static $name: Check = Check {
                id: $id,
                subject: Subject::$subject,
                need: Need::$need,
                title: $title,
                why: $why,
            };
        )*

        /// All of them.
        pub static ALL: &[&Check] = &[$(&$name),*];
    };
}

checks! {
    CONFIGURATION "configuration" Service Required "configuration"
        "the daemon does not start, or goes on with an older configuration, while there is an error"
    ADVICE "configuration-advice" Service Advised "configuration, in detail"
        "what is probably not meant shows up later as mail that is missing"
    DAEMON "daemon" Service Required "daemon"
        "no mail moves while the daemon does not run"
    UNIT "unit" Service Advised "service unit"
        "after a reboot no mail moves unless the system starts the daemon"
    SANDBOX "sandbox" Service Advised "sandbox of the unit"
        "a fault in a program that faces the Internet should reach as little of the machine as can be"
    QUEUE_AGE "queue-age" Service Advised "oldest message in the queue"
        "messages that wait for hours show a next hop, or a domain, that does not take mail"
    HOOKS "hooks" Service Required "hooks"
        "mail is deferred while a hook that is there cannot be run"
    ADMIN "admin" Service Required "the administrator's address"
        "mail for postmaster and abuse, and every word about damage, goes to it"
    BOUNCES "bounces" Service Required "bounces of system accounts"
        "what cron and other programs of this machine send and cannot be delivered comes back to their accounts, which nobody \
         reads unless a person is told"

    HOSTNAME "hostname" Names Required "name of the host"
        "other hosts look up the name after EHLO, and refuse mail from names that are not in the public DNS"
    HOSTS_FILE "hosts-file" Names Advised "/etc/hosts"
        "programs of this machine that look up its own name find a loopback address, and say that name or address to others"
    PTR_NAME "ptr-name" Names Advised "reverse name is no generic one"
        "spam filters take names that are made of the address for those of home connections"
    IPV6_ROUTE "ipv6-route" Names Required "IPv6 address and route"
        "mail sent to an IPv6 address without a route is delayed or lost, and mail from one without records is refused"

    PORT_SMTP "port-25" Ports Required "port 25"
        "other mail servers deliver to this port and to no other"
    PORT_SUBMISSION "port-587" Ports Advised "port 587"
        "mail programs and Gmail's \"send mail as\" submit here with STARTTLS"
    PORT_SUBMISSIONS "port-465" Ports Advised "port 465"
        "mail programs submit here with TLS from the first byte"

    OUTBOUND_V4 "outbound-v4" Outbound Required "way out to port 25 by IPv4"
        "many providers block port 25 of new servers; no mail leaves then"
    OUTBOUND_V6 "outbound-v6" Outbound Required "way out to port 25 by IPv6"
        "an IPv6 address from which port 25 is blocked delays each message"
    SOURCE "outbound-source" Outbound Required "address that mail leaves from"
        "receivers judge the address that they see: its reverse name and the SPF record have to be about that one"

    DNS_ADDRESS "dns-address" Dns Required "address records of the host"
        "the name of the host leads to it: large receivers compare it with the address that they see"
    DNS_PTR "dns-ptr" Dns Required "reverse name of the address"
        "the address leads back to the name: large receivers refuse mail without it"
    DNS_MX "dns-mx" Dns Required "MX record of the domain"
        "it says where mail for the domain goes"
    DNS_SPF "dns-spf" Dns Required "SPF record of the domain"
        "it says which hosts may send for the domain"
    DNS_SPF_HELO "dns-spf-helo" Dns Advised "SPF record of the host"
        "bounces have no sender, and are judged by the name of the host"
    DNS_DKIM "dns-dkim" Dns Required "public DKIM key"
        "nobody can verify a signature whose key is not in the DNS, or is another one"
    DNS_DMARC "dns-dmarc" Dns Required "DMARC record of the domain"
        "it says what becomes of mail in the domain's name that is not yours; Gmail and Yahoo ask for one"
    DNS_DMARC_REPORTS "dns-dmarc-reports" Dns Advised "leave to send DMARC reports elsewhere"
        "without it no reports are sent to an address of another domain"
    DNS_TLS_REPORTS "dns-tls-reports" Dns Advised "address for TLS reports"
        "other hosts report mail that did not arrive over TLS"
    DNS_SUBMISSION "dns-submission" Dns Advised "records for mail programs"
        "mail programs find server and port by themselves"
    DNS_TLSA "dns-tlsa" Dns Advised "TLSA record of port 25"
        "hosts that use DANE refuse to deliver where the certificate is not the one that the record names"
    DNS_WEB "dns-web" Dns Advised "names of what is served over HTTPS"
        "senders find the MTA-STS policy of the domain there, and mail programs its settings"
    SPF "spf" Dns Required "SPF for mail of the domain"
        "this is what a receiver finds when it compares the address with the policy of the sender's domain"
    SPF_HELO "spf-helo" Dns Advised "SPF for the name of the host"
        "this is what a receiver finds for bounces, and for the name after EHLO"
    DMARC_RUA "dmarc-rua" Dns Advised "DMARC reports arrive"
        "reports that bounce tell nobody who sends in the name of the domain"

    DKIM_KEY "dkim-key" Signing Required "DKIM keys of the domain"
        "mail that is not signed goes to the spam folder at large receivers"
    DKIM_SIGNATURE "dkim-signature" Signing Required "a signature made now"
        "this is what a receiver finds when it verifies mail with the key in the DNS"
    DMARC "dmarc" Signing Required "DMARC of a message made now"
        "SPF or a signature has to pass for the very domain that the reader sees in From"

    TLS_HANDSHAKE "tls-handshake" Tls Required "TLS handshake"
        "passwords and mail go over the wire in clear without it; the handshake shows that key and certificate match"
    TLS_CHAIN "tls-chain" Tls Required "certificate is verified"
        "mail programs and Gmail's \"send mail as\" refuse a certificate that no known authority has signed"
    TLS_NAME "tls-name" Tls Required "name in the certificate"
        "clients refuse a certificate for another name than the one they connect to"
    TLS_DAYS "tls-days" Tls Required "certificate's end"
        "from its end on, mail programs no longer connect, and some hosts no longer deliver"
    TLS_VERSIONS "tls-versions" Tls Required "versions of TLS"
        "TLS 1.2 and 1.3 are what others speak; 1.0 and 1.1 can be broken (RFC 8996)"
    STARTTLS "starttls" Tls Required "STARTTLS is offered"
        "mail travels in clear where it is not"
    AUTH "auth" Tls Required "AUTH is offered over TLS"
        "users cannot log in where it is not"
    AUTH_CLEAR "auth-clear" Tls Required "no AUTH in clear or on port 25"
        "passwords would go over the wire where all can read them, and port 25 would be a place to guess them"
    RELAY "relay" Relay Required "relay attempts are refused"
        "a host that passes on mail of anybody is found by spammers within hours, and blocked by all"

    DNSBL "dnsbl" Reputation Required "block list"
        "receivers that use the list refuse mail from the address"

    RESOLVER "resolver" Resolver Required "resolver answers"
        "no mail can be delivered, and none be judged, without the DNS"
    RESOLVER_DNSSEC "resolver-dnssec" Resolver Advised "resolver validates"
        "without DNSSEC nobody can trust the DNS about where mail goes, and DANE is not used"
    RESOLVER_PLACE "resolver-place" Resolver Advised "place of the resolver"
        "block lists refuse to answer large public resolvers, and what they cannot answer is no protection"

    CLOCK "clock" Machine Advised "clock"
        "signatures, certificates and Date are wrong with the clock"
    DISK_SPACE "disk-space" Machine Required "free space of the spool"
        "mail is refused with 452 when the disk is full"
    DISK_INODES "disk-inodes" Machine Required "free inodes of the spool"
        "no file can be made without one, however much space is left"
    SPOOL "spool" Machine Required "spool can be written"
        "mail is refused while nothing can be written there"
    DISK_SYNC "disk-sync" Machine Advised "time of a write that lasts"
        "each message waits for it before it is accepted"
    MEMORY "memory" Machine Required "memory"
        "the kernel ends the daemon when it takes more than there is"

    GMAIL "rules-gmail" Rules Advised "Gmail asks for"
        "Google defers or refuses mail that does not meet its rules for senders"
    YAHOO "rules-yahoo" Rules Advised "Yahoo asks for"
        "Yahoo defers or refuses mail that does not meet its rules for senders"
    OUTLOOK "rules-outlook" Rules Advised "Outlook asks for"
        "Microsoft refuses mail to outlook.com, hotmail.com and live.com that does not meet its rules for senders"
}
