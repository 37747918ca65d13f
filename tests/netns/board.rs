//! Peers behind NATs that know nothing of each other but a topic.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
};

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{net::Net, process::PATIENCE, program::gossip};

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Where the members are: on two machines, each behind a NAT of its own.
const MEMBERS: [&str; 5] = ["a", "b", "a", "b", "b"];

/// A line that a member has heard.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    by: usize,
    line: String,
}

fn line_of(member: usize) -> String {
    format!("this is {member}")
}

/// Starts a member that says its line, and tells what it hears.
fn start(net: &Net, number: usize, heard: Sender<Heard>) -> Child {
    let mut command = net.lab.host(MEMBERS[number]).command(gossip());
    command.args([&net.coordinator, "gossip", "secret"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut member = command.spawn().unwrap();
    writeln!(member.stdin.as_ref().unwrap(), "{}", line_of(number)).unwrap();
    let lines = BufReader::new(member.stdout.take().unwrap()).lines();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if heard.send(Heard { by: number, line }).is_err() {
                break;
            }
        }
    });
    member
}

#[test]
fn members_of_a_topic_find_each_other_and_gossip() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let (heard, all) = channel();
        let everybody = 0..MEMBERS.len();
        let start = |number| start(&net, number, heard.clone());
        let members: Vec<_> = everybody.clone().map(start).collect();
        let of_others = everybody.clone().flat_map(|by| {
            let others = everybody.clone().filter(move |other| *other != by);
            others.map(move |other| Heard {
                by,
                line: line_of(other),
            })
        });
        let mut missing: BTreeSet<_> = of_others.collect();
        while !missing.is_empty() {
            let heard = all.recv_timeout(PATIENCE);
            missing.remove(&heard.expect("somebody has not heard all"));
        }
        for mut member in members {
            member.kill().unwrap();
            member.wait().unwrap();
        }
        net.finish();
    });
}
