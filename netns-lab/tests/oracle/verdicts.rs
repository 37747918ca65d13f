//! What the oracle says of real devices.

use std::{fs, path::Path};

use netns_lab::{
    NatSpec,
    oracle::{self, How, Outcome, Timing, punchable},
    preset,
};

fn boxes(name: &str) -> Vec<NatSpec> {
    preset::find(name).unwrap().specs()
}

fn said(a: &str, b: &str) -> Outcome {
    punchable(&boxes(a), &boxes(b)).outcome
}

const fn certain(how: How, timing: Timing) -> Outcome {
    Outcome::Certain { how, timing }
}

#[test]
fn known_pairs() {
    let (accept, open) = (How::Accept, How::SimultaneousOpen);
    let any = Timing::Any;
    assert_eq!(said("public", "cgnat-strict"), certain(accept, any));
    assert_eq!(said("cgnat-strict", "full-cone"), certain(accept, any));
    assert_eq!(said("linux-router", "linux-router"), certain(open, any));
    assert_eq!(
        said("linux-router", "home-behind-cgnat"),
        certain(open, any)
    );
    assert_eq!(said("linux-router", "pf-static-port"), certain(open, any));
    // Measured with netfilter: the side that answers with RST dials first.
    assert_eq!(
        said("openwrt", "linux-router"),
        certain(open, Timing::AFirst)
    );
    assert_eq!(
        said("openwrt", "openwrt"),
        certain(open, Timing::CrossingSyns)
    );
    let filling = How::Filling;
    assert_eq!(said("linux-router", "cgnat-strict"), certain(filling, any));
    assert_eq!(said("cisco-asa", "cgnat-strict"), certain(filling, any));
    let prediction = How::Prediction;
    assert_eq!(
        said("juniper-cgn", "linux-router"),
        certain(prediction, any)
    );
    assert_eq!(said("cisco-asa", "linux-router"), certain(prediction, any));
}

#[test]
fn luck_is_better_in_small_blocks() {
    let luck = |a, b| said(a, b).probability();
    let large = luck("linux-router", "mobile-carrier");
    let small = luck("linux-router", "cgnat-strict");
    assert!(large < small, "{large} {small}");
    let impossible = said("mobile-carrier", "aws-nat-gateway");
    assert!(
        matches!(impossible, Outcome::Impossible { probability } if probability > 0.0),
        "{impossible:?}"
    );
}

/// What is worth trying is told apart from what is not.
#[test]
fn chances_are_good_or_none() {
    for a in preset::all() {
        for b in preset::all() {
            match said(a.name, b.name) {
                Outcome::Chance { probability, .. } => assert!(probability > 0.99),
                // At best the other side's port is certain, and a fifth of a large range is filled.
                Outcome::Impossible { probability } => {
                    assert!(probability < 0.25, "{} {} {probability}", a.name, b.name)
                }
                Outcome::Certain { .. } => {}
            }
        }
    }
}

#[test]
fn the_order_of_the_sides_changes_names_only() {
    for a in preset::all() {
        for b in preset::all() {
            let (one, other) = (said(a.name, b.name), said(b.name, a.name));
            assert_eq!(
                one.probability(),
                other.probability(),
                "{} {}",
                a.name,
                b.name
            );
            let mirrored = other.mirrored();
            // Where both orders do, a is asked to be first in either case.
            if let (Outcome::Certain { how, .. }, Outcome::Certain { how: same, .. }) =
                (one, mirrored)
            {
                assert_eq!(how, same, "{} {}", a.name, b.name);
            }
        }
    }
}

#[test]
fn reasons_name_the_side_and_the_change() {
    let (router, firewall) = (boxes("linux-router"), boxes("corporate-firewall"));
    let reason = |a: &[NatSpec], b: &[NatSpec]| punchable(a, b).reason;
    let lucky = reason(&router, &firewall);
    assert!(
        lucky.contains("With 640 SYNs from each side one of 64512 ports may be hit")
            && lucky.contains("b's NAT gives each destination its own random port")
            && lucky.contains("It would be certain if b's NAT had endpoint-independent mapping"),
        "{lucky}"
    );
    let refused = reason(&firewall, &firewall);
    assert!(
        refused.contains("a's filtering lets in only") && refused.contains("RFC 5382 REQ-2"),
        "{refused}"
    );
    let refusing = boxes("openwrt");
    let reason = reason(&router, &refusing);
    assert!(
        reason.contains("b dials first: b's box would answer an earlier SYN with RST"),
        "{reason}"
    );
    let seen = oracle::seen_from_outside(&router, &refusing);
    assert!(
        seen.starts_with("a appears from the endpoint that the server has seen"),
        "{seen}"
    );
}

#[test]
fn the_table_of_the_readme_is_what_the_oracle_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).unwrap();
    let (_, rest) = readme.split_once("<!-- presets -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- /presets -->").unwrap();
    assert!(
        table == oracle::table(preset::all()),
        "write it anew: cargo run -p netns-lab --example tables"
    );
}
