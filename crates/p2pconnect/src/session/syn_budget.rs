//! How many SYNs an endpoint sends for its introductions, whoever asks for them.
//!
//! A coordinator names the addresses that a peer connects to, and so does any peer that may dial.
//! Either may name somebody who has nothing to do with it. So what is sent to a network in vain is
//! counted, over all introductions, and soon only a few SYNs a second are left for it. Once a peer
//! has proved in a network that it is the one, what its introductions have sent there is forgotten,
//! also of those that have failed: who is really there costs nothing.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_proto::PeerId;
use p2pconnect_punch::Purpose;

mod allowance;

pub(crate) use allowance::TargetNetwork;
use allowance::{Allowance, Bill, Owed, Sent};

use crate::sync::lock;

/// The most peers whose spending is remembered beyond an introduction. Each owes something, so that
/// a coordinator cannot name many more at the pace that all networks together are granted.
const MAX_PEERS: usize = 1_024;

/// The most networks in which a peer's spending, or its proofs, are remembered. It names 16
/// addresses.
const MAX_NETWORKS_OF_PEER: usize = 256;

/// For how long it is remembered that a peer has proved to be in a network: longer than an attempt
/// lives that began before.
const PROOF_LASTS: Duration = Duration::from_secs(60);

/// What all introductions of an endpoint have spent, as of now.
#[derive(Debug, Default)]
pub(crate) struct SynBudget {
    allowance: Mutex<Allowance>,
    peers: Mutex<BTreeMap<PeerId, Arc<Mutex<Ledger>>>>,
}

impl SynBudget {
    /// Begins the account of one introduction to a peer.
    pub(crate) fn open(self: &Arc<Self>, peer: PeerId) -> Account {
        let mut peers = lock(&self.peers);
        if peers.len() >= MAX_PEERS {
            let now = clock::now();
            peers.retain(|_, ledger| Arc::strong_count(ledger) > 1 || lock(ledger).owes(now));
        }
        let ledger = if peers.len() < MAX_PEERS || peers.contains_key(&peer) {
            Arc::clone(peers.entry(peer).or_default())
        } else {
            // What this introduction wastes is forgiven only if it succeeds itself.
            Arc::default()
        };
        Account(Arc::new(Shared {
            budget: Arc::clone(self),
            ledger,
        }))
    }

    fn with<T>(&self, use_all: impl FnOnce(&mut Allowance) -> T) -> T {
        use_all(&mut lock(&self.allowance))
    }
}

/// The account of one introduction. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    budget: Arc<SynBudget>,
    ledger: Arc<Mutex<Ledger>>,
}

/// What all introductions to one peer have spent.
#[derive(Debug, Default)]
struct Ledger {
    spent: BTreeMap<Bill, Owed>,
    /// Where the peer has proved to be, and when it did so last.
    proved: BTreeMap<TargetNetwork, Instant>,
}

impl Ledger {
    fn owes(&self, now: Instant) -> bool {
        self.spent.values().any(|owed| owed.is_some(now))
    }

    fn has_wasted_little(&self, bill: Bill, now: Instant) -> bool {
        self.spent.get(&bill).is_none_or(|owed| owed.is_little(now))
    }

    fn note(&mut self, bill: Bill, sent: Sent, now: Instant) {
        if self.spent.len() >= MAX_NETWORKS_OF_PEER {
            self.spent.retain(|_, owed| owed.is_some(now));
        }
        // What does not fit is not forgiven.
        if self.spent.len() < MAX_NETWORKS_OF_PEER || self.spent.contains_key(&bill) {
            self.spent.entry(bill).or_default().add(bill, sent, now);
        }
    }

    /// Notes a proof; returns what the peer has spent there.
    fn prove(&mut self, network: TargetNetwork, now: Instant) -> Vec<(Bill, Owed)> {
        self.proved
            .retain(|_, at| now.saturating_duration_since(*at) < PROOF_LASTS);
        if self.proved.len() < MAX_NETWORKS_OF_PEER {
            self.proved.insert(network, now);
        }
        self.spent
            .extract_if(.., |bill, _| bill.network() == network)
            .collect()
    }

    /// Tells whether the peer has proved to be there since.
    fn is_proved(&self, network: TargetNetwork, since: Instant) -> bool {
        self.proved.get(&network).is_some_and(|at| *at >= since)
    }
}

impl Account {
    /// Pays for a SYN to a network, and for its repetitions for as long as what is returned exists;
    /// `None` if too much has been spent there.
    pub(crate) fn pay(&self, network: TargetNetwork, purpose: Purpose) -> Option<PaidSyn> {
        let since = clock::now();
        let bill = Bill::new(network, purpose);
        let has_wasted_little = lock(&self.0.ledger).has_wasted_little(bill, since);
        let is_granted = self
            .0
            .budget
            .with(|all| all.take(bill, purpose, has_wasted_little, since));
        if !is_granted {
            tracing::debug!(?purpose, "too much was sent to a network in vain");
            return None;
        }
        lock(&self.0.ledger).note(bill, Sent::Once, since);
        Some(PaidSyn {
            account: self.clone(),
            bill,
            since,
        })
    }

    /// Gives back what all introductions to the peer have sent to a network, where it has proved to
    /// be.
    pub(crate) fn prove(&self, network: TargetNetwork) {
        let now = clock::now();
        let spent = lock(&self.0.ledger).prove(network, now);
        self.0.budget.with(|all| {
            for (bill, owed) in spent {
                all.give_back(bill, owed, now);
            }
        });
    }
}

/// A SYN that has been paid for. The kernel repeats it until the attempt ends, when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct PaidSyn {
    account: Account,
    bill: Bill,
    since: Instant,
}

impl PaidSyn {
    /// Pays for another SYN in its place.
    pub(crate) fn repeat(&self) {
        self.charge(1);
    }

    /// Charges for what has been sent in any case, unless the peer has proved to be there
    /// meanwhile, in this introduction or in another one.
    fn charge(&self, count: u32) {
        let sent = Sent::Repeatedly(count);
        let Shared { budget, ledger } = &*self.account.0;
        let now = clock::now();
        {
            let mut ledger = lock(ledger);
            if count == 0 || ledger.is_proved(self.bill.network(), self.since) {
                return;
            }
            ledger.note(self.bill, sent, now);
        }
        budget.with(|all| all.charge(self.bill, sent, now));
    }
}

impl Drop for PaidSyn {
    fn drop(&mut self) {
        // Linux repeats the first four once a second (net.ipv4.tcp_syn_linear_timeouts), others
        // less often.
        let repeated = clock::since(self.since).as_secs();
        self.charge(u32::try_from(repeated).unwrap_or(u32::MAX));
    }
}

/// Returns the network that an address is in, as the budget counts; one that stands for an IPv4
/// address behind a NAT64 is a network by itself.
pub(crate) fn network_of(ip: IpAddr, is_translated: bool) -> TargetNetwork {
    if is_translated {
        TargetNetwork::single(ip)
    } else {
        TargetNetwork::of(ip)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn network(n: u8) -> TargetNetwork {
        TargetNetwork::of([198, 51, n, 1].into())
    }

    /// Spends all that there is for guesses in a network; returns how much that was.
    fn exhaust(account: &Account, network: TargetNetwork) -> usize {
        let paid: Vec<_> = std::iter::from_fn(|| account.pay(network, Purpose::Guess)).collect();
        paid.len()
    }

    fn peer(n: u16) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PeerId::from_public_key(bytes)
    }

    /// Lets somebody's attempts last for so long, and end.
    fn end(paid: Vec<PaidSyn>, lasted: Duration) {
        for mut paid in paid {
            paid.since = paid.since.checked_sub(lasted).unwrap();
        }
    }

    #[test]
    fn a_peer_that_is_there_costs_nothing() {
        let budget = Arc::new(SynBudget::default());
        let first = budget.open(peer(1));
        let most = exhaust(&first, network(1));
        let second = budget.open(peer(2));
        assert!(
            exhaust(&second, network(1)) < most / 10,
            "one budget for all"
        );
        second.prove(network(1));
        assert!(exhaust(&second, network(1)) < most / 10, "another peer");
        first.prove(network(2));
        assert!(exhaust(&second, network(1)) < most / 10, "not there");
        first.prove(network(1));
        assert!(exhaust(&second, network(1)) > most / 2);
    }

    #[test]
    fn what_failed_before_is_forgiven_as_well() {
        let budget = Arc::new(SynBudget::default());
        // A hundred dials of which each has two introductions in vain before the one that succeeds.
        for dial in 0..100 {
            for is_last in [false, false, true] {
                let account = budget.open(peer(1));
                let guess = |_| account.pay(network(1), Purpose::Guess);
                let paid: Vec<_> = (0..640).filter_map(guess).collect();
                assert_eq!(paid.len(), 640, "dial {dial}");
                if is_last {
                    account.prove(network(1));
                }
                end(paid, Duration::from_secs(2));
            }
            // What ends after the proof and began before.
            budget.open(peer(1)).prove(network(1));
        }
    }

    #[test]
    fn what_ends_after_the_proof_of_another_introduction_is_free() {
        let budget = Arc::new(SynBudget::default());
        let [failed, proved] = [(); 2].map(|()| budget.open(peer(1)));
        let paid = failed.pay(network(1), Purpose::Guess).unwrap();
        proved.prove(network(1));
        let owes = |budget: &SynBudget| {
            lock(&budget.peers)
                .values()
                .any(|it| lock(it).owes(Instant::now()))
        };
        paid.repeat();
        drop((paid, failed));
        assert!(!owes(&budget));
        paid_again(&proved).repeat();
        assert!(owes(&budget), "begun after the proof");
    }

    fn paid_again(account: &Account) -> PaidSyn {
        account.pay(network(1), Purpose::Guess).unwrap()
    }

    #[test]
    fn what_one_peer_wastes_keeps_no_other_out_of_its_network() {
        let budget = Arc::new(SynBudget::default());
        let first = |account: &Account| account.pay(network(1), Purpose::First);
        // Each is repeated for a dial's time, which is paid for when it ends: minutes are owed
        // then.
        let wasted: Vec<_> = {
            let account = budget.open(peer(1));
            std::iter::from_fn(|| first(&account)).collect()
        };
        end(wasted, Duration::from_secs(12));
        assert!(
            first(&budget.open(peer(1))).is_none(),
            "it has had its part"
        );
        for n in 2..6 {
            let account = budget.open(peer(n));
            let paid: Vec<_> = (0..4).filter_map(|_| first(&account)).collect();
            assert_eq!(paid.len(), 4, "peer {n}");
        }
        // However many come, the network is not flooded for it.
        let crowd = (6..1_000).filter(|n| first(&budget.open(peer(*n))).is_some());
        assert!(crowd.count() < 64);
    }

    #[test]
    fn peers_are_forgotten() {
        let budget = Arc::new(SynBudget::default());
        let accounts: Vec<_> = (0..u16::try_from(2 * MAX_PEERS).unwrap())
            .map(|n| budget.open(peer(n)))
            .collect();
        assert_eq!(lock(&budget.peers).len(), MAX_PEERS);
        drop(accounts);
        drop(budget.open(peer(1)));
        assert_eq!(lock(&budget.peers).len(), 1);
    }

    #[test]
    fn what_the_kernel_repeats_is_paid_for_too() {
        let budget = Arc::new(SynBudget::default());
        let owed = |dials: u32, lasted: u64| {
            let account = budget.open(peer(1));
            let paid = (0..dials).map(|_| paid_again(&account)).collect();
            end(paid, Duration::from_secs(lasted));
            let before = exhaust(&account, network(1));
            account.prove(network(1));
            before
        };
        // The proof at the end of one forgives what began before it, as the attempts of three
        // seconds would have.
        let repeated = owed(100, 3);
        let once = owed(100, 0);
        assert!(repeated + 250 < once, "{once} and {repeated}");
    }
}
