//! Asks other coordinators for an introduction, and to pass bytes on.

use std::time::{Duration, Instant};

use p2pconnect_host::clock;
use p2pconnect_proto::{
    SessionToken,
    message::{Flight, Introduction, Refusal, RefusalReason},
    nodes::{NodeContent, NodeId, peer_subject},
};

use super::{
    nodes::{COME_BACK, Nodes, PATIENCE, micros},
    ticket::ConnectedClient,
};
use crate::{
    nodes::Unanswered,
    registry::{Asked, Elsewhere},
    start::MAX_DELAY,
};

/// What comes of a dial whose callee is at another coordinator.
pub(super) enum Answer {
    /// What the dialler is told, and how long that is held back.
    Introduced(Introduction, Duration),
    /// The callee's own dial serves this one.
    Crossed(SessionToken),
}

/// Has the node that holds the callee introduce the two.
pub(super) async fn dial(
    connected: &ConnectedClient,
    nodes: &Nodes,
    elsewhere: Elsewhere,
    asked_at: Instant,
) -> Result<Answer, Refusal> {
    let mut dial = elsewhere.dial;
    dial.rtt_us = micros(connected.link().rtt());
    let asked = Asked {
        session: dial.session,
        client: connected.client,
        callee: dial.callee,
        sent: dial.handshake.len(),
    };
    let subject = peer_subject(&dial.callee);
    let answer = nodes.ask(subject, NodeContent::Introduce(dial), PATIENCE);
    let answer = answer.await;
    let shared = connected.shared();
    let by = answer.as_ref().ok().filter(|it| {
        matches!(&it.content, NodeContent::Introduced(it) if it.introduction.session == asked.session)
    });
    shared.answered(&asked, by.map(|it| it.from));
    match answer.map(|it| it.content) {
        Ok(NodeContent::Introduced(it)) if it.introduction.session == asked.session => {
            let wait = Duration::from_micros(it.wait_us.into()).min(MAX_DELAY);
            let took = clock::since(asked_at);
            shared.counts.introduced(asked.sent as u64, took, wait);
            Ok(Answer::Introduced(it.introduction, wait))
        }
        Ok(NodeContent::Crossed(session)) => Ok(Answer::Crossed(session)),
        Ok(NodeContent::Refused(refusal)) => Err(refusal),
        Err(Unanswered::NobodyThere) => Err(RefusalReason::Unavailable.into()),
        Err(Unanswered::Away) => {
            let come_back = nodes.away().unwrap_or(COME_BACK);
            Err(Refusal::until(RefusalReason::Apart, come_back))
        }
        Ok(_) | Err(Unanswered::TimedOut) => {
            // The callee may have been told of it, and keeps a place.
            nodes.give_up(asked.callee, asked.session).await;
            Err(Refusal::until(RefusalReason::Apart, COME_BACK))
        }
    }
}

/// Passes bytes of a handshake on to the side of an introduction that is at another node.
pub(super) async fn relay(
    nodes: &Nodes,
    node: NodeId,
    flight: Flight,
) -> Result<(), RefusalReason> {
    let asked = nodes.ask(node.subject(), NodeContent::Relay(flight), PATIENCE);
    match asked.await.map(|it| it.content) {
        Ok(NodeContent::Relayed) => Ok(()),
        Ok(NodeContent::Refused(refusal)) => Err(refusal.reason),
        Ok(_) | Err(_) => Err(RefusalReason::Unavailable),
    }
}
