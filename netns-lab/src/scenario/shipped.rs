//! The scenarios that come with the lab.

use crate::preset::{near, suggestion};

/// No scenario of that name comes with the lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scenario {name:?}{}", suggestion(.near))]
pub struct UnknownScenario {
    /// What was asked for.
    pub name: String,
    /// Names that are close to it, the closest first; often none.
    pub near: Vec<&'static str>,
}

/// Returns the text of a scenario that comes with the lab.
///
/// # Errors
///
/// [`UnknownScenario`], with the names that may have been meant.
pub fn find(name: &str) -> Result<&'static str, UnknownScenario> {
    let mut all = shipped().iter();
    let found = all.find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| UnknownScenario {
        name: name.to_owned(),
        near: near(name, shipped().iter().map(|(known, _)| *known)),
    })
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Returns the names and texts of the scenarios that come with the lab.
///
/// They teach, and each says in comments what to see.
pub const fn shipped() -> &'static [(&'static str, &'static str)] {
    shipped![
        "a-first-silent-nats",
        "b-first-silent-nats",
        "crossing-syns",
        "delayed-icmp",
        "icmp-poisoning",
        "link-down-and-up",
        "lost-first-syn",
        "no-hairpin",
        "one-cgn-hairpin",
        "openwrt-vs-cgnat",
        "reboot-in-mid-connection",
        "rst-in-between",
        "slow-link",
        "two-layers",
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_suggested() {
        assert!(find("rst-in-between").is_ok());
        let error = find("rst-inbetween").map_err(|error| error.to_string());
        let message = "there is no scenario \"rst-inbetween\"; did you mean rst-in-between?";
        assert_eq!(error, Err(message.to_owned()));
        assert!(find("unheard-of").is_err_and(|error| error.near.is_empty()));
    }
}
