//! End to end: the binary that users run, with the software that users run.
//!
//! Everything is on loopback and in temporary folders, and all tests can run at once. Parts that only root can run (a
//! start as root, Postfix, Exim and OpenSMTPD as servers) are skipped for other users. swaks, msmtp, curl, Python and
//! Postfix's smtp-source submit messages; aiosmtpd or smtp-sink accepts delivered mail; unbound answers DNS queries;
//! dkimpy and OpenDKIM verify signatures; Dovecot, procmail and maildrop get local mail; SpamAssassin filters it;
//! fail2ban reads the log; pebble issues certificates; Prometheus and Chromium read the status. If a program is
//! missing, the test names the Debian package that has it.

mod abuse;
mod acme;
mod acme_first;
mod acme_hooks;
mod acme_sockets;
mod acme_window;
mod arc;
mod bounces;
mod client;
mod crash;
mod damage;
mod dkim;
mod doctor;
mod far_end;
mod foreign;
mod forward;
mod hook;
mod hostile;
mod journal;
mod load;
mod local;
mod messages;
mod pebble;
mod policy;
mod process;
mod published;
mod queue;
mod relay;
mod reports;
mod root_start;
mod sendmail;
mod spf;
mod status;
mod stop;
mod submission;
mod test_message;
mod tls;
mod world;
mod zones;
