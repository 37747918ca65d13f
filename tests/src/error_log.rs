//! Lets an ERROR in the log fail a test, whatever else the test looks at.

use std::{
    io,
    sync::{Mutex, Once, PoisonError},
};

use tracing::Level;

static START: Once = Once::new();
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Fails the test that holds it, if an ERROR was logged by the time it is dropped.
///
/// Tests of one process share the log: a test may fail for what its neighbour did, and the suite
/// fails with it.
#[derive(Debug)]
#[must_use]
pub struct Watch(());

/// Starts to watch this process's log.
pub fn watch() -> Watch {
    START.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(Level::ERROR)
            .with_ansi(false)
            .with_writer(|| Collector)
            .init();
    });
    Watch(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        let logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::thread::panicking() {
            assert!(logged.is_empty(), "{}", String::from_utf8_lossy(&logged));
        }
    }
}

struct Collector;

impl io::Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
