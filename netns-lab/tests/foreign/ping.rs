//! `ping` of iputils, through boxes of both engines.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netns_lab::{BoxSpec, Engine, Host, HostSpec, Lab, LinkSpec, NatSpec};

const INSTALL: &str = "apt-get install iputils-ping, or tests/run";

/// An address that no host of a lab has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 250);

/// Three requests, and patience with the answers.
const THRICE: [&str; 4] = ["-c3", "-i0.2", "-W5", "-q"];

/// One request, which nothing is expected of for longer than any round trip here takes.
const ONCE: [&str; 2] = ["-c1", "-W0.5"];

/// Runs `ping`, and returns what it says.
fn ping(host: &Host, to: impl Into<IpAddr>, options: &[&str]) -> String {
    let mut command = host.command("ping");
    command.arg("-n").args(options).arg(to.into().to_string());
    let output = command.output().expect(INSTALL);
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// A public host, one behind a box, and one behind two.
fn lab(engine: Engine, link: LinkSpec) -> Lab {
    let cgn = BoxSpec::new("cgn", NatSpec::random_per_destination());
    Lab::builder()
        .shared_box(cgn)
        .host(HostSpec::new("public").link(LinkSpec::delay(Duration::from_millis(2))))
        .host(
            HostSpec::new("home")
                .behind(NatSpec::port_preserving())
                .link(link),
        )
        .host(
            HostSpec::new("flat")
                .behind(NatSpec::random_port())
                .behind_shared("cgn"),
        )
        .engine(engine)
        .log(true)
        .build()
        .unwrap()
}

const ENGINES: [Engine; 2] = [Engine::Model, Engine::Netfilter];

#[test]
fn ping_is_answered_through_one_box_and_two() {
    netns_lab::test(|| {
        for engine in ENGINES {
            let lab = lab(engine, LinkSpec::delay(Duration::from_millis(2)));
            let public = lab.host("public");
            for name in ["home", "flat"] {
                let host = lab.host(name);
                for to in [IpAddr::from(public.ipv4()), public.ipv6().into()] {
                    let said = ping(host, to, &THRICE);
                    assert!(
                        said.contains(" 3 received"),
                        "{engine:?} {name}: {said}{}",
                        lab.log()
                    );
                }
            }
            assert_eq!(lab.capture().private_sources(), []);
        }
    });
}

#[test]
fn ping_is_not_answered_by_boxes_or_by_nobody() {
    netns_lab::test(|| {
        for engine in ENGINES {
            let lab = lab(engine, LinkSpec::delay(Duration::from_millis(2)));
            let (public, home) = (lab.host("public"), lab.host("home"));
            let to_box = ping(public, home.external_ipv4(), &ONCE);
            let to_own_box = ping(home, home.external_ipv4(), &ONCE);
            let to_nobody = ping(home, NOBODY, &ONCE);
            for said in [to_box, to_own_box, to_nobody] {
                assert!(
                    said.contains(" 0 received"),
                    "{engine:?}: {said}{}",
                    lab.log()
                );
            }
        }
    });
}

#[test]
fn ping_hears_of_a_link_that_is_too_small_for_it() {
    netns_lab::test(|| {
        for engine in ENGINES {
            let lab = lab(engine, LinkSpec::delay(Duration::from_millis(2)).mtu(1000));
            let (public, home) = (lab.host("public"), lab.host("home"));
            let large = ["-c1", "-W5", "-Mdo", "-s1200"];
            let said = ping(home, public.ipv4(), &large);
            assert!(
                said.contains("mtu = 1000"),
                "{engine:?}: {said}{}",
                lab.log()
            );
        }
    });
}
