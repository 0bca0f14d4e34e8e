//! The `chopar` binary: dispatch by the name it is called as, and nothing else.

#![forbid(unsafe_code)]

fn main() {}
