//! Tests of what punchers learn of the NATs in front of them.

use anyhow::Context as _;
use p2pconnect_nat::{Dependence, UnsolicitedSyn};
use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatMapping, NatReport, PortAssignment, PunchPort,
    UnsolicitedSyn as Answer,
};
use p2pconnect_punch::Base;

use super::*;
use crate::oracle::{Endpoint, Outside};
use crate::preset;

/// Lets both peers learn what they can behind two chains.
fn gather(chains: [&[NatSpec]; 2], seed: u64) -> anyhow::Result<(Run, [Gathered; 2])> {
    let trial = Trial::new(chains, Path::default(), seed);
    let mut run = Run::build(&trial)?;
    let gathered = run.gather(GATHER_LIMIT);
    Ok((run, gathered.map_err(anyhow::Error::msg)?))
}

fn filtering(outside: &Outside) -> NatFiltering {
    match outside.filtering {
        Dependence::EndpointIndependent => NatFiltering::EndpointIndependent,
        Dependence::AddressDependent => NatFiltering::AddressDependent,
        Dependence::AddressAndPortDependent => NatFiltering::AddressAndPortDependent,
    }
}

/// A program cannot tell ICMP "port unreachable" from a reset, nor late ICMP
/// from silence.
fn answer(outside: &Outside) -> Option<Answer> {
    if outside.filtering == Dependence::EndpointIndependent {
        return None;
    }
    Some(match outside.unsolicited {
        UnsolicitedSyn::Nothing | UnsolicitedSyn::IcmpPortUnreachableAfter(_) => Answer::Dropped,
        UnsolicitedSyn::Rst | UnsolicitedSyn::IcmpPortUnreachable => Answer::Reset,
        UnsolicitedSyn::IcmpProhibited => Answer::Icmp,
    })
}

/// Whether the report says of mapping and ports what the oracle says.
fn agrees(report: &NatReport, endpoint: Endpoint) -> bool {
    let stable = report.mapping == Some(NatMapping::EndpointIndependent);
    match (endpoint, report.ports) {
        (Endpoint::Reflected, _) => stable,
        (_, _) if stable => false,
        (Endpoint::Kept, ports) => ports == Some(PortAssignment::Preserved),
        (Endpoint::Sequential(delta), ports) => ports == Some(PortAssignment::Sequential { delta }),
        (Endpoint::Random(count), Some(PortAssignment::Random { first, last })) => {
            // What is added to the range that was seen is an estimate.
            let found = u32::from(last - first) + 1;
            count <= found + found / 10 && found < 2 * count
        }
        (Endpoint::Random(_), _) => false,
    }
}

#[test]
fn peers_find_out_what_the_oracle_knows_of_their_boxes() -> anyhow::Result<()> {
    for preset in preset::all() {
        for seed in 0..4 {
            let (_, [gathered, _]) = gather([&preset.specs(), &[]], seed)?;
            let outside = Outside::of(&preset.specs());
            let case = format!(
                "{}, seed {seed}: {:?}, {outside}",
                preset.name, gathered.nat
            );
            assert!(agrees(&gathered.nat, outside.endpoint), "{case}");
            assert_eq!(gathered.nat.filtering, Some(filtering(&outside)), "{case}");
            assert_eq!(gathered.nat.unsolicited, answer(&outside), "{case}");
        }
    }
    Ok(())
}

#[test]
fn only_varying_mappings_are_predicted() -> anyhow::Result<()> {
    for preset in preset::all() {
        let (_, [gathered, _]) = gather([&preset.specs(), &[]], 1)?;
        let fresh = |it: &&Base| it.punch_port == PunchPort::FRESH;
        let predicted = |it: &&Candidate| it.kind == CandidateKind::Predicted;
        let count = usize::from(gathered.nat.mapping != Some(NatMapping::EndpointIndependent));
        assert_eq!(gathered.bases.iter().filter(fresh).count(), count);
        assert_eq!(gathered.candidates.iter().filter(predicted).count(), count);
    }
    Ok(())
}

/// The first connection out of the first fresh port comes from where it is
/// expected, towards somebody who has never been asked.
#[test]
fn predictions_come_true() -> anyhow::Result<()> {
    for preset in preset::all() {
        let (mut run, [gathered, _]) = gather([&preset.specs(), &[]], 2)?;
        let fresh = gathered
            .bases
            .iter()
            .find(|it| it.punch_port == PunchPort::FRESH);
        let Some(fresh) = fresh.copied() else {
            continue;
        };
        let candidates = gathered.candidates.iter();
        let mut predicted = candidates.filter(|it| it.kind == CandidateKind::Predicted);
        let predicted = predicted.next().context("nothing is predicted")?.address;
        let [dialler, listener] = run.peers;
        let listening = run.world.listen(listener.host, 4000)?;
        let to = SocketAddr::new(listener.ends.fresh.ip(), 4000);
        run.world.connect(dialler.host, fresh.address, to)?;
        let mut accepted = None;
        let limit = run.world.now() + Duration::from_secs(3);
        run.world.run_until(limit, |world| {
            accepted = world.accept(listening);
            accepted.is_some()
        });
        let seen = accepted.context("nobody came")?.remote;
        match gathered.nat.ports {
            Some(PortAssignment::Random { first, last }) => {
                assert_eq!(seen.ip(), predicted.ip(), "{}", preset.name);
                assert!(
                    (first..=last).contains(&seen.port()),
                    "{}: {seen}",
                    preset.name
                );
            }
            _ => assert_eq!(seen, predicted, "{}", preset.name),
        }
    }
    Ok(())
}
