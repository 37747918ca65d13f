//! From a description to namespaces, links, addresses and rules.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::builder::{HostSpec, LabBuilder};
use super::core::{Core, lab_was_built};
use super::plan::{BoxPlan, GATEWAY_V4, GATEWAY_V6, HostPlan, IPV6_PREFIX};
use super::readiness::await_links;
use super::reaper::{Enrolment, reaper};
use super::{Host, Lab, Nat};
use crate::capture::{Capture, PcapngWriter};
use crate::engine::{Backbone, Engine, Port, Prefix};
use crate::error::Error;
use crate::firewall::{self, INSIDE, OUTSIDE};
use crate::link::Link;
use crate::namespace::{Namespace, set_sysctl};
use crate::netlink::route::{self, VethEnd};
use crate::netlink::{Message, Netlink};
use crate::packet_socket::disable_offload;

/// Ethernet's usual size.
const MTU: u32 = 1500;

/// The name of a host's only link.
const HOST_LINK: &str = "eth0";

/// Links get these numbers in every namespace; 1 is the loopback device.
const OUTSIDE_INDEX: u32 = 2;
const INSIDE_INDEX: u32 = 3;
const FIRST_CORE_INDEX: u32 = 2;

/// On a link without ARP, Linux sends to the sender's own hardware address. All
/// boxes having the same one, frames arrive without being changed on the way;
/// the core's ends have another, so that its own network stack ignores them.
const BOX_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CORE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Largest socket buffers of hosts, for the tcp_rmem and tcp_wmem settings:
/// four times the 8 MB under way at 100 MB/s and 80 ms.
const TCP_RECEIVE_BUFFER: &str = "4096 131072 33554432";
const TCP_SEND_BUFFER: &str = "4096 16384 33554432";

/// Builds a lab on a thread of its own, since that thread moves through namespaces.
pub(super) fn build(builder: LabBuilder) -> Result<Lab, Error> {
    std::thread::scope(|scope| {
        let assembler = spawn(scope, move || assemble(builder))?;
        assembler
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Error> {
    std::thread::Builder::new()
        .name("netns-lab-build".into())
        .spawn_scoped(scope, work)
        .map_err(|source| Error::System {
            action: "start a thread".into(),
            source,
        })
}

fn assemble(builder: LabBuilder) -> Result<Lab, Error> {
    let (reaper, enrolment) = reaper()?;
    let core = Core::take()?;
    let file = capture_file(&builder)?;
    let mut network = Network::default();
    let mut random = ChaCha8Rng::seed_from_u64(builder.seed);
    for (place, spec) in builder.hosts.into_iter().enumerate() {
        network.add_host(place, spec, &core.namespace, &enrolment, &mut random)?;
    }
    let Network {
        hosts,
        ports,
        routes,
    } = network;
    core.namespace.enter()?;
    for port in &ports {
        disable_offload(&core_link_name(port.link))?;
    }
    let core_links: Vec<_> = ports.iter().map(|port| port.link).collect();
    await_links(&core_links)?;
    let socket = core.into_socket()?;
    let capture = Capture::default();
    let record = builder.record.then(|| capture.clone());
    let engine = Engine::start(socket, Backbone::new(ports, routes, record, file))?;
    lab_was_built();
    Ok(Lab {
        hosts,
        capture,
        reaper,
        engine,
    })
}

fn capture_file(builder: &LabBuilder) -> Result<Option<PcapngWriter>, Error> {
    let names = builder.hosts.iter().map(|host| host.name.as_str());
    let create = |path| PcapngWriter::create(path, builder.snap_length, names);
    let file = builder.capture_file.as_deref().map(create);
    file.transpose().map_err(|source| Error::Capture { source })
}

/// What has been assembled so far.
#[derive(Default)]
struct Network {
    hosts: BTreeMap<String, Host>,
    ports: Vec<Port>,
    routes: BTreeMap<Prefix, usize>,
}

impl Network {
    fn add_host(
        &mut self,
        place: usize,
        spec: HostSpec,
        core: &Namespace,
        enrolment: &Enrolment,
        random: &mut ChaCha8Rng,
    ) -> Result<(), Error> {
        // The builder has limited the number of hosts to what fits an octet.
        let plan = HostPlan::new(place as u8 + 1, &spec.nats);
        let core_end = CoreEnd {
            namespace: core,
            index: FIRST_CORE_INDEX + place as u32,
        };
        self.routes.extend(
            plan.routed
                .iter()
                .map(|address| (Prefix::of(*address), place)),
        );
        self.ports.push(Port {
            name: Arc::from(spec.name.as_str()),
            link: core_end.index,
            up: Link::new(spec.link, random.random()),
            down: Link::new(spec.link, random.random()),
        });
        let host = assemble_host(spec, plan, core_end, enrolment, random)?;
        self.hosts.insert(host.name().to_owned(), host);
        Ok(())
    }
}

/// The core's end of an access link.
#[derive(Clone, Copy)]
struct CoreEnd<'a> {
    namespace: &'a Namespace,
    index: u32,
}

fn core_link_name(index: u32) -> String {
    format!("link{index}")
}

fn assemble_host(
    spec: HostSpec,
    plan: HostPlan,
    core: CoreEnd<'_>,
    enrolment: &Enrolment,
    random: &mut ChaCha8Rng,
) -> Result<Host, Error> {
    let name = core_link_name(core.index);
    let mut outer = VethEnd {
        name: &name,
        index: core.index,
        mac: CORE_MAC,
        mtu: MTU,
        namespace: core.namespace.descriptor(),
    };
    let mut nats = Vec::with_capacity(spec.nats.len());
    let mut outermost = true;
    for (nat, addresses) in spec.nats.iter().zip(&plan.boxes).rev() {
        let namespace = Namespace::enter_new()?;
        quiet()?;
        connect(
            outer,
            box_end(OUTSIDE, OUTSIDE_INDEX, namespace.descriptor()),
        )?;
        // The link further in is made from here, and before its routes.
        outer = box_end(INSIDE, INSIDE_INDEX, namespace.descriptor());
        if outermost {
            disable_offload(OUTSIDE)?;
        }
        outermost = false;
        firewall::install(nat, addresses.outside_ipv4, random.random())?;
        nats.push((namespace, *nat, addresses));
    }
    let namespace = Namespace::enter_new()?;
    quiet()?;
    connect(
        outer,
        box_end(HOST_LINK, OUTSIDE_INDEX, namespace.descriptor()),
    )?;
    if outermost {
        disable_offload(HOST_LINK)?;
    }
    configure_host(&plan)?;
    let mut boxes = Vec::with_capacity(nats.len());
    for (namespace, nat, addresses) in nats.into_iter().rev() {
        namespace.enter()?;
        configure_box(addresses, &plan)?;
        boxes.push(Nat::new(namespace, nat));
    }
    Ok(Host::new(
        spec.name,
        plan,
        namespace,
        boxes,
        enrolment.clone(),
    ))
}

const fn box_end(name: &str, index: u32, namespace: RawFd) -> VethEnd<'_> {
    VethEnd {
        name,
        index,
        mac: BOX_MAC,
        mtu: MTU,
        namespace,
    }
}

/// Makes a link between two namespaces; any of the lab's will do to ask from.
fn connect(outer: VethEnd<'_>, inner: VethEnd<'_>) -> Result<(), Error> {
    request("make a link", vec![route::veth(outer, inner)])
}

fn configure_host(plan: &HostPlan) -> Result<(), Error> {
    set_sysctl("ipv4/tcp_rmem", TCP_RECEIVE_BUFFER)?;
    set_sysctl("ipv4/tcp_wmem", TCP_SEND_BUFFER)?;
    let mut messages = vec![
        route::link_up(route::LOOPBACK),
        route::link_up(OUTSIDE_INDEX),
    ];
    messages.extend(outside_addresses(plan.ipv4.into(), plan.ipv6.into()));
    request("configure a host", messages)
}

fn configure_box(addresses: &BoxPlan, plan: &HostPlan) -> Result<(), Error> {
    set_sysctl("ipv4/ip_forward", "1")?;
    set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let mut messages = vec![
        route::link_up(route::LOOPBACK),
        route::link_up(OUTSIDE_INDEX),
    ];
    messages.extend(outside_addresses(
        addresses.outside_ipv4.into(),
        addresses.outside_ipv6.into(),
    ));
    for address in &addresses.inside {
        messages.push(route::route(
            ((*address).into(), 32),
            INSIDE_INDEX,
            Some(GATEWAY_V4),
        ));
    }
    // Boxes further in have IPv6 addresses from the host's /48 as well, and
    // nothing else in it is anywhere else.
    let prefix = (plan.ipv6.into(), IPV6_PREFIX);
    messages.push(route::route(prefix, INSIDE_INDEX, Some(GATEWAY_V6)));
    request("configure a NAT", messages)?;
    await_links(&[INSIDE_INDEX])
}

fn outside_addresses(
    ipv4: std::net::IpAddr,
    ipv6: std::net::IpAddr,
) -> impl Iterator<Item = Message> {
    let anywhere_v4 = (std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
    let anywhere_v6 = (std::net::Ipv6Addr::UNSPECIFIED.into(), 0);
    [
        route::address(OUTSIDE_INDEX, ipv4, 32),
        route::address(OUTSIDE_INDEX, ipv6, 128),
        route::route(anywhere_v4, OUTSIDE_INDEX, Some(GATEWAY_V4)),
        route::route(anywhere_v6, OUTSIDE_INDEX, Some(GATEWAY_V6)),
    ]
    .into_iter()
}

fn request(action: &str, messages: Vec<Message>) -> Result<(), Error> {
    Netlink::open(libc::NETLINK_ROUTE)?.request(action, messages)
}

/// Keeps the kernel from sending packets of its own accord on new links.
pub(super) fn quiet() -> Result<(), Error> {
    for (name, value) in [
        // No link-local addresses: nothing on these links is found by them.
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        // Inherited from the machine, where it may be strict.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        set_sysctl(name, value)?;
    }
    Ok(())
}
