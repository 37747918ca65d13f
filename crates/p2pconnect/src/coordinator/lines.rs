//! The connections to coordinators that an endpoint has at a moment, for whoever dials by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use tokio::sync::watch;

use crate::{
    coordinator::{choice::Choice, requests::Coordination},
    sync::lock,
};

/// The connections to coordinators at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    /// The preferred one first.
    pub(crate) up: Vec<Line>,
    wanted: Vec<bool>,
    /// Whether there may be another one soon.
    is_pending: bool,
    again_at: Option<Instant>,
}

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) coordination: Arc<Coordination>,
    /// The number of the coordinator among those that this endpoint knows.
    index: usize,
    /// Whether this endpoint is registered by it, or should be.
    registers: bool,
}

/// Which coordinator a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    index: usize,
    /// The name of the registry that it shares with others.
    cluster: Option<Vec<u8>>,
}

impl Line {
    /// Returns where it leads to, by what the coordinator has said so far.
    pub(crate) fn place(&self) -> Place {
        Place {
            index: self.index,
            cluster: self.coordination.cluster(),
        }
    }
}

impl Place {
    /// Tells whether the same peers can be dialled by way of both.
    fn is_like(&self, other: &Self) -> bool {
        self.index == other.index || self.cluster.is_some() && self.cluster == other.cluster
    }
}

/// What a connection to a coordinator is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serves {
    pub(crate) registers: bool,
    /// Whether dials ask by it first.
    is_first: bool,
}

impl Serves {
    /// Tells whether it is more than a reserve.
    pub(crate) const fn is_of_use(self) -> bool {
        self.registers || self.is_first
    }
}

/// Whom to ask next where some were asked in vain.
#[derive(Debug)]
pub(crate) enum Next {
    Ask(Line),
    /// There may be another one soon.
    Wait,
    Nobody,
}

impl Lines {
    /// Returns whom to ask where these coordinators do not know the peer.
    pub(crate) fn next(&self, asked: &[Place]) -> Next {
        let is_new = |it: &&Line| !asked.iter().any(|asked| asked.is_like(&it.place()));
        match self.up.iter().find(is_new) {
            Some(line) => Next::Ask(line.clone()),
            None if self.is_pending => Next::Wait,
            None => Next::Nobody,
        }
    }

    /// Says goodbye to all coordinators.
    pub(crate) async fn close(&self) {
        for line in &self.up {
            line.coordination.close().await;
        }
    }

    /// Returns the connection to the coordinator that is preferred, if there is any.
    pub(crate) fn preferred(&self) -> Option<&Arc<Coordination>> {
        self.up.first().map(|it| &it.coordination)
    }

    fn line(&self, index: usize) -> Option<&Line> {
        self.up.iter().find(|it| it.index == index)
    }

    /// Tells whether this endpoint is registered, or should be, by the connection to a coordinator.
    pub(crate) fn registers(&self, index: usize) -> bool {
        self.line(index).is_some_and(|it| it.registers)
    }

    /// Returns what the connection to a coordinator is used for.
    pub(crate) fn serves(&self, index: usize) -> Serves {
        let first = self.up.first();
        Serves {
            registers: self.registers(index),
            is_first: first.is_some_and(|it| it.index == index),
        }
    }

    /// Tells whether there should be a connection to a coordinator.
    pub(crate) fn wants(&self, index: usize) -> bool {
        self.wanted.get(index) == Some(&true)
    }

    /// Tells whether another coordinator is there, and comes first.
    pub(crate) fn serves_without(&self, index: usize) -> bool {
        let first = self.up.first();
        first.is_some_and(|it| it.index != index)
    }
}

/// Where the connections to coordinators are brought together.
#[derive(Debug)]
pub(crate) struct Hub {
    listens: bool,
    state: Mutex<State>,
    lines: watch::Sender<Lines>,
}

#[derive(Debug)]
struct State {
    choice: Choice,
    up: BTreeMap<usize, Line>,
    /// By the connections to which coordinators this endpoint is registered.
    registered: BTreeSet<usize>,
}

impl Hub {
    /// Returns the hub of an endpoint that knows so many coordinators, and whether it can be
    /// dialled.
    pub(crate) fn new(coordinators: usize, listens: bool) -> Self {
        let hub = Self {
            listens,
            state: Mutex::new(State {
                choice: Choice::new(coordinators),
                up: BTreeMap::new(),
                registered: BTreeSet::new(),
            }),
            lines: watch::Sender::default(),
        };
        hub.change(|_| ());
        hub
    }

    /// Watches the connections.
    pub(crate) fn watch(&self) -> watch::Receiver<Lines> {
        self.lines.subscribe()
    }

    /// Returns what is asked of the connections as they are now.
    pub(crate) fn now<T>(&self, asked: impl FnOnce(&Lines) -> T) -> T {
        asked(&self.lines.borrow())
    }

    /// Waits until the connections are as wanted. Cancel safe.
    pub(crate) async fn until(&self, is_wanted: impl FnMut(&Lines) -> bool) {
        let mut lines = self.lines.subscribe();
        // There is a sender, which is this.
        drop(lines.wait_for(is_wanted).await);
    }

    /// Changes what is known, and has everybody know what follows.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        let decision = state.choice.decide(clock::now());
        let mut up: Vec<Line> = Vec::new();
        for index in &decision.order {
            if let Some(line) = state.up.get(index) {
                let mut line = line.clone();
                let place = line.place();
                let is_alike = |it: &Line| it.place().is_like(&place);
                line.registers = self.listens && !up.iter().any(is_alike);
                up.push(line);
            }
        }
        state
            .registered
            .retain(|it| up.iter().any(|line| line.registers && line.index == *it));
        self.lines.send_replace(Lines {
            up,
            wanted: decision.wanted,
            is_pending: decision.is_pending,
            again_at: decision.again_at,
        });
        changed
    }

    /// Takes in a coordinator that another one has named, and returns its number.
    pub(crate) fn add_guest(&self) -> usize {
        self.change(|state| state.choice.add_guest())
    }

    /// Takes in that a connection is tried.
    pub(crate) fn tries(&self, index: usize) {
        self.change(|state| state.choice.tries(index));
    }

    /// Takes in that no connection came about.
    pub(crate) fn fails(&self, index: usize) {
        self.change(|state| state.choice.fails(index));
    }

    /// Tells whether there is only one coordinator.
    pub(crate) fn is_alone(&self) -> bool {
        self.now(|lines| lines.wanted.len() == 1)
    }

    /// Tells whether this endpoint is to register by a connection to a coordinator of this cluster
    /// that is about to come about.
    pub(crate) fn would_register(&self, index: usize, cluster: Option<&[u8]>) -> bool {
        let place = Place {
            index,
            cluster: cluster.map(<[u8]>::to_vec),
        };
        let is_alone = |lines: &Lines| !lines.up.iter().any(|it| it.place().is_like(&place));
        self.listens && self.now(is_alone)
    }

    /// Takes in a connection whose handshake took so long.
    pub(crate) fn is_up(&self, index: usize, coordination: &Arc<Coordination>, took: Duration) {
        let line = Line {
            coordination: Arc::clone(coordination),
            index,
            registers: false,
        };
        self.change(|state| {
            state.choice.is_up(index, took, clock::now());
            state.up.insert(index, line);
        });
    }

    /// Takes in that a connection is not to be used any more, as it is lost, or to be given up.
    /// Returns whether there is none left.
    pub(crate) fn is_down(&self, index: usize, is_lost: bool) -> bool {
        self.change(|state| {
            match is_lost {
                true => state.choice.fails(index),
                false => state.choice.rests(index),
            }
            state.up.remove(&index);
            state.up.is_empty()
        })
    }

    /// Takes in that a coordinator is going to end.
    pub(crate) fn leaves(&self, index: usize) {
        self.change(|state| state.choice.leaves(index));
    }

    /// Takes in that this endpoint is registered by a connection. Returns whether it was not by any
    /// other one.
    pub(crate) fn is_registered(&self, index: usize) -> bool {
        let mut state = lock(&self.state);
        let is_first = state.registered.is_empty();
        state.registered.insert(index);
        is_first
    }

    /// Decides again whenever that is due, for as long as the future is polled.
    pub(crate) async fn keep_deciding(&self) -> std::convert::Infallible {
        let mut lines = self.watch();
        loop {
            let again_at = lines.borrow_and_update().again_at;
            let due = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.change(|_| ()),
                changed = lines.changed() => drop(changed),
            }
        }
    }
}
