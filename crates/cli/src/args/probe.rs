//! What `probe` is told.

use std::time::Duration;

use clap::Args;
use p2pconnect::CoordinatorAddr;

use super::{
    coordinator::{Invite, coordinator},
    time::duration,
};

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The coordinator, as `serve` prints it
    #[arg(value_name = "SERVER-ID@HOST:PORT", value_parser = coordinator)]
    pub(crate) coordinator: CoordinatorAddr,
    #[command(flatten)]
    pub(crate) invite: Invite,
    /// How long everything may take together; a number alone is in seconds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print one object of JSON, also where the probe fails
    #[arg(long)]
    pub(crate) json: bool,
}
