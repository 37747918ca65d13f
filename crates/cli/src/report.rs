use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect::{Connection, Status};
use serde_json::{Value, json};

use crate::pump::Transferred;

/// Says on stderr what happens: lines for people, or JSON objects for programs.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    json: bool,
    started: Instant,
}

impl Reporter {
    pub(crate) fn new(json: bool, started: Instant) -> Self {
        Self(Arc::new(Settings { json, started }))
    }

    /// Reports what the endpoint is doing.
    pub(crate) fn status(&self, status: &Status) {
        match status {
            Status::Mapped {
                local,
                mapped,
                server,
            } => self.say(
                "mapped",
                &json!({ "local": local, "mapped": mapped, "server": server }),
                &format!("{local} is seen as {mapped} by the STUN server {server}"),
            ),
            Status::MappingChanged { local, old, new } => self.say(
                "mapped",
                &json!({ "local": local, "mapped": new, "old": old }),
                &format!("{local} is now seen as {new}, before as {old}"),
            ),
            Status::PortMapped {
                local,
                external,
                protocol,
            } => self.say(
                "port-mapped",
                &json!({
                    "local": local,
                    "external": external,
                    "protocol": protocol.to_string(),
                }),
                &format!("the router forwards {external} to {local} ({protocol})"),
            ),
            Status::Registered => {
                self.say("registered", &json!({}), "this machine can be dialled now");
            }
            Status::CoordinatorLost { reason } => self.say(
                "coordinator-lost",
                &json!({ "reason": reason }),
                &format!("the coordinator is gone ({reason}); connecting again"),
            ),
            Status::Introduced { peer, .. } => self.say(
                "introduced",
                &json!({ "peer": peer.to_string() }),
                &format!("the coordinator introduces {peer}"),
            ),
            Status::Punching {
                peer,
                candidates,
                relayed_rtt,
            } => self.say(
                "punching",
                &json!({
                    "peer": peer.to_string(),
                    "candidates": candidates,
                    "relayed_rtt_ms": millis(*relayed_rtt),
                }),
                &format!("connecting to {candidates} addresses of the peer, which does the same"),
            ),
            Status::PunchFailed { peer, reason } => self.say(
                "punch-failed",
                &json!({ "peer": peer.to_string(), "reason": reason }),
                &format!("no connection to {peer}: {reason}"),
            ),
            _ => {}
        }
    }

    /// Reports a connection that application bytes can travel on.
    pub(crate) fn established(&self, connection: &Connection) {
        let (peer, path) = (connection.peer_id(), connection.path());
        let times = path.times;
        self.say(
            "established",
            &json!({
                "peer": peer.to_string(),
                "how": path.how.to_string(),
                "local": path.local,
                "remote": path.remote,
                "introduced_ms": millis(times.introduced),
                "tcp_ms": millis(times.tcp),
                "established_ms": millis(times.established),
                "rounds": times.rounds,
            }),
            &format!(
                "direct stream to {peer}: {} from {} to {} (TCP after {:.0} ms, TLS after {:.0} ms)",
                path.how,
                path.local,
                path.remote,
                millis(times.tcp),
                millis(times.established),
            ),
        );
    }

    /// Reports the end of a stream.
    pub(crate) fn closed(&self, Transferred { sent, received }: Transferred) {
        self.say(
            "closed",
            &json!({ "sent": sent, "received": received }),
            &format!("the stream has ended: {sent} bytes sent, {received} bytes received"),
        );
    }

    /// Reports what went wrong, with the causes, and the status that the process ends with.
    pub(crate) fn failed(&self, status: u8, error: &anyhow::Error) {
        self.say(
            "failed",
            &json!({ "status": status, "reason": format!("{error:#}") }),
            &format!("failed: {error:#}"),
        );
    }

    /// Reports that one peer's stream could not be served; the command goes on.
    pub(crate) fn stream_failed(&self, error: &anyhow::Error) {
        self.say(
            "stream-failed",
            &json!({ "reason": format!("{error:#}") }),
            &format!("a stream ended early: {error:#}"),
        );
    }

    fn say(&self, event: &str, fields: &Value, sentence: &str) {
        let since_start = self.0.started.elapsed();
        let line = if self.0.json {
            let mut object = json!({ "event": event, "since_start_ms": millis(since_start) });
            if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
                object.extend(fields.clone());
            }
            object.to_string()
        } else {
            format!("[{:7.3} s] {sentence}", since_start.as_secs_f64())
        };
        // Somebody who closed stderr does not want to know.
        drop(writeln!(std::io::stderr().lock(), "{line}"));
    }
}

/// Returns milliseconds with three decimals.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
