//! End to end: the binary that users run, against software that they run.
//!
//! Everything is on loopback and in throwaway folders, and all can run at once. What only root can do (a start as root,
//! Postfix, Exim and OpenSMTPD as servers) is left out for others. Submission is by swaks, msmtp, curl, Python and
//! Postfix's smtp-source; what is delivered arrives at aiosmtpd or smtp-sink; names are answered by unbound; signatures
//! are judged by dkimpy and OpenDKIM; mail that stays goes to Dovecot, procmail and maildrop; SpamAssassin judges it;
//! fail2ban reads the log; pebble issues certificates; Prometheus and Chromium read the status. Where one of them is
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
