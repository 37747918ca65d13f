//! One side's punch agent on the sockets of its host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use p2pconnect_proto::Role;
use p2pconnect_punch::{
    Action, CheckId, ConnectFailure, Event, Input, PunchAgent, Stats, VerifyFailure,
};

use super::sockets::{Progress, Received, Sockets};
use super::verify::{NOMINATION, Verification};

const TOKEN: usize = 16;

/// How many of the fresh local ports are listened on once they are used: those
/// that one attempt each is made from. Of the hundreds that only make up a
/// number none is worth a second socket.
const FRESH_LISTENERS: u16 = 16;

/// Most connections from strangers that are waited for to show the token.
const MAX_STRANGERS: usize = 64;

/// One introduction being turned into a connection.
#[derive(Debug)]
pub(super) struct Session<S> {
    agent: PunchAgent,
    role: Role,
    token: [u8; TOKEN],
    /// Where the peer may come from; others must show the token first.
    known: BTreeSet<IpAddr>,
    /// The first of the fresh local ports, if there are any.
    fresh: Option<SocketAddr>,
    listening: BTreeSet<SocketAddr>,
    checks: BTreeMap<CheckId, Check<S>>,
    /// Whose socket it is.
    of_socket: BTreeMap<S, CheckId>,
    /// Checks that are to be looked at though nothing happened to their sockets.
    due: Vec<CheckId>,
    strangers: Vec<Stranger<S>>,
}

/// What a session needs to know of both peers.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) role: Role,
    pub(super) token: [u8; TOKEN],
    /// Where the other peer may come from.
    pub(super) known: BTreeSet<IpAddr>,
    /// The first of the fresh local ports, if there are any.
    pub(super) fresh: Option<SocketAddr>,
}

/// What the driver holds for a check, in the order in which it goes through these.
#[derive(Debug, Clone, Copy)]
enum Check<S> {
    /// The answer of the socket layer itself, if it refused at once.
    Refused(ConnectFailure),
    Connecting(S),
    Open(S, TokenRead),
    Broken(VerifyFailure),
    Verifying(S, Verification),
    Verified(S),
}

type TokenRead = bool;

/// A connection that was accepted.
#[derive(Debug)]
struct Arrival<S> {
    socket: S,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Debug)]
struct Stranger<S> {
    socket: S,
    local: SocketAddr,
    remote: SocketAddr,
    shown: Vec<u8>,
}

impl<S: Copy + Ord> Session<S> {
    pub(super) fn new(agent: PunchAgent, parties: Parties) -> Self {
        let Parties {
            role,
            token,
            known,
            fresh,
        } = parties;
        Self {
            agent,
            role,
            token,
            known,
            fresh,
            listening: BTreeSet::new(),
            checks: BTreeMap::new(),
            of_socket: BTreeMap::new(),
            due: Vec::new(),
            strangers: Vec::new(),
        }
    }

    /// Returns what the agent has counted so far.
    pub(super) const fn stats(&self) -> Stats {
        self.agent.stats()
    }

    /// Returns the socket of a verified connection.
    pub(super) fn verified(&self, check: CheckId) -> Option<S> {
        match self.checks.get(&check) {
            Some(Check::Verified(socket)) => Some(*socket),
            _ => None,
        }
    }

    /// Takes in that the dialler has given up, as its coordinator would tell.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.agent.give_up(now);
    }

    /// Returns when the agent wants to be called, if ever.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// Does all that can be done at `now`; returns the outcome once it is known.
    pub(super) fn poll<T: Sockets<Socket = S>>(
        &mut self,
        sockets: &mut T,
        now: Instant,
    ) -> Option<Event> {
        if self.agent.poll_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
        }
        loop {
            while let Some(action) = self.agent.poll_action() {
                self.perform(action, sockets);
            }
            if let Some(event) = self.agent.poll_event() {
                self.finish(&event, sockets);
                return Some(event);
            }
            let arrived = self.take_arrivals(sockets, now);
            let answered = self.take_answers(sockets, now);
            if !arrived && !answered {
                return None;
            }
        }
    }

    fn perform<T: Sockets<Socket = S>>(&mut self, action: Action, sockets: &mut T) {
        match action {
            Action::Connect {
                check,
                local,
                remote,
                ..
            } => {
                if self.is_fresh(local) && self.listening.insert(local) {
                    sockets.listen(local);
                }
                let state = match sockets.connect(local, remote) {
                    Ok(socket) => {
                        self.of_socket.insert(socket, check);
                        Check::Connecting(socket)
                    }
                    Err(failure) => {
                        self.due.push(check);
                        Check::Refused(failure)
                    }
                };
                self.checks.insert(check, state);
            }
            Action::Verify { check } => {
                // What the other end says may have come before.
                self.due.push(check);
                let Some(Check::Open(socket, token_read)) = self.checks.get(&check).copied() else {
                    return;
                };
                let began = Verification::begin(self.role, self.token, token_read, sockets, socket);
                let state = match began {
                    Ok(verification) => Check::Verifying(socket, verification),
                    Err(failure) => {
                        sockets.abort(socket);
                        Check::Broken(failure)
                    }
                };
                self.checks.insert(check, state);
            }
            Action::Close { check } => match self.checks.remove(&check) {
                Some(
                    Check::Connecting(socket)
                    | Check::Open(socket, _)
                    | Check::Verifying(socket, _)
                    | Check::Verified(socket),
                ) => {
                    self.of_socket.remove(&socket);
                    sockets.abort(socket);
                }
                Some(Check::Refused(_) | Check::Broken(_)) | None => {}
            },
        }
    }

    /// Tells whether it is one of the first fresh local ports.
    fn is_fresh(&self, local: SocketAddr) -> bool {
        self.fresh.is_some_and(|first| {
            let ahead = local.port().checked_sub(first.port());
            local.ip() == first.ip() && ahead.is_some_and(|ahead| ahead < FRESH_LISTENERS)
        })
    }

    /// Sends the nomination, which the controlled side waits for.
    fn finish<T: Sockets<Socket = S>>(&self, event: &Event, sockets: &mut T) {
        let Event::Established { check, .. } = event else {
            return;
        };
        if let (Role::Controlling, Some(Check::Verified(socket))) =
            (self.role, self.checks.get(check))
        {
            // Should the connection have gone, the other side says so.
            let _sent = sockets.send(*socket, &[NOMINATION]);
        }
    }

    /// Hands over connections from the peer; true if there were any.
    fn take_arrivals<T: Sockets<Socket = S>>(&mut self, sockets: &mut T, now: Instant) -> bool {
        let mut any = false;
        while let Some((socket, local, remote)) = sockets.accept() {
            any = true;
            if self.known.contains(&remote.ip()) {
                self.hand_over(
                    Arrival {
                        socket,
                        local,
                        remote,
                    },
                    false,
                    sockets,
                    now,
                );
            } else if self.strangers.len() < MAX_STRANGERS {
                self.strangers.push(Stranger {
                    socket,
                    local,
                    remote,
                    shown: Vec::new(),
                });
            } else {
                sockets.abort(socket);
            }
        }
        for mut stranger in std::mem::take(&mut self.strangers) {
            let Stranger {
                socket,
                local,
                remote,
                ..
            } = stranger;
            match stranger.shows(&self.token, sockets) {
                None => self.strangers.push(stranger),
                Some(false) => sockets.abort(socket),
                Some(true) => {
                    any = true;
                    self.hand_over(
                        Arrival {
                            socket,
                            local,
                            remote,
                        },
                        true,
                        sockets,
                        now,
                    );
                }
            }
        }
        any
    }

    fn hand_over<T: Sockets<Socket = S>>(
        &mut self,
        arrival: Arrival<S>,
        token_read: TokenRead,
        sockets: &mut T,
        now: Instant,
    ) {
        let Arrival {
            socket,
            local,
            remote,
        } = arrival;
        match self.agent.handle_accepted(local, remote, now) {
            Some(check) => {
                self.of_socket.insert(socket, check);
                self.checks.insert(check, Check::Open(socket, token_read));
            }
            None => sockets.abort(socket),
        }
    }

    /// Tells the agent what has become of its checks; true if there was anything.
    fn take_answers<T: Sockets<Socket = S>>(&mut self, sockets: &mut T, now: Instant) -> bool {
        let mut inputs = Vec::new();
        let changed = sockets.take_changed();
        let changed = changed.iter().filter_map(|it| self.of_socket.get(it));
        let checks: BTreeSet<CheckId> = changed.copied().chain(self.due.drain(..)).collect();
        for check in checks {
            if let Some(input) = self.answer(check, sockets) {
                inputs.push(input);
            }
        }
        let any = !inputs.is_empty();
        for input in inputs {
            self.agent.handle_input(input, now);
        }
        any
    }

    fn answer<T: Sockets<Socket = S>>(&mut self, check: CheckId, sockets: &mut T) -> Option<Input> {
        match self.checks.get_mut(&check)? {
            Check::Open(..) | Check::Verified(_) => None,
            Check::Refused(failure) => {
                let failure = *failure;
                self.checks.remove(&check);
                Some(Input::ConnectFailed { check, failure })
            }
            Check::Broken(failure) => {
                let failure = *failure;
                self.checks.remove(&check);
                Some(Input::VerifyFailed { check, failure })
            }
            Check::Connecting(socket) => {
                let socket = *socket;
                match sockets.progress(socket) {
                    Progress::Connecting => None,
                    Progress::Open(opened) => {
                        self.checks.insert(check, Check::Open(socket, false));
                        Some(Input::Connected { check, opened })
                    }
                    Progress::Failed(failure) => {
                        self.forget(check, socket, sockets);
                        Some(Input::ConnectFailed { check, failure })
                    }
                }
            }
            Check::Verifying(socket, verification) => {
                let socket = *socket;
                match verification.poll(sockets, socket) {
                    Ok(false) => None,
                    Ok(true) => {
                        self.checks.insert(check, Check::Verified(socket));
                        Some(Input::Verified { check })
                    }
                    Err(failure) => {
                        self.forget(check, socket, sockets);
                        Some(Input::VerifyFailed { check, failure })
                    }
                }
            }
        }
    }

    fn forget<T: Sockets<Socket = S>>(&mut self, check: CheckId, socket: S, sockets: &mut T) {
        self.checks.remove(&check);
        self.of_socket.remove(&socket);
        sockets.abort(socket);
    }
}

impl<S: Copy> Stranger<S> {
    /// Tells whether it has shown the token, or that it never will.
    fn shows<T: Sockets<Socket = S>>(
        &mut self,
        token: &[u8; TOKEN],
        sockets: &mut T,
    ) -> Option<bool> {
        let mut buffer = [0; TOKEN];
        let wanted = TOKEN - self.shown.len();
        match sockets.receive(self.socket, &mut buffer[..wanted]) {
            Received::Nothing => None,
            Received::Closed => Some(false),
            Received::Bytes(count) => {
                self.shown.extend_from_slice(&buffer[..count]);
                (self.shown.len() == TOKEN).then(|| self.shown == token)
            }
        }
    }
}
