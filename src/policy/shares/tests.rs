//! Shares that are taken, passed on and given back.

use proptest::prelude::*;

use super::*;

fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(bits.into())
}

fn client(bits: u32) -> Holder {
    Holder::at(TrustLevel::Client, v4(bits))
}

fn user(name: u64) -> Holder {
    Holder::named(TrustLevel::Trusted, ShareKind::Login, name)
}

/// Takes single units until none is given.
fn drain(pool: &Pool, holder: Holder) -> Vec<ResourceShare> {
    std::iter::from_fn(|| pool.take(holder, 1).ok()).collect()
}

#[test]
fn an_address_ends_at_a_fifth_a_site_at_a_third_a_network_at_half() {
    let reach = 800 * CLIENT_EIGHTHS / 8;
    let pool = Pool::new(800);
    let one = drain(&pool, client(0x0A01_0101));
    assert_eq!(one.len() as u64, reach / 5);
    let hosts = 0..256;
    let site = hosts.map(|host| drain(&pool, client(0x0A01_0100 + host)));
    let site: Vec<_> = site.collect();
    assert!(pool.used() <= reach / 3, "{}", pool.used());
    let hosts = 0..65_536;
    let network = hosts.map(|host| drain(&pool, client(0x0A01_0000 + host)));
    let network: Vec<_> = network.collect();
    let all = pool.used();
    assert!(
        all <= reach / 2 && all >= reach / 2 - 2,
        "{all} of {reach} are the network's"
    );
    // The other half is left for another network.
    assert!(drain(&pool, client(0x0B01_0101)).len() as u64 >= reach / 10);
    drop((one, site, network));
    assert_eq!((pool.used(), pool.holders()), (0, 0));
}

#[test]
fn what_clients_hold_leaves_the_reserve_to_those_who_logged_in() {
    let pool = Pool::new(64);
    let crowd = |standing| -> Vec<_> {
        (0..1_000)
            .flat_map(|network| drain(&pool, Holder::at(standing, v4(network << 16))))
            .collect()
    };
    let clients = crowd(TrustLevel::Client);
    assert_eq!(pool.used(), 64 * CLIENT_EIGHTHS / 8);
    assert!(pool.take(client(0xFFFF_0000), 1).is_err());
    let visitors = crowd(TrustLevel::Visitor);
    assert_eq!(pool.used(), 64 * VISITOR_EIGHTHS / 8);
    let known = crowd(TrustLevel::Known);
    assert_eq!(pool.used(), 64 * KNOWN_EIGHTHS / 8);
    assert!(pool.take(user(1), 1).is_ok());
    drop((clients, visitors, known));
}

#[test]
fn what_users_hold_does_not_lower_the_ceiling_of_clients() {
    let pool = Pool::new(80);
    let held: Vec<_> = (0..30).map(|name| pool.take(user(name), 1)).collect();
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(
        pool.free(TrustLevel::Client),
        (80 * CLIENT_EIGHTHS / 8).min(50)
    );
}

#[test]
fn the_first_unit_is_granted_while_there_is_one() {
    let pool = Pool::new(4);
    let first = pool.take(client(1), 1).expect("one of four");
    assert!(pool.take(client(1), 1).is_err());
    let site = pool.take(client(0x0100_0000), 1).expect("one of three");
    let one = pool.take(user(1), 1).expect("one of two");
    let two = pool.take(user(2), 1).expect("the last one");
    assert!(pool.take(user(3), 1).is_err());
    drop((first, site, one, two));
}

#[test]
fn a_64_of_ipv6_is_one_address() {
    let pool = Pool::new(800);
    let at = |text: &str| Holder::at(TrustLevel::Client, text.parse().expect("an address"));
    let held = drain(&pool, at("2001:db8::1"));
    assert!(!held.is_empty() && pool.take(at("2001:db8::ffff:1"), 1).is_err());
    assert!(pool.take(at("2001:db8:0:1::1"), 1).is_ok());
}

#[test]
fn what_is_used_already_is_recorded_and_told() {
    let pool = Pool::new(1_000);
    let mut share = pool.charge(client(1), 0);
    assert!(!share.is_over());
    share.resize(900);
    assert!(share.is_over() && pool.used() == 900);
    share.give(890);
    assert!(!share.is_over() && pool.used() == 10);
    drop(share);
    assert_eq!((pool.used(), pool.holders()), (0, 0));
}

#[test]
fn a_share_passes_to_another_holder_only_where_there_is_room_for_it() {
    let pool = Pool::new(8);
    let held = drain(&pool, user(1));
    let mut share = pool.take(client(1), 1).expect("a first unit");
    assert_eq!(share.pass(user(1)), Err(Shortage));
    assert_eq!(
        (share.holder(), pool.used()),
        (client(1), held.len() as u64 + 1)
    );
    assert_eq!(share.pass(user(2)), Ok(()));
    assert_eq!(
        (share.holder(), pool.used()),
        (user(2), held.len() as u64 + 1)
    );
    share.charge_to(user(1));
    drop(held);
    assert_eq!((share.holder(), pool.used()), (user(1), 1));
}

proptest! {
    #[test]
    fn nobody_gets_what_is_kept_for_others_and_all_comes_back(
        capacity in 1_u64..300,
        steps in prop::collection::vec((0_u8..4, 0_u32..6, 0_u32..3, 1_u64..40), 1..400),
    ) {
        let pool = Pool::new(capacity);
        let mut given: Vec<ResourceShare> = Vec::new();
        for (standing, network, host, amount) in steps {
            let standing = TrustLevel::ALL[usize::from(standing)];
            let holder = Holder::at(standing, v4(network << 16 | host));
            let middle = given.len() / 2;
            match (pool.take(holder, amount), given.len() % 4) {
                (Ok(share), _) => given.push(share),
                (Err(_), 1) => drop(given.swap_remove(middle)),
                (Err(_), 2) => drop(given[middle].take(amount)),
                (Err(_), 3) => drop(given[middle].pass(holder)),
                (Err(_), _) => {}
            }
            prop_assert!(pool.used() <= capacity);
            let sum = |most: TrustLevel| -> u64 {
                let below = given.iter().filter(|share| share.holder().standing() <= most);
                below.map(ResourceShare::amount).sum()
            };
            for standing in [TrustLevel::Client, TrustLevel::Visitor, TrustLevel::Known] {
                prop_assert!(sum(standing) <= (capacity * standing.eighths()).div_ceil(8));
            }
            prop_assert_eq!(sum(TrustLevel::Trusted), pool.used());
        }
        given.clear();
        prop_assert_eq!((pool.used(), pool.holders()), (0, 0));
    }
}
