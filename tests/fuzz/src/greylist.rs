use chopar::clock::{Instant, Now};
use chopar::date::Timestamp;
use chopar::limits::GREYLIST_ENTRIES_MAX;
use chopar::policy::greylist::Greylist;

/// The file of an earlier run; the first bit makes its checksum right. An accepted file is within its limit, and reads
/// back the same from the file that it is written to.
pub fn greylist(data: &[u8]) {
    let (variant, image) = super::variant(data);
    let mut image = image.to_vec();
    if variant & 1 != 0
        && let Some((body, sum)) = image.split_last_chunk_mut()
    {
        *sum = crc32fast::hash(body).to_le_bytes();
    }
    let now = Now {
        instant: Instant::from_millis(1_000),
        wall: Timestamp::from_seconds(1_790_000_000),
    };
    if let Ok(list) = Greylist::parse(&image, now) {
        assert!(list.len() <= GREYLIST_ENTRIES_MAX);
        let written = list.to_bytes();
        let again = Greylist::parse(&written, now);
        assert_eq!(again.map(|list| list.to_bytes()).ok(), Some(written));
    }
}
