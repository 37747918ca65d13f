//! What an attacker gets who has all the time that he wants.

use std::collections::VecDeque;

use super::*;

/// How often the attacker asks, and for how many SYNs: as many as 64 sessions want between two
/// redials.
const STEP: Duration = Duration::from_millis(100);
const AT_A_TIME: u64 = 64;

/// Somebody who asks for SYNs again and again.
struct Attack {
    allowance: Allowance,
    now: Instant,
}

impl Attack {
    fn new() -> Self {
        Self {
            allowance: Allowance::default(),
            now: Instant::now(),
        }
    }

    /// Asks for SYNs to these addresses for so many seconds; returns how many packets that makes,
    /// if the kernel repeats each so often, once a second.
    fn run(
        &mut self,
        address: impl Fn(u64) -> IpAddr,
        purpose: Purpose,
        repeats: u32,
        seconds: u64,
    ) -> u64 {
        let until = self.now + Duration::from_secs(seconds);
        let lives = Duration::from_secs(repeats.into());
        let mut alive: VecDeque<(Instant, Bill)> = VecDeque::new();
        let (mut asked, mut sent) = (0, 0);
        while self.now <= until {
            while let Some((_, bill)) = alive.pop_front_if(|(end, _)| *end <= self.now) {
                self.allowance
                    .charge(bill, Sent::Repeatedly(repeats), self.now);
            }
            for _ in 0..AT_A_TIME {
                let bill = Bill::new(TargetNetwork::of(address(asked)), purpose);
                asked += 1;
                if self.allowance.take(bill, purpose, true, self.now) {
                    sent += 1 + u64::from(repeats);
                    alive.push_back((self.now + lives, bill));
                }
            }
            self.now += STEP;
        }
        sent
    }
}

fn one(_: u64) -> IpAddr {
    [198, 51, 100, 7].into()
}

/// Another network each time.
fn many(n: u64) -> IpAddr {
    let [.., a, b] = n.to_be_bytes();
    [50, a, b, 1].into()
}

/// Another machine of the LAN each time.
fn neighbour(n: u64) -> IpAddr {
    let [.., a] = n.to_be_bytes();
    [192, 168, 1, a].into()
}

/// A quarter of an hour.
const LONG: u64 = 900;

#[test]
fn one_network_gets_a_few_a_second_for_as_long_as_somebody_lies() {
    for (purpose, at_once) in [
        (Purpose::First, NAMED),
        (Purpose::Again, AGAIN),
        (Purpose::Guess, GUESSED),
    ] {
        let sent = Attack::new().run(one, purpose, 0, LONG);
        let most = u64::from(at_once) + 8 * LONG;
        assert!((most - 8..=most + 8).contains(&sent), "{purpose:?}: {sent}");
    }
}

#[test]
fn repetitions_by_the_kernel_count() {
    let sent = Attack::new().run(one, Purpose::First, 7, LONG);
    // Those that are under way before the first ones end.
    let most = u64::from(NAMED + RESERVED + 8 * 7) * 8 + 9 * LONG;
    assert!(sent <= most, "{sent}");
}

#[test]
fn all_networks_together_get_little_more() {
    let sent = Attack::new().run(many, Purpose::First, 0, LONG);
    let most = u64::from(PUBLIC) + 129 * LONG;
    assert!(sent <= most, "{sent}");
}

#[test]
fn a_lan_is_not_flooded() {
    let sent = Attack::new().run(neighbour, Purpose::First, 0, LONG);
    assert!(sent <= u64::from(NAMED) + 8 * LONG + 8, "{sent}");
}

#[test]
fn what_is_wasted_keeps_nobody_else_out() {
    let mut attack = Attack::new();
    for purpose in [Purpose::Guess, Purpose::Again] {
        attack.run(many, purpose, 0, 60);
    }
    // The kernel repeats guesses, whatever there is left for it.
    attack.run(many, Purpose::Guess, 7, 20);
    let Attack { mut allowance, now } = attack;
    let another = TargetNetwork::of([203, 0, 113, 5].into());
    let mut take =
        |network, purpose| allowance.take(Bill::new(network, purpose), purpose, false, now);
    assert!(take(another, Purpose::First));
    assert!(take(TargetNetwork::of(neighbour(1)), Purpose::Again));
    let guesses = (0..100).filter(|_| take(another, Purpose::Guess)).count();
    assert!(guesses < 20, "{guesses} of what is kept for the first SYNs");
}

#[test]
fn what_is_given_back_can_be_spent_again() {
    let mut allowance = Allowance::default();
    let now = Instant::now();
    let bill = Bill::new(TargetNetwork::of(one(0)), Purpose::Guess);
    let spend = |allowance: &mut Allowance| {
        let granted = (0..2 * GUESSED).filter(|_| allowance.take(bill, Purpose::Guess, true, now));
        u32::try_from(granted.count())
    };
    assert_eq!(spend(&mut allowance), Ok(GUESSED));
    let owed = |count| {
        let mut owed = Owed::default();
        (0..count).for_each(|_| owed.add(bill, Sent::Once, now));
        owed
    };
    allowance.give_back(bill, owed(640), now);
    assert_eq!(spend(&mut allowance), Ok(640));
    // Nobody is owed anything.
    allowance.give_back(bill, owed(2 * GUESSED), now);
    assert_eq!(spend(&mut allowance), Ok(GUESSED));
    // Half of it is paid off by itself.
    let later = now + NETWORK_INTERVAL * (GUESSED / 2);
    let old = owed(GUESSED);
    allowance.charge(bill, Sent::Repeatedly(GUESSED / 2), later);
    allowance.give_back(bill, old, later);
    let debt = allowance.toward[&bill];
    assert_eq!(
        debt.owed(later),
        NETWORK_INTERVAL * (GUESSED / 2),
        "what another one owes"
    );
}

/// The kernel repeats each SYN of a round after a second, and the next round begins behind that.
#[test]
fn the_largest_range_is_used_up_in_vain_and_once_more() {
    let ports = 3_200;
    let mut allowance = Allowance::default();
    let bill = Bill::new(TargetNetwork::of(one(0)), Purpose::Guess);
    let now = Instant::now();
    let mut round = |now| {
        let granted = (0..ports).filter(|_| allowance.take(bill, Purpose::Guess, false, now));
        let granted = granted.count();
        allowance.charge(bill, Sent::Repeatedly(ports), now);
        granted
    };
    let granted = [now, now + Duration::from_secs(2)].map(&mut round);
    assert_eq!(granted, [3_200, 3_200]);
    assert!(round(now + Duration::from_secs(4)) < 100, "a third time");
}

#[test]
fn an_ipv6_site_is_one_network() {
    let network = |text: &str| TargetNetwork::of(text.parse().expect("an address"));
    assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:ffff::9"));
    assert_ne!(network("2001:db8:1:2::3"), network("2001:db8:2:2::3"));
}

#[test]
fn an_ipv4_network_is_one_in_whatever_form_its_addresses_are_named() {
    let network = |text: &str| TargetNetwork::of(text.parse().expect("an address"));
    for form in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::1"] {
        assert_eq!(network(form), network("192.0.2.9"), "{form}");
    }
    assert_ne!(
        network("64:ff9b::192.0.2.1"),
        network("64:ff9b::198.51.100.1")
    );
}

#[test]
fn the_table_has_an_end() {
    let mut allowance = Allowance::default();
    let mut now = Instant::now();
    let mut take = |n: usize, now| {
        allowance.total = Total::default();
        let bill = Bill::new(TargetNetwork::of(many(n as u64)), Purpose::First);
        let is_granted = allowance.take(bill, Purpose::First, true, now);
        assert!(allowance.toward.len() <= MAX_NETWORKS);
        is_granted
    };
    let granted = (0..2 * MAX_NETWORKS).filter(|n| take(*n, now)).count();
    assert_eq!(granted, MAX_NETWORKS);
    now += PRUNE_EVERY;
    assert!(take(2 * MAX_NETWORKS, now), "what is paid off is forgotten");
}
