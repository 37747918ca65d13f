//! How the tasks of the service lock what they share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere leaves no half-done change behind that matters more than going on serving.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
