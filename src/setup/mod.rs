//! Set-up: from a bare machine to working mail, and checks from outside.
//!
//! Decisions are pure: [`zone`] says which records the DNS should hold and how the published ones differ,
//! [`spf_record`] merges a policy, [`doctor`] judges what its gatherers find, [`init`] plans the steps of a first
//! set-up, [`record`] formats records, [`trace`] tells what happened to a message. Code that touches the world stands
//! at the edge: [`dns_client`] queries servers.

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
