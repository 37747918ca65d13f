//! Three coordinators and three servers of NATS in places of their own, set up as the operator's
//! page says, links between them that are cut, and upgrades of one after the other.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use netns_lab::{HostSpec, Lab, LinkSpec, NatSpec, test};
use p2pconnect_tests::{
    net::PEER_LINK,
    process::{Finished, Process, run, wait_for},
    program::p2pconnect,
};
use tempfile::TempDir;

use crate::draining::{end, under_dials};

/// What an operator is told.
const PAGE: &str = include_str!("../../docs/operating.md");

const PLACES: [&str; 3] = ["x", "y", "z"];

/// The delay of a coordinator's link, one way: 30 ms round trip between two of them.
const COORDINATOR_LINK: Duration = Duration::from_millis(7);

/// How long coordinators may take to hear of each other again.
const BOUND: Duration = Duration::from_secs(30);

/// After what time nobody notices any more that a server of NATS has ended.
const NOTICED: Duration = Duration::from_secs(1);

/// How often to try.
const POLL: Duration = Duration::from_millis(100);

/// Returns a block of the page's section, by its language.
fn block(language: &str) -> String {
    let section = PAGE.split("## Several coordinators").nth(1).unwrap();
    let begin = format!("```{language}\n");
    let block = section.split(&begin).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

struct Cluster {
    lab: Lab,
    files: TempDir,
    nats: Vec<Child>,
    /// The addresses of the coordinators.
    coordinators: Vec<String>,
}

impl Cluster {
    /// Starts all of them, and returns them with the processes that serve.
    fn start() -> (Self, Vec<Process>) {
        let nat = NatSpec::port_preserving();
        let lab = PLACES.iter().fold(Lab::builder(), |lab, place| {
            lab.host(HostSpec::new(*place).link(LinkSpec::delay(COORDINATOR_LINK)))
        });
        let peer = |name| {
            HostSpec::new(name)
                .behind(nat)
                .link(LinkSpec::delay(PEER_LINK))
        };
        let lab = lab.host(peer("a")).host(peer("b")).build().unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            lab,
            files,
            nats: Vec::new(),
            coordinators: Vec::new(),
        };
        let coordinators = PLACES.iter().map(|place| cluster.address(place));
        cluster.coordinators = coordinators.collect();
        for place in PLACES {
            let nats = cluster.start_nats(place);
            cluster.nats.push(nats);
        }
        let serving = PLACES.iter().map(|place| cluster.serve(place)).collect();
        (cluster, serving)
    }

    fn key(&self, place: &str) -> PathBuf {
        self.files.path().join(format!("{place}-coordinator.pem"))
    }

    /// Makes a coordinator's key, and returns its address.
    fn address(&self, place: &str) -> String {
        let host = self.lab.host(place);
        let mut command = host.command(p2pconnect());
        let id = command.args(["id", "--key"]).arg(self.key(place)).output();
        let id = String::from_utf8(id.unwrap().stdout).unwrap();
        format!("{}@{}:4433", id.trim_end(), host.ipv4())
    }

    /// Returns settings of the page with the addresses of the lab.
    fn settings(&self, language: &str) -> String {
        let at = |n: usize| self.lab.host(PLACES[n - 1]).ipv4().to_string();
        let of = |text: String, n| text.replace(&format!("192.0.2.{n}"), &at(n));
        let settings = (1..=3).fold(block(language), of);
        let files = self.files.path().to_str().unwrap();
        settings.replace("/var/lib/p2pconnect", files)
    }

    fn start_nats(&self, place: &str) -> Child {
        let file = self.files.path().join("nats-server.conf");
        fs::write(&file, self.settings("")).unwrap();
        let mut command = self.lab.host(place).command("/usr/sbin/nats-server");
        let child = command.arg("--config").arg(file).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        wait_for("Server is ready", child.stderr.take().unwrap());
        child
    }

    /// Starts a coordinator.
    fn serve(&self, place: &str) -> Process {
        let own = self.lab.host(place).ipv4().to_string();
        let first = self.lab.host(PLACES[0]).ipv4().to_string();
        let listen = format!("listen = \"{own}:4433\"");
        let settings = self.settings("toml");
        let settings = settings.replace(&format!("listen = \"{first}:4433\""), &listen);
        let file = self.files.path().join(format!("{place}.toml"));
        fs::write(&file, settings).unwrap();
        let mut command = self.lab.host(place).command(p2pconnect());
        command.args(["serve", "--config"]).arg(file);
        command.arg("--key").arg(self.key(place));
        let others = self.coordinators.iter().zip(PLACES);
        let others = others.filter(|(_, other)| *other != place);
        let others: Vec<_> = others.map(|(address, _)| address.as_str()).collect();
        command
            .env("P2PCONNECT_SERVE_MOVE_TO", others.join(","))
            .env("P2PCONNECT_SERVE_DRAIN", "4s")
            .env(
                "RUST_LOG",
                "error,p2pconnect_coordinator=info,p2pconnect_cluster=info",
            );
        let mut serving = Process::spawn(command);
        serving.wait_for_log("connected to NATS");
        serving
    }

    /// Returns the command of a peer that knows these coordinators.
    fn command(&self, host: &str, known: &[usize]) -> Command {
        let known = known.iter().map(|at| self.coordinators[*at].as_str());
        let mut command = self.lab.host(host).command(p2pconnect());
        command
            .env(
                "P2PCONNECT_COORDINATOR",
                known.collect::<Vec<_>>().join(","),
            )
            .env("P2PCONNECT_KEY", self.files.path().join(host))
            .env("RUST_LOG", "error");
        command
    }

    /// Starts a peer that takes one stream after the other, and returns its id.
    fn listen(&self, known: &[usize]) -> (Process, String) {
        let id = self.command("b", known).arg("id").output().unwrap();
        let mut command = self.command("b", known);
        // Nothing listens there: who has dialled is told so by the peer itself.
        command.args([
            "listen",
            "--json",
            "--allow-any",
            "--forward",
            "127.0.0.1:9",
        ]);
        let mut listener = Process::spawn(command);
        listener.wait_for("registered");
        (
            listener,
            String::from_utf8(id.stdout).unwrap().trim_end().to_owned(),
        )
    }

    fn dial(&self, known: &[usize], peer: &str) -> Finished {
        let mut command = self.command("a", known);
        command.args(["dial", "--json", peer]);
        let mut dial = Process::spawn(command);
        dial.give(b"");
        dial.finish()
    }

    /// Dials until the two are connected.
    fn is_reached(&self, known: &[usize], peer: &str) {
        let began = Instant::now();
        loop {
            let dialled = self.dial(known, peer);
            if dialled.event("established").is_some() {
                return;
            }
            assert!(began.elapsed() < BOUND, "{:#?}", dialled.stderr);
            sleep(POLL);
        }
    }

    /// Drops all that comes to a place from another one, or no more.
    fn cut(&self, place: &str, from: &str, is_cut: bool) {
        let from = self.lab.host(from).ipv4();
        let rules = match is_cut {
            true => format!(
                "add table ip cut
                add chain ip cut in {{ type filter hook input priority 0; }}
                add rule ip cut in ip saddr {from} drop"
            ),
            false => "delete table ip cut".to_owned(),
        };
        run(self.lab.host(place).command("nft").arg(rules));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.nats {
            // The lab kills them anyway; this only reaps them.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[test]
fn coordinators_in_three_places_serve_the_same_peers_whichever_link_between_them_is_cut() {
    test(|| {
        let (cluster, _serving) = Cluster::start();
        let (_listener, id) = cluster.listen(&[1]);
        cluster.is_reached(&[0], &id);
        for (one, other) in [(0, 1), (1, 2), (0, 2)] {
            let (one, other) = (PLACES[one], PLACES[other]);
            cluster.cut(one, other, true);
            cluster.cut(other, one, true);
            // It succeeds, or says why not, in the time that a dial has.
            let dialled = cluster.dial(&[0], &id);
            let is_clear = !dialled.reason().is_empty();
            assert!(
                dialled.event("established").is_some() || is_clear,
                "{:#?}",
                dialled.stderr
            );
            cluster.cut(one, other, false);
            cluster.cut(other, one, false);
            cluster.is_reached(&[0], &id);
        }
    });
}

#[test]
fn whichever_server_of_nats_ends_the_others_carry_on() {
    test(|| {
        let (mut cluster, _serving) = Cluster::start();
        let (_listener, id) = cluster.listen(&[1]);
        cluster.is_reached(&[0], &id);
        for (n, place) in PLACES.iter().enumerate() {
            cluster.nats[n].kill().unwrap();
            cluster.nats[n].wait().unwrap();
            // The bound that is promised; whatever happens before may fail.
            sleep(NOTICED);
            let dialled = cluster.dial(&[0], &id);
            assert!(
                dialled.event("established").is_some(),
                "{n}: {:#?}",
                dialled.stderr
            );
            cluster.nats[n] = cluster.start_nats(place);
        }
    });
}

/// Each dial is that of a process of its own, and by way of whichever coordinator answers first.
#[test]
fn all_coordinators_are_upgraded_in_turn_and_no_dial_fails() {
    test(|| {
        let (cluster, serving) = Cluster::start();
        let (_listener, id) = cluster.listen(&[0, 1, 2]);
        // The servers of NATS find each other first.
        for at in 0..PLACES.len() {
            cluster.is_reached(&[at], &id);
        }
        let dial = |known: &[usize]| {
            let dialled = cluster.dial(known, &id);
            let is_there = dialled.event("established").is_some();
            assert!(is_there, "{:#?}", dialled.stderr);
        };
        let dials: [&(dyn Fn(usize) + Sync); 2] = [&|_| dial(&[0, 1, 2]), &|_| dial(&[2, 1])];
        let dials = under_dials(&dials, || {
            let upgrade = |(former, place)| {
                end(former);
                cluster.serve(place)
            };
            let upgraded = serving.into_iter().zip(PLACES).map(upgrade);
            upgraded.collect::<Vec<_>>()
        });
        assert!(dials > 20, "{dials}");
    });
}
