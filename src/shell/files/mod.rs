//! Files of the configuration and of the state folder: read, checked, and written anew.

pub(super) mod access;
pub(super) mod alias_targets;
pub mod folder;
pub mod loading;
pub mod own_folder;
pub mod ownership;
pub mod plain_file;
pub mod published;
pub mod replace;
pub(super) mod secret;
