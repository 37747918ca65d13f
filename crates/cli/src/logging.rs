//! What is logged on stderr, how much of it, and in which form.

use serde::Deserialize;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{FilterExt as _, filter_fn},
    layer::{Layer as _, SubscriberExt as _},
    reload::{self, Handle},
    util::SubscriberInitExt as _,
};

use crate::{environment, stderr, stdio};

/// The variable that selects what is logged, before everything else.
const VARIABLE: &str = "RUST_LOG";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is logged, which may change.
#[derive(Debug)]
pub(crate) struct Logging(Handle<EnvFilter, Registry>);

impl Logging {
    /// Sends what `RUST_LOG` selects to stderr, or else what `usual` does.
    pub(crate) fn start(usual: &str, format: Format) -> Self {
        // QUIC's own traces have the tokens in them by which whoever reads them ends a connection,
        // and those of NATS what its servers are shown.
        let is_secret = |it: &Metadata<'_>| {
            let is_of = |name| it.target().starts_with(name);
            *it.level() == Level::TRACE && (is_of("quinn_proto") || is_of("async_nats"))
        };
        let (selected, handle) = reload::Layer::new(selection(usual));
        // The crate is built without colours, and complains on stderr where it is asked for them.
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| stderr::Log);
        let lines = match format {
            Format::Text => lines.boxed(),
            Format::Json => {
                stdio::speak_json();
                let lines = lines.json().flatten_event(true);
                lines.with_current_span(false).with_span_list(false).boxed()
            }
        };
        let lines = lines.with_filter(selected.and(filter_fn(move |it| !is_secret(it))));
        tracing_subscriber::registry().with(lines).init();
        Self(handle)
    }

    /// Logs what `usual` selects from now on, unless `RUST_LOG` does; tells whether that is so.
    pub(crate) fn set(&self, usual: &str) -> bool {
        let is_free = environment::text(VARIABLE).is_none();
        is_free && self.0.reload(selection(usual)).is_ok()
    }
}

fn selection(usual: &str) -> EnvFilter {
    let asked = environment::text(VARIABLE).and_then(|it| EnvFilter::try_new(it).ok());
    asked.unwrap_or_else(|| EnvFilter::new(usual))
}
