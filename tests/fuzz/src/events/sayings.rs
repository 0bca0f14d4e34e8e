//! The choices of a step: configurations, input of connections, and answers of name servers.

use chopar::config::Folder;
use chopar::engine::event::Listener;

use super::stage::query::Query;
use super::stage::{PENCIL, ROUTE};

/// Listeners that a connection may use.
pub(super) const LISTENERS: [Listener; 8] = [
    Listener::Smtp,
    Listener::Proxy,
    Listener::Submission,
    Listener::Submissions,
    Listener::Submit,
    Listener::Control,
    Listener::Status,
    Listener::Https,
];

/// Possible input of a connection.
pub(super) const WORDS: [&str; 33] = [
    "EHLO a.example\r\n",
    "MAIL FROM:<pencil@us.example>\r\nRCPT TO:<x@far.example>\r\nDATA\r\n",
    "From: pencil@us.example\r\n\r\nhello\r\n.\r\n",
    "MAIL FROM:<a@far.example>\r\nRCPT TO:<ann@us.example>\r\nDATA\r\nFrom: a@far.example\r\n\r\nx\r\n.\r\n",
    "RCPT TO:<box@us.example>\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN AHBlbmNpbEB1cy5leGFtcGxlAHBlbmNpbA==\r\n",
    "AUTH PLAIN AHBlbmNpbEB1cy5leGFtcGxlAHdyb25n\r\n",
    "RSET\r\n",
    "QUIT\r\n",
    "BDAT 5 LAST\r\nhello",
    ".\r\n",
    "220 far.example\r\n",
    "250-far.example\r\n250 PIPELINING\r\n",
    "250 ok\r\n",
    "250 ok\r\n250 ok\r\n354 go\r\n",
    "450 4.2.0 later\r\n",
    "550 5.1.1 no\r\n",
    "421 4.3.2 bye\r\n",
    "{\"do\":\"list\"}\n",
    "{\"do\":\"hold\",\"which\":\"all\"}\n{\"do\":\"release\",\"which\":\"all\"}\n",
    "{\"do\":\"flush\",\"which\":\"all\"}\n",
    "{\"do\":\"remove\",\"which\":\"all\"}\n",
    "{\"do\":\"reload\"}\n{\"do\":\"status\"}\n",
    "{\"do\":\"examine\",\"addresses\":[\"10.0.0.1\"]}\n",
    "{\"do\":\"expect\",\"recipient\":\"x@far.example\"}\n",
    "PROXY TCP4 10.0.0.9 192.0.2.1 4000 25\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.us.example\r\n\r\n",
    "EXIT 0 0\n",
    "EXIT 20 2\nno",
    "DKIM-Signature: v=1; a=ed25519-sha256; d=far.example; s=s; h=from; bh=AAAA; b=AAAA\r\n",
    "250-far.example\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
];

/// A configuration of this kind.
pub(super) fn folder(kind: u8, has_hook: bool) -> Folder {
    let sessions = [8, 64, 200][usize::from(kind % 3)];
    let route = if kind & 4 == 0 { ROUTE } else { "" };
    let toml = format!(
        "hostname = \"mx.us.example\"\nadmin = \"boss@far.example\"\ndns.servers = [\"192.0.2.53\"]\n\
         max_memory = \"8 MiB\"\nlimits.sessions = {sessions}\ndelivery.sessions = 4\n\
         listen.proxy = [\"127.0.0.1:2525\"]\nproxy.networks = [\"10.0.0.1\"]\n\
         [abuse]\ngreylist = {}\n{route}",
        kind & 8 != 0
    );
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", toml.into());
    if has_hook {
        folder.insert_file("hooks/post-data", Vec::new());
    }
    let aliases = match kind & 16 {
        0 => "ann: ann@far.example\nbox: maildir:/var/mail/box\n",
        _ => "ann: box\nbox: b@other.example, | /bin/cat\n",
    };
    folder.insert_file("domains/us.example/aliases", aliases.into());
    if kind & 32 == 0 {
        folder.insert_file("domains/us.example/users", PENCIL.into());
    }
    folder
}

/// The reply of a name server.
pub(super) fn reply(query: &[u8], how: u8) -> Vec<u8> {
    let query = Query::new(query);
    let code = [0, 0, 3, 2, 5][usize::from(how) % 5];
    let data: Option<&[u8]> = match (code, query.kind()) {
        (0, 1) => Some(&[203, 0, 113, 25]),
        (0, 12) => Some(b"\x01a\x07example\0"),
        (0, 15) => Some(b"\0\x0a\x02mx\x03far\x07example\0"),
        (0, 16) => Some(b"\x0bv=spf1 -all"),
        _ => None,
    };
    query.reply(code, data)
}
