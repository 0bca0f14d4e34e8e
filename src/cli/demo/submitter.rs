//! The application of the demo: submits one message with a login over TLS, by the client's half of the SMTP code.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::{Domain, Mailbox, ReversePath};
use crate::engine::event::{TlsSide, Trust};
use crate::envelope::{BodyKind, Notify};
use crate::shell::link::{Link, LinkTls};
use crate::smtp::client::{Fate, Login, Mail, Rcpt, Request, Session, Tls};

/// What is submitted, and as whom.
pub(super) struct Submission<'a> {
    pub(super) to: SocketAddr,
    pub(super) server: &'a Domain,
    pub(super) login: &'a Mailbox,
    pub(super) password: &'a str,
    pub(super) recipient: &'a Mailbox,
    pub(super) message: &'a [u8],
}

/// Submits; gives the server's reply.
pub(super) fn submit(submission: &Submission<'_>) -> io::Result<String> {
    let stream = TcpStream::connect(submission.to)?;
    let mut link = Link::new(stream, Duration::from_secs(60))?;
    let tls = LinkTls::self_signed(submission.server)?;
    let login = Login {
        user: Zeroizing::new(submission.login.to_string()),
        password: Zeroizing::new(submission.password.to_owned()),
    };
    let mut session = Session::new("app.demo.example", Tls::Required, Some(login));
    let mut buffer = [0; 16 * 1024];
    let mut out = Vec::new();
    let mut answer: Option<String> = None;
    loop {
        let len = link.read(&mut buffer)?;
        if len == 0 {
            return answer.ok_or_else(|| io::Error::other("the server closed the session"));
        }
        session.on_bytes(buffer.get(..len).unwrap_or_default(), &mut out);
        while let Some(request) = session.next_request() {
            match request {
                Request::StartTls => {
                    link.write_all(&std::mem::take(&mut out))?;
                    let name = submission.server.clone();
                    link.start_tls(
                        &tls,
                        &TlsSide::Client {
                            name,
                            trust: Trust::Any,
                        },
                    )?;
                    session.on_tls(&mut out);
                }
                Request::Ready if answer.is_none() => session.begin(mail(submission), &mut out),
                Request::Ready => session.quit(&mut out),
                Request::Body => {
                    session.on_body(submission.message, &mut out);
                    session.on_body_end(&mut out);
                }
                Request::Done(fates) => match fates.into_iter().next() {
                    Some(Fate::Delivered { text, .. }) => answer = Some(text),
                    other => return Err(io::Error::other(format!("refused: {other:?}"))),
                },
                Request::Refused(refusal) => {
                    return Err(io::Error::other(format!("refused: {refusal:?}")));
                }
                Request::Parted(_) | Request::Close => {
                    return answer.ok_or_else(|| io::Error::other("the session ended early"));
                }
            }
        }
        link.write_all(&std::mem::take(&mut out))?;
        link.flush()?;
    }
}

fn mail(submission: &Submission<'_>) -> Mail {
    Mail {
        reverse_path: ReversePath::Mailbox(submission.login.clone()),
        recipients: vec![Rcpt {
            mailbox: submission.recipient.clone(),
            notify: Notify::Default,
            original: None,
        }],
        size: submission.message.len() as u64,
        body: BodyKind::SevenBit,
        smtputf8: false,
        dsn_return: None,
        envelope_id: None,
    }
}
