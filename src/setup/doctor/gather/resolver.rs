//! The answers of each resolver, and whether it validates.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use crate::address::Domain;
use crate::dns::{Recursion, ZoneKind};
use crate::setup::dns_client::exchange;
use crate::setup::doctor::judge::resolver::AskedResolver;
use crate::setup::doctor::{DoctorScope, Heard};

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Vec<AskedResolver> {
    let host = &examination.config.hostname;
    let signed = Domain::parse("org");
    let ask = |(server, reply): &Heard| {
        let answers = match reply {
            Ok(reply) if matches!(reply.code, NOERROR | NXDOMAIN) => Ok(()),
            Ok(reply) => Err(format!(
                "it answered with the code {} for {host}",
                reply.code
            )),
            Err(error) => Err(error.clone()),
        };
        let validates = match (&answers, &signed) {
            (Ok(()), Ok(signed)) => exchange(*server, signed, ZoneKind::Soa, Recursion::Desired)
                .map(|reply| reply.authentic),
            _ => Err("it was not asked".to_owned()),
        };
        AskedResolver {
            server: *server,
            has_route: has_route(*server),
            answers,
            validates,
        }
    };
    thread::scope(|scope| {
        let asked: Vec<_> = examination
            .heard()
            .iter()
            .map(|heard| scope.spawn(move || ask(heard)))
            .collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

/// Whether the system knows a way to it; nothing is sent.
fn has_route(server: SocketAddr) -> bool {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(server).is_ok())
}

const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;
