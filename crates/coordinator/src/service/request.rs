//! Reads a client's requests, has the registry carry them out, and answers.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_link::{Link, RecvStream, SendStream};
use p2pconnect_proto::{
    Candidate, PeerId, ReflexiveToken, SessionToken, close,
    codec::{self, EncodeError, Wire},
    message::{
        self, DialRequest, Flight, MAX_CLAIMS, Notice, ReflexiveClaim, Refusal, RefusalReason,
        Registered, Registration, Request, Response, Unsupported,
    },
    nodes::RemoteSettled,
    portable,
};
use p2pconnect_stun::Witness;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info};

use super::{
    asking::{self, Answer},
    board,
    counts::{Asked, Introduction},
    frame::{self, FrameError},
    nodes::Nodes,
    notices::{NOTICE_ROOM, Notices},
    shared::Shared,
    ticket::ConnectedClient,
};
use crate::registry::{Command, ConnectionId, Event, Introductions, Meeting, Place};

/// How long a dial waits for the Binding requests that it claims the addresses of: they leave at
/// the same moment as it does, so only a lost packet makes them later than this.
pub(super) const CLAIM_PATIENCE: Duration = Duration::from_millis(100);

/// How long it waits for the others once one of them has come. They left at the same moment too, so
/// those of the other punch port are a few milliseconds behind; what leads nowhere, as IPv6 may,
/// is not to hold up every dial.
pub(super) const CLAIM_LAG: Duration = Duration::from_millis(10);

/// The shortest wait worth a timer, which rounds up to a whole millisecond.
const SHORTEST_DELAY: Duration = Duration::from_micros(500);

/// Serves one request stream. An error means that the client broke the protocol.
pub(super) async fn serve(
    connected: Arc<ConnectedClient>,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), FrameError> {
    let request = match timeout(frame::MESSAGE, read_request(&connected, &mut recv)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) if error.is_violation() => return Err(error),
        Ok(Err(FrameError::NoRoom)) => {
            recv.stop(close::OVERLOADED);
            send.reset(close::OVERLOADED);
            return Ok(());
        }
        Ok(Err(_)) => return Ok(()),
        Err(_) => {
            recv.stop(close::TIMED_OUT);
            send.reset(close::TIMED_OUT);
            return Ok(());
        }
    };
    match request {
        Request::Register(registration) => register(&connected, registration, &mut send).await,
        Request::Dial(dial) => self::dial(&connected, dial, &mut send).await,
        Request::Settled(dialler) => settled(&connected, dialler, &mut send).await,
        Request::Relay(flight) => relay(&connected, flight, &mut send).await,
        Request::Announce(it) => {
            on_board(
                &connected,
                board::announce(&connected, &it).await,
                &mut send,
            )
            .await;
        }
        Request::Withdraw(it) => {
            on_board(&connected, board::withdraw(&connected, it), &mut send).await;
        }
        Request::LookUp(it) => {
            on_board(&connected, board::look_up(&connected, &it).await, &mut send).await;
        }
        Request::Watch(it) => {
            on_board(&connected, board::watch(&connected, &it).await, &mut send).await;
        }
        Request::Unwatch(it) => {
            on_board(&connected, board::unwatch(&connected, it), &mut send).await;
        }
        // Whoever needs one has shown it before, and others may.
        Request::Prove(_) => drop(send.finish()),
        Request::Unknown(unknown) => {
            let reason = RefusalReason::Unsupported(Unsupported::Request(unknown.kind));
            respond(
                &mut send,
                &refused(&connected, Asked::Unknown, reason.into()),
            )
            .await;
        }
    }
    // Only now, so that a client whose end of stream is late does not wait for its answer.
    match timeout(frame::MESSAGE, frame::read_end(&mut recv)).await {
        Ok(Err(error)) if error.is_violation() => Err(error),
        Ok(_) => Ok(()),
        Err(_) => {
            recv.stop(close::TIMED_OUT);
            Ok(())
        }
    }
}

async fn read_request(
    connected: &ConnectedClient,
    recv: &mut RecvStream,
) -> Result<Option<Request>, FrameError> {
    let mut room = connected.room();
    match frame::read_body(recv, &mut room).await? {
        Some(body) => Ok(Some(codec::decode(&body)?)),
        None => Ok(None),
    }
}

/// Answers what was asked of the bulletin board.
async fn on_board(
    connected: &ConnectedClient,
    done: Result<Response, Refusal>,
    send: &mut SendStream,
) {
    let response = done.unwrap_or_else(|refusal| refused(connected, Asked::Board, refusal));
    respond(send, &response).await;
}

async fn register(connected: &ConnectedClient, registration: Registration, send: &mut SendStream) {
    if let Err(refusal) = connected.welcome_request(&registration.extensions) {
        return respond(send, &refused(connected, Asked::Register, refusal)).await;
    }
    connected
        .shared()
        .compare(&connected.client, &registration.candidates);
    let event = connected
        .shared()
        .command(&connected.client, Command::Register(registration));
    let response = match event {
        Event::Registered { unproven, replaced } => {
            if let Some(nodes) = &connected.shared().nodes {
                // Who is told that it can be dialled can be, by whichever coordinator.
                let client = &connected.client;
                nodes.hold(client.peer, client.connection).await;
            }
            connected.registered();
            connected.shared().counts.registrations.add(1);
            debug!(?unproven, "candidates left out");
            if let Some(former) = replaced {
                connected.shared().replaced(former);
            }
            Response::Registered(Registered {
                unproven,
                extensions: connected.shared().grease.extensions(),
            })
        }
        Event::Superseded => {
            // That this connection is closed is under way.
            send.reset(close::REPLACED);
            return;
        }
        Event::Refused(refusal) => {
            if connected.may_log() {
                info!(peer = %connected.client.peer, %refusal, "registration refused");
            }
            refused(connected, Asked::Register, refusal)
        }
        Event::Meet(_)
        | Event::Elsewhere(_)
        | Event::Crossed(_)
        | Event::Settled { .. }
        | Event::Pass { .. }
        | Event::Disconnected { .. } => {
            unreachable!("no answer to a registration")
        }
    };
    respond(send, &response).await;
}

async fn settled(connected: &ConnectedClient, dialler: PeerId, send: &mut SendStream) {
    let event = connected
        .shared()
        .command(&connected.client, Command::Settled(dialler));
    tell_that_it_is_settled(connected, dialler, event).await;
    let counts = &connected.shared().counts;
    counts.introduction(Introduction::Settled);
    if connected.may_log() {
        info!(%dialler, callee = %connected.client.peer, "dial is over");
    }
    respond(send, &Response::Settled).await;
}

/// Tells the coordinators of a dialler that nobody waits for it any more.
async fn tell_that_it_is_settled(connected: &ConnectedClient, dialler: PeerId, event: Event) {
    let (Event::Settled { over }, Some(nodes)) = (event, &connected.shared().nodes) else {
        return;
    };
    for (session, node) in over {
        let callee = connected.client.peer;
        let settled = RemoteSettled {
            session,
            dialler,
            callee,
        };
        nodes.settled(node, settled).await;
    }
}

/// Finds the addresses that a dialler claims; one that is not seen in time is left out.
async fn witnessed(connected: &ConnectedClient, claims: &[ReflexiveClaim]) -> Vec<Candidate> {
    let Some(witness) = connected.shared().witness() else {
        return Vec::new();
    };
    let claims = &claims[..claims.len().min(MAX_CLAIMS)];
    let commitment =
        |it: &ReflexiveClaim| ReflexiveToken::commitment(&it.salt, &connected.client.peer);
    let commitments: Vec<_> = claims.iter().map(commitment).collect();
    let seen = match &connected.shared().nodes {
        Some(nodes) => seen_anywhere(witness, nodes, &commitments).await,
        None => {
            let seen = witness.look_up(&commitments, CLAIM_PATIENCE, CLAIM_LAG);
            seen.await
        }
    };
    let found = claims.iter().zip(seen).filter_map(|(claim, mapped)| {
        let address = portable(mapped?);
        Some(Candidate::server_reflexive(address, claim.punch_port, None))
    });
    found.collect()
}

/// Finds where those who show these commitments are seen: by the STUN servers here, or by those of
/// other coordinators, which are asked if nothing comes here at once.
async fn seen_anywhere(
    witness: &Witness,
    nodes: &Nodes,
    commitments: &[[u8; 32]],
) -> Vec<Option<SocketAddr>> {
    let is_any = |seen: &[Option<SocketAddr>]| seen.iter().any(Option::is_some);
    let seen = witness.look_up(commitments, CLAIM_LAG, CLAIM_LAG).await;
    if is_any(&seen) || commitments.is_empty() {
        return seen;
    }
    let mut here = pin!(witness.look_up(commitments, CLAIM_PATIENCE, CLAIM_LAG));
    let mut elsewhere = pin!(nodes.seen(commitments, CLAIM_PATIENCE));
    tokio::select! {
        seen = &mut here => match is_any(&seen) {
            true => seen,
            false => elsewhere.await,
        },
        seen = &mut elsewhere => match is_any(&seen) {
            true => seen,
            false => here.await,
        },
    }
}

/// Returns the refusal where the other side is not told. One that has no room may have some when it
/// has read what it has.
fn not_told(reason: RefusalReason) -> Refusal {
    match reason {
        RefusalReason::TooMany => Refusal::until(reason, NOTICE_ROOM),
        _ => reason.into(),
    }
}

/// Passes bytes of a handshake on, as long as it takes to hand them to the connection.
async fn relay(connected: &ConnectedClient, flight: Flight, send: &mut SendStream) {
    let command = Command::Relay {
        session: flight.session,
        bytes: flight.bytes.len(),
    };
    let refusal = match connected.shared().command(&connected.client, command) {
        Event::Pass { to } => match pass_on(connected.shared(), to, flight).await {
            Ok(()) => return respond(send, &Response::Relayed).await,
            Err(reason) => not_told(reason),
        },
        Event::Refused(refusal) => refusal,
        Event::Registered { .. }
        | Event::Superseded
        | Event::Meet(_)
        | Event::Elsewhere(_)
        | Event::Crossed(_)
        | Event::Settled { .. }
        | Event::Disconnected { .. } => {
            unreachable!("no answer to a relay")
        }
    };
    respond(send, &refused(connected, Asked::Relay, refusal)).await;
}

async fn pass_on(shared: &Shared, to: Place, flight: Flight) -> Result<(), RefusalReason> {
    match (to, &shared.nodes) {
        (Place::Here(connection), _) => pass_on_here(shared, connection, flight).await,
        (Place::There(node), Some(nodes)) => {
            shared.counts.relayed.add(flight.bytes.len() as u64);
            asking::relay(nodes, node, flight).await
        }
        (Place::There(_), None) => Err(RefusalReason::Unavailable),
    }
}

/// Passes bytes of a handshake on to a client of this coordinator.
pub(super) async fn pass_on_here(
    shared: &Shared,
    to: ConnectionId,
    flight: Flight,
) -> Result<(), RefusalReason> {
    let receiver = shared.notices(to);
    let receiver = receiver.ok_or(RefusalReason::Unavailable)?;
    let mut notice = receiver.stream().await?;
    let bytes = flight.bytes.len() as u64;
    let frame = codec::encode(&Notice::Flight(flight)).map_err(|_| RefusalReason::TooLarge)?;
    shared.counts.relayed.add(bytes);
    send_frame(&mut notice, &frame).await;
    Ok(())
}

async fn dial(connected: &ConnectedClient, request: DialRequest, send: &mut SendStream) {
    if connected.shared().is_ending() {
        // It is made again as soon as the client is back.
        return drop(connected.link().closed().await);
    }
    let asked_at = clock::now();
    if let Err(refusal) = connected.welcome_request(&request.extensions) {
        return respond(send, &refused(connected, Asked::Dial, refusal)).await;
    }
    let mut token = [0; SessionToken::LEN];
    if let Err(error) = connected.shared().host.fill_random(&mut token) {
        error!(%error, "the system gives no randomness");
        return send.reset(close::INTERNAL);
    }
    connected
        .shared()
        .compare(&connected.client, &request.candidates);
    let witnessed = witnessed(connected, &request.claims).await;
    let (dialler, callee) = (connected.client.peer, request.callee);
    let command = Command::Dial {
        request,
        witnessed,
        session: SessionToken::from_bytes(token),
    };
    let looked_up_at = clock::now();
    let introducing = introduced(connected, callee, command, asked_at, send);
    let mut refusal = match introducing.await {
        Ok(()) => return,
        Err(refusal) => refusal,
    };
    if let (RefusalReason::Unavailable, Some(nodes)) = (refusal.reason, &connected.shared().nodes) {
        refusal = nodes.level(refusal, looked_up_at).await;
    }
    if connected.may_log() {
        info!(%dialler, %callee, %refusal, "dial refused");
    }
    respond(send, &refused(connected, Asked::Dial, refusal)).await;
}

/// Has the registry make an introduction, or others if the callee is with them, and tells who is
/// here of it.
async fn introduced(
    connected: &ConnectedClient,
    callee: PeerId,
    dial: Command,
    asked_at: Instant,
    send: &mut SendStream,
) -> Result<(), Refusal> {
    let (shared, dialler) = (connected.shared(), connected.client.peer);
    let session = match shared.command(&connected.client, dial) {
        Event::Meet(meeting) => {
            return introduce(connected, *meeting, asked_at, send)
                .await
                .map_err(not_told);
        }
        Event::Elsewhere(elsewhere) => {
            let Some(nodes) = &shared.nodes else {
                return Err(RefusalReason::Unavailable.into());
            };
            match asking::dial(connected, nodes, *elsewhere, asked_at).await? {
                Answer::Introduced(introduction, wait) => {
                    return Ok(tell_dialler(connected, introduction, wait, send).await?);
                }
                Answer::Crossed(session) => session,
            }
        }
        Event::Crossed(session) => session,
        Event::Refused(refusal) => return Err(refusal),
        Event::Registered { .. }
        | Event::Superseded
        | Event::Settled { .. }
        | Event::Pass { .. }
        | Event::Disconnected { .. } => {
            unreachable!("no answer to a dial")
        }
    };
    if connected.may_log() {
        info!(%dialler, %callee, "dial meets one the other way");
    }
    shared.counts.introduction(Introduction::Crossed);
    respond(send, &Response::Crossed(session)).await;
    Ok(())
}

/// Tells a dialler of a callee that another coordinator tells of it at the same moment.
async fn tell_dialler(
    connected: &ConnectedClient,
    mut introduction: message::Introduction,
    wait: Duration,
    send: &mut SendStream,
) -> Result<(), RefusalReason> {
    let (dialler, callee) = (connected.client.peer, introduction.peer);
    if connected.may_log() {
        info!(%dialler, %callee, "peers are introduced, the callee elsewhere");
    }
    connected.shared().add_grease(&mut introduction);
    let message = Delayed::new(wait, &Response::Introduced(introduction));
    let message = message.map_err(|_| RefusalReason::TooLarge)?;
    connected.notices.await_client();
    respond_after(connected.link(), message, send).await;
    Ok(())
}

/// Tells both peers of each other so that both messages arrive at the same moment.
async fn introduce(
    connected: &ConnectedClient,
    meeting: Meeting,
    asked_at: Instant,
    send: &mut SendStream,
) -> Result<(), RefusalReason> {
    let callee = callee_of(connected.shared(), &meeting).await?;
    let (dialler, called) = (connected.client.peer, meeting.callee.peer);
    if connected.may_log() {
        info!(%dialler, callee = %called, "peers are introduced");
    }
    debug!(callee = %called.short(), unproven = ?meeting.unproven, "peers meet");
    let relayed = meeting.handshake.len() as u64;
    let mut introductions = meeting.introductions(connected.link().rtt(), callee.link().rtt());
    for (_, introduction) in [&mut introductions.to_dialler, &mut introductions.to_callee] {
        connected.shared().add_grease(introduction);
    }
    let Ok((to_dialler, to_callee)) = encode(introductions) else {
        error!("an introduction exceeds a frame");
        return Err(RefusalReason::TooLarge);
    };
    let counts = &connected.shared().counts;
    let start_wait = to_dialler.delay.max(to_callee.delay);
    counts.introduced(relayed, clock::since(asked_at), start_wait);
    for side in [&connected.notices, &callee] {
        side.await_client();
    }
    tokio::join!(
        notify_after(&callee, to_callee),
        respond_after(connected.link(), to_dialler, send),
    );
    Ok(())
}

/// Returns the way to tell the callee of a meeting, when it has room.
pub(super) async fn callee_of(
    shared: &Shared,
    meeting: &Meeting,
) -> Result<Arc<Notices>, RefusalReason> {
    let callee = match meeting.callee.place {
        Place::Here(connection) => shared.notices(connection),
        Place::There(_) => None,
    };
    let callee = callee.ok_or(RefusalReason::Unavailable)?;
    // The dialler may be told first, so this cannot wait until the callee's notice leaves. It costs
    // no round trip, and tells whether the connection still stands.
    callee.room().await?;
    Ok(callee)
}

/// A frame and how long it is held back.
pub(super) struct Delayed {
    pub(super) delay: Duration,
    frame: Vec<u8>,
}

impl Delayed {
    pub(super) fn new<M: Wire>(delay: Duration, message: &M) -> Result<Self, EncodeError> {
        let frame = codec::encode(message)?;
        Ok(Self { delay, frame })
    }
}

fn encode(introductions: Introductions) -> Result<(Delayed, Delayed), EncodeError> {
    let (dialler_waits, to_dialler) = introductions.to_dialler;
    let (callee_waits, to_callee) = introductions.to_callee;
    Ok((
        Delayed::new(dialler_waits, &Response::Introduced(to_dialler))?,
        Delayed::new(callee_waits, &Notice::Introduction(to_callee))?,
    ))
}

pub(super) async fn notify_after(callee: &Notices, message: Delayed) {
    hold_back(callee.link(), message.delay).await;
    match callee.stream().await {
        Ok(mut notice) => send_frame(&mut notice, &message.frame).await,
        // The dialler's attempt ends by its own limit.
        Err(refusal) => debug!(%refusal, "introduction cannot leave any more"),
    }
}

async fn respond_after(dialler: &Link, message: Delayed, stream: &mut SendStream) {
    hold_back(dialler, message.delay).await;
    send_frame(stream, &message.frame).await;
}

async fn hold_back(link: &Link, delay: Duration) {
    if delay >= SHORTEST_DELAY {
        // The connection's end needs no watch meanwhile: what follows reports it.
        sleep(delay).await;
    }
    debug!(rtt = ?link.rtt(), ?delay, "introduction leaves");
}

async fn respond(stream: &mut SendStream, response: &Response) {
    match codec::encode(response) {
        Ok(frame) => send_frame(stream, &frame).await,
        Err(error) => {
            error!(%error, "an answer exceeds a frame");
            stream.reset(close::INTERNAL);
        }
    }
}

pub(super) async fn send_frame(stream: &mut SendStream, frame: &[u8]) {
    match timeout(frame::MESSAGE, frame::write(stream, frame)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "message not sent"),
        Err(_) => stream.reset(close::TIMED_OUT),
    }
}

fn refused(connected: &ConnectedClient, asked: Asked, mut refusal: Refusal) -> Response {
    connected.shared().counts.refused(asked, refusal.reason);
    debug!(peer = %connected.client.peer.short(), %refusal, "request refused");
    let grease = connected.shared().grease.extensions();
    refusal.extensions.0.extend(grease.0);
    Response::Refused(refusal)
}
