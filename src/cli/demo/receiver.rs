//! The receiving server of the demo: the server side of the SMTP code on a port of its own, with TLS.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::address::Domain;
use crate::engine::event::TlsSide;
use crate::envelope::Recipient;
use crate::queue_id::QueueId;
use crate::shell::net::link::{Link, LinkTls};
use crate::smtp::command::ForwardPath;
use crate::smtp::data::LongLines;
use crate::smtp::reply::Reply;
use crate::smtp::server::{AuthStep, Encryption, PortRole, ServerRequest, ServerSettings, Session};

/// A message as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    /// The reverse-path.
    pub(super) from: String,
    pub(super) bytes: Vec<u8>,
    /// Protocol version and cipher suite, if TLS was used.
    pub(super) tls: Option<String>,
}

/// Starts the receiving host; returns its address and the received messages. It ends with the process.
pub(super) fn serve(hostname: &Domain) -> io::Result<(SocketAddr, Receiver<Arrived>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (sender, receiver) = channel();
    let hostname = hostname.clone();
    let settings = ServerSettings {
        hostname: hostname.as_str().into(),
        message_bytes_max: 1 << 20,
        recipients_max: 100,
        long_lines: LongLines::Take,
    };
    thread::Builder::new()
        .name("demo-mx".into())
        .spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (hostname, settings, sender) =
                    (hostname.clone(), settings.clone(), sender.clone());
                let session = move || drop(serve_one(stream, &hostname, &settings, &sender));
                drop(
                    thread::Builder::new()
                        .name("demo-mx-session".into())
                        .spawn(session),
                );
            }
        })?;
    Ok((address, receiver))
}

fn serve_one(
    stream: TcpStream,
    hostname: &Domain,
    settings: &ServerSettings,
    arrived: &Sender<Arrived>,
) -> io::Result<()> {
    let mut link = Link::new(stream, Duration::from_secs(30))?;
    let mut session = Session::new(PortRole::Relay, Encryption::Offered);
    let (mut out, mut body, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut agreed = None;
    session.start(settings, &mut out);
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut input = kept.as_slice();
        while let Some(request) = session.advance(&mut input, settings, &mut out, &mut body) {
            match request {
                ServerRequest::Store(transaction) => {
                    let message = Arrived {
                        from: transaction.reverse_path.to_string(),
                        bytes: std::mem::take(&mut body),
                        tls: agreed.clone(),
                    };
                    let reply = match arrived.send(message) {
                        Ok(()) => Reply::queued(QueueId::new(1)),
                        Err(_) => Reply::STORE_FAILED,
                    };
                    session.on_stored(&reply, &mut out);
                }
                ServerRequest::Forget | ServerRequest::Refuse(_) => body.clear(),
                ServerRequest::StartTls => {
                    input = &[];
                    link.write_all(&std::mem::take(&mut out))?;
                    let terms =
                        link.start_tls(&LinkTls::self_signed(hostname)?, &TlsSide::Server)?;
                    agreed = Some(format!("{} {}", terms.version, terms.cipher));
                    session.on_tls();
                }
                ServerRequest::Close | ServerRequest::RefuseAndClose(_) => {
                    link.write_all(&out)?;
                    return link.flush();
                }
                question => answer(&mut session, question, settings, &mut out),
            }
        }
        kept = input.to_vec();
        link.write_all(&std::mem::take(&mut out))?;
        link.flush()?;
        match link.read(&mut buffer)? {
            0 => return Ok(()),
            len => kept.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
}

/// Answers simple requests: every client may send to every mailbox.
fn answer(
    session: &mut Session,
    question: ServerRequest,
    settings: &ServerSettings,
    out: &mut Vec<u8>,
) {
    match question {
        ServerRequest::Hello { .. } => session.on_ehlo(Ok(()), settings, out),
        ServerRequest::Sender { .. } => session.on_sender(Ok(()), out),
        ServerRequest::Recipient {
            to: ForwardPath::Mailbox(mailbox),
            notify,
            original,
        } => session.on_recipient(Ok(vec![Recipient::new(mailbox, notify, original)]), out),
        ServerRequest::Recipient { .. } => session.on_recipient(Err(Reply::NO_DOMAIN), out),
        ServerRequest::Authenticate { .. } | ServerRequest::Respond(_) => {
            session.on_auth(AuthStep::Refusal(Reply::AUTH_NOT_OFFERED), out);
        }
        ServerRequest::BeginBody => session.on_body_ready(Ok(()), settings, out),
        // Of the link, not of the session.
        ServerRequest::StartTls
        | ServerRequest::Store(_)
        | ServerRequest::Forget
        | ServerRequest::Refuse(_)
        | ServerRequest::RefuseAndClose(_)
        | ServerRequest::Close => {}
    }
}
