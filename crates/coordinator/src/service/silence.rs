//! Notices that a client is gone without a word while somebody waits for it.
//!
//! A process that is killed says nothing, and QUIC alone takes half a minute to notice. So while an
//! introduction of a client is not settled, the client is asked for a sign of life again and again,
//! and who waits for it is told when none comes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use p2pconnect_link::{End, Link};
use p2pconnect_proto::{
    close, codec,
    message::{Flight, Notice, Silent},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{debug, error, info};

use super::{
    counts::Introduction,
    notices::Notices,
    request::send_frame,
    shared::{Shared, Way},
    ticket::ConnectedClient,
};

/// How often a client that somebody waits for is asked. There are fourteen questions in
/// [`PATIENCE`], and one answer is enough: where a fifth of all packets is lost each way, one
/// client of 1.6 million is taken for gone.
const INTERVAL: Duration = Duration::from_millis(100);

/// For how long a client may send nothing at all, and two round trips more: one for the answer to
/// the last question, and one as the path may be slower than it was.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The most of a turn's time that counts as silence. A coordinator that stood still itself has
/// heard nobody.
const LONGEST_TURN: Duration = Duration::from_millis(200);

/// Looks after one client, for as long as the future is polled.
pub(super) async fn watch(connected: &ConnectedClient) -> Infallible {
    let mut silence = Silence::new(connected.link().heard());
    loop {
        connected.notices.awaited().await;
        silence.goes_on(connected.link().heard());
        // Apart, so that it takes no room in the task of a client that nobody waits for.
        Box::pin(look_after(connected, &mut silence)).await;
    }
}

async fn look_after(connected: &ConnectedClient, silence: &mut Silence) {
    if let Some(silent_for) = silent_for(connected, silence).await {
        tell(connected, silent_for).await;
    }
}

/// Tells who still waits for a client whose connection has ended, unless it has been closed: a
/// client that says goodbye may be done. One that has heard nothing from here has not heard of its
/// last introductions either, and begins anew: its callees are told that it has given these up.
pub(super) async fn tell_of_end(connected: &ConnectedClient) {
    match connected.link().close_reason() {
        Some(End::Silence | End::Reset) => tell(connected, connected.notices.silent_for()).await,
        Some(End::Closed { code, .. }) if code.close().code == close::TIMED_OUT => {
            let given_up = connected.give_up_dials().into_iter();
            let notices = given_up.map(|(session, callee)| {
                let bytes = Vec::new();
                (callee, Notice::Flight(Flight { session, bytes }))
            });
            tell_each(connected, notices).await;
        }
        Some(End::Closed { .. } | End::ClosedHere | End::Failed(_)) | None => {}
    }
}

/// Waits until nobody waits for a client any more, or returns for how long nothing has come from
/// it.
async fn silent_for(connected: &ConnectedClient, silence: &mut Silence) -> Option<Duration> {
    let notices = &connected.notices;
    let mut turn = Instant::now();
    loop {
        sleep(INTERVAL).await;
        if !connected.is_awaited() {
            return None;
        }
        let (came, took) = (connected.link().heard(), turn.elapsed());
        turn = Instant::now();
        match silence.take(came, took, connected.link().rtt()) {
            Sign::Came => {
                connected.hear();
                if !connected.link().can_be_asked() {
                    // Only what leaves for its own sake is acknowledged, and that has been.
                    return None;
                }
            }
            Sign::Awaited => ask(connected.link()),
            Sign::Lacks => return Some(notices.silent_for()),
        }
    }
}

/// Asks a client for a sign of life, if it answers such a question.
fn ask(link: &Link) {
    if link.can_be_asked() {
        link.send_sign_of_life();
    }
}

/// What a turn has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A sign of life.
    Came,
    /// None yet.
    Awaited,
    /// None, and for too long.
    Lacks,
}

/// For how long a client has been silent, counted in turns.
#[derive(Debug)]
struct Silence {
    heard: u64,
    lasts: Duration,
}

impl Silence {
    const fn new(heard: u64) -> Self {
        Self {
            heard,
            lasts: Duration::ZERO,
        }
    }

    /// Begins to count again, when so much has come. A client that has answered none of
    /// the questions before has two round trips more for the next ones: an attempt of whoever dials
    /// it again may be over before it has as long as at first.
    fn goes_on(&mut self, heard: u64) {
        if heard == self.heard {
            self.lasts = self.lasts.min(PATIENCE);
        } else {
            *self = Self::new(heard);
        }
    }

    /// Takes in how much has come by the end of a turn, how long that took, and how long the path
    /// is.
    fn take(&mut self, heard: u64, took: Duration, round_trip: Duration) -> Sign {
        if heard != self.heard {
            *self = Self::new(heard);
            return Sign::Came;
        }
        self.lasts += took.min(LONGEST_TURN);
        if self.lasts < PATIENCE + round_trip * 2 {
            Sign::Awaited
        } else {
            Sign::Lacks
        }
    }
}

/// Tells all who wait for a client that it is gone.
async fn tell(connected: &ConnectedClient, silent_for: Duration) {
    let waiting = connected.give_up();
    if waiting.is_empty() {
        return;
    }
    if connected.may_log() {
        let peer = connected.client.peer;
        info!(%peer, ?silent_for, waiting = waiting.len(), "peer is silent");
    }
    for _ in &waiting {
        let counts = &connected.shared().counts;
        counts.introduction(Introduction::Silent);
    }
    let silent_ms = u32::try_from(silent_for.as_millis()).unwrap_or(u32::MAX);
    let notice = |session| Notice::Silent(Silent { session, silent_ms }.well_formed());
    let waiting = waiting.into_iter();
    let notices = waiting.map(|(session, other)| (other, notice(session)));
    tell_each(connected, notices).await;
}

async fn tell_each(connected: &ConnectedClient, notices: impl Iterator<Item = (Way, Notice)>) {
    let telling = notices.map(|(way, notice)| tell_one(connected.share(), way, notice));
    telling.collect::<JoinSet<_>>().join_all().await;
}

async fn tell_one(shared: Arc<Shared>, way: Way, notice: Notice) {
    match (way, &shared.nodes) {
        (Way::Here(client), _) => tell_here(&client, &notice).await,
        (Way::There(node), Some(nodes)) => nodes.notify(node, notice).await,
        (Way::There(_), None) => debug!("there is no other coordinator"),
    }
}

/// Tells a client of this coordinator something.
pub(super) async fn tell_here(notices: &Notices, notice: &Notice) {
    match (codec::encode(notice), notices.stream().await) {
        (Ok(frame), Ok(mut stream)) => send_frame(&mut stream, &frame).await,
        (Err(error), _) => error!(%error, "a notice exceeds a frame"),
        (_, Err(refusal)) => debug!(%refusal, "a client is not told of the other side"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_millis(40);

    /// Returns after how many turns without a sign of life a client is gone.
    fn turns(took: Duration, round_trip: Duration) -> usize {
        let mut silence = Silence::new(7);
        let mut turns = 1;
        while silence.take(7, took, round_trip) == Sign::Awaited {
            turns += 1;
        }
        turns
    }

    #[test]
    fn who_is_far_away_has_more_time() {
        assert_eq!(turns(INTERVAL, NEAR), 16);
        assert_eq!(turns(INTERVAL, Duration::from_millis(2_400)), 63);
    }

    #[test]
    fn who_has_not_answered_before_has_a_little_time() {
        let mut silence = Silence::new(7);
        let mut turns = |heard: u64| {
            silence.goes_on(heard);
            let is_awaited = |_: &u32| silence.take(heard, INTERVAL, NEAR) == Sign::Awaited;
            (1..100).take_while(is_awaited).count() + 1
        };
        assert_eq!(turns(7), 16);
        assert_eq!(turns(7), 1);
        assert_eq!(turns(8), 16);
    }

    #[test]
    fn one_answer_to_many_questions_is_enough() {
        let mut silence = Silence::new(0);
        for answers in 1..10 {
            for _ in 1..turns(INTERVAL, NEAR) {
                assert_eq!(silence.take(answers - 1, INTERVAL, NEAR), Sign::Awaited);
            }
            assert_eq!(silence.take(answers, INTERVAL, NEAR), Sign::Came);
        }
    }

    #[test]
    fn a_coordinator_that_stood_still_has_heard_nobody() {
        let mut silence = Silence::new(0);
        assert_eq!(silence.take(0, PATIENCE * 10, NEAR), Sign::Awaited);
        assert!(turns(PATIENCE * 10, NEAR) > 5);
    }
}
