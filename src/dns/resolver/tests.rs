//! The resolver against packets that simple-dns makes, in a world without sockets.

use simple_dns::rdata::{A, CNAME, MX, RData, SOA};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};

use proptest::prelude::*;

use super::*;
use crate::dns::Mx;
use crate::entropy::SeededEntropy;
use crate::limits::DNS_CACHE_ENTRIES_MAX;

/// A resolver with its randomness and its clock, and its last query.
struct Bench {
    resolver: Resolver,
    entropy: SeededEntropy,
    now: Instant,
}

/// A query that the resolver sent.
struct Sent {
    socket: SocketId,
    to: SocketAddr,
    bytes: Vec<u8>,
    stream: bool,
}

fn server(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 53))
}

fn question(name: &str, kind: RecordKind) -> Question {
    Question {
        name: Domain::parse(name).expect("a domain"),
        kind,
    }
}

impl Bench {
    fn new(servers: &[SocketAddr]) -> Self {
        Self {
            resolver: Resolver::new(Servers::new(servers.to_vec())),
            entropy: SeededEntropy::new(11),
            now: Instant::from_millis(1_000),
        }
    }

    fn ask(&mut self, name: &str, kind: RecordKind) -> Asked {
        self.resolver
            .ask(question(name, kind), self.now, &mut self.entropy)
    }

    /// The next query; closed sockets before it are skipped.
    fn sent(&mut self) -> Sent {
        loop {
            match self.resolver.next_action().expect("an action") {
                DnsAction::CloseSocket { .. } => {}
                DnsAction::SendDatagram { socket, to, bytes } => {
                    let stream = false;
                    return Sent {
                        socket,
                        to,
                        bytes,
                        stream,
                    };
                }
                DnsAction::ConnectStream { socket, to, bytes } => {
                    let stream = true;
                    let bytes = bytes[2..].to_vec();
                    return Sent {
                        socket,
                        to,
                        bytes,
                        stream,
                    };
                }
                DnsAction::Answered { answer, .. } => panic!("answered: {answer:?}"),
            }
        }
    }

    fn answered(&mut self) -> Answer {
        loop {
            match self.resolver.next_action().expect("an action") {
                DnsAction::CloseSocket { .. } => {}
                DnsAction::Answered { answer, .. } => return answer,
                other => panic!("not yet answered: {other:?}"),
            }
        }
    }

    fn reply(&mut self, sent: &Sent, bytes: &[u8]) {
        if sent.stream {
            let len = u16::try_from(bytes.len()).expect("short").to_be_bytes();
            for byte in [len.as_slice(), bytes].concat() {
                self.resolver
                    .on_stream_bytes(sent.socket, &[byte], self.now, &mut self.entropy);
            }
        } else {
            self.resolver
                .on_datagram(sent.socket, sent.to, bytes, self.now, &mut self.entropy);
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.resolver.expire(self.now, &mut self.entropy);
    }
}

/// A reply to `query` with the records of `fill`.
fn reply_to(query: &[u8], fill: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
    let asked = Packet::parse(query).expect("a query");
    let mut reply = Packet::new_reply(asked.id());
    reply.questions.clone_from(&asked.questions);
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    fill(&mut reply);
    reply.build_bytes_vec_compressed().expect("a reply")
}

fn record(owner: &'static str, ttl: u32, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, ttl, rdata)
}

fn a(owner: &'static str, ttl: u32, last: u8) -> ResourceRecord<'static> {
    let address = u32::from_be_bytes([198, 51, 100, last]);
    record(owner, ttl, RData::A(A { address }))
}

fn cname(owner: &'static str, to: &'static str) -> ResourceRecord<'static> {
    record(owner, 300, RData::CNAME(CNAME(Name::new_unchecked(to))))
}

fn soa(owner: &'static str, ttl: u32, minimum: u32) -> ResourceRecord<'static> {
    let data = SOA {
        mname: Name::new_unchecked("ns.example"),
        rname: Name::new_unchecked("hostmaster.example"),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum,
    };
    record(owner, ttl, RData::SOA(data))
}

fn addresses(answer: &Answer) -> Vec<Ipv4Addr> {
    match answer.records.as_deref() {
        Ok(Records::A(list)) => list.clone(),
        other => panic!("no addresses: {other:?}"),
    }
}

const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[test]
fn an_answer_is_given_once_and_then_from_memory() {
    let mut bench = Bench::new(&[server(1)]);
    let Asked::Pending(first) = bench.ask("mail.example", RecordKind::A) else {
        panic!("known already");
    };
    assert_eq!(
        bench.ask("MAIL.example.", RecordKind::A),
        Asked::Pending(first)
    );
    let sent = bench.sent();
    assert_eq!(bench.resolver.next_action(), None, "asked twice");
    let bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    bench.reply(&sent, &bytes);
    let answer = bench.answered();
    assert_eq!(addresses(&answer), [HOST]);
    assert_eq!((answer.ttl.as_secs(), answer.authentic), (60, false));
    bench.now = bench.now.after(Duration::from_secs(59));
    let Asked::Ready(answer) = bench.ask("mail.example", RecordKind::A) else {
        panic!("forgotten");
    };
    assert_eq!(answer.ttl.as_secs(), 1);
    bench.now = bench.now.after(Duration::from_secs(1));
    assert!(matches!(
        bench.ask("mail.example", RecordKind::A),
        Asked::Pending(_)
    ));
    assert_eq!(bench.resolver.counts(), (1, 0));
}

#[test]
fn spoofed_datagrams_are_ignored_and_the_true_one_is_taken() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let sent = bench.sent();
    let good = reply_to(&sent.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    let bad = reply_to(&sent.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 66))
    });
    let with = |at: usize, flip: u8| {
        let mut bytes = bad.clone();
        bytes[at] ^= flip;
        bytes
    };
    let forged = [
        with(0, 1),     // another id
        with(2, 0x80),  // a query
        with(2, 0x10),  // another operation
        with(5, 1),     // no question
        with(13, 0x20), // another case
        with(13, 0x01), // another name
        with(27, 2),    // another type
        with(29, 2),    // another class
        Vec::new(),
        vec![0; 11],
    ];
    for bytes in &forged {
        bench.reply(&sent, bytes);
    }
    let (socket, now) = (sent.socket, bench.now);
    bench
        .resolver
        .on_datagram(socket, server(9), &bad, now, &mut bench.entropy);
    let other = SocketId(999);
    bench
        .resolver
        .on_datagram(other, sent.to, &bad, now, &mut bench.entropy);
    bench
        .resolver
        .on_stream_bytes(socket, &bad, now, &mut bench.entropy);
    assert_eq!(bench.resolver.next_action(), None);
    bench.reply(&sent, &good);
    assert_eq!(addresses(&bench.answered()), [HOST]);
    bench.reply(&sent, &bad);
    assert_eq!(bench.resolver.next_action(), None);
}

#[test]
fn a_server_that_does_not_keep_the_case_is_asked_by_stream() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let sent = bench.sent();
    let mut bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    bytes[12..26].make_ascii_lowercase();
    bench.reply(&sent, &bytes);
    assert_eq!(bench.resolver.next_action(), None);
    bench.pass(Duration::from_secs(3));
    let again = bench.sent();
    assert!(again.stream && again.to == server(1));
    let mut bytes = reply_to(&again.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    bytes[12..26].make_ascii_lowercase();
    bench.reply(&again, &bytes);
    assert_eq!(addresses(&bench.answered()), [HOST]);
}

#[test]
fn silence_moves_on_to_the_next_server_for_two_rounds() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let mut seen = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let sent = bench.sent();
        seen.push(sent.to);
        ids.insert((sent.socket, sent.bytes[..2].to_vec()));
        assert_eq!(
            bench.resolver.deadline(),
            Some(bench.now.after(Duration::from_secs(3)))
        );
        bench.pass(Duration::from_secs(3));
    }
    assert_eq!(seen, [server(1), server(2), server(1), server(2)]);
    assert_eq!(ids.len(), 4);
    let answer = bench.answered();
    assert_eq!(answer.records, Err(NoRecords::Timeout));
    assert_eq!(bench.resolver.deadline(), None);
    // Remembered, but not for long.
    assert_eq!(
        bench.ask("mail.example", RecordKind::A),
        Asked::Ready(answer)
    );
    bench.pass(Duration::from_secs(5));
    assert!(matches!(
        bench.ask("mail.example", RecordKind::A),
        Asked::Pending(_)
    ));
}

#[test]
fn a_server_that_did_not_answer_is_asked_last_for_a_while() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("a.example", RecordKind::A);
    let first = bench.sent();
    bench
        .resolver
        .on_failed(first.socket, bench.now, &mut bench.entropy);
    assert_eq!(bench.sent().to, server(2));
    let _ = bench.ask("b.example", RecordKind::A);
    assert_eq!(bench.sent().to, server(2));
    bench.now = bench.now.after(DNS_SERVER_PENALTY);
    let _ = bench.ask("c.example", RecordKind::A);
    assert_eq!(bench.sent().to, server(1));
}

#[test]
fn a_question_ends_after_its_time_whatever_the_servers_do() {
    let many: Vec<SocketAddr> = (1..=8).map(server).collect();
    let mut bench = Bench::new(&many);
    let _ = bench.ask("mail.example", RecordKind::A);
    let began = bench.now;
    while let Some(deadline) = bench.resolver.deadline() {
        bench.now = deadline;
        bench.resolver.expire(deadline, &mut bench.entropy);
    }
    assert_eq!(bench.now.since(began), DNS_QUESTION_TIMEOUT);
}

#[test]
fn failures_of_servers_are_told_from_absence() {
    for code in [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented] {
        let mut bench = Bench::new(&[server(1), server(2)]);
        let _ = bench.ask("mail.example", RecordKind::A);
        for _ in 0..2 {
            let mut sent = bench.sent();
            if code == RCODE::NotImplemented {
                let bytes = reply_to(&sent.bytes, |reply| *reply.rcode_mut() = code);
                bench.reply(&sent, &bytes);
                sent = bench.sent(); // without EDNS
                assert!(Packet::parse(&sent.bytes).expect("a query").opt().is_none());
            }
            let bytes = reply_to(&sent.bytes, |reply| *reply.rcode_mut() = code);
            bench.reply(&sent, &bytes);
        }
        assert_eq!(bench.answered().records, Err(NoRecords::ServerFailure));
    }
}

#[test]
fn a_server_without_edns_is_asked_once_more_without_it() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let sent = bench.sent();
    // Only the header, as old servers answer.
    let bytes = [&sent.bytes[..2], &[0x80, 0x01], &[0; 8]].concat();
    bench.reply(&sent, &bytes);
    let again = bench.sent();
    assert_eq!(again.to, server(1));
    assert!(
        Packet::parse(&again.bytes)
            .expect("a query")
            .opt()
            .is_none()
    );
    let bytes = reply_to(&again.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    bench.reply(&again, &bytes);
    assert_eq!(addresses(&bench.answered()), [HOST]);
}

#[test]
fn lame_and_malformed_replies_are_temporary() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let sent = bench.sent();
    let lame = reply_to(&sent.bytes, |reply| {
        reply.remove_flags(PacketFlag::RECURSION_AVAILABLE);
    });
    bench.reply(&sent, &lame);
    let sent = bench.sent();
    assert_eq!(sent.to, server(2));
    let mut looped = reply_to(&sent.bytes, |reply| {
        reply.answers.push(a("mail.example", 60, 7))
    });
    let owner = looped.len() - 16;
    looped[owner..owner + 2].copy_from_slice(&[0xC0, u8::try_from(owner).expect("short")]);
    bench.reply(&sent, &looped);
    assert_eq!(bench.answered().records, Err(NoRecords::ServerFailure));
}

#[test]
fn a_truncated_reply_is_fetched_by_stream_from_the_same_server() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    let sent = bench.sent();
    let bytes = reply_to(&sent.bytes, |reply| reply.set_flags(PacketFlag::TRUNCATION));
    bench.reply(&sent, &bytes);
    let again = bench.sent();
    assert!(again.stream && again.to == server(1));
    let bytes = reply_to(&again.bytes, |reply| {
        for last in 0..=200 {
            reply.answers.push(a("mail.example", 60, last));
        }
    });
    bench.reply(&again, &bytes);
    assert_eq!(
        addresses(&bench.answered()).len(),
        crate::limits::DNS_RECORDS_MAX
    );
}

#[test]
fn a_stream_that_lies_or_breaks_moves_on() {
    let mut bench = Bench::new(&[server(1), server(2)]);
    let _ = bench.ask("mail.example", RecordKind::A);
    for _ in 0..2 {
        let sent = bench.sent();
        let bytes = reply_to(&sent.bytes, |reply| reply.set_flags(PacketFlag::TRUNCATION));
        bench.reply(&sent, &bytes);
        let again = bench.sent();
        assert!(again.stream);
        let mut bytes = reply_to(&again.bytes, |reply| {
            reply.answers.push(a("mail.example", 60, 7))
        });
        bytes[0] ^= 1;
        bench.reply(&again, &bytes);
    }
    assert_eq!(bench.answered().records, Err(NoRecords::ServerFailure));
}

#[test]
fn aliases_are_followed_within_and_out_of_the_reply() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("www.example", RecordKind::A);
    let sent = bench.sent();
    let bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(cname("b.example", "c.example"));
        reply.answers.push(cname("www.example", "b.example"));
        reply.answers.push(a("unrelated.example", 60, 66));
    });
    bench.reply(&sent, &bytes);
    let sent = bench.sent();
    let name = Packet::parse(&sent.bytes).expect("a query").questions[0]
        .qname
        .to_string();
    assert!(name.eq_ignore_ascii_case("c.example"));
    let bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(cname("c.example", "d.example"));
        reply.answers.push(a("d.example", 20, 7));
    });
    bench.reply(&sent, &bytes);
    let answer = bench.answered();
    assert_eq!(addresses(&answer), [HOST]);
    assert_eq!(answer.ttl.as_secs(), 20);
    assert!(matches!(
        bench.ask("www.example", RecordKind::A),
        Asked::Ready(_)
    ));
}

#[test]
fn aliases_in_a_circle_or_without_end_are_temporary() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("a.example", RecordKind::A);
    let sent = bench.sent();
    let bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(cname("a.example", "b.example"));
        reply.answers.push(cname("b.example", "a.example"));
    });
    bench.reply(&sent, &bytes);
    assert_eq!(bench.answered().records, Err(NoRecords::ServerFailure));

    let _ = bench.ask("x.example", RecordKind::A);
    for _ in 0..CNAME_LINKS_MAX {
        let sent = bench.sent();
        let asked = Packet::parse(&sent.bytes).expect("a query").questions[0]
            .qname
            .to_string();
        let (from, to) = if asked.eq_ignore_ascii_case("x.example") {
            ("x.example", "y.example")
        } else {
            ("y.example", "x.example")
        };
        let bytes = reply_to(&sent.bytes, |reply| reply.answers.push(cname(from, to)));
        bench.reply(&sent, &bytes);
    }
    assert_eq!(bench.answered().records, Err(NoRecords::ServerFailure));
}

#[test]
fn absence_is_believed_for_as_long_as_the_soa_says() {
    let cases = [
        (RCODE::NameError, 3_600, 60, NoRecords::NoDomain, 60),
        (RCODE::NoError, 30, 60, NoRecords::NoData, 30),
        (RCODE::NoError, 90_000, 90_000, NoRecords::NoData, 900),
    ];
    for (code, ttl, minimum, absence, seconds) in cases {
        let mut bench = Bench::new(&[server(1)]);
        let _ = bench.ask("no.example", RecordKind::Mx);
        let sent = bench.sent();
        let bytes = reply_to(&sent.bytes, |reply| {
            *reply.rcode_mut() = code;
            reply.name_servers.push(soa("example", ttl, minimum));
        });
        bench.reply(&sent, &bytes);
        let answer = bench.answered();
        assert_eq!(
            (&answer.records, answer.ttl.as_secs()),
            (&Err(absence), seconds)
        );
        assert_eq!(
            bench.ask("no.example", RecordKind::Mx),
            Asked::Ready(answer)
        );
    }
}

#[test]
fn absence_without_an_soa_is_not_remembered() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("no.example", RecordKind::Mx);
    let sent = bench.sent();
    let bytes = reply_to(&sent.bytes, |_| {});
    bench.reply(&sent, &bytes);
    assert_eq!(bench.answered().records, Err(NoRecords::NoData));
    assert!(matches!(
        bench.ask("no.example", RecordKind::Mx),
        Asked::Pending(_)
    ));
}

#[test]
fn the_ad_bit_is_believed_from_loopback_or_where_it_is_trusted() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 53));
    for (address, trust_ad, authentic) in [
        (server(1), false, false),
        (server(1), true, true),
        (loopback, false, true),
    ] {
        let mut bench = Bench::new(&[address]);
        let mut servers = Servers::new(vec![address]);
        servers.trust_ad = trust_ad;
        bench.resolver.set_servers(servers);
        let _ = bench.ask("mail.example", RecordKind::A);
        let sent = bench.sent();
        let bytes = reply_to(&sent.bytes, |reply| {
            reply.set_flags(PacketFlag::AUTHENTIC_DATA);
            reply.answers.push(a("mail.example", 60, 7));
        });
        bench.reply(&sent, &bytes);
        assert_eq!(bench.answered().authentic, authentic);
    }
}

#[test]
fn mx_records_are_read_with_the_null_one() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("example", RecordKind::Mx);
    let sent = bench.sent();
    let mx = |preference, host| {
        let exchange = Name::new_unchecked(host);
        record(
            "example",
            60,
            RData::MX(MX {
                preference,
                exchange,
            }),
        )
    };
    let bytes = reply_to(&sent.bytes, |reply| {
        reply.answers.push(mx(10, "mx.example"));
        reply.answers.push(mx(0, ""));
    });
    bench.reply(&sent, &bytes);
    let expected = Records::Mx(vec![
        Mx {
            preference: 10,
            host: Some(Domain::parse("mx.example").expect("a domain")),
        },
        Mx {
            preference: 0,
            host: None,
        },
    ]);
    assert_eq!(bench.answered().records, Ok(Arc::new(expected)));
}

/// The texts of a name that has so many of 250 octets, each beginning so, and one of SPF behind them.
fn texts_of(name: &str, start: &str, count: usize) -> Result<Arc<Records>, NoRecords> {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask(name, RecordKind::Txt);
    let sent = bench.sent();
    let question = &sent.bytes[12..sent.bytes.len() - 11];
    let answers = u16::try_from(count + 1).expect("few").to_be_bytes();
    let mut packet = [&sent.bytes[..2], &[0x81, 0x80, 0, 1]].concat();
    packet.extend_from_slice(&answers);
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(question);
    let filling = format!("{start}{}", "x".repeat(250 - start.len()));
    let texts = std::iter::repeat_n(filling.as_str(), count).chain(["v=spf1 -all"]);
    for text in texts {
        let len = u8::try_from(text.len()).expect("short");
        packet.extend_from_slice(b"\xC0\x0C\0\x10\0\x01\0\0\0\x3C\0");
        packet.extend_from_slice(&[len + 1, len]);
        packet.extend_from_slice(text.as_bytes());
    }
    bench.reply(&sent, &packet);
    bench.answered().records
}

#[test]
fn of_more_texts_than_are_of_use_those_for_a_relay_are_kept() {
    let count = |records: Result<Arc<Records>, NoRecords>| match records.as_deref() {
        Ok(Records::Txt(texts)) => {
            assert!(texts.contains(&b"v=spf1 -all".to_vec()));
            texts.len()
        }
        other => panic!("no texts: {other:?}"),
    };
    assert_eq!(count(texts_of("a.example", "site-verification=", 60)), 61);
    assert_eq!(count(texts_of("a.example", "site-verification=", 200)), 1);
    // What is all for a relay and too much of it is no answer; so are keys without end.
    for (name, start) in [("a.example", "v=spf1 "), ("s._domainkey.a.example", "p=")] {
        assert_eq!(
            texts_of(name, start, 200),
            Err(NoRecords::ServerFailure),
            "{name}"
        );
    }
}

#[test]
fn tlsa_records_are_read() {
    let mut bench = Bench::new(&[server(1)]);
    let _ = bench.ask("_25._tcp.mx.example", RecordKind::Tlsa);
    let sent = bench.sent();
    // simple-dns cannot read a TLSA question, so the reply is put together by hand.
    let question = &sent.bytes[12..sent.bytes.len() - 11];
    let header = [&sent.bytes[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    let answer = b"\xC0\x0C\0\x34\0\x01\0\0\0\x3C\0\x05\x03\x01\x01\xAB\xCD";
    bench.reply(&sent, &[&header, question, answer].concat());
    let expected = Records::Tlsa(vec![crate::dns::Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![0xAB, 0xCD],
    }]);
    assert_eq!(bench.answered().records, Ok(Arc::new(expected)));
}

#[test]
fn localhost_and_literals_are_never_asked_for() {
    let mut bench = Bench::new(&[server(1)]);
    for name in ["localhost", "relay.LocalHost"] {
        let Asked::Ready(answer) = bench.ask(name, RecordKind::A) else {
            panic!("asked");
        };
        assert_eq!(addresses(&answer), [Ipv4Addr::LOCALHOST]);
    }
    let Asked::Ready(answer) = bench.ask("[192.0.2.1]", RecordKind::Mx) else {
        panic!("asked");
    };
    assert_eq!(answer.records, Err(NoRecords::NoDomain));
    assert_eq!(bench.resolver.next_action(), None);
}

#[test]
fn tables_keep_their_ceilings() {
    let mut bench = Bench::new(&[server(1)]);
    for number in 0..DNS_QUESTIONS_MAX {
        let asked = bench.ask(&format!("h{number}.example"), RecordKind::A);
        assert!(matches!(asked, Asked::Pending(_)));
    }
    let Asked::Ready(answer) = bench.ask("one-more.example", RecordKind::A) else {
        panic!("over the ceiling");
    };
    assert_eq!(answer.records, Err(NoRecords::NoRoom));
    bench.pass(DNS_QUESTION_TIMEOUT);
    assert_eq!(bench.resolver.counts().0, 0);
    assert!(bench.resolver.by_socket.is_empty() && bench.resolver.by_question.is_empty());
    assert!(bench.resolver.counts().1 <= DNS_CACHE_ENTRIES_MAX);
}

proptest! {
    #[test]
    fn whatever_comes_the_question_is_answered_or_open(
        packets in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..20),
    ) {
        let mut bench = Bench::new(&[server(1), server(2)]);
        let _ = bench.ask("mail.example", RecordKind::Mx);
        let mut socket = None;
        for (mut bytes, patched) in packets {
            while let Some(action) = bench.resolver.next_action() {
                match action {
                    DnsAction::SendDatagram { socket: id, bytes: query, .. } => socket = Some((id, query)),
                    DnsAction::ConnectStream { socket: id, bytes: query, .. } => socket = Some((id, query[2..].to_vec())),
                    _ => {}
                }
            }
            let Some((id, query)) = &socket else { break };
            if patched {
                // Past the matching, into the reading.
                let mut matching = query[..query.len() - 11].to_vec();
                matching[2] |= 0x80;
                matching[7] = 2;
                matching[11] = 0;
                matching.append(&mut bytes);
                bytes = matching;
            }
            bench.resolver.on_datagram(*id, server(1), &bytes, bench.now, &mut bench.entropy);
            bench.resolver.on_datagram(*id, server(2), &bytes, bench.now, &mut bench.entropy);
            bench.resolver.on_stream_bytes(*id, &bytes, bench.now, &mut bench.entropy);
        }
        bench.pass(DNS_QUESTION_TIMEOUT);
        prop_assert_eq!(bench.resolver.counts().0, 0);
    }
}
