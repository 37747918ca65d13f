//! `netns-lab list`.

use std::process::ExitCode;

use anyhow::Result;
use netns_lab::{
    Dependence, NatSpec, PortAssignment, Translation, UnsolicitedSyn,
    preset::{self, Layer, Preset},
    scenario::{self, Scenario},
};

use crate::{arguments::ListArguments, output, stage};

pub(crate) fn main(arguments: &ListArguments) -> Result<ExitCode> {
    match &arguments.scenario {
        Some(scenario) => output::say(&hosts(&stage::find(scenario)?))?,
        None => output::say(&everything())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn everything() -> String {
    let names = preset::all().iter().map(|preset| preset.name.len());
    let width = names.max().unwrap_or(0);
    let mut text = String::from("Presets (what a host is behind; join several by +):\n\n");
    for preset in preset::all() {
        text.push_str(&entry(preset, width));
    }
    text.push_str(
        "\nMapping and filtering: EI endpoint-independent, AD address-dependent, APD address- and\n\
         port-dependent (RFC 4787, RFC 5382). `netns-lab explain A B` says who can reach whom.\n\n\
         Scenarios (`netns-lab run NAME` plays one):\n\n",
    );
    let names = scenario::shipped().iter().map(|(name, _)| name.len());
    let width = names.max().unwrap_or(0);
    for (name, file) in scenario::shipped() {
        let title = Scenario::parse(file).map_or_else(|_| String::new(), |it| it.title().into());
        text.push_str(&format!("  {name:width$}  {title}\n"));
    }
    text
}

fn entry(preset: &Preset, width: usize) -> String {
    let mut text = format!("  {:width$}  {}\n", preset.name, preset.title);
    for layer in preset.layers {
        let what = if preset.layers.len() > 1 {
            format!("{}: ", layer.title)
        } else {
            String::new()
        };
        text.push_str(&format!("  {:width$}    {what}{}\n", "", short(layer)));
    }
    text
}

fn short(layer: &Layer) -> String {
    behaviours(&layer.spec())
}

/// Says in some words how a box behaves.
fn behaviours(spec: &NatSpec) -> String {
    let filtering = format!("filtering {}", dependence(spec.filtering));
    let mut parts = match spec.translation {
        Translation::None => vec!["no translation".to_owned(), filtering],
        _ => vec![
            format!("mapping {}", dependence(spec.mapping)),
            filtering,
            match spec.ports {
                PortAssignment::Preserved => "keeps ports".to_owned(),
                PortAssignment::PreservedWithOverload => "keeps ports, overloads".to_owned(),
                PortAssignment::Sequential { delta } => format!("ports in steps of {delta}"),
                PortAssignment::Random => "random ports".to_owned(),
                PortAssignment::RandomInBlock { size } => format!("random ports of {size}"),
            },
        ],
    };
    parts.push(match spec.unsolicited {
        UnsolicitedSyn::Nothing => "silent".to_owned(),
        UnsolicitedSyn::Rst => "answers RST".to_owned(),
        UnsolicitedSyn::IcmpProhibited => "answers ICMP prohibited".to_owned(),
        UnsolicitedSyn::IcmpPortUnreachable => "answers ICMP unreachable".to_owned(),
        UnsolicitedSyn::IcmpPortUnreachableAfter(delay) => {
            format!("answers ICMP unreachable after {delay:?}")
        }
    });
    if spec.drop_echo {
        parts.push("no ping".to_owned());
    }
    parts.join(", ")
}

const fn dependence(on: Dependence) -> &'static str {
    match on {
        Dependence::EndpointIndependent => "EI",
        Dependence::AddressDependent => "AD",
        Dependence::AddressAndPortDependent => "APD",
    }
}

fn hosts(stage: &stage::Stage) -> String {
    let mut text = format!("{}\n\n", stage.name);
    for host in stage.topology.host_names() {
        let boxes = stage.topology.boxes_of(host);
        if boxes.is_empty() {
            text.push_str(&format!("  {host}: public\n"));
            continue;
        }
        text.push_str(&format!("  {host}\n"));
        for (name, nat) in boxes {
            text.push_str(&format!("    behind {name}: {}\n", behaviours(nat)));
        }
    }
    text
}
