//! TLS 1.3 that proves and demands a peer id.

use std::sync::{Arc, Mutex, PoisonError};

use p2pconnect_proto::{PeerId, asked_for};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use webpki::EndEntityCert;

use crate::{SecretKey, issuer_of};

/// The DER encoding of an Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410 section 4).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Returns a TLS 1.3 configuration that connects only to `expected`.
///
/// Session tickets are not stored, so every handshake proves both identities anew.
///
/// # Errors
///
/// [`TlsConfigError`] when the key cannot be used; a generated or loaded key always can.
pub fn client_config(
    key: &SecretKey,
    expected: PeerId,
    alpn: &[u8],
) -> Result<ClientConfig, TlsConfigError> {
    client_config_noting(key, expected, alpn, &Stranger::default())
}

/// Does what [`client_config`] does, and notes who has come in the place of `expected`.
///
/// # Errors
///
/// As [`client_config`].
pub fn client_config_noting(
    key: &SecretKey,
    expected: PeerId,
    alpn: &[u8],
    stranger: &Stranger,
) -> Result<ClientConfig, TlsConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedServer {
        expected,
        stranger: stranger.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let (certificate, private_key) = key.certificate()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![certificate], private_key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Who has come last in the place of a server that was expected, if anybody has.
#[derive(Debug, Clone, Default)]
pub struct Stranger(Arc<Mutex<Option<Shown>>>);

/// What a stranger has shown.
#[derive(Debug, Clone)]
enum Shown {
    /// An id.
    Id(PeerId),
    /// A certificate that has no id, and who has issued it.
    Certificate(Option<String>),
}

impl Stranger {
    /// Returns the id that was shown. Whoever has shown it need not have its key, and was refused
    /// before that could be proved.
    #[must_use]
    pub fn id(&self) -> Option<PeerId> {
        match self.shown()? {
            Shown::Id(id) => Some(id),
            Shown::Certificate(_) => None,
        }
    }

    /// Returns who has issued the certificate that was shown in the place of one that has an id, as
    /// it says; it may hold anything.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        match self.shown()? {
            Shown::Id(_) => None,
            Shown::Certificate(issuer) => Some(issuer.unwrap_or_else(|| "nobody".to_owned())),
        }
    }

    fn shown(&self) -> Option<Shown> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, shown: Shown) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }
}

/// Returns a TLS 1.3 configuration that accepts any party that proves its own identity.
///
/// Who it was is told by [`peer_id_of`] after the handshake; with `expected`, only that peer gets
/// through it.
///
/// # Errors
///
/// [`TlsConfigError`] when the key cannot be used; a generated or loaded key always can.
pub fn server_config(
    key: &SecretKey,
    expected: Option<PeerId>,
    alpn: &[u8],
) -> Result<ServerConfig, TlsConfigError> {
    server_of(&[key], expected, alpn)
}

/// Returns a TLS 1.3 configuration that accepts any party that proves its own identity, and proves
/// the one of several identities that the party has asked for, or the first of them.
///
/// # Errors
///
/// [`TlsConfigError`] when a key cannot be used; a generated or loaded key always can.
pub fn coordinator_config(
    keys: &[&SecretKey],
    alpn: &[u8],
) -> Result<ServerConfig, TlsConfigError> {
    server_of(keys, None, alpn)
}

fn server_of(
    keys: &[&SecretKey],
    expected: Option<PeerId>,
    alpn: &[u8],
) -> Result<ServerConfig, TlsConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = AnyClient {
        expected,
        algorithms: provider.signature_verification_algorithms,
    };
    let certified = |key: &&SecretKey| -> Result<_, TlsConfigError> {
        let (certificate, private_key) = key.certificate()?;
        let signing = provider.key_provider.load_private_key(private_key)?;
        let certified = CertifiedKey::new(vec![certificate], signing);
        Ok((key.peer_id(), Arc::new(certified)))
    };
    let identities: Result<Vec<_>, _> = keys.iter().map(certified).collect();
    let identities = Identities(identities?);
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identities));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a server can prove, the first of them to those who ask for nothing else.
#[derive(Debug)]
struct Identities(Vec<(PeerId, Arc<CertifiedKey>)>);

impl ResolvesServerCert for Identities {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = client_hello.server_name().and_then(asked_for);
        let found = self.0.iter().find(|(id, _)| Some(*id) == asked);
        found
            .or_else(|| self.0.first())
            .map(|(_, it)| Arc::clone(it))
    }
}

/// Reads the peer id out of the certificate that the other side presented.
///
/// Returns `None` for a certificate without an Ed25519 key. The certificate chain of a finished
/// handshake made with this crate's configurations always has one.
#[must_use]
pub fn peer_id_of(certificates: &[CertificateDer<'_>]) -> Option<PeerId> {
    read_peer_id(certificates.first()?).ok()
}

fn read_peer_id(certificate: &CertificateDer<'_>) -> Result<PeerId, rustls::Error> {
    let malformed = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let Ok(parsed) = EndEntityCert::try_from(certificate) else {
        return Err(malformed);
    };
    let spki = parsed.subject_public_key_info();
    let key = spki
        .strip_prefix(&ED25519_SPKI_PREFIX)
        .and_then(|key| key.try_into().ok());
    // A key of small order would be proved without a secret.
    let id = key.map(PeerId::from_public_key);
    id.filter(|id| !id.is_forgeable()).ok_or(malformed)
}

fn check_identity(found: PeerId, expected: PeerId) -> Result<(), rustls::Error> {
    if found == expected {
        Ok(())
    } else {
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }
}

/// Accepts exactly one server, whatever its certificate says beside the key.
#[derive(Debug)]
struct PinnedServer {
    expected: PeerId,
    stranger: Stranger,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let stranger = |shown| self.stranger.note(shown);
        let found = read_peer_id(end_entity)
            .inspect_err(|_| stranger(Shown::Certificate(issuer_of(end_entity))))?;
        check_identity(found, self.expected).inspect_err(|_| stranger(Shown::Id(found)))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    /// Only Ed25519 is let through; by other schemes, others than the server show who they are.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts every client that holds the key of its certificate, or exactly one.
#[derive(Debug)]
struct AnyClient {
    expected: Option<PeerId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let found = read_peer_id(end_entity)?;
        if let Some(expected) = self.expected {
            check_identity(found, expected)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The self-signed certificate cannot be made.
    #[error("the certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses the configuration.
    #[error("the TLS library refuses the key")]
    Tls(#[from] rustls::Error),
}
