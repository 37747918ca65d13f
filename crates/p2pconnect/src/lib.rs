//! Direct, authenticated TCP streams between peers behind NATs.
