//! The subcommand `board`: announces, looks up and watches topics.

use std::io::{self, Write as _};

use p2pconnect::{CoordinatorError, Endpoint, Lookup, PeerId, Status, Topic, TopicEvent};
use serde_json::json;
use tokio::time::sleep;

use super::prepared::{Failed, Prepared};
use crate::{
    args,
    exit::{self, Exit},
    report::Reporter,
    signals, stdio,
};

/// How a part of the command ends that prints something.
type Printed = Result<(), Ended>;

/// Why nothing more is printed.
enum Ended {
    /// What is printed cannot be written.
    Output(io::Error),
    Coordinator(CoordinatorError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<CoordinatorError> for Ended {
    fn from(error: CoordinatorError) -> Self {
        Self::Coordinator(error)
    }
}

/// Does what is asked for on the board.
pub(crate) async fn run(action: args::Board, reporter: Reporter) -> Exit {
    let reporter = &reporter;
    let told_to_end = signals::told_to_end();
    tokio::pin!(told_to_end);
    let interrupted = |signal| match action {
        args::Board::Announce(_) | args::Board::Watch(_) => Exit::DONE,
        args::Board::Lookup(_) => reporter.interrupted(signal),
    };
    let (topic, endpoint) = tokio::select! {
        begun = begin(action.of(), reporter) => match begun {
            Ok(begun) => begun,
            Err((status, error)) => return reporter.failed(status, &error),
        },
        signal = &mut told_to_end => return interrupted(signal),
    };
    let exit = tokio::select! {
        exit = serve(&action, &endpoint, &topic, reporter) => exit,
        signal = told_to_end => interrupted(signal),
    };
    // Otherwise others would find this machine until the coordinator notices.
    endpoint.close().await;
    exit
}

/// Reads the topic, and connects to the coordinator.
async fn begin(options: &args::OfTopic, reporter: &Reporter) -> Result<(Topic, Endpoint), Failed> {
    let topic = options.topic().map_err(exit::of_usage)?;
    let prepared = Prepared::new(&options.endpoint, reporter, |_, _| Ok(None))?;
    // Nobody dials this process, as `listen` is what is dialled: where it is seen is of no
    // interest.
    let observer = reporter.clone();
    let is_of_interest = |it: &Status| {
        matches!(
            it,
            Status::CoordinatorLost { .. } | Status::CoordinatorUnreachable { .. }
        )
    };
    let builder = prepared.builder()?.port_mapping(false);
    let builder = builder.observer(move |status| {
        if is_of_interest(&status) {
            observer.status(&status);
        }
    });
    let binding = builder.bind();
    let endpoint = binding.await.map_err(|error| {
        let status = exit::of_bind(&error);
        (status, prepared.explained(error.into()))
    })?;
    Ok((topic, endpoint))
}

async fn serve(
    action: &args::Board,
    endpoint: &Endpoint,
    topic: &Topic,
    reporter: &Reporter,
) -> Exit {
    let output = Output {
        is_json: action.of().endpoint.output.json,
    };
    let ended = match action {
        args::Board::Announce(_) => announce(endpoint, topic, reporter).await,
        args::Board::Watch(_) => watch(endpoint, topic, &output).await,
        args::Board::Lookup(lookup) => match look_up(endpoint, topic, lookup.all, &output).await {
            Ok(0) => {
                let nobody = anyhow::anyhow!("nobody is on the board under this topic");
                return reporter.failed(exit::UNAVAILABLE, &nobody);
            }
            Ok(_) => Ok(()),
            Err(ended) => Err(ended),
        },
    };
    match ended {
        Ok(()) => Exit::DONE,
        Err(Ended::Output(error)) => exit::of_printing(Err(error)),
        Err(Ended::Coordinator(error)) => {
            reporter.failed(exit::of_coordinator(&error), &error.into())
        }
    }
}

/// Is on the board until this is dropped.
async fn announce(endpoint: &Endpoint, topic: &Topic, reporter: &Reporter) -> Printed {
    let _announced = endpoint.announce(topic).await?;
    reporter.announced(&endpoint.peer_id());
    std::future::pending().await
}

/// Prints some of those who are there, or all, and returns how many they are.
async fn look_up(
    endpoint: &Endpoint,
    topic: &Topic,
    all: bool,
    output: &Output,
) -> Result<usize, Ended> {
    let mut lookup = endpoint.lookup(topic);
    let mut count = 0;
    loop {
        let page = page(&mut lookup).await?;
        for peer in &page {
            output.found(*peer)?;
        }
        count += page.len();
        if page.is_empty() || !all {
            return Ok(count);
        }
    }
}

/// Prints who is there, and who comes and goes.
async fn watch(endpoint: &Endpoint, topic: &Topic, output: &Output) -> Printed {
    let mut watch = endpoint.watch(topic).await?;
    let mut is_first = true;
    loop {
        let event = match std::mem::take(&mut is_first) {
            // Those who were there are not told of otherwise.
            true => Some(TopicEvent::Missed),
            false => {
                let event = watch.next().await;
                if let Some(event) = event {
                    output.event(event)?;
                }
                event
            }
        };
        match event {
            None => return Ok(()),
            Some(TopicEvent::Missed) => {
                let mut lookup = endpoint.lookup(topic);
                loop {
                    let page = page(&mut lookup).await?;
                    for peer in &page {
                        output.line("here", Some(*peer))?;
                    }
                    if page.is_empty() {
                        break;
                    }
                }
            }
            Some(_) => {}
        }
    }
}

/// Returns the next page, as soon as the coordinator gives one to whoever has asked so often.
async fn page(lookup: &mut Lookup) -> Result<Vec<PeerId>, CoordinatorError> {
    loop {
        match lookup.page().await {
            Ok(page) => return Ok(page),
            Err(error) => match error.retry_after() {
                Some(wait) => sleep(wait).await,
                None => return Err(error),
            },
        }
    }
}

/// What is printed, for people or for programs.
struct Output {
    is_json: bool,
}

impl Output {
    fn found(&self, peer: PeerId) -> io::Result<()> {
        if self.is_json {
            return self.line("found", Some(peer));
        }
        writeln!(stdio::stdout(), "{peer}")
    }

    fn event(&self, event: TopicEvent) -> io::Result<()> {
        match event {
            TopicEvent::Joined(peer) => self.line("joined", Some(peer)),
            TopicEvent::Left(peer) => self.line("left", Some(peer)),
            TopicEvent::Missed => self.line("missed", None),
            _ => Ok(()),
        }
    }

    fn line(&self, event: &str, peer: Option<PeerId>) -> io::Result<()> {
        let peer = peer.map(|it| it.to_string());
        let line = match (self.is_json, peer) {
            (true, Some(peer)) => json!({ "event": event, "peer": peer }).to_string(),
            (true, None) => json!({ "event": event }).to_string(),
            (false, Some(peer)) => format!("{event} {peer}"),
            (false, None) => event.to_owned(),
        };
        writeln!(stdio::stdout(), "{line}")
    }
}
