//! Abuse limits for unauthenticated clients on port 25 and for clients behind a proxy: the relay with unbound, swaks,
//! and misbehaving clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::process::{PATIENCE, program, run, wait_for};
use crate::relay::{Relay, Setup};
use crate::world::free_port;

const MESSAGE: &[u8] = b"From: a@four.test\r\nTo: ann@relay.test\r\nSubject: x\r\n\r\nx\r\n";

/// A relay with these keys in `[abuse]`, and these DNS records.
fn relay(keys: &str, zone: &str) -> Relay {
    Setup {
        tables: format!("[abuse]\n{keys}\n"),
        zone: zone.to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start()
}

/// A connection from an address in 127.0.0.0/8.
fn connect_from(address: [u8; 4], port: u16) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let from = SocketAddr::new(IpAddr::from(address), 0);
    socket.bind(&from.into()).expect("an address");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(&to.into()).expect("a connection");
    Client::over(TcpStream::from(socket)).expect("a client")
}

/// A session from such an address, after the banner.
fn client_from(address: [u8; 4], port: u16) -> Client {
    let mut client = connect_from(address, port);
    assert_eq!(client.reply().code, 220);
    assert_eq!(client.say("EHLO client.test").code, 250);
    client
}

/// The reply to a first recipient.
fn recipient(client: &mut Client, to: &str) -> Reply {
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    client.say(&format!("RCPT TO:<{to}>"))
}

/// Runs swaks from an address in 127.0.0.0/8; returns its exit code and output.
fn swaks(relay: &Relay, from: &str, more: &[&str]) -> (i32, String) {
    let mut command = Command::new(program("swaks"));
    command.args(["--server", "127.0.0.1", "--local-interface", from]);
    command.args(["--port", &relay.smtp().to_string(), "--helo", "client.test"]);
    command
        .args(["--from", "a@four.test", "--to", "ann@relay.test"])
        .args(more);
    let output = run(&mut command, b"");
    (output.code, output.stdout)
}

#[test]
fn a_listed_client_is_refused_with_the_name_of_the_list() {
    let zone = "\
        2.0.0.127.bl.test. A 127.0.0.2\n\
        3.0.0.127.bl.test. A 127.0.0.9\n\
        4.0.0.127.bl.test. A 127.255.255.254\n\
        5.0.0.127.light.test. A 127.0.0.2\n\
        5.0.0.127.bl.test. A 127.0.0.2\n\
        6.0.0.127.light.test. A 127.0.0.2\n\
        1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.bl.test. A 127.0.0.2\n";
    let relay = relay(
        "dnsbl = [{ zone = \"bl.test\", weight = 2, replies = [\"127.0.0.2-4\"] }, { zone = \"light.test\" }]\n\
         dnsbl_threshold = 2",
        zone,
    );
    let (code, said) = swaks(&relay, "127.0.0.2", &[]);
    assert_ne!(code, 0, "{said}");
    assert!(
        said.contains("554 5.7.1 Your address 127.0.0.2 is listed by bl.test"),
        "{said}"
    );
    // A result outside of `replies`, an error code of the list, too little weight, and no entry.
    for last in [3, 4, 6, 7] {
        let mut client = client_from([127, 0, 0, last], relay.smtp());
        assert_eq!(recipient(&mut client, "ann@relay.test").code, 250, "{last}");
    }
    let mut client = client_from([127, 0, 0, 5], relay.smtp());
    assert_eq!(recipient(&mut client, "ann@relay.test").code, 554);
    let mut six =
        Client::open_to((std::net::Ipv6Addr::LOCALHOST, relay.smtp()).into()).expect("a client");
    assert_eq!(
        (six.reply().code, six.say("EHLO client.test").code),
        (220, 250)
    );
    assert_eq!(recipient(&mut six, "ann@relay.test").code, 554);
    relay.wait_for_log("event=dnsbl zone=bl.test reply=127.255.255.254");
    assert_eq!(relay.stats()["listed"], 3);
}

#[test]
fn received_names_the_client_only_if_its_reverse_name_leads_back() {
    let zone = "\
        2.0.0.127.in-addr.arpa. PTR host.client.test.\n\
        host.client.test. A 127.0.0.2\n\
        3.0.0.127.in-addr.arpa. PTR liar.client.test.\n\
        liar.client.test. A 127.0.0.9\n";
    let relay = relay("", zone);
    for (number, from, expected) in [
        (
            1,
            "127.0.0.2",
            "from client.test (host.client.test [127.0.0.2])",
        ),
        (2, "127.0.0.3", "from client.test ([127.0.0.3])"),
    ] {
        let (code, said) = swaks(&relay, from, &[]);
        assert_eq!(code, 0, "{said}");
        let arrived = relay.sink.wait(number)[number - 1].text();
        let unfolded = arrived.replace("\r\n\t", " ");
        assert!(unfolded.contains(expected), "{unfolded}");
    }
}

#[test]
fn greylisting_defers_a_first_attempt_and_accepts_a_second_even_after_a_restart() {
    let mut relay = relay("greylist = true\ngreylist_delay = \"2s\"", "");
    let (code, said) = swaks(&relay, "127.0.0.2", &[]);
    assert!(code != 0 && said.contains("451 4.7.1"), "{said}");
    let mut other = client_from([127, 0, 0, 3], relay.smtp());
    assert_eq!(recipient(&mut other, "bob@relay.test").code, 451);
    wait_for("the first attempt to be old enough", PATIENCE, || {
        (swaks(&relay, "127.0.0.2", &[]).0 == 0).then_some(())
    });
    assert_eq!(relay.sink.wait(1).len(), 1);
    relay.stop();
    relay.run();
    relay.wait_for_log("event=greylist entries=3");
    let mut again = client_from([127, 0, 0, 3], relay.smtp());
    assert_eq!(recipient(&mut again, "ann@relay.test").code, 250);
    assert_eq!(again.say("RCPT TO:<bob@relay.test>").code, 250);
    relay.stop();
    // A file that cannot be read counts as missing.
    let file = relay.folder().join("state/greylist");
    let mut bytes = std::fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("a file");
    relay.run();
    relay.wait_for_log("event=greylist why=\"the file is damaged\"");
    let mut anew = client_from([127, 0, 0, 3], relay.smtp());
    assert_eq!(recipient(&mut anew, "ann@relay.test").code, 451);
}

#[test]
fn a_client_that_guesses_recipients_is_disconnected_and_refused_afterwards() {
    let relay = relay("unknown_recipients = 4\ntarpit = false", "");
    for session in 0..5 {
        let mut client = client_from([127, 0, 0, 2], relay.smtp());
        for name in 0..3 {
            assert_eq!(
                recipient(&mut client, &format!("n{name}@relay.test")).code,
                550
            );
            assert_eq!(client.say("RSET").code, 250);
        }
        let last = recipient(&mut client, "last@relay.test");
        assert_eq!(last.code, 421, "{session}: {last:?}");
        assert_eq!(client.reply().code, 0, "the session goes on");
    }
    let banner = connect_from([127, 0, 0, 2], relay.smtp()).reply();
    assert!(
        banner.code == 421 && banner.text.contains("4.7.0"),
        "{banner:?}"
    );
    let mut other = client_from([127, 0, 0, 3], relay.smtp());
    assert_eq!(recipient(&mut other, "ann@relay.test").code, 250);
}

#[test]
fn connections_have_a_rate() {
    let relay = relay("connections_per_minute = 3", "");
    for _ in 0..3 {
        drop(client_from([127, 0, 0, 2], relay.smtp()));
    }
    let banner = connect_from([127, 0, 0, 2], relay.smtp()).reply();
    assert!(
        banner.code == 421 && banner.text.contains("in a minute"),
        "{banner:?}"
    );
    drop(client_from([127, 0, 1, 2], relay.smtp()));
}

#[test]
fn only_a_client_with_many_refusals_is_tarpitted() {
    let relay = relay("unknown_recipients = 0", "");
    for _ in 0..3 {
        let mut client = client_from([127, 0, 0, 2], relay.smtp());
        assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
        for _ in 0..7 {
            assert_eq!(client.say("RCPT TO:<x@four.test>").code, 550);
        }
    }
    let mut slow = connect_from([127, 0, 0, 2], relay.smtp());
    assert_eq!(slow.reply().code, 220);
    let began = Instant::now();
    assert_eq!(slow.say("EHLO client.test").code, 250);
    assert_eq!(recipient(&mut slow, "ann@relay.test").code, 250);
    let waited = began.elapsed();
    // Three replies, each delayed by half a second.
    assert!(waited >= Duration::from_millis(1_500), "{waited:?}");
    // Commands pipelined behind a delayed reply are not delayed one by one.
    slow.send(&b"RCPT TO:<x@four.test>\r\n".repeat(200));
    let said = slow.rest();
    assert!(said.ends_with("421 4.7.0 Too many errors\n"), "{said}");
    let began = Instant::now();
    let mut other = client_from([127, 0, 0, 3], relay.smtp());
    assert_eq!(recipient(&mut other, "ann@relay.test").code, 250);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(relay.stats()["slowed"].as_u64() >= Some(3));
}

/// A relay with a port for proxies that connect from 127.0.0.2.
fn behind_a_proxy() -> (Relay, u16) {
    let port = free_port();
    let relay = Setup {
        networks: "\"192.0.2.0/24\"",
        listen: format!("proxy = [\"127.0.0.1:{port}\"]\n"),
        tables: "[proxy]\nnetworks = [\"127.0.0.2\"]\n".to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    (relay, port)
}

/// A session through a proxy.
fn through(port: u16, header: &[u8]) -> Client {
    let mut client = connect_from([127, 0, 0, 2], port);
    client.send(header);
    let banner = client.reply();
    assert_eq!(banner.code, 220, "{banner:?}");
    assert_eq!(client.say("EHLO client.test").code, 250);
    client
}

#[test]
fn a_trusted_proxy_gives_the_address_of_the_client() {
    let (relay, port) = behind_a_proxy();
    let mut known = through(port, b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 25\r\n");
    assert_eq!(recipient(&mut known, "x@four.test").code, 250);
    // Version 2, in two pieces, followed by TLS.
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    binary.extend_from_slice(&[198, 51, 100, 9, 192, 0, 2, 1, 0x9C, 0x40, 0, 25, 4, 0, 0]);
    let mut client = connect_from([127, 0, 0, 2], port);
    client.send(&binary[..20]);
    assert!(!client.hears_within(Duration::from_millis(200)));
    client.send(&binary[20..]);
    assert_eq!(client.reply().code, 220);
    assert_eq!(client.say("EHLO client.test").code, 250);
    assert_eq!(client.say("STARTTLS").code, 220);
    client.start_tls();
    assert_eq!(client.say("EHLO client.test").code, 250);
    assert_eq!(recipient(&mut client, "x@four.test").code, 550);
    assert_eq!(client.say("RSET").code, 250);
    let reply = client.transaction("a@four.test", &["ann@relay.test"], MESSAGE);
    assert_eq!(reply.code, 250, "{reply:?}");
    let arrived = relay.sink.wait(1).remove(0).text();
    let unfolded = arrived.replace("\r\n\t", " ");
    assert!(
        unfolded.contains("from client.test ([198.51.100.9])"),
        "{unfolded}"
    );
    relay.wait_for_log("origin=198.51.100.9");
}

#[test]
fn swaks_speaks_both_versions_of_the_proxy_protocol() {
    let (relay, port) = behind_a_proxy();
    let mut arrived = 0;
    for (version, family, source, shown) in [
        ("1", "TCP4", "198.51.100.9", "[198.51.100.9]"),
        ("1", "TCP6", "2001:db8::9", "[IPv6:2001:db8::9]"),
        ("2", "AF_INET", "198.51.100.8", "[198.51.100.8]"),
        ("2", "AF_INET6", "2001:db8::8", "[IPv6:2001:db8::8]"),
    ] {
        let mut command = Command::new(program("swaks"));
        command.args(["--server", "127.0.0.1", "--local-interface", "127.0.0.2"]);
        command.args(["--port", &port.to_string(), "--helo", "client.test"]);
        command.args(["--from", "a@four.test", "--to", "ann@relay.test"]);
        command.args(["--proxy-version", version, "--proxy-family", family]);
        command.args(["--proxy-source", source, "--proxy-source-port", "40000"]);
        command.args(["--proxy-dest", source, "--proxy-dest-port", "25"]);
        let output = run(&mut command, b"");
        assert_eq!(output.code, 0, "{version} {family}: {}", output.stdout);
        arrived += 1;
        let text = relay.sink.wait(arrived)[arrived - 1].text();
        let from = format!("from client.test ({shown})");
        assert!(
            text.replace("\r\n\t", " ").contains(&from),
            "{from}: {text}"
        );
    }
}

#[test]
fn no_other_host_may_send_a_proxy_header() {
    let (relay, port) = behind_a_proxy();
    let header = b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 25\r\n";
    let mut client = Client::open(port).expect("a client");
    client.send(header);
    assert_eq!(client.reply().code, 554);
    let mut listed = client_from([127, 0, 0, 2], relay.smtp());
    let line = String::from_utf8_lossy(header).trim_end().to_owned();
    assert_eq!(listed.say(&line).code, 500);
    assert_eq!(recipient(&mut listed, "x@four.test").code, 550);
    let mut malformed = connect_from([127, 0, 0, 2], port);
    malformed.send(b"PROXY TCP4 192.0.2.9\r\n");
    assert_eq!(malformed.reply().code, 0);
    relay.wait_for_log("what=proxy why=\"the PROXY line is malformed\"");
}
