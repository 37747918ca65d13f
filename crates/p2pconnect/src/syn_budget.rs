//! How many SYNs an endpoint sends for its introductions, whoever asks for them.
//!
//! A coordinator names the addresses that a peer connects to, and so does any peer that may dial. Either
//! may name somebody who has nothing to do with it. So what is sent to a network in vain is counted, over
//! all introductions, and soon only a few SYNs a second are left for it. Once a peer has proved in a
//! network that it is the one, what its introduction has sent there is forgotten: who is really there
//! costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use p2pconnect_punch::Purpose;

mod allowance;

pub(crate) use allowance::Network;
use allowance::{Allowance, Bill};

/// What all introductions of an endpoint have spent, as of now.
#[derive(Debug, Default)]
pub(crate) struct SynBudget(Mutex<Allowance>);

impl SynBudget {
    /// Begins the account of one introduction.
    pub(crate) fn open(self: &Arc<Self>) -> Account {
        Account(Arc::new(Shared {
            budget: Arc::clone(self),
            ledger: Mutex::default(),
        }))
    }

    fn with<T>(&self, use_all: impl FnOnce(&mut Allowance) -> T) -> T {
        use_all(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The account of one introduction. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Account(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    budget: Arc<SynBudget>,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    spent: BTreeMap<Bill, u32>,
    /// Where the peer has proved to be.
    proved: BTreeSet<Network>,
}

impl Account {
    /// Pays for a SYN to a network, and for its repetitions for as long as what is returned exists; `None`
    /// if too much has been spent there.
    pub(crate) fn pay(&self, network: Network, purpose: Purpose) -> Option<PaidSyn> {
        let since = Instant::now();
        let bill = Bill::new(network, purpose);
        let is_granted = self.0.budget.with(|all| all.take(bill, purpose, since));
        if !is_granted {
            tracing::debug!(?purpose, "too much was sent to a network in vain");
            return None;
        }
        self.note(bill, 1);
        Some(PaidSyn {
            account: self.clone(),
            bill,
            since,
        })
    }

    /// Gives back what this introduction has sent to a network, where the peer has proved to be.
    pub(crate) fn prove(&self, network: Network) {
        let spent: Vec<_> = self.with(|ledger| {
            ledger.proved.insert(network);
            let bills = ledger.spent.iter_mut();
            let here = bills.filter(|(bill, _)| bill.network() == network);
            here.map(|(bill, count)| (*bill, std::mem::take(count)))
                .collect()
        });
        self.0.budget.with(|all| {
            for (bill, count) in spent {
                all.give_back(bill, count);
            }
        });
    }

    /// Notes what has been spent.
    fn note(&self, bill: Bill, count: u32) {
        self.with(|ledger| *ledger.spent.entry(bill).or_default() += count);
    }

    /// Charges for what the kernel has repeated.
    fn charge(&self, bill: Bill, count: u32) {
        let is_proved = self.with(|ledger| ledger.proved.contains(&bill.network()));
        if count > 0 && !is_proved {
            self.0
                .budget
                .with(|all| all.charge(bill, count, Instant::now()));
            self.note(bill, count);
        }
    }

    fn with<T>(&self, use_ledger: impl FnOnce(&mut Ledger) -> T) -> T {
        use_ledger(&mut self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A SYN that has been paid for. The kernel repeats it until the attempt ends, when this is dropped.
#[derive(Debug)]
pub(crate) struct PaidSyn {
    account: Account,
    bill: Bill,
    since: Instant,
}

impl PaidSyn {
    /// Pays for another SYN in its place.
    pub(crate) fn repeat(&self) {
        self.account.charge(self.bill, 1);
    }
}

impl Drop for PaidSyn {
    fn drop(&mut self) {
        // Linux repeats the first four once a second (net.ipv4.tcp_syn_linear_timeouts), others less often.
        let repeated = self.since.elapsed().as_secs();
        let repeated = u32::try_from(repeated).unwrap_or(u32::MAX);
        self.account.charge(self.bill, repeated);
    }
}

/// Returns the network that an address is in, as the budget counts; one that stands for an IPv4 address
/// behind a NAT64 is a network by itself.
pub(crate) fn network_of(ip: IpAddr, is_translated: bool) -> Network {
    if is_translated {
        Network::single(ip)
    } else {
        Network::of(ip)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn network(n: u8) -> Network {
        Network::of([198, 51, n, 1].into())
    }

    /// Spends all that there is for guesses in a network; returns how much that was.
    fn exhaust(account: &Account, network: Network) -> usize {
        let paid: Vec<_> = std::iter::from_fn(|| account.pay(network, Purpose::Guess)).collect();
        paid.len()
    }

    #[test]
    fn a_peer_that_is_there_costs_nothing() {
        let budget = Arc::new(SynBudget::default());
        let first = budget.open();
        let most = exhaust(&first, network(1));
        let second = budget.open();
        assert!(
            exhaust(&second, network(1)) < most / 10,
            "one budget for all"
        );
        first.prove(network(2));
        assert!(exhaust(&second, network(1)) < most / 10, "not there");
        first.prove(network(1));
        assert!(exhaust(&second, network(1)) > most / 2);
    }

    #[test]
    fn what_the_kernel_repeats_is_paid_for_too() {
        let budget = Arc::new(SynBudget::default());
        let [silent, proved] = [(); 2].map(|()| budget.open());
        let repeat = |account: &Account, network: Network| {
            let mut paid = account.pay(network, Purpose::Guess).unwrap();
            paid.since = paid
                .since
                .checked_sub(std::time::Duration::from_secs(3))
                .unwrap();
            drop(paid);
            account.with(|ledger| ledger.spent.values().sum::<u32>())
        };
        assert_eq!(repeat(&silent, network(1)), 4);
        proved.prove(network(1));
        assert_eq!(repeat(&proved, network(1)), 1);
    }
}
