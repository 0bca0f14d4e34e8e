//! Disk, memory and clock, from the system and a time server.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use super::smtp;
use crate::address::Domain;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::machine::{ClockState, Facts, SpoolDisk, clock_offset};

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let config = &examination.config;
    let state_dir = &config.state_dir;
    Facts {
        state_dir: state_dir.display().to_string(),
        clock: clock(examination),
        disk: disk(state_dir).map_err(|error| error.to_string()),
        sync: lasting_write(state_dir).map_err(|error| error.to_string()),
        foreign_owner: foreign_owner(state_dir, &config.user),
        message_bytes_max: config.limits.message_bytes,
        memory_max: config.limits.memory_bytes,
        memory: memory(),
    }
}

fn disk(state_dir: &Path) -> std::io::Result<SpoolDisk> {
    let about = rustix::fs::statvfs(state_dir)?;
    Ok(SpoolDisk {
        free: about.f_bavail.saturating_mul(about.f_frsize),
        total: about.f_blocks.saturating_mul(about.f_frsize),
        inodes_free: about.f_favail,
        inodes: about.f_files,
    })
}

/// Writes a block to an unnamed file, and waits until the disk has it.
fn lasting_write(state_dir: &Path) -> std::io::Result<Duration> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = fs::File::from(rustix::fs::open(state_dir, flags, mode)?);
    let started = Instant::now();
    file.write_all(&[b'x'; 4096])?;
    file.sync_data()?;
    Ok(started.elapsed())
}

/// The owner of the folder, if that is not the account.
fn foreign_owner(state_dir: &Path, account: &str) -> Option<String> {
    let owner = fs::metadata(state_dir).ok()?.uid();
    // A relay that was never root runs as the user who starts it.
    let caller = rustix::process::geteuid();
    if !caller.is_root() && owner == caller.as_raw() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let entries = || {
        accounts.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            Some((name.to_owned(), uid.parse::<u32>().ok()?))
        })
    };
    let wanted = entries().find(|(name, _)| name == account)?.1;
    if owner == wanted {
        return None;
    }
    let name = entries().find(|(_, uid)| *uid == owner);
    Some(name.map_or_else(|| format!("uid {owner}"), |(name, _)| name))
}

/// The smallest limit on the relay's memory.
fn memory() -> Option<(u64, &'static str)> {
    let limit = |path: &str| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let unit = limit("/sys/fs/cgroup/system.slice/chopar.service/memory.max");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .and_then(|path| limit(&format!("/sys/fs/cgroup{path}/memory.max")));
    let container = limit("/sys/fs/cgroup/memory.max");
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        let kib: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    });
    let machine = total.map(|total| (total, "the memory of the machine"));
    let group = match unit {
        Some(unit) => Some((unit, "the limit of the unit (MemoryMax)")),
        None => own
            .into_iter()
            .chain(container)
            .min()
            .map(|limit| (limit, "the limit of the control group")),
    };
    machine
        .into_iter()
        .chain(group)
        .min_by_key(|(bytes, _)| *bytes)
}

fn clock(examination: &DoctorScope) -> ClockState {
    let unknown = match time_server(examination) {
        Ok(ahead) => return ClockState::Server(ahead),
        Err(unknown) => unknown,
    };
    // systemd-timesyncd and chrony's units keep it; see systemd-timesyncd.service(8).
    match Path::new("/run/systemd/timesync/synchronized").exists() {
        true => ClockState::System,
        false => unknown,
    }
}

fn time_server(examination: &DoctorScope) -> Result<f64, ClockState> {
    let mut unknown = ClockState::NoName(POOL.to_owned());
    let pool = Domain::parse(POOL).map_err(|_| unknown.clone())?;
    let addresses = examination.asker.addresses(&pool);
    for address in addresses.into_iter().take(TRIES) {
        match ask(address) {
            Ok(ahead) => return Ok(ahead),
            Err(error) => {
                unknown = ClockState::Nothing(format!("{address}: {}", smtp::sentence(&error)));
            }
        }
    }
    Err(unknown)
}

fn ask(address: IpAddr) -> std::io::Result<f64> {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = UdpSocket::bind(any)?;
    udp.set_read_timeout(Some(PATIENCE))?;
    udp.connect(SocketAddr::new(address, NTP_PORT))?;
    let mut question = [0; 48];
    // Version 4, a client.
    if let Some(front) = question.first_mut() {
        *front = 0x23;
    }
    let sent = now();
    udp.send(&question)?;
    let mut answer = [0; 512];
    let len = udp.recv(&mut answer)?;
    let answer = answer.get(..len).unwrap_or_default();
    clock_offset(answer, sent, now())
        .ok_or_else(|| std::io::Error::other("it does not know the time"))
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

const POOL: &str = "pool.ntp.org";
const NTP_PORT: u16 = 123;
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(1);
