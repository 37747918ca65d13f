//! The certificate that a coordinator's WebSockets have where no web server speaks TLS for them.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use tokio_rustls::TlsAcceptor;

/// A chain of certificates and the key of the first one. Clones are the same certificate.
#[derive(Clone)]
pub struct Certificate(Arc<Mutex<Arc<ServerConfig>>>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("there is no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// There is no key.
    #[error("there is no private key in PEM without a password (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// The PEM of the certificates is broken.
    #[error("the PEM of the certificates is broken: {0}")]
    Chain(pem::Error),
    /// The PEM of the key is broken.
    #[error("the PEM of the private key is broken: {0}")]
    Key(pem::Error),
    /// The key is that of another certificate.
    #[error("the private key is not that of the first certificate")]
    Mismatch,
    /// TLS cannot use them.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl Certificate {
    /// Reads the certificates, that of the server first, and its key, all in PEM.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(CertificateError::Chain)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => CertificateError::NoKey,
            other => CertificateError::Key(other),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
                other => CertificateError::Unusable(other),
            })?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(Mutex::new(Arc::new(tls)))))
    }

    /// Has connections that come from now on use another one.
    pub fn replace(&self, by: &Self) {
        let new = by.config();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn config(&self) -> Arc<ServerConfig> {
        let config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }

    /// Speaks TLS with a client.
    pub(super) async fn accept<T: crate::tcp::Carrier>(
        &self,
        carrier: T,
    ) -> io::Result<tokio_rustls::TlsStream<T>> {
        let accepted = TlsAcceptor::from(self.config()).accept(carrier).await;
        accepted.map(Into::into)
    }
}
