//! Name servers that are slow, silent or broken.

use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

/// A name server on the loopback interface, resolver and server of the zone at once.
struct Server {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// What it answers: flags and code, and an answer of this type.
type Answered = (u16, Option<(u16, Vec<u8>)>);

impl Server {
    fn start(answer: impl Fn(&str, u16) -> Answered + Send + 'static) -> Self {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let address = udp.local_addr().expect("an address");
        let thread = thread::spawn(move || {
            let mut packet = [0; 512];
            loop {
                let (len, client) = udp.recv_from(&mut packet).expect("a query");
                // What `drop` sends.
                if len == 0 {
                    return;
                }
                let (name, end) = question(&packet);
                let kind = u16::from_be_bytes([packet[end], packet[end + 1]]);
                let (flags, data) = answer(&name, kind);
                let mut reply = packet[..2].to_vec();
                reply.extend((ANSWER | flags).to_be_bytes());
                reply.extend([0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
                reply.extend(&packet[12..end + 4]);
                if let Some((kind, data)) = data {
                    reply.extend([0xc0, 12]);
                    reply.extend(kind.to_be_bytes());
                    reply.extend([
                        0,
                        1,
                        0,
                        0,
                        0,
                        60,
                        0,
                        u8::try_from(data.len()).expect("short"),
                    ]);
                    reply.extend(data);
                }
                udp.send_to(&reply, client).expect("sent");
            }
        });
        Self {
            address,
            thread: Some(thread),
        }
    }

    fn asker(&self) -> DnsClient {
        DnsClient::new(vec![self.address], self.address.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        udp.send_to(&[], self.address).expect("sent");
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// The name of the question in lower case, and where it ends.
fn question(packet: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while packet[at] != 0 {
        let end = at + 1 + usize::from(packet[at]);
        let label = std::str::from_utf8(&packet[at + 1..end]).expect("ASCII");
        labels.push(label.to_ascii_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

#[test]
fn a_reply_that_comes_byte_by_byte_is_waited_for_no_longer_than_one_that_does_not_come() {
    let server = Server::start(|_, _| (TRUNCATED, None));
    let listener = TcpListener::bind(server.address).expect("the same port");
    let slow = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(&[0xff, 0xff]).expect("a length");
        // Long enough to be seen, and not for ever.
        for _ in 0..200 {
            thread::sleep(Duration::from_millis(100));
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    let name = domain("a.test");
    let failed = exchange(server.address, &name, ZoneKind::A, Recursion::Desired);
    assert!(failed.expect_err("late").starts_with("over TCP: "));
    // Over UDP it was there at once.
    assert!(begun.elapsed() < ZONE_SERVER_TIMEOUT * 4);
    slow.join().expect("it ends");
}

#[test]
fn all_questions_of_an_asker_end_with_its_deadline_and_what_was_not_said_is_unknown() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let address = silent.local_addr().expect("an address");
    let begun = Instant::now();
    let asker = DnsClient::new(vec![address; 3], address.port());
    let asker = asker.until(begun + Duration::from_millis(200));
    for number in 0..20 {
        let published = asker.published(&domain(&format!("n{number}.a.test")), ZoneKind::A);
        assert!(
            matches!(published, PublishedRecords::Unknown(_)),
            "{published:?}"
        );
    }
    assert!(begun.elapsed() < ZONE_SERVER_TIMEOUT);
}

#[test]
fn an_alias_whose_target_cannot_be_looked_up_is_unknown_and_not_without_records() {
    for (code, is_known) in [(SERVFAIL, false), (NXDOMAIN, true)] {
        let server = Server::start(move |name, kind| match (name, kind) {
            ("a.test", NS) => (AUTHORITATIVE, Some((NS, wire("ns.a.test")))),
            ("ns.a.test", A) => (AUTHORITATIVE, Some((A, vec![127, 0, 0, 1]))),
            // As resolvers do that follow no alias.
            ("www.a.test", _) => (AUTHORITATIVE, Some((CNAME, wire("to.b.test")))),
            ("to.b.test", _) => (code, None),
            _ => (AUTHORITATIVE, None),
        });
        let asker = server.asker();
        let name = domain("www.a.test");
        for published in [
            asker.published(&name, ZoneKind::A),
            asker.resolved(&name, ZoneKind::A),
        ] {
            match published {
                PublishedRecords::Alias(to, values) if is_known => {
                    assert_eq!((to, values), (domain("to.b.test"), Vec::new()));
                }
                PublishedRecords::Unknown(cause) if !is_known => {
                    assert!(cause.contains("SERVFAIL"), "{cause}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
    }
}

const ANSWER: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const SERVFAIL: u16 = 2;
const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;

#[test]
fn where_no_resolver_replies_nobody_waits_for_one_again_and_else_they_are_asked() {
    let name = Domain::parse("example.com").expect("a name");
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let silent = silent.local_addr().map(|at| (silent, at)).expect("bound");
    let mute = DnsClient::new(vec![silent.1], 53);
    assert!(mute.hear(&name).iter().all(|(_, reply)| reply.is_err()));
    let started = Instant::now();
    for _ in 0..20 {
        let cause = mute.resolve(&name, ZoneKind::A).err();
        let expected = format!("the resolver {}: no answer", silent.1);
        assert_eq!(cause, Some(expected));
    }
    assert!(started.elapsed() < ZONE_SERVER_TIMEOUT);
    // A failure is a reply, and what it says is of one name.
    let failing = Server::start(|_, _| (2, None));
    let asker = DnsClient::new(vec![silent.1, failing.address], 53);
    let heard = asker.hear(&name);
    assert!(heard[0].1.is_err() && heard[1].1.is_ok());
    assert!(
        asker
            .resolve(&name, ZoneKind::A)
            .is_err_and(|cause| cause.contains("SERVFAIL"))
    );
}
