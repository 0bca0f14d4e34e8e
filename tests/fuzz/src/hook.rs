use chopar::hook::{Fact, Hook, HookProgress, HookRequest, HookVerdict};

/// Output of a hook's helper, or (odd first byte) of a compromised relay, in two pieces. Additions to a message are
/// whole header fields, a reply to a client is printable, and a request sets only the variables for facts.
pub fn hook(data: &[u8]) {
    let (variant, wire) = super::variant(data);
    let (front, back) = wire.split_at(usize::from(variant >> 1).min(wire.len()));
    if variant & 1 == 0 {
        return answer(front, back);
    }
    let (mut request, mut body) = (HookRequest::default(), Vec::new());
    let mut progress = request.on_bytes(front, &mut body);
    if progress == HookProgress::More {
        progress = request.on_bytes(back, &mut body);
    }
    if progress != HookProgress::Malformed {
        assert!(super::is_clean(&body), "{}", body.escape_ascii());
    }
    for (fact, value) in request.facts() {
        assert!(Fact::ALL.contains(fact) && !value.contains(['\0', '\n']));
    }
}

fn answer(front: &[u8], back: &[u8]) {
    let mut hook = Hook::new(&[], &mut Vec::new());
    let verdict = hook.on_bytes(front).or_else(|| hook.on_bytes(back));
    let printable = |text: &str| text.chars().all(chopar::escape::is_shown);
    match verdict {
        Some(HookVerdict::Accept { fields, junk }) => {
            assert!(super::is_clean(&fields));
            assert!(fields.is_empty() || !junk && fields.ends_with(b"\r\n"));
            for line in String::from_utf8(fields).expect("UTF-8").lines() {
                assert!(
                    line.starts_with([' ', '\t']) || line.contains(':'),
                    "{line}"
                );
                assert!(!line.trim().is_empty());
            }
        }
        Some(HookVerdict::Refuse { text } | HookVerdict::Defer { text }) => {
            assert!(printable(&text))
        }
        None => {}
    }
}
