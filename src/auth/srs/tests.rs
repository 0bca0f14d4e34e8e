//! Return addresses there and back, with dates, wrapped, and of the first release.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

fn rewriter(secret: &str) -> Rewriter {
    Rewriter::new(&[Zeroizing::new(secret.repeat(4).into_bytes())]).expect("a secret")
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("an address")
}

fn us() -> Domain {
    Domain::parse("us.example").expect("a domain")
}

fn days(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count * DAY_S)
}

#[test]
fn a_sender_is_rewritten_once_and_found_again() {
    let rewriter = rewriter("0123");
    let sender = mailbox("ann@source.example");
    let forwarded = rewriter.forward(&sender, &us(), NOW).expect("an address");
    let text = forwarded.to_string();
    assert!(text.starts_with("SRS0="), "{text}");
    assert!(text.ends_with("=source.example=ann@us.example"), "{text}");
    assert_eq!(rewriter.reverse(&forwarded, NOW), Ok(sender));
}

#[test]
fn what_another_forwarder_made_goes_back_through_it() {
    let (first, second, third) = (rewriter("aaaa"), rewriter("bbbb"), rewriter("cccc"));
    let at = |name: &str| Domain::parse(name).expect("a domain");
    let sender = mailbox("ann@source.example");
    let one = first
        .forward(&sender, &at("one.example"), NOW)
        .expect("SRS0");
    let two = second.forward(&one, &at("two.example"), NOW).expect("SRS1");
    // Whoever rewrites it again puts SRS0 before what follows the name of the first forwarder.
    let behind_tag = one.local_part().strip_prefix("SRS0").expect("SRS0");
    assert!(
        two.as_str().starts_with("SRS1=")
            && two
                .local_part()
                .ends_with(&format!("=one.example={behind_tag}")),
        "{two}"
    );
    let three = third
        .forward(&two, &at("three.example"), NOW)
        .expect("SRS1");
    // It does not grow, and it leads to the first forwarder, not to the second.
    assert_eq!(three.as_str().len(), two.as_str().len() + 2);
    assert_eq!(third.reverse(&three, NOW), Ok(one.clone()));
    assert_eq!(second.reverse(&two, NOW), Ok(one.clone()));
    assert_eq!(first.reverse(&one, NOW), Ok(sender));
}

#[test]
fn hosts_that_change_the_case_break_nothing() {
    let rewriter = rewriter("0123");
    let forwarded = rewriter
        .forward(&mailbox("Ann.B@source.example"), &us(), NOW)
        .expect("an address");
    for text in [
        forwarded.as_str().to_ascii_lowercase(),
        forwarded.as_str().to_ascii_uppercase(),
    ] {
        let back = rewriter.reverse(&mailbox(&text), NOW).expect("ours");
        assert!(back.is_same(&mailbox("ann.b@source.example")), "{back}");
    }
}

#[test]
fn forged_expired_and_malformed_ones_are_refused() {
    let (ours, others) = (rewriter("0123"), rewriter("4567"));
    let sender = mailbox("ann@source.example");
    let forwarded = ours.forward(&sender, &us(), NOW).expect("an address");
    let reverse = |text: &str| ours.reverse(&mailbox(text), NOW);
    assert_eq!(others.reverse(&forwarded, NOW), Err(ReverseError::Forged));
    let altered = forwarded.as_str().replace("=ann@", "=bob@");
    assert_eq!(reverse(&altered), Err(ReverseError::Forged));
    let later = NOW.after(days(SRS_DAYS_MAX));
    assert!(ours.reverse(&forwarded, later).is_ok());
    let late = NOW.after(days(SRS_DAYS_MAX + 1));
    assert_eq!(ours.reverse(&forwarded, late), Err(ReverseError::Expired));
    // A clock that goes a day wrong expires nothing.
    let before = ours
        .forward(&sender, &us(), NOW.after(days(1)))
        .expect("an address");
    assert!(ours.reverse(&before, NOW).is_ok());
    assert_eq!(reverse("SRS0=x@us.example"), Err(ReverseError::Malformed));
    assert_eq!(reverse("SRS0=x=y@us.example"), Err(ReverseError::Malformed));
    assert_eq!(
        reverse("SRS0=x=YY=a.example=b@us.example"),
        Err(ReverseError::Forged)
    );
    assert_eq!(reverse("ann@us.example"), Err(ReverseError::NotRewritten));
    assert_eq!(reverse("SRS0@us.example"), Err(ReverseError::NotRewritten));
}

#[test]
fn a_secret_can_be_changed_without_losing_bounces() {
    let forwarded = rewriter("0123")
        .forward(&mailbox("ann@source.example"), &us(), NOW)
        .expect("an address");
    let secrets = ["4567", "0123"].map(|text| Zeroizing::new(text.repeat(4).into_bytes()));
    let both = Rewriter::new(&secrets).expect("secrets");
    assert!(both.reverse(&forwarded, NOW).is_ok());
    assert_eq!(
        Rewriter::new(&[Zeroizing::new(b"short".to_vec())]).err(),
        Some(SecretTooShort)
    );
}

#[test]
fn a_long_sender_is_rewritten_although_the_result_is_longer_than_a_local_part() {
    let rewriter = rewriter("0123");
    let sender = mailbox(&format!(
        "{}@a-rather-long-name.source.example",
        "x".repeat(64)
    ));
    let forwarded = rewriter.forward(&sender, &us(), NOW).expect("an address");
    assert!(forwarded.local_part().len() > 64);
    // As it comes back in RCPT.
    let read = mailbox(forwarded.as_str());
    assert_eq!(rewriter.reverse(&read, NOW), Ok(sender));
}

/// As 0.1.0 made them.
fn old(tag: &str, inner: &str) -> Mailbox {
    let key = Key::new("0123".repeat(4).as_bytes());
    mailbox(&format!("{tag}={}={inner}@us.example", key.old_hash(inner)))
}

#[test]
fn an_address_is_worth_nothing_under_another_tag_day_forwarder_or_name() {
    let rewriter = rewriter("0123");
    let forged = |text: &str, now| {
        let result = rewriter.reverse(&mailbox(text), now);
        assert_eq!(result, Err(ReverseError::Forged), "{text}");
    };
    // What a client says in MAIL: its SRS1 is none, and is rewritten as any other sender.
    let sender = mailbox("SRS1=x=DD=victim.example=bob@evil.example");
    let made = rewriter.forward(&sender, &us(), NOW).expect("an address");
    assert!(made.as_str().starts_with("SRS0="), "{made}");
    assert_eq!(rewriter.reverse(&made, NOW), Ok(sender));
    let sender = mailbox("SRS1=x=victim.example==h=tt=a.example=bob@evil.example");
    let made = rewriter.forward(&sender, &us(), NOW).expect("an address");
    let back = mailbox("SRS0=h=tt=a.example=bob@victim.example");
    assert_eq!(rewriter.reverse(&made, NOW), Ok(back));
    let (field, rest) = made.as_str()[5..].split_once('=').expect("fields");
    let (hash, day) = field.split_at(8);
    forged(&format!("SRS0={hash}={day}={rest}"), NOW);

    let made = rewriter
        .forward(&mailbox("ann@source.example"), &us(), NOW)
        .expect("an address");
    forged(&made.as_str().replace("@us.", "@them."), NOW);
    forged(&made.as_str().replace("=source.", "=other."), NOW);
    forged(&made.as_str().replacen('=', "+", 1), NOW);
    // The stamp comes again after 1,024 days, and the address does not.
    let again = NOW.after(days(1_024));
    forged(made.as_str(), again);
}

#[test]
fn an_address_that_was_wrapped_again_and_again_is_unwrapped_as_often() {
    let rewriter = rewriter("0123");
    let two = Domain::parse("two.example").expect("a domain");
    let ours = |domain: &Domain| *domain == us() || *domain == two;
    let sender = mailbox("ann@source.example");
    let first = rewriter.forward(&sender, &us(), NOW).expect("SRS0");
    // Another host wrapped ours, and its own came to us again.
    let wrapped = |inner: &Mailbox, forwarder: &Domain| {
        rewriter.forward(inner, forwarder, NOW).expect("SRS1")
    };
    let once = wrapped(&first, &two);
    let unwrap = |address: &Mailbox| rewriter.unwrap(address, ours, NOW);
    let found = unwrap(&once).expect("ours");
    assert_eq!(
        (found.sender, found.maker),
        (sender.clone(), Maker::Present)
    );
    assert_eq!(unwrap(&first).map(|found| found.sender), Ok(sender));
    // It is the same address, however often and when it is wrapped: it can be anew each day.
    let later = rewriter.forward(&first, &two, NOW.after(days(1)));
    let later = rewriter.unwrap(&later.expect("SRS1"), ours, NOW.after(days(1)));
    let ids = [unwrap(&first), unwrap(&once), later].map(|found| found.map(|found| found.id));
    assert!(ids[0].is_ok() && ids[0] == ids[1] && ids[1] == ids[2]);
    // Wrapped as another sender, which grows, as often as it has room.
    let nested = |count: usize| {
        let mut text = mailbox("a@b.c");
        for _ in 0..count {
            let day = NOW.seconds() / DAY_S;
            let hash = rewriter.keys[0].hash(&Parts {
                tag: Tag::First,
                forwarder: &us(),
                day,
                host: text.domain().as_str(),
                behind: text.local_part(),
            });
            let (host, local) = (text.domain(), text.local_part());
            text = mailbox(&format!(
                "SRS0={hash}={}={host}={local}@us.example",
                stamp(day)
            ));
        }
        text
    };
    assert!(unwrap(&nested(SRS_UNWRAPS_MAX)).is_ok());
    assert_eq!(
        unwrap(&nested(SRS_UNWRAPS_MAX + 1)),
        Err(ReverseError::Deep)
    );
    // One layer that is wrong is enough.
    let forged = mailbox("SRS0=AAAAAAAA=AA=source.example=ann@us.example");
    let around = wrapped(&forged, &two);
    assert!(matches!(
        unwrap(&around),
        Err(ReverseError::Forged | ReverseError::Malformed)
    ));
}

#[test]
fn addresses_of_the_old_release_are_honoured_for_as_long_as_they_are_dated() {
    let day = NOW.seconds() / DAY_S;
    let dated = |day: u64| old("SRS0", &format!("{}=source.example=ann", stamp(day)));
    let undated = old("SRS1", "first.example==h=tt=source.example=ann");
    let never = rewriter("0123");
    let since = rewriter("0123").honouring(NOW);
    let made = |address: &Mailbox, now| since.unwrap(address, |_| false, now);
    for address in [dated(day), dated(day - SRS_DAYS_MAX), undated.clone()] {
        assert_eq!(never.reverse(&address, NOW), Err(ReverseError::Forged));
        let found = made(&address, NOW).expect("honoured");
        assert_eq!(found.maker, Maker::Old, "{address}");
    }
    // Its hash holds under each separator and each domain of ours: one address all the same, with the same uses.
    let address = dated(day).to_string();
    let id = made(&dated(day), NOW).expect("honoured").id;
    for spelled in [
        address.replacen('=', "+", 1),
        address.replacen('=', "-", 1),
        address.replace("us.example", "other.example"),
        address.to_ascii_lowercase(),
    ] {
        let found = made(&mailbox(&spelled), NOW).expect("honoured");
        assert_eq!(found.id, id, "{spelled}");
    }
    assert_ne!(made(&dated(day - 1), NOW).expect("honoured").id, id);
    assert_eq!(
        made(&dated(day - SRS_DAYS_MAX - 1), NOW),
        Err(ReverseError::Expired)
    );
    // Nothing can have been made with a day behind that of the upgrade, and somebody may have had it made.
    let later = NOW.after(days(5));
    assert_eq!(made(&dated(day + 1), NOW), Err(ReverseError::Forged));
    assert_eq!(made(&dated(day + 3), later), Err(ReverseError::Forged));
    assert!(made(&dated(day), later).is_ok() && made(&undated, later).is_ok());
    for now in [days(SRS_DAYS_MAX + 1), days(1_024), days(4_000)].map(|span| NOW.after(span)) {
        for address in [dated(day), undated.clone()] {
            assert!(made(&address, now).is_err(), "{address}");
        }
    }
    // What this release makes is told from it.
    let present = since.forward(&mailbox("ann@source.example"), &us(), NOW);
    let present = made(&present.expect("an address"), NOW).expect("ours");
    assert_eq!(present.maker, Maker::Present);
}

#[test]
fn an_address_has_one_id_however_it_is_spelled() {
    let rewriter = rewriter("0123");
    let id = |text: &str| {
        let found = rewriter.unwrap(&mailbox(text), |_| false, NOW);
        found.expect("ours").id
    };
    let forward = |text: &str| {
        let made = rewriter.forward(&mailbox(text), &us(), NOW);
        made.expect("an address").to_string()
    };
    let one = forward("ann@source.example");
    assert_eq!(id(&one), id(&one.to_ascii_lowercase()));
    let quoted = format!(
        "\"{}\"@us.example",
        one.strip_suffix("@us.example").expect("ours")
    );
    assert_eq!(id(&one), id(&quoted));
    assert_ne!(id(&one), id(&forward("bob@source.example")));
}

mod forgeries;

proptest! {
    #[test]
    fn every_sender_comes_back(
        local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,40}",
        quoted in any::<bool>(),
        day in 0_u64..40_000,
    ) {
        let rewriter = rewriter("0123");
        let local = if quoted { format!("\"{local} x\"") } else { local };
        let sender = mailbox(&format!("{local}@source.example"));
        let at = Timestamp::from_seconds(day * DAY_S);
        let forwarded = rewriter.forward(&sender, &us(), at).expect("an address");
        prop_assert!(is_rewritten(&forwarded));
        let read = Mailbox::parse(forwarded.as_str()).expect("an address");
        prop_assert_eq!(rewriter.reverse(&read, at), Ok(sender));
    }
}
