//! All tables of a scenario and their fields.

/// A table of a scenario.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is called in texts.
    pub(super) title: &'static str,
    fields: &'static [&'static [&'static str]],
}

impl Section {
    const fn new(title: &'static str, fields: &'static [&'static [&'static str]]) -> Self {
        Self { title, fields }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().copied().flatten().copied()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// The fields of a [`NatSpec`](crate::NatSpec), and what it starts from.
const NAT_FIELDS: &[&str] = &[
    "preset",
    "translation",
    "translation6",
    "mapping",
    "filtering",
    "ports",
    "port_range",
    "pooling",
    "unsolicited",
    "simultaneous_open",
    "rst",
    "pickup",
    "hairpinning",
    "timers",
    "udp_inbound_refresh",
    "strip_window_scale",
    "drop_echo",
    "drop_ecn_udp",
    "limits",
];

pub(super) static TOP: Section = Section::new(
    "the scenario",
    &[&[
        "title", "seed", "limit", "hosts", "boxes", "gates", "dials", "punch", "steps", "expect",
    ]],
);
pub(super) static HOST: Section = Section::new("[hosts.NAME]", &[&["behind", "link", "listen"]]);
pub(super) static OWN_BOX: Section = Section::new("a box of `behind`", &[NAT_FIELDS]);
pub(super) static BOX: Section = Section::new(
    "[boxes.NAME]",
    &[NAT_FIELDS, &["shared", "behind", "link", "addresses"]],
);
pub(super) static LINK: Section = Section::new(
    "`link`",
    &[&[
        "delay",
        "jitter",
        "loss",
        "burst_loss",
        "reordering",
        "duplicating",
        "rate",
        "queue",
        "mtu",
        "silent_mtu",
        "outage",
    ]],
);
pub(super) static BURST_LOSS: Section =
    Section::new("`burst_loss`", &[&["enter", "leave", "loss"]]);
pub(super) static OUTAGE: Section = Section::new("`outage`", &[&["from", "until"]]);
pub(super) static TIMERS: Section = Section::new(
    "`timers`",
    &[&["transitory", "established", "time_wait", "udp", "echo"]],
);
pub(super) static LIMITS: Section = Section::new(
    "`limits`",
    &[&["sessions", "sessions_per_host", "when_full"]],
);
pub(super) static TRANSLATION6: Section = Section::new("`translation6`", &[&["nptv6"]]);
pub(super) static NPTV6: Section = Section::new("`nptv6`", &[&["internal", "external", "length"]]);
pub(super) static PORTS: Section = Section::new("`ports`", &[&["sequential", "random-in-block"]]);
pub(super) static UNSOLICITED: Section =
    Section::new("`unsolicited`", &[&["icmp-port-unreachable-after"]]);
pub(super) static GATE: Section = Section::new("[[gates]]", &[&["hold", "until", "limit"]]);
pub(super) static DIAL: Section = Section::new(
    "[[dials]]",
    &[&[
        "at",
        "from",
        "to",
        "from_port",
        "to_port",
        "send_at",
        "expect",
        "delivered",
    ]],
);
pub(super) static PUNCH: Section = Section::new("[punch]", &[&["dialler", "listener", "server"]]);
pub(super) static STEP: Section =
    Section::new("[[steps]]", &[&["at", "reboot", "link_down", "link_up"]]);
pub(super) static EXPECT: Section =
    Section::new("[expect]", &[&["result", "how", "within", "leaks"]]);

static ALL: &[&Section] = &[
    &TOP,
    &HOST,
    &BOX,
    &OWN_BOX,
    &LINK,
    &BURST_LOSS,
    &OUTAGE,
    &TIMERS,
    &LIMITS,
    &TRANSLATION6,
    &NPTV6,
    &PORTS,
    &UNSOLICITED,
    &GATE,
    &DIAL,
    &PUNCH,
    &STEP,
    &EXPECT,
];

/// Returns every field that a scenario can have, with the name of its table.
///
/// The reference is held to this list by a test.
pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = |section: &&'static Section| {
        let title = section.title;
        section.names().map(move |name| (title, name))
    };
    ALL.iter().flat_map(fields)
}
