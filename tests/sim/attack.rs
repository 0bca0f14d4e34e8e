//! An attacker who knows the limits exhausts memory, sessions and DNS queries, from one network and from many.
//! Meanwhile local programs submit, an honest client sends mail for a local mailbox, and queued mail is sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::engine::event::{Event, Listener, Peer, Reloaded};

use crate::disk::Sabotage;
use crate::messages::ClientMessage;
use crate::unauthenticated_clients::honest_message;
use crate::world::{End, Faults, Happening, World, config_with};

/// The resource that the attacker exhausts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Attack {
    /// Sessions that stay open in silence.
    Sessions,
    /// Bodies without an end.
    Bodies,
    /// Headers without an end.
    Headers,
    /// Recipients, each followed by long names.
    Recipients,
    /// Messages whose signatures name domains that no name server answers for.
    Questions,
}

const ATTACKS: [Attack; 5] = [
    Attack::Sessions,
    Attack::Bodies,
    Attack::Headers,
    Attack::Recipients,
    Attack::Questions,
];

/// Connections of one attack in a second.
const STROKES: u64 = 5;
/// Duration of the attack.
const SECONDS: u64 = 30;
/// Time limit for the acknowledgement of an honest message.
const PATIENCE: Duration = Duration::from_secs(5);

/// The input of an attacker, piece by piece.
fn script(attack: Attack, number: u64) -> Vec<Vec<u8>> {
    let begin = "MAIL FROM:<x@far.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n";
    let mut said = vec![b"EHLO client.far.example\r\n".to_vec()];
    let long = "x".repeat(900);
    match attack {
        Attack::Sessions => {}
        Attack::Bodies => {
            said.push(begin.into());
            said.push(b"From: x@far.example\r\n\r\n".to_vec());
            said.push(b"and so on and so on and so on\r\n".repeat(7_000));
        }
        Attack::Headers => {
            said.push(begin.into());
            said.push(format!("X-And-So-On: {long}\r\n").repeat(200).into());
        }
        Attack::Recipients => {
            said.push(b"MAIL FROM:<x@far.example>\r\n".to_vec());
            let original = &long[..400];
            let named = |at| {
                format!(
                    "RCPT TO:<ann+{at}@home.example> ORCPT=rfc822;{original}{at}@far.example\r\n"
                )
            };
            said.extend((0..20).map(|part| {
                (part * 50..part * 50 + 50)
                    .map(named)
                    .collect::<String>()
                    .into()
            }));
        }
        Attack::Questions => {
            said.push(begin.into());
            let signature = |at: u64| {
                format!(
                    "DKIM-Signature: v=1; a=ed25519-sha256; d=d{at}n{number}.slow.example; s=s; h=from;\r\n \
                     bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
                )
            };
            let signatures: String = (0..10).map(signature).collect();
            said.push(format!("{signatures}From: x@reject.example\r\n\r\nx\r\n.\r\n").into());
        }
    }
    said
}

/// An address of the attacker: in a network of its own for each number if `spread`, otherwise always in the same one.
fn address(number: u64, spread: bool) -> IpAddr {
    let number = u32::try_from(number).expect("small");
    let bits = match spread {
        true => 0x0B00_0000 + (number << 16) % 0x2000_0000 + number % 251,
        false => 0x0A00_0000 + number,
    };
    Ipv4Addr::from_bits(bits).into()
}

impl World {
    /// Opens a session of an attacker, which sends its input whatever the replies are.
    pub(crate) fn strike(&mut self, address: IpAddr, said: Vec<Vec<u8>>) {
        let remote = SocketAddr::new(address, 40_000);
        let local = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 25);
        let peer = Peer::Network { remote, local };
        let Ok(conn) = self.engine.accept(Listener::Smtp, peer, self.now) else {
            return;
        };
        self.ends.insert(conn, End::Attacker);
        self.attackers += 1;
        let mut at = self.now.instant.after(Duration::from_millis(200));
        for piece in said {
            for part in piece.chunks(60_000) {
                self.plan_at(at, Happening::ToRelay(conn, part.to_vec()));
                at = at.after(Duration::from_millis(20));
            }
        }
    }
}

/// Attacks a relay with low limits while honest messages arrive each second.
fn attacked(attacks: &[Attack], spread: bool) {
    let what = format!("{attacks:?}, spread: {spread}");
    let mut world = World::empty(1, Faults::Calm, Sabotage::None);
    let head = "max_memory = \"8 MiB\"\n";
    let tables = "[limits]\nsessions = 400\n[abuse]\nptr = false\nconnections_per_minute = 0\nmessages_per_minute = 0\n\
                  recipients_per_minute = 0\ntarpit = false\n";
    world.config = config_with(head, "1 MiB", tables, false);
    let config = Arc::clone(&world.config);
    world.engine.handle(
        Event::Reloaded(Reloaded {
            config,
            conn: None,
            unchanged: Vec::new(),
        }),
        world.now,
    );
    let begun = world.now.instant;
    let mut number = 0;
    for second in 0..SECONDS {
        for _ in 0..STROKES {
            for attack in attacks {
                number += 1;
                world.strike(address(number, spread), script(*attack, number));
            }
            let next = world
                .now
                .instant
                .after(Duration::from_millis(1_000 / STROKES));
            world.run_until(next);
            world.advance_to(next);
        }
        assert!(world.engine.load().0 <= 8 << 20, "{what}");
        if second < 10 {
            continue; // the attack needs time to take effect
        }
        let known = ClientMessage::new(
            format!("known-{second}"),
            vec!["r0@d0.example".to_owned()],
            20,
            &mut chopar::entropy::SeededEntropy::new(second),
        );
        world.client(vec![known], Duration::ZERO);
        world.client(vec![honest_message(second)], Duration::ZERO);
    }
    let end = begun.after(Duration::from_secs(SECONDS)).after(PATIENCE);
    world.run_until(end);
    for second in 10..SECONDS {
        for marker in [format!("known-{second}"), format!("honest-{second}")] {
            assert!(world.ledger.is_accepted(&marker), "{what}: {marker}");
        }
    }
    // The relay delivered them during the attack, except for the last few.
    let messages = 2 * usize::try_from(SECONDS - 10).expect("small");
    assert!(
        world.tally.delivered as usize >= messages - 12,
        "{what}: {} of {messages}",
        world.tally.delivered
    );
}

#[test]
fn honest_clients_are_served_during_every_attack() {
    attacked(&[], false);
    for spread in [false, true] {
        for attack in ATTACKS {
            attacked(&[attack], spread);
        }
        attacked(&ATTACKS, spread);
    }
}
