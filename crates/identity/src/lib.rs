//! Keys, self-signed certificates, and the TLS configurations that pin a peer id.
//!
//! Every party, peer or coordinator, has one Ed25519 key. Its public half is the [`PeerId`]. In
//! TLS 1.3 and QUIC the key appears in a self-signed certificate that serves only to carry it:
//! names, dates and issuers in it mean nothing and are not looked at. Both ends always
//! authenticate. Who has issued the certificate of somebody else is told by [`issuer_of`].

mod issuer;
mod key_file;
mod secret_key;
mod succession;
mod tls;

pub use issuer::issuer_of;
pub use key_file::{KeyFileError, KeyOfFile, Readers, load_or_create, load_or_create_for};
pub use secret_key::{InvalidKey, SecretKey};
pub use succession::is_signed;
pub use tls::{
    Stranger, TlsConfigError, client_config, client_config_noting, coordinator_config, peer_id_of,
    server_config,
};

pub use p2pconnect_proto::PeerId;
