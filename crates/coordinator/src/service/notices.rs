use std::{
    future::poll_fn,
    pin::pin,
    sync::Mutex,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use p2pconnect_proto::message::Refusal;
use quinn::{Connection, SendStream};
use tokio::time::{sleep, timeout};

use super::shared::lock;

/// How long a client may take to make room for one more notice. There is room at once unless it
/// has left dozens unread; only whoever has something for it waits.
const NOTICE_ROOM: Duration = Duration::from_secs(1);

/// For how long a client may send nothing at all after something was sent to it. QUIC repeats what is
/// not acknowledged two or three times in this time, so that a lossy path is hardly taken for a client
/// that is gone.
const SILENCE: Duration = Duration::from_millis(1500);

/// How often it is looked whether something has come: a fraction of most round trips.
const SILENCE_CHECK: Duration = Duration::from_millis(25);

/// The way to tell one client something.
///
/// A client may read one notice after the other, and a stream opens all those with lower numbers.
/// One that is opened long before it is written to would thus hold up whatever comes meanwhile. So
/// at most one is kept in advance, as a sign that there is room, and whatever leaves next takes it.
#[derive(Debug)]
pub(super) struct Notices {
    connection: Connection,
    /// When the client was heard of last: a request, or what it keeps the connection alive with.
    heard: Mutex<Instant>,
    /// Of all streams that nothing was written to, the one with the lowest number.
    next: Mutex<Option<SendStream>>,
}

impl Notices {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            heard: Mutex::new(Instant::now()),
            next: Mutex::new(None),
        }
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Notes that the client has been heard of.
    pub(super) fn hear(&self) {
        *lock(&self.heard) = Instant::now();
    }

    /// Returns how many datagrams have come from the client.
    pub(super) fn datagrams(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Waits until more datagrams have come from the client than `heard_before`, if only with an
    /// acknowledgement. If none does for [`SILENCE`], or three round trips where these are longer, returns
    /// for how long the client has been silent.
    pub(super) async fn silence(&self, heard_before: u64) -> Option<Duration> {
        let patience = SILENCE.max(self.connection.rtt() * 3);
        let hearing = async {
            while self.datagrams() == heard_before && self.connection.close_reason().is_none() {
                sleep(SILENCE_CHECK).await;
            }
        };
        if timeout(patience, hearing).await.is_ok() {
            self.hear();
            return None;
        }
        Some(lock(&self.heard).elapsed())
    }

    /// Waits until there is room for a notice, without taking it. Cancel safe.
    pub(super) async fn room(&self) -> Result<(), Refusal> {
        self.opened(|_| Some(())).await
    }

    /// Opens the stream for a notice that leaves now. Cancel safe.
    pub(super) async fn stream(&self) -> Result<SendStream, Refusal> {
        self.opened(Option::take).await
    }

    async fn opened<T>(
        &self,
        take: impl Fn(&mut Option<SendStream>) -> Option<T>,
    ) -> Result<T, Refusal> {
        let mut opening = pin!(self.connection.open_uni());
        let opened = poll_fn(|cx| {
            // Streams are opened under the lock, so that they are used in the order of their numbers.
            let mut next = lock(&self.next);
            if self.connection.close_reason().is_some() {
                return Poll::Ready(None);
            }
            if next.is_none() {
                *next = ready!(opening.as_mut().poll(cx)).ok();
            }
            Poll::Ready(take(&mut next))
        });
        let opened = timeout(NOTICE_ROOM, opened).await;
        opened
            .map_err(|_| Refusal::TooMany)?
            .ok_or(Refusal::Unavailable)
    }
}
