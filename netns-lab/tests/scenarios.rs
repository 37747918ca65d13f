//! Scenario files: the corpus does what it says, the reader says what is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scenarios/corpus.rs"]
mod corpus;
#[path = "scenarios/errors.rs"]
mod errors;
#[path = "scenarios/namespaces.rs"]
mod namespaces;
#[path = "scenarios/reference.rs"]
mod reference;
