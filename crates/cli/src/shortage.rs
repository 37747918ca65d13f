//! What this machine has run out of, whatever error tells of it.

use std::io;

use p2pconnect::Shortage;

/// Returns the shortage that an error tells of, or one of its causes.
pub(crate) fn of(error: &anyhow::Error) -> Option<Shortage> {
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        let known = cause.downcast_ref::<Shortage>().copied();
        known.or_else(|| Shortage::of(cause.downcast_ref::<io::Error>()?))
    };
    error.chain().find_map(of_cause)
}

/// Puts a shortage in front of what has failed for the lack of it, which is not to blame.
pub(crate) fn named(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    match of(&error) {
        Some(shortage) if !format!("{error:#}").contains(&shortage.to_string()) => {
            error.context(shortage)
        }
        _ => error,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_shortage_is_named_once_and_first() {
        let system = io::Error::from(Errno::MFILE);
        let error = anyhow::Error::new(system).context("the output takes no more");
        let error = named(named(error));
        let text = format!("{error:#}");
        assert!(text.starts_with("this process has as many open files as it may"));
        assert_eq!(text.matches("as it may").count(), 1, "{text}");
        assert_eq!(of(&error).unwrap(), Shortage::Files);
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let error = named(io::Error::from(Errno::CONNREFUSED));
        assert_eq!(of(&error), None);
        assert!(error.is::<io::Error>());
    }
}
