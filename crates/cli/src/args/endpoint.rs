//! What `dial` and `listen` are both told.

use std::time::Duration;

use clap::Args;

use super::{Output, coordinator::Coordinator, key::Key, proxy::ByProxy, time::stream_silence};

#[derive(Debug, Args)]
pub(crate) struct Endpoint {
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) proxy: ByProxy,
    /// Do not ask the router to forward ports to this machine
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// End a stream when nothing comes from the other end, the peer or a service that it is
    /// forwarded to, for so long although something should; a number alone is in seconds
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = stream_silence)]
    pub(crate) stream_timeout: Duration,
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) output: Output,
}
