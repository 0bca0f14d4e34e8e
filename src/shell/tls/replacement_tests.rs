//! A new pair that lacks a name does not take away the certificate of that name.

use super::tests::{NOW, causes, domain, files, restart, shown};
use super::*;

const NAMES: [&str; 4] = ["mail.example.com", "mta-sts.a.test", "b.test", "c.test"];

fn read<'a>(found: &'a [FoundPair], names: &'a [Domain]) -> Read<'a> {
    Read {
        found,
        names,
        ..Read::default()
    }
}

#[test]
fn a_pair_for_another_name_does_not_take_the_one_of_the_hostname_away_across_a_restart_either() {
    let hostname = domain(NAMES[0]);
    let place = tempfile::tempdir().unwrap();
    let good = [files("mail", &["mail.example.com"])];
    let mut tls = Tls::start(&good[..], &LastGood::default(), &hostname, NOW).unwrap();
    let key = tls.key_digest(&hostname, NOW);
    let wrong = [files("mail", &["b.test"])];
    for _ in 0..2 {
        tls.take(&wrong[..], &hostname, Gone::Dropped, NOW).unwrap();
        assert_eq!(shown(&tls, NAMES[0], &NAMES), Some(NAMES[0]));
        assert_eq!(shown(&tls, NAMES[2], &NAMES), Some(NAMES[2]));
        assert_eq!(tls.key_digest(&hostname, NOW), key);
        assert_eq!((tls.served(), tls.served.len()), (1, 2));
        assert_eq!(tls.left().len(), 1, "a name has one figure");
        let said = (
            "mail".to_owned(),
            CertificateCause::Lacking(vec![hostname.clone()]),
            ServedInstead::LastGood,
        );
        assert_eq!(causes(&tls), [said]);
        let kept = restart(&tls, place.path());
        tls = Tls::start(&wrong[..], &kept, &hostname, NOW).unwrap();
    }
    // Another wrong one replaces the wrong one, and one that has the name replaces all.
    let wrong = [files("mail", &["c.test"])];
    tls.take(&wrong[..], &hostname, Gone::Kept, NOW).unwrap();
    assert_eq!(shown(&tls, NAMES[2], &NAMES), Some(NAMES[0]));
    assert_eq!((tls.served(), tls.served.len()), (1, 2));
    let renewed = [files("mail", &["c.test", "mail.example.com"])];
    tls.take(&renewed[..], &hostname, Gone::Kept, NOW).unwrap();
    assert_eq!((causes(&tls), tls.served.len()), (Vec::new(), 1));
    assert_ne!(tls.key_digest(&hostname, NOW), key);
}

#[test]
fn a_name_counts_as_long_as_it_is_wanted() {
    let (hostname, published) = (domain(NAMES[0]), [domain(NAMES[1])]);
    let both = [files("a", &NAMES[..2])];
    let one = [files("a", &NAMES[..1])];
    let start =
        |names| Tls::start(read(&both, names), &LastGood::default(), &hostname, NOW).unwrap();
    let mut tls = start(&published);
    tls.take(read(&one, &published), &hostname, Gone::Kept, NOW)
        .unwrap();
    assert_eq!(shown(&tls, NAMES[1], &NAMES[1..]), Some(NAMES[1]));
    assert!(
        matches!(&causes(&tls)[..], [(_, CertificateCause::Lacking(names), _)] if *names == published)
    );
    // The domain is not served any more.
    tls.take(read(&one, &[]), &hostname, Gone::Kept, NOW)
        .unwrap();
    assert_eq!((causes(&tls), tls.served.len()), (Vec::new(), 1));
}

#[test]
fn however_pairs_come_and_go_those_of_a_folder_are_no_more_than_the_names() {
    let (hostname, published) = (domain(NAMES[0]), [domain(NAMES[1])]);
    let mut tls = Tls::start(&[][..], &LastGood::default(), &hostname, NOW).unwrap();
    for names in [
        &NAMES[..2],
        &NAMES[..1],
        &NAMES[1..2],
        &NAMES[2..],
        &NAMES[..1],
    ] {
        let found = [files("a", names)];
        tls.take(read(&found, &published), &hostname, Gone::Kept, NOW)
            .unwrap();
        assert!(tls.served.len() <= 3, "{names:?}");
        let known = shown(&tls, NAMES[0], &NAMES[..1]);
        assert_eq!(known, Some(NAMES[0]), "{names:?}");
    }
    assert_eq!(shown(&tls, NAMES[1], &NAMES[1..2]), Some(NAMES[1]));
}
