//! The callee's side of a dial: an introduction comes, and is turned into a connection or turned
//! away.

use std::{future, sync::Arc};

use p2pconnect_host::{clock, shortage};
use p2pconnect_proto::{
    PeerId, Role,
    message::{DialPolicy, Introduction},
};
use p2pconnect_punch::is_contended;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    attempt::DIAL_LIMIT,
    glare::{Answered, PendingAnswer},
    listening::{Listening, Room},
    shared::Inner,
    staleness::becomes_stale,
};
use crate::{
    DialError, Status,
    coordinator::requests::Coordination,
    nat::{discovery, mappings::Claims, port_sets::PortSetLease},
    session::SynGate,
    stream::{coordinated_handshake::CoordinatedHandshake, punched::Punched},
};

/// Introductions that are being punched at a time; the coordinator keeps to 32 for each callee, and
/// an earlier one's last moments may overlap.
const MAX_SESSIONS: usize = 64;

/// Diallers that are told at a time that there is no room for them; the coordinator introduces as
/// many at a time.
const MAX_TURNED_AWAY: usize = 32;

/// Why a dial that may have brought a stream already gets no other one.
const TAKEN_BEFORE: &str =
    "an earlier connection of this dial may have been taken, with what was sent on it; it is lost";

/// The introductions that are being answered, and the diallers that are being turned away.
pub(crate) struct Answers {
    inner: Arc<Inner>,
    listening: Option<Listening>,
    sessions: JoinSet<()>,
    turned_away: JoinSet<()>,
}

impl Answers {
    /// Answers those that `listening` admits, if any.
    pub(crate) fn new(inner: Arc<Inner>, listening: Option<Listening>) -> Self {
        Self {
            inner,
            listening,
            sessions: JoinSet::new(),
            turned_away: JoinSet::new(),
        }
    }

    /// Takes an introduction up, if it makes sense and there is room for a connection.
    pub(crate) fn take_up(&mut self, introduction: Introduction, coordination: &Arc<Coordination>) {
        let Some(listening) = self.listening.clone() else {
            tracing::debug!("introduction ignored: this endpoint does not listen");
            return;
        };
        while self.sessions.try_join_next().is_some() {}
        // Whatever becomes of it, a dial of ours may be waiting for it.
        let Some(answering) = self.inner.glare_table.begin_answer(introduction.session) else {
            tracing::debug!(peer = %introduction.peer.short(), "introduction comes too late");
            return;
        };
        let (peer, own) = (&introduction.peer, &self.inner.key.peer_id());
        if !makes_sense(introduction.role, peer, own, &listening.policy) {
            tracing::debug!(peer = %introduction.peer.short(), "introduction ignored");
            return;
        }
        if let Some(extension) = introduction.unknown_required() {
            tracing::debug!(extension, "introduction not understood");
            return self.turn_away(&introduction, coordination);
        }
        // The dialler may use a connection before this side knows of it, so room is taken for it
        // first.
        let room = listening.room(introduction.peer);
        let (Some(room), true) = (room, self.sessions.len() < MAX_SESSIONS) else {
            tracing::debug!(peer = %introduction.peer.short(), "no room for another connection");
            return self.turn_away(&introduction, coordination);
        };
        let (inner, coordination) = (Arc::clone(&self.inner), Arc::clone(coordination));
        self.sessions.spawn(async move {
            inner
                .answer(introduction, &coordination, &listening, answering, room)
                .await;
        });
    }

    /// Lets a dialler know that nothing comes of its introduction, before it uses anything.
    fn turn_away(&mut self, introduction: &Introduction, coordination: &Arc<Coordination>) {
        let (session, dialler) = (introduction.session, introduction.peer);
        while self.turned_away.try_join_next().is_some() {}
        if self.turned_away.len() >= MAX_TURNED_AWAY {
            return;
        }
        let coordination = Arc::clone(coordination);
        coordination.leave(session);
        self.turned_away.spawn(async move {
            if let Err(error) = coordination.settle(dialler).await {
                tracing::debug!(%error, "the coordinator was not told that a dial is over");
            }
        });
    }
}

impl Inner {
    /// Connects to a peer that dials this endpoint, and that there is room for among those that
    /// wait to be accepted.
    pub(crate) async fn answer(
        &self,
        introduction: Introduction,
        coordination: &Arc<Coordination>,
        listening: &Listening,
        mut answering: PendingAnswer,
        room: Room,
    ) {
        let (began, peer) = (clock::now(), introduction.peer);
        let lease = self.port_sets.answer(peer);
        let _reserved = self.behaviour.reserve();
        let syn_gate = SynGate::new(Arc::clone(&self.behaviour.recent_tuples));
        let once = self.answer_once(introduction, &lease, coordination, listening, &syn_gate);
        let result = tokio::select! {
            result = once => Some(result),
            () = answering.abandoned() => None,
        };
        let hand_over = async {
            match result {
                Some(Ok(punched)) => {
                    let may_be_second = !listening
                        .called_sessions
                        .give_up(peer, &punched.predecessors);
                    let answered = Answered {
                        punched,
                        peer,
                        lease,
                        began,
                        room,
                    };
                    if may_be_second {
                        drop(answering);
                        answered.refuse(TAKEN_BEFORE).await;
                    } else {
                        answering.ended(Ok(answered));
                    }
                }
                Some(Err(error)) => {
                    let error = error.or_shortage(shortage::since(began));
                    // A dial that begins anew has not failed.
                    if !matches!(error, DialError::PeerLeft) {
                        self.observer.tell(Status::PunchFailed {
                            peer,
                            reason: error.to_string(),
                            report: error.report().cloned().map(Box::new),
                        });
                    }
                    answering.ended(Err(error));
                }
                None => {}
            }
        };
        // This leaves first, so that a dial back is not taken for one that crosses what is over.
        let (settled, ()) = tokio::join!(coordination.settle(peer), hand_over);
        if let Err(error) = settled {
            tracing::debug!(%error, "the coordinator was not told that a dial is over");
        }
        discovery::keep_position_current(&self.mappings, &self.behaviour).await;
    }

    async fn answer_once(
        &self,
        mut introduction: Introduction,
        lease: &PortSetLease,
        coordination: &Arc<Coordination>,
        listening: &Listening,
        syn_gate: &SynGate,
    ) -> Result<Punched, DialError> {
        let began = clock::now();
        let hello = std::mem::take(&mut introduction.handshake);
        let dialler = introduction.peer;
        let handshake = CoordinatedHandshake::called(&self.key, dialler, hello)?;
        let (advertised, line) = (self.use_up(&introduction), Arc::clone(coordination));
        let attempt = self.attempt(
            introduction,
            advertised,
            &Claims::default(),
            line,
            handshake,
        );
        let check = attempt.staleness_check(syn_gate);
        let session = check.session;
        let opening = session.opening(Role::Controlling);
        let decision = listening.called_sessions.begin(dialler, opening);
        let deadline = began + DIAL_LIMIT;
        let one = is_contended(check.nats()).then(|| self.one_each.take(dialler, began));
        let is_in_the_way =
            matches!(one, Some(None)) || self.guess_budget.lacks(&check.advertised.nat);
        if is_in_the_way {
            syn_gate.hold();
        }
        let punching = self.punch(attempt, lease, syn_gate.clone(), decision, deadline);
        let telling = async {
            if is_in_the_way {
                // The dialler has had the first flight by then, and takes it for an attempt.
                sleep(check.rtt_via_coordinator).await;
                coordination.leave(session);
                return future::pending().await;
            }
            let patience = check.patience();
            becomes_stale(check, &self.mappings, &self.mappings, &self.behaviour).await;
            let since = clock::now();
            // What is under way goes on: the dialler may be using it already.
            syn_gate.hold();
            discovery::keep_position_current(&self.mappings, &self.behaviour).await;
            if let Err(error) = self.register(coordination, &listening.policy).await {
                tracing::debug!(%error, "a change could not be registered yet");
            }
            sleep_until((since + patience).into()).await;
            // The dialler asks again, unless it has a connection.
            coordination.leave(session);
            future::pending().await
        };
        tokio::select! {
            result = punching => result.map(|(punched, _)| punched),
            never = telling => never,
        }
    }
}

/// Tells whether a callee may have this introduction. The coordinator has checked it already, but
/// need not be trusted with it.
fn makes_sense(role: Role, peer: &PeerId, own: &PeerId, policy: &DialPolicy) -> bool {
    role == Role::Controlled && peer != own && policy.admits(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callee_is_introduced_as_callee_and_to_others_whom_it_admits() {
        let [own, dialler, other] = [1, 2, 3].map(|byte| PeerId::from_public_key([byte; 32]));
        let only = DialPolicy::Only(vec![dialler]);
        for (role, peer, policy, expected) in [
            (Role::Controlled, dialler, &DialPolicy::Anyone, true),
            (Role::Controlled, dialler, &only, true),
            (Role::Controlled, other, &only, false),
            (Role::Controlling, dialler, &DialPolicy::Anyone, false),
            (Role::Controlled, own, &DialPolicy::Anyone, false),
        ] {
            let is_taken = makes_sense(role, &peer, &own, policy);
            assert_eq!(is_taken, expected, "{role:?}, {}", peer.short());
        }
    }
}
