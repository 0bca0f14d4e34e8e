//! `chopar doctor --echo`: sends a message to an echo address and waits for the answer: both directions, through other
//! hosts.

use std::io::{BufRead as _, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::control::not_there;
use super::failure::Failure;
use super::output;
use super::send::Send;
use super::sysexits::{IO_ERROR, NOT_PERMITTED, TRY_AGAIN, UNAVAILABLE, USAGE};
use crate::address::{Domain, Mailbox};
use crate::config::Config;
use crate::engine::control::{ControlRequest, ControlResponse};
use crate::entropy::Entropy as _;
use crate::shell::net::timed::is_late;
use crate::shell::process::time::SystemEntropy;

/// Sends to `echo` from a new address in `domain`, and waits until a message for that address is accepted here.
pub(super) fn run(
    config: &Config,
    domain: &Domain,
    echo: &str,
    within: Duration,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let started = Instant::now();
    if config.receiving(domain).is_none() {
        return Err(Failure::new(
            USAGE,
            format!("mail for {domain} is received elsewhere, so no answer arrives here"),
        ));
    }
    let from = own_address(config, domain)?;
    let mut answers = expect(config, &from)?;
    let send = Send::new(echo.to_owned(), from.to_string(), within);
    send.run(config, output)?;
    let from_whom = answer(
        &mut answers,
        within.saturating_sub(started.elapsed()),
        &from,
    )?;
    let text = format!(
        "the answer arrived after {} s, from {from_whom}: chopar sends and receives mail\n",
        started.elapsed().as_secs()
    );
    (output.write_all(output::text(&text).as_bytes()))
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
}

/// An unused address: postmaster with a suffix.
fn own_address(config: &Config, domain: &Domain) -> Result<Mailbox, Failure> {
    let separator = config.names.separators.chars().next().ok_or_else(|| {
        let text = "--echo needs an address with a suffix: name a character in suffix_separators of chopar.toml";
        Failure::new(USAGE, text)
    })?;
    let mut random = [0; 6];
    SystemEntropy::default().fill(&mut random);
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let local_part = format!("postmaster{separator}echo{token}");
    Mailbox::new(&local_part, domain).map_err(|error| Failure::new(USAGE, error))
}

/// Makes the daemon report messages for an address.
fn expect(config: &Config, recipient: &Mailbox) -> Result<BufReader<UnixStream>, Failure> {
    let path = config.runtime_dir.join("control.sock");
    let mut stream = UnixStream::connect(&path).map_err(|error| not_there(&path, &error))?;
    let request = ControlRequest::Expect {
        recipient: recipient.to_string(),
    };
    let mut line = serde_json::to_vec(&request).map_err(|error| Failure::new(IO_ERROR, error))?;
    line.push(b'\n');
    (stream.write_all(&line)).map_err(|error| Failure::new(IO_ERROR, error))?;
    Ok(BufReader::new(stream))
}

/// Waits for the answer; returns its sender.
fn answer(
    answers: &mut BufReader<UnixStream>,
    left: Duration,
    to: &Mailbox,
) -> Result<String, Failure> {
    let stream = answers.get_ref();
    (stream.set_read_timeout(Some(left.max(Duration::from_secs(1)))))
        .map_err(|error| Failure::new(IO_ERROR, error))?;
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => return Err(Failure::new(UNAVAILABLE, "the daemon has ended")),
        Ok(_) => {}
        Err(error) if is_late(&error) => {
            return Err(Failure::new(
                TRY_AGAIN,
                format!(
                    "the message has left, but no answer to {to} has arrived: check whether the MX record leads here, whether port 25 \
                     can be reached from outside (chopar doctor), and whether the address answers at all"
                ),
            ));
        }
        Err(error) => return Err(Failure::new(IO_ERROR, error)),
    }
    match serde_json::from_str(&line) {
        Ok(ControlResponse::Event { text }) => {
            let from = text.split(' ').find_map(|word| word.strip_prefix("from="));
            Ok(from.unwrap_or("an unknown sender").to_owned())
        }
        Ok(ControlResponse::Denied { text }) => Err(Failure::new(NOT_PERMITTED, text)),
        Ok(ControlResponse::End { errors, .. }) => {
            Err(Failure::new(UNAVAILABLE, errors.join("; ")))
        }
        Ok(_) => Err(Failure::new(
            IO_ERROR,
            "the daemon's answer is not understood",
        )),
        Err(error) => Err(Failure::new(
            IO_ERROR,
            format!("the daemon's answer is not understood: {error}"),
        )),
    }
}
