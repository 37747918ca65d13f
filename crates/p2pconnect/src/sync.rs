//! What tasks share values by: locks, and values that are watched.

use std::{
    future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// Locks a mutex, also if a task has panicked while it held the lock: no task leaves what it has
/// locked half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value whose changes tasks wait for. Clones are the same value.
#[derive(Debug, Default)]
pub(crate) struct Watched<T>(watch::Sender<T>);

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(watch::Sender::new(value))
    }

    /// Sets the value, and wakes those who wait for a change.
    pub(crate) fn set(&self, value: T) {
        self.0.send_replace(value);
    }

    /// Changes the value, and wakes those who wait for a change.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        self.0.send_modify(change);
    }

    /// Changes the value, and wakes those who wait for a change if `change` returns that it is one.
    /// Returns whether it is.
    pub(crate) fn change_if(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        self.0.send_if_modified(change)
    }

    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.0.borrow()
    }

    /// Watches for changes from now on.
    pub(crate) fn watch(&self) -> Watcher<T> {
        Watcher(self.0.subscribe())
    }

    /// Waits until the value is as wanted. Cancel safe.
    pub(crate) async fn wait_for(&self, is_wanted: impl FnMut(&T) -> bool) {
        self.watch().wait_for(is_wanted).await;
    }
}

impl Watched<()> {
    /// Wakes those who wait for a change.
    pub(crate) fn notify(&self) {
        self.set(());
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Sees the changes of a [`Watched`] value. Once nobody is left to change the value, waiting does
/// not end.
#[derive(Debug)]
pub(crate) struct Watcher<T>(watch::Receiver<T>);

impl<T> Watcher<T> {
    /// Waits for the next change. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending().await
        }
    }

    /// Waits until the value is as wanted, which it may be already. Cancel safe.
    pub(crate) async fn wait_for(&mut self, is_wanted: impl FnMut(&T) -> bool) {
        if self.0.wait_for(is_wanted).await.is_err() {
            future::pending().await
        }
    }

    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.0.borrow()
    }

    /// Returns the value, which is no change any more.
    pub(crate) fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.0.borrow_and_update()
    }

    #[cfg(test)]
    pub(crate) fn has_changed(&self) -> bool {
        self.0.has_changed().is_ok_and(|has_changed| has_changed)
    }

    /// Takes the present value for known.
    pub(crate) fn mark_unchanged(&mut self) {
        self.0.mark_unchanged();
    }

    /// Takes the present value for a change.
    pub(crate) fn mark_changed(&mut self) {
        self.0.mark_changed();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_panic_of_somebody_who_holds_a_lock_keeps_nobody_out() {
        let mutex = Mutex::new(1);
        let panicking = AssertUnwindSafe(|| {
            let _held = lock(&mutex);
            panic!("this test does so");
        });
        assert!(catch_unwind(panicking).is_err());
        assert!(mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_seen_and_may_be_there_already() {
        let watched = Watched::new(1);
        let other = watched.clone();
        let growing = async { other.change(|value| *value += 1) };
        let (_, ()) = tokio::join!(
            timeout(LONG, watched.wait_for(|value| *value == 2)),
            growing
        );
        assert_eq!(*watched.borrow(), 2);
        watched.wait_for(|value| *value == 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_change_wakes_nobody() {
        let watched = Watched::new(1);
        let mut watcher = watched.watch();
        assert!(!watched.change_if(|value| std::mem::replace(value, 1) != 1));
        assert!(timeout(LONG, watcher.changed()).await.is_err());
        assert!(watched.change_if(|value| std::mem::replace(value, 2) != 2));
        assert!(timeout(LONG, watcher.changed()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_does_not_end_when_nobody_is_left_to_change_anything() {
        let watched = Watched::new(false);
        let mut watcher = watched.watch();
        drop(watched);
        assert!(timeout(LONG, watcher.changed()).await.is_err());
        let set = watcher.wait_for(|value| *value);
        assert!(timeout(LONG, set).await.is_err());
    }
}
