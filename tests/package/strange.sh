# On a machine without systemd, on which an administrator has made typical changes: diversions, links, blanks, mounts, a
# daemon started by hand. Each part begins with "==".
set -e
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
ip link set lo up
rm -rf /etc/chopar /var/lib/chopar /run/chopar /run/systemd /var/lib/man-db/auto-update
sed -i '/^chopar:/d' /etc/passwd /etc/group
for name in bsd-mailx logwatch at postfix; do dpkg --force-depends -P $name >/dev/null 2>&1 || true; done
tries() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || { echo "no: $*"; cat /root/log; exit 1; } >&2; sleep 0.1; done; }
status() { dpkg-query -W -f '${db:Status-Status}\n' chopar; }
config() {
    printf 'hostname = "mail.example.com"\nadmin = "a@example.org"\n'
    printf "state_dir = '%s' # ours\n" "$1"
    printf '[listen]\nsmtp = ["127.0.0.1:2525"]\nsubmission = []\nsubmissions = []\nstatus = []\n'
}

# A container does not have these either.
rm -f /usr/bin/systemd-sysusers /usr/bin/systemd-tmpfiles
echo == no systemd
dpkg -i /root/chopar.deb >/dev/null 2>&1
stat -c '%U %G %a' /var/lib/chopar
getent passwd chopar
dpkg -P chopar >/dev/null 2>&1
userdel chopar

echo == diverted
dpkg-divert --local --rename --divert /usr/sbin/sendmail.mine --add /usr/sbin/sendmail >/dev/null
dpkg -i /root/chopar.deb 2>&1
dpkg -P chopar >/dev/null 2>&1
dpkg-divert --local --remove --rename /usr/sbin/sendmail >/dev/null
[ ! -L /usr/sbin/sendmail ] && [ ! -L /usr/sbin/sendmail.mine ] && echo nothing is left

echo == half installed
dpkg --unpack /root/chopar.deb >/dev/null 2>&1
status
dpkg --configure chopar 2>&1
status
dpkg --unpack /root/later.deb >/dev/null 2>&1
dpkg -r chopar >/dev/null 2>&1
status

echo == started by hand
dpkg -i /root/chopar.deb >/dev/null 2>&1
mkdir -p "/srv/keys of mail" "/srv/my config/domains/example.com" "/srv/the queue"
ln -s "/srv/my config" /etc/chopar
ln -s "/srv/keys of mail" /etc/chopar/domains/example.com/dkim
config "/srv/the queue" > /etc/chopar/chopar.toml
chown chopar "/srv/the queue"
chopar run >/root/log 2>&1 & pid=$!
tries chopar queue stats
printf 'To: a@example.net\nSubject: x\n\nhi\n' | sendmail -t -f b@mail.example.com
echo "process $pid"
dpkg -i /root/later.deb 2>&1

echo == removed
echo "process $pid"
dpkg -r chopar 2>&1
kill $pid
wait $pid || true

echo == purged
echo 'chopar chopar/purge boolean true' | debconf-set-selections
dpkg -P chopar 2>&1
[ -e /etc/chopar ] || ls "/srv/my config/chopar.toml" "/srv/keys of mail" "/srv/the queue/spool"

echo == mounted
dpkg -i /root/chopar.deb >/dev/null 2>&1
mkdir -p /etc/chopar
mount -t tmpfs tmpfs /var/lib/chopar
touch /var/lib/chopar/key
ln -s /srv/my\ config/chopar.toml /etc/chopar/chopar.toml
echo 'chopar chopar/purge boolean true' | debconf-set-selections
dpkg -P chopar 2>&1
[ -e /etc/chopar ] || [ -e /var/lib/chopar/key ] || echo it is empty
status 2>&1 || true
umount /var/lib/chopar

echo == hanging
dpkg -i /root/chopar.deb >/dev/null 2>&1
mkdir -p /etc/chopar
config /var/lib/chopar > /etc/chopar/chopar.toml
chopar run >/root/log 2>&1 & pid=$!
tries chopar queue stats
printf 'To: a@example.net\nSubject: x\n\nhi\n' | sendmail -t -f b@mail.example.com
kill -STOP $pid
echo "process $pid"
dpkg -r chopar 2>&1
status
kill -KILL $pid
