//! Carries out what is asked of the bulletin board, and tells those who watch.

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use p2pconnect_host::clock;
use p2pconnect_proto::{
    board::TopicKey,
    close, codec,
    message::{
        Announce, LookUp, Notice, Refusal, RefusalReason, Response, TopicChanges, Unsupported,
        Watch,
    },
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::error;

use super::{bulletin::Bulletin, frame, notices::Notices, ticket::ConnectedClient};
use crate::{
    board::{Board, merge},
    registry::ConnectionId,
};

/// How long changes are gathered behind a notice, so that a topic in which many come and go costs
/// each watcher ten notices a second.
const GATHERING: Duration = Duration::from_millis(100);

pub(super) async fn announce(
    connected: &ConnectedClient,
    announce: &Announce,
) -> Result<Response, Refusal> {
    let bulletin = &connected.shared().bulletin;
    {
        let mut board = asked(connected, 4)?;
        let effect = board.announce(&connected.client, announce, clock::now())?;
        bulletin.spread(effect);
    }
    bulletin.follow(announce.topic).await;
    Ok(Response::Noted)
}

pub(super) fn withdraw(connected: &ConnectedClient, topic: TopicKey) -> Result<Response, Refusal> {
    let bulletin = &connected.shared().bulletin;
    let mut board = asked(connected, 5)?;
    let effect = board.withdraw(&connected.client, topic);
    bulletin.spread(effect);
    bulletin.unfollow(&board, topic);
    Ok(Response::Noted)
}

pub(super) async fn look_up(
    connected: &ConnectedClient,
    look_up: &LookUp,
) -> Result<Response, Refusal> {
    let shared = connected.shared();
    let mut random = [0; 8];
    if let Err(error) = shared.host.fill_random(&mut random) {
        error!(%error, "the system gives no randomness");
        return Err(RefusalReason::Other.into());
    }
    let (position, most) = {
        let mut board = asked(connected, 6)?;
        let position = board.position(&connected.client, look_up, random, clock::now())?;
        (position, board.most(look_up.most))
    };
    let mut pages = shared.bulletin.pages_of_others(look_up, position).await;
    // Behind those of others, so that whoever has moved here meanwhile is on one of them.
    let own = shared.bulletin.board();
    pages.push(own.page(&look_up.topic, position, look_up.most));
    drop(own);
    let mut found = merge(pages, position, most);
    found.extensions = shared.grease.extensions();
    Ok(Response::Found(found))
}

pub(super) async fn watch(connected: &ConnectedClient, watch: &Watch) -> Result<Response, Refusal> {
    let (client, bulletin) = (&connected.client, &connected.shared().bulletin);
    {
        let mut board = asked(connected, 7)?;
        board.watch(client, watch, clock::now())?;
        bulletin.feed(client.connection, |changed| {
            let (bulletin, notices) = (Arc::clone(bulletin), Arc::clone(&connected.notices));
            tell(bulletin, client.connection, notices, changed)
        });
    }
    bulletin.follow(watch.topic).await;
    Ok(Response::Noted)
}

pub(super) fn unwatch(connected: &ConnectedClient, topic: TopicKey) -> Result<Response, Refusal> {
    let mut board = asked(connected, 8)?;
    board.unwatch(&connected.client, topic);
    connected.shared().bulletin.unfollow(&board, topic);
    Ok(Response::Noted)
}

/// Returns the board, unless there is none: a request of this kind is not known then.
fn asked(connected: &ConnectedClient, kind: u16) -> Result<MutexGuard<'_, Board>, Refusal> {
    let board = connected.shared().bulletin.board();
    let is_kept = board.is_kept();
    let unknown = RefusalReason::Unsupported(Unsupported::Request(kind));
    is_kept.then_some(board).ok_or_else(|| unknown.into())
}

/// Tells a client what changes until its connection ends. What it does not take is gathered.
async fn tell(
    bulletin: Arc<Bulletin>,
    connection: ConnectionId,
    notices: Arc<Notices>,
    changed: Arc<Notify>,
) {
    loop {
        changed.notified().await;
        loop {
            // Before anything is taken out, so that what is told is what there is then.
            match notices.room().await {
                Ok(()) => {}
                Err(RefusalReason::TooMany) => continue,
                Err(_) => return,
            }
            let Some(changes) = bulletin.board().take(connection) else {
                break;
            };
            let topic = changes.topic;
            if send(&bulletin, &notices, changes).await.is_none() {
                bulletin.board().lost(connection, topic);
            }
            sleep(GATHERING).await;
        }
    }
}

/// Sends a notice; `None` if it does not arrive, as far as that is known.
async fn send(bulletin: &Bulletin, notices: &Notices, mut changes: TopicChanges) -> Option<()> {
    changes.extensions = bulletin.grease.extensions();
    let frame = codec::encode(&Notice::Topic(changes));
    let frame = frame.inspect_err(|error| error!(%error, "changes exceed a frame"));
    let frame = frame.ok()?;
    let mut stream = notices.stream().await.ok()?;
    match timeout(frame::MESSAGE, frame::write(&mut stream, &frame)).await {
        Ok(written) => written.ok(),
        Err(_) => {
            stream.reset(close::TIMED_OUT);
            None
        }
    }
}
