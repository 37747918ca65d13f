//! Who is compared, and what each calls a connection.

/// A project that is compared.
#[derive(Debug)]
pub(crate) struct Project {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it is, with its version.
    pub(crate) title: &'static str,
    /// Its program, built next to this one.
    pub(crate) program: &'static str,
    /// What a stream's bytes are protected by.
    pub(crate) security: &'static str,
    /// When its stream counts as usable.
    pub(crate) usable: &'static str,
    /// Seconds that a dialler has: three attempts of this project at least.
    pub(crate) limit: &'static str,
    /// Whether it is for peers behind NATs at all.
    pub(crate) passes_nats: bool,
    /// The colour in charts; each has enough contrast to white and to black.
    pub(crate) colour: &'static str,
}

/// All of them, ours first.
pub(crate) const PROJECTS: [Project; 5] = [
    Project {
        name: "p2pconnect",
        title: "p2pconnect",
        program: "ours",
        security: "TLS 1.3, both sides by key",
        usable: "application bytes can be sent to the proved peer",
        // The library's own limit for a dial, in which it makes three rounds.
        limit: "15",
        passes_nats: true,
        colour: "#2f81f7",
    },
    Project {
        name: "libp2p",
        title: "rust-libp2p 0.57.1, DCUtR",
        program: "libp2p",
        security: "Noise XX, both sides by key",
        usable: "the direct connection is authenticated and open for streams",
        // Three dials of ten seconds each, and exchanges over the relay.
        limit: "45",
        passes_nats: true,
        colour: "#db6d28",
    },
    Project {
        name: "gday",
        title: "gday_hole_punch 0.5.1",
        program: "gday",
        security: "SPAKE2, then ChaCha20-Poly1305",
        usable: "the shared secret is proved and the stream encrypted",
        // Its command gives up after five seconds.
        limit: "15",
        passes_nats: true,
        colour: "#a371f7",
    },
    Project {
        name: "rndz",
        title: "rndz 0.1.3, TCP",
        program: "rndz",
        security: "none",
        usable: "connect() has returned, to whoever answered",
        // Three attempts of five seconds, and exchanges with the server.
        limit: "20",
        passes_nats: true,
        colour: "#3fa34d",
    },
    Project {
        name: "bare",
        title: "tokio and rustls alone",
        program: "bare",
        security: "TLS 1.3",
        usable: "the handshake is done",
        limit: "15",
        passes_nats: false,
        colour: "#7d8590",
    },
];
