//! All tables of a scenario and their fields.

/// A table of a scenario.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is called in texts.
    pub(super) title: &'static str,
    /// The names of its fields, with spaces between them.
    fields: &'static [&'static str],
}

impl Section {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().flat_map(|names| names.split(' '))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// Declares tables, each with its title and its fields.
macro_rules! sections {
    ($($section:ident $title:literal: $($fields:expr),*;)*) => {
        $(pub(super) static $section: Section = Section {
            title: $title,
            fields: &[$($fields),*],
        };)*

        static ALL: &[&Section] = &[$(&$section),*];
    };
}

/// The fields of a [`NatSpec`](crate::NatSpec), and what it starts from.
const NAT_FIELDS: &str = "preset translation translation6 mapping filtering ports port_range \
                          pooling unsolicited simultaneous_open rst pickup hairpinning timers \
                          udp_inbound_refresh strip_window_scale drop_echo drop_ecn_udp \
                          drop_udp limits";

sections! {
    TOP "the scenario": "title seed limit hosts boxes gates dials punch steps expect";
    HOST "[hosts.NAME]": "behind link listen";
    OWN_BOX "a box of `behind`": NAT_FIELDS;
    BOX "[boxes.NAME]": NAT_FIELDS, "shared behind link addresses";
    TIMERS "`timers`": "transitory established time_wait udp echo";
    LIMITS "`limits`": "sessions sessions_per_host when_full";
    TRANSLATION6 "`translation6`": "nptv6";
    NPTV6 "`nptv6`": "internal external length";
    PORTS "`ports`": "sequential random-in-block";
    UNSOLICITED "`unsolicited`": "icmp-port-unreachable-after";
    LINK "`link`": "delay jitter loss burst_loss reordering duplicating rate queue mtu silent_mtu",
        "outage";
    BURST_LOSS "`burst_loss`": "enter leave loss";
    OUTAGE "`outage`": "from until";
    GATE "[[gates]]": "hold until limit";
    DIAL "[[dials]]": "at from to from_port to_port send_at expect delivered";
    PUNCH "[punch]": "dialler listener server";
    STEP "[[steps]]": "at reboot link_down link_up";
    EXPECT "[expect]": "result how within leaks";
}

/// Returns every field that a scenario can have, with the name of its table.
///
/// The reference is held to this list by a test.
pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = |section: &'static Section| section.names().map(|name| (section.title, name));
    ALL.iter().copied().flat_map(fields)
}
