//! The sans-IO agent that punches one TCP connection through two NATs.
