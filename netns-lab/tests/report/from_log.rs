//! From the record of a world to a ladder.

use std::net::SocketAddr;

use netns_lab::{
    LinkSpec,
    report::{ColumnKind, Fate, Ladder, LadderPlace, StepKind, Tone},
    virtual_time::{Uplink, World},
};

use crate::{sample::MS, world};

#[test]
fn a_packet_is_one_arrow_across_the_core_with_its_time() {
    let ladder = world::ladder("linux-router", "linux-masquerade", [10, 40], 0);
    let names: Vec<_> = ladder.columns.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a", "nat a", "core", "nat b", "b", "server"]);
    let across = ladder.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Arrow {
            from: 1,
            to: 3,
            arrives: Some(arrives),
            fate: Fate::Carried,
            label,
        } => Some((*arrives - step.at, label.as_str())),
        _ => None,
    });
    let across: Vec<_> = across.collect();
    let syn = "SYN :4000 > 203.0.113.2:4000";
    assert_eq!(across.first(), Some(&(50 * MS, syn)), "{ladder}");
    assert!(across.iter().all(|(time, _)| *time == 50 * MS), "{ladder}");
    // All that has arrived was given to somebody, who says what became of it.
    let count = |wanted: fn(&StepKind) -> bool| {
        let kinds = ladder.steps.iter().map(|step| &step.kind);
        kinds.filter(|kind| wanted(kind)).count()
    };
    let arrived = |kind: &StepKind| {
        matches!(
            kind,
            StepKind::Arrow {
                arrives: Some(_),
                ..
            }
        )
    };
    let notes = |kind: &StepKind| matches!(kind, StepKind::Note { .. });
    assert_eq!(count(arrived), count(notes), "{ladder}");
}

#[test]
fn what_a_nat_refuses_is_bad_news_with_its_reason() {
    let ladder = world::ladder("linux-masquerade", "linux-masquerade", [10, 40], 70);
    let refused = ladder.steps.iter().any(|step| {
        matches!(&step.kind, StepKind::Note { column: 3, text, tone: Tone::Bad }
            if text.starts_with("DROP no permission for 203.0.113.1:4000"))
    });
    assert!(refused, "{ladder}");
    assert!(
        ladder
            .to_string()
            .contains("RST,ACK :4000 > 203.0.113.1:4000")
    );
}

fn places() -> Vec<LadderPlace> {
    let place = |name: &str, kind, above| LadderPlace {
        name: name.into(),
        kind,
        above,
    };
    vec![
        place("a", ColumnKind::Host, Some(1)),
        place("core", ColumnKind::Core, None),
        place("b", ColumnKind::Host, Some(1)),
    ]
}

/// Connects from a to b, which has a listener at port 80, from and to ports.
fn connected(link: LinkSpec, ports: impl Iterator<Item = (u16, u16)>) -> World {
    let mut world = World::new(5);
    let (a, b): (SocketAddr, SocketAddr) = (
        "203.0.113.1:1".parse().unwrap(),
        "203.0.113.2:1".parse().unwrap(),
    );
    let fine = Uplink::core(LinkSpec::delay(10 * MS));
    let dialler = world.add_host("a", &[a.ip()], fine).unwrap();
    let listener = world.add_host("b", &[b.ip()], Uplink::core(link)).unwrap();
    world.listen(listener, 80).unwrap();
    for (from, to) in ports {
        let (from, to) = ((a.ip(), from).into(), (b.ip(), to).into());
        world.connect(dialler, from, to).unwrap();
    }
    world.run_until(500 * MS, |_| false);
    world
}

#[test]
fn a_lost_packet_ends_on_the_way_to_where_it_was_going() {
    let lossy = LinkSpec::delay(10 * MS).loss(1.0);
    let world = connected(lossy, [(4000, 80)].into_iter());
    let ladder = Ladder::from_log("lost", &places(), world.log());
    assert_eq!(ladder.steps.len(), 1, "{ladder}");
    let lost = matches!(
        &ladder.steps[0].kind,
        StepKind::Arrow {
            from: 0,
            to: 2,
            arrives: None,
            fate: Fate::Lost(_),
            ..
        }
    );
    assert!(lost, "{ladder}");
}

#[test]
fn of_thousands_of_packets_the_important_ones_are_shown_and_the_rest_counted() {
    let clean = LinkSpec::delay(10 * MS);
    let world = connected(clean, (0..1_500).map(|number| (4000 + number, 80 + number)));
    let all = world.log().entries().len();
    let ladder = Ladder::from_log("many", &places(), world.log());
    assert!(all > 10_000 && ladder.steps.len() <= 400, "{all}");
    let text = ladder.to_string();
    assert!(
        text.contains("more packets not shown: to no socket"),
        "{text}"
    );
    assert!(text.contains("SYN :4000 > 203.0.113.2:80"), "{text}");
    let gone = Ladder::from_log("gone", &places()[..1], world.log());
    assert!(gone.steps.is_empty() || gone.columns.len() == 1);
}
