# On a machine on which systemd seems to run: its systemctl does what it is told with a chopar of its own.
set -e
umask 022
export DEBIAN_FRONTEND=noninteractive
ip link set lo up
rm -rf /etc/chopar /var/lib/chopar /run/chopar /usr/sbin/policy-rc.d /var/lib/man-db/auto-update
sed -i '/^chopar:/d' /etc/passwd /etc/group
mkdir -p /run/systemd/system
chmod 755 /run /run/systemd /run/systemd/system
rm -f /usr/bin/systemctl
cat > /usr/bin/systemctl <<'END'
#!/bin/sh
echo "$*" >> /root/systemctl.log
pid=$(cat /root/pid 2>/dev/null)
wants=/etc/systemd/system/multi-user.target.wants
stop() { [ -z "$pid" ] || { kill $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; rm /root/pid; }; }
start() { /usr/bin/chopar run >>/root/log 2>&1 </dev/null 3>&- & echo $! > /root/pid; }
case "$*" in
*is-enabled*chopar*) [ -L $wants/chopar.service ] && echo enabled ;;
*enable*--now*chopar) mkdir -p $wants; ln -sf /usr/lib/systemd/system/chopar.service $wants/; start ;;
*is-active*chopar*) [ -n "$pid" ] ;;
*restart*chopar*) stop; start ;;
*stop*chopar*) stop ;;
*start*chopar*) start ;;
esac
END
chmod 755 /usr/bin/systemctl
tries() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || { echo "no: $*"; cat /root/log; exit 1; } >&2; sleep 0.1; done; }
install() { apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$1" 2>&1; }
say() { printf 'To: %s\nSubject: hello\n\nhi\n' "$1" | sendmail -t -f app@example.com; }
trap 'systemctl stop chopar.service' EXIT
# What needs a mail server would keep this one from being removed.
for name in bsd-mailx logwatch at; do dpkg --force-depends -P $name >/dev/null 2>&1 || true; done

echo == installed
install /root/chopar.deb
readlink -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases
id chopar
[ -e /root/pid ] || echo no start

echo == set up
chopar init example.com --forward-to you@gmail.example --no-certificate
tries chopar queue stats
mkdir /srv/box; chown chopar /srv/box
chopar alias add box@example.com maildir:/srv/box
say box@example.com
tries grep -r hello /srv/box/new
echo the message is there

echo == upgraded
( n=0; while [ ! -e /root/enough ]; do say x@example.net && n=$((n+1)); sleep 0.05; done; echo $n > /root/accepted ) &
sender=$!
sleep 0.3; first=$(cat /root/pid)
dpkg -i /root/later.deb 2>&1
sleep 0.3; : > /root/enough; wait $sender
tries chopar queue stats
[ "$(cat /root/pid)" = "$first" ] || echo it was restarted
accepted=$(cat /root/accepted)
holds() { [ "$(chopar queue list --jsonl | wc -l)" = "$accepted" ]; }
tries holds
echo "$accepted are all in the queue"

echo == callers
apt-get -s install bsd-mailx logwatch 2>&1 || true

echo == removed
dpkg -r chopar 2>&1
[ -e /root/pid ] || echo it was stopped
[ -e /etc/chopar/chopar.toml ] && ls /var/lib/chopar/spool/journal | grep -q . && echo configuration and queue are there
[ ! -L /usr/sbin/sendmail ]

echo == installed again
install /root/chopar.deb
tries chopar queue stats
echo it was started

echo == purged
dpkg -P chopar 2>&1
ls /etc/chopar/domains/example.com/dkim /var/lib/chopar/spool/journal >/dev/null && echo keys and queue are there

echo == purged with a yes
install /root/chopar.deb
[ -e /root/pid ] || echo it is not started
echo 'chopar chopar/purge boolean true' | debconf-set-selections
dpkg -P chopar 2>&1
[ -e /etc/chopar ] || [ -e /var/lib/chopar ] || echo nothing is there
