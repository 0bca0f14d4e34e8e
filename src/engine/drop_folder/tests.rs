//! The form of a dropped file, and how a visit acts on the replies of the relay.

use std::io::Cursor;

use super::form::read_envelope;

#[test]
fn an_envelope_is_one_sender_and_at_least_one_recipient_without_controls() {
    let read = |text: &str| read_envelope(&mut Cursor::new(text.as_bytes().to_vec())).ok();
    let lines = read("chopar-drop 1\nmail from:<a@b>\nrcpt to:<c@d>\n\n");
    assert_eq!(lines.map(|lines| lines.rcpt.len()), Some(1));
    for bad in [
        "",
        "chopar-drop 2\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n\n",
        "chopar-drop 1\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nDATA\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\rDATA\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nRCPT TO:<c@d>",
        "chopar-drop 1\nOWNER 7\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n\n",
    ] {
        assert!(read(bad).is_none(), "{bad}");
    }
}
