//! The client's side of the coordination protocol: one connection to one coordinator.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use p2pconnect_host::Host;
use p2pconnect_identity::is_signed;
use p2pconnect_link::web;
use p2pconnect_proto::{
    GreaseSource, PeerId, Puzzle, SessionToken,
    board::{MemberProof, TopicKey},
    codec,
    message::{
        Announce, BOARD, Cookie, DialRequest, Extension, Extensions, Flight, Found, Introduction,
        LookUp, Move, Notice, Refusal, Registered, Registration, Request, Response, Watch, Welcome,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    dialer::{self, Dialer, Reached},
    link::{CatchUp, Link, OwnClose, REQUEST_LIMIT, read_message, tell},
    puzzles::Puzzles,
    servers,
};
use crate::{
    CoordinatorError,
    coordinator::{
        flights::{Flights, Incoming},
        topics::{Feeds, Topics},
        withdrawal::{self, Withdrawals},
    },
    machine::{
        interfaces::Interfaces, nat64::Nat64, surroundings::Surroundings, task::AbortOnDrop,
    },
};

/// How long closing may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(10);

/// Introductions that wait to be taken up; the coordinator allows 32 in flight.
const NOTICE_QUEUE: usize = 64;

/// An open connection to the coordinator.
#[derive(Debug)]
pub(crate) struct Coordination {
    /// Where the coordinator is, [`SOMEWHERE`](dialer::SOMEWHERE) if that is unknown.
    host: SocketAddr,
    is_hidden: bool,
    web: Option<(SocketAddr, web::Client)>,
    /// The id that it has proved.
    server_id: PeerId,
    link: Link,
    welcome: watch::Receiver<Option<Welcome>>,
    moving: watch::Receiver<Option<Move>>,
    flights: Arc<Flights>,
    topics: Arc<Topics>,
    withdrawals: Withdrawals,
    local_host: Host,
    nat64: Arc<Nat64>,
    grease: Arc<GreaseSource>,
    id: PeerId,
    puzzles: Arc<Puzzles>,
    _prover: Option<AbortOnDrop>,
    _reader: AbortOnDrop,
    _leaver: AbortOnDrop,
    _greaser: Option<AbortOnDrop>,
}

/// What a dial is answered.
#[derive(Debug)]
pub(crate) enum DialAnswer {
    /// The peer is told at the same moment.
    Introduced(Introduction),
    /// The peer has dialled just before, and its introduction serves both.
    Crossed(SessionToken),
}

impl Coordination {
    /// Connects to the first of the addresses that answers.
    ///
    /// Cancel safe.
    pub(crate) async fn connect(
        dialer: &Dialer,
        addresses: &[SocketAddr],
    ) -> Result<(Self, mpsc::Receiver<Introduction>), CoordinatorError> {
        let reached = dialer.connect(addresses).await?;
        // Before everything else, since nothing else is heard.
        let prover = match dialer.proof {
            Some(proof) => tell(&reached.link, &Request::Prove(proof)).await,
            None => None,
        };
        let (mut started, introductions) = Self::start(dialer.clone(), reached);
        started._prover = prover.map(AbortOnDrop::spawn);
        Ok((started, introductions))
    }

    fn start(dialer: Dialer, reached: Reached) -> (Self, mpsc::Receiver<Introduction>) {
        let (notices, receiver) = mpsc::channel(NOTICE_QUEUE);
        let (welcome_sender, welcome) = watch::channel(None);
        let (moving_sender, moving) = watch::channel(None);
        let flights = Arc::new(Flights::default());
        let topics = Arc::new(Topics::default());
        let greaser = dialer.grease.draw().map(|grease| {
            let link = reached.link.clone();
            let request = Request::Unknown(grease.message());
            AbortOnDrop::spawn(async move {
                if let Some(answer) = tell(&link, &request).await {
                    answer.await;
                }
            })
        });
        let (link, mut catching_up) = Link::new(reached.link);
        let reader = link.clone();
        let sinks = Sinks {
            welcome: welcome_sender,
            moving: moving_sender,
            introductions: notices,
            flights: Arc::clone(&flights),
            topics: Arc::clone(&topics),
        };
        let reader = AbortOnDrop::spawn(async move {
            if let Err(error) = read_notices(&reader, &sinks, &mut catching_up).await {
                tracing::warn!(%error, "coordinator sent a notice that is no message");
                reader.close_for(OwnClose::Malformed(error));
            }
        });
        let (withdrawals, given_up) = withdrawal::withdrawals();
        let leaver = AbortOnDrop::spawn(withdrawal::tell(link.clone(), given_up));
        (
            Self {
                host: reached.host,
                is_hidden: reached.is_hidden,
                web: reached.web,
                server_id: dialer.coordinator().id,
                link,
                welcome,
                moving,
                flights,
                topics,
                withdrawals,
                local_host: dialer.local_host,
                nat64: dialer.nat64,
                grease: dialer.grease,
                id: dialer.id,
                puzzles: dialer.puzzles,
                _prover: None,
                _reader: reader,
                _leaver: leaver,
                _greaser: greaser,
            },
            receiver,
        )
    }

    /// Returns what the coordinator says about itself, once it has.
    ///
    /// Cancel safe.
    pub(crate) async fn welcome(&self) -> Result<Welcome, CoordinatorError> {
        let mut found = self.welcomed().await?;
        let surroundings =
            Surroundings::new(&Interfaces::of(&self.local_host), self.nat64.prefix());
        for named in [&mut found.stun_servers, &mut found.stun_alternates] {
            // Without an address it is the coordinator's own.
            let is_placed =
                |it: &&SocketAddr| self.host != dialer::SOMEWHERE || !it.ip().is_unspecified();
            let reached = named
                .iter()
                .filter(is_placed)
                .filter_map(|it| servers::reached(*it, self.host, &surroundings));
            *named = reached.collect();
        }
        Ok(found)
    }

    /// The same, with the servers as they are named.
    async fn welcomed(&self) -> Result<Welcome, CoordinatorError> {
        let mut welcome = self.welcome.clone();
        let heard_before = self.link.heard();
        let found = match timeout(REQUEST_LIMIT, welcome.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone().ok_or(CoordinatorError::Answer)?,
            Ok(Err(_)) => return Err(self.link.closed_reason()),
            Err(_) => return Err(self.link.unanswered(heard_before, REQUEST_LIMIT)),
        };
        known(found.extensions.unknown_required())?;
        Ok(found)
    }

    /// Returns where the coordinator is.
    pub(crate) const fn host(&self) -> SocketAddr {
        self.host
    }

    /// Returns where and by what the web leads to the coordinator, if nothing else does.
    pub(crate) fn web(&self) -> Option<(SocketAddr, web::Client)> {
        self.web.clone()
    }

    /// Tells whether the connection runs over TCP.
    pub(crate) const fn is_by_tcp(&self) -> bool {
        self.link.is_by_tcp()
    }

    /// Returns where the coordinator sees this endpoint, once it has said so. It may see
    /// something else where that is in between.
    pub(crate) fn observed(&self) -> Option<IpAddr> {
        if self.is_hidden {
            return None;
        }
        self.said(|welcome| Some(welcome.observed.ip()))
    }

    /// Returns the name of the registry that the coordinator shares with others, if it has said
    /// that it does.
    pub(crate) fn cluster(&self) -> Option<Vec<u8>> {
        self.said(|welcome| welcome.cluster().map(<[u8]>::to_vec))
    }

    /// Returns something that the coordinator has said of itself, if that is understood.
    fn said<T>(&self, pick: impl FnOnce(&Welcome) -> Option<T>) -> Option<T> {
        let welcome = self.welcome.borrow();
        let understood = welcome
            .as_ref()
            .filter(|it| it.extensions.unknown_required().is_none());
        understood.and_then(pick)
    }

    /// Waits until the coordinator says that another key takes the place of the one by which it is
    /// known here, if it does, and returns the id that goes with that. Cancel safe.
    pub(crate) async fn successor(&self) -> PeerId {
        let mut welcome = self.welcome.clone();
        // Nobody waits for one that does not come.
        drop(welcome.wait_for(Option::is_some).await);
        let said = self.said(Welcome::succession);
        let said = said.filter(|it| it.former == self.server_id && is_signed(it));
        match said {
            Some(said) => said.successor,
            None => std::future::pending().await,
        }
    }

    /// Waits until the coordinator says that it is going to end. Cancel safe.
    pub(crate) async fn told_to_move(&self) -> Move {
        let mut moving = self.moving.clone();
        let told = match moving.wait_for(Option::is_some).await {
            Ok(told) => told.clone(),
            Err(_) => None,
        };
        match told {
            Some(told) => told,
            // Nothing more is read of this connection.
            None => std::future::pending().await,
        }
    }

    /// Makes this peer known, or replaces what was registered before.
    pub(crate) async fn register(
        &self,
        mut registration: Registration,
    ) -> Result<Registered, CoordinatorError> {
        if let Some(grease) = self.grease.draw() {
            registration.candidates.push(grease.candidate());
            registration.extensions.0.push(grease.extension());
            tell_peers(&mut registration.peer_extensions, grease.extension());
        }
        let mut request = Request::Register(registration);
        let mut response = self.link.request(&request).await?;
        if let Some(solution) = self.solution(&response).await
            && let Request::Register(registration) = &mut request
        {
            registration.extensions.0.push(solution);
            response = self.link.request(&request).await?;
        }
        let Response::Registered(registered) = response else {
            return Err(self.link.denied(response));
        };
        known(registered.extensions.unknown_required())?;
        Ok(registered)
    }

    /// Asks for an introduction. The answer's arrival is the start moment.
    ///
    /// If this is dropped before, the introduction is given up once it is known.
    pub(crate) async fn dial(
        &self,
        mut dial: DialRequest,
    ) -> Result<Result<DialAnswer, Refusal>, CoordinatorError> {
        if let Some(grease) = self.grease.draw() {
            dial.candidates.push(grease.candidate());
            dial.extensions.0.push(grease.extension());
            tell_peers(&mut dial.peer_extensions, grease.extension());
        }
        let ask = |dial| withdrawal::ask(self.link.clone(), dial, self.withdrawals());
        let mut response = ask(dial.clone()).await?;
        if let Some(solution) = self.solution(&response).await {
            dial.extensions.0.push(solution);
            response = ask(dial).await?;
        }
        match response {
            Response::Introduced(introduction) => {
                let introduction = introduction.well_formed();
                known(introduction.unknown_required())
                    .inspect_err(|_| self.leave(introduction.session))?;
                Ok(Ok(DialAnswer::Introduced(introduction)))
            }
            Response::Crossed(session) => Ok(Ok(DialAnswer::Crossed(session))),
            Response::Refused(refusal) => Ok(Err(refusal.well_formed())),
            response @ (Response::Registered(_)
            | Response::Settled
            | Response::Relayed
            | Response::Noted
            | Response::Found(_)
            | Response::Unknown(_)) => Err(self.link.denied(response)),
        }
    }

    /// Solves the puzzle in an answer, if there is one.
    async fn solution(&self, response: &Response) -> Option<Extension> {
        let Response::Refused(refusal) = response else {
            return None;
        };
        let puzzle = Puzzle::of(&refusal.extensions)?;
        tracing::debug!(
            bits = puzzle.bits,
            "the coordinator is crowded and asks for work"
        );
        let solution = self.puzzles.solve(puzzle, self.id).await?;
        Some(solution.extension())
    }

    /// Says that this callee is done with what `dialler` was introduced for, so that there is room
    /// for others.
    pub(crate) async fn settle(&self, dialler: PeerId) -> Result<(), CoordinatorError> {
        let response = self.link.request(&Request::Settled(dialler)).await?;
        if response == Response::Settled {
            return Ok(());
        }
        Err(self.link.denied(response))
    }

    /// Passes bytes of a handshake on to the other side of an introduction.
    pub(crate) async fn relay(&self, flight: Flight) -> Result<(), CoordinatorError> {
        self.link.relay(flight).await
    }

    /// Puts this peer on the board.
    pub(crate) async fn announce(
        &self,
        topic: TopicKey,
        proof: MemberProof,
    ) -> Result<(), CoordinatorError> {
        self.ask_board(Request::Announce(Announce {
            topic,
            proof,
            extensions: self.grease.extensions(),
        }))
        .await
    }

    /// Takes this peer off the board again.
    pub(crate) async fn withdraw(&self, topic: TopicKey) -> Result<(), CoordinatorError> {
        self.ask_board(Request::Withdraw(topic)).await
    }

    /// Has changes of a topic brought there.
    pub(crate) async fn watch(
        &self,
        topic: TopicKey,
        feeds: &Feeds,
    ) -> Result<(), CoordinatorError> {
        self.topics.watch(topic, feeds);
        let watch = Watch {
            topic,
            extensions: self.grease.extensions(),
        };
        self.ask_board(Request::Watch(watch)).await
    }

    /// Has no more changes of a topic brought.
    pub(crate) async fn unwatch(&self, topic: TopicKey) -> Result<(), CoordinatorError> {
        self.topics.unwatch(topic);
        self.ask_board(Request::Unwatch(topic)).await
    }

    /// Asks for a page of those who are on the board.
    pub(crate) async fn look_up(
        &self,
        topic: TopicKey,
        most: u16,
        cookie: Option<Cookie>,
    ) -> Result<Found, CoordinatorError> {
        let look_up = Request::LookUp(LookUp {
            topic,
            most,
            cookie,
            extensions: self.grease.extensions(),
        });
        self.has_board().await?;
        let response = self.link.request(&look_up).await?;
        let Response::Found(found) = response else {
            return Err(self.link.denied(response));
        };
        known(found.extensions.unknown_required())?;
        Ok(found.well_formed())
    }

    async fn ask_board(&self, request: Request) -> Result<(), CoordinatorError> {
        self.has_board().await?;
        let response = self.link.request(&request).await?;
        if response == Response::Noted {
            return Ok(());
        }
        Err(self.link.denied(response))
    }

    /// Checks that the coordinator keeps a board, which its welcome says.
    async fn has_board(&self) -> Result<(), CoordinatorError> {
        let welcome = self.welcomed().await?;
        let has_board = welcome.features.contains(&BOARD);
        has_board.then_some(()).ok_or(CoordinatorError::NoBoard)
    }

    /// Lets the other side of an introduction know that this one has given it up, beside everything
    /// else.
    pub(crate) fn leave(&self, session: SessionToken) {
        withdrawal::say(&self.withdrawals, session);
    }

    /// Returns where to say so later.
    pub(crate) fn withdrawals(&self) -> Withdrawals {
        self.withdrawals.clone()
    }

    /// Lets a session receive the bytes of its handshake.
    pub(crate) fn expect_flights(&self, session: SessionToken) -> Incoming {
        self.flights.expect(session)
    }

    /// Keeps the NAT's mapping for the connection, and finds out whether the coordinator still
    /// answers, see [`Link::check`].
    pub(crate) async fn check(&self) {
        self.link.check().await;
    }

    /// Waits until the connection is lost, and says why.
    pub(crate) async fn lost(&self) -> CoordinatorError {
        self.link.lost().await
    }

    /// Says goodbye, so that the coordinator forgets this peer at once.
    pub(crate) async fn close(&self) {
        withdrawal::finish(&self.withdrawals).await;
        self.link.goodbye();
        // The packet leaves at once; waiting longer would only serve its repetition.
        if timeout(GOODBYE_LIMIT, self.link.let_go()).await.is_err() {
            tracing::trace!("coordinator connection closed without waiting for its end");
        }
    }
}

/// Adds something to what this side tells its peers of itself.
fn tell_peers(told: &mut Vec<u8>, extension: Extension) {
    let mut extensions = Extensions::of_peer(told);
    extensions.0.push(extension);
    *told = extensions.to_peer();
}

/// Checks that there is nothing in a message that this version must not pass over and does not
/// know.
fn known(unknown_required: Option<u16>) -> Result<(), CoordinatorError> {
    unknown_required.map_or(Ok(()), |kind| Err(CoordinatorError::UnknownExtension(kind)))
}

/// Where the coordinator's notices go.
struct Sinks {
    welcome: watch::Sender<Option<Welcome>>,
    moving: watch::Sender<Option<Move>>,
    introductions: mpsc::Sender<Introduction>,
    flights: Arc<Flights>,
    topics: Arc<Topics>,
}

/// Takes in the coordinator's notices until the connection ends. Whoever wants to know when all
/// that have come are taken in hears of it.
async fn read_notices(
    link: &Link,
    sinks: &Sinks,
    catching_up: &mut mpsc::Receiver<CatchUp>,
) -> Result<(), codec::DecodeError> {
    while let Ok(mut stream) = behind(link.accept_uni(), catching_up).await {
        match behind(read_message(&mut stream), catching_up).await? {
            Some(Notice::Welcome(message)) => {
                sinks.welcome.send_replace(Some(message.well_formed()));
            }
            Some(Notice::Introduction(introduction)) => {
                let sent = sinks.introductions.try_send(introduction.well_formed());
                sent.unwrap_or_else(|_| tracing::debug!("introduction dropped: too many wait"));
            }
            Some(Notice::Flight(flight)) => sinks.flights.deliver(flight),
            Some(Notice::Silent(silent)) => sinks.flights.tell_of_silence(&silent),
            Some(Notice::Topic(changes)) => sinks.topics.deliver(changes),
            Some(Notice::Move(told)) if told.extensions.unknown_required().is_none() => {
                sinks.moving.send_replace(Some(told));
            }
            Some(Notice::Move(_)) => tracing::debug!("notice to move not understood"),
            Some(Notice::Unknown(unknown)) => {
                tracing::debug!(kind = unknown.kind, "notice of an unknown kind ignored");
            }
            None => {}
        }
    }
    Ok(())
}

/// Waits for what comes next, and tells whoever asks meanwhile that it has not come yet.
async fn behind<T>(next: impl Future<Output = T>, catching_up: &mut mpsc::Receiver<CatchUp>) -> T {
    let mut next = std::pin::pin!(next);
    loop {
        tokio::select! {
            biased;
            next = &mut next => return next,
            Some(asking) = catching_up.recv() => drop(asking),
        }
    }
}
