//! What is said of coordinators.

use p2pconnect::{CoordinatorAddr, PeerId};
use serde_json::json;

use super::Reporter;

impl Reporter {
    /// Tells who this is, and what the other side has to type.
    pub(crate) fn listening(&self, id: &PeerId, coordinators: &[CoordinatorAddr]) {
        let named: Vec<_> = coordinators.iter().map(ToString::to_string).collect();
        let named = named.join(",");
        self.say(
            "listening",
            &json!({ "peer": id.to_string(), "coordinator": named }),
            &format!("on the other machine: p2pconnect dial {id} --coordinator {named}"),
        );
    }

    pub(super) fn coordinator_lost(&self, reason: &str) {
        self.say(
            "coordinator-lost",
            &json!({ "reason": reason }),
            &format!("connecting again: {reason}"),
        );
    }

    pub(super) fn coordinator_unreachable(&self, reason: &str) {
        self.say(
            "coordinator-unreachable",
            &json!({ "reason": reason }),
            &format!("trying again: {reason}"),
        );
    }

    pub(super) fn coordinator_key_changed(&self, former: &PeerId, coordinator: &CoordinatorAddr) {
        self.say(
            "coordinator-key-changed",
            &json!({ "former": former.to_string(), "coordinator": coordinator.to_string() }),
            &format!(
                "note: the coordinator changes its key, and has signed the new one by the old: name it \
                 {coordinator} from now on, in the place of {former}"
            ),
        );
    }
}
