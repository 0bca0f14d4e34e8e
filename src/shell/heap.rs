//! Gives back to the system what a crowd of connections has left of the heap.
//!
//! The malloc of glibc hands the end of its heap back whenever enough of it is free, but a single small chunk in use
//! stops it. Two kinds of chunk count as in use although they were freed: up to seven of each small size that the
//! thread keeps for itself, and those that wait to be merged with their neighbours. One of either, freed last at the
//! very end, kept 22 MiB after 3,000 TLS sessions. So, after a crowd, the thread takes all that it keeps, and as many
//! again from the low end of the heap, and frees them in the order of their addresses: it keeps the lowest, and the
//! highest go back and merge. A larger chunk that comes and goes merges what waited, and has the end handed back.
//!
//! An allocator that is not glibc's is left as it was, for then this only allocates and frees. A call takes a few
//! tenths of a millisecond. Other allocators did no better: dlmalloc (Rust; 121 KiB more binary) ends the same crowds with
//! 31 MiB, mimalloc (C; 149 KiB) with 42 MiB and begins with 10.

use std::hint::black_box;

/// Which of the chunks that a thread keeps for itself it goes on to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keeps {
    /// The lowest: for the thread whose heap it is.
    Lowest,
    /// The highest: for another thread. It has a heap of its own, which lies above that of the main thread, and keeps what
    /// the main thread had allocated and it has freed.
    Highest,
}

/// Gives back the free end of the heap, or of what this thread keeps of it.
pub(super) fn release(keeps: Keeps) {
    for _ in 0..ROUNDS {
        // First what waits, for it would be taken, and kept, in place of the low ones.
        merge();
        for bytes in KEPT_BYTES.step_by(KEPT_STEP_BYTES) {
            let mut chunks: [Vec<u8>; TAKEN] = std::array::from_fn(|_| Vec::with_capacity(bytes));
            chunks.sort_unstable_by_key(|chunk| chunk.as_ptr());
            if keeps == Keeps::Highest {
                chunks.reverse();
            }
            // An array drops its elements in their order.
            drop(black_box(chunks));
        }
    }
    merge();
}

/// Has what waits to be merged with its neighbours merged.
fn merge() {
    drop(black_box(Vec::<u8>::with_capacity(MERGING_BYTES)));
}

/// Taking one size can make the thread keep chunks that only became free by that; the next round gives these back.
const ROUNDS: usize = 3;
/// The sizes that a thread keeps chunks of: `tcache_max` of glibc's tunables.
const KEPT_BYTES: std::ops::RangeInclusive<usize> = 24..=1_032;
/// How far apart these are.
const KEPT_STEP_BYTES: usize = 16;
/// More than twice as many as it keeps of each: `tcache_count`.
const TAKEN: usize = 16;
/// What is large enough that freeing it merges all that waits (64 KiB), and small enough to be of the heap (128 KiB).
const MERGING_BYTES: usize = 100 * 1024;
