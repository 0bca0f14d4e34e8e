//! The results of mail-auth.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use chopar::address::Domain;
use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::Signature;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::{
    AuthenticatedMessage, AuthenticationResults, DkimOutput, DkimResult, DmarcOutput, Error,
    MessageAuthenticator, Parameters, SpfOutput, SpfResult,
};

use crate::signer::{Key, KeyKind};
use crate::zone::Zone;

pub(crate) struct Peer(MessageAuthenticator);

/// mail-auth's verdict on one DKIM-Signature field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Judged {
    /// It could not be parsed.
    Unread,
    Result(DkimResult),
}

impl Peer {
    pub(crate) fn new() -> Self {
        let resolver =
            MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default());
        Self(resolver.expect("a resolver that is never asked"))
    }

    /// One verdict for each DKIM-Signature, from the top.
    pub(crate) fn dkim(&self, message: &[u8], zone: &Zone) -> Vec<Judged> {
        let Some(message) = AuthenticatedMessage::parse_with_opts(message, None, false) else {
            return Vec::new();
        };
        let texts = zone.texts_of_theirs();
        let outputs = ready(
            self.0
                .verify_dkim(Parameters::new(&message).with_txt_cache(&texts)),
        );
        // mail-auth reports those that could not be parsed first, and not all of them.
        let errors = message.errors.iter();
        let errors = errors.filter(|error| matches!(error.header, Error::Dkim(_)));
        let results: Vec<&DkimResult> = outputs
            .iter()
            .skip(errors.count())
            .map(DkimOutput::result)
            .collect();
        assert_eq!(results.len(), message.dkim_headers.len());
        message
            .headers
            .iter()
            .filter(|(name, _)| name.trim_ascii().eq_ignore_ascii_case(b"DKIM-Signature"))
            .map(|(_, value)| {
                let read = &message.dkim_headers;
                let place = read
                    .iter()
                    .position(|header| std::ptr::eq(header.value, *value));
                place.map_or(Judged::Unread, |place| {
                    Judged::Result(results[place].clone())
                })
            })
            .collect()
    }

    pub(crate) fn arc(&self, message: &[u8], zone: &Zone) -> DkimResult {
        let message = AuthenticatedMessage::parse_with_opts(message, None, false);
        let message = message.expect("a message");
        let texts = zone.texts_of_theirs();
        let output = ready(
            self.0
                .verify_arc(Parameters::new(&message).with_txt_cache(&texts)),
        );
        output.result().clone()
    }

    /// The message with one more set; `None` if its chain says that it is broken.
    pub(crate) fn sealed(&self, message: &[u8], zone: &Zone, key: &Key) -> Option<Vec<u8>> {
        let parsed = AuthenticatedMessage::parse_with_opts(message, None, false);
        let parsed = parsed.expect("a message");
        let texts = zone.texts_of_theirs();
        let chain = ready(
            self.0
                .verify_arc(Parameters::new(&parsed).with_txt_cache(&texts)),
        );
        let results = AuthenticationResults::new("mx.theirs.test");
        let names = ["From", "To", "Subject", "Date", "DKIM-Signature"];
        let set = match key.kind {
            KeyKind::Rsa => {
                let key = RsaKey::<Sha256>::from_key_der(key.der()).expect("a key");
                let sealer = ArcSealer::from_key(key)
                    .domain(SEALER)
                    .selector("rsa")
                    .headers(names);
                sealer.seal(&parsed, &results, &chain)
            }
            KeyKind::Ed25519 => {
                let key = Ed25519Key::from_pkcs8_der(key.der().secret_der()).expect("a key");
                let sealer = ArcSealer::from_key(key)
                    .domain(SEALER)
                    .selector("ed")
                    .headers(names);
                sealer.seal(&parsed, &results, &chain)
            }
        };
        let set = set.ok()?.to_header();
        Some([set.as_bytes(), message].concat())
    }

    pub(crate) fn dmarc(
        &self,
        author: &Domain,
        spf: Option<&Domain>,
        dkim: &[Domain],
        zone: &Zone,
    ) -> DmarcOutput {
        let message = format!("From: a@{author}\r\n\r\n");
        let message = AuthenticatedMessage::parse(message.as_bytes()).expect("a message");
        let signatures: Vec<Signature> = dkim
            .iter()
            .map(|domain| {
                let value = format!("d={domain}; s=s; b=AAAA; bh=AAAA; h=from");
                Signature::parse(value.as_bytes()).expect("a signature")
            })
            .collect();
        let dkim: Vec<DkimOutput<'_>> = signatures
            .iter()
            .map(|signature| DkimOutput::pass().with_signature(signature))
            .collect();
        let mail_from = spf.map_or("none.test", Domain::as_str);
        let result = match spf {
            Some(_) => SpfResult::Pass,
            None => SpfResult::Fail,
        };
        let spf = SpfOutput::new(mail_from.to_owned()).with_result(result);
        let (texts, hosts) = (zone.texts_of_theirs(), zone.hosts_of_theirs());
        let parameters = DmarcParameters::new(&message, &dkim, mail_from, &spf);
        let parameters = Parameters::new(parameters)
            .with_txt_cache(&texts)
            .with_ipv4_cache(&hosts);
        ready(self.0.verify_dmarc(parameters))
    }
}

/// The value of a future that never waits: every answer is in the caches.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("mail-auth waits for something"),
    }
}

pub(crate) const SEALER: &str = "theirs.test";
