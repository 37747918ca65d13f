//! Runs one punch agent on real sockets.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{NatReport, Role};
use p2pconnect_punch::{
    Action, CandidatePair, CheckId, ConnectFailure, Event, How, Input, Opened, PunchAgent,
    PunchReport, Stats, VerifyFailure,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep_until, timeout},
};
use tokio_rustls::TlsStream;

use crate::{
    inbound::{Arrival, Inbox},
    preamble::Preamble,
    tcp,
    verify::{Verifier, nominate},
};

/// How long sending the nomination may take: it is one small record into an empty send buffer.
const NOMINATION_LIMIT: Duration = Duration::from_secs(1);

/// A connection to the peer, verified and nominated.
pub(crate) struct Punched {
    pub(crate) stream: TlsStream<Preamble>,
    pub(crate) pair: CandidatePair,
    pub(crate) how: How,
    /// When TCP had the connection open.
    pub(crate) open_at: Instant,
    /// What it took.
    pub(crate) stats: Stats,
}

/// Why a session ended without a connection.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// The agent found no way.
    NoPath(Box<PunchReport>),
    /// The connection broke while it was nominated.
    Broken(io::Error),
}

/// One introduction being turned into a connection.
pub(crate) struct Session {
    agent: PunchAgent,
    role: Role,
    verifier: Verifier,
    inbox: Inbox,
    local_nat: watch::Receiver<NatReport>,
    checks: BTreeMap<CheckId, Check>,
    tasks: JoinSet<(CheckId, Done)>,
}

/// What the driver holds for a check, in the order in which a check goes through these.
enum Check {
    Connecting(AbortHandle),
    Open {
        stream: TcpStream,
        token_read: bool,
        at: Instant,
    },
    Verifying {
        task: AbortHandle,
        opened_at: Instant,
    },
    Verified {
        stream: Box<TlsStream<Preamble>>,
        opened_at: Instant,
    },
}

enum Done {
    Connect(Result<(TcpStream, Opened), ConnectFailure>),
    Verify(Result<Box<TlsStream<Preamble>>, VerifyFailure>),
}

impl Session {
    pub(crate) fn new(
        agent: PunchAgent,
        role: Role,
        verifier: Verifier,
        inbox: Inbox,
        local_nat: watch::Receiver<NatReport>,
    ) -> Self {
        Self {
            agent,
            role,
            verifier,
            inbox,
            local_nat,
            checks: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until there is a connection, or the agent gives up, at the latest at `deadline`.
    ///
    /// Cancel safety: dropping the future resets every connection.
    pub(crate) async fn run(mut self, deadline: Instant) -> Result<Punched, SessionError> {
        loop {
            while let Some(action) = self.agent.poll_action() {
                self.perform(action);
            }
            match self.agent.poll_event() {
                Some(Event::Established { check, pair, how }) => {
                    return self.finish(check, pair, how).await;
                }
                Some(Event::Failed(report)) => return Err(SessionError::NoPath(report)),
                None => self.wait(deadline).await,
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect {
                check,
                local,
                remote,
            } => {
                let task = self.tasks.spawn(connect(check, local, remote));
                self.checks.insert(check, Check::Connecting(task));
            }
            Action::Verify { check } => self.verify(check),
            Action::Close { check } => match self.checks.remove(&check) {
                Some(Check::Connecting(task) | Check::Verifying { task, .. }) => task.abort(),
                // Dropping an open stream resets it.
                Some(Check::Open { .. } | Check::Verified { .. }) | None => {}
            },
        }
    }

    fn verify(&mut self, check: CheckId) {
        let Some(Check::Open {
            stream,
            token_read,
            at,
        }) = self.checks.remove(&check)
        else {
            return;
        };
        let verifying = self.verifier.clone().verify(stream, token_read);
        let task = self
            .tasks
            .spawn(async move { (check, Done::Verify(verifying.await.map(Box::new))) });
        self.checks.insert(
            check,
            Check::Verifying {
                task,
                opened_at: at,
            },
        );
    }

    /// Waits for the next thing to happen and tells the agent.
    async fn wait(&mut self, deadline: Instant) {
        let wake_at = self
            .agent
            .poll_timeout()
            .map_or(deadline, |at| at.min(deadline));
        tokio::select! {
            Some(joined) = self.tasks.join_next() => match joined {
                Ok((check, done)) => self.take_result(check, done),
                // Only a task that the agent had closed is cancelled.
                Err(error) => tracing::trace!(%error, "check ended without a result"),
            },
            Some(arrival) = self.inbox.next() => self.take_arrival(arrival),
            Ok(()) = self.local_nat.changed() => {
                let report = *self.local_nat.borrow_and_update();
                self.agent.handle_input(Input::LocalNat(report), Instant::now());
            }
            () = sleep_until(wake_at.into()) => {
                let now = Instant::now();
                if now >= deadline {
                    self.agent.give_up(now);
                } else {
                    self.agent.handle_timeout(now);
                }
            }
        }
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        let now = Instant::now();
        let Arrival {
            stream,
            local,
            remote,
            token_read,
        } = arrival;
        if let Some(check) = self.agent.handle_accepted(local, remote, now) {
            self.checks.insert(
                check,
                Check::Open {
                    stream,
                    token_read,
                    at: now,
                },
            );
        }
    }

    fn take_result(&mut self, check: CheckId, done: Done) {
        let now = Instant::now();
        let previous = self.checks.remove(&check);
        let input = match (done, previous) {
            (Done::Connect(Ok((stream, opened))), Some(Check::Connecting(_))) => {
                self.checks.insert(
                    check,
                    Check::Open {
                        stream,
                        token_read: false,
                        at: now,
                    },
                );
                Input::Connected { check, opened }
            }
            (Done::Connect(Err(failure)), _) => Input::ConnectFailed { check, failure },
            (Done::Verify(Ok(stream)), Some(Check::Verifying { opened_at, .. })) => {
                self.checks
                    .insert(check, Check::Verified { stream, opened_at });
                Input::Verified { check }
            }
            (Done::Verify(Err(failure)), _) => Input::VerifyFailed { check, failure },
            // The agent closed the check while its result was on the way here.
            (Done::Connect(Ok(_)) | Done::Verify(Ok(_)), _) => return,
        };
        self.agent.handle_input(input, now);
    }

    async fn finish(
        mut self,
        check: CheckId,
        pair: CandidatePair,
        how: How,
    ) -> Result<Punched, SessionError> {
        let Some(Check::Verified {
            mut stream,
            opened_at,
        }) = self.checks.remove(&check)
        else {
            return Err(SessionError::Broken(io::ErrorKind::NotConnected.into()));
        };
        if self.role == Role::Controlling {
            match timeout(NOMINATION_LIMIT, nominate(&mut stream)).await {
                Ok(result) => result.map_err(SessionError::Broken)?,
                Err(_) => return Err(SessionError::Broken(io::ErrorKind::TimedOut.into())),
            }
        }
        tcp::settle(stream.get_ref().0.tcp()).map_err(SessionError::Broken)?;
        Ok(Punched {
            stream: *stream,
            pair,
            how,
            open_at: opened_at,
            stats: self.agent.stats(),
        })
    }
}

async fn connect(check: CheckId, local: SocketAddr, remote: SocketAddr) -> (CheckId, Done) {
    (check, Done::Connect(tcp::connect(local, remote).await))
}
