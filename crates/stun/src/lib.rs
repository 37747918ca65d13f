//! STUN over TCP: a client that holds a mapping and a server that lets it.
