//! Lets clients know at once that a coordinator has been started anew.
//!
//! A process that is killed says nothing to its clients. When one of them sends its next packet,
//! the process that has taken its place answers with a stateless reset (RFC 9000 section 10.3),
//! which ends the connection without waiting for the idle timeout. For that the new process has to
//! know the connection ids that the former one gave out and the reset tokens that belong to them:
//! both come from the server's key.

use std::{sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use p2pconnect_identity::SecretKey;
use quinn::{
    EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use quinn_proto::HashedConnectionIdGenerator;
use sha2::Sha256;

/// The least time between two resets: a thousand clients know within a second.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Makes the reset tokens.
struct ResetKey(Hmac<Sha256>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut mac = self.0.clone();
        mac.update(data);
        signature_out.copy_from_slice(&mac.finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// Returns a configuration under which the connections of a former process with the same key are
/// recognised and reset.
pub(super) fn endpoint_config(key: &SecretKey) -> EndpointConfig {
    let secret = key.derive("p2pconnect stateless reset v1");
    let mac = Hmac::<Sha256>::new_from_slice(&*secret).expect("HMAC takes a key of any length");
    let mut config = EndpointConfig::new(Arc::new(ResetKey(mac)));
    let secret = key.derive("p2pconnect connection ids v1");
    let (first, _) = secret.split_first_chunk().expect("32 bytes hold 8");
    let id_key = u64::from_be_bytes(*first);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    // A reset is shorter than the packet that it answers, so it makes nothing of an attack that is
    // not there without it. By default there is one each 20 ms, for which a thousand peers would
    // wait long.
    config.min_reset_interval(MIN_RESET_INTERVAL);
    config
}
