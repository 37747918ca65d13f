//! Each pair of kinds of NAT that can be connected.

use std::time::Duration;

use netns_lab::TestRun;
use p2pconnect_tests::{
    kinds::{self, Kind, *},
    net::Net,
};

/// How many fresh processes dial in each direction.
const RUNS: usize = 20;

/// The same where ports have to be predicted or guessed, which takes two introductions.
const HARD_RUNS: usize = 5;

/// A pair's forty dials take twenty seconds; this allows for a machine that does much else.
const LIMIT: Duration = Duration::from_secs(300);

/// Dials in both directions, and asserts that every dial connects.
fn connects(a: Kind, b: Kind) {
    TestRun::new().limit(LIMIT).run(|| {
        assert!(kinds::connects(a, b), "the oracle and the README say no");
        assert!(!fills(a, b), "no second dial is possible soon");
        let net = Net::new(a.boxes, b.boxes);
        let (id_a, id_b) = (net.id("a"), net.id("b"));
        let _listeners = [net.listen("a"), net.listen("b")];
        let is_hard = |kind: &Kind| kind.row == a.row;
        let hard = [COUNTS, BLOCK, RANDOM_PER_DESTINATION];
        let runs = if hard.iter().any(is_hard) {
            HARD_RUNS
        } else {
            RUNS
        };
        for run in 1..=runs {
            net.dial_echo("a", &id_b, &format!("run {run}, a to b"));
            net.dial_echo("b", &id_a, &format!("run {run}, b to a"));
        }
        net.finish();
    });
}

macro_rules! pairs {
    ($($name:ident: $a:ident, $b:ident;)*) => {
        $(#[test]
        fn $name() {
            connects($a, $b);
        })*
    };
}

pairs! {
    public_and_public: PUBLIC, PUBLIC;
    public_and_firewall: PUBLIC, FIREWALL;
    public_and_drops: PUBLIC, DROPS;
    public_and_resets: PUBLIC, RESETS;
    public_and_sends_icmp: PUBLIC, SENDS_ICMP;
    public_and_random_port: PUBLIC, RANDOM_PORT;
    public_and_filters_nothing: PUBLIC, FILTERS_NOTHING;
    public_and_two_layers: PUBLIC, TWO_LAYERS;
    firewall_and_firewall: FIREWALL, FIREWALL;
    firewall_and_drops: FIREWALL, DROPS;
    firewall_and_resets: FIREWALL, RESETS;
    firewall_and_sends_icmp: FIREWALL, SENDS_ICMP;
    firewall_and_random_port: FIREWALL, RANDOM_PORT;
    firewall_and_filters_nothing: FIREWALL, FILTERS_NOTHING;
    firewall_and_two_layers: FIREWALL, TWO_LAYERS;
    drops_and_drops: DROPS, DROPS;
    drops_and_resets: DROPS, RESETS;
    drops_and_sends_icmp: DROPS, SENDS_ICMP;
    drops_and_random_port: DROPS, RANDOM_PORT;
    drops_and_filters_nothing: DROPS, FILTERS_NOTHING;
    drops_and_two_layers: DROPS, TWO_LAYERS;
    resets_and_resets: RESETS, RESETS;
    resets_and_sends_icmp: RESETS, SENDS_ICMP;
    resets_and_random_port: RESETS, RANDOM_PORT;
    resets_and_filters_nothing: RESETS, FILTERS_NOTHING;
    resets_and_two_layers: RESETS, TWO_LAYERS;
    sends_icmp_and_sends_icmp: SENDS_ICMP, SENDS_ICMP;
    sends_icmp_and_random_port: SENDS_ICMP, RANDOM_PORT;
    sends_icmp_and_filters_nothing: SENDS_ICMP, FILTERS_NOTHING;
    sends_icmp_and_two_layers: SENDS_ICMP, TWO_LAYERS;
    random_port_and_random_port: RANDOM_PORT, RANDOM_PORT;
    random_port_and_filters_nothing: RANDOM_PORT, FILTERS_NOTHING;
    random_port_and_two_layers: RANDOM_PORT, TWO_LAYERS;
    filters_nothing_and_filters_nothing: FILTERS_NOTHING, FILTERS_NOTHING;
    filters_nothing_and_two_layers: FILTERS_NOTHING, TWO_LAYERS;
    two_layers_and_two_layers: TWO_LAYERS, TWO_LAYERS;
    counts_and_public: COUNTS, PUBLIC;
    counts_and_firewall: COUNTS, FIREWALL;
    counts_and_drops: COUNTS, DROPS;
    counts_and_resets: COUNTS, RESETS;
    counts_and_sends_icmp: COUNTS, SENDS_ICMP;
    counts_and_random_port: COUNTS, RANDOM_PORT;
    counts_and_filters_nothing: COUNTS, FILTERS_NOTHING;
    counts_and_two_layers: COUNTS, TWO_LAYERS;
    counts_and_counts: COUNTS, COUNTS;
    block_and_public: BLOCK, PUBLIC;
    block_and_firewall: BLOCK, FIREWALL;
    block_and_drops: BLOCK, DROPS;
    block_and_resets: BLOCK, RESETS;
    block_and_sends_icmp: BLOCK, SENDS_ICMP;
    block_and_random_port: BLOCK, RANDOM_PORT;
    block_and_filters_nothing: BLOCK, FILTERS_NOTHING;
    block_and_two_layers: BLOCK, TWO_LAYERS;
    random_and_public: RANDOM_PER_DESTINATION, PUBLIC;
    random_and_firewall: RANDOM_PER_DESTINATION, FIREWALL;
    random_and_drops: RANDOM_PER_DESTINATION, DROPS;
    random_and_resets: RANDOM_PER_DESTINATION, RESETS;
    random_and_sends_icmp: RANDOM_PER_DESTINATION, SENDS_ICMP;
    random_and_random_port: RANDOM_PER_DESTINATION, RANDOM_PORT;
    random_and_filters_nothing: RANDOM_PER_DESTINATION, FILTERS_NOTHING;
    random_and_two_layers: RANDOM_PER_DESTINATION, TWO_LAYERS;
}
