//! An operator who sets up a machine and knows only the output of `chopar dns` and `chopar doctor`.

use std::collections::BTreeSet;

use super::stage::{Stage, text};
use crate::process::{PATIENCE, run_within};

impl Stage {
    /// Does what a finding says; returns false if it says to do something else first.
    pub(super) fn mend(&mut self, mend: &str) -> bool {
        let record = mend.strip_prefix("publish").and_then(|rest| {
            Some((
                rest.contains("the existing record"),
                rest.split_once(": ")?.1,
            ))
        });
        if let Some((in_place, record)) = record {
            self.put(record, in_place);
        } else if let Some(rest) = mend.strip_prefix("set the reverse name (PTR) of ") {
            let words: Vec<&str> = rest.split(' ').collect();
            let (address, host) = (words[0].parse().expect("an address"), words[2]);
            let name = chopar::dns::reverse_name(address);
            self.put(&format!("{name}. PTR {host}."), true);
        } else if mend.starts_with("obtain a certificate for mail.example.test") {
            // There is no authority here; other tests cover the command.
            self.certify(&self.path("made/cert.pem"), &self.path("made/key.pem"));
            self.sh("chopar reload");
        } else if is_command(mend) {
            self.sh(mend);
        } else {
            return false;
        }
        true
    }

    /// Follows the doctor until it has no findings; returns the number of its runs.
    pub(super) fn follow(&mut self) -> usize {
        for round in 1..=12 {
            let said = self.doctor();
            if said.code == 0 && said.of("warning").iter().all(|id| id.starts_with("rules")) {
                return round;
            }
            let open = said
                .findings
                .iter()
                .filter(|finding| matches!(text(finding, "state"), "bad" | "unknown" | "warning"));
            let mends: BTreeSet<&str> = open.map(|finding| text(finding, "mend")).collect();
            let done = mends.iter().filter(|mend| self.mend(mend)).count();
            self.serve();
            if done == 0 {
                assert_eq!(said.code, 0, "nothing more to do: {:#?}", said.open());
                return round;
            }
        }
        panic!("it is never content: {:#?}", self.doctor().open());
    }

    /// Adds the records that `chopar dns` prints.
    pub(super) fn paste_records(&mut self) {
        let mut command = self.chopar();
        let command = command.args(["dns", "example.test", "--format", "zone"]);
        let printed = run_within(command, b"", PATIENCE).ok();
        self.paste(&printed);
    }
}

/// Whether this is a command line, not a sentence that contains one.
fn is_command(mend: &str) -> bool {
    let is_ours = ["systemctl ", "chopar dkim "]
        .iter()
        .any(|front| mend.starts_with(front));
    is_ours && !mend.contains(", ")
}
