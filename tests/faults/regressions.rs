//! Schedules that have broken something.

use crate::schedule::{
    Link, Peer,
    Policy::Anyone,
    Schedule, Step,
    Trouble::{Bursts, Jitter, Reordering},
    What::{Crash, Cut, Dial, Move, Reboot, ServerRestart, StunRestart, Trouble},
};

/// Returns all of them, the oldest first.
pub(crate) fn all() -> Vec<Schedule> {
    vec![
        ports_of_a_former_address(),
        counted_out_of_order(),
        answer_to_a_former_address(),
        block_of_ports_for_one_peer(),
        guesses_that_are_repeated(),
        other_port_seen_before(),
        questions_without_an_answer(),
    ]
}

/// A NAT that keeps ports has sessions of the peer's former address. What the peer guessed
/// meanwhile are closed holes later, just where the other one's NAT counts on to.
fn ports_of_a_former_address() -> Schedule {
    Schedule::of(
        426,
        &[peer("public"), peer("filters nothing"), peer("next port²")],
        &[
            Step {
                at_us: 5_309_100,
                what: Move {
                    peer: 1,
                    gap_ms: 3000,
                },
            },
            dial(5_590_451, 1, 2),
        ],
    )
}

/// A peer finds out how its NAT counts while its packets come out of order.
fn counted_out_of_order() -> Schedule {
    Schedule::of(
        670,
        &[peer("keeps ports, drops"), peer("next port²")],
        &[
            Step {
                at_us: 4_174_639,
                what: Trouble {
                    link: Link::Inside(1),
                    trouble: Reordering(400),
                    for_ms: 6024,
                },
            },
            Step {
                at_us: 5_301_720,
                what: Crash {
                    peer: 1,
                    down_ms: 319,
                    back: Anyone,
                },
            },
        ],
    )
}

/// The dialler's NAT forgets the connection just when the callee has taken it: what the dialler
/// sends again is answered by a reset, as if the callee had taken nothing.
fn answer_to_a_former_address() -> Schedule {
    let far = Peer {
        delay_ms: 60,
        ..peer("filters nothing")
    };
    let reboot = |at_us, peer, moves| Step {
        at_us,
        what: Reboot {
            peer,
            is_outermost: true,
            moves,
        },
    };
    Schedule::of(
        2863,
        &[peer("public"), peer("next port²"), far],
        &[
            dial(5_806_822, 1, 2),
            reboot(6_069_757, 1, true),
            reboot(7_632_911, 2, false),
        ],
    )
}

/// A peer has dialled others, and goes on telling of a block of ports that it has used since.
fn block_of_ports_for_one_peer() -> Schedule {
    let far = Peer {
        delay_ms: 150,
        ..peer("next port²")
    };
    let asa = peer("cisco-asa");
    Schedule::of(
        2521,
        &[peer("public"), far, peer("keeps ports, drops"), asa],
        &[],
    )
}

/// What the kernel repeats of guesses for one peer uses up what is kept for others.
fn guesses_that_are_repeated() -> Schedule {
    let far = Peer {
        delay_ms: 60,
        ..peer("keeps ports, drops")
    };
    Schedule::of(
        2503,
        &[peer("linux-masquerade"), peer("random of all²"), far],
        &[
            dial(856_620, 1, 2),
            Step {
                at_us: 1_099_232,
                what: Cut {
                    link: Link::Access(1),
                    for_ms: 24_363,
                },
            },
            Step {
                at_us: 9_812_136,
                what: StunRestart { down_ms: 8 },
            },
        ],
    )
}

/// The server restarts, and a NAT begins anew for one punch port after the other.
fn other_port_seen_before() -> Schedule {
    let far = |nat| Peer {
        delay_ms: 150,
        ..peer(nat)
    };
    let troubled = |at_us, link, trouble, for_ms| Step {
        at_us,
        what: Trouble {
            link,
            trouble,
            for_ms,
        },
    };
    Schedule::of(
        512,
        &[
            peer("random ports¹"),
            far("filters nothing"),
            far("keeps ports, RST"),
            far("juniper-cgn"),
        ],
        &[
            restart(2_372_032, true, 1853),
            Step {
                at_us: 3_617_212,
                what: Move {
                    peer: 1,
                    gap_ms: 3000,
                },
            },
            troubled(4_071_997, Link::Access(3), Jitter(50), 3480),
            dial(4_077_247, 1, 0),
            troubled(4_200_911, Link::Server, Bursts(5), 5021),
        ],
    )
}

/// A peer comes to a network while no server answers which ports new connections get.
fn questions_without_an_answer() -> Schedule {
    Schedule::of(
        1633,
        &[peer("next port²"), peer("keeps ports, drops")],
        &[
            Step {
                at_us: 6_037_587,
                what: StunRestart { down_ms: 21_543 },
            },
            restart(6_193_924, false, 2599),
            Step {
                at_us: 8_828_730,
                what: Move {
                    peer: 0,
                    gap_ms: 3000,
                },
            },
        ],
    )
}

/// Returns a dial without anything special.
const fn dial(at_us: u64, from: usize, to: usize) -> Step {
    let what = Dial {
        from,
        to,
        limit_ms: 15_000,
        patience_ms: None,
    };
    Step { at_us, what }
}

/// Returns a restart of the server.
const fn restart(at_us: u64, is_polite: bool, down_ms: u64) -> Step {
    let what = ServerRestart { is_polite, down_ms };
    Step { at_us, what }
}

/// Returns a peer that is like most but for its NAT.
const fn peer(nat: &'static str) -> Peer {
    Peer {
        nat,
        delay_ms: 20,
        policy: Anyone,
    }
}
