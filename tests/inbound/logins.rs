//! AUTH: guessed passwords, locks, and users that change during an exchange.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::engine::event::{ConnId, Event, Listener, Lost};
use ring::{digest, hmac, pbkdf2};

use crate::slow_relay::{CLIENT, Held, SlowRelay};
use crate::stage::PENCIL;

const SECOND: &str = "second:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                      wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn plain(login: &str, password: &str) -> String {
    format!(
        "AUTH PLAIN {}",
        STANDARD.encode(format!("\0{login}\0{password}"))
    )
}

#[test]
fn a_wrong_password_counts_even_if_its_session_is_gone() {
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    relay.held = Held::Workers;
    let mut derived = 0;
    for guess in 0..78 {
        let conn = relay.connect(Listener::Submissions, CLIENT);
        relay.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
        relay.stage.lose(conn, Lost::Reset);
        relay.act();
        derived += relay.works.len();
        relay.work();
    }
    assert_eq!(
        derived, 20,
        "as many as one address may try in a while are derived, and no more"
    );
    let conn = relay.connect(Listener::Submissions, CLIENT);
    let reply = relay.say(conn, &plain("pencil@example.com", "pencil"));
    assert!(
        reply.contains("4.7.0 Too many authentication failures"),
        "{reply}"
    );
    assert_eq!(relay.stage.engine.tables().jobs, 0);
    assert!(relay.logged("result=failed user=pencil@example.com peer=203.0.113.7") > 0);
}

#[test]
fn a_locked_address_does_not_lock_out_users_who_have_logged_in_from_it() {
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    let say = |relay: &mut SlowRelay, login: &str, password: &str| {
        let conn = relay.connect(Listener::Submissions, CLIENT);
        let reply = relay.say(conn, &plain(login, password));
        relay.stage.lose(conn, Lost::Reset);
        relay.act();
        reply
    };
    assert!(say(&mut relay, "pencil@example.com", "pencil").contains("235 "));
    for guess in 0..30 {
        say(&mut relay, "eve@example.com", &format!("guess{guess}"));
    }
    let refused = "4.7.0 Too many authentication failures";
    let reply = say(&mut relay, "eve@example.com", "guess");
    assert!(reply.contains(refused), "{reply}");
    // Also after the cached password has expired.
    for minutes in [0, 11] {
        relay.pass(minutes * 60);
        for _ in 0..30 {
            say(&mut relay, "eve@example.com", "guess");
        }
        let reply = say(&mut relay, "pencil@example.com", "pencil");
        assert!(reply.contains("235 "), "{reply}");
    }
    // Failures of this login lock it, but only from this address.
    for guess in 0..21 {
        say(&mut relay, "pencil@example.com", &format!("guess{guess}"));
    }
    let reply = say(&mut relay, "pencil@example.com", "pencil");
    assert!(reply.contains(refused), "{reply}");
}

#[test]
fn sessions_from_a_locked_address_are_closed_and_their_equal_log_lines_are_counted() {
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    let open: Vec<ConnId> = (0..40)
        .map(|_| relay.connect(Listener::Submissions, CLIENT))
        .collect();
    for guess in 0..20 {
        let conn = relay.connect(Listener::Submissions, CLIENT);
        relay.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
        relay.stage.lose(conn, Lost::Reset);
        relay.act();
    }
    relay.log.clear();
    for conn in open {
        // However many commands arrive at once, there is one reply.
        let many = format!("{}\r\n", plain("pencil@example.com", "pencil")).repeat(5_000);
        let reply = relay.say(conn, &many);
        assert_eq!(
            reply,
            "421 4.7.0 Too many authentication failures, try again later\r\n"
        );
        assert!(relay.closed.contains(&conn));
    }
    let throttled = "event=auth result=throttled peer=203.0.113.7";
    assert_eq!(relay.log, [throttled]);
    relay.pass(60);
    let told = format!("event=repeated times=39 line=\"{throttled}\"");
    assert!(relay.log.contains(&told), "{:?}", relay.log);
    relay.log.clear();
    relay.pass(600);
    assert!(relay.log.is_empty(), "nothing came again: {:?}", relay.log);
}

#[test]
fn waiting_guesses_from_a_locked_address_are_not_derived() {
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    relay.held = Held::Workers;
    let conns: Vec<ConnId> = (0..36)
        .map(|guess| {
            let conn = relay.connect(Listener::Submissions, CLIENT);
            relay.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
            conn
        })
        .collect();
    let mut derived = 0;
    while !relay.works.is_empty() {
        let (job, work) = relay.works.remove(0);
        let result = work.perform();
        derived += 1;
        relay.stage.handle(Event::Worked { job, result });
        relay.act();
    }
    // Guesses that workers had already begun at the lock count too.
    assert!((20..=21).contains(&derived), "{derived} were derived");
    let mut refused = 0;
    for conn in conns {
        let reply = relay.wait(conn);
        assert!(!reply.is_empty(), "each is answered");
        refused += usize::from(reply.contains("4.7.0 Too many authentication failures"));
    }
    assert_eq!(refused + derived, 36);
}

#[test]
fn a_right_password_of_a_closed_session_is_not_cached() {
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    relay.held = Held::Workers;
    for _ in 0..2 {
        let conn = relay.connect(Listener::Submissions, CLIENT);
        relay.say(conn, &plain("pencil@example.com", "pencil"));
        assert_eq!(relay.works.len(), 1, "it is derived");
        relay.stage.lose(conn, Lost::Reset);
        relay.work();
    }
    assert_eq!(relay.logged("result=ok"), 0);
    assert!(relay.logged("result=abandoned user=pencil@example.com") > 0);
}

/// Possible changes of a user's entry during an exchange.
const CHANGES: [&str; 2] = [
    "",
    "pencil:{SCRAM-SHA-256}4096,AAAAAAAAAAAAAAAAAAAAAA==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
];

#[test]
fn a_password_is_judged_by_the_users_at_the_end_of_its_derivation() {
    for users in CHANGES {
        let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
        relay.held = Held::Workers;
        let conn = relay.connect(Listener::Submissions, CLIENT);
        relay.say(conn, &plain("pencil@example.com", "pencil"));
        relay.heard.remove(&conn);
        relay.reload(&[("example.com", users)]);
        relay.work();
        let reply = relay.wait(conn);
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    // An unrelated change does no harm.
    let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
    relay.held = Held::Workers;
    let conn = relay.connect(Listener::Submissions, CLIENT);
    relay.say(conn, &plain("pencil@example.com", "pencil"));
    relay.heard.remove(&conn);
    relay.reload(&[("example.com", &format!("{PENCIL}\n{SECOND}"))]);
    relay.work();
    assert!(relay.wait(conn).starts_with("235 "));
}

/// The salt in the server's first message, and the message itself.
fn challenge(relay: &mut SlowRelay, conn: ConnId, login: &str) -> (String, String) {
    let login = login.replace('=', "=3D").replace(',', "=2C");
    let first = STANDARD.encode(format!("n,,n={login},r=client"));
    let reply = relay.say(conn, &format!("AUTH SCRAM-SHA-256 {first}"));
    let text = reply.strip_prefix("334 ").expect("a challenge").trim_end();
    let text = String::from_utf8(STANDARD.decode(text).expect("base64")).expect("ASCII");
    let salt = text.split(',').find_map(|part| part.strip_prefix("s="));
    (salt.expect("a salt").to_owned(), text)
}

/// The client's final message (RFC 5802 section 3).
fn proof(login: &str, password: &str, server_first: &str) -> String {
    let part = |key: &str| {
        let found = server_first
            .split(',')
            .find_map(|part| part.strip_prefix(key));
        found.expect("a part").to_owned()
    };
    let salt = STANDARD.decode(part("s=")).expect("base64");
    let iterations = part("i=").parse().expect("a number");
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let mac = |key: &[u8], text: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
            .as_ref()
            .to_vec()
    };
    let client_key = mac(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let bare = format!("c=biws,r={}", part("r="));
    let signed = format!("n={login},r=client,{server_first},{bare}");
    let signature = mac(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(one, other)| one ^ other)
        .collect();
    STANDARD.encode(format!("{bare},p={}", STANDARD.encode(proof)))
}

#[test]
fn an_open_scram_exchange_is_judged_by_the_users_at_its_end() {
    let login = "pencil@example.com";
    for users in [Some(""), Some(CHANGES[1]), None] {
        // The users change before the proof, or before the client's last response.
        for late in [false, true] {
            let mut relay = SlowRelay::new(&[("example.com", PENCIL)]);
            let conn = relay.connect(Listener::Submissions, CLIENT);
            let (_, first) = challenge(&mut relay, conn, login);
            let change = |relay: &mut SlowRelay| {
                if let Some(users) = users {
                    relay.reload(&[("example.com", users)]);
                }
            };
            if !late {
                change(&mut relay);
            }
            let mut reply = relay.say(conn, &proof(login, "pencil", &first));
            if late {
                assert!(reply.starts_with("334 "), "{reply}");
                change(&mut relay);
            }
            if reply.starts_with("334 ") {
                reply = relay.say(conn, "");
            }
            if reply.is_empty() {
                reply = relay.wait(conn);
            }
            let expected = users.map_or("235 ", |_| "535 5.7.8 ");
            assert!(
                reply.starts_with(expected),
                "{users:?}, late {late}: {reply}"
            );
        }
    }
}

/// Spellings of one login: case, quotes, and without the domain.
fn spellings(name: &str, domain: &str) -> Vec<String> {
    let capital = name.to_uppercase();
    vec![
        format!("{name}@{domain}"),
        format!("{capital}@{domain}"),
        format!("{name}@{}", domain.to_uppercase()),
        format!("\"{name}\"@{domain}"),
        name.to_owned(),
        capital,
    ]
}

#[test]
fn the_salt_does_not_reveal_whether_a_login_exists() {
    let both = format!("{PENCIL}\n{SECOND}");
    let mut relay = SlowRelay::new(&[
        ("example.com", PENCIL),
        ("example.net", SECOND),
        ("example.org", &both),
    ]);
    let domains = ["example.com", "example.net", "example.org"];
    let mut salts = |login: &str| {
        let conn = relay.connect(Listener::Submissions, CLIENT);
        let (salt, _) = challenge(&mut relay, conn, login);
        relay.stage.lose(conn, Lost::Eof);
        relay.act();
        salt
    };
    for name in ["pencil", "second", "nobody", "b\u{fc}cher", "nob.ody+x"] {
        let mut bare = Vec::new();
        let mut whole = Vec::new();
        for domain in domains {
            let of: Vec<String> = spellings(name, domain)
                .iter()
                .map(|login| salts(login))
                .collect();
            let (with_domain, without) = of.split_at(4);
            assert!(
                with_domain.iter().all(|salt| *salt == with_domain[0]),
                "{name}@{domain} has several salts"
            );
            whole.push(with_domain[0].clone());
            bare.extend_from_slice(without);
        }
        assert!(
            bare.iter().all(|salt| *salt == bare[0]),
            "{name} has several salts"
        );
        assert!(
            whole.contains(&bare[0]),
            "{name} has a salt that it has at no domain"
        );
    }
}
