//! Ed25519 key pairs.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use p2pconnect_proto::PeerId;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, PublicKeyData, SigningKey as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What precedes the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A party's Ed25519 key pair.
pub struct SecretKey {
    pair: KeyPair,
    id: PeerId,
}

impl SecretKey {
    /// Generates a new key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] when the system's randomness is out of reach.
    pub fn generate() -> Result<Self, InvalidKey> {
        Self::from_pair(KeyPair::generate_for(&PKCS_ED25519).map_err(|_| InvalidKey::Other)?)
    }

    /// Returns the key that RFC 8032 section 5.1.5 makes of 32 bytes, which have to be random and
    /// secret where the key is to protect anything.
    ///
    /// # Errors
    ///
    /// None is expected: any bytes are a key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let der = Zeroizing::new([&PKCS8_HEAD[..], seed].concat());
        let der = PrivatePkcs8KeyDer::from(der.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519);
        Self::from_pair(pair.map_err(|_| InvalidKey::Other)?)
    }

    /// Reads a key from PKCS #8 in PEM, as [`to_pem`](Self::to_pem) writes it.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] when the text is not PEM or not an Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519)
            .map_err(|_| InvalidKey::of(pem))?;
        Self::from_pair(pair)
    }

    /// Writes the key as PKCS #8 in PEM. The text is wiped from memory when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// Returns the name that goes with this key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.id
    }

    /// Derives a secret for one purpose that stays the same for as long as the key does.
    ///
    /// Each `purpose` gives another secret, and none of them tells anything of the key. A server
    /// that is started anew has the secrets of the former process in this way.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = Zeroizing::new(self.pair.serialize_der());
        // Each key length is valid for HMAC (RFC 2104 section 3).
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    /// Signs a message (RFC 8032).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], InvalidKey> {
        let signature = self.pair.sign(message).map_err(|_| InvalidKey::Other)?;
        signature.try_into().map_err(|_| InvalidKey::Other)
    }

    /// Returns a new self-signed certificate with its private key, for TLS.
    pub(crate) fn certificate(
        &self,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "p2pconnect");
        let certificate = params.self_signed(&self.pair)?;
        let key = PrivatePkcs8KeyDer::from(self.pair.serialize_der());
        Ok((certificate.der().clone(), key.into()))
    }

    fn from_pair(pair: KeyPair) -> Result<Self, InvalidKey> {
        let public = <[u8; 32]>::try_from(pair.der_bytes()).map_err(|_| InvalidKey::Other)?;
        Ok(Self {
            pair,
            id: PeerId::from_public_key(public),
        })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A text that holds no usable Ed25519 key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// A private key that is encrypted (`ENCRYPTED PRIVATE KEY`).
    #[error("a private key that is encrypted, and no passphrase is asked for")]
    Encrypted,
    /// A private key in the format of OpenSSH.
    #[error("a private key in the format of OpenSSH, not in PEM (PKCS #8)")]
    OpenSsh,
    /// Anything else.
    #[error("no Ed25519 private key in PEM (PKCS #8)")]
    Other,
}

impl InvalidKey {
    /// Returns what a text holds that is no key to be used.
    fn of(pem: &str) -> Self {
        if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            Self::Encrypted
        } else if pem.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
            Self::OpenSsh
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_key_of_the_standard() {
        // RFC 8032 section 7.1, test 1.
        let hex = |text: &str| -> [u8; 32] {
            std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        };
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = SecretKey::from_seed(&hex(secret)).unwrap();
        assert_eq!(key.peer_id(), PeerId::from_public_key(hex(public)));
    }

    #[test]
    fn pem_round_trips_and_keys_differ() {
        let key = SecretKey::generate().unwrap();
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.peer_id(), again.peer_id());
        assert_ne!(key.peer_id(), SecretKey::generate().unwrap().peer_id());
    }

    #[test]
    fn a_derived_secret_belongs_to_its_key_and_purpose() {
        let key = SecretKey::generate().unwrap();
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.derive("one"), again.derive("one"));
        assert_ne!(key.derive("one"), key.derive("other"));
        let other = SecretKey::generate().unwrap();
        assert_ne!(key.derive("one"), other.derive("one"));
    }

    #[test]
    fn nonsense_is_refused() {
        let labelled =
            |label| format!("-----BEGIN {label} KEY-----\nAAAA\n-----END {label} KEY-----\n");
        for (text, is_invalid_as) in [
            (String::new(), InvalidKey::Other),
            ("hello".to_owned(), InvalidKey::Other),
            (labelled("PRIVATE"), InvalidKey::Other),
            (labelled("ENCRYPTED PRIVATE"), InvalidKey::Encrypted),
            (labelled("OPENSSH PRIVATE"), InvalidKey::OpenSsh),
        ] {
            assert_eq!(SecretKey::from_pem(&text).unwrap_err(), is_invalid_as);
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        let key = SecretKey::generate().unwrap();
        let pem = key.to_pem();
        let secret = pem.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(secret));
    }
}
