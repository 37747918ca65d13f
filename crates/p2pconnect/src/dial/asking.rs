//! Asks the coordinator for an introduction.

use std::{sync::Arc, time::Duration};

use p2pconnect_host::clock;
use p2pconnect_proto::{
    NatReport, Opening, Role,
    message::{DialRequest, Extensions, Refusal, RefusalReason},
};
use tokio::time::{sleep, timeout_at};

use super::Dial;
use crate::{
    CoordinatorError, DialError, Status,
    coordinator::requests::{Coordination, DialAnswer},
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

/// Who was asked for an introduction, what they were told, and what they said.
struct Asked {
    coordination: Arc<Coordination>,
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
        loop {
            let outstanding = self.inner.glare_table.begin_dial(peer);
            let asking = timeout_at(deadline.into(), self.ask_once(lease, hello.clone()));
            let pause = busy_pause.mul_f64(1.0 + self.inner.host.random_fraction());
            let is_in_time = |pause| clock::now() + pause < deadline;
            let Asked {
                coordination,
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
                        coordination,
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
                    let error = CoordinatorError::Refused(refusal.clone());
                    // Those who are told the same do not come back together.
                    let spread = pause.saturating_sub(busy_pause);
                    let pause = error.retry_after().map_or(pause, |after| after + spread);
                    if !is_in_time(pause) {
                        return Err(error.into());
                    }
                    again = Some(error);
                    if !std::mem::replace(&mut self.is_refusal_told, true) {
                        let refused = Status::DialRefused { peer, refusal };
                        self.inner.observer.tell(refused);
                    }
                    sleep(pause).await;
                    busy_pause = (busy_pause * 2).min(MAX_BUSY_PAUSE);
                }
                Err(refusal) => return Err(self.refused(refusal)),
            }
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
        self.coordination.has_changed().is_ok()
    }

    /// Asks once; returns whom, and what they said.
    async fn ask_once(
        &self,
        lease: &PortSetLease,
        handshake: Vec<u8>,
    ) -> Result<Asked, CoordinatorError> {
        let mut coordination = self.coordination.clone();
        let link = coordination.wait_for(Option::is_some).await;
        // As long as this endpoint exists, only another one with the same key ends the task that
        // keeps this endpoint online.
        let link = link
            .ok()
            .and_then(|link| link.clone())
            .ok_or(CoordinatorError::Replaced)?;
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
        let answer = link.dial(request).await?;
        Ok(Asked {
            coordination: link,
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
