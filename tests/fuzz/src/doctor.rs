use chopar::limits::DOCTOR_REPLY_BYTES_MAX;
use chopar::setup::doctor::gather::smtp::reply;
use chopar::setup::doctor::judge::dns::report_addresses;
use chopar::setup::doctor::judge::machine::clock_offset;
use chopar::setup::doctor::judge::ports::listening;
use chopar::setup::doctor::judge::service::exposure;

/// Input of the doctor from other hosts and programs: the answer of a time server, an SMTP reply, a DMARC policy, a
/// table of the kernel, a report of systemd. The result is finite and no longer than the input.
pub fn doctor(data: &[u8]) {
    let now = 1_795_478_400.0;
    if let Some(ahead) = clock_offset(data, now, now) {
        assert!(ahead.is_finite());
    }
    let mut rest = data;
    while let Ok(reply) = reply(&mut rest) {
        let bytes: usize = reply.lines.iter().map(String::len).sum();
        // Invalid UTF-8 is replaced, by three bytes for one.
        assert!(bytes <= 3 * DOCTOR_REPLY_BYTES_MAX);
        assert!(!reply.lines.is_empty());
    }
    let text = String::from_utf8_lossy(data);
    let addresses = report_addresses(&text);
    assert!(addresses.iter().map(String::len).sum::<usize>() <= text.len());
    assert!(listening(&text).len() <= text.lines().count());
    exposure(&text);
}
