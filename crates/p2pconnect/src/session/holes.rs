//! The holes that all sessions of an endpoint with the same peer share.
//!
//! Where a peer's ports have to be guessed, a session opens hundreds of holes from one punch port.
//! The next session with that peer needs the same holes: a socket for each pair of addresses is all
//! that the system gives, and to close one in SYN-SENT spoils its pair in some NATs. So a session
//! that ends passes on what is under way to one that asked for the same.

use std::{
    collections::{HashMap, VecDeque},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use p2pconnect_host::{Host, TcpStream};
use p2pconnect_punch::{ConnectFailure, Opened};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use crate::{
    machine::four_tuple::FourTuple,
    session::{
        closed_holes::ClosedHoles, connecting, path_faults::PathFaults, syn_budget::PaidSyn,
    },
    sync::{Watched, lock},
};

/// What becomes of an attempt to connect.
type ConnectResult = Result<(TcpStream, Opened), ConnectFailure>;

/// What one session waits for while another one connects: to go on with that, or what became of it.
type Waiter = oneshot::Sender<Result<Held, ConnectFailure>>;

/// The holes that are open, and the sessions that want them next.
///
/// There are no more than the guesses of an endpoint may take, and no more sessions than
/// introductions.
#[derive(Debug)]
pub(crate) struct Holes {
    host: Host,
    open: Mutex<HashMap<FourTuple, VecDeque<Waiter>>>,
    closed: Arc<ClosedHoles>,
}

impl Holes {
    /// Returns no holes, of this host.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            open: Mutex::default(),
            closed: Arc::default(),
        }
    }

    /// Returns whose holes they are.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Returns where it is noted which holes have been closed.
    pub(crate) fn closed(&self) -> Arc<ClosedHoles> {
        Arc::clone(&self.closed)
    }

    /// Tells whether a session, that may be over, has a hole open between these addresses: then the
    /// kernel lets nobody else connect there.
    pub(crate) fn is_open(&self, four_tuple: &FourTuple) -> bool {
        self.with(|holes| holes.contains_key(four_tuple))
    }

    /// Connects, or waits for a session that does so between the same addresses already.
    ///
    /// The SYN leaves at once; `None` if it cannot be paid for. `AddressNotAvailable` means that
    /// the other session has the connection: if it is this one's, it arrives as one that was
    /// accepted.
    ///
    /// Cancel safety: dropping the future closes the socket, unless another session takes it over.
    /// When `over` says so, the hole is closed, unless another session waits for it or the peer is
    /// coming through it just then.
    pub(crate) fn connect<F>(
        self: &Arc<Self>,
        four_tuple: FourTuple,
        pay: F,
        faults: Arc<PathFaults>,
        over: Watched<bool>,
    ) -> Option<impl Future<Output = ConnectResult> + use<F>>
    where
        F: FnOnce() -> Option<PaidSyn>,
    {
        let access = self.with(|holes| match holes.get_mut(&four_tuple) {
            Some(waiting) => {
                let (waiter, next) = oneshot::channel();
                // Sessions that have ended meanwhile.
                waiting.retain(|it| !it.is_closed());
                waiting.push_back(waiter);
                Some(Access::Queued(next))
            }
            None => {
                let paid = pay()?;
                holes.insert(four_tuple, VecDeque::new());
                Some(Access::Owner(paid))
            }
        })?;
        let access = match access {
            Access::Owner(paid) => {
                Access::Owner(Held::begin(Arc::clone(self), four_tuple, paid, faults))
            }
            Access::Queued(next) => Access::Queued(next),
        };
        Some(async move {
            let mut held = match access {
                Access::Owner(held) => held,
                Access::Queued(next) => match next.await {
                    Ok(passed_on) => passed_on?,
                    // Nobody lets go of a hole without a word; the agent asks again.
                    Err(_) => return Err(ConnectFailure::Other),
                },
            };
            tokio::select! {
                biased;
                connected = &mut held => return connected,
                () = over.wait_for(|over| *over) => {}
            }
            held.close().await
        })
    }

    fn with<T>(&self, use_all: impl FnOnce(&mut HashMap<FourTuple, VecDeque<Waiter>>) -> T) -> T {
        use_all(&mut lock(&self.open))
    }
}

/// How long holes stay open when the session that opened them is over. A program that makes several
/// connections makes them within a second or two; what comes later finds other holes, see
/// [`GuessBudget`](crate::session::guess_budget::GuessBudget).
pub(crate) const LINGERING: Duration = Duration::from_secs(3);

/// How long the ports of a range stay in use that a session has filled. Dials that begin together
/// come through them; those that go on one by one need as many guesses for ports of their own.
pub(crate) const FILLED: Duration = Duration::from_millis(700);

/// How long a connection may take to open when the peer's SYN has come through such a hole: as long
/// as a peer that has sent it waits.
const OPENING: Duration = Duration::from_secs(3);

/// How long listeners are given to learn that a hole is about to be closed: then nobody answers
/// there, neither its socket nor a listener.
const TELLING: Duration = Duration::from_millis(50);

/// The most sessions whose holes stay open: those that a peer may have under way.
const MAX_LINGERING: usize = 64;

/// The holes of sessions that are over. The next session with the same peer takes them over, and
/// until then what comes through them goes to the session that it names.
#[derive(Debug, Default)]
pub(crate) struct Lingering(Mutex<JoinSet<()>>);

impl Lingering {
    /// Goes on with what a session has under way, and keeps what that has taken, for so long. Says
    /// when it is `over`.
    pub(crate) fn hold<T, K>(
        &self,
        mut tasks: JoinSet<T>,
        limit: Duration,
        over: Watched<bool>,
        kept: K,
    ) where
        T: Send + 'static,
        K: Send + 'static,
    {
        let mut all = lock(&self.0);
        while all.try_join_next().is_some() {}
        if tasks.is_empty() || all.len() >= MAX_LINGERING {
            return;
        }
        all.spawn(async move {
            let mut ending = pin!(async { while tasks.join_next().await.is_some() {} });
            if timeout(limit, &mut ending).await.is_err() {
                over.set(true);
                // Whatever is left is closed.
                drop(timeout(OPENING, ending).await);
            }
            drop(kept);
        });
    }
}

/// What a session gets that asks for a hole.
enum Access<T> {
    /// Nobody else has the hole: the session opens it.
    Owner(T),
    /// Another session has the hole and passes it on.
    Queued(oneshot::Receiver<Result<Held, ConnectFailure>>),
}

/// A connection being made, which passes to the next session when it is dropped.
struct Held {
    holes: Arc<Holes>,
    four_tuple: FourTuple,
    connecting: Option<Pin<Box<dyn Future<Output = ConnectResult> + Send>>>,
    /// Dropped to have the attempt given up, unless the peer has met it.
    may_go_on: Option<oneshot::Sender<()>>,
    /// What became of it in the first moment.
    at_once: Option<ConnectResult>,
}

impl Held {
    fn begin(
        holes: Arc<Holes>,
        four_tuple: FourTuple,
        paid: PaidSyn,
        faults: Arc<PathFaults>,
    ) -> Self {
        let (may_go_on, ended) = oneshot::channel();
        let host = holes.host.clone();
        let mut held = Self {
            holes,
            four_tuple,
            connecting: Some(Box::pin(async move {
                let given_up = async { drop(ended.await) };
                connecting::connect(&host, four_tuple, paid, &faults, given_up).await
            })),
            may_go_on: Some(may_go_on),
            at_once: None,
        };
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = Pin::new(&mut held).poll(&mut nobody) {
            held.at_once = Some(result);
        }
        held
    }

    /// Closes the hole, or passes it on to a session that waits for it. If the peer is coming
    /// through it, the connection goes on.
    async fn close(mut self) -> ConnectResult {
        if self.is_wanted() {
            return Err(ConnectFailure::AddressNotAvailable);
        }
        // Listeners have to know it first: a SYN that comes when the socket is gone would be
        // answered by one.
        self.note_closed();
        if let Ok(connected) = timeout(TELLING, &mut self).await {
            return connected;
        }
        self.may_go_on = None;
        self.await
    }

    /// Tells whether another session waits for it.
    fn is_wanted(&self) -> bool {
        let is_waiting = |it: &VecDeque<Waiter>| it.iter().any(|waiter| !waiter.is_closed());
        self.holes
            .with(|holes| holes.get(&self.four_tuple).is_some_and(is_waiting))
    }

    /// Notes that the hole may be open in a NAT, and leads to no socket any more.
    fn note_closed(&self) {
        let FourTuple { local, remote } = self.four_tuple;
        self.holes.closed.note(local.port(), remote);
    }

    /// Tells all who wait what has become of the connection.
    fn end(&mut self, result: &ConnectResult) {
        self.connecting = None;
        if result.as_ref().is_err_and(|it| leaves_open(*it)) {
            self.note_closed();
        }
        let failure = match result {
            Ok(_) => ConnectFailure::AddressNotAvailable,
            Err(failure) => *failure,
        };
        let waiting = self.holes.with(|holes| holes.remove(&self.four_tuple));
        for waiter in waiting.into_iter().flatten() {
            // A session that has ended does not need to know.
            drop(waiter.send(Err(failure)));
        }
    }
}

/// Tells whether the SYNs may have left a hole in a NAT although nothing came of them.
const fn leaves_open(failure: ConnectFailure) -> bool {
    match failure {
        ConnectFailure::TimedOut
        | ConnectFailure::HostUnreachable
        | ConnectFailure::NetworkUnreachable
        | ConnectFailure::Other => true,
        // RST closes it, and in the other cases none was sent.
        ConnectFailure::Refused
        | ConnectFailure::Reset
        | ConnectFailure::NoLocalAddress
        | ConnectFailure::NotPermitted
        | ConnectFailure::AddressInUse
        | ConnectFailure::AddressNotAvailable
        | ConnectFailure::NoResources
        | ConnectFailure::Withheld => false,
    }
}

impl Future for Held {
    type Output = ConnectResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ConnectResult> {
        if let Some(result) = self.at_once.take() {
            return Poll::Ready(result);
        }
        let Some(connecting) = &mut self.connecting else {
            return Poll::Pending;
        };
        let Poll::Ready(result) = connecting.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.end(&result);
        Poll::Ready(result)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.connecting.is_none() {
            return;
        }
        let next = self.holes.with(|holes| {
            let next = holes
                .get_mut(&self.four_tuple)
                .and_then(VecDeque::pop_front);
            if next.is_none() {
                holes.remove(&self.four_tuple);
            }
            next
        });
        let Some(waiter) = next else {
            return self.note_closed();
        };
        let held = Self {
            holes: Arc::clone(&self.holes),
            four_tuple: self.four_tuple,
            connecting: self.connecting.take(),
            may_go_on: self.may_go_on.take(),
            at_once: None,
        };
        // Where that session has ended too, dropping this asks the one after it.
        drop(waiter.send(Ok(held)));
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("four_tuple", &self.four_tuple)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::Ipv4Addr;

    use p2pconnect_host::{Sharing, TcpSocket};
    use p2pconnect_punch::Purpose;
    use tokio::time::sleep;

    use super::*;
    use crate::session::syn_budget::{Account, TargetNetwork};

    /// Longer than it takes to connect over the loopback, and not long.
    const SOON: Duration = Duration::from_millis(300);

    fn account() -> Account {
        Account::default()
    }

    fn connect(
        holes: &Arc<Holes>,
        account: &Account,
        four_tuple: FourTuple,
    ) -> impl Future<Output = ConnectResult> + use<> {
        let account = account.clone();
        let network = TargetNetwork::of(four_tuple.remote.ip());
        holes
            .connect(
                four_tuple,
                move || account.pay(network, Purpose::Guess),
                Arc::default(),
                Watched::new(false),
            )
            .unwrap()
    }

    /// Two sockets that connect to each other, of which the second has not begun, and the holes
    /// that the first is in: a socket that is bound and does not listen keeps the port.
    fn four_tuple() -> (TcpSocket, FourTuple) {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let (one, other) = (
            Host::default().tcp_socket(any, Sharing::Shared).unwrap(),
            Host::default().tcp_socket(any, Sharing::Shared).unwrap(),
        );
        let [local, remote] = [&one, &other].map(|it| it.local_addr().unwrap());
        drop(one);
        (other, FourTuple { local, remote })
    }

    #[tokio::test]
    async fn what_became_of_a_hole_is_told_to_all_who_wait() {
        let (holes, account) = (Arc::new(Holes::new(Host::default())), account());
        let (peer, four_tuple) = four_tuple();
        let listener = peer.listen(1).unwrap();
        let (first, second) = (
            connect(&holes, &account, four_tuple),
            connect(&holes, &account, four_tuple),
        );
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(second.unwrap_err(), ConnectFailure::AddressNotAvailable);
        assert!(holes.with(|all| all.is_empty()));
        drop(listener);
    }

    #[tokio::test]
    async fn a_hole_passes_on_to_the_first_that_still_waits_for_it() {
        let (holes, account) = (Arc::new(Holes::new(Host::default())), account());
        let (peer, four_tuple) = four_tuple();
        let listener = peer.listen(1).unwrap();
        let (first, gone, last) = (
            connect(&holes, &account, four_tuple),
            connect(&holes, &account, four_tuple),
            connect(&holes, &account, four_tuple),
        );
        drop(gone);
        drop(first);
        // One socket has been made: another one could not have these addresses.
        assert!(last.await.is_ok());
        assert!(holes.with(|all| all.is_empty()));
        drop(listener);
    }

    #[tokio::test(start_paused = true)]
    async fn holes_stay_open_for_a_while_when_their_session_is_over() {
        let (lingering, reservation) = (Lingering::default(), Arc::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending::<()>());
        let over = Watched::new(false);
        lingering.hold(tasks, LINGERING, over.clone(), Arc::clone(&reservation));
        sleep(LINGERING / 2).await;
        assert_eq!(Arc::strong_count(&reservation), 2);
        assert!(!*over.borrow());
        sleep(LINGERING).await;
        assert!(*over.borrow());
        assert_eq!(Arc::strong_count(&reservation), 2);
        sleep(OPENING).await;
        assert_eq!(Arc::strong_count(&reservation), 1);
        // What has come to an end needs no time.
        lingering.hold(
            JoinSet::<()>::new(),
            LINGERING,
            over,
            Arc::clone(&reservation),
        );
        assert_eq!(Arc::strong_count(&reservation), 1);
    }

    #[tokio::test]
    async fn a_hole_is_closed_when_its_session_is_over_for_good() {
        let (holes, account) = (Arc::new(Holes::new(Host::default())), account());
        let (peer, four_tuple) = four_tuple();
        // Where two connections wait to be accepted, Linux does not answer a third SYN.
        let listener = peer.listen(1).unwrap();
        let [one, other] = [(); 2].map(|()| tokio::net::TcpStream::connect(four_tuple.remote));
        let waiting = (one.await.unwrap(), other.await.unwrap());
        let over = Watched::new(false);
        let network = TargetNetwork::of(four_tuple.remote.ip());
        let pay = || account.pay(network, Purpose::Guess);
        let hole = holes.connect(four_tuple, pay, Arc::default(), over.clone());
        let mut hole = pin!(hole.unwrap());
        assert!(timeout(SOON, &mut hole).await.is_err(), "it is open");
        assert!(
            !holes
                .closed
                .leads(four_tuple.local.port(), four_tuple.remote)
        );
        over.set(true);
        assert_eq!(hole.await.unwrap_err(), ConnectFailure::Withheld);
        assert!(
            holes
                .closed
                .leads(four_tuple.local.port(), four_tuple.remote)
        );
        assert!(holes.with(|all| all.is_empty()));
        drop((listener, waiting));
    }

    #[tokio::test]
    async fn a_hole_that_is_not_paid_for_is_none() {
        let holes = Arc::new(Holes::new(Host::default()));
        let (_peer, four_tuple) = four_tuple();
        let hole = holes.connect(four_tuple, || None, Arc::default(), Watched::new(false));
        assert!(hole.is_none() && !holes.is_open(&four_tuple));
    }

    #[tokio::test]
    async fn a_hole_that_nobody_wants_is_closed() {
        let (holes, account) = (Arc::new(Holes::new(Host::default())), account());
        let (_peer, four_tuple) = four_tuple();
        drop((
            connect(&holes, &account, four_tuple),
            connect(&holes, &account, four_tuple),
        ));
        assert!(holes.with(|all| all.is_empty()));
    }
}
