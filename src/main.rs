//! The `chopar` binary: hands its command line to the commands, and nothing else.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    chopar::cli::main(std::env::args_os().collect())
}
