//! Scenario files: the corpus does what it says, the reader says what is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod errors;
mod namespaces;
mod reference;
