//! Disk, memory and clock.

use std::time::Duration;

use crate::config::quantity::size_text;
use crate::setup::doctor::checks::{
    CLOCK, DISK_INODES, DISK_SPACE, DISK_SYNC, MEMORY, RESOLVER, SPOOL,
};
use crate::setup::doctor::finding::Finding;

/// The source of the clock's offset.
#[derive(Clone, Debug, PartialEq)]
pub enum ClockState {
    /// A time server: seconds by which the clock is ahead of it.
    Server(f64),
    /// The system reports it as synchronized.
    System,
    /// No time server could be looked up.
    NoName(String),
    /// Nothing, for this reason.
    Nothing(String),
}

/// The file system of the spool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpoolDisk {
    /// Bytes that are free for others than root.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
    /// Files in all; 0 if there is no limit.
    pub inodes: u64,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The path of the spool.
    pub state_dir: String,
    pub clock: ClockState,
    /// The disk, or why it could not be looked at.
    pub disk: Result<SpoolDisk, String>,
    /// How long a write took that lasts, or why there was none.
    pub sync: Result<Duration, String>,
    /// The owner of the spool, if that is not the account of the relay.
    pub foreign_owner: Option<String>,
    /// Bytes of a message.
    pub message_bytes_max: u64,
    /// Bytes that the relay may hold.
    pub memory_max: u64,
    /// Bytes of available memory, and the limit that sets them; `None` if unknown.
    pub memory: Option<(u64, &'static str)>,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![clock(&facts.clock)];
    match &facts.disk {
        Ok(disk) => found.extend([space(facts, disk), inodes(facts, disk)]),
        Err(why) => found.extend([&DISK_SPACE, &DISK_INODES].map(|check| {
            let mend = "see the check of the spool";
            check
                .unknown(&facts.state_dir, why, mend)
                .for_want_of(&SPOOL)
        })),
    }
    found.extend([spool(facts), sync(facts), memory(facts)]);
    found
}

fn clock(clock: &ClockState) -> Finding {
    match clock {
        ClockState::Server(ahead) => {
            let seen = format!("{ahead:+.1} s from a time server");
            match ahead.abs() {
                off if off < 5.0 => CLOCK.good("", seen),
                _ => CLOCK.bad("", seen, "timedatectl set-ntp true"),
            }
        }
        ClockState::System => CLOCK.good("", "the system says that it is synchronized"),
        ClockState::NoName(pool) => CLOCK
            .unknown(
                "",
                format!("no time server to compare it with: {pool} could not be looked up"),
                "run chopar doctor again once the resolver answers",
            )
            .for_want_of(&RESOLVER),
        ClockState::Nothing(why) => CLOCK.unknown(
            "",
            format!("nothing to compare it with: {why}"),
            "compare the output of date -u with a clock; allow outgoing UDP to port 123, so that the clock can be \
             synchronized",
        ),
    }
}

fn space(facts: &Facts, disk: &SpoolDisk) -> Finding {
    let seen = format!("{} of {} free", size_text(disk.free), size_text(disk.total));
    let mend = format!(
        "df -h {0}, and make room there or move state_dir",
        facts.state_dir
    );
    let least = facts
        .message_bytes_max
        .saturating_mul(4)
        .max(SPACE_BYTES_MIN);
    if disk.free < least {
        return DISK_SPACE.bad(&facts.state_dir, seen, mend);
    }
    match disk.free < disk.total / 10 {
        true => DISK_SPACE.warning(&facts.state_dir, seen, mend),
        false => DISK_SPACE.good(&facts.state_dir, seen),
    }
}

fn inodes(facts: &Facts, disk: &SpoolDisk) -> Finding {
    if disk.inodes == 0 {
        return DISK_INODES.good(&facts.state_dir, "the file system has no limit");
    }
    let seen = format!("{} of {} free", disk.inodes_free, disk.inodes);
    let mend = format!(
        "df -i {}, and remove files that are not needed",
        facts.state_dir
    );
    if disk.inodes_free < INODES_MIN {
        return DISK_INODES.bad(&facts.state_dir, seen, mend);
    }
    match disk.inodes_free < disk.inodes / 20 {
        true => DISK_INODES.warning(&facts.state_dir, seen, mend),
        false => DISK_INODES.good(&facts.state_dir, seen),
    }
}

fn spool(facts: &Facts) -> Finding {
    if let Some(owner) = &facts.foreign_owner {
        return SPOOL.bad(
            &facts.state_dir,
            format!("it belongs to {owner}, and not to the account of the relay"),
            format!("chown -R chopar: {}", facts.state_dir),
        );
    }
    match &facts.sync {
        Ok(_) => SPOOL.good(&facts.state_dir, "a file was written there"),
        Err(why) => SPOOL.bad(
            &facts.state_dir,
            format!("nothing can be written: {why}"),
            format!(
                "mount and ls -ld {}: the account chopar must be able to write there",
                facts.state_dir
            ),
        ),
    }
}

fn sync(facts: &Facts) -> Finding {
    match &facts.sync {
        Ok(took) if *took < SYNC_MAX => DISK_SYNC.good(
            &facts.state_dir,
            format!("{:.1} ms", took.as_secs_f64() * 1e3),
        ),
        Ok(took) => DISK_SYNC.bad(
            &facts.state_dir,
            format!(
                "{:.0} ms: few messages a second can be accepted",
                took.as_secs_f64() * 1e3
            ),
            "move state_dir to a faster disk, or see what else writes to this one (iotop)",
        ),
        Err(why) => DISK_SYNC
            .unknown(&facts.state_dir, why, "see the check of the spool")
            .for_want_of(&SPOOL),
    }
}

fn memory(facts: &Facts) -> Finding {
    let Some((there, whose)) = facts.memory else {
        let mend = "set max_memory in chopar.toml to less than half of the machine's memory";
        return MEMORY.unknown("", "how much there is could not be read", mend);
    };
    let seen = format!(
        "max_memory is {}, and {whose} is {}",
        size_text(facts.memory_max),
        size_text(there)
    );
    let needed = facts.memory_max.saturating_add(PROGRAM_BYTES);
    let mend = format!(
        "set max_memory = \"{}MiB\" in chopar.toml",
        ((there / 2) >> 20)
            .saturating_sub(PROGRAM_BYTES >> 20)
            .max(8)
    );
    match needed {
        _ if needed > there => MEMORY.bad("", seen, mend),
        _ if needed > there / 2 => MEMORY.warning("", seen, mend),
        _ => MEMORY.good("", seen),
    }
}

/// How far the clock is ahead of a time server, in seconds, from an answer of SNTP (RFC 4330 section 5): its transmit
/// timestamp against the middle of the exchange, which began at `sent` and ended at `received`, in seconds since 1970.
pub fn clock_offset(answer: &[u8], sent: f64, received: f64) -> Option<f64> {
    let front = *answer.first()?;
    let stratum = *answer.get(1)?;
    let seconds = u32::from_be_bytes(answer.get(40..44)?.try_into().ok()?);
    let fraction = u32::from_be_bytes(answer.get(44..48)?.try_into().ok()?);
    // A server (mode 4) that is itself synchronized (no alarm, stratum 1 to 15).
    if front & 7 != 4 || front >> 6 == 3 || !(1..16).contains(&stratum) || seconds == 0 {
        return None;
    }
    // The seconds wrap every 136 years: the ones nearest to ours are meant.
    let middle = sent.midpoint(received);
    let era = 2f64.powi(32);
    let told = f64::from(seconds) + f64::from(fraction) / era - SECONDS_1900_TO_1970;
    let told = told + ((middle - told) / era).round() * era;
    Some(middle - told)
}

const SECONDS_1900_TO_1970: f64 = 2_208_988_800.0;
const SPACE_BYTES_MIN: u64 = 100 << 20;
const INODES_MIN: u64 = 1_000;
const SYNC_MAX: Duration = Duration::from_millis(100);
/// Memory of the program besides its buffers.
const PROGRAM_BYTES: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(front: u8, stratum: u8, seconds: u32) -> [u8; 48] {
        let mut answer = [0; 48];
        (answer[0], answer[1]) = (front, stratum);
        answer[40..44].copy_from_slice(&seconds.to_be_bytes());
        answer
    }

    #[test]
    fn the_clock_is_held_against_a_time_server() {
        // 2026-11-24T00:00:00Z
        let now = 1_795_478_400.0;
        let told = (now + SECONDS_1900_TO_1970) as u32;
        let offset = clock_offset(&answer(0x24, 2, told - 60), now - 1.0, now + 1.0);
        assert_eq!(offset, Some(60.0));
        // The era that begins in 2036.
        let later = 2f64.powi(32) - SECONDS_1900_TO_1970 + 100.0;
        let offset = clock_offset(&answer(0x24, 2, 100), later, later);
        assert_eq!(offset, Some(0.0));
        for wrong in [
            answer(0x24, 0, told),
            answer(0xe4, 2, told),
            answer(0x23, 2, told),
            answer(0x24, 2, 0),
        ] {
            assert_eq!(clock_offset(&wrong, now, now), None);
        }
        assert_eq!(clock_offset(&[0x24; 20], now, now), None);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_of_a_time_server_is_read_or_not(answer in proptest::collection::vec(0u8.., 0..100), now in 0f64..1e11) {
            if let Some(offset) = clock_offset(&answer, now, now) {
                assert!(offset.abs() <= 2f64.powi(31) + 1.0);
            }
        }
    }
}
