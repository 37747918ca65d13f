//! Brings accepted connections to the session they belong to.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use p2pconnect_host::{Host, TcpListener, TcpStream};
use p2pconnect_proto::Opening;
use p2pconnect_punch::{ConnectFailure, Opened};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    session::{
        closed_holes::ClosedHoles,
        seats::{Seat, Seats},
    },
    stream::preamble::read_opening,
    sync::{Watched, lock},
};

/// How many connections from unexpected addresses may be open before they have shown to belong to a
/// session. Beyond that the oldest makes room: a peer's shows it within milliseconds, as it greets
/// as soon as it is connected. More would only help somebody who wants to use up our sockets.
const MAX_STRANGERS: usize = 32;

/// The same for connections from an address that a session's peer has named, at another port: a NAT
/// may have given each of them one. Counted for each session, so that strangers elsewhere cannot
/// keep the peer out; those who share the peer's address would have to make some thousand
/// connections a second.
const MAX_NEIGHBOURS: usize = 32;

/// How long a stranger may take to open the connection, and the session to become known: the peer
/// may have been told of it a little before us.
const STRANGER_LIMIT: Duration = Duration::from_secs(3);

/// How long the peer may take to open a connection that has come through a hole: a dialler that has
/// several tries one after the other, for 1.5 s each.
const HOLE_LIMIT: Duration = Duration::from_secs(10);

/// Connections that wait at a time to say whose they are: five for each of the dials that a peer
/// may have under way come through on average, and never more than there are holes.
const MAX_UNCLAIMED: usize = 256;

/// Accepted connections that wait for one session to take them. Both sides try a handful of pairs.
const MAX_ARRIVALS: usize = 16;

/// Connections that wait at a port of one session alone to be accepted: the peer makes a handful
/// there.
const DOOR_BACKLOG: u32 = 16;

/// How long accepting pauses when the system is out of sockets, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that somebody made to one of our punch ports.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Whether the peer's opening has been read from the stream already.
    pub(crate) opening_read: bool,
    /// How it opened, if another session's attempt to connect became this connection.
    pub(crate) opened: Option<Opened>,
    /// Whether it came to a port that no other session uses.
    pub(crate) at_door: bool,
}

/// A connection that this side made.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: TcpStream,
    pub(crate) opened: Opened,
    /// Whether the peer's opening has been read from the stream already.
    pub(crate) opening_read: bool,
}

/// A session's claim to a connection that comes through one of its holes.
///
/// The side whose ports are guessed does not know which of the sockets that it meets belongs to
/// which session. So it speaks first, and the connection is that of the session it names.
#[derive(Debug)]
pub(crate) struct HoleClaim {
    inbound: Arc<Inbound>,
    theirs: Opening,
    remote: SocketAddr,
    patience: Patience,
}

/// How long the peer's opening is waited for on a connection that may be another session's, before
/// this side's own is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Until it comes: the peer speaks first.
    Always,
    /// Until it comes, while another session's peer has named the same address.
    WhileShared,
    /// No longer than this, while that is so: the peer may wait as well.
    Briefly(Duration),
}

impl HoleClaim {
    /// Finds out whose a connection is. If it is another session's, that one gets it.
    ///
    /// The controlled side waits for the opening wherever ports are guessed, which costs nothing:
    /// the dialler greets as soon as it is connected, and acts by the answer to that alone. The
    /// controlling side could use the connection at once, and waits only while there are several
    /// sessions with that address.
    pub(crate) async fn take(
        self,
        stream: TcpStream,
        opened: Opened,
    ) -> Result<Dialled, ConnectFailure> {
        let is_shared = || self.inbound.is_shared(self.theirs, self.remote.ip());
        let speaks_first = match self.patience {
            Patience::Always => false,
            Patience::WhileShared => !is_shared(),
            Patience::Briefly(limit) => {
                !is_shared() || timeout(limit, peek(&stream)).await.is_err()
            }
        };
        if speaks_first {
            return Ok(Dialled {
                stream,
                opened,
                opening_read: false,
            });
        }
        let (claimant, claimed) = oneshot::channel();
        let hole = Hole {
            theirs: self.theirs,
            remote: self.remote,
            opened,
            claimant,
        };
        self.inbound.wait_for_opening(hole, stream);
        claimed.await.unwrap_or(Err(ConnectFailure::Reset))
    }
}

/// A connection that has come through a hole of a session that may not be its own.
#[derive(Debug)]
struct Hole {
    theirs: Opening,
    remote: SocketAddr,
    opened: Opened,
    claimant: oneshot::Sender<Result<Dialled, ConnectFailure>>,
}

/// The sessions that wait for connections.
#[derive(Debug)]
pub(crate) struct Inbound {
    sessions: Mutex<BTreeMap<Opening, Waiting>>,
    changes: Watched<()>,
    strangers: Seats,
    /// Connections that have come through holes and have not said whose they are.
    unclaimed: Mutex<JoinSet<()>>,
    /// Where nobody is answered.
    closed: Arc<ClosedHoles>,
}

#[derive(Debug)]
struct Waiting {
    remotes: BTreeSet<SocketAddr>,
    arrivals: mpsc::Sender<Arrival>,
    /// Those who have come from these addresses at other ports.
    neighbours: Seats,
}

/// Whose peer an address is.
#[derive(Debug)]
enum Expecting {
    /// Nobody's.
    Nobody,
    One(mpsc::Sender<Arrival>),
    /// Two peers behind one NAT may name the same address; only the opening tells then.
    Several,
    /// That of a peer, but not the port.
    Neighbour(Seat),
}

impl Inbound {
    pub(crate) fn new(closed: Arc<ClosedHoles>) -> Self {
        Self {
            sessions: Mutex::default(),
            changes: Watched::default(),
            strangers: Seats::new(MAX_STRANGERS),
            unclaimed: Mutex::default(),
            closed,
        }
    }

    /// Lets a session receive the connections that come from one of `remotes`, or that open as
    /// its peer's do.
    pub(crate) fn expect(
        self: &Arc<Self>,
        theirs: Opening,
        remotes: BTreeSet<SocketAddr>,
    ) -> Inbox {
        let (sender, arrivals) = mpsc::channel(MAX_ARRIVALS);
        let named = remotes.iter().map(SocketAddr::ip).collect();
        let waiting = Waiting {
            remotes,
            arrivals: sender,
            neighbours: Seats::new(MAX_NEIGHBOURS),
        };
        self.with_sessions(|sessions| sessions.insert(theirs, waiting));
        self.changes.notify();
        Inbox {
            arrivals,
            named,
            theirs,
            inbound: Arc::clone(self),
            doors: Vec::new(),
        }
    }

    /// Accepts connections for as long as the future is polled.
    pub(crate) async fn accept_from(self: Arc<Self>, listener: TcpListener) {
        let mut strangers = JoinSet::new();
        let mut changes = self.closed.changes();
        loop {
            while strangers.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = changes.next() => {
                    self.leave_out(&listener);
                    continue;
                }
            };
            match accepted {
                Ok((stream, remote)) => {
                    if let Some(stranger) = self.route(stream, remote) {
                        strangers.spawn(stranger);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Has a listener answer nobody who comes through a closed hole.
    fn leave_out(&self, listener: &TcpListener) {
        match listener.local_addr() {
            // Nobody guesses ports of IPv6.
            Ok(local) if local.is_ipv6() => {}
            Ok(local) => listener.ignore(&self.closed.from(local.port())),
            Err(error) => tracing::debug!(%error, "a listener has no address"),
        }
    }

    /// Hands a connection from an expected address to its session, and returns what is to be done
    /// about any other.
    fn route(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let arrival = Arrival::new(stream, remote)
            .inspect_err(|error| tracing::debug!(%error, "accepted connection is gone"))
            .ok()?;
        if self.closed.leads(arrival.local.port(), remote) {
            // It came before the listener was told.
            tracing::debug!("a connection through a closed hole is of no use");
            return None;
        }
        let seat = match self.expecting(remote) {
            Expecting::One(session) => {
                offer(&session, arrival);
                return None;
            }
            // One address makes one connection to each port, so these need no other bound.
            Expecting::Several => None,
            Expecting::Neighbour(seat) => Some(seat),
            Expecting::Nobody => Some(self.strangers.enter()),
        };
        let inbound = Arc::clone(self);
        Some(async move {
            let leaving = async {
                match seat {
                    Some(seat) => seat.given_up().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = inbound.route_by_opening(arrival) => {}
                () = sleep(STRANGER_LIMIT) => {
                    tracing::debug!("a stranger belonged to no session in time");
                }
                () = leaving => tracing::debug!("a stranger has made room for another one"),
            }
        })
    }

    /// Waits for what opens the connection, and for the session that it belongs to. If a session
    /// turns out to expect the address before anything has come, the connection is that session's,
    /// whose side may have to speak first.
    async fn route_by_opening(&self, mut arrival: Arrival) {
        let mut changes = self.changes.watch();
        loop {
            tokio::select! {
                biased;
                // Looks and does not take, so that nothing is lost where the other branch is first.
                looked = peek(&arrival.stream) => match looked {
                    Ok(1..) => break,
                    Ok(0) | Err(_) => return,
                },
                () = changes.changed() => {
                    if let Expecting::One(session) = self.expecting(arrival.remote) {
                        return offer(&session, arrival);
                    }
                }
            }
        }
        let Ok(opening) = read_opening(&mut arrival.stream).await else {
            return;
        };
        arrival.opening_read = true;
        loop {
            if let Some(session) = self.session_opened_by(opening) {
                return offer(&session, arrival);
            }
            changes.changed().await;
        }
    }

    fn expecting(&self, remote: SocketAddr) -> Expecting {
        self.with_sessions(|sessions| {
            let mut expecting = sessions.values().filter(|it| it.remotes.contains(&remote));
            match (expecting.next(), expecting.next()) {
                (None, _) => neighbour(sessions, remote.ip()),
                (Some(session), None) => Expecting::One(session.arrivals.clone()),
                (Some(_), Some(_)) => Expecting::Several,
            }
        })
    }

    fn session_opened_by(&self, opening: Opening) -> Option<mpsc::Sender<Arrival>> {
        self.with_sessions(|sessions| sessions.get(&opening).map(|it| it.arrivals.clone()))
    }

    /// Tells whether another session's peer has named this address.
    fn is_shared(&self, theirs: Opening, ip: IpAddr) -> bool {
        let names = |it: &Waiting| it.remotes.iter().any(|remote| remote.ip() == ip);
        self.with_sessions(|sessions| {
            let mut others = sessions.iter().filter(|(opening, _)| **opening != theirs);
            others.any(|(_, waiting)| names(waiting))
        })
    }

    /// Reads what opens a connection, also when the session has ended whose hole it came through.
    fn wait_for_opening(self: &Arc<Self>, hole: Hole, mut stream: TcpStream) {
        let mut unclaimed = lock(&self.unclaimed);
        while unclaimed.try_join_next().is_some() {}
        if unclaimed.len() >= MAX_UNCLAIMED {
            return;
        }
        // It ends with the endpoint, which owns it.
        let inbound = Arc::downgrade(self);
        unclaimed.spawn(async move {
            let read = timeout(HOLE_LIMIT, read_opening(&mut stream)).await;
            let Ok(Ok(opening)) = read else {
                return;
            };
            let (remote, opened) = (hole.remote, hole.opened);
            if opening == hole.theirs {
                let dialled = Dialled {
                    stream,
                    opened,
                    opening_read: true,
                };
                // Nobody waits for it if the session is over.
                drop(hole.claimant.send(Ok(dialled)));
            } else if let Some(inbound) = inbound.upgrade() {
                let failure = ConnectFailure::AddressNotAvailable;
                drop(hole.claimant.send(Err(failure)));
                inbound.hand_over(opening, stream, remote, opened).await;
            }
        });
    }

    /// Gives a connection to the session that it opens for, which may become known a little later.
    async fn hand_over(
        &self,
        opening: Opening,
        stream: TcpStream,
        remote: SocketAddr,
        opened: Opened,
    ) {
        let Ok(arrival) = Arrival::new(stream, remote) else {
            return;
        };
        let arrival = Arrival {
            opening_read: true,
            opened: Some(opened),
            ..arrival
        };
        let mut changes = self.changes.watch();
        let handing = async {
            loop {
                if let Some(session) = self.session_opened_by(opening) {
                    return offer(&session, arrival);
                }
                changes.changed().await;
            }
        };
        if timeout(STRANGER_LIMIT, handing).await.is_err() {
            tracing::debug!("a connection in a hole belonged to no session in time");
        }
    }

    fn with_sessions<T>(
        &self,
        use_sessions: impl FnOnce(&mut BTreeMap<Opening, Waiting>) -> T,
    ) -> T {
        use_sessions(&mut lock(&self.sessions))
    }
}

/// Takes a seat for a connection from another port of an address that a peer has named.
fn neighbour(sessions: &BTreeMap<Opening, Waiting>, ip: IpAddr) -> Expecting {
    let names = |it: &&Waiting| it.remotes.iter().any(|remote| remote.ip() == ip);
    let naming = sessions.values().filter(names);
    let emptiest = naming.min_by_key(|it| it.neighbours.taken());
    emptiest.map_or(Expecting::Nobody, |it| {
        Expecting::Neighbour(it.neighbours.enter())
    })
}

/// Where a session's connections arrive, until it is dropped.
#[derive(Debug)]
pub(crate) struct Inbox {
    arrivals: mpsc::Receiver<Arrival>,
    /// Where the peer said that it may be.
    named: BTreeSet<IpAddr>,
    theirs: Opening,
    inbound: Arc<Inbound>,
    /// Listeners at ports that no other session uses.
    doors: Vec<TcpListener>,
}

impl Inbox {
    /// Tells whether the peer named this address, whatever the port.
    pub(crate) fn names(&self, ip: IpAddr) -> bool {
        self.named.contains(&ip)
    }

    /// Claims the connection that comes through a hole to an address, which is another session's if
    /// what opens it says so.
    pub(crate) fn claim(&self, remote: SocketAddr, patience: Patience) -> HoleClaim {
        HoleClaim {
            inbound: Arc::clone(&self.inbound),
            theirs: self.theirs,
            remote,
            patience,
        }
    }

    /// Accepts connections of the peer's at further local addresses, which are this session's
    /// alone.
    pub(crate) fn open_doors(&mut self, host: &Host, locals: &BTreeSet<SocketAddr>) {
        for local in locals {
            match host.shared_listener(*local, DOOR_BACKLOG) {
                Ok(listener) => self.doors.push(listener),
                Err(error) => tracing::debug!(%local, %error, "the peer cannot connect here"),
            }
        }
    }

    /// Waits for the next connection. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Arrival> {
        let is_named = |arrival: &Arrival| self.named.contains(&arrival.remote.ip());
        tokio::select! {
            arrival = self.arrivals.recv() => arrival,
            arrival = through(&self.doors, is_named) => Some(Arrival {
                at_door: true,
                ..arrival
            }),
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.inbound
            .with_sessions(|sessions| sessions.remove(&self.theirs));
    }
}

impl Arrival {
    fn new(stream: TcpStream, remote: SocketAddr) -> io::Result<Self> {
        stream.reset_on_close()?;
        stream.send_at_once()?;
        let local = stream.local_addr()?;
        Ok(Self {
            stream,
            local,
            remote,
            opening_read: false,
            opened: None,
            at_door: false,
        })
    }
}

/// Waits for the next connection of a wanted side at one of these listeners. Cancel safe.
async fn through(doors: &[TcpListener], is_wanted: impl Fn(&Arrival) -> bool) -> Arrival {
    let mut accepting = poll_fn(|cx| {
        let mut accepted = doors.iter().map(|door| pin!(door.accept()).poll(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    });
    loop {
        let accepted = (&mut accepting).await;
        match accepted.and_then(|(stream, remote)| Arrival::new(stream, remote)) {
            Ok(arrival) if is_wanted(&arrival) => return arrival,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for the first byte and leaves it there. 0 if the stream ends before. Cancel safe.
async fn peek(stream: &TcpStream) -> io::Result<usize> {
    stream.peek(&mut [0]).await
}

fn offer(session: &mpsc::Sender<Arrival>, arrival: Arrival) {
    if session.try_send(arrival).is_err() {
        tracing::debug!("accepted connection dropped: its session has enough or is over");
    }
}
