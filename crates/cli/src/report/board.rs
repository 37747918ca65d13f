//! Says what happens on the bulletin board.

use p2pconnect::PeerId;
use serde_json::json;

use super::Reporter;

impl Reporter {
    /// Tells that this machine is on the board.
    pub(crate) fn announced(&self, own_id: &PeerId) {
        self.say(
            "announced",
            &json!({ "peer": own_id.to_string() }),
            &format!("{own_id} is on the board"),
        );
    }
}
