//! Sends notices to a client, in their order and without waiting for it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Mutex,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_link::{Link, SendStream};
use p2pconnect_proto::message::RefusalReason;
use tokio::{sync::Notify, time::timeout};

use super::lock::lock;

/// How long a client may take to make room for one more notice. There is room at once unless it
/// has left dozens unread; only whoever has something for it waits.
pub(super) const NOTICE_ROOM: Duration = Duration::from_secs(1);

/// The way to tell one client something.
///
/// A client may read one notice after the other, and a stream opens all those with lower numbers.
/// One that is opened long before it is written to would thus hold up whatever comes meanwhile. So
/// at most one is kept in advance, as a sign that there is room, and whatever leaves next takes it.
#[derive(Debug)]
pub(super) struct Notices {
    link: Link,
    /// What the client has shown of an invitation.
    proof: Option<Box<[u8; 32]>>,
    /// When the client was heard of last: a request, or what it keeps the connection alive with.
    heard: Mutex<Instant>,
    /// Wakes who looks after the client when somebody waits for it.
    awaited: Notify,
    /// Of all streams that nothing was written to, the one with the lowest number.
    next: Mutex<Option<Box<SendStream>>>,
}

impl Notices {
    pub(super) fn new(link: Link, proof: Option<[u8; 32]>) -> Self {
        Self {
            link,
            proof: proof.map(Box::new),
            heard: Mutex::new(clock::now()),
            awaited: Notify::new(),
            next: Mutex::new(None),
        }
    }

    pub(super) const fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn proof(&self) -> Option<&[u8; 32]> {
        self.proof.as_deref()
    }

    /// Notes that the client has been heard of.
    pub(super) fn hear(&self) {
        *lock(&self.heard) = clock::now();
    }

    /// Returns for how long nothing has come from the client.
    pub(super) fn silent_for(&self) -> Duration {
        clock::since(*lock(&self.heard))
    }

    /// Notes that somebody waits for the client from now on.
    pub(super) fn await_client(&self) {
        self.awaited.notify_one();
    }

    /// Waits until somebody waits for the client. Cancel safe.
    pub(super) async fn awaited(&self) {
        self.awaited.notified().await;
    }

    /// Waits until there is room for a notice, without taking it. Cancel safe.
    pub(super) async fn room(&self) -> Result<(), RefusalReason> {
        self.opened(|_| Some(())).await
    }

    /// Opens the stream for a notice that leaves now. Cancel safe.
    pub(super) async fn stream(&self) -> Result<SendStream, RefusalReason> {
        self.opened(Option::take).await.map(|stream| *stream)
    }

    async fn opened<T>(
        &self,
        take: impl Fn(&mut Option<Box<SendStream>>) -> Option<T>,
    ) -> Result<T, RefusalReason> {
        let mut opening = pin!(self.link.open_uni());
        let opened = poll_fn(|cx| {
            // Streams are opened under the lock, so that they are used in the order of their
            // numbers.
            let mut next = lock(&self.next);
            if self.link.close_reason().is_some() {
                return Poll::Ready(None);
            }
            if next.is_none() {
                *next = ready!(opening.as_mut().poll(cx)).ok().map(Box::new);
            }
            Poll::Ready(take(&mut next))
        });
        let opened = timeout(NOTICE_ROOM, opened).await;
        opened
            .map_err(|_| RefusalReason::TooMany)?
            .ok_or(RefusalReason::Unavailable)
    }
}
