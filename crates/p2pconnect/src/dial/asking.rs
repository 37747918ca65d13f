//! Asks the coordinator for an introduction.

use std::time::Duration;

use p2pconnect_host::clock;
use p2pconnect_proto::{
    NatReport, Opening, Role,
    message::{DialRequest, Extensions, Refusal, RefusalReason},
};
use tokio::time::{sleep, timeout_at};

use super::Dial;
use crate::{
    CoordinatorError, DialError, Status,
    coordinator::{
        lines::{Line, Lines, Next, Place},
        requests::DialAnswer,
    },
    dial::rounds::BUSY_PAUSE,
    introduction::{
        advertisement::Advertisement, attempt::Attempt, glare::CrossedDial, recovery::recovery,
    },
    nat::{mappings::Claims, port_sets::PortSetLease},
    stream::coordinated_handshake::CoordinatedHandshake,
};

/// The longest that the pause before a coordinator is asked again becomes, before chance: one that
/// grants one dial each 100 ms has granted twenty by then.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// What the coordinator has arranged for a dial.
pub(super) enum Arrangement {
    /// An introduction of its own.
    Attempt(Box<Attempt>),
    /// Whatever comes of the introduction that the peer's dial has brought.
    Crossed(CrossedDial),
}

impl Arrangement {
    /// Tells whether the two are known to each other in different families.
    pub(super) fn are_apart(&self) -> bool {
        match self {
            Self::Attempt(attempt) => attempt.known.are_apart(),
            Self::Crossed(_) => false,
        }
    }

    /// Returns what is known of the peer's NAT.
    pub(super) fn remote_nat(&self) -> Option<RemoteNat> {
        match self {
            Self::Attempt(attempt) => Some(RemoteNat {
                report: attempt.introduction.nat,
                recovery: recovery(&attempt.introduction),
            }),
            Self::Crossed(_) => None,
        }
    }
}

/// What is known of the NAT of a peer that was dialled.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteNat {
    pub(super) report: NatReport,
    /// How long the peer takes after a dial to find out and tell what that has used up.
    pub(super) recovery: Duration,
}

/// How long a dial waits for a coordinator that is being connected to, where all others have been
/// asked in vain: a handshake over a long way, with a lost packet.
const ANOTHER_LIMIT: Duration = Duration::from_millis(1500);

/// Who was asked for an introduction, what they were told, and what they said.
struct Asked {
    line: Line,
    advertised: Advertisement,
    /// What they were asked to find out.
    claims: Claims,
    answer: Result<DialAnswer, Refusal>,
}

impl Dial {
    /// Asks for an introduction, again and again while the coordinator is told to do too much at
    /// a time, or has gone: it may be back soon.
    pub(super) async fn ask(&mut self, lease: &PortSetLease) -> Result<Arrangement, DialError> {
        let (peer, deadline) = (self.peer, self.deadline);
        let (handshake, hello) = CoordinatedHandshake::dialling(&self.inner.key, peer).await?;
        // Why it is asked again.
        let mut again = None;
        let mut busy_pause = BUSY_PAUSE;
        // Those who do not know the peer.
        let mut in_vain = Vec::new();
        loop {
            let outstanding = self.inner.glare_table.begin_dial(peer);
            let asking = timeout_at(
                deadline.into(),
                self.ask_once(lease, hello.clone(), &in_vain),
            );
            let pause = busy_pause.mul_f64(1.0 + self.inner.host.random_fraction());
            let is_in_time = |pause| clock::now() + pause < deadline;
            let Asked {
                line,
                advertised,
                claims,
                answer,
            } = match asking.await {
                Ok(Ok(asked)) => asked,
                Ok(Err(error)) if error.is_gone() && self.may_come_back() && is_in_time(pause) => {
                    drop(outstanding);
                    again = Some(error);
                    sleep(pause).await;
                    continue;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(again.map_or(DialError::TimedOut, DialError::from)),
            };
            match answer {
                // Somebody else, or one who dials as well, was not asked for.
                Ok(DialAnswer::Introduced(introduction))
                    if introduction.peer == peer && introduction.role == Role::Controlling =>
                {
                    let mut attempt = self.inner.attempt(
                        introduction,
                        advertised,
                        &claims,
                        line.coordination,
                        handshake,
                    );
                    attempt.predecessors.clone_from(&self.used);
                    return Ok(Arrangement::Attempt(Box::new(attempt)));
                }
                Ok(DialAnswer::Introduced(_)) => return Err(CoordinatorError::Answer.into()),
                Ok(DialAnswer::Crossed(session)) => {
                    match serving(outstanding.crossed(session), &self.used) {
                        Some(crossed) => return Ok(Arrangement::Crossed(crossed)),
                        // Its connection is another one, or the coordinator lies.
                        None if is_in_time(pause) => sleep(pause).await,
                        None => return Err(DialError::TimedOut),
                    }
                }
                Err(refusal) if is_for_now(refusal.reason) => {
                    drop(outstanding);
                    // Those who are told the same do not come back together.
                    let spread = pause.saturating_sub(busy_pause);
                    again = Some(self.wait_out(refusal, pause, spread).await?);
                    busy_pause = (busy_pause * 2).min(MAX_BUSY_PAUSE);
                }
                Err(refusal) if refusal.reason == RefusalReason::Unavailable => {
                    drop(outstanding);
                    in_vain.push(line.place());
                    if !self.is_another_there(&in_vain).await {
                        return Err(self.refused(refusal));
                    }
                }
                Err(refusal) => return Err(self.refused(refusal)),
            }
        }
    }

    /// Waits for so long, or `spread` longer than the coordinator says, until it may be asked again
    /// that refuses the dial for now. Returns what it has said, also where there is no time for
    /// that.
    async fn wait_out(
        &mut self,
        refusal: Refusal,
        pause: Duration,
        spread: Duration,
    ) -> Result<CoordinatorError, CoordinatorError> {
        let error = CoordinatorError::Refused(refusal.clone());
        let pause = error.retry_after().map_or(pause, |after| after + spread);
        if clock::now() + pause >= self.deadline {
            return Err(error);
        }
        self.tell_of_refusal(refusal);
        sleep(pause).await;
        Ok(error)
    }

    /// Tells the user that the coordinator refuses the dial for now, once.
    fn tell_of_refusal(&mut self, refusal: Refusal) {
        if !std::mem::replace(&mut self.is_refusal_told, true) {
            let peer = self.peer;
            self.inner
                .observer
                .tell(Status::DialRefused { peer, refusal });
        }
    }

    /// Tells whether there is another coordinator to be asked, or soon will be.
    async fn is_another_there(&self, in_vain: &[Place]) -> bool {
        let mut lines = self.lines.clone();
        let decided = lines.wait_for(|lines| !matches!(lines.next(in_vain), Next::Wait));
        let limit = (clock::now() + ANOTHER_LIMIT).min(self.deadline);
        match timeout_at(limit.into(), decided).await {
            Ok(Ok(lines)) => matches!(lines.next(in_vain), Next::Ask(_)),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Returns what ends the dial where the coordinator refuses it.
    fn refused(&self, refusal: Refusal) -> DialError {
        if refusal.reason == RefusalReason::Unavailable {
            let own_id = self.inner.key.peer_id();
            DialError::Unavailable { own_id }
        } else if refusal.reason == RefusalReason::OwnId {
            DialError::OwnId
        } else {
            CoordinatorError::Refused(refusal).into()
        }
    }

    /// Tells whether the coordinator is connected to again where the connection is lost: not by an
    /// endpoint that is closed.
    pub(super) fn may_come_back(&self) -> bool {
        self.lines.has_changed().is_ok()
    }

    /// Asks once, and others first than those that were asked in vain; returns whom, and what they
    /// said.
    async fn ask_once(
        &self,
        lease: &PortSetLease,
        handshake: Vec<u8>,
        in_vain: &[Place],
    ) -> Result<Asked, CoordinatorError> {
        let mut lines = self.lines.clone();
        let there = lines.wait_for(|lines| !lines.up.is_empty()).await;
        let next = |lines: &Lines| match lines.next(in_vain) {
            Next::Ask(line) => Some(line),
            Next::Wait | Next::Nobody => lines.up.first().cloned(),
        };
        // As long as this endpoint exists, only another one with the same key ends the task that
        // keeps this endpoint online.
        let line = there.ok().and_then(|lines| next(&lines));
        let line = line.ok_or(CoordinatorError::Replaced)?;
        // In this order: a mapping that comes to be known meanwhile is named twice, and not left
        // out.
        let claims = lease
            .claims()
            .unwrap_or_else(|| self.inner.mappings.claims());
        let advertised = self.inner.advertise_for_dial(lease);
        let request = DialRequest {
            candidates: advertised.candidates.clone(),
            nat: advertised.nat,
            claims: claims.list.clone(),
            handshake,
            peer_extensions: Vec::new(),
            extensions: Extensions::default(),
            ..DialRequest::new(self.peer)
        };
        let answer = line.coordination.dial(request).await?;
        Ok(Asked {
            line,
            advertised,
            claims,
            answer,
        })
    }
}

/// Returns the introduction that the peer's dial has brought, if it may serve a dial that has used
/// connections of these introductions: it was not over before, and nothing was sent on a connection
/// of another one. Nobody but a dialler can name that one to the peer.
fn serving<T>(crossed: Option<T>, used: &[Opening]) -> Option<T> {
    crossed.filter(|_| used.is_empty())
}

/// Tells whether a dial is refused only for the moment.
const fn is_for_now(reason: RefusalReason) -> bool {
    matches!(reason, RefusalReason::TooMany | RefusalReason::Apart)
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::SessionToken;

    use super::*;

    #[test]
    fn what_the_peers_dial_has_brought_serves_only_a_dial_that_has_sent_nothing() {
        let session = SessionToken::from_bytes([1; SessionToken::LEN]);
        let used = [session.opening(Role::Controlling)];
        for (crossed, used, served) in [
            (Some(1), &[][..], Some(1)),
            (Some(1), &used, None),
            (None, &[], None),
            (None, &used, None),
        ] {
            assert_eq!(serving(crossed, used), served, "{used:?}");
        }
    }
}
