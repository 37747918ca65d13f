//! The TLS of the web round a WebSocket. It protects nothing: the key of the coordinator is pinned
//! inside. It is looked at to tell whether somebody intercepts it.

use std::{io, sync::Arc};

use p2pconnect_identity::issuer_of;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    setup::{ConnectError, SetupError},
    tcp::Carrier,
    words::printable,
};

/// How to speak TLS with a server of the web.
#[derive(Clone)]
pub(super) struct Outer {
    connector: TlsConnector,
    public: Arc<WebPkiServerVerifier>,
}

impl Outer {
    pub(super) fn new() -> Result<Self, SetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        let public =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let public = public.build().map_err(io::Error::other)?;
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(&public))))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            connector: Arc::new(tls).into(),
            public,
        })
    }

    /// Makes a connection to `host`, and says who has issued the certificate there if no public
    /// authority has.
    pub(super) async fn connect<T: Carrier>(
        &self,
        carrier: T,
        host: &str,
    ) -> Result<(TlsStream<T>, Option<String>), ConnectError> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connected = self.connector.connect(name.clone(), carrier).await;
        let tls = connected.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => not_of_the_web(&error),
            _ => ConnectError::Failed(error.to_string()),
        })?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let issuer = self.private_issuer(chain, &name);
        Ok((tls, issuer))
    }

    /// Returns who has issued a certificate, if that is nobody who is known to all.
    fn private_issuer(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Option<String> {
        let (first, rest) = chain.split_first()?;
        let now = UnixTime::now();
        let verified = self.public.verify_server_cert(first, rest, name, &[], now);
        let error = verified.err()?;
        tracing::debug!(%error, "the certificate of the web is none that is known to all");
        let issuer = issuer_of(first).map(|it| printable(&it));
        Some(issuer.unwrap_or_else(|| "nobody".to_owned()))
    }
}

fn not_of_the_web(error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|it| it.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls,
        _ => ConnectError::Failed(error.to_string()),
    }
}

/// Takes everybody for the server, since the key inside decides.
#[derive(Debug)]
struct Anybody(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
