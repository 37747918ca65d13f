//! Brings bytes of handshakes that came by way of the coordinator to their sessions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_proto::{
    SessionToken,
    message::{Flight, MAX_HANDSHAKE, Silent},
};
use tokio::sync::mpsc;

use crate::sync::lock;

/// Flights that wait in one session. A side of TLS 1.3 sends two at most.
const MAX_WAITING: usize = 4;

/// Flights that wait for their session to begin: the other side may have been told of it a little
/// before us. As many as there may be introductions on their way.
const MAX_EARLY: usize = 32;

/// What a coordinator says about a session under way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionNotice {
    /// Bytes of the handshake; none if the other side has given the introduction up.
    Bytes(Vec<u8>),
    /// Nothing has come from the other side for so long.
    Silent(Duration),
}

/// The sessions that wait for bytes of their handshake.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    sessions: BTreeMap<SessionToken, mpsc::Sender<SessionNotice>>,
    early: VecDeque<(SessionToken, SessionNotice)>,
}

impl Flights {
    /// Lets a session receive what comes for it, and what has come already.
    pub(crate) fn expect(self: &Arc<Self>, session: SessionToken) -> Incoming {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        self.with(|waiting| {
            for early in std::mem::take(&mut waiting.early) {
                if early.0 == session {
                    offer(&sender, early.1);
                } else {
                    waiting.early.push_back(early);
                }
            }
            waiting.sessions.insert(session, sender);
        });
        Incoming {
            receiver,
            session,
            flights: Arc::clone(self),
        }
    }

    /// Hands bytes to their session, unless they are more than a coordinator passes on.
    pub(crate) fn deliver(&self, flight: Flight) {
        if flight.bytes.len() <= MAX_HANDSHAKE {
            self.hand(flight.session, SessionNotice::Bytes(flight.bytes));
        }
    }

    /// Tells a session that nothing has come from its other side.
    pub(crate) fn tell_of_silence(&self, silent: &Silent) {
        let Silent { session, silent_ms } = silent.well_formed();
        let silence = Duration::from_millis(silent_ms.into());
        self.hand(session, SessionNotice::Silent(silence));
    }

    fn hand(&self, session: SessionToken, notice: SessionNotice) {
        self.with(|waiting| match waiting.sessions.get(&session) {
            Some(session) => offer(session, notice),
            None => {
                if waiting.early.len() == MAX_EARLY {
                    waiting.early.pop_front();
                }
                waiting.early.push_back((session, notice));
            }
        });
    }

    fn with<T>(&self, use_waiting: impl FnOnce(&mut Waiting) -> T) -> T {
        use_waiting(&mut lock(&self.0))
    }
}

fn offer(session: &mpsc::Sender<SessionNotice>, notice: SessionNotice) {
    if session.try_send(notice).is_err() {
        tracing::debug!("bytes of a handshake dropped: nobody wants so many");
    }
}

/// Where the bytes for one session arrive, until it is dropped.
#[derive(Debug)]
pub(crate) struct Incoming {
    receiver: mpsc::Receiver<SessionNotice>,
    session: SessionToken,
    flights: Arc<Flights>,
}

impl Incoming {
    /// Waits for the next notice. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<SessionNotice> {
        self.receiver.recv().await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.flights
            .with(|waiting| waiting.sessions.remove(&self.session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(session: u8, byte: u8) -> Flight {
        Flight {
            session: SessionToken::from_bytes([session; 16]),
            bytes: vec![byte],
        }
    }

    #[tokio::test]
    async fn bytes_find_their_session_early_or_not() {
        let flights = Arc::new(Flights::default());
        flights.deliver(flight(1, 10));
        flights.deliver(flight(2, 20));
        let mut first = flights.expect(SessionToken::from_bytes([1; 16]));
        flights.deliver(flight(1, 11));
        assert_eq!(first.next().await, Some(SessionNotice::Bytes(vec![10])));
        assert_eq!(first.next().await, Some(SessionNotice::Bytes(vec![11])));
        let mut second = flights.expect(SessionToken::from_bytes([2; 16]));
        assert_eq!(second.next().await, Some(SessionNotice::Bytes(vec![20])));
        drop((first, second));
        flights.with(|waiting| {
            assert!(waiting.sessions.is_empty() && waiting.early.is_empty());
        });
    }

    #[tokio::test]
    async fn a_silence_is_no_longer_than_a_connection_bears() {
        let flights = Arc::new(Flights::default());
        let session = SessionToken::from_bytes([1; 16]);
        let mut waiting = flights.expect(session);
        for (silent_ms, seconds) in [(17_000, 17), (u32::MAX, 30)] {
            flights.tell_of_silence(&Silent { session, silent_ms });
            let silence = SessionNotice::Silent(Duration::from_secs(seconds));
            assert_eq!(waiting.next().await, Some(silence));
        }
    }

    #[test]
    fn what_nobody_waits_for_takes_up_little() {
        let flights = Arc::new(Flights::default());
        for n in 0..=255 {
            flights.deliver(flight(n, n));
        }
        flights.with(|waiting| assert_eq!(waiting.early.len(), MAX_EARLY));
        for n in 0..=255 {
            flights.deliver(Flight {
                bytes: vec![n; 60_000],
                ..flight(n, n)
            });
        }
        let is_short = |notice: &SessionNotice| matches!(notice, SessionNotice::Bytes(bytes) if bytes.len() <= MAX_HANDSHAKE);
        flights.with(|waiting| assert!(waiting.early.iter().all(|(_, notice)| is_short(notice))));
    }
}
