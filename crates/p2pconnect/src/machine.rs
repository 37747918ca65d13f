//! What an endpoint makes of the host that it runs on: interfaces, routes, names, free ports, the
//! router; and what tasks and their wakers need.

pub(crate) mod four_tuple;
pub(crate) mod interfaces;
pub(crate) mod loopback;
pub(crate) mod nat64;
pub(crate) mod port_mapping;
pub(crate) mod punch_ports;
pub(crate) mod surroundings;
pub(crate) mod task;
pub(crate) mod tcp;
pub(crate) mod wakers;
