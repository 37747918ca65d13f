//! Presets: what stands between real devices and the world.
//!
//! A [`Preset`] is a chain of boxes. Each [`Layer`] starts as the NAT that RFC 5382 asks for
//! ([`NatSpec::rfc5382`]) and differs from it by [`Fact`]s, each with the [`Source`] that says so.
//! Specifications are made of the facts, so that no difference can lack its source.
//!
//! ```
//! let router = netns_lab::preset::find("openwrt")?;
//! assert_eq!(router.specs().len(), 1);
//! for fact in router.facts() {
//!     // "answers an unsolicited SYN with a reset", and where that is from.
//!     assert!(!fact.source.to_string().is_empty());
//! }
//! # Ok::<(), netns_lab::preset::UnknownPreset>(())
//! ```
//!
//! # Limits
//!
//! A preset is what its sources say of the default configuration. Devices of one make differ by
//! version and configuration; what a source leaves open is marked [`Source::Assumed`].

mod behaviour;
mod carrier;
mod cloud;
mod home;
mod office;
mod virtualisation;

use std::fmt;

use crate::model::NatSpec;

pub use behaviour::Behaviour;

/// Most differences (insertions, deletions, changes of a letter) between what was asked for and a
/// name that is suggested instead.
const NEAR: usize = 3;

/// A real device, or the chain of them that a kind of customer is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What it is called in scenarios and on the command line.
    pub name: &'static str,
    /// What it stands for, in some words.
    pub title: &'static str,
    /// Its boxes, the innermost first; none for a host with a public address.
    pub layers: &'static [Layer],
}

/// One box of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// What the box is.
    pub title: &'static str,
    /// In what it differs from RFC 5382's NAT, in groups that boxes share.
    pub facts: &'static [&'static [Fact]],
}

/// Something known about a box, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// What is known.
    pub behaviour: Behaviour,
    /// Who says so.
    pub source: Source,
}

/// Who says that a box behaves in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An RFC asks for it; with the requirement or section.
    Rfc(&'static str),
    /// A document of the maker, the source code, or a paper.
    Document {
        /// What it is.
        title: &'static str,
        /// Where it is.
        url: &'static str,
    },
    /// It was measured; how.
    Measured(&'static str),
    /// Nobody that we know of; why it is likely.
    Assumed(&'static str),
}

/// There is no preset of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset {name:?}{}", suggestion(.near))]
pub struct UnknownPreset {
    /// What was asked for.
    pub name: String,
    /// Names that are close to it, the closest first; often none.
    pub near: Vec<&'static str>,
}

/// A host with a public address and nothing that filters.
const PUBLIC: Preset = Preset {
    name: "public",
    title: "no box: a public address",
    layers: &[],
};

/// All presets, in the order of tables.
static ALL: &[Preset] = &[
    PUBLIC,
    home::FULL_CONE,
    home::LINUX_ROUTER,
    home::LINUX_MASQUERADE,
    home::OPENWRT,
    home::ANDROID_HOTSPOT,
    home::IPHONE_HOTSPOT,
    home::IPV6_CPE,
    home::IPV6_RFC6092,
    office::PF,
    office::PF_STATIC_PORT,
    office::CISCO_ASA,
    office::JUNIPER_PERSISTENT_NAT,
    office::CORPORATE_FIREWALL,
    carrier::CGNAT_RFC6888,
    carrier::CGNAT_PORT_BLOCK,
    carrier::CGNAT_STRICT,
    carrier::JUNIPER_CGN,
    carrier::MOBILE_CARRIER,
    carrier::HOME_BEHIND_CGNAT,
    cloud::AWS_NAT_GATEWAY,
    cloud::AZURE_NAT_GATEWAY,
    cloud::GCP_CLOUD_NAT,
    cloud::GCP_CLOUD_NAT_EIM,
    virtualisation::DOCKER,
    virtualisation::LIBVIRT,
    virtualisation::VIRTUALBOX_NAT,
];

/// Returns all presets, in the order of tables.
pub fn all() -> &'static [Preset] {
    ALL
}

/// Finds a preset by its name.
///
/// # Errors
///
/// [`UnknownPreset`], with the names that may have been meant.
pub fn find(name: &str) -> Result<&'static Preset, UnknownPreset> {
    ALL.iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| unknown(name))
}

impl Preset {
    /// Returns its boxes, the innermost first.
    pub fn specs(&self) -> Vec<NatSpec> {
        self.layers.iter().map(Layer::spec).collect()
    }

    /// Returns all that is known about its boxes, the innermost first.
    pub fn facts(&self) -> impl Iterator<Item = &'static Fact> + use<> {
        self.layers.iter().flat_map(Layer::facts)
    }
}

impl Layer {
    /// Returns the box: RFC 5382's NAT, changed by the facts.
    pub fn spec(&self) -> NatSpec {
        let mut spec = NatSpec::rfc5382();
        for fact in self.facts() {
            fact.behaviour.apply(&mut spec);
        }
        spec
    }

    /// Returns all that is known about the box.
    pub fn facts(&self) -> impl Iterator<Item = &'static Fact> + use<> {
        self.facts.iter().copied().flatten()
    }
}

impl Fact {
    const fn new(behaviour: Behaviour, source: Source) -> Self {
        Self { behaviour, source }
    }

    const fn assumed(behaviour: Behaviour, why: &'static str) -> Self {
        Self::new(behaviour, Source::Assumed(why))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rfc(section) => f.write_str(section),
            Self::Document { title, url } => write!(f, "{title}, {url}"),
            Self::Measured(how) => write!(f, "measured: {how}"),
            Self::Assumed(why) => write!(f, "assumed: {why}"),
        }
    }
}

fn unknown(name: &str) -> UnknownPreset {
    UnknownPreset {
        name: name.to_owned(),
        near: near(name, ALL.iter().map(|preset| preset.name)),
    }
}

/// Returns the names that are near one that is none of them, the nearest first.
pub(crate) fn near<'n>(asked: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut near: Vec<_> = names
        .filter_map(|name| Some((distance(asked, name)?, name)))
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).collect()
}

/// Returns how far apart two names are, if they are near each other: one is part of the other, or
/// they differ in a few letters.
fn distance(asked: &str, name: &str) -> Option<usize> {
    let edits = strsim::levenshtein(asked, name);
    let is_part = !asked.is_empty() && (name.contains(asked) || asked.contains(name));
    (is_part || edits <= NEAR && edits < asked.len()).then_some(edits)
}

/// Returns the end of a message about a name that is none.
pub(crate) fn suggestion(near: &[&str]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests;
