//! Submits one message by the client side of the SMTP code, and waits: through the socket for programs of this machine,
//! or over the network with TLS and a login.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::{Domain, Mailbox, ReversePath};
use crate::engine::event::{CertificateTrust, TlsSession, TlsSide};
use crate::envelope::{BodyKind, Notify};
use crate::shell::net::link::{Link, LinkTls};
use crate::smtp::client::{
    ClientLogin, ClientMail, ClientRequest, Rcpt, RecipientResult, Session, SessionRefusal,
    TlsPolicy,
};

/// A message to submit.
pub(super) struct Submission<'a> {
    /// The name after EHLO.
    pub(super) client: &'a str,
    /// The reverse-path.
    pub(super) sender: &'a Mailbox,
    pub(super) recipient: &'a Mailbox,
    /// The message, with CRLF at the end of each line.
    pub(super) message: &'a [u8],
}

/// The server's reply, and the connection.
pub(super) struct Accepted {
    /// The reply to the final dot.
    pub(super) reply: String,
    /// The negotiated TLS parameters.
    pub(super) tls: Option<TlsSession>,
}

/// Submits with a login over TLS, with any certificate; the port determines how TLS starts.
pub(super) fn over_network(
    submission: &Submission<'_>,
    server: &Domain,
    to: SocketAddr,
    login: (&Mailbox, &str),
) -> io::Result<Accepted> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    let mut link = Link::new(stream, TIMEOUT)?;
    let tls = LinkTls::self_signed(server)?;
    let side = TlsSide::Client {
        name: server.clone(),
        trust: CertificateTrust::Any,
    };
    let login = ClientLogin {
        user: Zeroizing::new(login.0.to_string()),
        password: Zeroizing::new(login.1.to_owned()),
    };
    let mut agreed = None;
    let session = Session::new(submission.client, TlsPolicy::Required, Some(login));
    let reply = converse(&mut link, session, submission, &mut |link| {
        agreed = Some(link.start_tls(&tls, &side)?);
        Ok(())
    })?;
    Ok(Accepted { reply, tls: agreed })
}

/// Submits as a program of this machine.
pub(super) fn over_socket(submission: &Submission<'_>, socket: &Path) -> io::Result<Accepted> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let session = Session::new(submission.client, TlsPolicy::Unneeded, None).on_this_machine();
    let reply = converse(&mut stream, session, submission, &mut |_| {
        Err(io::Error::other("no TLS on a socket of this machine"))
    })?;
    Ok(Accepted { reply, tls: None })
}

fn converse<Stream: Read + Write>(
    stream: &mut Stream,
    mut session: Session,
    submission: &Submission<'_>,
    start_tls: &mut dyn FnMut(&mut Stream) -> io::Result<()>,
) -> io::Result<String> {
    let mut buffer = [0; 16 * 1024];
    let mut out = Vec::new();
    let mut answer: Option<String> = None;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return answer.ok_or_else(|| io::Error::other("the server closed the session"));
        }
        session.on_bytes(buffer.get(..len).unwrap_or_default(), &mut out);
        while let Some(request) = session.next_request() {
            match request {
                ClientRequest::StartTls => {
                    stream.write_all(&std::mem::take(&mut out))?;
                    start_tls(stream)?;
                    session.on_tls(&mut out);
                }
                ClientRequest::Ready if answer.is_none() => {
                    session.begin(mail(submission), &mut out)
                }
                ClientRequest::Ready => session.quit(&mut out),
                ClientRequest::Body => {
                    session.on_body(submission.message, &mut out);
                    session.on_body_end(&mut out);
                }
                ClientRequest::Done(results) => match results.into_iter().next() {
                    Some(RecipientResult::Delivered { text, .. }) => answer = Some(text),
                    Some(
                        RecipientResult::Failed { words, .. }
                        | RecipientResult::Deferred { words, .. },
                    ) => {
                        return Err(io::Error::other(words.to_string()));
                    }
                    Some(RecipientResult::Unknown { words }) => {
                        return Err(io::Error::other(format!("{words}: it may have been taken")));
                    }
                    Some(RecipientResult::Again) | None => {
                        return Err(io::Error::other("the server takes no recipients now"));
                    }
                },
                ClientRequest::Refused(refusal) => {
                    return Err(io::Error::other(sentence(&refusal)));
                }
                ClientRequest::Parted(_) | ClientRequest::Close => {
                    return answer.ok_or_else(|| io::Error::other("the session ended early"));
                }
            }
        }
        stream.write_all(&std::mem::take(&mut out))?;
        stream.flush()?;
    }
}

/// A refusal before a message was submitted.
fn sentence(refusal: &SessionRefusal) -> String {
    match refusal {
        SessionRefusal::Reply(reply)
        | SessionRefusal::Fallback(reply)
        | SessionRefusal::Parted(reply) => {
            format!("the server refuses: {}", reply.to_text())
        }
        SessionRefusal::Login(reply) => format!("the login was refused: {}", reply.to_text()),
        SessionRefusal::NoTls(_) => "the server offers no STARTTLS".to_owned(),
        SessionRefusal::Protocol(..) => "the server's reply cannot be read".to_owned(),
        SessionRefusal::Injection => "the server sent bytes after its reply to STARTTLS".to_owned(),
        SessionRefusal::NoAuth => "the server offers no AUTH".to_owned(),
        SessionRefusal::Ourselves => "the server has the name of the client".to_owned(),
    }
}

fn mail(submission: &Submission<'_>) -> ClientMail {
    ClientMail {
        reverse_path: ReversePath::Mailbox(submission.sender.clone()),
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

const TIMEOUT: Duration = Duration::from_secs(60);
