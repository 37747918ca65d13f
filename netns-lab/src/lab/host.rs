//! Hosts and boxes of a running lab.
#![expect(
    unsafe_code,
    reason = "a command enters its namespace between fork and exec"
)]

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::Arc,
};

use p2pconnect_nat::NatSpec;

use super::reaper::Enrolment;
use crate::{
    error::Error,
    firewall,
    middlebox::SharedModel,
    model::DropReason,
    namespace::{self, Namespace},
    netlink::conntrack,
    tracked::TrackedConnection,
};

/// A host of a lab; clones refer to the same host.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<HostInner>,
}

#[derive(Debug)]
struct HostInner {
    name: String,
    addresses: HostAddresses,
    namespace: Arc<Namespace>,
    nats: Vec<Nat>,
    enrolment: Enrolment,
}

/// The addresses that matter to a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostAddresses {
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    pub(super) external_ipv4: Ipv4Addr,
}

impl Host {
    pub(super) fn new(
        name: String,
        addresses: HostAddresses,
        namespace: Namespace,
        nats: Vec<Nat>,
        enrolment: Enrolment,
    ) -> Self {
        let namespace = Arc::new(namespace);
        Self {
            inner: Arc::new(HostInner {
                name,
                addresses,
                namespace,
                nats,
                enrolment,
            }),
        }
    }

    /// Returns the host's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the IPv4 address on the host's own link.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.inner.addresses.ipv4
    }

    /// Returns the IPv6 address on the host's own link; it is public.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.inner.addresses.ipv6
    }

    /// Returns the IPv4 address that the core sees the host under.
    pub fn external_ipv4(&self) -> Ipv4Addr {
        self.inner.addresses.external_ipv4
    }

    /// Returns the boxes in front of the host, innermost first.
    pub fn nats(&self) -> &[Nat] {
        &self.inner.nats
    }

    /// Returns a command that will run on the host.
    ///
    /// The program is killed when the lab is dropped, and, with everything it has started itself,
    /// when the process that built the lab ends, however it ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = Arc::clone(&self.inner.namespace);
        let enrolment = self.inner.enrolment.clone();
        let enter = move || {
            enrolment.enrol()?;
            namespace::enter(namespace.descriptor())
        };
        // SAFETY: `enter` makes two system calls and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `work` on a new thread on the host, and returns its result.
    ///
    /// Sockets opened there, and threads started there, belong to the host. A panic in `work` goes
    /// on in the caller.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the thread cannot be started or enter the host.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.inner.namespace.run(work)
    }
}

/// A NAT or firewall of a lab; clones refer to the same box.
#[derive(Debug, Clone)]
pub struct Nat {
    name: Arc<str>,
    spec: NatSpec,
    inner: Inner,
}

#[derive(Debug, Clone)]
enum Inner {
    Netfilter(Arc<Namespace>),
    Model(SharedModel),
}

impl Nat {
    pub(super) fn netfilter(name: Arc<str>, spec: NatSpec, namespace: Namespace) -> Self {
        let inner = Inner::Netfilter(Arc::new(namespace));
        Self { name, spec, inner }
    }

    pub(super) const fn model(name: Arc<str>, spec: NatSpec, model: SharedModel) -> Self {
        let inner = Inner::Model(model);
        Self { name, spec, inner }
    }

    /// Returns the box's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how the box was asked to behave.
    pub fn spec(&self) -> NatSpec {
        self.spec
    }

    /// Returns the TCP connections that the box tracks now.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`] if the kernel refuses to tell.
    pub fn mappings(&self) -> Result<Vec<TrackedConnection>, Error> {
        match &self.inner {
            Inner::Netfilter(namespace) => namespace.run(conntrack::list)?,
            Inner::Model(model) => Ok(model.with(|model| model.tracked_connections())),
        }
    }

    /// Returns how many packets the box has dropped so far for no behaviour of its own, but because
    /// the model carries no such packets, by the reason. Netfilter carries all.
    pub fn not_carried(&self) -> Vec<(DropReason, u64)> {
        match &self.inner {
            Inner::Netfilter(_) => Vec::new(),
            Inner::Model(model) => model.with(|model| model.not_carried().collect()),
        }
    }

    /// Makes the box forget every connection, as a restart would.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`] if the kernel refuses.
    pub fn flush(&self) -> Result<(), Error> {
        match &self.inner {
            Inner::Netfilter(namespace) => namespace.run(|| {
                // In this order, since an open endpoint would let new entries in.
                firewall::forget(&self.spec)?;
                conntrack::flush()
            })?,
            Inner::Model(model) => {
                let name = self.name.to_string();
                let rebooted = model.with(|model| model.reboot(None));
                rebooted.map_err(|source| Error::InvalidNat { name, source })
            }
        }
    }
}
