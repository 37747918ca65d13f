//! Kinds of access as people write them: presets, joined by `+`.

use anyhow::{Result, ensure};
use netns_lab::{matrix::Kind, preset};

/// Reads a kind: the name of a preset, or several from the innermost outwards.
pub(crate) fn parse(text: &str) -> Result<Kind> {
    let (mut titles, mut chain) = (Vec::new(), Vec::new());
    for name in text.split('+') {
        let name = name.trim();
        ensure!(
            !name.is_empty(),
            "{text:?} names no preset; `netns-lab list` shows them"
        );
        let preset = preset::find(name).map_err(|error| match error.near.as_slice() {
            [] => anyhow::anyhow!("{error}; `netns-lab list` shows them"),
            _ => error.into(),
        })?;
        titles.push(preset.title);
        chain.extend(preset.specs());
    }
    Ok(Kind {
        name: text.to_owned(),
        title: titles.join(", behind: "),
        chain,
    })
}

/// Says which presets netfilter can be.
pub(crate) fn of_netfilter() -> String {
    let netfilter = netns_lab::Engine::Netfilter;
    let is_possible = |preset: &&preset::Preset| {
        let specs = preset.specs();
        specs
            .iter()
            .all(|nat| netfilter.check(preset.name, nat).is_ok())
    };
    let possible = preset::all().iter().filter(is_possible);
    let names: Vec<_> = possible.map(|preset| preset.name).collect();
    format!("Of the presets, netfilter can be {}", names.join(", "))
}

/// Returns a message that begins with what is missing, and ends with the names that are near the
/// one asked for, or else with all.
pub(crate) fn known<'a>(
    missing: &str,
    asked: &str,
    names: impl Iterator<Item = &'a str>,
) -> String {
    let names: Vec<_> = names.collect();
    let is_near = |name: &&&str| {
        let (name, asked) = (name.to_lowercase(), asked.to_lowercase());
        !asked.is_empty() && (name.contains(&asked) || asked.contains(&name))
    };
    let near: Vec<_> = names.iter().filter(is_near).copied().collect();
    match (near.as_slice(), names.as_slice()) {
        ([], []) => missing.to_owned(),
        ([], names) => format!("{missing}; there are only {}", names.join(", ")),
        (near, _) => format!("{missing}; did you mean {}?", near.join(" or ")),
    }
}
