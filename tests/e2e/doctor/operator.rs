//! Who does what the doctor prints, and knows no more than that.

use std::collections::BTreeSet;
use std::os::unix::fs::chown;

use super::stage::{NOBODY, Stage, text};
use crate::process::run;

impl Stage {
    /// Does what a finding says; or nothing, where it says to do something else first.
    fn mend(&mut self, mend: &str) -> bool {
        let is_up = self.daemon.is_some();
        let record = mend
            .strip_prefix("publish")
            .and_then(|rest| Some((rest.contains("in place of what"), rest.split_once(": ")?.1)));
        if let Some((in_place, record)) = record {
            self.put(record, in_place);
        } else if let Some(rest) = mend.strip_prefix("set the reverse name (PTR) of ") {
            let words: Vec<&str> = rest.split(' ').collect();
            let (address, host) = (words[0].parse().expect("an address"), words[2]);
            let name = chopar::dns::reverse_name(address);
            self.put(&format!("{name}. PTR {host}."), true);
        } else if let Some(rest) = mend.strip_prefix("chopar dkim ") {
            let mut command = self.chopar();
            run(command.arg("dkim").args(rest.split(' ')), b"").ok();
            let key = self.path("config/domains/example.test/dkim/s1.pem");
            chown(key, Some(NOBODY), Some(NOBODY)).expect("an owner");
            self.reload_if(is_up);
        } else if mend.starts_with("set hostname in chopar.toml") {
            let text = self
                .configuration()
                .replace("\"mail\"", "\"mail.example.test\"");
            self.configure(&text);
            if is_up {
                self.start_daemon();
            }
        } else if mend.starts_with("set admin") {
            let text = self.configuration();
            if !text.contains("admin") {
                self.configure(&format!("admin = \"ann@far.test\"\n{text}"));
                self.reload_if(is_up);
            }
        } else if mend.starts_with("systemctl start chopar") {
            if !is_up {
                self.start_daemon();
            }
        } else if mend.starts_with("obtain a certificate for mail.example.test") {
            self.certify("made");
            self.reload_if(is_up);
        } else {
            return false;
        }
        true
    }

    fn reload_if(&self, is_up: bool) {
        if is_up {
            self.reload();
        }
    }
}

/// Does what the doctor says until it is content; gives how often it was asked.
pub(super) fn follow(stage: &mut Stage) -> usize {
    for round in 1..=12 {
        let said = stage.doctor();
        if said.code == 0 {
            return round;
        }
        let mut mends: Vec<&str> = said
            .findings
            .iter()
            .filter(|finding| matches!(text(finding, "state"), "bad" | "unknown" | "warning"))
            .map(|finding| text(finding, "mend"))
            .collect();
        let mut seen = BTreeSet::new();
        mends.retain(|mend| seen.insert(*mend));
        let mut done = 0;
        for mend in &mends {
            done += usize::from(stage.mend(mend));
            // All records are about the name.
            if mend.starts_with("set hostname") {
                break;
            }
        }
        stage.serve();
        assert!(done > 0, "nothing more to do: {:#?}", said.findings);
    }
    panic!("it is never content: {:#?}", stage.doctor().red());
}
