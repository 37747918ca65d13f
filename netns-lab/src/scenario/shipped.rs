//! The scenarios that come with the lab.

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
