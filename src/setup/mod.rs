//! Set-up: from a bare machine to working mail, and checks from outside.
//!
//! Decisions are pure: [`zone`] lists the records that the DNS should contain and compares them with the published
//! ones, [`spf_record`] edits an SPF record, [`doctor`] judges the facts that its gatherers find, [`init`] plans the
//! steps of a first set-up, [`record`] formats records, [`trace`] explains the log of one message. [`dns_client`] and
//! other modules at the edge perform I/O.

pub mod acme;
pub mod carried;
pub mod dkim_key;
pub mod dns_client;
pub mod doctor;
pub mod import;
pub mod init;
pub mod machine;
pub mod record;
pub mod record_format;
pub mod shared_name;
pub mod shell_word;
pub mod spf_record;
pub mod survey;
pub mod surveys;
pub mod trace;
pub mod zone;
