//! The order of SYNs that the oracle asks for, against all orders.

use netns_lab::{
    NatSpec, RstEffect, SimultaneousOpen, UnsolicitedSyn,
    oracle::{Outcome, Timing, punchable},
};

use crate::puncher::{Order, Plan, Strategy, punch};

/// What a reset does, and whether connections are picked up afterwards.
const EFFECTS: [(RstEffect, bool); 4] = [
    (RstEffect::Closes, false),
    (RstEffect::Closes, true),
    (RstEffect::Transitory, false),
    (RstEffect::Ignored, false),
];

/// Returns home routers that differ in what matters for the order.
fn routers() -> Vec<NatSpec> {
    let mut routers = Vec::new();
    for unsolicited in [
        UnsolicitedSyn::Nothing,
        UnsolicitedSyn::Rst,
        UnsolicitedSyn::IcmpPortUnreachable,
    ] {
        for simultaneous_open in [
            SimultaneousOpen::Allowed,
            SimultaneousOpen::Dropped,
            SimultaneousOpen::Reset,
        ] {
            for (rst, pickup) in EFFECTS {
                routers.push(NatSpec {
                    unsolicited,
                    simultaneous_open,
                    rst,
                    pickup,
                    ..NatSpec::port_preserving()
                });
            }
        }
    }
    routers
}

/// Returns whether both dialling in an order works, with second tries if that is what it takes.
fn works(chains: [&[NatSpec]; 2], order: Order, tries: &[[bool; 2]]) -> bool {
    tries.iter().any(|&redial| {
        let plan = Plan::Both;
        let strategy = Strategy {
            plan,
            order,
            redial,
        };
        punch(chains, [true; 2], strategy, 3)
    })
}

#[test]
fn the_order_asked_for_works_and_others_fail() {
    let routers = routers();
    assert_eq!(routers.len(), 36);
    let mut wrong = Vec::new();
    for (index, a) in routers.iter().enumerate() {
        for b in &routers[index..] {
            wrong.extend(check(a, b));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Returns what is wrong, if anything.
fn check(a: &NatSpec, b: &NatSpec) -> Option<String> {
    let chains = [&[*a][..], &[*b][..]];
    let said = punchable(chains[0], chains[1]);
    let Outcome::Certain { timing, .. } = said.outcome else {
        return None;
    };
    let first = [Order::First(0), Order::Crossing, Order::First(1)];
    let once = first.map(|order| works(chains, order, &[[false; 2]]));
    if once == [false; 3] {
        // It takes a program that dials again.
        let tries = [[true; 2], [true, false], [false, true]];
        let order = match timing {
            Timing::AFirst | Timing::Any => Order::First(0),
            Timing::BFirst => Order::First(1),
            Timing::CrossingSyns => Order::Crossing,
        };
        let fault = || brief(a, b, &format!("{order:?} fails: {said}"));
        return (!works(chains, order, &tries)).then(fault);
    }
    let expected = match once {
        [true, true, true] => Some(Timing::Any),
        [true, _, _] => Some(Timing::AFirst),
        [_, _, true] => Some(Timing::BFirst),
        [_, true, _] => Some(Timing::CrossingSyns),
        [false, false, false] => None,
    };
    let fault = || brief(a, b, &format!("{once:?}: {said}"));
    (Some(timing) != expected).then(fault)
}

fn brief(a: &NatSpec, b: &NatSpec, fault: &str) -> String {
    let [a, b] = [a, b].map(|spec| {
        format!(
            "{:?} {:?} {:?} {}",
            spec.unsolicited, spec.simultaneous_open, spec.rst, spec.pickup
        )
    });
    format!("{a} / {b}: {fault}")
}
