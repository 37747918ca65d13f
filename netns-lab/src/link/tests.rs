//! Properties of links.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// The length of every packet where a test does not care.
const LENGTH: usize = 100;

/// Returns what becomes of packets that enter one after the other.
fn crossings(spec: LinkSpec, seed: u64, packets: u32, gap: Duration) -> Vec<Crossing> {
    let mut link = Link::new(spec, seed);
    (0..packets).map(|n| link.carry(gap * n, LENGTH)).collect()
}

fn exit(crossing: Crossing) -> Option<Duration> {
    match crossing {
        Crossing::Exits { at, .. } => Some(at),
        Crossing::Lost(_) => None,
    }
}

/// Returns when packets leave that enter one after the other.
fn carry_all(spec: LinkSpec, seed: u64, packets: u32, gap: Duration) -> Vec<Option<Duration>> {
    crossings(spec, seed, packets, gap)
        .into_iter()
        .map(exit)
        .collect()
}

#[test]
fn delay_is_exact() {
    let exits = carry_all(LinkSpec::delay(20 * MS), 1, 100, MS);
    for (n, exit) in (0..).zip(exits) {
        assert_eq!(exit, Some(MS * n + 20 * MS));
    }
}

#[test]
fn loss_comes_near_its_probability() {
    for (loss, seed) in [(0.01, 3), (0.1, 4), (0.5, 5), (0.0, 6), (1.0, 7)] {
        let exits = carry_all(LinkSpec::default().loss(loss), seed, 100_000, MS);
        let lost = exits.iter().filter(|exit| exit.is_none()).count() as f64 / 100_000.0;
        // Five standard deviations of the widest case are 0.008.
        assert!(
            (lost - loss).abs() < 0.008,
            "seed {seed}: asked {loss}, lost {lost}"
        );
    }
}

#[test]
fn bursts_are_as_frequent_and_as_long_as_asked_for() {
    for (enter, leave, loss, seed) in [
        (0.01, 0.25, 1.0, 3),
        (0.05, 0.1, 0.5, 4),
        (0.0, 0.5, 1.0, 5),
        (2.0, -1.0, 1.0, 6),
    ] {
        let bursts = BurstLoss { enter, leave, loss };
        let spec = LinkSpec::default().burst_loss(bursts);
        let lost: Vec<_> = carry_all(spec, seed, 200_000, MS)
            .iter()
            .map(Option::is_none)
            .collect();
        let total = lost.iter().filter(|lost| **lost).count() as f64;
        let share = total / 200_000.0;
        let (enter, leave) = (enter.clamp(0.0, 1.0), leave.clamp(0.0, 1.0));
        let expected = loss * enter / (enter + leave);
        // Neighbours go together, so that this is some five standard deviations.
        assert!((share - expected).abs() < 0.02, "seed {seed}: {share}");
        if loss == 1.0 && leave > 0.0 && total > 0.0 {
            let ends = lost.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
            let length = total / ends;
            assert!((length * leave - 1.0).abs() < 0.1, "seed {seed}: {length}");
        }
    }
}

#[test]
fn an_outage_loses_what_enters_in_it() {
    let spec = LinkSpec::delay(20 * MS).outage(10 * MS, 30 * MS);
    for (n, exit) in (0..).zip(carry_all(spec, 1, 100, MS)) {
        let expected = (!(10..30).contains(&n)).then_some(MS * n + 20 * MS);
        assert_eq!(exit, expected, "{n}");
    }
}

#[test]
fn reordering_happens_only_when_asked_for() {
    let jittery = LinkSpec::delay(MS).jitter(10 * MS);
    assert!(carry_all(jittery, 9, 1000, MS).is_sorted());
    assert!(!carry_all(jittery.reordering(), 9, 1000, MS).is_sorted());
}

#[test]
fn copies_come_near_their_probability_and_right_behind() {
    for (asked, seed) in [(0.01, 3), (0.1, 4), (0.5, 5), (0.0, 6), (1.0, 7)] {
        let spec = LinkSpec::delay(MS).jitter(MS).duplicating(asked);
        let mut copies = 0.0;
        for crossing in crossings(spec, seed, 100_000, MS) {
            let Crossing::Exits { at, duplicate } = crossing else {
                panic!("{crossing:?}");
            };
            if let Some(copy) = duplicate {
                assert_eq!(copy, at);
                copies += 1.0 / 100_000.0;
            }
        }
        // Five standard deviations of the widest case are 0.008.
        assert!((asked - copies).abs() < 0.008, "seed {seed}: {copies}");
    }
}

#[test]
fn a_link_that_reorders_separates_copies() {
    let spec = LinkSpec::delay(MS).jitter(MS).reordering().duplicating(1.0);
    let mut before = 0;
    for crossing in crossings(spec, 5, 1000, MS) {
        let Crossing::Exits { at, duplicate } = crossing else {
            panic!("{crossing:?}");
        };
        before += u32::from(duplicate.is_some_and(|copy| copy < at));
    }
    // Half of them; eight standard deviations around it.
    assert!((375..625).contains(&before), "{before}");
}

#[test]
fn only_a_packet_longer_than_the_mtu_is_lost() {
    let mut link = Link::new(LinkSpec::delay(MS).mtu(1400), 1);
    for bytes in [0, 20, 1400] {
        assert!(exit(link.carry(MS, bytes)).is_some(), "{bytes}");
    }
    for bytes in [1401, 1500, 65_536 + 1400, usize::MAX] {
        let loss = Loss::TooLong { mtu: 1400 };
        assert_eq!(link.carry(MS, bytes), Crossing::Lost(loss), "{bytes}");
    }
}

#[test]
fn a_link_that_is_down_loses_what_enters() {
    let mut link = Link::new(LinkSpec::delay(20 * MS), 1);
    assert_eq!(exit(link.carry(MS, LENGTH)), Some(21 * MS));
    link.set_up(false);
    assert_eq!(link.carry(2 * MS, LENGTH), Crossing::Lost(Loss::Down));
    link.set_up(true);
    assert_eq!(exit(link.carry(3 * MS, LENGTH)), Some(23 * MS));
}

#[test]
fn latency_under_load_is_the_queue_divided_by_the_rate() {
    // Ten packets of 100 bytes at 1 ms each; twice as much is offered.
    let spec = LinkSpec::delay(5 * MS).rate(800_000, 1000);
    let sent = crossings(spec, 1, 1000, MS / 2);
    let lost = Crossing::Lost(Loss::QueueFull);
    for (n, crossing) in (0..).zip(&sent).skip(20) {
        if let Some(at) = exit(*crossing) {
            let latency = at - MS / 2 * n - 5 * MS;
            assert!((9 * MS..=10 * MS).contains(&latency), "{n}: {latency:?}");
        } else {
            assert_eq!(*crossing, lost);
        }
    }
    let share = sent.iter().filter(|crossing| **crossing == lost).count();
    // Half of them, but for what the queue still holds at the end.
    assert!((480..=500).contains(&share), "{share}");
}

#[test]
fn every_loss_says_why() {
    let certain = LinkSpec::default().loss(1.0);
    let bursts = BurstLoss {
        enter: 1.0,
        leave: 0.0,
        loss: 1.0,
    };
    for (spec, text) in [
        (certain, "lost on the link"),
        (
            LinkSpec::default().burst_loss(bursts),
            "lost on the link (burst)",
        ),
        (
            LinkSpec::default().mtu(68),
            "lost on the link (longer than its MTU of 68)",
        ),
        (
            LinkSpec::default().outage(Duration::ZERO, MS),
            "lost on the link (down)",
        ),
        (certain.rate(1, 0), "lost on the link (queue full)"),
    ] {
        let mut link = Link::new(spec, 1);
        let mut last = link.carry(Duration::ZERO, LENGTH);
        if spec.rate.is_some() {
            last = link.carry(Duration::ZERO, LENGTH);
        }
        let Crossing::Lost(loss) = last else {
            panic!("{last:?}");
        };
        assert_eq!(loss.to_string(), text);
    }
}

/// A link with every knob turned.
fn any_link() -> impl Strategy<Value = LinkSpec> {
    let probability = || 0.0..0.6;
    (
        (0u32..50, probability(), probability(), any::<bool>()),
        (probability(), probability(), 1u64..10_000_000, 0u32..5000),
    )
        .prop_map(
            |((jitter, loss, copies, reorders), (enter, leave, rate, queue))| {
                let bursts = BurstLoss { enter, leave, loss };
                let spec = LinkSpec::delay(5 * MS).jitter(jitter * MS).loss(loss);
                let spec = spec
                    .burst_loss(bursts)
                    .duplicating(copies)
                    .rate(rate, queue);
                let spec = spec.mtu(1400).outage(20 * MS, 40 * MS);
                if reorders { spec.reordering() } else { spec }
            },
        )
}

proptest! {
    #[test]
    fn the_seed_decides_everything(seed: u64, loss in 0.0..1.0, jitter in 0u32..50) {
        let spec = LinkSpec::delay(5 * MS).jitter(jitter * MS).loss(loss);
        prop_assert_eq!(carry_all(spec, seed, 200, MS), carry_all(spec, seed, 200, MS));
    }

    #[test]
    fn delay_and_order_are_kept(seed: u64, jitter in 0u32..50, gap_us in 0u64..5000) {
        let spec = LinkSpec::delay(5 * MS).jitter(jitter * MS);
        let gap = Duration::from_micros(gap_us);
        let exits = carry_all(spec, seed, 200, gap);
        prop_assert!(exits.is_sorted());
        let latest_so_far = exits.iter().flatten().max().copied().unwrap_or_default();
        for (n, exit) in (0..).zip(&exits) {
            let taken = exit.expect("nothing is lost without loss") - gap * n;
            prop_assert!(taken >= 5 * MS);
            prop_assert!(gap * n + taken <= latest_so_far);
            // Behind a delayed packet a queue waits, but never beyond the most jitter.
            prop_assert!(taken <= 5 * MS + jitter * MS);
        }
    }

    #[test]
    fn loss_does_not_change_the_delay_of_the_others(seed: u64, loss in 0.0..1.0) {
        let spec = LinkSpec::delay(MS).jitter(9 * MS).reordering();
        let without = carry_all(spec, seed, 100, MS);
        let bursts = BurstLoss { enter: loss, leave: 0.3, loss: 0.9 };
        for lossy in [
            spec.loss(loss),
            spec.burst_loss(bursts),
            spec.outage(9 * MS, 40 * MS),
        ] {
            for (kept, sent) in carry_all(lossy, seed, 100, MS).iter().zip(&without) {
                prop_assert!(kept.is_none() || kept == sent);
            }
        }
    }

    #[test]
    fn the_seed_decides_bursts(seed: u64, enter in 0.0..1.0, leave in 0.0..1.0) {
        let bursts = BurstLoss { enter, leave, loss: 0.7 };
        let spec = LinkSpec::delay(MS).jitter(MS).burst_loss(bursts);
        prop_assert_eq!(carry_all(spec, seed, 200, MS), carry_all(spec, seed, 200, MS));
    }

    #[test]
    fn the_seed_decides_all_knobs_at_once(spec in any_link(), seed: u64) {
        prop_assert_eq!(crossings(spec, seed, 200, MS), crossings(spec, seed, 200, MS));
    }

    #[test]
    fn whatever_a_link_does_it_keeps_the_order_and_takes_its_time(
        spec in any_link(),
        seed: u64,
        packets in proptest::collection::vec((0usize..1600, 0u64..5000), 1..200),
    ) {
        let mut link = Link::new(spec, seed);
        let mut now = Duration::ZERO;
        let mut last = Duration::ZERO;
        for (bytes, gap) in packets {
            now += Duration::from_micros(gap);
            let Crossing::Exits { at, duplicate } = link.carry(now, bytes) else {
                continue;
            };
            let rate = spec.rate.map_or(1, |rate| rate.bits_per_second);
            let least = Duration::from_nanos(bytes as u64 * 8_000_000_000 / rate) + 5 * MS;
            for exit in [Some(at), duplicate].into_iter().flatten() {
                prop_assert!(exit >= now + least);
                prop_assert!(spec.reorders || exit >= last);
                last = exit;
            }
        }
    }

    #[test]
    fn chance_changes_nothing_for_what_it_spares(
        seed: u64, probability in 0.0..1.0, rate in 100_000u64..10_000_000,
    ) {
        // With a queue: a packet that is lost has taken its time in it.
        let spec = LinkSpec::delay(MS).jitter(9 * MS).reordering().rate(rate, 700);
        let without = crossings(spec, seed, 100, MS);
        let bursts = BurstLoss { enter: probability, leave: 0.3, loss: 0.9 };
        for turned in [spec.loss(probability), spec.burst_loss(bursts), spec.duplicating(probability)] {
            for (kept, sent) in crossings(turned, seed, 100, MS).into_iter().zip(&without) {
                let chance = [Loss::Random, Loss::Burst].map(Crossing::Lost);
                prop_assert!(chance.contains(&kept) || exit(kept) == exit(*sent));
            }
        }
    }

    #[test]
    fn a_rate_or_an_mtu_or_being_down_draws_no_other_fates(seed: u64) {
        let spec = LinkSpec::default().loss(0.3).duplicating(0.3);
        let without = crossings(spec, seed, 100, MS);
        let mut link = Link::new(spec.rate(1_000_000, 10_000).mtu(1400), seed);
        for (n, sent) in (0..).zip(&without) {
            link.set_up(n % 3 > 0);
            let bytes = if n % 3 == 1 { 1401 } else { LENGTH };
            let crossing = link.carry(MS * n, bytes);
            if n % 3 == 2 {
                let copied = |crossing| matches!(crossing, Crossing::Exits { duplicate: Some(_), .. });
                prop_assert_eq!(exit(crossing).is_some(), exit(*sent).is_some());
                prop_assert_eq!(copied(crossing), copied(*sent));
            }
        }
    }
}
