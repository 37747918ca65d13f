//! The reference puncher: every way to punch that the oracle's rules know of, and some more.

use std::{net::SocketAddr, time::Duration};

use netns_lab::{
    NatSpec,
    virtual_time::{SocketError, SocketId, SocketState},
};

use crate::stage::{ONE_WAY, Stage};

/// The port that is dialled from, listened on and punched.
pub(crate) const PORT: u16 = 4000;

/// A port that nobody uses.
const CLOSED_PORT: u16 = 9;

/// Enough for a SYN to be refused, and the refusal to come back.
const GAP: Duration = ONE_WAY.saturating_mul(10);

/// Enough for the second of TCP's SYNs, which goes out after a second.
const LIMIT: Duration = Duration::from_millis(2500);

/// When a host may dial once more after a failure.
const REDIAL: Duration = Duration::from_millis(500);

/// Who dials what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// This side dials what the server has seen of the other, which listens.
    DialReflected(usize),
    /// The other sends a SYN to a closed port of this side, which dials it.
    OpenAndDial(usize),
    /// Both dial.
    Both,
}

/// Who dials when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Crossing,
    First(usize),
}

/// One way to punch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strategy {
    pub(crate) plan: Plan,
    pub(crate) order: Order,
    /// Which sides dial once more if their attempt has failed.
    pub(crate) redial: [bool; 2],
}

/// A socket that is under way, or was.
struct Attempt {
    side: usize,
    remote: SocketAddr,
    socket: Result<SocketId, SocketError>,
}

impl Strategy {
    pub(crate) fn all() -> Vec<Self> {
        let orders = [Order::Crossing, Order::First(0), Order::First(1)];
        let plans = [
            Plan::Both,
            Plan::OpenAndDial(0),
            Plan::OpenAndDial(1),
            Plan::DialReflected(0),
            Plan::DialReflected(1),
        ];
        let mut all = Vec::new();
        for redial in [[false; 2], [true; 2], [true, false], [false, true]] {
            for plan in plans {
                let orders = match plan {
                    // The second try would be the same as in another order.
                    Plan::OpenAndDial(_) | Plan::DialReflected(_) if redial != [false; 2] => &[],
                    // There is but one dial.
                    Plan::DialReflected(_) => &orders[..1],
                    Plan::OpenAndDial(_) | Plan::Both => &orders[..],
                };
                all.extend(orders.iter().map(|&order| Self {
                    plan,
                    order,
                    redial,
                }));
            }
        }
        all
    }

    /// Returns whether a side must be predictable for this.
    pub(crate) fn needs(self, side: usize) -> bool {
        match self.plan {
            Plan::DialReflected(_) => false,
            Plan::OpenAndDial(dialler) => side != dialler,
            Plan::Both => true,
        }
    }
}

/// Punches, with the ports right wherever they must be predictable; `asked` says which sides have
/// asked the server from the port that they punch from. Returns whether both sides have a
/// connection then.
pub(crate) fn punch(
    chains: [&[NatSpec]; 2],
    asked: [bool; 2],
    strategy: Strategy,
    seed: u64,
) -> bool {
    let mut stage = Stage::new(chains, seed);
    let seen = [0, 1].map(|side| asked[side].then(|| stage.ask(side, PORT)));
    let listeners = [0, 1].map(|side| stage.world.listen(stage.host(side), PORT).unwrap());
    let Some(targets) = targets(&stage, seen, strategy.plan) else {
        return false;
    };
    let start = stage.world.now();
    let times = match strategy.order {
        Order::Crossing => [start; 2],
        Order::First(0) => [start, start + GAP],
        Order::First(_) => [start + GAP, start],
    };
    let mut dials: Vec<_> = [0, 1]
        .into_iter()
        .filter_map(|side| Some((times[side], side, targets[side]?)))
        .collect();
    dials.sort_unstable();
    let mut attempts: Vec<Attempt> = Vec::new();
    for (at, side, remote) in dials {
        stage.world.run_until(at, |_| false);
        attempts.push(dial(&mut stage, side, remote));
    }
    if strategy.redial != [false; 2] {
        let at = start + GAP + REDIAL;
        stage.world.run_until(at, |_| false);
        for attempt in &mut attempts {
            let failed = |socket| matches!(stage.world.state(socket), Ok(SocketState::Failed(_)));
            if strategy.redial[attempt.side] && attempt.socket.is_ok_and(failed) {
                *attempt = dial(&mut stage, attempt.side, attempt.remote);
            }
        }
    }
    is_connected(&mut stage, listeners, &attempts, start + LIMIT)
}

/// Returns what each side dials, if anything.
fn targets(
    stage: &Stage,
    seen: [Option<SocketAddr>; 2],
    plan: Plan,
) -> Option<[Option<SocketAddr>; 2]> {
    // The mapping depends on the other's address alone, until its port is known.
    let address = |side: usize| stage.foresee(side, PORT, "203.0.113.50:5".parse().unwrap());
    match plan {
        Plan::DialReflected(dialler) => {
            let mut targets = [None; 2];
            targets[dialler] = Some(seen[1 - dialler]?);
            Some(targets)
        }
        Plan::OpenAndDial(dialler) => {
            let closed = SocketAddr::new(address(dialler).ip(), CLOSED_PORT);
            let mut targets = [Some(closed); 2];
            targets[dialler] = Some(stage.foresee(1 - dialler, PORT, closed));
            Some(targets)
        }
        Plan::Both => {
            // A port's choice never depends on what the remote port is.
            let of_0 = stage.foresee(0, PORT, address(1));
            let of_1 = stage.foresee(1, PORT, of_0);
            Some([Some(of_1), Some(of_0)])
        }
    }
}

fn dial(stage: &mut Stage, side: usize, remote: SocketAddr) -> Attempt {
    let (host, local) = (stage.host(side), stage.local(side, PORT));
    let socket = stage.world.connect(host, local, remote);
    Attempt {
        side,
        remote,
        socket,
    }
}

/// Waits for a connection at each side.
fn is_connected(
    stage: &mut Stage,
    listeners: [SocketId; 2],
    attempts: &[Attempt],
    limit: Duration,
) -> bool {
    let mut connected = [false; 2];
    stage.world.run_until(limit, |world| {
        for (side, listener) in listeners.into_iter().enumerate() {
            connected[side] |= world.accept(listener).is_some();
        }
        for attempt in attempts {
            let opened = |socket| matches!(world.opened(socket), Ok(Some(_)));
            connected[attempt.side] |= attempt.socket.is_ok_and(opened);
        }
        connected == [true; 2]
    })
}
