//! Chance, from the system: to spread things in time and over ports. It protects nothing.

/// Returns what randomness comes from that has to be repeatable elsewhere.
pub(crate) fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    // The seed spreads redials in time and holes over ports, and protects nothing, so a fixed one is no harm.
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(%error, "no randomness from the system");
    }
    seed
}

/// Returns a number from 0 to 1, for spreading things in time.
pub(crate) fn random_fraction() -> f64 {
    let [a, b, c, d, ..] = random_seed();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}
