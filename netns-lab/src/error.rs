//! What can go wrong while a lab is built or used.

use std::{io, time::Duration};

use p2pconnect_nat::SpecError;

use crate::{
    fabric::{GateError, WorldError},
    link::LinkError,
};

/// An error of the lab itself; what the programs inside it do is not its business.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {action}: the kernel answered {source}{detail}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's own words in parentheses, where it has any.
        detail: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel or its configuration lacks something that every lab needs.
    #[error("this system cannot run a lab: cannot {missing} ({source}); {advice}")]
    Unsupported {
        /// What could not be done.
        missing: &'static str,
        /// What the user can do about it.
        advice: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process did not enter namespaces of its own first.
    #[error(
        "a lab can only be built inside namespaces of its own: call netns_lab::isolate() first \
         thing in main, or wrap the test in netns_lab::test"
    )]
    NotIsolated,
    /// Two hosts or boxes have the same name, or one has the core's.
    #[error("the lab has two hosts or boxes named {name:?}; \"core\" is taken as well")]
    DuplicateName {
        /// The name in question.
        name: String,
    },
    /// More hosts than the address plan has room for.
    #[error("a lab has room for {limit} hosts, not for {wanted}")]
    TooManyHosts {
        /// The number of hosts asked for.
        wanted: usize,
        /// The number of hosts that the address plan has room for.
        limit: usize,
    },
    /// A name that could not be written in a gate or a file.
    #[error("{name:?} is no name for a host or box: it is empty or has spaces in it")]
    InvalidName {
        /// The name in question.
        name: String,
    },
    /// A host or box is behind a shared box that was not described before it.
    #[error("{name:?} is to be behind {above:?}, but no shared box of that name comes before it")]
    UnknownBox {
        /// What is to be behind it.
        name: String,
        /// The box that there is not.
        above: String,
    },
    /// More external addresses of shared boxes than the address plan has room for.
    #[error("shared boxes have room for {limit} external addresses, not for {wanted}")]
    TooManyAddresses {
        /// The number of addresses asked for.
        wanted: usize,
        /// The number that the address plan has room for.
        limit: usize,
    },
    /// A gate that cannot be built.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A place or link that cannot be built.
    #[error("the network cannot be built: {0}")]
    Network(#[from] WorldError),
    /// More NATs in a row than the address plan has room for.
    #[error("host {name:?} is behind {wanted} boxes; at most {limit} are possible")]
    TooManyLayers {
        /// The host in question.
        name: String,
        /// The number of boxes asked for.
        wanted: usize,
        /// The number of boxes that the address plan has room for.
        limit: usize,
    },
    /// A specification that describes no box.
    #[error("host {name:?} is behind an impossible box: {source}")]
    InvalidNat {
        /// The host in question.
        name: String,
        /// What is wrong with it.
        source: SpecError,
    },
    /// A behaviour that a box made of netfilter cannot have.
    #[error(
        "host {name:?} is behind a box that netfilter cannot be: it cannot {what}; use the model"
    )]
    Inexpressible {
        /// The host in question.
        name: String,
        /// What netfilter cannot do.
        what: &'static str,
    },
    /// A link that cannot be built as described.
    #[error("host {name:?} has a link that cannot be built: {source}")]
    InvalidLink {
        /// The host in question.
        name: String,
        /// What is wrong with the link.
        source: LinkError,
    },
    /// The kernel did not make a new link ready.
    #[error("the kernel has not made a link ready within {limit:?}; is the machine overloaded?")]
    LinksDown {
        /// How long was waited.
        limit: Duration,
    },
    /// A command did not end in time and was killed.
    #[error("{what} did not end within {limit:?} and was killed")]
    TimedOut {
        /// What was running.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The capture file could not be written to its end.
    #[error("cannot write the capture file: {source}")]
    Capture {
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps `errno` after a failed system call.
    pub(crate) fn system(action: &str) -> Self {
        Self::System {
            action: action.to_owned(),
            source: io::Error::last_os_error(),
        }
    }
}
