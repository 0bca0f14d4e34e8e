# The machine: a whole system without a mail server, as a temporary overlay over this one.
#
# machine.sh FOLDER CHOPAR: FOLDER has the same path on the machine. Its hosts and resolv.conf are those of the machine, and
# the script creates `machine` in it when the machine is ready. The spool is a file system of its own.
set -e
folder=$1 root=$1/root
mount --make-rprivate /
mkdir "$root" "$folder/layers"
mount -t tmpfs tmpfs "$folder/layers"
mkdir "$folder/layers/up" "$folder/layers/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layers/up,workdir=$folder/layers/work" "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$folder" "$root$folder"
cd "$root"
rm -rf usr/sbin/sendmail usr/lib/sendmail usr/bin/mailq usr/bin/newaliases etc/chopar usr/bin/chopar usr/local/bin/chopar
sed -i '/^chopar:/d' etc/passwd etc/group
touch usr/local/bin/chopar
mount --bind "$2" usr/local/bin/chopar
for file in hosts resolv.conf; do rm -f etc/$file; touch etc/$file; mount --bind "$folder/$file" etc/$file; done
mkdir -p var/lib/chopar run/systemd/system usr/local/sbin
mount -t tmpfs -o mode=755,size=1g,nr_inodes=100k tmpfs var/lib/chopar
cp "$3/systemctl" "$3/systemd-analyze" usr/local/sbin/
chmod 755 usr/local/sbin/systemctl usr/local/sbin/systemd-analyze run run/systemd run/systemd/system
ip link set lo up
touch "$folder/machine"
exec chroot "$root" sleep infinity
