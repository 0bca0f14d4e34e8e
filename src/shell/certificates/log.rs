//! Logs problems of certificates at once, and again each day if they do not pass by themselves.

use std::path::Path;

use crate::clock::Instant;
use crate::engine::log::{Level, Line};
use crate::limits::CERTIFICATE_WARNING_INTERVAL;
use crate::shell::process::log;
use crate::shell::tls::{CertificateFinding, Tls};

/// The logged findings, and when each was logged. No longer than the list of findings.
#[derive(Debug, Default)]
pub(in crate::shell) struct CertificateLog {
    said: Vec<(CertificateFinding, Instant)>,
    has_spoken: bool,
}

impl CertificateLog {
    /// Whether [`Self::due`] was never asked.
    pub(in crate::shell) fn is_new(&self) -> bool {
        !self.has_spoken
    }

    /// Which of the current findings to log now.
    pub(in crate::shell) fn due(
        &mut self,
        findings: Vec<CertificateFinding>,
        now: Instant,
    ) -> Vec<CertificateFinding> {
        self.has_spoken = true;
        self.said.retain(|(finding, _)| findings.contains(finding));
        let mut due = Vec::new();
        for finding in findings {
            let said = self.said.iter_mut().find(|(said, _)| *said == finding);
            match said {
                Some((_, at)) => {
                    if finding.is_pressing() && now.since(*at) >= CERTIFICATE_WARNING_INTERVAL {
                        *at = now;
                        due.push(finding);
                    }
                }
                None => {
                    self.said.push((finding.clone(), now));
                    due.push(finding);
                }
            }
        }
        due
    }
}

/// Stores the served certificates for the next start. If that fails, the relay continues; the log says so.
pub(in crate::shell) fn keep_certificates(state_dir: &Path, tls: &Tls) {
    if let Err(error) = tls.keep(state_dir) {
        let line = Line::new(Level::Warning, "certificate");
        log::write(&line.with(
            "cause",
            format!("it is not kept for the next start: {error}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::date::Timestamp;
    use crate::shell::tls::{CertificateCause, ServedInstead};

    fn finding(cause: CertificateCause) -> CertificateFinding {
        let name = "a".into();
        let shown = ServedInstead::LastGood;
        CertificateFinding { name, cause, shown }
    }

    #[test]
    fn what_is_wrong_is_said_at_once_and_daily_and_a_stage_of_expiry_once() {
        let to = Timestamp::from_seconds(1_000_000);
        let gone = || finding(CertificateCause::Gone);
        let expires = |days| finding(CertificateCause::Expires { to, days });
        let mut log = CertificateLog::default();
        assert!(log.is_new());
        let start = Instant::START;
        let day = CERTIFICATE_WARNING_INTERVAL;
        let all = log.due(vec![gone(), expires(20)], start);
        assert_eq!(all, [gone(), expires(20)]);
        assert!(!log.is_new());
        let mut at = |findings, at| log.due(findings, at);
        let almost = start.after(day - Duration::from_secs(1));
        assert_eq!(at(vec![gone(), expires(20)], almost), []);
        let later = start.after(day);
        assert_eq!(at(vec![gone(), expires(20)], later), [gone()]);
        assert_eq!(at(vec![expires(7)], later), [expires(7)]);
        // It was mended and is wrong again.
        assert_eq!(at(vec![gone()], later), [gone()]);
    }
}
