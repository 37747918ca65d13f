//! Lets the peer know when an introduction is given up.
//!
//! Its attempts would be in the way of those of the next introduction: they hold the same ports,
//! and connections that they make belong to nobody. So whoever ends without a connection says so,
//! also where the dial is dropped.

use std::{
    future, mem,
    pin::Pin,
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_proto::{
    SessionToken,
    message::{DialRequest, Flight, Request, Response},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{timeout, timeout_at},
};

use super::link::Link;
use crate::CoordinatorError;

/// Introductions that are given up and not told of yet. An endpoint is in no more at a time.
const MAX_WAITING: usize = 64;

/// How many are told of at a time. The coordinator takes 32 requests, and others want to be heard.
const MAX_TELLING: usize = 8;

/// How long a dial waits until the coordinator has passed on that it gives up: a round trip, and
/// some more for a lost packet.
const HEARD_LIMIT: Duration = Duration::from_secs(1);

/// How long whoever closes its endpoint waits for the same.
const CLOSING_LIMIT: Duration = Duration::from_millis(300);

/// Where to say that introductions are given up.
pub(crate) type Withdrawals = mpsc::Sender<Withdrawal>;

/// What the coordinator is to be told, or has been.
pub(crate) enum Withdrawal {
    /// An introduction is given up.
    GivenUp {
        session: SessionToken,
        /// Who waits until it is passed on.
        heard: Option<oneshot::Sender<()>>,
    },
    /// Whoever has asked for an introduction does not want it any more, and does not know it yet.
    Unanswered(Exchange),
    /// Somebody waits until everything before is passed on.
    Last(oneshot::Sender<()>),
}

/// Returns where to say so, and what is to be told.
pub(crate) fn withdrawals() -> (Withdrawals, mpsc::Receiver<Withdrawal>) {
    mpsc::channel(MAX_WAITING)
}

/// Tells the coordinator of every introduction that is given up, for as long as the future is
/// polled and somebody may give one up.
pub(crate) async fn tell(link: Link, mut given_up: mpsc::Receiver<Withdrawal>) {
    let mut telling = JoinSet::new();
    loop {
        tokio::select! {
            withdrawal = given_up.recv(), if telling.len() < MAX_TELLING => match withdrawal {
                Some(Withdrawal::GivenUp { session, heard }) => {
                    telling.spawn(pass_on(link.clone(), session, heard));
                }
                Some(Withdrawal::Unanswered(exchange)) => {
                    telling.spawn(give_up_unknown(link.clone(), exchange));
                }
                Some(Withdrawal::Last(waiting)) => {
                    while telling.join_next().await.is_some() {}
                    report(waiting);
                }
                None => break,
            },
            Some(_) = telling.join_next() => {}
        }
    }
    while telling.join_next().await.is_some() {}
}

async fn pass_on(link: Link, session: SessionToken, heard: Option<oneshot::Sender<()>>) {
    // A flight without bytes.
    let bytes = Vec::new();
    if let Err(error) = link.relay(Flight { session, bytes }).await {
        tracing::debug!(%error, "the peer does not know that an attempt is given up");
    }
    if let Some(heard) = heard {
        report(heard);
    }
}

async fn give_up_unknown(link: Link, exchange: Exchange) {
    if let Ok(Response::Introduced(introduction)) = exchange.await {
        pass_on(link, introduction.session, None).await;
    }
}

fn report(waiting: oneshot::Sender<()>) {
    if waiting.send(()).is_err() {
        tracing::trace!("nobody waits for a withdrawal any more");
    }
}

/// Waits a little until everything that has been said is passed on, before the connection to the
/// coordinator ends. Takes no time if there is nothing.
pub(crate) async fn finish(withdrawals: &Withdrawals) {
    let (waiting, passed_on) = oneshot::channel();
    send(withdrawals, Withdrawal::Last(waiting));
    if timeout(CLOSING_LIMIT, passed_on).await.is_err() {
        tracing::debug!("the coordinator may not have passed all withdrawals on");
    }
}

/// Says that an introduction is given up. What there is no room for, or no coordinator any more,
/// the peer finds out by itself some seconds later.
pub(crate) fn say(withdrawals: &Withdrawals, session: SessionToken) {
    send(
        withdrawals,
        Withdrawal::GivenUp {
            session,
            heard: None,
        },
    );
}

fn send(withdrawals: &Withdrawals, withdrawal: Withdrawal) {
    if withdrawals.try_send(withdrawal).is_err() {
        tracing::debug!("the peer is not told that an attempt is given up");
    }
}

/// A request, and its answer.
type Exchange = Pin<Box<dyn Future<Output = Result<Response, CoordinatorError>> + Send>>;

/// Asks for an introduction.
///
/// If this is dropped before the answer has come, the peer may be told of the introduction all the
/// same, and waits for nobody. So the answer is waited for elsewhere then, and the introduction is
/// given up.
pub(crate) async fn ask(
    link: Link,
    dial: DialRequest,
    withdrawals: Withdrawals,
) -> Result<Response, CoordinatorError> {
    let mut dial = UnansweredDial {
        exchange: Box::pin(async move { link.request(&Request::Dial(dial)).await }),
        is_answered: false,
        withdrawals,
    };
    let answer = dial.exchange.as_mut().await;
    dial.is_answered = true;
    answer
}

/// A request for an introduction that has left, or is about to.
struct UnansweredDial {
    exchange: Exchange,
    is_answered: bool,
    withdrawals: Withdrawals,
}

impl Drop for UnansweredDial {
    fn drop(&mut self) {
        if !self.is_answered {
            let exchange = mem::replace(&mut self.exchange, Box::pin(future::pending()));
            send(&self.withdrawals, Withdrawal::Unanswered(exchange));
        }
    }
}

/// Says that an introduction is given up when it is dropped, unless a connection has come of it.
#[derive(Debug)]
pub(crate) struct PendingWithdrawal {
    session: SessionToken,
    withdrawals: Withdrawals,
    /// Whether nothing is said when this is dropped.
    is_silent: bool,
}

impl PendingWithdrawal {
    pub(crate) const fn new(session: SessionToken, withdrawals: Withdrawals) -> Self {
        Self {
            session,
            withdrawals,
            is_silent: false,
        }
    }

    /// Says nothing from now on unless it is given up all the same, as there is a connection.
    pub(crate) const fn connected(&mut self) {
        self.is_silent = true;
    }

    /// Gives the introduction up, and waits a little until the coordinator has passed that on: the
    /// peer must not hear of the next one first.
    pub(crate) async fn give_up(mut self, deadline: Instant) {
        self.is_silent = true;
        let (heard, hearing) = oneshot::channel();
        let withdrawal = Withdrawal::GivenUp {
            session: self.session,
            heard: Some(heard),
        };
        send(&self.withdrawals, withdrawal);
        let until = deadline.min(clock::now() + HEARD_LIMIT);
        if timeout_at(until.into(), hearing).await.is_err() {
            tracing::debug!("the coordinator does not say that it has passed a withdrawal on");
        }
    }
}

impl Drop for PendingWithdrawal {
    fn drop(&mut self) {
        if !self.is_silent {
            say(&self.withdrawals, self.session);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const SESSION: SessionToken = SessionToken::from_bytes([1; SessionToken::LEN]);

    fn parts(withdrawal: Withdrawal) -> (SessionToken, Option<oneshot::Sender<()>>) {
        match withdrawal {
            Withdrawal::GivenUp { session, heard } => (session, heard),
            Withdrawal::Unanswered(_) => panic!("there is nothing to answer"),
            Withdrawal::Last(_) => panic!("nobody waits for the last one"),
        }
    }

    #[test]
    fn what_is_dropped_without_a_connection_is_told_of() {
        // As a dial is dropped, in whatever it waits for, and outside of any runtime.
        let (withdrawals, mut given_up) = withdrawals();
        let mut pending = PendingWithdrawal::new(SESSION, withdrawals);
        let dialling = async move {
            future::pending::<()>().await;
            pending.connected();
        };
        assert!(given_up.try_recv().is_err());
        drop(dialling);
        assert_eq!(parts(given_up.try_recv().unwrap()).0, SESSION);
    }

    #[test]
    fn a_connection_is_no_farewell() {
        let (withdrawals, mut given_up) = withdrawals();
        PendingWithdrawal::new(SESSION, withdrawals).connected();
        assert!(given_up.try_recv().is_err());
    }

    #[test]
    fn there_is_an_end_to_what_waits() {
        let (withdrawals, given_up) = withdrawals();
        for _ in 0..=MAX_WAITING {
            drop(PendingWithdrawal::new(SESSION, withdrawals.clone()));
        }
        assert_eq!(given_up.len(), MAX_WAITING);
        drop(given_up);
        drop(PendingWithdrawal::new(SESSION, withdrawals));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_does_not_wait_for_long() {
        let began = tokio::time::Instant::now();
        let (withdrawals, mut given_up) = withdrawals();
        let give_up = |deadline: Duration| {
            let pending = PendingWithdrawal::new(SESSION, withdrawals.clone());
            pending.give_up(began.into_std() + deadline)
        };
        give_up(Duration::from_millis(300)).await;
        assert!(began.elapsed() < Duration::from_millis(310), "its deadline");
        give_up(Duration::from_secs(15)).await;
        assert!(began.elapsed() < Duration::from_millis(1_400), "silence");

        // Once is enough.
        let told = [(); 2].map(|()| parts(given_up.try_recv().unwrap()).0);
        assert_eq!(told, [SESSION; 2]);
        assert!(given_up.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_closes_waits_a_little_for_what_was_said() {
        let (withdrawals, mut given_up) = withdrawals();
        drop(PendingWithdrawal::new(SESSION, withdrawals.clone()));
        let finishing = finish(&withdrawals);
        tokio::pin!(finishing);
        let last = tokio::select! {
            biased;
            () = &mut finishing => panic!("nobody has heard of it"),
            _ = given_up.recv() => given_up.recv().await.unwrap(),
        };
        match last {
            Withdrawal::Last(waiting) => waiting.send(()).unwrap(),
            Withdrawal::GivenUp { .. } | Withdrawal::Unanswered(_) => panic!("there was one"),
        }
        finishing.await;
        // A coordinator that says nothing holds nobody up.
        let began = tokio::time::Instant::now();
        finish(&withdrawals).await;
        assert_eq!(began.elapsed(), CLOSING_LIMIT);
    }

    #[tokio::test]
    async fn the_next_introduction_comes_after_the_farewell() {
        let (withdrawals, mut given_up) = withdrawals();
        let deadline = Instant::now() + Duration::from_secs(15);
        let giving_up = PendingWithdrawal::new(SESSION, withdrawals).give_up(deadline);
        tokio::pin!(giving_up);
        let heard = tokio::select! {
            biased;
            () = &mut giving_up => panic!("nobody has heard of it"),
            withdrawal = given_up.recv() => parts(withdrawal.unwrap()).1.unwrap(),
        };
        heard.send(()).unwrap();
        giving_up.await;
    }
}
