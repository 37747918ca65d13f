//! Networks that are asked for by a name, a file, or a pair of kinds.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netns_lab::{
    Host, Lab, Topology,
    contender::{Path, Punch},
    matrix::Kind,
    scenario::{self, Scenario},
};

use crate::{arguments::LabArguments, chain, explain, output};

/// A network and what it is called.
pub(crate) struct Stage {
    /// For titles and files.
    pub(crate) name: String,
    /// The network.
    pub(crate) topology: Topology,
    /// What its hosts do.
    pub(crate) scenario: Scenario,
    /// Whether it was made of two kinds of access.
    pub(crate) is_pair: bool,
}

/// Finds what was asked for.
pub(crate) fn find(text: &str) -> Result<Stage> {
    if let Ok(file) = scenario::find(text) {
        return read(text, file);
    }
    if text.ends_with(".toml") || text.contains('/') {
        let file = fs::read_to_string(text).with_context(|| format!("cannot read {text}"))?;
        return read(text, &file);
    }
    match text.split(',').collect::<Vec<_>>().as_slice() {
        [a, b] => Ok(pair([chain::parse(a)?, chain::parse(b)?])),
        [_] => bail!("{}", unknown(text)),
        _ => bail!("{text:?} names more than two kinds of access"),
    }
}

/// Returns what could be asked for, with the names that may have been meant, or else all.
fn unknown(name: &str) -> String {
    let missing = format!(
        "there is no scenario {name:?}, and it is neither a file that ends in .toml nor a pair of presets, such as \
         openwrt,public"
    );
    let shipped = scenario::shipped().iter().map(|(name, _)| *name);
    let near = scenario::find(name).err().map(|error| error.near);
    match near.filter(|near| !near.is_empty()) {
        Some(near) => format!("{missing}; did you mean {}?", near.join(" or ")),
        None => chain::known(&missing, name, shipped),
    }
}

fn read(name: &str, file: &str) -> Result<Stage> {
    let scenario = Scenario::parse(file).map_err(|error| anyhow!("{name}:{error}"))?;
    Ok(Stage {
        name: name.trim_end_matches(".toml").to_owned(),
        topology: scenario.topology(),
        scenario,
        is_pair: false,
    })
}

/// Hosts a and b behind boxes, and a server, on the links of the matrix.
pub(crate) fn pair([a, b]: [Kind; 2]) -> Stage {
    let topology = Path::default().topology(&Punch::default(), [&a.chain, &b.chain]);
    Stage {
        name: format!("{},{}", a.name, b.name),
        scenario: Scenario::new(topology.clone()),
        topology,
        is_pair: true,
    }
}

impl Stage {
    /// Checks that there is a host of this name.
    pub(crate) fn check_host(&self, name: &str) -> Result<()> {
        let is_known = self.topology.host_names().any(|known| known == name);
        ensure!(
            is_known,
            "{}",
            self.has_no("host", name, self.topology.host_names())
        );
        Ok(())
    }

    /// Refuses what is neither a host, a box nor the core.
    pub(crate) fn check_place(&self, name: &str) -> Result<()> {
        let hosts: Vec<_> = self.topology.host_names().collect();
        let boxes: BTreeSet<_> = hosts
            .iter()
            .flat_map(|host| self.topology.boxes_of(host))
            .map(|(name, _)| name)
            .collect();
        let places = hosts
            .iter()
            .copied()
            .chain(boxes.iter().map(|name| &**name));
        let places: Vec<_> = places.chain(["core"]).collect();
        ensure!(
            places.contains(&name),
            "{}",
            self.has_no("place", name, places.iter().copied())
        );
        Ok(())
    }

    fn has_no<'a>(&self, what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
        let missing = format!("there is no {what} {name:?} in {}", self.name);
        chain::known(&missing, name, names)
    }

    /// Returns the seed that was asked for, or else the scenario's.
    pub(crate) fn seed(&self, arguments: &LabArguments) -> u64 {
        arguments.seed.unwrap_or_else(|| self.scenario.seed())
    }

    /// Returns a name for a file about it.
    pub(crate) fn file_name(&self) -> String {
        let plain = |letter: char| letter.is_alphanumeric() || "-_+.".contains(letter);
        self.name.replace(|letter| !plain(letter), "--")
    }

    /// Builds it between real kernels, and says where its packets are written.
    pub(crate) fn build(&self, arguments: &LabArguments, log: bool) -> Result<Lab> {
        let mut lab = Lab::builder()
            .topology(self.topology.clone())
            .engine(arguments.engine.into())
            .seed(self.seed(arguments))
            .record(false)
            .log(log);
        if let Some(directory) = &arguments.pcap {
            let file = explain::output_file(directory, &self.file_name())?;
            output::note(&format!("netns-lab: packets go to {}", file.display()));
            for place in &arguments.pcap_at {
                self.check_place(place)?;
            }
            lab = lab.capture(file).capture_at(arguments.pcap_at.clone());
            if let Some(bytes) = arguments.snap {
                lab = lab.snap_length(bytes.into());
            }
        }
        lab.build().context("the lab cannot be built")
    }
}

/// Says which host has which addresses, a line for each.
pub(crate) fn describe(stage: &Stage, lab: &Lab) -> String {
    let names: Vec<_> = stage.topology.host_names().collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let line = |name: &&str| {
        let host = lab.host(name);
        let seen = if host.external_ipv4() == host.ipv4() {
            String::new()
        } else {
            format!(", seen as {}", host.external_ipv4())
        };
        let boxes: Vec<_> = stage.topology.boxes_of(name);
        let behind: Vec<_> = boxes.iter().map(|(name, _)| name.as_str()).collect();
        let behind = if behind.is_empty() {
            String::new()
        } else {
            format!(", behind {}", behind.join(", then "))
        };
        format!("  {name:width$}  {}{seen}{behind}\n", host.ipv4())
    };
    names.iter().map(line).collect()
}

/// Says what boxes have dropped for no behaviour of theirs, a line for each reason.
pub(crate) fn tell_what_was_not_carried(lab: &Lab) {
    for nat in lab.nats() {
        for (reason, packets) in nat.not_carried() {
            output::note(&format!(
                "netns-lab: {} dropped {packets} packets ({reason}); with --engine netfilter, \
                 it would carry them",
                nat.name()
            ));
        }
    }
}

/// The environment that programs on the hosts of a lab find.
pub(crate) fn environment(lab: &Lab) -> Vec<(String, String)> {
    let of_host = |host: &Host| {
        let plain = |letter: char| letter.is_ascii_alphanumeric();
        let name = host.name().to_uppercase();
        let name = name.replace(|letter| !plain(letter), "_");
        [
            (format!("NETNS_LAB_{name}"), host.ipv4().to_string()),
            (
                format!("NETNS_LAB_{name}_EXTERNAL"),
                host.external_ipv4().to_string(),
            ),
            (format!("NETNS_LAB_{name}_IPV6"), host.ipv6().to_string()),
        ]
    };
    lab.hosts().flat_map(of_host).collect()
}

/// Replaces `{NAME}`, `{NAME.external}` and `{NAME.ipv6}` by addresses.
pub(crate) fn fill_in(lab: &Lab, text: &str) -> String {
    let fill = |text: String, host: &Host| {
        let name = host.name();
        text.replace(&format!("{{{name}}}"), &host.ipv4().to_string())
            .replace(
                &format!("{{{name}.external}}"),
                &host.external_ipv4().to_string(),
            )
            .replace(&format!("{{{name}.ipv6}}"), &host.ipv6().to_string())
    };
    lab.hosts().fold(text.to_owned(), fill)
}
