//! p2pconnect as the contender of a matrix: a server, a listener and a dialler, all of them as they
//! are shipped.

use std::{sync::mpsc, thread, time::Duration};

use netns_lab::{
    Dependence, EventLog, Lab, NatSpec, SimultaneousOpen,
    contender::{Contender, ContenderError, Established, Path, Punch, PunchOutcome},
    oracle::{self, Outcome, Outside},
    virtual_time::World,
};
use p2pconnect::{Builder, DialPolicy, Endpoint, Host, PeerId, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{VirtualGround, block_on, serving::rendezvous, settled};

/// How long the peer may take to answer on a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The dials of one lab between boxes that these leave as they were.
const DIALS_IN_A_LAB: u32 = 10;

/// The library, between a listener and a dialler that have found out how their NATs behave before
/// the dial.
///
/// Counted is from the call of `dial` until application bytes can be sent. A dial is a success if
/// the peer answers on the connection that it gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct P2pconnect;

impl Contender for P2pconnect {
    fn name(&self) -> &str {
        "p2pconnect"
    }

    /// A dial takes a round trip to the server and one between the peers, and half of one more
    /// where the dialler can only accept, because the listener's port is not known, or its NAT
    /// refuses a SYN in answer to its own.
    fn bound(&self, path: &Path, [dialler, listener]: [&[NatSpec]; 2]) -> Duration {
        let (dialler, listener) = (Outside::of(dialler), Outside::of(listener));
        let lets_in = dialler.endpoint == oracle::Endpoint::Reflected
            && dialler.filtering != Dependence::AddressAndPortDependent;
        let accepts = lets_in && !listener.endpoint.is_predictable()
            || listener.simultaneous_open != SimultaneousOpen::Allowed;
        let late = if accepts {
            path.between_peers() / 2
        } else {
            Duration::ZERO
        };
        path.to_server() + path.between_peers() + late
    }

    /// Between mappings that are the same for all, the peers take turns with their ports; and what
    /// is given up at once leaves nothing behind. In any other lab a second dial may be slower for
    /// the first.
    fn dials_in_a_lab(&self, chains: [&[NatSpec]; 2]) -> u32 {
        let is_fixed = |chain: &[NatSpec]| {
            use oracle::Endpoint::{Kept, Reflected};
            matches!(Outside::of(chain).endpoint, Reflected | Kept)
        };
        let outcome = oracle::punchable(chains[0], chains[1]).outcome;
        let is_hopeless = matches!(outcome, Outcome::Impossible { .. });
        if is_hopeless || chains.into_iter().all(is_fixed) {
            DIALS_IN_A_LAB
        } else {
            1
        }
    }

    fn dial_in_world(
        &self,
        world: World,
        hosts: &Punch,
        seed: u64,
    ) -> Result<(PunchOutcome, EventLog), ContenderError> {
        let result = VirtualGround::run_in(world, &hosts.server, seed, async |ground| {
            let (online, listening) = oneshot::channel();
            let (_over, ended) = oneshot::channel();
            tokio::spawn(listen(ground.endpoint(&hosts.listener), online, ended));
            let peer = ground.key(&hosts.listener).peer_id();
            let dialler = ground.endpoint(&hosts.dialler);
            let outcomes = dial_all(dialler, peer, listening, 1).await;
            let log = ground.programs.with(|world| world.log().clone());
            (outcomes, log)
        });
        let (outcomes, log) = result;
        let outcome = outcomes.into_iter().next();
        Ok((outcome.ok_or("nothing was dialled")?, log))
    }

    /// Each program is on a thread of its own.
    fn dial_in_lab(
        &self,
        lab: &Lab,
        hosts: &Punch,
        dials: u32,
    ) -> Result<Vec<PunchOutcome>, ContenderError> {
        p2pconnect::raise_file_limit()?;
        let hosts = [&hosts.dialler, &hosts.listener, &hosts.server].map(|name| lab.host(name));
        let [dialler, listener, server] = hosts;
        let (at, serving) = mpsc::channel();
        thread::scope(|scope| {
            let (_stop, stopped) = oneshot::channel::<()>();
            scope.spawn(move || {
                server.run(|| {
                    block_on(async {
                        let key = SecretKey::generate().map_err(anyhow::Error::from);
                        match key.and_then(|key| rendezvous(Host::default(), key)) {
                            Ok((rendezvous, address)) => {
                                drop(at.send(Ok(address)));
                                rendezvous.run(async { drop(stopped.await) }).await;
                            }
                            Err(error) => drop(at.send(Err(error))),
                        }
                    })
                })
            });
            let coordinator = serving.recv()??;
            let builder = || -> Result<(Builder, PeerId), ContenderError> {
                let key = SecretKey::generate()?;
                let peer = key.peer_id();
                let builder = Endpoint::builder().coordinator(coordinator.clone());
                Ok((builder.secret_key(key), peer))
            };
            let ((here, _), (there, peer)) = (builder()?, builder()?);
            let (online, listening) = oneshot::channel();
            let (_over, ended) = oneshot::channel();
            scope.spawn(move || listener.run(|| block_on(listen(there, online, ended))));
            Ok(dialler.run(|| block_on(dial_all(here, peer, listening, dials)))?)
        })
    }
}

/// Answers whoever dials until the dialler is done. The sender of `online` is dropped when diallers
/// are told how the NAT behaves, or when nobody can dial.
async fn listen(builder: Builder, online: oneshot::Sender<()>, over: oneshot::Receiver<()>) {
    // Whoever dials finds out that nobody is there.
    let Ok((endpoint, _)) = settled(builder.allow(DialPolicy::Anyone)).await else {
        return;
    };
    drop(online);
    let answering = async {
        while let Some(mut connection) = endpoint.accept().await {
            let mut byte = [0];
            // A connection that was given up is the dialler's matter.
            if connection.read_exact(&mut byte).await.is_ok() {
                drop(connection.write_all(&byte).await);
                drop(connection.read(&mut byte).await);
            }
        }
    };
    tokio::select! {
        () = answering => {}
        // The sender is never used.
        _ = over => {}
    }
}

async fn dial_all(
    builder: Builder,
    peer: PeerId,
    online: oneshot::Receiver<()>,
    dials: u32,
) -> Vec<PunchOutcome> {
    let began = Instant::now();
    let endpoint = match settled(builder).await {
        Ok((endpoint, _)) => endpoint,
        Err(error) => return vec![outcome(Err(error.to_string()), began.elapsed())],
    };
    // Both have begun at the same time and take as long; what is left is short.
    drop(online.await);
    let mut outcomes = Vec::new();
    for _ in 0..dials {
        outcomes.push(dial(&endpoint, peer).await);
    }
    outcomes
}

async fn dial(endpoint: &Endpoint, peer: PeerId) -> PunchOutcome {
    let began = Instant::now();
    let dialled = endpoint.dial(peer).await;
    let after = began.elapsed();
    let mut connection = match dialled {
        Ok(connection) => connection,
        Err(error) => return outcome(Err(error.to_string()), after),
    };
    let answer = async {
        connection.write_all(b"?").await?;
        connection.read_u8().await
    };
    let answered = match timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(_)) => Ok(connection.path().how.to_string()),
        Ok(Err(error)) => Err(format!("the connection broke: {error}")),
        Err(_) => Err("the peer did not answer".to_owned()),
    };
    outcome(answered, after)
}

/// Returns what came of a dial: in what way it connected, or why not, and after how long.
fn outcome(how: Result<String, String>, after: Duration) -> PunchOutcome {
    PunchOutcome {
        failed_after: how.is_err().then_some(after),
        failure: how.as_ref().err().cloned(),
        established: how.ok().map(|how| Established { how, after }),
    }
}
