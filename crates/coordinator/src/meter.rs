//! What can be measured of a coordinator and of the STUN servers beside it.

use std::time::Duration;

use p2pconnect_stun::StunMeter;

use crate::{
    Control,
    metrics::{Family, Labels, Values},
};

/// Measures a coordinator and its STUN servers. Clones measure the same ones, and none keeps them
/// going.
#[derive(Debug, Clone)]
pub struct Meter {
    pub(crate) control: Control,
    /// That at the addresses of its own, and those at the coordinator's port.
    pub(crate) stun: Vec<(&'static str, StunMeter)>,
}

impl Meter {
    /// Returns all metrics as they are now. Their names are the same each time.
    #[must_use]
    pub fn measure(&self) -> Vec<Family> {
        let mut families = self.control.measure();
        families.push(Family {
            name: "p2pconnect_stun_connections",
            help: "Connections of each STUN server",
            values: Values::Gauges(self.of_stun(StunMeter::connections)),
        });
        for (name, help, count) in [
            (
                "p2pconnect_stun_accepted",
                "Connections that were accepted by each STUN server",
                StunMeter::accepted as fn(&StunMeter) -> u64,
            ),
            (
                "p2pconnect_stun_refused",
                "Connections that were refused by each STUN server, for want of room",
                StunMeter::refused,
            ),
            (
                "p2pconnect_stun_requests",
                "Messages that have come to each STUN server",
                StunMeter::requests,
            ),
        ] {
            let values = Values::Counters(self.of_stun(count));
            families.push(Family { name, help, values });
        }
        families
    }

    /// Returns after what time the other coordinators may be reached again, if there are any and
    /// they cannot be now.
    #[must_use]
    pub fn others_away(&self) -> Option<Duration> {
        self.control.others_away()
    }

    /// Adds up what the servers of each name have counted.
    fn of_stun(&self, count: fn(&StunMeter) -> u64) -> Vec<(Labels, u64)> {
        let of = |name: &'static str| {
            let these = self.stun.iter().filter(|it| it.0 == name);
            let sum = these.map(|(_, meter)| count(meter)).sum();
            (vec![("server", name), ("transport", "tcp")], sum)
        };
        [STUN, ALTERNATES].map(of).to_vec()
    }
}

/// The STUN server at the addresses that were asked for.
pub(crate) const STUN: &str = "stun";

/// Those at the coordinator's own port.
pub(crate) const ALTERNATES: &str = "alternates";
