//! Metrics in the text format of Prometheus, and whether the server is well.

use std::{
    fmt, fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use p2pconnect_coordinator::{
    Meter,
    metrics::{Family, Values},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tokio::net::TcpListener;

use super::http::{self, Page, Status};

/// The media type of what is served: OpenMetrics, which Prometheus reads as its own.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether new clients should come here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Serving,
    /// Those who are here are let go.
    Draining,
}

/// The stage that the server is in. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct State(Arc<AtomicBool>);

impl State {
    pub(super) fn set(&self, stage: Stage) {
        self.0.store(stage == Stage::Draining, Ordering::Relaxed);
    }

    /// Returns a page that tells the stage, as far as it goes beyond how the request went.
    fn page(&self, of_draining: Status) -> Page {
        match self.0.load(Ordering::Relaxed) {
            false => Status::Ok.page(),
            true => Page {
                text: "draining\n".to_owned(),
                ..of_draining.page()
            },
        }
    }

    fn is_serving(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// The socket on which metrics are served.
#[derive(Debug)]
pub(super) struct Metrics {
    listener: TcpListener,
    pub(super) local_addr: SocketAddr,
}

impl Metrics {
    /// Listens. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// What the system reports.
    pub(super) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener: TcpListener::from_std(listener)?,
        })
    }

    /// Serves what is measured, and whether the server is ready, until the future is dropped.
    pub(super) async fn run(self, meter: Meter, state: State) {
        let registry = registry(meter.clone());
        let pages = move |path: &str| match (path, meter.others_away()) {
            ("/readyz", Some(_)) if state.is_serving() => alone(),
            _ => page(path, &registry, &state),
        };
        http::run(self.listener, pages).await;
    }
}

/// Says that this server serves its own peers alone. It is ready: the others would not be any
/// better where NATS itself is away.
fn alone() -> Page {
    let mut page = Status::Ok.page();
    page.text
        .push_str("the other coordinators cannot be reached\n");
    page
}

fn page(path: &str, registry: &Registry, state: &State) -> Page {
    match path {
        "/metrics" => {
            let mut told = String::new();
            match text::encode(&mut told, registry) {
                Ok(()) => Page {
                    status: Status::Ok,
                    media_type: MEDIA_TYPE,
                    text: told,
                },
                Err(fmt::Error) => Status::Unavailable.page(),
            }
        }
        // Whoever has an answer sees that the process goes on.
        "/healthz" => state.page(Status::Ok),
        "/readyz" => state.page(Status::Unavailable),
        _ => Status::NotFound.page(),
    }
}

fn registry(meter: Meter) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Measured(meter)));
    registry
}

/// All that is measured when somebody asks.
#[derive(Debug)]
struct Measured(Meter);

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let measured = self.0.measure().into_iter();
        measured
            .chain(of_process())
            .try_for_each(|family| encode(&mut encoder, &family))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let (samples, kind) = match &family.values {
        Values::Counters(samples) => (samples.as_slice(), MetricType::Counter),
        Values::Gauges(samples) => (samples.as_slice(), MetricType::Gauge),
        Values::Histogram(_) => (&[][..], MetricType::Histogram),
    };
    let mut metrics = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    if let Values::Histogram(it) = &family.values {
        let buckets = &it.buckets;
        return metrics.encode_histogram::<NoLabelSet>(it.sum, it.count, buckets, None);
    }
    let is_counter = matches!(family.values, Values::Counters(_));
    for (labels, value) in samples {
        if labels.is_empty() {
            number(&mut metrics, *value, is_counter)?;
        } else {
            number(&mut metrics.encode_family(labels)?, *value, is_counter)?;
        }
    }
    Ok(())
}

fn number(metric: &mut MetricEncoder<'_>, value: u64, is_counter: bool) -> fmt::Result {
    match is_counter {
        true => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        false => metric.encode_gauge(&value),
    }
}

/// Returns what the system says of this process, under the names that Prometheus' own clients have
/// for it.
fn of_process() -> Vec<Family> {
    let gauge = |name, help, value| Family {
        name,
        help,
        values: Values::Gauges(vec![(Vec::new(), value)]),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    vec![
        gauge(
            "process_resident_memory_bytes",
            "Memory that the process holds",
            resident(&status).unwrap_or_default(),
        ),
        gauge(
            "process_open_fds",
            "Files and sockets that the process has open",
            files as u64,
        ),
    ]
}

/// Reads the memory that a process holds (proc_pid_status(5)), which is in KiB there.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::collections::BTreeSet;

    use p2pconnect::SecretKey;
    use p2pconnect_coordinator::{
        RendezvousPorts,
        nodes::{Cluster, MemoryBus},
    };
    use p2pconnect_proto::{TokenKey, nodes::NodeKey};
    use p2pconnect_stun::StunServerConfig;
    use serde_json::Value;

    use super::*;

    /// The dashboard for Grafana.
    const DASHBOARD: &str = include_str!("../../../../../packaging/grafana/p2pconnect.json");

    /// Returns what a server tells that serves nobody yet.
    fn told() -> String {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (stun, key) = (StunServerConfig::default(), SecretKey::generate().unwrap());
        let ports = RendezvousPorts::bind(any, &[any], stun, TokenKey::from_bytes([7; 32]));
        let ports = ports.unwrap();
        let mut config = ports.config(key);
        config.others = Some(Cluster {
            bus: Arc::new(MemoryBus::default()),
            key: NodeKey::from_bytes([7; 32]),
        });
        let meter = ports.coordinate(config).unwrap().meter();
        page("/metrics", &registry(meter), &State::default()).text
    }

    /// Returns the names of all metrics, with what the format puts behind them.
    fn names(told: &str) -> BTreeSet<&str> {
        let lines = told.lines().filter(|it| !it.starts_with('#'));
        lines
            .map(|it| it.split(['{', ' ']).next().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_and_name_nobody() {
        let told = told();
        assert!(told.ends_with("# EOF\n"), "{told}");
        for line in [
            "# TYPE p2pconnect_refusals counter",
            "p2pconnect_refusals_total{request=\"dial\",reason=\"unavailable\"} 0",
            "# TYPE p2pconnect_connections gauge",
            "p2pconnect_connections{way=\"quic\"} 0",
            "p2pconnect_registrations_total 0",
            "# TYPE p2pconnect_introduction_seconds histogram",
            "p2pconnect_introduction_seconds_bucket{le=\"0.0001\"} 0",
            "p2pconnect_introduction_seconds_bucket{le=\"+Inf\"} 0",
            "p2pconnect_introduction_seconds_count 0",
            "p2pconnect_stun_requests_total{server=\"stun\",transport=\"tcp\"} 0",
        ] {
            assert!(told.lines().any(|it| it == line), "{line}: {told}");
        }
        let memory = told
            .lines()
            .find_map(|it| it.strip_prefix("process_resident_memory_bytes "));
        assert!(memory.unwrap().parse::<u64>().unwrap() > 1 << 20);
        assert!(!told.contains("127.0.0.1"), "{told}");
    }

    #[tokio::test]
    async fn the_dashboard_shows_what_there_is() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
        let told = told();
        let there = names(&told);
        let mut shown = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let is_part = |it: char| it == '_' || it.is_ascii_alphanumeric();
                let words = query.split(|it| !is_part(it));
                let ours = |it: &&str| it.starts_with("p2pconnect_") || it.starts_with("process_");
                for name in words.filter(ours) {
                    assert!(there.contains(name), "{name} in {query}");
                    shown.insert(name.to_owned());
                }
            }
        }
        // What is measured is worth a look; histograms are shown by their buckets.
        let is_rest = |it: &&&str| it.ends_with("_sum") || it.ends_with("_count");
        let missing: Vec<_> = there
            .iter()
            .filter(|it| !is_rest(it) && !shown.contains(**it))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[tokio::test]
    async fn a_server_is_ready_until_its_peers_are_let_go() {
        let (registry, state) = (Registry::default(), State::default());
        let status = |path| page(path, &registry, &state).status;
        assert_eq!(status("/healthz"), Status::Ok);
        assert_eq!(status("/readyz"), Status::Ok);
        state.set(Stage::Draining);
        assert_eq!(status("/healthz"), Status::Ok, "it is well");
        assert_eq!(page("/healthz", &registry, &state).text, "draining\n");
        assert_eq!(status("/readyz"), Status::Unavailable);
        assert_eq!(status("/"), Status::NotFound);
    }
}
