use chopar::address::{Domain, Mailbox};
use chopar::auth::srs::{Rewriter, is_rewritten};
use chopar::date::Timestamp;

const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A local part, which is of a sender, and of a recipient of ours. A sender that is rewritten comes back, unless it was
/// rewritten before: then the first forwarder gets it. Nobody else can make or alter an address that is undone. The
/// first byte is the place that is altered, and by what.
pub fn srs(data: &[u8]) {
    let (variant, text) = super::variant(data);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let rewriter = rewriter(b'a');
    let domain = |text| Domain::parse(text).expect("a domain");
    let us = domain("us.test");
    let Ok(sender) = Mailbox::new(text, &domain("source.test")) else {
        return;
    };
    if let Ok(ours) = Mailbox::new(text, &us) {
        assert!(
            rewriter.reverse(&ours, AT).is_err(),
            "{ours} was not made here"
        );
    }
    let Ok(forwarded) = rewriter.forward(&sender, &us, AT) else {
        return;
    };
    assert!(is_rewritten(&forwarded), "{forwarded}");
    assert_eq!(forwarded.domain(), &us);
    // As it comes back in RCPT.
    let Ok(read) = Mailbox::parse(forwarded.as_str()) else {
        panic!("{forwarded} cannot be written to");
    };
    let back = rewriter.reverse(&read, AT);
    match &back {
        Ok(back) if is_rewritten(&sender) => assert!(is_rewritten(back), "{back}"),
        Ok(back) => assert_eq!(back, &sender),
        // Of SRS1 that has no domain inside, nobody knows where it came from.
        Err(error) => assert!(is_rewritten(&sender), "{forwarded}: {error}"),
    }
    assert!(self::rewriter(b'b').reverse(&read, AT).is_err());
    let mut altered = forwarded.local_part().to_owned().into_bytes();
    let at = usize::from(variant) % altered.len();
    altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
    let altered = String::from_utf8(altered).unwrap_or_default();
    if let Ok(altered) = Mailbox::new(&altered, &us)
        && !altered.is_same(&forwarded)
    {
        assert!(rewriter.reverse(&altered, AT).is_err(), "{altered}");
    }
}

fn rewriter(byte: u8) -> Rewriter {
    Rewriter::new(&[vec![byte; 32].into()]).expect("a secret")
}
