# On a machine on which systemd seems to run: its systemctl controls a chopar process of its own.
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
# Packages that need a mail server would prevent its removal.
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

# An archive with packages that need a mail server and with Debian's default mail server, in addition to those that apt
# may know.
mkdir /root/archive
cat > /root/archive/Packages <<'END'
Package: bsd-mailx
Version: 99
Architecture: all
Depends: default-mta | mail-transport-agent
Filename: ./bsd-mailx.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000

Package: logwatch
Version: 99
Architecture: all
Depends: default-mta | mail-transport-agent
Filename: ./logwatch.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000

Package: default-mta
Version: 99
Architecture: all
Depends: exim4-daemon-light
Filename: ./default-mta.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000

Package: exim4-daemon-light
Version: 99
Architecture: all
Provides: mail-transport-agent
Conflicts: mail-transport-agent
Replaces: mail-transport-agent
Filename: ./exim4-daemon-light.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000
END
echo 'deb [trusted=yes] file:/root/archive ./' > /root/archive.list
mkdir -p /root/lists/partial
archive() {
    apt-get -q -o Dir::Etc::sourcelist=/root/archive.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=/root/lists \
        -o APT::Sandbox::User=root "$@"
}
archive update >/dev/null
echo == callers
archive -s install bsd-mailx logwatch 2>&1
echo == callers by the real archive
apt-get -s install bsd-mailx logwatch 2>&1 || true

echo == configured twice
dpkg-reconfigure chopar 2>&1
/var/lib/dpkg/info/chopar.postinst configure 9-1 2>&1
tries chopar queue stats
tries holds
echo "all are in the queue"

echo == removed
dpkg -r chopar > /root/removed 2>&1
cat /root/removed
grep -q " $accepted messages wait in the queue" /root/removed && echo they are counted
[ -e /root/pid ] || echo it was stopped
[ -e /etc/chopar/chopar.toml ] && ls /var/lib/chopar/spool/journal | grep -q . && echo configuration and queue are there
[ ! -L /usr/sbin/sendmail ]
echo == callers without it
archive -s install bsd-mailx logwatch 2>&1

echo == installed again
install /root/chopar.deb
tries chopar queue stats
echo it was started

echo == purged
systemctl stop chopar.service
dpkg -P chopar 2>&1
ls /etc/chopar/domains/example.com/dkim /var/lib/chopar/spool/journal >/dev/null && echo keys and queue are there

# On a terminal, where debconf asks questions.
mount -t devpts -o ptmxmode=666 devpts /dev/pts
asked() {
    install /root/chopar.deb
    echo "== $1"
    { sleep 1; echo "$2"; } | DEBIAN_FRONTEND=teletype TERM=dumb script -qec 'dpkg -P chopar' /dev/null
}
asked 'purged and told no' no
ls /etc/chopar/domains/example.com/dkim /var/lib/chopar/spool/journal >/dev/null && echo keys and queue are there
asked 'purged and told yes' yes
[ -e /etc/chopar ] || [ -e /var/lib/chopar ] || echo nothing is there
getent passwd chopar

echo == purged with a yes
install /root/chopar.deb
[ -e /root/pid ] || echo it is not started
mkdir -p /etc/chopar/domains/example.com
echo 'chopar chopar/purge boolean true' | debconf-set-selections
dpkg -P chopar 2>&1
[ -e /etc/chopar ] || [ -e /var/lib/chopar ] || echo nothing is there
