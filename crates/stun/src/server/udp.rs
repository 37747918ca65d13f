//! Serves datagrams.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::UdpSocket;
use p2pconnect_proto::portable;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    Shared,
    datagram::{Arrival, Reply, reply},
    meter::Counts,
};

/// How long nothing is received after an error, of which there should be none.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A socket of the server.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    /// What it is bound to.
    pub(super) at: SocketAddr,
}

/// Answers what comes to one of the sockets, for ever. An answer may have to leave by another one.
pub(super) async fn run(index: usize, sockets: Arc<[Datagrams]>, shared: Arc<Shared>) {
    let mut buffer = vec![0; UdpSocket::MOST_RECEIVED];
    let here = &sockets[index];
    for Datagrams { socket, .. } in sockets.iter() {
        if let Err(error) = socket.writable().await {
            debug!(%error, "a stun socket takes no datagrams yet");
        }
    }
    loop {
        let received = match here.socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "cannot receive stun datagrams");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        for bytes in received.datagrams(&buffer) {
            let arrival = Arrival {
                bytes,
                from: received.from,
                at: here.at,
                quad: shared.quad_of(here.at),
            };
            if let Some(reply) = answered(arrival, &shared)
                && let Some(by) = sockets.iter().find(|it| it.at == reply.by)
            {
                // A socket at all addresses answers from the one that was asked.
                let source = received.to.filter(|_| by.at.ip().is_unspecified());
                match by.socket.try_send(&reply.bytes, reply.to, source) {
                    Ok(()) => Counts::add(&shared.counts.datagrams),
                    // As if it were lost on the way: who has asked asks again.
                    Err(error) => debug!(%error, "a stun answer is not sent"),
                }
            }
        }
    }
}

fn answered(arrival: Arrival<'_>, shared: &Shared) -> Option<Reply> {
    let now = shared.config.host.unix_time();
    let Some(reply) = reply(arrival, &shared.config, now) else {
        Counts::add(&shared.counts.foreign);
        return None;
    };
    let ip = portable(arrival.from).ip();
    if !shared.datagram_limits().admits(ip, Instant::now()) {
        Counts::add(&shared.counts.too_fast);
        return None;
    }
    Some(reply)
}
