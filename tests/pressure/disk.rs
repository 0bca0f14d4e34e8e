//! A disk that is full, and then has space again.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cage::{MIB, caged};
use crate::process::{PATIENCE, run, wait_for};
use crate::relay::Setup;
use crate::resident::Resident;

const MESSAGE: &[u8] = b"From: a@src.test\r\nSubject: x\r\n\r\nx\r\n";

/// Mounts a small disk for the state of the relay, visible to the relay only.
const ON_A_SMALL_DISK: &str = "state=$(dirname \"$2\")/state && mkdir -p \"$state\" && \
                               mount -t tmpfs -o size=96m none \"$state\" && exec \"$0\" \"$@\"";

/// A command prefix that permits mounts, or `None` if that is impossible.
fn where_it_may_mount() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [
        &["/usr/bin/unshare", "--mount"],
        &["/usr/bin/unshare", "--user", "--map-root-user", "--mount"],
    ];
    WAYS.into_iter().find(|words| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args([
            "/bin/sh",
            "-c",
            "mount -t tmpfs none /mnt && echo mounted",
        ]);
        fs::exists(words[0]).is_ok_and(|found| found)
            && run(&mut command, b"").stdout == "mounted\n"
    })
}

#[test]
fn on_a_full_disk_new_mail_is_deferred_queued_mail_is_sent_and_free_space_is_noticed_within_a_second()
 {
    let Some(words) = where_it_may_mount() else {
        println!("a small disk cannot be mounted here: nothing is shown of a full one");
        return;
    };
    let words = words
        .iter()
        .copied()
        .chain(["/bin/sh", "-c", ON_A_SMALL_DISK]);
    let setup = Setup {
        wrapper: words.map(str::to_owned).collect(),
        ..Setup::default()
    };
    let mut relay = caged(setup, MIB);
    let take = || {
        relay
            .client()
            .transaction("a@src.test", &["later@four.test"], MESSAGE)
    };
    for _ in 0..20 {
        assert_eq!(take().code, 250);
    }
    relay.wait_for_deferred(20);

    // As another program would fill the disk.
    let filler = PathBuf::from(format!("/proc/{}/root", Resident::of(&relay).pid()))
        .join(relay.folder().strip_prefix("/").expect("a whole path"))
        .join("state/filler");
    let mut file = File::create(&filler).expect("a file");
    let full = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("a full disk");
    assert_eq!(full.raw_os_error(), Some(28), "{full}");
    let refused = wait_for("a refusal", PATIENCE, || {
        let reply = take();
        (reply.code != 250).then_some(reply)
    });
    assert!(refused.text.starts_with("452 4.3.1 "), "{refused:?}");
    let queued = relay.stats()["queued"].as_u64().expect("a number");
    let mut sendmail = relay.program("sendmail");
    let output = run(sendmail.arg("b@four.test"), MESSAGE);
    assert_eq!(output.code, 75, "{output:?}");

    // Queued mail can be delivered, and its results can be recorded.
    relay.sink.open();
    relay.flush_all();
    let queued = usize::try_from(queued).expect("a number");
    assert_eq!(relay.sink.count(), queued);
    assert_eq!(take().code, 452);

    fs::remove_file(&filler).expect("a file");
    drop(file);
    let freed = Instant::now();
    wait_for("room to be seen", PATIENCE, || {
        (take().code == 250).then_some(())
    });
    let took = freed.elapsed();
    println!(
        "a full disk: 452 4.3.1, sendmail exits 75, {queued} messages went out of it, and {took:?} after there was room \
         mail is taken again; {}",
        relay.peak()
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    relay.sink.wait(queued + 1);
    // Delivery results survive a kill: nothing arrives twice.
    relay.wait_for_empty_queue(PATIENCE);
    assert!(relay.is_alive());
}
