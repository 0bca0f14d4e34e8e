//! End to end: the binary that users run, against software that they run.
//!
//! Everything is on loopback and in temporary folders, and all tests can run at once. Parts that only root can run (a
//! start as root, Postfix, Exim and OpenSMTPD as servers) are skipped for other users. Messages are submitted by swaks,
//! msmtp, curl, Python and Postfix's smtp-source; delivered mail arrives at aiosmtpd or smtp-sink; unbound answers
//! names; dkimpy and OpenDKIM verify signatures; local mail goes to Dovecot, procmail and maildrop; SpamAssassin judges
//! it; fail2ban reads the log; pebble issues certificates; Prometheus and Chromium read the status. If one of them is
//! missing, the test says which Debian package has it.

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
