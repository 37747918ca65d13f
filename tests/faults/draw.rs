//! Draws a schedule from a seed.

use netns_lab::preset;
use p2pconnect_tests::kinds::{self, BLOCK, COUNTS, Kind, RANDOM_PER_DESTINATION};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::schedule::{Link, Peer, Policy, Schedule, Step, Trouble, What};

/// Until when something begins.
const HORIZON_MS: u64 = 10_000;

/// Within how much time after a dial faults are drawn that are to meet it.
const CLOSE_MS: u64 = 700;

/// Draws a schedule.
pub(crate) fn draw(seed: u64) -> Schedule {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = rng.random_range(2..=4);
    let mut drawer = Drawer {
        rng,
        count,
        dials: Vec::new(),
        steps: Vec::new(),
    };
    let peers = (0..count).map(|_| drawer.peer()).collect();
    drawer.dials();
    for _ in 0..drawer.rng.random_range(1..=6) {
        let fault = drawer.fault();
        drawer.steps.push(fault);
    }
    let mut steps = drawer.steps;
    steps.sort_by_key(|step| step.at_us);
    Schedule { seed, peers, steps }
}

struct Drawer {
    rng: ChaCha8Rng,
    /// How many peers there are.
    count: usize,
    /// When dials begin, in microseconds.
    dials: Vec<u64>,
    steps: Vec<Step>,
}

impl Drawer {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).expect("there is one")
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn peer(&mut self) -> Peer {
        Peer {
            nat: self.nat(),
            delay_ms: self.one(&[1, 5, 20, 20, 20, 60, 150]),
            policy: self.policy(),
        }
    }

    /// Draws what a peer is behind: one of the kinds of the README's table, or a preset.
    fn nat(&mut self) -> &'static str {
        match self.rng.random_range(0..100) {
            0..6 => COUNTS.column,
            6..9 => BLOCK.column,
            9..12 => RANDOM_PER_DESTINATION.column,
            12..75 => {
                let is_usual = |kind: &&Kind| {
                    let guessed = [COUNTS, BLOCK, RANDOM_PER_DESTINATION];
                    guessed.iter().all(|it| it.column != kind.column)
                };
                let usual: Vec<_> = kinds::ALL.iter().filter(is_usual).collect();
                self.one(&usual).column
            }
            _ => {
                let presets: Vec<_> = preset::all().iter().collect();
                self.one(&presets).name
            }
        }
    }

    fn policy(&mut self) -> Policy {
        match self.rng.random_range(0..10) {
            0..6 => Policy::Anyone,
            6 => Policy::Nobody,
            _ => Policy::Only(self.rng.random_range(0..1 << self.count)),
        }
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.count)
    }

    fn two(&mut self) -> [usize; 2] {
        let one = self.any();
        let other = (one + self.rng.random_range(1..self.count)) % self.count;
        [one, other]
    }

    fn dials(&mut self) {
        for _ in 0..self.rng.random_range(1..=5) {
            let [from, to] = self.two();
            let at_us = self.rng.random_range(300_000..HORIZON_MS * 1000);
            self.dial(from, to, at_us);
            if self.happens(30) {
                // The other one dials at the same moment, or so.
                let later = self.one(&[0, 1_000, 10_000, 80_000, 500_000]);
                let later = self.rng.random_range(0..=later);
                self.dial(to, from, at_us + later);
            }
        }
    }

    fn dial(&mut self, from: usize, to: usize, at_us: u64) {
        let limit_ms = match self.happens(20) {
            true => self.rng.random_range(100..5_000),
            false => 15_000,
        };
        let patience_ms = self
            .happens(15)
            .then(|| self.rng.random_range(0..limit_ms.min(2_000)));
        let what = What::Dial {
            from,
            to,
            limit_ms,
            patience_ms,
        };
        self.dials.push(at_us);
        self.steps.push(Step { at_us, what });
    }

    /// Draws a fault, at any time or soon after a dial has begun.
    fn fault(&mut self) -> Step {
        let at_us = if self.happens(60) {
            let dials = self.dials.clone();
            self.one(&dials) + self.rng.random_range(0..CLOSE_MS * 1000)
        } else {
            self.rng.random_range(0..HORIZON_MS * 1000)
        };
        let peer = self.any();
        let what = match self.rng.random_range(0..100) {
            0..14 => What::Crash {
                peer,
                down_ms: self.pause(),
                back: self.policy(),
            },
            14..24 => What::Exit {
                peer,
                is_polite: self.happens(50),
                down_ms: self.pause(),
                back: self.policy(),
            },
            24..34 => What::Move {
                peer,
                gap_ms: self.one(&[0, 0, 200, 3_000]),
            },
            34..46 => What::Reboot {
                peer,
                is_outermost: self.happens(80),
                moves: self.happens(60),
            },
            46..60 => What::Cut {
                link: self.link(),
                for_ms: self.pause(),
            },
            60..78 => What::Trouble {
                link: self.link(),
                trouble: self.trouble(),
                for_ms: self.rng.random_range(100..8_000),
            },
            78..88 => What::ServerRestart {
                is_polite: self.happens(40),
                down_ms: self.pause(),
            },
            88..95 => What::StunRestart {
                down_ms: self.pause(),
            },
            _ => What::Calendar {
                ahead_s: self.one(&[-400_000_000, -3600, -5, 5, 3600, 400_000_000]),
            },
        };
        Step { at_us, what }
    }

    /// Draws how long something is gone, mostly for a moment.
    fn pause(&mut self) -> u64 {
        let most = self.one(&[50, 500, 3_000, 12_000, 40_000]);
        self.rng.random_range(0..most)
    }

    fn link(&mut self) -> Link {
        let peer = self.any();
        match self.rng.random_range(0..10) {
            0..3 => Link::Server,
            3..8 => Link::Access(peer),
            _ => Link::Inside(peer),
        }
    }

    fn trouble(&mut self) -> Trouble {
        match self.rng.random_range(0..5) {
            0 => Trouble::Loss(self.one(&[3, 10, 30, 60])),
            1 => Trouble::Bursts(self.one(&[2, 5, 20])),
            2 => Trouble::Jitter(self.one(&[5, 50, 400])),
            3 => Trouble::Reordering(self.one(&[5, 50, 400])),
            _ => Trouble::Duplicates(self.one(&[10, 50, 100])),
        }
    }
}
