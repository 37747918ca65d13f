//! What asks the operating system: sockets, interfaces, routes, names, the router, randomness; and what tasks and their
//! wakers need.

pub(crate) mod file_limit;
pub(crate) mod four_tuple;
pub(crate) mod interfaces;
pub(crate) mod local_route;
pub(crate) mod names;
pub(crate) mod nat64;
pub(crate) mod port_mapping;
pub(crate) mod punch_ports;
pub(crate) mod randomness;
pub(crate) mod surroundings;
pub(crate) mod syn_filter;
pub(crate) mod task;
pub(crate) mod tcp;
pub(crate) mod tcp_info;
pub(crate) mod wakers;
