//! Finds out how the NAT in front of an endpoint behaves (RFC 5780 section 4), beside everything
//! else.

use std::{convert::Infallible, future, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::{MappingError, connect_back, next_keepalive, query};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    Status,
    machine::tcp,
    nat::{
        behaviour::Behaviour,
        mappings::{KEEP_ALIVE, Mappings},
        network::Network,
        unused_ports::PREDICTED_BLOCK,
    },
    status::Observer,
};

/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// How long a dial puts off the question that may get the server banned: a dial that succeeds is
/// over by then, as a rule, and one that does not needs the answer to explain itself.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a server that has fallen silent is given to answer on another connection: a repeated
/// SYN, and some more.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// How much longer than the first half the second half of a number of questions may take.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// How long a dial waits for a sequence probe: several round trips. A lost SYN would cost a second,
/// and the dial may do without.
const SEQUENCE_PROBE_LIMIT: Duration = Duration::from_millis(800);

/// How often an idle endpoint probes a sequential allocator: a multiple of what wakes it
/// anyway. Each probe takes the port that diallers have been told of, until they are told anew a
/// round trip later, so more often would do harm as well.
const SEQUENCE_PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// The longest pause before a server that has not answered is asked again which ports new
/// connections get. It is a keep-alive's at first, and doubles.
const MAX_SAMPLING_PAUSE: Duration = Duration::from_secs(960);

/// For how long a sequence probe counts as recent: until the next one is due, and a little longer.
const RECENT: Duration = Duration::from_secs(65);

/// Keeps what is known of the NAT true, for as long as the future is polled.
pub(crate) async fn run(
    mappings: Arc<Mappings>,
    behaviour: Arc<Behaviour>,
    observer: Observer,
) -> Infallible {
    let mut network = mappings.other_network(None).await;
    loop {
        let finding_out = async {
            discover(network, &mappings, &behaviour, &observer).await;
            follow(network, &behaviour).await
        };
        network = tokio::select! {
            other = mappings.other_network(Some(network)) => other,
            never = finding_out => match never {},
        };
        behaviour.start_over();
    }
}

async fn discover(
    network: Network,
    mappings: &Mappings,
    behaviour: &Behaviour,
    observer: &Observer,
) {
    let filtering = async {
        behaviour.may_be_probed(PROBE_PATIENCE).await;
        probe_filtering(network, behaviour, observer).await;
    };
    let ports = async {
        // What is not kept may be the same for all: then these are for nothing, but there is no
        // time to wait for that.
        sample(network, behaviour).await;
        mappings.compared().await;
        sample(network, behaviour).await;
        pass_the_end(network, behaviour).await;
        // Without the filtering, which is the last to be known, plans are for the strictest.
        behaviour.settle(true);
    };
    tokio::join!(filtering, ports);
    let report = behaviour.report();
    tracing::debug!(?report, "nat behaviour");
    behaviour.finish();
}

/// Asks on whenever the servers contradict each other later on or have not answered, and probes a
/// sequential allocator now and then.
async fn follow(network: Network, behaviour: &Behaviour) -> Infallible {
    let mut reports = behaviour.reports();
    let mut pause = KEEP_ALIVE;
    loop {
        tokio::select! {
            () = reports.changed() => {
                reports.mark_unchanged();
                sample(network, behaviour).await;
            }
            // The server did not answer.
            () = sleep_until(next_keepalive(&behaviour.host, pause)), if behaviour.samples_wanted() > 0 => {
                pause = (pause * 2).min(MAX_SAMPLING_PAUSE);
                sample(network, behaviour).await;
            }
            () = sleep_until(next_keepalive(&behaviour.host, SEQUENCE_PROBE_INTERVAL)), if behaviour.is_sequential() => {
                // It would take the port that a peer is being told of.
                if !behaviour.is_reserved() {
                    probe_sequence(network, behaviour).await;
                }
            }
        }
    }
}

/// Finds out from where the NAT lets connections in, but once in a network whose firewall bans for
/// it.
async fn probe_filtering(network: Network, behaviour: &Behaviour, observer: &Observer) {
    if behaviour.has_banned(network.external) {
        return behaviour.banned(network.external);
    }
    let Ok(port) = behaviour.query_ports.next(&behaviour.host) else {
        return;
    };
    let local = tcp::in_zone_of(SocketAddr::new(network.local, port), network.server);
    let seen = |mapped| behaviour.saw(mapped);
    let asking = connect_back(&behaviour.host, local, network.server, QUESTION_LIMIT, seen);
    match asking.await {
        Ok(Some(backs)) => behaviour.connected_back(backs),
        Ok(None) | Err(MappingError::NoAnswer) if is_silent(network, behaviour).await => {
            tracing::info!("a firewall bans whoever sends a SYN that it does not expect");
            behaviour.banned(network.external);
            let server = network.server.ip();
            observer.tell(Status::FirewallBans { server });
        }
        Ok(None) => {
            tracing::debug!("the stun server does not connect back");
            behaviour.connected_back(Vec::new());
        }
        Err(error) => tracing::debug!(%error, "filtering unknown"),
    }
}

/// Tells whether a server that was heard a moment ago is not any more, on a new connection either:
/// nothing comes back, not even that it is gone.
async fn is_silent(network: Network, behaviour: &Behaviour) -> bool {
    match ask_within(network, behaviour, SILENCE_LIMIT).await {
        Some(Err(MappingError::ConnectTimedOut | MappingError::NoAnswer)) => true,
        Some(Ok(seen)) => {
            behaviour.saw(seen.mapped);
            false
        }
        Some(Err(_)) | None => false,
    }
}

/// Finds out which ports new connections get, where that matters.
async fn sample(network: Network, behaviour: &Behaviour) {
    loop {
        let wanted = behaviour.samples_wanted();
        if wanted == 0 {
            return;
        }
        let answers = ask_in_order(wanted, network, behaviour).await;
        let is_newest_known = answers.last().is_some_and(Option::is_some);
        let samples: Vec<_> = answers.into_iter().flatten().collect();
        if samples.is_empty() {
            tracing::debug!("the stun server answers no more questions");
            return;
        }
        behaviour.sampled(samples);
        // The one that was not answered in time has got a port as well.
        if !is_newest_known && behaviour.is_sequential() {
            probe_sequence(network, behaviour).await;
        }
    }
}

/// Finds out where in its sequence a sequential allocator is, by a new connection.
async fn probe_sequence(network: Network, behaviour: &Behaviour) -> Option<SocketAddr> {
    let _probing = behaviour.probing.lock().await;
    let before = behaviour.recent_tuples.count();
    let seen = ask(network, behaviour).await?;
    behaviour.set_position(seen.mapped, before);
    pass_the_end(network, behaviour).await;
    Some(seen.mapped)
}

/// Has a sequential allocator begin anew if it is about to: nobody can tell where it will.
async fn pass_the_end(network: Network, behaviour: &Behaviour) {
    if !behaviour.is_at_an_end() {
        return;
    }
    let before = behaviour.recent_tuples.count();
    let answers = ask_in_order(PREDICTED_BLOCK.into(), network, behaviour).await;
    if let Some(newest) = answers.into_iter().flatten().last() {
        tracing::debug!(newest = %newest.mapped, "past the end of a sequence of ports");
        behaviour.set_position(newest.mapped, before);
    }
}

/// Asks the server how it sees so many new connections, in the order in which they are begun.
async fn ask_in_order(
    count: usize,
    network: Network,
    behaviour: &Behaviour,
) -> Vec<Option<Observation>> {
    let answers = in_order((0..count).map(|_| ask(network, behaviour))).await;
    answers.into_iter().map(Option::flatten).collect()
}

/// Asks the server how it sees a new connection.
async fn ask(network: Network, behaviour: &Behaviour) -> Option<Observation> {
    match ask_within(network, behaviour, QUESTION_LIMIT).await? {
        Ok(observation) => Some(observation),
        Err(error) => {
            tracing::debug!(%error, "no answer on a new connection");
            None
        }
    }
}

/// Asks the server how it sees a new connection, within a limit, unless there is no port to ask
/// from.
async fn ask_within(
    network: Network,
    behaviour: &Behaviour,
    limit: Duration,
) -> Option<Result<Observation, MappingError>> {
    let Network { local, server, .. } = network;
    let port = behaviour.query_ports.next(&behaviour.host);
    let port = port.map_err(|error| tracing::debug!(%error, "no port to ask from"));
    let local = tcp::in_zone_of(SocketAddr::new(local, port.ok()?), server);
    let answer = query(&behaviour.host, local, server, limit).await;
    Some(answer.map(|mapped| Observation {
        local,
        server,
        mapped,
    }))
}

/// Probes a sequential allocator if this endpoint has made a connection since the last probe.
/// Without that, a probe would only take the port that the next dialler has been told of.
pub(crate) async fn keep_position_current(mappings: &Mappings, behaviour: &Behaviour) {
    if !behaviour.is_position_current() {
        probe_again(mappings, behaviour).await;
    }
}

/// Probes a sequential allocator before a dial, unless this endpoint has done so lately and used no
/// port since.
///
/// A probe takes two round trips. Where nobody else has got ports meanwhile, which is so behind
/// most NATs for some seconds, they are saved; else a probe beside the first attempt shows it.
pub(crate) async fn probe_before_dial(mappings: &Mappings, behaviour: &Behaviour) {
    // A probe that is under way has taken a port already.
    if timeout(SEQUENCE_PROBE_LIMIT, behaviour.probing.lock())
        .await
        .is_err()
    {
        tracing::debug!("going on without a probe of the next port");
    }
    let probed = behaviour.probed_at();
    let is_recent = probed.is_some_and(|at| at.elapsed() < RECENT);
    if !(is_recent && behaviour.is_position_current()) {
        probe_again(mappings, behaviour).await;
    }
}

/// Probes a sequential allocator, if the NAT is one, before another attempt or during one. Returns
/// where the probe came from.
pub(crate) async fn probe_again(mappings: &Mappings, behaviour: &Behaviour) -> Option<SocketAddr> {
    if !behaviour.is_sequential() {
        return None;
    }
    let probing = async {
        let network = mappings.other_network(None).await;
        probe_sequence(network, behaviour).await
    };
    let probed = timeout(SEQUENCE_PROBE_LIMIT, probing).await;
    if probed.is_err() {
        tracing::debug!("going on without a probe of the next port");
    }
    probed.ok().flatten()
}

/// Runs futures side by side, each begun after the one before it, and returns what they return in
/// their order, or nothing for those that are late.
///
/// Once half of them are done, the others have as much time again, and a little more: a lost SYN
/// would make all wait for a second.
async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<Option<F::Output>> {
    let began = Instant::now();
    let mut running: Vec<_> = futures.map(|it| Some(Box::pin(it))).collect();
    let mut outputs: Vec<_> = running.iter().map(|_| None).collect();
    let mut patience = None;
    future::poll_fn(|context| {
        for (slot, output) in running.iter_mut().zip(&mut outputs) {
            if let Some(future) = slot
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
                *slot = None;
            }
        }
        let left = running.iter().flatten().count();
        if left * 2 > running.len() {
            return Poll::Pending;
        }
        let patience =
            patience.get_or_insert_with(|| Box::pin(sleep(began.elapsed() + STRAGGLERS)));
        if left == 0 {
            return Poll::Ready(());
        }
        patience.as_mut().poll(context)
    })
    .await;
    outputs
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::IpAddr;

    use p2pconnect_proto::{NatFiltering, UnsolicitedSyn};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// The first port of a sequence.
    const FIRST: u16 = 50_000;

    /// An address of a NAT that gives out ports in sequence.
    fn outside(port: u16) -> SocketAddr {
        ([203, 0, 113, 7], port).into()
    }

    /// Answers as a STUN server that sees a connection there (RFC 8489 sections 5 and 14.2).
    async fn answer(stream: &mut TcpStream, mapped: SocketAddr) {
        const COOKIE: u32 = 0x2112_a442;
        let IpAddr::V4(ip) = mapped.ip() else {
            unreachable!("the test has an IPv4 address");
        };
        let mut request = [0; 20];
        stream.read_exact(&mut request).await.unwrap();
        let mut response = vec![0x01, 0x01, 0, 12];
        response.extend(&request[4..]);
        response.extend([0x00, 0x20, 0, 8, 0, 1]);
        response.extend((mapped.port() ^ (COOKIE >> 16) as u16).to_be_bytes());
        response.extend((ip.to_bits() ^ COOKIE).to_be_bytes());
        stream.write_all(&response).await.unwrap();
    }

    /// Answers every connection but one, behind a NAT that gives out ports in sequence.
    async fn serve(listener: TcpListener, silent: u16) {
        let mut streams = Vec::new();
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            if n != silent {
                answer(&mut stream, outside(FIRST + n)).await;
            }
            streams.push(stream);
        }
    }

    #[tokio::test]
    async fn a_question_without_an_answer_has_got_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let behaviour = Behaviour::new(p2pconnect_host::Host::default());
        for (server, port) in [(server, 7000), (outside(3478), 7001)] {
            behaviour.observe(Observation {
                local: ([127, 0, 0, 1], 4000).into(),
                server,
                mapped: outside(port),
            });
        }
        let network = Network {
            local: server.ip(),
            external: outside(0).ip(),
            server,
        };
        let wanted = behaviour.samples_wanted() as u16;
        tokio::select! {
            () = serve(listener, wanted - 1) => {}
            () = sample(network, &behaviour) => {}
        }
        // The silent one, and the probe that makes up for it.
        let next = outside(FIRST + wanted + 1);
        assert_eq!(behaviour.predict(10_000).1, Some(next));
    }

    #[tokio::test]
    async fn a_network_that_bans_is_asked_for_it_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let network = Network {
            local: server.ip(),
            external: outside(0).ip(),
            server,
        };
        let behaviour = Behaviour::new(p2pconnect_host::Host::default());
        behaviour.banned(network.external);
        behaviour.start_over();
        assert!(!behaviour.bans());
        probe_filtering(network, &behaviour, &Observer::none()).await;
        assert!(behaviour.bans());
        let report = behaviour.report();
        let strictest = NatFiltering::AddressAndPortDependent;
        assert_eq!(report.filtering, Some(strictest));
        assert_eq!(report.unsolicited, Some(UnsolicitedSyn::Dropped));
        let asked = timeout(Duration::ZERO, listener.accept()).await;
        assert!(asked.is_err(), "the server was asked to connect back again");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_late_are_left_out() {
        let after = |millis: u64| async move {
            sleep(Duration::from_millis(millis)).await;
            millis
        };
        let none = in_order([].into_iter().map(after)).await;
        assert!(none.is_empty());
        let all = in_order([80, 90, 70].into_iter().map(after)).await;
        assert_eq!(all, [80, 90, 70].map(Some));
        let in_time = in_order([1000, 80, 70, 60].into_iter().map(after)).await;
        assert_eq!(in_time, [None, Some(80), Some(70), Some(60)]);
    }
}
