//! Serves one client's connection, from the handshake to its end.

use std::{iter, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_link::{ConnectError, Link};
use p2pconnect_proto::{close, codec, message::Notice, portable};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info};

use super::{
    frame::{self, FrameError},
    notices::Notices,
    request,
    shared::{ConnectedClient, Ticket, not_served},
    silence,
};
use crate::registry::Client;

/// How long a handshake may take: one round trip, or several where packets are lost, their
/// retransmissions 1, 2 and 4 s apart.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the welcome may take: as long as any message.
const WELCOME: Duration = Duration::from_secs(5);

/// The most tasks of one connection. A client is allowed 32 requests at a time; an answered
/// dial's task may go on for seconds while the callee's message waits.
const MAX_TASKS: usize = 64;

/// Serves one client from its first packet, which has come from `seen`, until its connection ends.
pub(super) async fn serve(
    accepting: impl Future<Output = Result<Link, ConnectError>>,
    seen: SocketAddr,
    mut ticket: Ticket,
) {
    let displaced = ticket.displaced();
    // That of the first packet, since this is the address that finishing the handshake proves.
    let seen = portable(seen);
    let link = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return debug!(%error, "handshake failed"),
        Err(_) => return debug!("handshake took too long"),
    };
    let Some(peer) = link.peer_id() else {
        return close_for(&link, "no Ed25519 certificate");
    };
    let client = Client {
        peer,
        connection: ticket.id(),
        seen,
    };
    debug!(%peer, %seen, "client connected");
    let Some(connected) = ticket.admit(client, link.clone()) else {
        return link.close(close::NOT_SERVED, &not_served(&peer));
    };
    let connected = Arc::new(connected);
    let mut tasks = JoinSet::new();
    tasks.spawn(welcome(Arc::clone(&connected)));
    tokio::select! {
        () = serve_requests(&connected, &mut tasks) => {}
        () = displaced => link.close(close::OVERLOADED, "no room"),
        never = silence::watch(&connected) => match never {},
    }
    tasks.shutdown().await;
    silence::tell_of_end(&connected).await;
    debug!(reason = ?link.close_reason(), "connection ended");
    drop(connected);
    link.let_go().await;
}

async fn serve_requests(
    connected: &Arc<ConnectedClient>,
    tasks: &mut JoinSet<Result<(), FrameError>>,
) {
    let link = &connected.link;
    let mut paced = Instant::now();
    loop {
        let next = async move {
            sleep_until(paced).await;
            link.accept_bi().await
        };
        tokio::select! {
            stream = next, if tasks.len() < MAX_TASKS => match stream {
                Ok((send, recv)) => {
                    connected.hear();
                    tasks.spawn(request::serve(Arc::clone(connected), send, recv));
                    paced = Instant::now() + connected.pace();
                }
                Err(_) => return,
            },
            Ok(()) = link.sign_of_life() => connected.hear(),
            _ = link.closed() => return,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(violation)) => {
                    if connected.may_log() {
                        info!(peer = %connected.client.peer, %violation, "peer broke the protocol");
                    }
                    return close_for(link, &violation.to_string());
                }
                // The process ends: nobody else cancels a request.
                Err(error) if error.is_cancelled() => return,
                Err(error) => {
                    error!(%error, "serving a request failed");
                    return link.close(close::INTERNAL, "internal failure");
                }
            },
        }
    }
}

async fn welcome(connected: Arc<ConnectedClient>) -> Result<(), FrameError> {
    let welcome = connected.shared().welcome(connected.client.seen);
    let grease = connected.shared().grease.draw();
    let grease = grease.map(|it| Notice::Unknown(it.message()));
    let telling = async {
        for notice in iter::once(welcome).chain(grease) {
            notify(&connected.notices, &notice).await;
        }
    };
    if timeout(WELCOME, telling).await.is_err() {
        debug!("client takes no notices");
    }
    Ok(())
}

async fn notify(notices: &Notices, notice: &Notice) {
    let Ok(frame) = codec::encode(notice) else {
        return error!("a welcome exceeds a frame");
    };
    if let Ok(mut stream) = notices.stream().await
        && let Err(error) = frame::write(&mut stream, &frame).await
    {
        debug!(%error, "welcome not sent");
    }
}

fn close_for(link: &Link, violation: &str) {
    debug!(violation, "client broke the protocol");
    link.close(close::PROTOCOL_VIOLATION, violation);
}
