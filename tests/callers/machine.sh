# A temporary machine with Debian's programs, and with the package of chopar instead of Postfix. Each program that mails
# by calling sendmail does so once with the daemon up and once with it down. Prints the subject of each message that has
# reached the host to which everything is relayed.
set -e
umask 022
export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
ip link set lo up
echo mail.example.com > /etc/hostname
hostname mail.example.com
printf '127.0.0.1 localhost mail.example.com mail\n' > /etc/hosts
# Systemd does not run there.
rm -rf /etc/chopar /var/lib/chopar /run/chopar /run/systemd /var/lib/man-db/auto-update
sed -i '/^chopar:/d' /etc/passwd /etc/group

# The test needs Postfix's smtp-sink.
cp -r /usr/lib/postfix /root/postfix
cp /usr/sbin/smtp-sink /root/smtp-sink
apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 /root/chopar.deb
echo "== installed"
# Every package that depends on a mail server is satisfied.
apt-get check -q
for name in postfix exim4-base bsd-mailx at mutt cron; do
    echo "$name $(dpkg-query -W -f '${db:Status-Status}' $name 2>/dev/null)"
done

chopar init example.com --hostname mail.example.com --forward-to you@gmail.example --no-certificate > /root/init
cat >> /etc/chopar/chopar.toml <<TOML
[[route]]
domain = "*"
via = ["smtp://127.0.0.1:2526"]
[delivery]
loopback = true
TOML
LD_LIBRARY_PATH=/root/postfix /root/smtp-sink -u root -D /root/arrived 127.0.0.1:2526 100 &
start() {
    chopar run 2>>/root/log & daemon=$!
    wait_for 'the daemon' 'chopar queue stats >/dev/null 2>&1'
}
stop() {
    kill $daemon
    wait $daemon || { cat /root/log >&2; exit 1; }
}
wait_for() {
    n=0
    until eval "$2"; do
        n=$((n+1))
        [ $n -lt 300 ] || { echo "in vain for $1" >&2; mailq >&2; tail -n 20 /root/log >&2; exit 1; }
        sleep 0.1
    done
}

# cron runs @reboot jobs at each of its starts here.
useradd -m caller
printf 'MAILTO=cron@example.net\n@reboot caller echo "from cron, $(cat /root-state)"\n' > /etc/cron.d/job
# A patch for git.
cat > /root/repository.sh <<'SH'
git init -q /root/repository
cd /root/repository
echo x > x
git add x
git -c user.name=x -c user.email=x@example.com commit -q -m 'git send-email'
git format-patch -q -1 --root -o /root/patches
SH
sh /root/repository.sh
mkdir -p /var/log /run/fail2ban
: > /var/log/empty
cat > /root/jail.local <<'JAIL'
[DEFAULT]
allowipv6 = no
[mail]
enabled = true
backend = polling
filter = chopar-test
logpath = /var/log/empty
action = sendmail[name=mail, dest=fail2ban@example.net, sender=root@example.com]
JAIL
cp /root/jail.local /etc/fail2ban/jail.local
rm -f /etc/fail2ban/jail.d/*
printf '[Definition]\nfailregex = ^from <HOST>$\n' > /etc/fail2ban/filter.d/chopar-test.conf

# Their mail contains $1; $2 is banned.
call() {
    echo "$1" > /root-state
    chmod 644 /root-state
    rm -f /run/crond.reboot
    cron -f & cron=$!
    echo "body" | mail -s "mailx, $1" mailx@example.net
    php -r 'mail("php@example.net", "php, " . $argv[1], "body", "X-Mailer: PHP") || exit(1);' "$1"
    sed -i "s/^Subject:.*/Subject: git send-email, $1/" /root/patches/*.patch
    git send-email --quiet --confirm=never --suppress-cc=all --from=x@example.com --to=git@example.net \
        /root/patches/*.patch < /dev/null 2>/root/git.log || { cat /root/git.log >&2; exit 1; }
    echo body | mutt -n -F /dev/null -s "mutt, $1" -- mutt@example.net
    atd
    echo "echo from at, $1" | at -m now 2>/dev/null
    fail2ban-client -x start > /root/fail2ban.log 2>&1 || { cat /root/fail2ban.log >&2; exit 1; }
    fail2ban-client set mail banip "$2" > /dev/null
    wait_for 'the ban' "grep -q 'Ban $2' /var/log/fail2ban.log"
    fail2ban-client stop > /dev/null
    wait_for 'the job of cron' '[ -e /run/crond.reboot ] && ! pgrep -P $cron >/dev/null'
    wait_for 'the job of at' '[ -z "$(atq)" ] && [ "$(pgrep -c -x atd)" = 1 ]'
    kill $cron "$(cat /run/atd.pid)"
    wait $cron || true
}
start
call up 192.0.2.7
wait_for 'an empty queue' '[ "$(mailq | tail -n 1)" = "Mail queue is empty" ]'
cp /root/arrived /root/arrived.up
stop
# smtp-sink appends to the file.
: > /root/arrived
call down 192.0.2.8
echo "== left"
ls /var/lib/chopar/spool/drop | grep -c msg
start
wait_for 'an empty queue' '[ "$(mailq | tail -n 1)" = "Mail queue is empty" ] && [ -z "$(ls /var/lib/chopar/spool/drop)" ]'
stop
echo "== up"
cat /root/arrived.up
echo "== down"
cat /root/arrived
