//! Helpers of the cross-crate suites.
