//! Serves one client's connection, from the handshake to its end.

use std::{future::pending, iter, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use p2pconnect_link::{ConnectError, Link};
use p2pconnect_proto::{
    close::{self, Close},
    codec,
    message::{Notice, Request},
    portable,
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Sleep, sleep, timeout},
};
use tracing::{debug, error, info};

use super::{
    frame::{self, FrameError},
    notices::Notices,
    request, silence,
    ticket::{ConnectedClient, Displaced, Ticket, TurnedAway},
};
use crate::registry::Client;

/// How long a handshake may take: one round trip, or several where packets are lost, their
/// retransmissions 1, 2 and 4 s apart.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the proof of an invitation may take. It follows the handshake at once, a packet or two
/// may be lost, and whoever has none is told so before it takes the silence for a fault.
const PROOF: Duration = Duration::from_secs(2);

/// How long the welcome may take: as long as any message.
const WELCOME: Duration = Duration::from_secs(5);

/// The end of a connection that has to make room: others do as well, until those who handshake are
/// through.
const NO_ROOM: Close = Close {
    code: close::OVERLOADED,
    retry_after: Some(Duration::from_secs(4)),
};

/// The most tasks of one connection. A client is allowed 32 requests at a time; an answered
/// dial's task may go on for seconds while the callee's message waits.
const MAX_TASKS: usize = 64;

/// How many requests a client has open before it is allowed more at a time.
const FEW: usize = 4;

/// A client that has been let in, and what tells that it has to make room for another one.
pub(super) struct LetIn(Arc<ConnectedClient>, Displaced);

/// Lets a client in whose first packet has come from `seen`; `None` if it has not come so far.
pub(super) async fn admit(
    accepting: impl Future<Output = Result<Link, ConnectError>>,
    seen: SocketAddr,
    mut ticket: Ticket,
) -> Option<LetIn> {
    let displaced = ticket.displaced();
    // That of the first packet, since this is the address that finishing the handshake proves.
    let seen = portable(seen);
    let link = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => {
            debug!(%error, "handshake failed");
            return None;
        }
        Err(_) => {
            debug!("handshake took too long");
            return None;
        }
    };
    let Some(peer) = link.peer_id() else {
        close_for(&link, "no Ed25519 certificate");
        return None;
    };
    let client = Client {
        peer,
        connection: ticket.id(),
        seen,
    };
    debug!(%peer, %seen, "client connected");
    let proof = match ticket.has_to_prove(&peer) {
        true => timeout(PROOF, proof_of(&link)).await.ok().flatten(),
        false => None,
    };
    match ticket.admit(client, Notices::new(link.clone(), proof)) {
        Ok(connected) => Some(LetIn(Arc::new(connected), displaced)),
        Err(TurnedAway { close, words }) => {
            link.close(close, &words);
            None
        }
    }
}

/// Reads the proof that a client shows first that is served only if it is invited.
async fn proof_of(link: &Link) -> Option<[u8; 32]> {
    let (mut send, mut recv) = link.accept_bi().await.ok()?;
    let mut frame = codec::encode(&Request::Prove([0; 32])).ok()?;
    let expected = frame[..codec::HEADER_LEN].to_vec();
    if recv.read_full(&mut frame).await.ok()? < frame.len() || !frame.starts_with(&expected) {
        return None;
    }
    let Ok(Request::Prove(proof)) = codec::decode(&frame[codec::HEADER_LEN..]) else {
        return None;
    };
    send.finish().is_ok().then_some(proof)
}

/// Serves one client that is to be let in until its connection ends.
///
/// What does not last is in boxes of its own: a hundred thousand of these wait for something.
pub(super) async fn serve(admitting: Pin<Box<dyn Future<Output = Option<LetIn>> + Send>>) {
    let Some(LetIn(connected, displaced)) = admitting.await else {
        return;
    };
    let mut tasks = Tasks::default();
    tasks.spawn(welcome(Arc::clone(&connected)));
    tokio::select! {
        () = serve_requests(&connected, &mut tasks) => {}
        () = displaced => connected.link().close(NO_ROOM, "no room"),
        never = silence::watch(&connected) => match never {},
    }
    Box::pin(leave(connected, tasks)).await;
}

async fn leave(connected: Arc<ConnectedClient>, tasks: Tasks) {
    tasks.shutdown().await;
    silence::tell_of_end(&connected).await;
    let link = connected.link().clone();
    debug!(reason = ?link.close_reason(), "connection ended");
    drop(connected);
    link.let_go().await;
}

/// The tasks of a connection, which take no memory while there are none.
#[derive(Default)]
struct Tasks(Option<JoinSet<Result<(), FrameError>>>);

impl Tasks {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, JoinSet::len)
    }

    fn spawn(&mut self, task: impl Future<Output = Result<(), FrameError>> + Send + 'static) {
        self.0.get_or_insert_default().spawn(task);
    }

    /// Waits for the next one that ends, for ever if there is none. Cancel safe.
    async fn ended(&mut self) -> Result<Result<(), FrameError>, JoinError> {
        let ended = match &mut self.0 {
            Some(tasks) => tasks.join_next().await,
            None => None,
        };
        if self.len() == 0 {
            self.0 = None;
        }
        match ended {
            Some(ended) => ended,
            None => pending().await,
        }
    }

    async fn shutdown(self) {
        if let Some(mut tasks) = self.0 {
            tasks.shutdown().await;
        }
    }
}

async fn serve_requests(connected: &Arc<ConnectedClient>, tasks: &mut Tasks) {
    let link = connected.link();
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    let mut is_allowed_more = false;
    loop {
        let has_room = tasks.len() < MAX_TASKS;
        let next = async {
            if let Some(pause) = &mut pause {
                pause.await;
            }
            link.accept_bi().await
        };
        tokio::select! {
            stream = next, if has_room => match stream {
                Ok((send, recv)) => {
                    connected.hear();
                    tasks.spawn(request::serve(Arc::clone(connected), send, recv));
                    let wait = connected.pace();
                    pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
                    if tasks.len() > FEW && !is_allowed_more {
                        is_allowed_more = true;
                        link.allow_more_requests();
                    }
                }
                Err(_) => return,
            },
            sign = link.sign_of_life() => match sign {
                Ok(()) => connected.hear(),
                Err(_) => return,
            },
            ended = tasks.ended() => match ended {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_quiet_takes_a_small_task() {
        let size = size_of_val(&serve(Box::pin(pending())));
        assert!(size <= 800, "{size} bytes");
    }
}
