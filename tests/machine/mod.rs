//! A whole system that a test may change: an overlay over this one, with a network, a name and processes of its own. It
//! disappears when the script ends.

use std::path::Path;
use std::process::Command;

/// The command that runs `script` there as root. `place` is an empty folder; `prepare` runs before, with the root of
/// that system as $root.
pub(crate) fn command(place: &Path, prepare: &str, script: &str) -> Command {
    let layers = format!(
        "set -e\nplace={}\nroot=$place/root\nmount --make-rprivate /\nmount -t tmpfs tmpfs $place\n\
         mkdir $place/up $place/work $root\n\
         mount -t overlay overlay -o lowerdir=/,upperdir=$place/up,workdir=$place/work $root\n\
         mount -t proc proc $root/proc\nmount --bind /dev $root/dev\n{prepare}\n\
         exec chroot $root /bin/sh -c \"$1\"\n",
        place.display()
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--net",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    command.args(["sh", "-c", &layers, "sh", script]);
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
}
