# Runs as a service of a system that systemd has started, with chopar installed but not set up. The test judges the
# output; each part begins with "==".
set -e
export LC_ALL=C HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
wait_for() {
    n=0
    until eval "$2"; do
        n=$((n+1))
        [ $n -lt 200 ] || { echo "in vain for $1"; systemctl status chopar --no-pager -l; journalctl -u chopar --no-pager | tail -n 30; exit 1; }
        sleep 0.1
    done
}
pid() { systemctl show -p MainPID --value chopar; }
answers() { wait_for 'the daemon' 'chopar queue stats >/dev/null 2>&1'; }
ip link set lo up
hostname mail.example.com
printf '127.0.0.1 localhost mail.example.com\n' > /etc/hosts

echo '== bare'
chopar queue list 2>&1 || true
systemctl start chopar || true
systemctl is-active chopar chopar-smtp.socket || true
ss -Hltn 'sport = :25' | wc -l

chopar init example.com --hostname mail.example.com --forward-to you@example.net --no-certificate >/root/init 2>&1
answers
echo '== start'
systemctl show -p ActiveState -p StatusText chopar
grep -E '^(Uid|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/$(pid)/status
for p in $(cat /sys/fs/cgroup/systemd/system.slice/chopar.service/cgroup.procs /sys/fs/cgroup/system.slice/chopar.service/cgroup.procs 2>/dev/null); do
    grep '^CapAmb:' /proc/$p/status
done
journalctl -u chopar -o cat --no-pager | grep -E 'event=(listening|sandbox)'

# A program, a maildir and a hook, all under the restrictions of the unit.
echo '== local'
cat >> /etc/chopar/domains/example.com/aliases <<'ALIASES'
program: | /usr/local/bin/note
box: maildir:/var/lib/chopar/box
ALIASES
cat > /usr/local/bin/note <<'PROGRAM'
#!/bin/sh
cat > /var/lib/chopar/noted
grep CapEff /proc/self/status > /var/lib/chopar/rights
PROGRAM
mkdir -p /etc/chopar/hooks
printf '#!/bin/sh\necho "X-Hook: was here"\n' > /etc/chopar/hooks/post-data
chmod 755 /usr/local/bin/note /etc/chopar/hooks/post-data
systemctl reload chopar
for name in program box; do
    printf 'From: app@example.com\nTo: %s@example.com\nSubject: hello\n\nhi\n' $name | sendmail -t -f app@example.com
done
wait_for 'the program' '[ -s /var/lib/chopar/rights ]'
wait_for 'the maildir' 'ls /var/lib/chopar/box/new/* >/dev/null 2>&1'
grep -h X-Hook /var/lib/chopar/noted /var/lib/chopar/box/new/*
cat /var/lib/chopar/rights

echo '== reload'
cp /etc/chopar/chopar.toml /root/chopar.toml
echo nonsense >> /etc/chopar/chopar.toml
systemctl reload chopar && echo 'it took it' || echo 'it has failed'
cp /root/chopar.toml /etc/chopar/chopar.toml

# A message waits, and then the daemon hangs.
echo '== watchdog'
printf 'From: app@example.com\nTo: joe@example.org\nSubject: waits\n\nhi\n' | sendmail -t -f app@example.com
wait_for 'the line of the status' 'systemctl show -p StatusText chopar | grep -q "1 queued"'
mkdir -p /etc/systemd/system/chopar.service.d
printf '[Service]\nWatchdogSec=1\nRestartSec=0\n' > /etc/systemd/system/chopar.service.d/test.conf
systemctl daemon-reload
systemctl restart chopar
answers
first=$(pid)
sleep 3
[ "$(pid)" = "$first" ] && echo 'it is left alone while it turns'
kill -STOP "$first"
wait_for 'another process' '[ "$(pid)" != "$first" ] && [ "$(pid)" != 0 ]'
answers
systemctl show -p NRestarts chopar
mailq | tail -n 1

echo '== journal'
journalctl -u chopar --no-pager -o json -n 200 --output-fields=PRIORITY,MESSAGE | grep -E 'event=(queued|deferred|reload-failed)' \
    | sed 's/.*"PRIORITY":"\([0-9]\)".*/\1/' | sort | uniq -c
journalctl -u chopar --no-pager -o cat | grep -cE '^<[0-9]>|^[0-9]{4}-' || true

echo '== stop'
systemctl stop chopar
systemctl is-active chopar chopar-smtp.socket chopar-submission.socket || true
ss -Hltn '( sport = :25 or sport = :587 or sport = :465 )' | wc -l

# An error in the configuration: the daemon does not start, and `check` ignores the ports, which systemd still has open.
echo '== error'
echo nonsense >> /etc/chopar/chopar.toml
systemctl start chopar || true
wait_for 'the failure' '[ "$(systemctl show -p ActiveState --value chopar)" = failed ]'
systemctl show -p ExecMainStatus -p NRestarts chopar
cp /root/chopar.toml /etc/chopar/chopar.toml
systemctl is-active chopar-smtp.socket || true
chopar check 2>&1 | grep -v warning || true
systemctl start chopar
answers
mailq | tail -n 1

# Start without any capability, by systemd's own means.
echo '== no capability'
printf '[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n' > /etc/systemd/system/chopar.service.d/test.conf
systemctl enable chopar-acme-http.socket chopar-status.socket 2>/dev/null
systemctl daemon-reload
systemctl restart chopar
answers
grep -E '^CapBnd:' /proc/$(pid)/status
ss -Hltn '( sport = :25 or sport = :80 or sport = :8025 )' | wc -l
journalctl -u chopar -o cat --no-pager | grep 'as=status' | tail -n 1
echo '== end'
