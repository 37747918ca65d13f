//! Does what other coordinators ask for.

use std::{sync::Arc, time::Duration};

use p2pconnect_proto::{
    message::{Extensions, Flight, Notice, Refusal, RefusalReason, Silent},
    nodes::{
        Claim, Commitments, NodeContent, NodeId, RemoteDial, RemoteIntroduction, SUBJECT_OF_ALL,
        Sightings,
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info};

use super::{
    nodes::{Nodes, Queues, carry, micros},
    notices::Notices,
    request::{self, CLAIM_LAG, CLAIM_PATIENCE, Delayed},
    shared::Shared,
    silence,
};
use crate::{
    nodes::{Incoming, Rival},
    registry::{ConnectionId, Event},
};

/// How often other nodes are measured, and heard of. With twenty nodes each has 130 messages a
/// second from that.
const INTERVAL: Duration = Duration::from_millis(300);

/// The most requests of other nodes that are carried out at a time. What comes when there are so
/// many waits.
const MAX_TASKS: usize = 1024;

/// Takes part in what the nodes say to each other, for as long as the future is polled.
pub(super) async fn serve(shared: Arc<Shared>, queues: Queues) {
    let Some(nodes) = shared.nodes.as_ref() else {
        return;
    };
    tokio::join!(
        oblige(&shared, nodes, queues.incoming),
        follow(&shared, queues.of_topics),
        carry(nodes, queues.changes),
    );
}

/// Takes in what others tell of topics, one after the other.
async fn follow(shared: &Arc<Shared>, mut of_topics: mpsc::Receiver<Incoming>) {
    while let Some(came) = of_topics.recv().await {
        receive(Arc::clone(shared), came).await;
    }
}

async fn oblige(shared: &Arc<Shared>, nodes: &Nodes, mut incoming: mpsc::Receiver<Incoming>) {
    let _listening = nodes.listen().await;
    let mut tasks = JoinSet::new();
    let mut pings = interval(INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut returns = nodes.returns();
    loop {
        tokio::select! {
            Some(came) = incoming.recv(), if tasks.len() < MAX_TASKS => {
                tasks.spawn(receive(Arc::clone(shared), came));
            }
            _ = pings.tick() => {
                let has_returned = nodes.returns() != returns;
                returns = nodes.returns();
                tasks.spawn(tick(Arc::clone(shared), has_returned));
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

async fn tick(shared: Arc<Shared>, has_returned: bool) {
    let Some(nodes) = shared.nodes.as_ref() else {
        return;
    };
    if nodes.have_changed() || has_returned {
        shared.bulletin.miss_others();
    }
    nodes.ping(SUBJECT_OF_ALL.to_owned()).await;
    if has_returned {
        nodes.claim_all().await;
    }
}

async fn receive(shared: Arc<Shared>, incoming: Incoming) {
    let Some(nodes) = shared.nodes.as_ref() else {
        return;
    };
    let subject = incoming.subject.as_bytes();
    let Some(message) = nodes.open(subject, &incoming.bytes) else {
        return;
    };
    let from = message.from;
    if nodes.is_own(from) {
        return;
    }
    if let NodeContent::Leaving = message.content {
        return nodes.forget(from);
    }
    if nodes.hear(from) {
        nodes.ping(from.subject()).await;
    }
    match message.content {
        NodeContent::Ping(number) => nodes.tell(from.subject(), NodeContent::Pong(number)).await,
        NodeContent::Pong(number) => nodes.measured(from, number),
        NodeContent::Claim(claim) => claimed(&shared, nodes, from, claim).await,
        NodeContent::Introduce(dial) => {
            let introduced = introduce(&shared, nodes, from, dial).await;
            let (answer, to_callee) =
                introduced.unwrap_or_else(|refusal| (NodeContent::Refused(refusal), None));
            let telling = async {
                if let Some((callee, message)) = to_callee {
                    request::notify_after(&callee, message).await;
                }
            };
            tokio::join!(nodes.answer(&incoming, answer), telling);
        }
        NodeContent::Relay(flight) => {
            let answer = match relay(&shared, from, flight).await {
                Ok(()) => NodeContent::Relayed,
                Err(reason) => NodeContent::Refused(reason.into()),
            };
            nodes.answer(&incoming, answer).await;
        }
        NodeContent::Silent(silent) => pass_silence(&shared, from, silent).await,
        NodeContent::Settled(settled) => shared.settled_from(from, &settled),
        NodeContent::Witnessed(commitments) => {
            if let Some(seen) = seen(&shared, commitments).await {
                nodes.answer(&incoming, NodeContent::Seen(seen)).await;
            }
        }
        NodeContent::Topic(changes) => shared.bulletin.hear(&changes.well_formed()),
        NodeContent::LookUp(look_up) => {
            if let Some(found) = shared.bulletin.page_for(&look_up) {
                nodes.answer(&incoming, NodeContent::Found(found)).await;
            }
        }
        NodeContent::Introduced(_)
        | NodeContent::Found(_)
        | NodeContent::Refused(_)
        | NodeContent::Crossed(_)
        | NodeContent::Relayed
        | NodeContent::Seen(_)
        | NodeContent::Leaving
        | NodeContent::Unknown(_) => debug!("a node says something that was not asked for"),
    }
}

/// Compares a registration elsewhere with the one here.
async fn claimed(shared: &Shared, nodes: &Nodes, from: NodeId, claim: Claim) {
    match nodes.judge(from, &claim) {
        Rival::Unknown => {}
        Rival::IsOlder(_) if claim.is_answer => {}
        Rival::IsOlder(age) => nodes.claim(claim.peer, age, true).await,
        Rival::IsNewer(connection) => {
            shared.withdraw(claim.peer, connection);
            nodes.release(claim.peer, connection);
            nodes.moved();
            info!(peer = %claim.peer, "peer has registered at another coordinator");
            shared.replaced(connection);
        }
    }
}

/// What the callee is told, and where.
type ToCallee = Option<(Arc<Notices>, Delayed)>;

/// Introduces a dialler elsewhere to a callee here, so that both hear of it at the same moment.
///
/// By way of its node, the dialler is as far as the two round trips together.
async fn introduce(
    shared: &Shared,
    nodes: &Nodes,
    from: NodeId,
    dial: RemoteDial,
) -> Result<(NodeContent, ToCallee), Refusal> {
    let to_dialler = Duration::from_micros(dial.rtt_us.into());
    let between = nodes.round_trip(from).await;
    let meeting = match shared.introduce_from(from, dial) {
        Event::Meet(meeting) => *meeting,
        Event::Crossed(session) => return Ok((NodeContent::Crossed(session), None)),
        Event::Refused(refusal) => return Err(refusal),
        Event::Registered { .. }
        | Event::Superseded
        | Event::Elsewhere(_)
        | Event::Settled { .. }
        | Event::Pass { .. }
        | Event::Disconnected { .. } => unreachable!("no answer to a dial from elsewhere"),
    };
    let callee = request::callee_of(shared, &meeting).await?;
    debug!(callee = %meeting.callee.peer.short(), "a peer elsewhere is introduced");
    let rtt = callee.link().rtt();
    let mut introductions = meeting.introductions(to_dialler + between, rtt);
    let (callee_waits, to_callee) = &mut introductions.to_callee;
    shared.add_grease(to_callee);
    let notice = Notice::Introduction(to_callee.clone());
    let to_callee = Delayed::new(*callee_waits, &notice);
    let to_callee = to_callee.map_err(|_| RefusalReason::TooLarge)?;
    let (dialler_waits, introduction) = introductions.to_dialler;
    callee.await_client();
    let answer = NodeContent::Introduced(RemoteIntroduction {
        introduction,
        wait_us: micros(dialler_waits),
        extensions: Extensions::default(),
    });
    Ok((answer, Some((callee, to_callee))))
}

async fn relay(shared: &Shared, from: NodeId, flight: Flight) -> Result<(), RefusalReason> {
    let to = shared.relay_from(from, flight.session, flight.bytes.len())?;
    request::pass_on_here(shared, to, flight).await
}

async fn pass_silence(shared: &Shared, from: NodeId, silent: Silent) {
    let waiting: Option<ConnectionId> = shared.silent_from(from, silent.session);
    if let Some(notices) = waiting.and_then(|id| shared.notices(id)) {
        silence::tell_here(&notices, &Notice::Silent(silent.well_formed())).await;
    }
}

/// Returns where the STUN servers here see those who show these commitments, if they see any.
async fn seen(shared: &Shared, commitments: Commitments) -> Option<Sightings> {
    let witness = shared.witness()?;
    let seen = witness
        .look_up(&commitments.0, CLAIM_PATIENCE, CLAIM_LAG)
        .await;
    seen.iter().any(Option::is_some).then_some(Sightings(seen))
}
