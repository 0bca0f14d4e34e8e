use chopar::address::{Domain, Mailbox};
use chopar::auth::srs::{Rewriter, is_rewritten};
use chopar::date::Timestamp;
use chopar::limits::SRS_DAYS_MAX;

const DAY_S: u64 = 86_400;
const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A local part, used for a sender and for a recipient in our domain. A rewritten sender is restored, unless another
/// forwarder rewrote it before: then that forwarder gets the mail. Every address that is restored was rewritten here;
/// the fuzzer may see the right hash. Another secret and an altered address are refused. The first byte chooses the
/// altered place.
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
    if let Ok(ours) = Mailbox::new(text, &us)
        && let Ok(back) = rewriter.reverse(&ours, AT)
    {
        // The address of a second forwarder is accepted unchanged, in several spellings.
        assert!(
            is_rewritten(&back) || was_made(&ours, &back, &rewriter),
            "{ours}"
        );
    }
    let Ok(forwarded) = rewriter.forward(&sender, &us, AT) else {
        return;
    };
    assert!(is_rewritten(&forwarded), "{forwarded}");
    assert_eq!(forwarded.domain(), &us);
    // As it returns in RCPT.
    let Ok(read) = Mailbox::parse(forwarded.as_str()) else {
        panic!("{forwarded} cannot be written to");
    };
    let back = rewriter.reverse(&read, AT);
    match &back {
        Ok(back) if is_rewritten(&sender) => assert!(is_rewritten(back), "{back}"),
        Ok(back) => assert_eq!(back, &sender),
        // An SRS1 address without a domain inside does not say where it came from.
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

/// Whether forwarding `back` gives `ours` on a day that is not too long ago, ignoring the case of letters and the
/// character after the tag.
fn was_made(ours: &Mailbox, back: &Mailbox, rewriter: &Rewriter) -> bool {
    let behind_tag = |address: &Mailbox| {
        let local = address.local_part().trim_matches('"').to_ascii_lowercase();
        local.get(5..).map(str::to_owned)
    };
    (0..=SRS_DAYS_MAX + 1).any(|days| {
        let at = Timestamp::from_seconds(AT.seconds() + DAY_S - days * DAY_S);
        let again = rewriter.forward(back, ours.domain(), at);
        again.is_ok_and(|again| behind_tag(&again) == behind_tag(ours))
    })
}

fn rewriter(byte: u8) -> Rewriter {
    Rewriter::new(&[vec![byte; 32].into()]).expect("a secret")
}
