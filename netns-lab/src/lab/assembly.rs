//! From a description to namespaces, links, addresses and rules.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::RawFd,
    sync::Arc,
};

use p2pconnect_nat::NatSpec;

use super::{
    Host, Lab, Nat,
    builder::{Engine as BoxEngine, LabBuilder},
    core::{Core, lab_was_built},
    host::HostAddresses,
    quiet::quiet,
    readiness::await_links,
    reaper::{Enrolment, reaper},
};
use crate::{
    capture::{Capture, PcapngWriter},
    engine::{Engine, Records, Wires},
    error::Error,
    fabric::{CORE, Fabric, NodeId},
    firewall::{self, INSIDE, OUTSIDE},
    isolation::is_isolated,
    middlebox::Side,
    namespace::{Namespace, set_sysctl},
    netlink::{
        Message, Netlink,
        route::{self, VethEnd},
    },
    packet_socket::{BOX_MAC, CORE_MAC, disable_offload},
    record::SharedLog,
    topology::{Plan, Planned, PlannedNode},
};

/// Ethernet's usual size.
const MTU: u32 = 1500;

/// The name of a host's only link.
const HOST_LINK: &str = "eth0";

/// Links get these numbers in every namespace; 1 is the loopback device.
const OUTSIDE_INDEX: u32 = 2;
const INSIDE_INDEX: u32 = 3;
const FIRST_CORE_INDEX: u32 = 2;

/// The next hop of every box and host, on every link: no address needs to exist there, since frames
/// go to the other end of the link anyway.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The same for IPv6.
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Packets under way at most: 98 MB of full packets, which is 100 MB/s over a second of delay.
const MAX_UNDER_WAY: usize = 65_536;

/// Largest socket buffers of hosts, for the tcp_rmem and tcp_wmem settings: four times the 8 MB
/// under way at 100 MB/s and 80 ms.
const TCP_RECEIVE_BUFFER: &str = "4096 131072 33554432";
const TCP_SEND_BUFFER: &str = "4096 16384 33554432";

/// The congestion control of hosts, where the kernel has it: what most systems have set. Others
/// differ by more than what is measured: BBR takes half the round trip of a simultaneous open for
/// the path's shortest, and is slow for 10 s.
const CONGESTION_CONTROL: &str = "cubic";

impl LabBuilder {
    /// Builds the lab.
    ///
    /// # Errors
    ///
    /// [`Error::NotIsolated`] outside of [`isolate`](crate::isolate) and [`test`](crate::test); an
    /// error that names the host for a description that cannot be built; otherwise what the kernel
    /// refused.
    pub fn build(self) -> Result<Lab, Error> {
        self.topology.check()?;
        if self.engine == BoxEngine::Netfilter {
            self.check_netfilter()?;
        }
        if !is_isolated() {
            return Err(Error::NotIsolated);
        }
        assemble_apart(self)
    }
}

/// Builds a lab on a thread of its own, since that thread moves through namespaces.
fn assemble_apart(builder: LabBuilder) -> Result<Lab, Error> {
    std::thread::scope(|scope| {
        let assembler = std::thread::Builder::new()
            .name("netns-lab-build".into())
            .spawn_scoped(scope, || assemble(&builder))
            .map_err(|source| Error::System {
                action: "start a thread".into(),
                source,
            })?;
        assembler
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn assemble(builder: &LabBuilder) -> Result<Lab, Error> {
    let (reaper, enrolment) = reaper()?;
    let core = Core::take()?;
    let core_namespace = Arc::clone(&core.namespace);
    let plan = Plan::new(&builder.topology, builder.seed);
    let mut nats = BTreeMap::new();
    let gates = &builder.topology.gates;
    let (fabric, ids) = plan.fabric(builder.seed, MAX_UNDER_WAY, gates, |node, nat| {
        if builder.engine == BoxEngine::Netfilter {
            return Ok(None);
        }
        let model = node.model(nat)?;
        let handle = Nat::model(Arc::clone(&node.name), nat, model.clone());
        nats.insert(Arc::clone(&node.name), handle);
        Ok(Some(Box::new(model)))
    })?;
    let ground = Ground {
        plan: &plan,
        ids: &ids,
        fabric: &fabric,
        core: &core_namespace,
    };
    let mut devices = Vec::new();
    let mut namespaces = BTreeMap::new();
    for (place, node) in plan.nodes.iter().enumerate() {
        match &node.kind {
            Planned::Host => {
                namespaces.insert(place, ground.add_host(place, node, &mut devices)?);
            }
            Planned::Box(_) if builder.engine == BoxEngine::Model => {}
            Planned::Box(nat) => {
                let namespace = ground.add_box(place, node, nat, &mut devices)?;
                let nat = Nat::netfilter(Arc::clone(&node.name), *nat, namespace);
                nats.insert(Arc::clone(&node.name), nat);
            }
        }
    }
    // Its links keep their offloads, so that trains of segments come out whole.
    core_namespace.enter()?;
    let numbers: Vec<_> = devices.iter().map(|(device, ..)| *device).collect();
    await_links(&numbers)?;
    let socket = core.into_socket()?;
    let (records, capture, log) = records(builder, &plan)?;
    let owners = ground.owners();
    let names = plan.nodes.iter().map(|node| Arc::clone(&node.name));
    let places = names.zip(ids.iter().copied()).collect();
    let hosts = hosts(&plan, namespaces, &nats, &enrolment);
    let wires = Wires::new(fabric, devices, owners, records);
    let engine = Engine::start(socket, wires)?;
    lab_was_built();
    Ok(Lab {
        hosts,
        nats,
        capture,
        log,
        places,
        reaper,
        engine,
    })
}

fn records(builder: &LabBuilder, plan: &Plan) -> Result<(Records, Capture, SharedLog), Error> {
    let (capture, log) = (Capture::default(), SharedLog::default());
    let create = |path| {
        let writer = PcapngWriter::create(path, builder.snap_length, interfaces(plan))?;
        let places = &builder.captured_at;
        Ok::<_, std::io::Error>(match places.as_slice() {
            [] => writer,
            _ => writer.only(ends(plan).map(|place| places.iter().any(|it| it == place))),
        })
    };
    let file = builder.capture_file.as_deref().map(create).transpose();
    let records = Records {
        capture: builder.record.then(|| capture.clone()),
        file: file.map_err(|source| Error::Capture { source })?,
        log: builder.log.then(|| log.clone()),
    };
    Ok((records, capture, log))
}

/// Names the places at the ends of the link above each node, the lower one first.
fn ends(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.nodes.iter().flat_map(|node| {
        let above = node.parent.map_or(CORE, |parent| &plan.nodes[parent].name);
        [&*node.name, above]
    })
}

/// Names the two ends of the link above each node.
fn interfaces(plan: &Plan) -> impl Iterator<Item = String> {
    plan.nodes.iter().flat_map(|node| {
        let above = node.parent.map_or(CORE, |parent| &plan.nodes[parent].name);
        let name = &node.name;
        [
            format!("{name} (to {above})"),
            format!("{above} (to {name})"),
        ]
    })
}

fn hosts(
    plan: &Plan,
    mut namespaces: BTreeMap<usize, Namespace>,
    nats: &BTreeMap<Arc<str>, Nat>,
    enrolment: &Enrolment,
) -> BTreeMap<String, Host> {
    let mut hosts = BTreeMap::new();
    for (place, node) in plan.nodes.iter().enumerate() {
        let Some(namespace) = namespaces.remove(&place) else {
            continue;
        };
        let above = plan.above(place);
        let boxes = above.filter_map(|above| nats.get(&plan.nodes[above].name).cloned());
        let name = node.name.to_string();
        let addresses = HostAddresses {
            ipv4: node.ipv4(),
            ipv6: node.ipv6(),
            external_ipv4: plan.external_ipv4(place),
        };
        let host = Host::new(
            name.clone(),
            addresses,
            namespace,
            boxes.collect(),
            enrolment.clone(),
        );
        hosts.insert(name, host);
    }
    hosts
}

/// What the places of a lab are made from.
struct Ground<'a> {
    plan: &'a Plan,
    ids: &'a [NodeId],
    fabric: &'a Fabric,
    core: &'a Namespace,
}

impl Ground<'_> {
    /// Makes a host, connected to the core.
    fn add_host(
        &self,
        place: usize,
        node: &PlannedNode,
        devices: &mut Vec<(u32, NodeId, Side)>,
    ) -> Result<Namespace, Error> {
        let namespace = Namespace::enter_new()?;
        quiet()?;
        let end = box_end(HOST_LINK, OUTSIDE_INDEX, namespace.descriptor());
        devices.push((
            self.connect(place, Side::External, end)?,
            self.ids[place],
            Side::External,
        ));
        disable_offload(HOST_LINK)?;
        set_sysctl("ipv4/tcp_rmem", TCP_RECEIVE_BUFFER)?;
        set_sysctl("ipv4/tcp_wmem", TCP_SEND_BUFFER)?;
        // A kernel without it keeps the machine's.
        drop(set_sysctl(
            "ipv4/tcp_congestion_control",
            CONGESTION_CONTROL,
        ));
        request("configure a host", outside_messages(node))?;
        Ok(namespace)
    }

    /// Makes a box of the kernel's, connected to the core on both sides.
    fn add_box(
        &self,
        place: usize,
        node: &PlannedNode,
        nat: &NatSpec,
        devices: &mut Vec<(u32, NodeId, Side)>,
    ) -> Result<Namespace, Error> {
        let namespace = Namespace::enter_new()?;
        quiet()?;
        for (side, name, index) in [
            (Side::External, OUTSIDE, OUTSIDE_INDEX),
            (Side::Internal, INSIDE, INSIDE_INDEX),
        ] {
            let end = box_end(name, index, namespace.descriptor());
            devices.push((self.connect(place, side, end)?, self.ids[place], side));
            disable_offload(name)?;
        }
        firewall::install(nat, node.ipv4(), node.seed as u32)?;
        set_sysctl("ipv4/ip_forward", "1")?;
        set_sysctl("ipv6/conf/all/forwarding", "1")?;
        let mut messages = outside_messages(node);
        messages.push(route::link_up(INSIDE_INDEX));
        for inside in self.fabric.inside(self.ids[place]) {
            let (address, length) = inside.parts();
            let gateway = if address.is_ipv4() {
                GATEWAY_V4
            } else {
                GATEWAY_V6
            };
            messages.push(route::route(address, length, INSIDE_INDEX, Some(gateway)));
        }
        request("configure a NAT", messages)?;
        Ok(namespace)
    }

    /// Makes a link between a side of a node and the core, and returns the device at the core's
    /// end.
    fn connect(&self, place: usize, side: Side, end: VethEnd<'_>) -> Result<u32, Error> {
        // The topology has limited the number of places.
        let device = FIRST_CORE_INDEX + 2 * place as u32 + u32::from(side == Side::Internal);
        let name = core_link_name(device);
        let core = VethEnd {
            name: &name,
            index: device,
            mac: CORE_MAC,
            mtu: MTU,
            namespace: self.core.descriptor(),
        };
        // Any of the lab's namespaces will do to ask from.
        request("make a link", vec![route::veth(core, end)])?;
        Ok(device)
    }

    /// Names the links to the core.
    fn owners(&self) -> BTreeMap<NodeId, Arc<str>> {
        let nodes = self.ids.iter().zip(&self.plan.nodes);
        nodes
            .filter(|(_, node)| node.parent.is_none())
            .map(|(id, node)| (*id, Arc::clone(&node.owner)))
            .collect()
    }
}

fn core_link_name(device: u32) -> String {
    format!("link{device}")
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

/// Brings a node's outer link up and gives it the node's addresses and the routes to everywhere.
fn outside_messages(node: &PlannedNode) -> Vec<Message> {
    let mut messages = vec![
        route::link_up(route::LOOPBACK),
        route::link_up(OUTSIDE_INDEX),
    ];
    for address in &node.addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        messages.push(route::address(OUTSIDE_INDEX, *address, length));
        if let IpAddr::V6(address) = address {
            messages.push(route::local(*address, OUTSIDE_INDEX));
        }
    }
    for (anywhere, gateway) in [
        (Ipv4Addr::UNSPECIFIED.into(), GATEWAY_V4),
        (Ipv6Addr::UNSPECIFIED.into(), GATEWAY_V6),
    ] {
        messages.push(route::route(anywhere, 0, OUTSIDE_INDEX, Some(gateway)));
    }
    messages
}

fn request(action: &str, messages: Vec<Message>) -> Result<(), Error> {
    Netlink::open(libc::NETLINK_ROUTE)?.request(action, messages)
}
