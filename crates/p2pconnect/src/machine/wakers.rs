//! Lets two tasks wait for the same thing.

use std::{
    sync::{Arc, Mutex},
    task::{Wake, Waker},
};

use crate::sync::lock;

/// In which direction of a stream a task waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Reading,
    Writing,
}

/// The tasks that wait for what both directions of a stream depend on.
///
/// Each direction may have a task of its own ([`tokio::io::split`]), while a channel and a socket
/// remember one waker, the latest.
#[derive(Debug, Default)]
pub(crate) struct Wakers(Mutex<[Option<Waker>; 2]>);

impl Wakers {
    /// Has the task that polls in this direction wait, and returns what wakes it and that of the
    /// other direction.
    pub(crate) fn join(self: &Arc<Self>, direction: Direction, task: &Waker) -> Waker {
        self.with(|tasks| {
            let waiting = &mut tasks[direction as usize];
            match waiting {
                Some(waiting) => waiting.clone_from(task),
                None => *waiting = Some(task.clone()),
            }
        });
        Waker::from(Arc::clone(self))
    }

    fn with<T>(&self, use_tasks: impl FnOnce(&mut [Option<Waker>; 2]) -> T) -> T {
        use_tasks(&mut lock(&self.0))
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Not while the lock is held: a task may be run by its waker.
        let waiting = self.with(std::mem::take);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}
