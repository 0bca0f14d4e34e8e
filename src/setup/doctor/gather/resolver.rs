//! Asks each resolver by itself.

use std::thread;

use crate::address::Domain;
use crate::dns::{Recursion, ZoneKind};
use crate::setup::asking::exchange;
use crate::setup::doctor::Examination;
use crate::setup::doctor::judge::resolver::Asked;

/// What there is to know.
pub fn gather(examination: &Examination) -> Vec<Asked> {
    let host = &examination.config.hostname;
    let signed = Domain::parse("org");
    let ask = |server| {
        let answers = exchange(server, host, ZoneKind::A, Recursion::Desired);
        let answers = answers.and_then(|reply| match reply.code {
            NOERROR | NXDOMAIN => Ok(()),
            code => Err(format!("it answered with the code {code} for {host}")),
        });
        let validates = match (&answers, &signed) {
            (Ok(()), Ok(signed)) => exchange(server, signed, ZoneKind::Soa, Recursion::Desired)
                .map(|reply| reply.authentic),
            _ => Err("it was not asked".to_owned()),
        };
        Asked {
            server,
            answers,
            validates,
        }
    };
    thread::scope(|scope| {
        let asked: Vec<_> = examination
            .resolvers
            .iter()
            .map(|server| scope.spawn(move || ask(*server)))
            .collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;
