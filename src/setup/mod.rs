//! Set-up: from a bare machine to mail that arrives, and the judgement of it from outside.
//!
//! What decides is pure: [`zone`] says which records the DNS should hold and how what it holds differs, [`spf_record`] merges
//! a policy, [`doctor`] judges what its gatherers find, [`init`] plans the steps of a first set-up, [`record`] writes records
//! down, [`trace`] tells what became of a message. What touches the world stands at the edge: [`asking`] asks servers.

pub mod acme;
pub mod asking;
pub mod carried;
pub mod dkim_key;
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
