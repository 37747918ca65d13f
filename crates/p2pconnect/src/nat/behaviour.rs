//! What an endpoint knows of the NAT in front of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, clock};
use p2pconnect_proto::{
    BackFrom, BackOutcome, ConnectBack, NatFiltering, NatMapping, NatReport, PortAssignment,
};
use p2pconnect_punch::behaviour::{
    MIN_RANGE_SAMPLES, Observation, SeenRange, conclude, finer_step,
};
use tokio::time::{sleep, timeout};

use crate::{
    nat::{query_ports::QueryPorts, recent_tuples::RecentTuples, unused_ports::PREDICTED_BLOCK},
    sync::{Watched, Watcher, lock},
};

/// Connections that show whether ports follow each other, and if not, in which range they are: its
/// size to within a third, with the connections that there are anyway.
pub(crate) const SAMPLES: usize = 13;

/// How far along a sequence the connections to other servers may be: there are a dozen of them.
const MAX_AHEAD: i16 = 32;

/// The most networks that are remembered for a firewall that bans. A machine is in few in its life,
/// and in one beyond them the firewall is met anew.
const MAX_BANNING: usize = 32;

/// How long a program that binds an endpoint may take to begin a dial: it is about to as a rule, on
/// another thread perhaps.
const BREATH: Duration = Duration::from_millis(20);

/// Collects what servers see, and concludes from it.
#[derive(Debug)]
pub(crate) struct Behaviour {
    facts: Mutex<Facts>,
    report: Watched<NatReport>,
    /// Whether all is known that plans need.
    settled: Watched<bool>,
    /// What was known when nothing more was being found out, until somebody is told.
    found: Watched<Option<NatReport>>,
    /// Changes whenever another port is predicted for the next connection.
    predictions: Watched<()>,
    /// Which connections have got a port.
    pub(crate) recent_tuples: Arc<RecentTuples>,
    /// From where servers were asked lately which port a new connection gets.
    pub(crate) query_ports: QueryPorts,
    pub(crate) host: Host,
    /// Held while a sequence probe is under way.
    pub(crate) probing: tokio::sync::Mutex<()>,
    /// How many introductions are asked for or under way, the making of the endpoint counted as
    /// one.
    introductions: Watched<usize>,
    /// The outsides of networks whose firewall has banned a server for connecting back.
    banning: Mutex<BTreeSet<IpAddr>>,
}

/// An introduction that is asked for or under way, or may be in a moment: until this is dropped,
/// the next port is for it, and so is the server.
#[derive(Debug)]
pub(crate) struct Reserved(Arc<Behaviour>);

#[derive(Debug, Default)]
struct Facts {
    /// How servers see the punch ports.
    held: Vec<Observation>,
    /// How one server saw new connections from unused ports, in the order in which they were
    /// made.
    samples: Vec<Observation>,
    /// The position in the sequence: how a server saw the newest connection.
    position: Option<SocketAddr>,
    /// When the position was taken in.
    probed_at: Option<Instant>,
    /// The step of the sequence, where probes since the samples have shown that it is less than the
    /// samples say.
    step: Option<u16>,
    /// How many connections had got a port when the newest one was about to be made.
    tuples_before: u64,
    backs: Vec<ConnectBack>,
    /// Whether a firewall here bans whoever sends a SYN that it does not expect.
    bans: bool,
    /// The ports that other connections were seen from.
    others: BTreeSet<u16>,
    /// The random ports that peers have been told of, to which connections were made.
    named: BTreeSet<u16>,
}

impl Behaviour {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            facts: Mutex::default(),
            report: Watched::default(),
            settled: Watched::default(),
            found: Watched::default(),
            predictions: Watched::default(),
            recent_tuples: Arc::default(),
            query_ports: QueryPorts::default(),
            host,
            probing: tokio::sync::Mutex::default(),
            introductions: Watched::default(),
            banning: Mutex::default(),
        }
    }

    /// Puts off sequence probes that have time, so that none takes the port that a peer is told of,
    /// and the question that may get the server banned.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reserved {
        self.introductions.change(|count| *count += 1);
        Reserved(Arc::clone(self))
    }

    /// Tells whether a peer may be told of the next port just now.
    pub(crate) fn is_reserved(&self) -> bool {
        *self.introductions.borrow() > 0
    }

    /// Waits until a question that may cost the way to the server can be asked: as soon as the
    /// endpoint is bound and no introduction is asked for or under way, or their plans need the
    /// answer, and after so long at the latest.
    ///
    /// Cancel safe.
    pub(crate) async fn may_be_probed(&self, patience: Duration) {
        tokio::select! {
            () = self.is_idle() => {}
            () = self.report.wait_for(varies) => {}
            () = sleep(patience) => {}
        }
    }

    /// Waits until nothing has been reserved for a moment.
    async fn is_idle(&self) {
        let mut reserved = self.introductions.watch();
        loop {
            reserved.wait_for(|count| *count == 0).await;
            let reserving = reserved.wait_for(|count| *count > 0);
            if timeout(BREATH, reserving).await.is_err() {
                return;
            }
        }
    }

    /// Takes in that the firewall of the network with this outside has banned a server for
    /// connecting back.
    pub(crate) fn banned(&self, outside: IpAddr) {
        let mut banning = self.banning();
        if banning.len() < MAX_BANNING {
            banning.insert(outside);
        }
        drop(banning);
        self.learn(|facts| {
            facts.bans = true;
            // It has not let in what the server sent.
            facts.backs = vec![ConnectBack {
                from: BackFrom::OtherPort,
                outcome: BackOutcome::Silent,
            }];
        });
    }

    /// Tells whether the firewall of a network has done so before.
    pub(crate) fn has_banned(&self, outside: IpAddr) -> bool {
        self.banning().contains(&outside)
    }

    /// Tells whether a firewall where this endpoint is now bans whoever sends a SYN that it does
    /// not expect.
    pub(crate) fn bans(&self) -> bool {
        self.facts().bans
    }

    fn banning(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        lock(&self.banning)
    }

    /// Returns what is known now.
    pub(crate) fn report(&self) -> NatReport {
        *self.report.borrow()
    }

    /// Watches what is known.
    pub(crate) fn reports(&self) -> Watcher<NatReport> {
        self.report.watch()
    }

    /// Watches for another answer of [`predict`](Self::predict).
    pub(crate) fn predictions(&self) -> Watcher<()> {
        self.predictions.watch()
    }

    /// Says that another port is predicted now.
    pub(crate) fn prediction_changed(&self) {
        self.predictions.notify();
    }

    /// Says whether all is known that plans need.
    pub(crate) fn settle(&self, settled: bool) {
        self.settled.set(settled);
    }

    /// Says that nothing more is being found out.
    pub(crate) fn finish(&self) {
        self.found.set(Some(self.report()));
    }

    /// Waits until nothing more is being found out, and returns what is known then, once.
    ///
    /// Cancel safe.
    pub(crate) async fn found(&self) -> NatReport {
        let mut found = self.found.watch();
        loop {
            let mut report = None;
            self.found.change_if(|found| {
                report = found.take();
                false
            });
            if let Some(report) = report {
                return report;
            }
            found.changed().await;
        }
    }

    /// Takes in how a server that was asked once sees a punch port.
    pub(crate) fn observe(&self, observation: Observation) {
        self.learn(|facts| facts.observe(observation));
    }

    /// Takes in how a server sees the connection that holds the mapping of a punch port.
    ///
    /// If that is another address than before, the NAT has begun anew, and what others saw of the
    /// port is out of date: it would look as if the mapping depended on whom one asks.
    pub(crate) fn holds(&self, observation: Observation) {
        self.learn(|facts| facts.hold(observation));
    }

    /// Takes in the same of a server that stands in for others. What these saw may be out of date,
    /// unless the mapping is known to depend on whom one asks.
    pub(crate) fn holds_instead(&self, observation: Observation) {
        self.learn(|facts| {
            if !varies(&facts.report()) {
                facts.held.retain(|it| it.local != observation.local);
            }
            facts.observe(observation);
        });
    }

    /// Drops what a server saw that stood in for others, unless the mapping is known to depend on
    /// whom one asks.
    pub(crate) fn stands_down(&self, local: SocketAddr, server: SocketAddr) {
        self.learn(|facts| {
            if !varies(&facts.report()) {
                let is_other = |it: &Observation| (it.local, it.server) != (local, server);
                facts.held.retain(is_other);
            }
        });
    }

    /// Takes in the same of the other punch port, which tells nothing unless it has been compared.
    pub(crate) fn holds_other(&self, observation: Observation) {
        self.learn(|facts| {
            facts.others.insert(observation.mapped.port());
            if facts.held.iter().any(|it| it.local == observation.local) {
                facts.hold(observation);
            }
        });
    }

    /// Takes in that a connection that tells nothing else is seen as this.
    pub(crate) fn saw(&self, mapped: SocketAddr) {
        self.learn(|facts| {
            facts.others.insert(mapped.port());
        });
    }

    /// Takes in that a peer connects to a random port that it was told of, so that another one is
    /// told of next.
    ///
    /// A NAT that has given out its whole range to reach one port may do so again only for another
    /// one.
    pub(crate) fn uses_up(&self, predicted: SocketAddr) {
        let mut facts = self.facts();
        if matches!(facts.report().ports, Some(PortAssignment::Random { .. })) {
            facts.named.insert(predicted.port());
        }
    }

    /// Takes in how a server sees new connections from unused ports, in their order.
    pub(crate) fn sampled(&self, samples: Vec<Observation>) {
        self.learn(|facts| {
            if let Some(newest) = samples.last() {
                facts.position = Some(newest.mapped);
                facts.probed_at = Some(clock::now());
            }
            facts.samples.extend(samples);
            facts.step = None;
        });
    }

    /// Takes in the position in the sequence: how a server saw the newest connection, and how many
    /// connections had got a port before it.
    pub(crate) fn set_position(&self, mapped: SocketAddr, tuples_before: u64) {
        self.learn(|facts| {
            facts.step = facts.step_by(mapped);
            facts.position = Some(mapped);
            facts.probed_at = Some(clock::now());
            facts.tuples_before = tuples_before;
        });
        self.prediction_changed();
    }

    /// Returns whether the position in the sequence is current: this endpoint has made no
    /// connection since.
    pub(crate) fn is_position_current(&self) -> bool {
        self.facts().tuples_before == self.recent_tuples.count()
    }

    /// Returns when the position in the sequence was taken in.
    pub(crate) fn probed_at(&self) -> Option<Instant> {
        self.facts().probed_at
    }

    /// Takes in what became of connections that a server made.
    pub(crate) fn connected_back(&self, backs: Vec<ConnectBack>) {
        self.learn(|facts| facts.backs = backs);
    }

    /// Drops what was seen from an address that this machine has left, with its NAT.
    pub(crate) fn forget(&self, local: IpAddr) {
        self.learn(|facts| {
            facts.held.retain(|it| it.local.ip() != local);
            facts.forget_samples();
        });
    }

    /// Drops what was found out about a NAT that has another address now.
    pub(crate) fn start_over(&self) {
        self.settle(false);
        self.found.set(None);
        self.learn(Facts::forget_samples);
    }

    fn learn(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts();
        let before = facts.newest_of_sequence(&self.report());
        change(&mut facts);
        let report = facts.report();
        let moved = facts.newest_of_sequence(&report) != before;
        // Before the facts may change again, or a report of older ones could take the place of
        // this.
        self.report
            .change_if(|known| std::mem::replace(known, report) != report);
        drop(facts);
        if moved {
            self.prediction_changed();
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// Returns how many new connections would tell more than is known.
    pub(crate) fn samples_wanted(&self) -> usize {
        let report = self.report();
        let facts = self.facts();
        let stays = report.mapping == Some(NatMapping::EndpointIndependent);
        match report.ports {
            _ if stays || facts.held.is_empty() => 0,
            Some(PortAssignment::Preserved | PortAssignment::Sequential { .. }) => 0,
            None | Some(PortAssignment::Random { .. }) => {
                SAMPLES.saturating_sub(facts.samples.len())
            }
        }
    }

    /// Tells whether each connection moves the port of the next one on.
    pub(crate) fn is_sequential(&self) -> bool {
        let report = self.report();
        varies(&report) && matches!(report.ports, Some(PortAssignment::Sequential { .. }))
    }

    /// Tells whether the ports of the next connections are beyond the last port of all, so that a
    /// sequential allocator begins anew at one that is not known.
    pub(crate) fn is_at_an_end(&self) -> bool {
        let facts = self.facts();
        let report = facts.report();
        let Some(PortAssignment::Sequential { delta }) = report.ports else {
            return false;
        };
        let ahead = i32::from(delta.cast_signed()) * i32::from(PREDICTED_BLOCK);
        let is_beyond = |newest| !(1..=i32::from(u16::MAX)).contains(&(i32::from(newest) + ahead));
        varies(&report) && facts.newest(delta).is_some_and(is_beyond)
    }

    /// Returns what is known now, and predicts the address that the first connection out of the
    /// port `unused` comes from, if the mappings of the punch ports do not tell.
    ///
    /// A random port is chosen so that it is in the range and nothing else uses it: where both
    /// sides use up their whole ranges, they meet there.
    pub(crate) fn predict(&self, unused: u16) -> (NatReport, Option<SocketAddr>) {
        let facts = self.facts();
        let report = facts.report();
        (report, facts.predicted(&report, unused))
    }

    /// Waits until all is known that plans need, and returns whether that makes a plan possible
    /// that `known` did not.
    ///
    /// Cancel safe.
    pub(crate) async fn makes_stale(&self, known: &NatReport) -> bool {
        let could_plan = |report: &NatReport| varies(report) && report.ports.is_some();
        if could_plan(known) {
            return false;
        }
        self.settled.wait_for(|settled| *settled).await;
        could_plan(&self.report())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let count = &self.0.introductions;
        count.change(|count| *count = count.saturating_sub(1));
    }
}

impl Facts {
    fn observe(&mut self, observation: Observation) {
        let Observation { local, server, .. } = observation;
        let mut held = self.held.iter_mut();
        match held.find(|it| (it.local, it.server) == (local, server)) {
            Some(known) => *known = observation,
            None => self.held.push(observation),
        }
    }

    fn hold(&mut self, observation: Observation) {
        let Observation { local, server, .. } = observation;
        let mut known = self.held.iter();
        let known = known.find(|it| (it.local, it.server) == (local, server));
        if known.is_some_and(|known| known.mapped != observation.mapped) {
            self.held.retain(|it| it.local != local);
        }
        self.observe(observation);
    }

    fn forget_samples(&mut self) {
        self.samples.clear();
        self.backs.clear();
        self.bans = false;
        self.others.clear();
        self.named.clear();
        self.position = None;
        self.probed_at = None;
        self.step = None;
    }

    /// Returns the step of the sequence, as far as the newest connection shows.
    fn step_by(&self, newest: SocketAddr) -> Option<u16> {
        match (self.report().ports, self.position) {
            (Some(PortAssignment::Sequential { delta }), Some(last))
                if last.ip() == newest.ip() =>
            {
                Some(finer_step(delta, last.port(), newest.port()))
            }
            _ => self.step,
        }
    }

    /// NATs are in front of IPv4; without it, what is known of IPv6 serves.
    ///
    /// The outside counts: behind a NAT64 there is IPv6 on this side of it.
    fn held_v4(&self) -> impl Iterator<Item = &Observation> {
        let has_v4 = self.held.iter().any(|it| it.mapped.is_ipv4());
        self.held
            .iter()
            .filter(move |it| it.mapped.is_ipv4() == has_v4)
    }

    fn report(&self) -> NatReport {
        let held: Vec<_> = self.held_v4().copied().collect();
        let mut report = conclude(&held, &self.backs);
        // The connections of the punch ports are made at the same time, so that their order, which
        // shows a sequence, is not known.
        if report.ports != Some(PortAssignment::Preserved) {
            let ports = conclude(&self.samples, &[]).ports;
            report.ports = match ports {
                // Few show only that they do not follow each other, and not where they end.
                Some(PortAssignment::Random { .. }) if self.samples.len() < MIN_RANGE_SAMPLES => {
                    None
                }
                Some(PortAssignment::Random { first, last }) => {
                    let seen = self.seen_range();
                    let (first, last) = seen.map_or((first, last), SeenRange::bounds);
                    Some(PortAssignment::Random { first, last })
                }
                Some(PortAssignment::Sequential { delta }) => {
                    let delta = self.step.unwrap_or(delta);
                    Some(PortAssignment::Sequential { delta })
                }
                known => known,
            };
        }
        report
    }

    fn predicted(&self, report: &NatReport, unused: u16) -> Option<SocketAddr> {
        let mut address = self.held_v4().last()?.mapped;
        let port = match report.ports {
            _ if !varies(report) => None,
            Some(PortAssignment::Preserved) => Some(unused),
            Some(PortAssignment::Sequential { delta }) => {
                let next = self.newest(delta)?.wrapping_add(delta);
                Some(next).filter(|port| *port != 0)
            }
            Some(PortAssignment::Random { .. }) => {
                let (range, taken) = (self.seen_range()?, self.taken());
                let unnamed = range.free_port(&taken.union(&self.named).copied().collect());
                // Those that were named first may be free again.
                unnamed.or_else(|| range.free_port(&taken))
            }
            None => None,
        };
        address.set_port(port?);
        Some(address)
    }

    /// Returns what is known of the range that random ports are drawn from.
    fn seen_range(&self) -> Option<SeenRange> {
        let samples = self.samples.iter().map(|it| it.mapped.port()).collect();
        SeenRange::with_others(&samples, &self.taken())
    }

    /// Returns the port furthest along a sequence that has been given out.
    fn newest(&self, delta: u16) -> Option<u16> {
        Some(furthest(self.position?.port(), delta, &self.taken()))
    }

    /// The same, if the NAT is known to give out ports in a sequence.
    fn newest_of_sequence(&self, report: &NatReport) -> Option<u16> {
        match report.ports {
            Some(PortAssignment::Sequential { delta }) => self.newest(delta),
            Some(PortAssignment::Preserved | PortAssignment::Random { .. }) | None => None,
        }
    }

    /// Returns the external ports that are or were in use lately.
    fn taken(&self) -> BTreeSet<u16> {
        let seen = self.held.iter().chain(&self.samples);
        let ports = seen.map(|it| it.mapped.port());
        ports.chain(self.others.iter().copied()).collect()
    }
}

/// Returns the port furthest along a sequence, of `newest` and of those a little further on:
/// connections to other servers may have come after it.
fn furthest(newest: u16, delta: u16, ports: &BTreeSet<u16>) -> u16 {
    let step = delta.cast_signed();
    // In steps, whether the sequence goes up or down.
    let ahead = |port: &u16| {
        port.wrapping_sub(newest)
            .cast_signed()
            .checked_div(step)
            .unwrap_or(0)
    };
    let further = |port: &u16| (1..=MAX_AHEAD).contains(&ahead(port));
    let furthest = ports.iter().copied().filter(further).max_by_key(ahead);
    furthest.unwrap_or(newest)
}

/// Tells whether a new destination gets a new mapping.
pub(crate) fn varies(report: &NatReport) -> bool {
    match report.mapping {
        None | Some(NatMapping::EndpointIndependent) => false,
        Some(NatMapping::AddressDependent | NatMapping::AddressAndPortDependent) => true,
    }
}

/// Tells whether everybody can reach the mapping of a punch port.
pub(crate) fn lets_anybody_in(report: &NatReport) -> bool {
    report.filtering == Some(NatFiltering::EndpointIndependent)
}

#[cfg(test)]
mod tests;
