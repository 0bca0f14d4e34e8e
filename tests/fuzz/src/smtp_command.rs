use chopar::address::{Mailbox, ReversePath};
use chopar::smtp::command::{Command, CommandError, ForwardPath, Grammar};
use chopar::smtp::reply::Reply;
use chopar::xtext::{decode_xtext, encode_xtext};

/// A command line. An accepted command can be written and parsed again; a refusal has a reply of one clean line.
pub fn smtp_command(data: &[u8]) {
    let strict = Command::parse(data, Grammar::Strict);
    let lenient = Command::parse(data, Grammar::Lenient);
    // Whatever the strict grammar accepts, the lenient one reads the same.
    assert!(strict.is_err() || strict == lenient);
    for command in [strict, lenient] {
        check(command);
    }
}

fn check(command: Result<Command, CommandError>) {
    match command {
        Ok(Command::Mail { from, parameters }) => {
            assert_eq!(ReversePath::parse(from.as_str()), Ok(from));
            if let Some(id) = parameters.envelope_id {
                comes_back(&id);
            }
        }
        Ok(Command::Rcpt { to, original, .. }) => {
            if let ForwardPath::Mailbox(mailbox) | ForwardPath::SourceRoute(mailbox) = to {
                assert_eq!(Mailbox::parse(mailbox.as_str()), Ok(mailbox));
            }
            if let Some(original) = original {
                comes_back(&original);
            }
        }
        Ok(_) => {}
        Err(error) => {
            let mut wire = Vec::new();
            Reply::from(error).write(&mut wire);
            assert!(super::is_clean(&wire) && wire.ends_with(b"\r\n"));
            assert!(matches!(wire.first(), Some(b'4' | b'5')));
        }
    }
}

fn comes_back(text: &str) {
    assert_eq!(decode_xtext(&encode_xtext(text)).as_deref(), Some(text));
}
