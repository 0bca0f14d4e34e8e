//! System calls that a signal interrupts.
//!
//! A read with a time limit (SO_RCVTIMEO) fails with EINTR whenever a signal reaches its thread, even if the signal has
//! no effect: when the process is stopped and continued (signal(7)), or when a child ends while another is being
//! started. The peer is still there. A caller that took EINTR for the end would send a message again whose 250 was on
//! its way.

use std::io::{self, ErrorKind};

/// Makes a call again as often as a signal interrupts it.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_any_other_error_is_given_back() {
        let mut results = [
            Err(ErrorKind::Interrupted.into()),
            Err(ErrorKind::Interrupted.into()),
            Ok(7),
        ]
        .into_iter();
        let result = uninterrupted(|| results.next().expect("no further call"));
        assert_eq!(result.expect("a result"), 7);
        let result: io::Result<()> = uninterrupted(|| Err(ErrorKind::TimedOut.into()));
        assert_eq!(result.expect_err("an error").kind(), ErrorKind::TimedOut);
    }
}
