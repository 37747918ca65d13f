//! The statuses that the command ends with, by what has gone wrong.

use std::{io, process::ExitCode};

use p2pconnect::{BindError, CoordinatorError, DialError, RefusalReason, Refused};

use crate::{
    shortage,
    stdio::{self, ReaderLeft},
    words::{escaped, with_causes},
};

pub(crate) const DONE: u8 = 0;
pub(crate) const BROKEN: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const UNAVAILABLE: u8 = 3;
pub(crate) const REFUSED: u8 = 4;
pub(crate) const NO_PATH: u8 = 5;
pub(crate) const UNREACHABLE: u8 = 6;
pub(crate) const WRONG_IDENTITY: u8 = 7;
pub(crate) const INTERRUPTED: u8 = 130;
/// What a shell says of a program that SIGPIPE has ended, as it ends those that write on when
/// nobody reads.
pub(crate) const READER_LEFT: u8 = 141;

/// The status that the process ends with. Whatever is to be said has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Self = Self(DONE);

    /// Prints an error that has no status of its own, with its causes.
    pub(crate) fn failure(error: &anyhow::Error) -> Self {
        Self::print(BROKEN, error)
    }

    /// Prints an error that the user can mend by another command line, or one of a machine that
    /// lacks something.
    pub(crate) fn usage(error: anyhow::Error) -> Self {
        let (status, error) = of_usage(error);
        Self::print(status, &error)
    }

    /// Prints an error with its causes, in the style in which wrong command lines are refused.
    pub(crate) fn print(status: u8, error: &anyhow::Error) -> Self {
        stdio::say(format_args!("error: {}", escaped(&with_causes(error))));
        Self(status)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Returns the status for what the user can mend by another command line, and the error; where it
/// comes of something that the machine lacks, both say so.
pub(crate) fn of_usage(error: anyhow::Error) -> (u8, anyhow::Error) {
    let error = shortage::named(error);
    let status = match shortage::of(&error) {
        Some(_) => BROKEN,
        None => USAGE,
    };
    (status, error)
}

pub(crate) fn of_bind(error: &BindError) -> u8 {
    match error {
        // All that may be too much in a registration is the list of those who may dial.
        BindError::Coordinator(CoordinatorError::Refused(refusal))
            if refusal.reason == RefusalReason::TooLarge =>
        {
            USAGE
        }
        BindError::Coordinator(error) => of_coordinator(error),
        BindError::Stun { .. } => UNREACHABLE,
        _ => BROKEN,
    }
}

pub(crate) fn of_dial(error: &DialError) -> u8 {
    match error {
        DialError::Coordinator(error) => of_coordinator(error),
        DialError::TimedOut | DialError::Stun { .. } => UNREACHABLE,
        DialError::OwnId => USAGE,
        DialError::Unavailable { .. } | DialError::PeerSilent(_) | DialError::PeerUnheard(_) => {
            UNAVAILABLE
        }
        DialError::NoDirectPath(_)
        | DialError::Broken(_)
        | DialError::PeerBusy
        | DialError::PeerLeft => NO_PATH,
        DialError::WrongIdentity(_) => WRONG_IDENTITY,
        _ => BROKEN,
    }
}

/// Returns the status for the end of a stream that was not the one wished for.
pub(crate) fn of_stream(error: &anyhow::Error) -> u8 {
    if error.is::<Refused>() {
        REFUSED
    } else if error.is::<ReaderLeft>() {
        READER_LEFT
    } else {
        // The peer may have gone before it had the stream.
        error.downcast_ref().map_or(BROKEN, of_dial)
    }
}

/// Returns the status of a command that only prints something; says why it could not, except to
/// those who do not want to read it.
pub(crate) fn of_printing(printed: io::Result<()>) -> Exit {
    match printed {
        Ok(()) => Exit::DONE,
        Err(error) if ReaderLeft::of(&error).is_some() => Exit(READER_LEFT),
        Err(error) => Exit::failure(&anyhow::Error::new(error).context("stdout cannot be written")),
    }
}

pub(crate) fn of_coordinator(error: &CoordinatorError) -> u8 {
    match error {
        CoordinatorError::WrongIdentity { .. } => WRONG_IDENTITY,
        CoordinatorError::Shortage(_) => BROKEN,
        _ => UNREACHABLE,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_that_has_gone_before_it_had_the_stream_is_not_online() {
        let gone = DialError::PeerSilent(Duration::from_secs(2)).into();
        assert_eq!(of_stream(&gone), UNAVAILABLE);
        let unanswered = DialError::Broken(io::ErrorKind::ConnectionReset.into()).into();
        assert_eq!(of_stream(&unanswered), NO_PATH);
        assert_eq!(of_stream(&anyhow::anyhow!("cut")), BROKEN);
    }

    #[test]
    fn only_a_list_of_peers_that_is_too_long_is_the_users() {
        let too_large = || CoordinatorError::from(RefusalReason::TooLarge);
        assert_eq!(of_bind(&BindError::Coordinator(too_large())), USAGE);
        assert_eq!(of_dial(&DialError::Coordinator(too_large())), UNREACHABLE);
    }
}
