//! A matrix of the presets as a simple puncher finds it in virtual time, so that pages are tested
//! with what they will show.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use netns_lab::{
    LinkSpec, Translation,
    model::NatModel,
    preset::{self, Preset},
    report::{Cell, ColumnKind, Expected, Kind, Ladder, LadderPlace, Report, Series},
    virtual_time::{HostId, Opening, SocketId, SocketState, Uplink, World},
};

use crate::sample::MS;

const PORT: u16 = 4000;
/// When the punching starts: all that is asked of the server is known.
const START: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_millis(400);

/// Two hosts and a server.
struct Lab {
    world: World,
    places: Vec<LadderPlace>,
    ends: Vec<(HostId, SocketAddr)>,
    listener: SocketId,
}

impl Lab {
    fn new(kinds: [&Preset; 2], delays: [u32; 2], seed: u64) -> Self {
        let mut world = World::new(seed);
        let mut sides = Vec::new();
        for (side, (kind, delay)) in kinds.into_iter().zip(delays).enumerate() {
            let name = ["a", "b"][side];
            sides.push(home(&mut world, name, kind, MS * delay, side, seed));
        }
        let core = Uplink::core(LinkSpec::delay(10 * MS));
        let address: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
        let server = world.add_host("server", &[address], core).unwrap();
        let listener = world.listen(server, 80).unwrap();
        let mut places = Vec::new();
        let mut ends = Vec::new();
        let count = sides[0].0.len();
        for (side, (names, host, local)) in sides.into_iter().enumerate() {
            let names: Vec<_> = if side == 0 {
                names
            } else {
                // The core stands between the sides, and is above the first.
                places.push(place("core", ColumnKind::Core, None));
                names.into_iter().rev().collect()
            };
            let last = names.len() - 1;
            for (index, name) in names.into_iter().enumerate() {
                let is_host = index == if side == 0 { 0 } else { last };
                let kind = [ColumnKind::Nat, ColumnKind::Host][usize::from(is_host)];
                let own = places.len();
                let above = if side == 0 { own + 1 } else { own - 1 };
                places.push(place(&name, kind, Some(above)));
            }
            ends.push((host, local));
        }
        places.push(place("server", ColumnKind::Host, Some(count)));
        ends.push((server, SocketAddr::new(address, 80)));
        Self {
            world,
            places,
            ends,
            listener,
        }
    }

    /// Returns what the server sees of each host.
    fn observe(&mut self) -> [SocketAddr; 2] {
        let (_, service) = self.ends[2];
        [0, 1].map(|side| {
            let (host, local) = self.ends[side];
            self.world.connect(host, local, service).unwrap();
            let limit = self.world.now() + 180 * MS;
            self.world.run_until(limit, |_| false);
            self.world.accept(self.listener).unwrap().remote
        })
    }

    /// Connects both ways at about the same time, and again if that fails.
    fn punch(&mut self, seen: [SocketAddr; 2], late: Duration) -> Option<(Duration, Opening)> {
        for attempt in 0..3 {
            let start = START + PAUSE * attempt;
            // The second side is only late the first time.
            let late = if attempt == 0 { late } else { Duration::ZERO };
            let sockets: Vec<SocketId> = [0, 1]
                .into_iter()
                .filter_map(|side: usize| {
                    let at = start + late * u32::try_from(side).unwrap();
                    self.world.run_until(at, |_| false);
                    let (host, local) = self.ends[side];
                    self.world.connect(host, local, seen[1 - side]).ok()
                })
                .collect();
            let open = |world: &World, socket| world.opened(socket).ok().flatten();
            let limit = START + PAUSE * (attempt + 1) - MS;
            self.world.run_until(limit, |world| {
                let failed =
                    |socket: &SocketId| matches!(world.state(*socket), Ok(SocketState::Failed(_)));
                sockets.iter().all(|socket| open(world, *socket).is_some())
                    || sockets.iter().all(failed)
            });
            let opened: Vec<_> = sockets
                .iter()
                .filter_map(|socket| open(&self.world, *socket))
                .collect();
            if let [(how, first), (_, second)] = opened[..] {
                return Some((first.max(second) - START, how));
            }
            for socket in sockets {
                let _ended = self.world.abort(socket);
            }
        }
        None
    }
}

fn place(name: &str, kind: ColumnKind, above: Option<usize>) -> LadderPlace {
    let name = name.to_owned();
    LadderPlace { name, kind, above }
}

/// Returns the names from the host to its outermost NAT, and the host.
fn home(
    world: &mut World,
    name: &str,
    kind: &Preset,
    delay: Duration,
    side: usize,
    seed: u64,
) -> (Vec<String>, HostId, SocketAddr) {
    let digit = u8::try_from(side).unwrap() + 1;
    let mut names = Vec::new();
    let mut uplink = Uplink::core(LinkSpec::delay(delay));
    let mut address = Ipv4Addr::new(203, 0, 113, digit);
    for (depth, spec) in kind.specs().into_iter().enumerate().rev() {
        let nat = NatModel::new(
            spec,
            vec![address.into()],
            seed + 7 * depth as u64 + side as u64,
        );
        let name = if kind.layers.len() > 1 {
            format!("nat {name}{}", depth + 1)
        } else {
            format!("nat {name}")
        };
        let outside = [IpAddr::from(address).into()];
        let nat = world
            .add_middlebox(&name, Box::new(nat.unwrap()), &outside, uplink)
            .unwrap();
        names.insert(0, name);
        uplink = Uplink::behind(nat);
        address = if depth == 0 {
            Ipv4Addr::new(192, 168, 1, 2)
        } else {
            Ipv4Addr::new(100, 64, 0, digit)
        };
    }
    names.insert(0, name.to_owned());
    let host = world.add_host(name, &[address.into()], uplink).unwrap();
    (names, host, SocketAddr::new(address.into(), PORT))
}

fn kinds() -> Vec<&'static Preset> {
    let is_nat44 = |preset: &&Preset| {
        let specs = preset.specs();
        specs
            .iter()
            .all(|spec| spec.translation == Translation::Nat44)
    };
    preset::all().iter().filter(is_nat44).take(20).collect()
}

/// Returns a ladder of one run.
pub(crate) fn ladder(dialler: &str, listener: &str, delays: [u32; 2], late: u32) -> Ladder {
    let kinds = [dialler, listener].map(|name| preset::find(name).unwrap());
    let mut lab = Lab::new(kinds, delays, 3);
    let seen = lab.observe();
    lab.punch(seen, late * MS);
    let title = format!("{dialler} and {listener} punch");
    Ladder::from_log(&title, &lab.places, lab.world.log())
}

fn cell(dialler: usize, listener: usize, kinds: &[&Preset], seed: u64) -> Cell {
    let mut times = Vec::new();
    let mut how: BTreeMap<String, u32> = BTreeMap::new();
    let runs = 2;
    for run in 0..u64::from(runs) {
        let seed = seed + 100 * run;
        let delays = [dialler, listener].map(|kind| 5 + u32::try_from(kind * 13 % 40).unwrap());
        let mut lab = Lab::new([kinds[dialler], kinds[listener]], delays, seed);
        let seen = lab.observe();
        if let Some((time, opening)) = lab.punch(seen, Duration::ZERO) {
            times.push(time);
            *how.entry(format!("{opening:?}").to_lowercase())
                .or_default() += 1;
        }
    }
    times.sort_unstable();
    let successes = u32::try_from(times.len()).unwrap();
    // Stands in for the oracle: a few pairs are expected to connect that do not.
    let expected = match (successes, (dialler * 7 + listener * 3) % 11) {
        (0, 1..) => Expected::Impossible,
        (1, 3..) => Expected::Chance(0.5),
        _ => Expected::Certain,
    };
    Cell {
        dialler,
        listener,
        runs,
        successes,
        median: times.get(times.len() / 2).copied(),
        p95: None,
        worst: times.last().copied(),
        bound: None,
        gave_up: None,
        how: how.into_iter().collect(),
        expected,
        reason: match expected {
            Expected::Impossible => {
                "neither side's next external port can be predicted, and \
                                     both filter by address and port"
            }
            Expected::Certain | Expected::Chance(_) => {
                "both sides keep the external port that the server saw"
            }
        }
        .into(),
        failure: (successes < runs).then(|| {
            "no connection after 3 attempts: the last SYN to 203.0.113.2:4000 was \
             answered by RST (connection refused)"
                .into()
        }),
        ladder: None,
    }
}

/// Returns a matrix of the presets, with two ladders.
pub(crate) fn report() -> Report {
    let kinds = kinds();
    let mut cells = Vec::new();
    for dialler in 0..kinds.len() {
        for listener in 0..kinds.len() {
            cells.push(cell(dialler, listener, &kinds, 7));
        }
    }
    let ladders = vec![
        ladder("linux-router", "linux-router", [20, 20], 0),
        ladder("linux-masquerade", "linux-masquerade", [10, 40], 70),
        ladder("home-behind-cgnat", "linux-masquerade", [10, 40], 0),
    ];
    let found = |name: &str| kinds.iter().position(|kind| kind.name == name).unwrap();
    let (quiet, loud) = (found("linux-router"), found("linux-masquerade"));
    cells[quiet * kinds.len() + quiet].ladder = Some(0);
    cells[loud * kinds.len() + loud].ladder = Some(1);
    let mut second = cells.clone();
    for cell in second
        .iter_mut()
        .filter(|cell| (cell.dialler + cell.listener) % 9 == 4)
    {
        cell.successes = cell.successes.saturating_sub(1);
    }
    second[11].expected = Expected::Impossible;
    second[11].successes = second[11].successes.max(1);
    let series = |name: &str, ground: &str, cells| Series {
        name: name.into(),
        ground: ground.into(),
        cells,
        took: Duration::from_millis(3_412),
    };
    Report {
        title: "Which NATs let two peers through".into(),
        path: "5 to 44 ms from the hosts' networks to the core, 10 ms to the server".into(),
        seed: 7,
        kinds: kinds
            .iter()
            .map(|kind| Kind {
                name: kind.name.into(),
                title: kind.title.into(),
            })
            .collect(),
        series: vec![
            series("simple puncher, virtual time", "virtual time", cells),
            series("simple puncher, unlucky", "virtual time", second),
        ],
        ladders,
        notes: vec!["The oracle of this page is made up.".into()],
    }
}
