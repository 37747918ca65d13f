//! The subcommand `listen`: waits for peers and carries their streams.

use std::time::Duration;

use p2pconnect::{Connection, Endpoint};
use tokio::{task::JoinSet, time::sleep};

use super::prepared::{Failed, Prepared};
use crate::{
    args,
    exit::{self, Exit},
    forward::forward,
    pauses::{self, Pauses},
    pump::pump,
    report::Reporter,
    signals,
    stdio::{Stdin, Stdout},
};

/// Waits for peers, and carries their streams.
pub(crate) async fn run(options: args::Listen, reporter: Reporter) -> Exit {
    let reporter = &reporter;
    let prepared = Prepared::new(&options.endpoint, reporter, |own_id, coordinator| {
        options.check_policy(own_id, &coordinator.id)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err((status, error)) => return reporter.failed(status, &error),
    };
    // A service ends by being told to; a single stream that is cut is not done.
    let serves_many = options.forward.is_some() && !options.once;
    let told_to_end = |signal| {
        if serves_many {
            Exit::DONE
        } else {
            reporter.interrupted(signal)
        }
    };
    let interrupted = signals::told_to_end();
    tokio::pin!(interrupted);
    let bound = tokio::select! {
        bound = bind_at_last(&options, &prepared, reporter) => bound,
        signal = &mut interrupted => return told_to_end(signal),
    };
    let endpoint = match bound {
        Ok(endpoint) => endpoint,
        Err((status, error)) => return reporter.failed(status, &error),
    };
    let exit = tokio::select! {
        exit = serve(&endpoint, &options, reporter) => exit,
        signal = &mut interrupted => {
            endpoint.tell_of_failures();
            told_to_end(signal)
        }
    };
    // Otherwise diallers would be sent here until the coordinator notices.
    endpoint.close().await;
    exit
}

async fn serve(endpoint: &Endpoint, options: &args::Listen, reporter: &Reporter) -> Exit {
    match &options.forward {
        Some(target) => forward_all(endpoint, target, options, reporter).await,
        None => serve_one(endpoint, reporter).await,
    }
}

/// Binds the endpoint as soon as the network and the coordinator are there: a machine that boots is
/// to be dialable in the end. Only what cannot become right by itself ends this.
async fn bind_at_last(
    options: &args::Listen,
    prepared: &Prepared<'_>,
    reporter: &Reporter,
) -> Result<Endpoint, Failed> {
    let mut pauses = Pauses::default();
    loop {
        let binding = prepared
            .builder()?
            .allow(options.policy())
            .max_connections(options.max_streams())
            .bind();
        let error = match binding.await {
            Ok(endpoint) => {
                reporter.listening(&prepared.id(), &prepared.coordinators);
                return Ok(endpoint);
            }
            Err(error) => error,
        };
        if !pauses::binding_may_become_right(&error) {
            return Err((exit::of_bind(&error), prepared.explained(error.into())));
        }
        let error = anyhow::Error::new(error);
        reporter.waiting(&error);
        sleep(pauses.after(&error)).await;
    }
}

/// Makes stdin and stdout the first peer's stream.
async fn serve_one(endpoint: &Endpoint, reporter: &Reporter) -> Exit {
    let Some(connection) = endpoint.accept().await else {
        return replaced(endpoint, reporter);
    };
    // In this order: what another thread says comes before, or not at all.
    reporter.stream_begins();
    reporter.established(&connection);
    let peer = connection.peer_id();
    // Whoever dials meanwhile is told that this peer is busy.
    let peer_ended = || reporter.peer_ended(peer);
    let pumped = pump(connection, Stdin::default(), Stdout::default(), peer_ended).await;
    // Nothing is said behind the last word.
    endpoint.tell_of_failures();
    reporter.stream_ended(peer, pumped)
}

/// Carries each peer's stream to `target`. When another process has taken this one's place, those
/// that are open still end by themselves.
async fn forward_all(
    endpoint: &Endpoint,
    target: &args::Target,
    options: &args::Listen,
    reporter: &Reporter,
) -> Exit {
    let silence = options.endpoint.stream_timeout;
    let mut streams = JoinSet::new();
    let mut taken_over = None;
    loop {
        tokio::select! {
            accepted = endpoint.accept(), if taken_over.is_none() => {
                match accepted {
                    Some(connection) => {
                        reporter.established(&connection);
                        let (target, reporter) = (target.clone(), reporter.clone());
                        streams.spawn(async move { carry(connection, &target, silence, &reporter).await });
                    }
                    None => taken_over = Some(replaced(endpoint, reporter)),
                }
            }
            Some(ended) = streams.join_next() => {
                if options.once {
                    // Only a panic ends the task without a word.
                    return ended.unwrap_or(Exit(exit::BROKEN));
                }
            }
            else => return taken_over.unwrap_or(Exit::DONE),
        }
    }
}

async fn carry(
    connection: Connection,
    target: &args::Target,
    silence: Duration,
    reporter: &Reporter,
) -> Exit {
    let peer = connection.peer_id();
    match forward(connection, target, silence).await {
        Ok(transferred) => {
            reporter.closed(peer, transferred);
            Exit::DONE
        }
        Err(error) => {
            reporter.stream_failed(peer, &error);
            Exit(exit::BROKEN)
        }
    }
}

fn replaced(endpoint: &Endpoint, reporter: &Reporter) -> Exit {
    endpoint.tell_of_failures();
    let error = anyhow::anyhow!(
        "another process has registered with the same key and is dialled in this one's place from now on; a key \
         belongs to one machine alone: give each its own with --key, and start this again"
    );
    reporter.failed(exit::BROKEN, &error)
}
