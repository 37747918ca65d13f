//! Where netfilter and the model differ, and why; the README lists the same.

use netns_lab::{
    Dependence, NatSpec, PortAssignment, SimultaneousOpen, Translation, UnsolicitedSyn,
};

use crate::ground::Sight;

/// One difference between netfilter and the model.
pub(crate) struct Exception {
    scripts: &'static [&'static str],
    applies: fn(&NatSpec) -> bool,
    /// What netfilter shows and the model does not; if there is nothing, it is a matter of chance,
    /// since it depends on initial sequence numbers.
    netfilter: Option<&'static str>,
    /// What the model shows and netfilter does not, where it is always the same.
    model: Option<&'static str>,
    pub(crate) why: &'static str,
}

const ALL: &[Exception] = &[
    Exception {
        scripts: &["reset from inside", "reset from outside"],
        applies: |nat| nat.unsolicited != UnsolicitedSyn::Nothing,
        netfilter: Some("back: Silence"),
        model: None,
        why: "for ten seconds after a reset Linux drops a SYN from the other end without an answer",
    },
    Exception {
        scripts: &["reset from inside"],
        applies: |nat| {
            nat.ports == PortAssignment::Preserved
                && nat.mapping == Dependence::AddressAndPortDependent
        },
        netfilter: Some("a again: Some(\"203.0.113.3 another\")"),
        model: Some("a again: Some(\"203.0.113.3 kept\")"),
        why: "a port stays given out after a reset",
    },
    Exception {
        scripts: &["reboot, inside speaks"],
        applies: picks_up_by_hash,
        netfilter: Some("second: Bytes(\"still there?\")"),
        model: Some("first: Reset"),
        why: "a random port is a hash of the seed and the ends, so it is the same after a reboot",
    },
    Exception {
        scripts: &["reboot, outside speaks"],
        applies: picks_up_by_hash,
        netfilter: Some("first: Bytes(\"yes\")"),
        model: Some("first: Silence"),
        why: "a random port is a hash of the seed and the ends, so it is the same after a reboot",
    },
    Exception {
        scripts: &["closed, then redialled"],
        applies: |nat| {
            nat.filtering == Dependence::AddressDependent
                && nat.simultaneous_open == SimultaneousOpen::Reset
                && answers_by_icmp(nat)
        },
        netfilter: Some("b.nat -> b: syn-ack, rst, syn"),
        model: Some("b.nat -> b: syn-ack, rst"),
        why: "an address that was sent to may send after a reset has ended the connection",
    },
    Exception {
        scripts: &["a first, answered"],
        applies: |nat| [nat.mapping, nat.filtering] == [Dependence::EndpointIndependent; 2],
        netfilter: Some("b.nat -> core: syn, syn-ack"),
        model: Some("b.nat -> core: syn, syn-ack, syn"),
        why: "Linux drops a SYN behind the SYN-ACK of the same end",
    },
    Exception {
        scripts: &["a first"],
        applies: |nat| {
            [nat.mapping, nat.filtering] == [Dependence::EndpointIndependent; 2]
                && nat.simultaneous_open == SimultaneousOpen::Reset
        },
        netfilter: None,
        model: None,
        why: "Linux does not believe a reset outside the window; the model believes each",
    },
    Exception {
        scripts: &["a first", "a first, answered", "closed, then redialled"],
        applies: |nat| {
            nat.filtering == Dependence::AddressAndPortDependent
                && nat.mapping == Dependence::EndpointIndependent
                && nat.simultaneous_open == SimultaneousOpen::Allowed
                && nat.unsolicited != UnsolicitedSyn::Rst
        },
        netfilter: None,
        model: None,
        why: "a SYN from outside after its socket is gone leaves Linux in SYN_SENT2, where it may \
              drop the host's reset and its next attempts for two minutes",
    },
    Exception {
        scripts: &["echo"],
        applies: |nat| {
            let kept = matches!(
                nat.ports,
                PortAssignment::PreservedWithOverload | PortAssignment::Preserved
            );
            nat.translation == Translation::Nat44 && !kept && !nat.drop_echo
        },
        netfilter: Some("identifiers kept: [true, true, true, true]"),
        model: Some("identifiers kept: [false, false, false, false]"),
        why: "netfilter keeps the identifier of an echo where it can, however it chooses ports",
    },
];

fn picks_up_by_hash(nat: &NatSpec) -> bool {
    let random = matches!(
        nat.ports,
        PortAssignment::Random | PortAssignment::RandomInBlock { .. }
    );
    nat.pickup && random && nat.translation == Translation::Nat44
}

fn answers_by_icmp(nat: &NatSpec) -> bool {
    matches!(
        nat.unsolicited,
        UnsolicitedSyn::IcmpProhibited | UnsolicitedSyn::IcmpPortUnreachable
    )
}

/// Returns the exceptions that a script meets with a box.
pub(crate) fn of(script: &str, nat: &NatSpec) -> Vec<&'static Exception> {
    let meets =
        |exception: &&Exception| exception.scripts.contains(&script) && (exception.applies)(nat);
    ALL.iter().filter(meets).collect()
}

impl Exception {
    /// Returns whether the difference is there, as far as it must be.
    pub(crate) fn shows(&self, netfilter: &Sight, model: &Sight) -> bool {
        let only = |text: Option<&str>, here: &Sight, there: &Sight| {
            text.is_none_or(|text| here.has(text) && !there.has(text))
        };
        only(self.netfilter, netfilter, model) && only(self.model, model, netfilter)
    }
}
